//! Portable kernels: they define what the vector ones must give, and serve `f64`.

use num_traits::Float;

use super::{Outer, Tile};

/// Output channels of a column block: enough for the compiler to vectorise with any instruction set.
pub(crate) const LANES: usize = 16;

pub(crate) fn accumulate<T: Float>(out: &mut [T], input: &[T], weights: &[T], tile: &Tile<'_>) {
    for x in 0..tile.positions {
        let out = &mut out[tile.out + x * tile.out_step..][..tile.columns];
        let mut sums = [T::zero(); LANES];
        sums[..out.len()].copy_from_slice(out);
        for row in tile.rows {
            let values = &input[row.input + tile.input + x * tile.input_step..][..tile.depth];
            let weights = &weights[row.weight * tile.weight_row_step + tile.weight..];
            for (&value, weights) in values.iter().zip(weights.as_chunks::<LANES>().0) {
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum = *sum + value * weight;
                }
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

pub(crate) fn outer<T: Float>(sums: &mut [T], gathered: &[T], anchored: &[T], outer: &Outer<'_>) {
    for row in outer.rows {
        for x in 0..outer.positions {
            let mut columns = [T::zero(); LANES];
            columns[..outer.columns].copy_from_slice(
                &anchored[row.anchored + outer.anchored + x * outer.anchored_step..][..outer.columns],
            );
            let values = &gathered[row.gathered + outer.gathered + x * outer.gathered_step..][..outer.depth];
            let sums = sums[outer.sums..].as_chunks_mut::<LANES>().0;
            for (sums, &value) in sums.iter_mut().zip(values) {
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = *sum + value * column;
                }
            }
        }
    }
}
