//! A step of Adam, value by value.

use rayon::prelude::*;

use crate::error::{Conv3dError, check_length};

/// Values that one thread handles at a time.
const CHUNK: usize = 1 << 14;

/// Constants of a step of Adam (Kingma and Ba 2015).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Decay rates of the gradient's mean and of the mean of its square.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Which step it is, from 1: the means began at 0.
    pub steps: u64,
    /// Largest norm of all gradients together: where theirs is larger they are scaled down to it.
    pub clip: f64,
}

impl AdamStep {
    /// What the means, which began at 0, are too small by.
    pub(crate) fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powf(self.steps as f64))
    }
}

/// Makes each mean `kept` of itself and `added` of what is made of a value.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices differ in length.
pub fn running_mean(
    mean: &mut [f32],
    values: &[f32],
    [kept, added]: [f32; 2],
    made: impl Fn(f32) -> f32 + Sync,
) -> Result<(), Conv3dError> {
    check_length("a running mean", values.len(), mean.len())?;
    let chunks = mean.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
    chunks.for_each(|(mean, values)| {
        for (mean, value) in mean.iter_mut().zip(values) {
            *mean = *mean * kept + made(*value) * added;
        }
    });
    Ok(())
}

/// Moves values against the mean of their gradient, by the root of the mean of its square.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices differ in length.
pub fn adam_values(
    values: &mut [f32],
    first: &[f32],
    second: &[f32],
    step: &AdamStep,
) -> Result<(), Conv3dError> {
    check_length("the gradient's mean", values.len(), first.len())?;
    check_length("the mean of its square", values.len(), second.len())?;
    let [of_first, of_second] = step.corrections();
    // Rounded first, as a GPU's kernel has them.
    let (correction, epsilon) = ((1.0 / of_second) as f32, step.epsilon as f32);
    let rate = (step.learning_rate / of_first) as f32;
    let means = first.par_chunks(CHUNK).zip(second.par_chunks(CHUNK));
    let chunks = values.par_chunks_mut(CHUNK).zip(means);
    chunks.for_each(|(values, (first, second))| {
        for (value, (mean, square)) in values.iter_mut().zip(first.iter().zip(second)) {
            *value -= mean / ((square * correction).sqrt() + epsilon) * rate;
        }
    });
    Ok(())
}
