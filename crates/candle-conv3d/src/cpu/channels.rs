//! What is computed at each voxel over its channels.

use rayon::prelude::*;

use crate::{
    error::{Conv3dError, check_length},
    kernels::{Element, Isa, Value},
};

/// Voxels that one thread handles at a time.
const VOXELS: usize = 4096;

fn check_voxels(channels: usize, values: usize, voxels: usize) -> Result<(), Conv3dError> {
    check_length("a channels-last volume", voxels * channels.max(1), values)
}

/// Soft-max over the channels of each voxel.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices don't fit each other.
pub fn softmax_channels<T: Element>(
    channels: usize,
    input: &[T],
    output: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the output", input.len(), output.len())?;
    check_voxels(channels, input.len(), input.len() / channels.max(1))?;
    let chunk = VOXELS * channels.max(1);
    let isa = Isa::current();
    output
        .par_chunks_mut(chunk)
        .zip(input.par_chunks(chunk))
        .for_each(|(output, input)| softmax_of_voxels(isa, channels, input, output));
    Ok(())
}

/// [`softmax_channels`] of a few voxels, by the thread that asks. What the slices don't both have is left as it is.
pub fn softmax_of_voxels<T: Element>(isa: Isa, channels: usize, input: &[T], output: &mut [T]) {
    // So many at a time stay in the first-level cache.
    let chunk = 256 * channels.max(1);
    for (output, input) in output.chunks_mut(chunk).zip(input.chunks(chunk)) {
        let voxels = output.chunks_exact_mut(channels.max(1));
        for (output, input) in voxels.zip(input.chunks_exact(channels.max(1))) {
            // Shifted by the greatest, so that exp can't overflow.
            let greatest = input.iter().copied().fold(T::neg_infinity(), T::max);
            for (output, &input) in output.iter_mut().zip(input) {
                *output = input - greatest;
            }
        }
        T::exponentials(isa, output);
        for output in output.chunks_exact_mut(channels.max(1)) {
            let scale = output.iter().fold(T::zero(), |sum, &value| sum + value).recip();
            for value in output {
                *value = *value * scale;
            }
        }
    }
}

/// Gradient of the input of a soft-max that gave `result`.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices don't fit each other.
pub fn softmax_channels_gradient<T: Element>(
    channels: usize,
    result: &[T],
    gradient: &[T],
    output: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the gradient", result.len(), gradient.len())?;
    check_length("the output", result.len(), output.len())?;
    check_voxels(channels, result.len(), result.len() / channels.max(1))?;
    let chunk = VOXELS * channels.max(1);
    let chunks = output
        .par_chunks_mut(chunk)
        .zip(result.par_chunks(chunk))
        .zip(gradient.par_chunks(chunk));
    chunks.for_each(|((output, result), gradient)| {
        let voxels = output
            .chunks_exact_mut(channels)
            .zip(result.chunks_exact(channels))
            .zip(gradient.chunks_exact(channels));
        for ((output, result), gradient) in voxels {
            let mean = result
                .iter()
                .zip(gradient)
                .map(|(&p, &g)| p * g)
                .fold(T::zero(), |sum, pg| sum + pg);
            for ((output, &p), &g) in output.iter_mut().zip(result).zip(gradient) {
                *output = p * (g - mean);
            }
        }
    });
    Ok(())
}

/// Index of the greatest channel of each voxel, the lowest of equal ones; a voxel of nothing but NaN gives 0.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices don't fit each other.
pub fn argmax_channels<T: Element>(
    channels: usize,
    input: &[T],
    output: &mut [u8],
) -> Result<(), Conv3dError> {
    check_voxels(channels, input.len(), output.len())?;
    let chunk = VOXELS * channels.max(1);
    output
        .par_chunks_mut(VOXELS)
        .zip(input.par_chunks(chunk))
        .for_each(|(output, input)| {
            for (output, input) in output.iter_mut().zip(input.chunks_exact(channels)) {
                let mut best = (0, T::neg_infinity());
                for (channel, &value) in input.iter().enumerate() {
                    if value > best.1 {
                        best = (channel as u8, value);
                    }
                }
                *output = best.0;
            }
        });
    Ok(())
}

/// Adds up each channel over all voxels, in the precision of the sums: per chunk first, then the chunks in order.
pub(super) fn sum_over_voxels<T: Value, S: Element>(
    values: &[T],
    sums: &mut [S],
    widen: impl Fn(T) -> S + Sync,
) {
    let channels = sums.len().max(1);
    let partial: Vec<Vec<S>> = values
        .par_chunks(VOXELS * channels)
        .map(|values| {
            let mut sums = vec![S::zero(); channels];
            for voxel in values.chunks_exact(channels) {
                sums.iter_mut()
                    .zip(voxel)
                    .for_each(|(sum, &value)| *sum = *sum + widen(value));
            }
            sums
        })
        .collect();
    sums.fill(S::zero());
    for partial in partial {
        sums.iter_mut()
            .zip(partial)
            .for_each(|(sum, value)| *sum = *sum + value);
    }
}
