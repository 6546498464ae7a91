//! Portable kernels: they define what the vector ones must give, and serve `f64`.

use num_traits::Float;

use super::{Outer, Tile};

/// Output channels of a column block: enough for the compiler to vectorise with any instruction set.
pub(crate) const LANES: usize = 16;

pub(crate) fn accumulate<T: Float>(out: &mut [T], input: &[T], weights: &[T], tile: &Tile<'_>) {
    for line in 0..tile.lines {
        for x in 0..tile.positions {
            let place = tile.out + line * tile.out_line + x * tile.out_step;
            let out = &mut out[place..place + tile.columns];
            let mut sums = [T::zero(); LANES];
            if !tile.fresh {
                sums[..out.len()].copy_from_slice(out);
            }
            for row in tile.rows {
                let place = row.input + tile.input + line * tile.input_line + x * tile.input_step;
                let weights = weights[row.weight + tile.weight..].as_chunks::<LANES>().0;
                for (&value, weights) in input[place..place + tile.depth].iter().zip(weights) {
                    for (sum, &weight) in sums.iter_mut().zip(weights) {
                        *sum = *sum + value * weight;
                    }
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
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

/// `max(x, 0)` in place; compiled again for each instruction set.
#[inline]
pub(crate) fn relu<T: Float>(values: &mut [T]) {
    for value in values {
        // NaN stays NaN: a broken network must show.
        *value = if *value < T::zero() { T::zero() } else { *value };
    }
}
