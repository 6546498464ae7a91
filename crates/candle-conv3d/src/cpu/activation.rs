//! Gradient of the fused activation.

use rayon::prelude::*;

use crate::{
    error::{Conv3dError, check_length},
    kernels::Value,
};

/// Values that one thread handles at a time.
const CHUNK: usize = 1 << 14;

/// Takes back a `ReLU` from a gradient: where `result` (what the `ReLU` gave) is not positive it becomes 0.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices differ in length.
pub fn relu_gradient<T: Value>(result: &[T], gradient: &mut [T]) -> Result<(), Conv3dError> {
    check_length("the gradient", result.len(), gradient.len())?;
    let chunks = gradient.par_chunks_mut(CHUNK).zip(result.par_chunks(CHUNK));
    chunks.for_each(|(gradient, result)| {
        for (gradient, &result) in gradient.iter_mut().zip(result) {
            *gradient = if result.is_positive() { *gradient } else { T::ZERO };
        }
    });
    Ok(())
}
