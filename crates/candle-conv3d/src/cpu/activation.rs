//! Gradient of the fused activation.

use rayon::prelude::*;

use crate::{
    error::{Conv3dError, check_length},
    kernels::Value,
};

/// Values that one thread handles at a time.
const CHUNK: usize = 1 << 14;

/// The gradient before a `ReLU`: `gradient` where `result` (what the `ReLU` gave) is positive, else 0.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices differ in length.
pub fn relu_gradient<T: Value>(result: &[T], gradient: &[T], output: &mut [T]) -> Result<(), Conv3dError> {
    check_length("the gradient", result.len(), gradient.len())?;
    check_length("the output", result.len(), output.len())?;
    let chunks = output
        .par_chunks_mut(CHUNK)
        .zip(result.par_chunks(CHUNK))
        .zip(gradient.par_chunks(CHUNK));
    chunks.for_each(|((output, result), gradient)| {
        for ((output, &result), &gradient) in output.iter_mut().zip(result).zip(gradient) {
            *output = if result.is_positive() { gradient } else { T::ZERO };
        }
    });
    Ok(())
}
