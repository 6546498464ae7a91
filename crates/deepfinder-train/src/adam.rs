use std::collections::HashMap;

use candle_conv3d::{AdamStep, AdamTensors, adam_step};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
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

    /// The running means, by name of the variable: the next step changes them.
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
            // Copied: they may be another optimiser's.
            moving.first = found.first.to_device(device)?.copy()?;
            moving.second = found.second.to_device(device)?.copy()?;
        }
        self.steps = steps;
        Ok(())
    }

    /// Moves the variables against their gradients, scaled down to a global norm of `clip` where theirs is larger, unless the
    /// loss (f64 `[1]`) or that norm is no finite number: then nothing moves. Gives the norm, f64 `[1]`; on a GPU without
    /// waiting for it.
    ///
    /// # Errors
    /// Where a variable has no gradient: the loss does not depend on it.
    pub fn clipped_step(
        &mut self,
        gradients: &GradStore,
        loss: &Tensor,
        learning_rate: f64,
        clip: f64,
    ) -> Result<Tensor> {
        self.steps += 1;
        let step = AdamStep {
            betas: [self.params.beta1, self.params.beta2],
            epsilon: self.params.epsilon,
            learning_rate,
            steps: self.steps,
            clip,
        };
        let tensors = self.variables.iter().map(|moving| {
            Ok(AdamTensors {
                gradient: moving.gradient(gradients)?,
                values: &moving.variable,
                first: &moving.first,
                second: &moving.second,
            })
        });
        Ok(adam_step(&tensors.collect::<Result<Vec<_>>>()?, loss, &step)?)
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
    use candle_core::Device;

    use super::*;

    fn loss(value: f64) -> Tensor {
        Tensor::new(&[value], &Device::Cpu).unwrap()
    }

    /// The gradients of Σ (x − 3)².
    fn downhill(variable: &Var) -> GradStore {
        let loss = (variable.as_tensor() - 3.0).and_then(|x| x.sqr()?.sum_all());
        loss.unwrap().backward().unwrap()
    }

    fn descend(adam: &mut Adam, variable: &Var, steps: usize, clip: f64) -> Vec<f32> {
        for _ in 0..steps {
            let gradients = downhill(variable);
            adam.clipped_step(&gradients, &loss(1.0), 0.1, clip).unwrap();
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
        for clip in [f64::INFINITY, 8.0] {
            let (mut adam, variable) = start();
            let found = descend(&mut adam, &variable, 5, clip);
            // Values and both means.
            let mut expected = [0f64, 1.0, 10.0].map(|x| [x, 0.0, 0.0]);
            for t in 1..=5 {
                let gradient = expected.map(|[x, ..]| 2.0 * (x - 3.0));
                let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
                for ([x, m, v], g) in expected.iter_mut().zip(gradient) {
                    let g = g * (clip / norm).min(1.0);
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.999 * *v + 0.001 * g * g;
                    let (m, v) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
                    *x -= 0.1 * m / (v.sqrt() + 1e-8);
                }
            }
            for (found, [expected, ..]) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }

    /// What it gave before its operations were put together, on tensors of a few threads' chunks.
    #[test]
    fn a_step_is_that_of_plain_operations_bit_for_bit() {
        let some = |seed: usize| {
            let values = (0..40_000).map(|i| ((i * (seed + 3)) % 101) as f32 * 0.013 - 0.5);
            Tensor::from_vec(values.collect::<Vec<_>>(), (400, 100), &Device::Cpu).unwrap()
        };
        let variable = Var::from_tensor(&some(1)).unwrap();
        let mut adam = Adam::new(vec![("x".to_owned(), variable.clone())], AdamParams::default()).unwrap();
        let (mut value, mut first, mut second) = (
            some(1),
            some(1).zeros_like().unwrap(),
            some(1).zeros_like().unwrap(),
        );
        let mut plain = |gradient: &Tensor, step: i32, scale: f64| -> candle_core::Result<()> {
            first = ((&first * 0.9)? + (gradient * ((1.0 - 0.9) * scale))?)?;
            second = ((&second * 0.999)? + (gradient.sqr()? * ((1.0 - 0.999) * scale * scale))?)?;
            let corrections = [0.9f64, 0.999].map(|beta| 1.0 - beta.powf(f64::from(step)));
            let deviation = ((&second * (1.0 / corrections[1]))?.sqrt()? + 1e-8)?;
            value = (&value - ((&first / deviation)? * (0.1 / corrections[0]))?)?;
            Ok(())
        };
        for step in 1..=3 {
            let gradient = some(step as usize + 10);
            let mut gradients = downhill(&variable);
            gradients.insert(&variable, gradient.clone());
            let norm = adam.clipped_step(&gradients, &loss(1.0), 0.1, 2.0).unwrap();
            let norm = norm.to_vec1::<f64>().unwrap()[0];
            assert!(norm > 2.0);
            plain(&gradient, step, 2.0 / norm).unwrap();
        }
        let moments = adam.moments().next().unwrap().1;
        let found = [variable.as_detached_tensor(), moments.first, moments.second];
        for (found, expected) in found.iter().zip([&value, &first, &second]) {
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values(found) == values(expected));
        }
    }

    #[test]
    fn a_restored_state_goes_on_bit_for_bit() {
        let (mut straight, variable) = start();
        let expected = descend(&mut straight, &variable, 9, 5.0);

        let (mut first, variable) = start();
        let halfway = descend(&mut first, &variable, 4, 5.0);
        let moments = first.moments().map(|(name, m)| (name.to_owned(), m)).collect();
        let continued = Var::new(halfway, &Device::Cpu).unwrap();
        let mut second = Adam::new(vec![("x".to_owned(), continued.clone())], AdamParams::default()).unwrap();
        second.restore(first.steps(), moments).unwrap();
        // The other's means are its own.
        descend(&mut first, &variable, 1, 5.0);
        assert_eq!(descend(&mut second, &continued, 5, 5.0), expected);
        assert!(second.restore(1, HashMap::new()).is_err());
    }

    #[test]
    fn what_is_no_number_moves_nothing() {
        let step = |value: f64, clip: f64, broken: bool| {
            let (mut adam, variable) = start();
            let mut gradients = downhill(&variable);
            if broken {
                let bad = Tensor::new(&[0f32, f32::NAN, 1.0], &Device::Cpu).unwrap();
                gradients.insert(variable.as_tensor(), bad);
            }
            let norm = adam.clipped_step(&gradients, &loss(value), 0.1, clip).unwrap();
            let (norm, moved) = (norm.to_vec1::<f64>().unwrap(), variable.to_vec1::<f32>().unwrap());
            let first = adam.moments().next().unwrap().1.first.to_vec1::<f32>().unwrap();
            (norm[0], moved != [0.0, 1.0, 10.0], first)
        };
        let (norm, moved, free) = step(1.0, f64::INFINITY, false);
        assert!(moved && (norm - 248f64.sqrt()).abs() < 1e-6);
        let (_, moved, clipped) = step(1.0, norm / 2.0, false);
        let mut pairs = clipped.iter().zip(&free);
        assert!(moved && pairs.all(|(clipped, free)| (clipped / free - 0.5).abs() < 1e-6));
        for (value, broken) in [(f64::NAN, false), (f64::INFINITY, false), (1.0, true)] {
            let (norm, moved, first) = step(value, 1.0, broken);
            assert!(!moved && first == [0.0; 3] && norm.is_nan() == broken);
        }
    }

    #[test]
    fn the_norm_is_over_all_variables() {
        let a = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let b = Var::new(&[2f32], &Device::Cpu).unwrap();
        let both = (a.sqr().unwrap().sum_all().unwrap() + b.sqr().unwrap().sum_all().unwrap()).unwrap();
        let variables = vec![("a".to_owned(), a), ("b".to_owned(), b)];
        let mut adam = Adam::new(variables, AdamParams::default()).unwrap();
        let mut norm = |gradients| adam.clipped_step(&gradients, &loss(1.0), 0.1, 1.0);
        let found = norm(both.backward().unwrap()).unwrap().to_vec1::<f64>().unwrap();
        assert!((found[0] - 6.0).abs() < 1e-6);

        let foreign = Var::new(&[1f32], &Device::Cpu).unwrap();
        assert!(norm(downhill(&foreign)).is_err());
    }
}
