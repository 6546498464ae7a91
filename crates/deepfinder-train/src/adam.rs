use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use crate::Result;
use crate::params::wrong;

/// Constants of the optimiser (Kingma and Ba 2015).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AdamParams {
    /// Decay rate of the gradient's mean. Default 0.9.
    pub beta1: f64,
    /// Decay rate of its mean square. Default 0.999.
    pub beta2: f64,
    /// Added to the root of the mean square. Default 1e-8.
    pub epsilon: f64,
}

impl Default for AdamParams {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// Adam over named variables. Its whole state can be taken out and put back, bit for bit.
#[derive(Debug)]
pub struct Adam {
    params: AdamParams,
    variables: Vec<Moving>,
    steps: u64,
}

/// A variable with the running means of its gradient and of the gradient's square.
#[derive(Debug)]
struct Moving {
    name: String,
    variable: Var,
    first: Tensor,
    second: Tensor,
}

/// The running means of one variable's gradient.
#[derive(Debug, Clone)]
pub struct AdamMoments {
    /// Mean of the gradient, of the variable's shape.
    pub first: Tensor,
    /// Mean of its square.
    pub second: Tensor,
}

impl Adam {
    /// An optimiser that has not seen a gradient yet.
    ///
    /// # Errors
    /// Where a device cannot hold its state.
    pub fn new(variables: Vec<(String, Var)>, params: AdamParams) -> Result<Self> {
        let variables = variables
            .into_iter()
            .map(|(name, variable)| {
                Ok(Moving {
                    name,
                    first: variable.zeros_like()?,
                    second: variable.zeros_like()?,
                    variable,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            params,
            variables,
            steps: 0,
        })
    }

    /// Gradients that it has seen.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The running means, by name of the variable.
    pub fn moments(&self) -> impl Iterator<Item = (&str, AdamMoments)> {
        self.variables.iter().map(|moving| {
            let moments = AdamMoments {
                first: moving.first.clone(),
                second: moving.second.clone(),
            };
            (moving.name.as_str(), moments)
        })
    }

    /// Goes on from a state that [`steps`](Self::steps) and [`moments`](Self::moments) gave.
    ///
    /// # Errors
    /// Where the moments of a variable are missing or have another shape.
    pub fn restore(&mut self, steps: u64, mut moments: HashMap<String, AdamMoments>) -> Result<()> {
        for moving in &mut self.variables {
            let found = moments.remove(&moving.name);
            let Some(found) = found.filter(|found| {
                let shape = moving.variable.shape();
                found.first.shape() == shape && found.second.shape() == shape
            }) else {
                let what = format!("no moments of the right shape for `{}`", moving.name);
                return Err(wrong("adam", what));
            };
            let device = moving.variable.device();
            moving.first = found.first.to_device(device)?;
            moving.second = found.second.to_device(device)?;
        }
        self.steps = steps;
        Ok(())
    }

    /// The global norm of the gradients of all variables.
    ///
    /// # Errors
    /// Where a variable has no gradient: the loss does not depend on it.
    pub fn gradient_norm(&self, gradients: &GradStore) -> Result<f64> {
        let mut squares = Vec::with_capacity(self.variables.len());
        for moving in &self.variables {
            squares.push(moving.gradient(gradients)?.sqr()?.sum_all()?);
        }
        // One transfer from the device, and the same order of summation always.
        let squares = Tensor::stack(&squares, 0)?
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Moves the variables against their gradients, scaled down to a global norm of `clip` where theirs is larger, unless the
    /// loss (f64 `[1]`) or that norm is no finite number: then nothing moves. Gives the norm, f64 `[1]`; on a GPU without
    /// waiting for it.
    pub(crate) fn clipped_step(
        &mut self,
        gradients: &GradStore,
        loss: &Tensor,
        learning_rate: f64,
        clip: f64,
    ) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if loss.device().is_cuda() {
            let all = self.variables.iter().map(|moving| moving.gradient(gradients));
            let all = all.collect::<Result<Vec<_>>>()?;
            let control = candle_conv3d::step_control(&all, loss, clip)?;
            self.step_on_gpu(gradients, &control, learning_rate)?;
            return Ok(control.narrow(0, 0, 1)?);
        }
        let norm = self.gradient_norm(gradients)?;
        let found = loss.to_vec1::<f64>()?;
        if norm.is_finite() && found.iter().all(|loss| loss.is_finite()) {
            let scale = (clip / norm.max(f64::MIN_POSITIVE)).min(1.0);
            self.step(gradients, learning_rate, scale)?;
        }
        Ok(Tensor::from_vec(vec![norm], 1, &Device::Cpu)?)
    }

    /// `control` is that of [`candle_conv3d::step_control`].
    #[cfg(feature = "cuda")]
    fn step_on_gpu(&mut self, gradients: &GradStore, control: &Tensor, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let step = candle_conv3d::AdamStep {
            betas: [self.params.beta1, self.params.beta2],
            epsilon: self.params.epsilon,
            learning_rate,
            steps: self.steps,
        };
        for moving in &mut self.variables {
            let of = [moving.variable.as_tensor(), &moving.first, &moving.second];
            let [moved, first, second] =
                candle_conv3d::adam_step(moving.gradient(gradients)?, of, control, &step)?;
            moving.variable.set(&moved)?;
            (moving.first, moving.second) = (first, second);
        }
        Ok(())
    }

    /// Moves the variables against their gradients times `scale` (1, or less to clip them).
    ///
    /// # Errors
    /// As [`gradient_norm`](Self::gradient_norm).
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let AdamParams {
            beta1,
            beta2,
            epsilon,
        } = self.params;
        let exponent = self.steps as f64;
        let correction1 = 1.0 - beta1.powf(exponent);
        let correction2 = 1.0 - beta2.powf(exponent);
        for moving in &mut self.variables {
            let gradient = moving.gradient(gradients)?;
            moving.first = ((&moving.first * beta1)? + (gradient * ((1.0 - beta1) * scale))?)?;
            let square = (gradient.sqr()? * ((1.0 - beta2) * scale * scale))?;
            moving.second = ((&moving.second * beta2)? + square)?;
            let deviation = ((&moving.second * (1.0 / correction2))?.sqrt()? + epsilon)?;
            let change = ((&moving.first / deviation)? * (learning_rate / correction1))?;
            moving
                .variable
                .set(&(moving.variable.as_detached_tensor() - change)?)?;
        }
        Ok(())
    }
}

impl Moving {
    fn gradient<'a>(&self, gradients: &'a GradStore) -> Result<&'a Tensor> {
        gradients.get(self.variable.as_tensor()).ok_or_else(|| {
            let what = format!("the loss does not depend on `{}`", self.name);
            wrong("adam", what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gradient descent on Σ (x − 3)².
    fn descend(adam: &mut Adam, variable: &Var, steps: usize, scale: f64) -> Vec<f32> {
        for _ in 0..steps {
            let loss = (variable.as_tensor() - 3.0)
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap();
            adam.step(&loss.backward().unwrap(), 0.1, scale).unwrap();
        }
        variable.to_vec1().unwrap()
    }

    fn start() -> (Adam, Var) {
        let variable = Var::new(&[0f32, 1.0, 10.0], &Device::Cpu).unwrap();
        let adam = Adam::new(vec![("x".to_owned(), variable.clone())], AdamParams::default()).unwrap();
        (adam, variable)
    }

    #[test]
    fn steps_are_those_of_the_paper() {
        let (mut adam, variable) = start();
        let found = descend(&mut adam, &variable, 5, 0.5);
        let mut expected = [0f64, 1.0, 10.0];
        for x in &mut expected {
            let (mut m, mut v) = (0.0, 0.0);
            for t in 1..=5 {
                let g = 0.5 * 2.0 * (*x - 3.0);
                m = 0.9 * m + 0.1 * g;
                v = 0.999 * v + 0.001 * g * g;
                let (m, v) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
                *x -= 0.1 * m / (v.sqrt() + 1e-8);
            }
        }
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn a_restored_state_goes_on_bit_for_bit() {
        let (mut straight, variable) = start();
        let expected = descend(&mut straight, &variable, 9, 1.0);

        let (mut first, variable) = start();
        let halfway = descend(&mut first, &variable, 4, 1.0);
        let moments = first.moments().map(|(name, m)| (name.to_owned(), m)).collect();
        let variable = Var::new(halfway, &Device::Cpu).unwrap();
        let mut second = Adam::new(vec![("x".to_owned(), variable.clone())], AdamParams::default()).unwrap();
        second.restore(first.steps(), moments).unwrap();
        assert_eq!(descend(&mut second, &variable, 5, 1.0), expected);
        assert!(second.restore(1, HashMap::new()).is_err());
    }

    #[test]
    fn what_is_no_number_moves_nothing() {
        let loss = |value: f64| Tensor::new(&[value], &Device::Cpu).unwrap();
        let step = |value: f64, clip: f64, broken: bool| {
            let (mut adam, variable) = start();
            let mut gradients = (variable.as_tensor() - 3.0)
                .and_then(|x| x.sqr()?.sum_all()?.backward())
                .unwrap();
            if broken {
                let bad = Tensor::new(&[0f32, f32::NAN, 1.0], &Device::Cpu).unwrap();
                gradients.insert(variable.as_tensor(), bad);
            }
            let norm = adam.clipped_step(&gradients, &loss(value), 0.1, clip).unwrap();
            let (norm, moved) = (norm.to_vec1::<f64>().unwrap(), variable.to_vec1::<f32>().unwrap());
            (
                norm[0],
                moved != [0.0, 1.0, 10.0],
                adam.moments().next().unwrap().1.first,
            )
        };
        let (norm, moved, free) = step(1.0, f64::INFINITY, false);
        assert!(moved && (norm - 248f64.sqrt()).abs() < 1e-6);
        let (_, moved, clipped) = step(1.0, norm / 2.0, false);
        let ratio = (clipped / free).unwrap().to_vec1::<f32>().unwrap();
        assert!(moved && ratio.iter().all(|ratio| (ratio - 0.5).abs() < 1e-6));
        assert!(!step(f64::NAN, 1.0, false).1 && !step(f64::INFINITY, 1.0, false).1);
        let (norm, moved, _) = step(1.0, 1.0, true);
        assert!(!moved && norm.is_nan());
    }

    #[test]
    fn the_norm_is_over_all_variables() {
        let a = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let b = Var::new(&[2f32], &Device::Cpu).unwrap();
        let loss = (a.sqr().unwrap().sum_all().unwrap() + b.sqr().unwrap().sum_all().unwrap()).unwrap();
        let variables = vec![("a".to_owned(), a), ("b".to_owned(), b)];
        let mut adam = Adam::new(variables, AdamParams::default()).unwrap();
        let gradients = loss.backward().unwrap();
        assert!((adam.gradient_norm(&gradients).unwrap() - 6.0).abs() < 1e-6);

        let foreign = Var::new(&[1f32], &Device::Cpu)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap();
        assert!(adam.step(&foreign.backward().unwrap(), 0.1, 1.0).is_err());
    }
}
