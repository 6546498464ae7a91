//! Rows of a matrix out of directions, gains and means.

use rayon::prelude::*;

use crate::error::{Conv3dError, check_length};

/// A matrix whose rows are standardised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsShape {
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub values: usize,
    /// Values of a block, of which a row has as many as there are rows, where 1 is added in the middle of each row's own
    /// block.
    pub identity: Option<usize>,
}

impl RowsShape {
    /// Values of the rows.
    pub fn rows_len(&self) -> usize {
        self.rows * self.values
    }

    /// Values of directions, gains and means.
    pub fn parts_len(&self) -> usize {
        self.rows_len() + 2 * self.rows
    }

    fn check(&self) -> Result<(), Conv3dError> {
        let row = self.identity.map_or(self.values, |block| block * self.rows);
        check_length("a row", row, self.values)
    }
}

/// Sums that are added up beside each other, as by the threads of a GPU's block, so that both round in the same way.
const LANES: usize = 256;
/// Added to squared lengths, so that a row of zeros has no direction instead of a wrong one.
const EPSILON: f32 = 1e-12;
/// Values that one thread handles at a time.
const CHUNK: usize = 1 << 15;

/// Σ of what is made of each pair, in that order.
fn sum(a: &[f32], b: &[f32], value: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += value(*a, *b);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
        half /= 2;
    }
    lanes[0]
}

/// What a direction is: its mean, and one over the length of what is left without it.
struct Direction {
    mean: f32,
    inverse: f32,
}

impl Direction {
    fn of(values: &[f32]) -> Self {
        let mean = sum(values, values, |value, _| value) / values.len() as f32;
        let square = sum(values, values, |value, _| (value - mean) * (value - mean));
        Self {
            mean,
            inverse: 1.0 / (square + EPSILON).sqrt(),
        }
    }
}

/// Makes `rows` of directions (as long as the rows), gains and means (one for each).
///
/// # Errors
/// [`Conv3dError::Length`] where the slices don't fit the shape.
pub fn standardise_rows(
    shape: &RowsShape,
    directions: &[f32],
    gains: &[f32],
    means: &[f32],
    rows: &mut [f32],
) -> Result<(), Conv3dError> {
    shape.check()?;
    check_length("the directions", shape.rows_len(), directions.len())?;
    check_length("the gains", shape.rows, gains.len())?;
    check_length("the means", shape.rows, means.len())?;
    check_length("the rows", shape.rows_len(), rows.len())?;
    let count = shape.values.max(1);
    let root = (shape.values as f32).sqrt();
    rows.par_chunks_mut(count)
        .zip(directions.par_chunks(count))
        .enumerate()
        .with_min_len(CHUNK.div_ceil(count))
        .for_each(|(row, (out, values))| {
            let direction = Direction::of(values);
            let (scale, mean) = (direction.inverse * gains[row], means[row] / root);
            for (out, value) in out.iter_mut().zip(values) {
                *out = (value - direction.mean) * scale + mean;
            }
            if let Some(block) = shape.identity {
                out[row * block + block / 2] += 1.0;
            }
        });
    Ok(())
}

/// The gradients of directions, gains and means, behind each other in `parts`, from that of the rows.
///
/// # Errors
/// [`Conv3dError::Length`] where the slices don't fit the shape.
pub fn standardise_rows_gradient(
    shape: &RowsShape,
    directions: &[f32],
    gains: &[f32],
    of_rows: &[f32],
    parts: &mut [f32],
) -> Result<(), Conv3dError> {
    shape.check()?;
    check_length("the directions", shape.rows_len(), directions.len())?;
    check_length("the gains", shape.rows, gains.len())?;
    check_length("the gradient of the rows", shape.rows_len(), of_rows.len())?;
    check_length("the gradients", shape.parts_len(), parts.len())?;
    let count = shape.values.max(1);
    let root = (shape.values as f32).sqrt();
    let (of_directions, rest) = parts.split_at_mut(shape.rows_len());
    let (of_gains, of_means) = rest.split_at_mut(shape.rows);
    let rows = of_directions.par_chunks_mut(count).zip(of_gains).zip(of_means);
    rows.zip(directions.par_chunks(count).zip(of_rows.par_chunks(count)))
        .enumerate()
        .with_min_len(CHUNK.div_ceil(count))
        .for_each(
            |(row, (((of_direction, of_gain), of_mean), (values, gradient)))| {
                let Direction { mean, inverse } = Direction::of(values);
                let all = sum(gradient, gradient, |gradient, _| gradient);
                let along = sum(gradient, values, |gradient, value| {
                    gradient * ((value - mean) * inverse)
                });
                let (scale, middle) = (inverse * gains[row], all / shape.values as f32);
                // A row does not change along its own direction, nor with the mean of that.
                for (out, (gradient, value)) in of_direction.iter_mut().zip(gradient.iter().zip(values)) {
                    *out = (gradient - middle - (value - mean) * inverse * along) * scale;
                }
                (*of_gain, *of_mean) = (along, all / root);
            },
        );
    Ok(())
}
