//! The moving average of the weights over the iterations.

use std::collections::BTreeMap;

use candle_conv3d::update_averages;
use candle_core::{Tensor, Var};

use crate::Result;
use crate::params::wrong;

/// An exponential moving average of named variables.
#[derive(Debug)]
pub(crate) struct MovingAverage {
    decay: f64,
    means: Vec<(String, Tensor)>,
}

impl MovingAverage {
    /// It begins with the variables as they are.
    pub(crate) fn new(variables: &[(String, Var)], decay: f64) -> Result<Self> {
        let copied = |(name, variable): &(String, Var)| Ok((name.clone(), variable.copy()?.detach()));
        Ok(Self {
            decay,
            means: variables.iter().map(copied).collect::<Result<_>>()?,
        })
    }

    /// Takes in what the variables are after so many iterations. At first it decays faster, so that the weights drawn at
    /// random are soon forgotten.
    pub(crate) fn update(&mut self, variables: &[(String, Var)], steps: u64) -> Result<()> {
        let young = (1.0 + steps as f64) / (10.0 + steps as f64);
        let decay = self.decay.min(young);
        let pairs = self.means.iter().zip(variables);
        let pairs = pairs.map(|((_, mean), (_, variable))| [mean, variable.as_tensor()]);
        Ok(update_averages(&pairs.collect::<Vec<_>>(), decay)?)
    }

    /// The means, by name of the variable: the next update changes them.
    pub(crate) fn means(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.means.iter().cloned()
    }

    /// Goes on from means that [`means`](Self::means) gave.
    ///
    /// # Errors
    /// Where one is missing or has another shape.
    pub(crate) fn restore(&mut self, mut stored: BTreeMap<String, Tensor>) -> Result<()> {
        for (name, mean) in &mut self.means {
            let found = stored.remove(name);
            let Some(found) = found.filter(|found| found.shape() == mean.shape()) else {
                let what = format!("no average of the right shape for `{name}`");
                return Err(wrong("ema", what));
            };
            *mean = found.to_device(mean.device())?.copy()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn it_follows_the_variables_and_comes_back() {
        let variable = Var::new(&[8f32, 0.0], &Device::Cpu).unwrap();
        let variables = vec![("x".to_owned(), variable.clone())];
        let mut average = MovingAverage::new(&variables, 0.5).unwrap();
        let value = |average: &MovingAverage| average.means().next().unwrap().1.to_vec1::<f32>().unwrap();
        variable
            .set(&Tensor::new(&[0f32, 4.0], &Device::Cpu).unwrap())
            .unwrap();
        assert_eq!(value(&average), [8.0, 0.0], "a copy");
        // The first iteration: a decay of 2/11.
        average.update(&variables, 1).unwrap();
        let first = value(&average);
        assert!((first[0] - 16.0 / 11.0).abs() < 1e-6 && (first[1] - 36.0 / 11.0).abs() < 1e-6);
        average.update(&variables, 1000).unwrap();
        let second = value(&average);
        assert!((second[0] - first[0] / 2.0).abs() < 1e-6);

        let mut other = MovingAverage::new(&variables, 0.5).unwrap();
        other.restore(average.means().collect()).unwrap();
        assert_eq!(value(&other), second);
        assert!(other.restore(BTreeMap::new()).is_err());
    }
}
