//! Max-pooling of 2³ voxels.

#![expect(
    clippy::inline_always,
    reason = "loops are compiled for the instruction set of their caller"
)]

use rayon::prelude::*;

use crate::{
    error::{Conv3dError, check_length},
    kernels::{Isa, PlainLoop, Value},
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
    max_pool2_forward_stored(shape, input, output, false)
}

/// The same for volumes that both have a [halo](crate::haloed_zeros), which of the output is left as it is.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn max_pool2_forward_stored<T: Value>(
    shape: &PoolShape,
    input: &[T],
    output: &mut [T],
    halo: bool,
) -> Result<(), Conv3dError> {
    let ([depth, height, width], halo) = (shape.output, usize::from(halo));
    let channels = shape.channels;
    let (row, row_in) = ((width + halo) * channels, (2 * width + halo) * channels);
    let (rows, rows_in) = (height + halo, 2 * height + halo);
    check_length(
        "the input",
        shape.batch * 2 * depth * rows_in * row_in,
        input.len(),
    )?;
    check_length("the output", shape.batch * depth * rows * row, output.len())?;
    let isa = Isa::current();
    let out = output.par_chunks_mut(row.max(1)).enumerate();
    out.filter(|(index, _)| index % rows < height)
        .for_each(|(index, out)| {
            let plane_len = rows_in * row_in;
            let first = index / rows * 2 * plane_len + index % rows * 2 * row_in;
            let rows = corners(first, row_in, plane_len).map(|start| &input[start..][..2 * width * channels]);
            let out = &mut out[..width * channels];
            isa.run(Greatest { channels, rows, out });
        });
    Ok(())
}

/// The greatest values of four rows of input, for a row of the result.
struct Greatest<'a, T> {
    channels: usize,
    rows: [&'a [T]; 4],
    out: &'a mut [T],
}

impl<T: Value> PlainLoop for Greatest<'_, T> {
    #[inline(always)]
    fn run(self) {
        let channels = self.channels;
        for (corner, row) in self.rows.into_iter().enumerate() {
            let results = self.out.chunks_exact_mut(channels);
            for (out, pair) in results.zip(row.chunks_exact(2 * channels)) {
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
    }
}

/// Where the four input rows of an output row begin, in the order (z, y).
fn corners(first: usize, row: usize, plane: usize) -> [usize; 4] {
    [first, first + row, first + plane, first + plane + row]
}

/// Adds the gradient of the input to `sum`: each result's goes to the first of its greatest voxels (in the order z, y, x).
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn add_max_pool2_gradient<T: Value>(
    shape: &PoolShape,
    input: &[T],
    gradient: &[T],
    sum: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the input", shape.input_len(), input.len())?;
    check_length("the gradient", shape.output_len(), gradient.len())?;
    check_length("the input gradient", shape.input_len(), sum.len())?;
    let [_, height, _] = shape.output;
    let (channels, row_len) = (shape.channels, 2 * shape.output_row());
    // Two planes of the input belong to one of the result.
    let slab = 4 * height * row_len;
    let isa = Isa::current();
    sum.par_chunks_mut(slab.max(1)).enumerate().for_each_init(
        || [vec![], vec![]],
        |[open, greatest], (plane, slab_sum)| {
            let slab_in = &input[plane * slab..][..slab];
            for y in 0..height {
                let row = (plane * height + y) * shape.output_row();
                // What hasn't found its voxel yet.
                open.clear();
                open.extend_from_slice(&gradient[row..][..row_len / 2]);
                greatest.resize(row_len / 2, T::ZERO);
                let corners = corners(2 * y * row_len, row_len, 2 * height * row_len);
                let rows = corners.map(|start| &slab_in[start..start + row_len]);
                isa.run(Greatest {
                    channels,
                    rows,
                    out: greatest,
                });
                for (start, inputs) in corners.into_iter().zip(rows) {
                    isa.run(AddWhereGreatest {
                        channels,
                        inputs,
                        greatest,
                        open,
                        sums: &mut slab_sum[start..start + row_len],
                    });
                }
            }
        },
    );
    Ok(())
}

/// Adds what is still open of a row of gradients to a row of sums, where its input is the greatest.
struct AddWhereGreatest<'a, T> {
    channels: usize,
    inputs: &'a [T],
    greatest: &'a [T],
    open: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Value> PlainLoop for AddWhereGreatest<'_, T> {
    #[inline(always)]
    fn run(self) {
        let channels = self.channels;
        let inputs = self.inputs.chunks_exact(channels);
        let voxels = inputs.zip(self.sums.chunks_exact_mut(channels));
        for (x, (inputs, sums)) in voxels.enumerate() {
            let at = x / 2 * channels..(x / 2 + 1) * channels;
            add_where_greatest(inputs, &self.greatest[at.clone()], &mut self.open[at], sums);
        }
    }
}

/// The same for the channels of a voxel. A function: its arguments are known not to overlap.
#[inline(always)]
fn add_where_greatest<T: Value>(inputs: &[T], greatest: &[T], open: &mut [T], sums: &mut [T]) {
    for (((sum, &value), &greatest), open) in sums.iter_mut().zip(inputs).zip(greatest).zip(open) {
        let hit = value.equals(greatest);
        *sum = sum.plus(if hit { *open } else { T::ZERO });
        *open = if hit { T::ZERO } else { *open };
    }
}
