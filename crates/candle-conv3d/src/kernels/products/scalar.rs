//! Portable products: they define what the others must give.

use std::ops::Range;

use half::bf16;

use super::{COLUMNS, DEPTH, Line, Products, ROWS, Run, Sums, TILE, TILE_LINES, line_of};

pub(super) fn add_up(call: &Products<'_>, sums: &mut Sums) {
    for row in 0..ROWS {
        for tile in 0..call.tiles {
            let sums = &mut sums.0[(row * call.tiles + tile) * TILE..][..TILE];
            for (position, sums) in sums.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
                if let Some(bias) = call.bias {
                    sums.copy_from_slice(&bias[tile * COLUMNS..][..COLUMNS]);
                }
                for (step, offset) in call.steps.values().enumerate() {
                    let place = call.first + row * call.row + position * call.position + offset;
                    let pairs = call.input[place..place + DEPTH].as_chunks::<2>().0;
                    let lines = call.weights[step * TILE_LINES * call.tiles + tile..].iter();
                    for (pair, line) in pairs.iter().zip(lines.step_by(call.tiles)) {
                        let [even, odd] = pair.map(f32::from);
                        for (sum, weights) in sums.iter_mut().zip(line.0.as_chunks::<2>().0) {
                            *sum += even * f32::from(weights[0]) + odd * f32::from(weights[1]);
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn store<T: Copy>(sums: &Sums, run: &Run, out: &mut [T], round: impl Fn(f32) -> T) {
    for index in 0..run.count {
        let out = &mut out[run.start + index * run.step..][..run.columns];
        for (tile, out) in out.chunks_mut(COLUMNS).enumerate() {
            let sums = &sums.0[run.place(tile, index)..][..COLUMNS];
            for (out, &sum) in out.iter_mut().zip(sums) {
                // NaN stays NaN: a broken network must show.
                *out = round(if run.relu && sum < 0.0 { 0.0 } else { sum });
            }
        }
    }
}

pub(super) fn line(even: &[bf16], odd: &[bf16]) -> Line {
    let mut line = Line::ZERO;
    for (column, &value) in even.iter().enumerate() {
        line.0[line_of(0, column).1] = value;
    }
    for (column, &value) in odd.iter().enumerate() {
        line.0[line_of(1, column).1] = value;
    }
    line
}

pub(super) fn transpose(
    from: &[bf16],
    voxel: usize,
    [voxels, channels]: [Range<usize>; 2],
    to: &mut [bf16],
    channel: usize,
) {
    for index in voxels {
        let values = &from[index * voxel..];
        for c in channels.clone() {
            to[c * channel + index] = values[c];
        }
    }
}
