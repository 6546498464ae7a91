use candle_conv3d::{StandardisedRows, standardise_rows, standardise_rows_gradients};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use serde::Serialize;

use crate::architecture::{HEAD, Layer, layers};
use crate::{Head, Metadata, NetError, Result, Weights};

/// How a network that learns makes its kernels of what is learnt. The network that comes of it is the same kind in any
/// case: the kernels are what it computes with and what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum Parametrisation {
    /// The kernels are learnt themselves.
    #[default]
    Plain,
    /// Each output channel's kernel is a direction, a gain along it and a mean, which are learnt apart (weight
    /// standardisation: Qiao et al. 2019; with gains: Brock et al. 2021), and where a 3-wide convolution has as many
    /// inputs as outputs, the channel passed through besides (a residual branch inside the kernel: Ding et al. 2021).
    ///
    /// It does what normalisation layers and residual blocks are for, and costs nothing where the network is used: with
    /// direction `d`, its mean over the `n` values of the kernel taken away, the kernel is
    /// `gain · d / |d| + mean / √n`, and `1` more at its centre for the channel itself. The last layer stays plain.
    Residual,
}

/// Gain that keeps the variance from layer to layer: one over the standard deviation of what `ReLU` leaves of a normal
/// distribution, `√(2 / (1 − 1 / π))` (Brock et al. 2021).
const RELU_GAIN: f64 = 1.712_858_550_449_663;

/// What the branch beside a channel that is passed through begins with, of that gain.
const BRANCH_GAIN: f64 = 0.5;

/// Added to squared norms, so that a kernel of zeros has no direction instead of a wrong one.
const EPSILON: f64 = 1e-12;

impl Parametrisation {
    /// Whether kernels are learnt themselves.
    pub fn is_plain(&self) -> bool {
        *self == Self::Plain
    }

    /// Fresh weights to learn from in this way: [`Weights::initial`], or with the same directions, but at the gains that
    /// keep the variance from layer to layer, and with channels passed through.
    ///
    /// # Errors
    /// As [`Weights::initial`].
    pub fn initial(self, classes_with_background: usize, seed: u64, metadata: Metadata) -> Result<Weights> {
        let drawn = Weights::initial(classes_with_background, seed, metadata)?;
        if self.is_plain() {
            return Ok(drawn);
        }
        let mut tensors = drawn.tensors().clone();
        for layer in reparametrised(classes_with_background, drawn.head()) {
            if let Some(kernel) = tensors.get_mut(&layer.weight_name()) {
                *kernel = fresh(&layer, kernel)?;
            }
        }
        Weights::from_tensors(tensors, drawn.metadata().clone())
    }
}

pub(crate) fn reparametrised(scores: usize, head: Head) -> impl Iterator<Item = Layer> {
    layers(scores, head).filter(|layer| layer.name != HEAD)
}

/// A kernel at the start, of one that was drawn.
fn fresh(layer: &Layer, drawn: &Tensor) -> Result<Tensor> {
    let shortcut = shortcut(layer, drawn.device())?;
    let rows = rows(drawn)?;
    let (gain, rows) = match (&shortcut, layer.inputs) {
        // The tomogram is no result of ReLU, and its mean over a neighbourhood counts.
        (_, 1) => (1.0, rows),
        (Some(_), _) => (BRANCH_GAIN * RELU_GAIN, centred(&rows)?),
        (None, _) => (RELU_GAIN, centred(&rows)?),
    };
    let unit = rows.broadcast_mul(&inverse_norm(&rows)?)?;
    added((unit * gain)?.reshape(drawn.shape())?, shortcut.as_ref())
}

fn added(kernel: Tensor, shortcut: Option<&Tensor>) -> Result<Tensor> {
    Ok(match shortcut {
        Some(shortcut) => (kernel + shortcut)?,
        None => kernel,
    })
}

/// The kernel that passes each channel through, where the layer has one.
fn shortcut(layer: &Layer, device: &Device) -> Result<Option<Tensor>> {
    if layer.kernel != 3 || layer.inputs != layer.outputs {
        return Ok(None);
    }
    let taps = layer.kernel.pow(3);
    let mut values = vec![0f32; layer.outputs * layer.inputs * taps];
    for channel in 0..layer.outputs {
        values[(channel * layer.inputs + channel) * taps + taps / 2] = 1.0;
    }
    Ok(Some(Tensor::from_vec(values, &layer.weight_shape(), device)?))
}

/// A kernel by output channel, `[O, n]`.
fn rows(kernel: &Tensor) -> Result<Tensor> {
    Ok(kernel.flatten_from(1)?.contiguous()?)
}

fn centred(rows: &Tensor) -> Result<Tensor> {
    Ok(rows.broadcast_sub(&rows.mean_keepdim(1)?)?)
}

/// `1 / |row|`, `[O, 1]`.
fn inverse_norm(rows: &Tensor) -> Result<Tensor> {
    Ok((rows.sqr()?.sum_keepdim(1)? + EPSILON)?.sqrt()?.recip()?)
}

/// Unit vectors of mean 0, another for each row: half waves of a cosine.
fn waves(like: &Tensor) -> Result<Tensor> {
    let (rows, n) = like.dims2()?;
    let scale = (2.0 / n as f64).sqrt();
    let wave = |row: usize, i: usize| {
        let half_waves = 1 + row % (n - 1);
        let phase = std::f64::consts::PI * (i as f64 + 0.5) * half_waves as f64 / n as f64;
        (scale * phase.cos()) as f32
    };
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| (0..n).map(move |i| wave(row, i)))
        .collect();
    Ok(Tensor::from_vec(values, (rows, n), like.device())?)
}

/// A kernel and what it is made of.
#[derive(Debug)]
pub(crate) struct Reparametrised {
    /// What the network computes with.
    kernel: Var,
    /// `[O, n]`, of any length.
    direction: Var,
    /// `[O, 1]`.
    gain: Var,
    /// Mean times `√n`, `[O, 1]`.
    mean: Var,
    /// Values of the kernel for a pair of channels, where channels are passed through.
    passes_through: Option<usize>,
}

impl Reparametrised {
    /// The parts of a kernel, so that they make that kernel (but for rounding).
    pub(crate) fn of(layer: &Layer, kernel: &Var) -> Result<Self> {
        // On the processor, so that all devices begin with the same.
        let (device, here) = (
            kernel.device(),
            kernel.as_detached_tensor().to_device(&Device::Cpu)?,
        );
        let shortcut = shortcut(layer, &Device::Cpu)?;
        let own = match &shortcut {
            Some(shortcut) => (here - shortcut)?,
            None => here,
        };
        let own = rows(&own)?;
        let root = (own.dim(1)? as f64).sqrt();
        let branch = centred(&own)?;
        let gain = branch.sqr()?.sum_keepdim(1)?.sqrt()?;
        let direction = branch.broadcast_mul(&inverse_norm(&branch)?)?;
        // A kernel that is nothing but its mean gets a direction, or it could never learn one.
        let length = own.sqr()?.sum_keepdim(1)?.sqrt()?;
        let none = gain.le(&(length * 1e-5)?)?.broadcast_as(own.shape())?;
        let direction = none.where_cond(&waves(&own)?, &direction)?;
        let mean = (own.mean_keepdim(1)? * root)?;
        Ok(Self {
            kernel: kernel.clone(),
            direction: Var::from_tensor(&direction.to_device(device)?)?,
            gain: Var::from_tensor(&gain.to_device(device)?)?,
            mean: Var::from_tensor(&mean.to_device(device)?)?,
            passes_through: shortcut.map(|_| layer.kernel.pow(3)),
        })
    }

    /// What is learnt, by the endings of its names.
    pub(crate) fn variables(&self) -> [(&'static str, &Var); 3] {
        [
            ("direction", &self.direction),
            ("gain", &self.gain),
            ("mean", &self.mean),
        ]
    }

    fn parts(&self) -> StandardisedRows<'_> {
        StandardisedRows {
            directions: &self.direction,
            gains: &self.gain,
            means: &self.mean,
            identity: self.passes_through,
        }
    }
}

/// Makes all kernels of what is learnt by now.
pub(crate) fn refresh(all: &[Reparametrised]) -> Result<()> {
    let matrices = all.iter().map(|one| (one.parts(), one.kernel.as_tensor()));
    Ok(standardise_rows(&matrices.collect::<Vec<_>>())?)
}

/// The gradients of what is learnt in place of the kernels'.
pub(crate) fn chain(all: &[Reparametrised], gradients: &mut GradStore) -> Result<()> {
    let of_kernels = all.iter().map(|one| gradients.remove(&one.kernel));
    let of_kernels: Option<Vec<_>> = of_kernels.collect();
    let of_kernels = of_kernels.ok_or(NetError::NoGradient)?;
    let matrices = all.iter().map(Reparametrised::parts).zip(&of_kernels);
    let found = standardise_rows_gradients(&matrices.collect::<Vec<_>>())?;
    for (one, found) in all.iter().zip(found) {
        gradients.insert(&one.direction, found.directions);
        gradients.insert(&one.gain, found.gains);
        gradients.insert(&one.mean, found.means);
    }
    Ok(())
}
