//! Max-pooling of 2³ voxels.

use rayon::prelude::*;

use crate::{
    error::{Conv3dError, check_length},
    kernels::Value,
};

/// Sizes of a max-pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolShape {
    /// Images.
    pub batch: usize,
    /// Size of the result (axes D, H, W): half the input's.
    pub output: [usize; 3],
    /// Channels.
    pub channels: usize,
}

impl PoolShape {
    /// Values of the result.
    pub fn output_len(&self) -> usize {
        self.batch * self.output.iter().product::<usize>() * self.channels
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        8 * self.output_len()
    }

    fn output_row(&self) -> usize {
        self.output[2] * self.channels
    }
}

/// The greatest of each 2³ voxels, for each channel.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn max_pool2_forward<T: Value>(
    shape: &PoolShape,
    input: &[T],
    output: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the input", shape.input_len(), input.len())?;
    check_length("the output", shape.output_len(), output.len())?;
    let [_, height, _] = shape.output;
    let (channels, row_len) = (shape.channels, 2 * shape.output_row());
    output
        .par_chunks_mut(shape.output_row().max(1))
        .enumerate()
        .for_each(|(row, out)| {
            let first = (row / height * 4 * height + row % height * 2) * row_len;
            for (corner, start) in corners(first, row_len, height).into_iter().enumerate() {
                let pairs = input[start..start + row_len].chunks_exact(2 * channels);
                for (out, pair) in out.chunks_exact_mut(channels).zip(pairs) {
                    let (even, odd) = pair.split_at(channels);
                    for ((out, &even), &odd) in out.iter_mut().zip(even).zip(odd) {
                        let greatest = even.greater(odd);
                        *out = if corner == 0 {
                            greatest
                        } else {
                            out.greater(greatest)
                        };
                    }
                }
            }
        });
    Ok(())
}

/// Where the four input rows of an output row begin, in the order (z, y).
fn corners(first: usize, row_len: usize, height: usize) -> [usize; 4] {
    let plane = 2 * height * row_len;
    [first, first + row_len, first + plane, first + plane + row_len]
}

/// Gradient of the input: each result's goes to the first of its greatest voxels (in the order z, y, x).
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn max_pool2_gradient<T: Value>(
    shape: &PoolShape,
    input: &[T],
    result: &[T],
    gradient: &[T],
    input_gradient: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the input", shape.input_len(), input.len())?;
    check_length("the result", shape.output_len(), result.len())?;
    check_length("the gradient", shape.output_len(), gradient.len())?;
    check_length("the input gradient", shape.input_len(), input_gradient.len())?;
    let [_, height, _] = shape.output;
    let (channels, row_len) = (shape.channels, 2 * shape.output_row());
    // Two planes of the input belong to one of the result.
    let slab = 4 * height * row_len;
    input_gradient
        .par_chunks_mut(slab.max(1))
        .enumerate()
        .for_each_init(Vec::new, |open, (plane, slab_out)| {
            let slab_in = &input[plane * slab..][..slab];
            for y in 0..height {
                let row = (plane * height + y) * shape.output_row();
                let (result, gradient) = (&result[row..][..row_len / 2], &gradient[row..][..row_len / 2]);
                // What hasn't found its voxel yet.
                open.clear();
                open.extend_from_slice(gradient);
                for start in corners(2 * y * row_len, row_len, height) {
                    let inputs = slab_in[start..start + row_len].chunks_exact(channels);
                    let outputs = slab_out[start..start + row_len].chunks_exact_mut(channels);
                    for (x, (inputs, outputs)) in inputs.zip(outputs).enumerate() {
                        let at = x / 2 * channels;
                        let open = &mut open[at..at + channels];
                        for (((out, &value), &greatest), open) in
                            outputs.iter_mut().zip(inputs).zip(&result[at..]).zip(open)
                        {
                            let hit = value == greatest;
                            *out = if hit { *open } else { T::ZERO };
                            *open = if hit { T::ZERO } else { *open };
                        }
                    }
                }
            }
        });
    Ok(())
}
