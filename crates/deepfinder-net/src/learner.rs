use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Var};

use crate::architecture::Layer;
use crate::parametrisation::{Reparametrised, chain, refresh, reparametrised};
use crate::{Parametrisation, Precision, Result, UNet, Weights};

/// A network that learns: the tensors it computes with, and the variables they are made of.
///
/// One iteration is [`UNet::trace`] of [`net`](Self::net), [`Trace::backward`](crate::Trace::backward),
/// [`chain`](Self::chain), a step of the optimiser on [`variables`](Self::variables), and [`refresh`](Self::refresh).
#[derive(Debug)]
pub struct Learner {
    net: UNet,
    tensors: Vec<(String, Var)>,
    variables: Vec<(String, Var)>,
    reparametrised: Vec<Reparametrised>,
}

impl Learner {
    /// A network that learns from these weights on, in that way.
    ///
    /// Any weights can be written in any way; kernels that are made of parts begin within rounding of those given.
    ///
    /// # Errors
    /// Where the device cannot hold the weights.
    pub fn new(weights: &Weights, parametrisation: Parametrisation, device: &Device) -> Result<Self> {
        let (net, tensors) = UNet::trainable(weights, device)?;
        let mut layers: HashMap<String, Layer> = match parametrisation {
            Parametrisation::Plain => HashMap::new(),
            Parametrisation::Residual => reparametrised(weights.scores(), weights.head())
                .map(|layer| (layer.weight_name(), layer))
                .collect(),
        };
        let mut variables = Vec::new();
        let mut made = Vec::new();
        for (name, tensor) in &tensors {
            let Some(layer) = layers.remove(name) else {
                variables.push((name.clone(), tensor.clone()));
                continue;
            };
            let parts = Reparametrised::of(&layer, tensor)?;
            let named = parts.variables();
            variables.extend(named.map(|(part, variable)| (format!("{name}.{part}"), variable.clone())));
            made.push(parts);
        }
        let learner = Self {
            net,
            tensors,
            variables,
            reparametrised: made,
        };
        learner.refresh()?;
        Ok(learner)
    }

    /// The same network that computes with this precision; what is learnt stays f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.net = self.net.with_precision(precision);
        self
    }

    /// The network. It sees what the variables were at the last [`refresh`](Self::refresh).
    pub fn net(&self) -> &UNet {
        &self.net
    }

    /// What is learnt, by name, in the order in which the layers run.
    pub fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    /// What the network computes with, by the names of [`Weights`]: what there is to keep.
    pub fn tensors(&self) -> &[(String, Var)] {
        &self.tensors
    }

    /// Makes the tensors of what the variables are by now.
    ///
    /// # Errors
    /// None but candle's.
    pub fn refresh(&self) -> Result<()> {
        refresh(&self.reparametrised)
    }

    /// Goes on from the gradients of the tensors to those of the variables.
    ///
    /// # Errors
    /// [`NetError::NoGradient`](crate::NetError::NoGradient) where a tensor has none.
    pub fn chain(&self, gradients: &mut GradStore) -> Result<()> {
        chain(&self.reparametrised, gradients)
    }
}
