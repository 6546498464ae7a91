//! Weight gradients: for each tap, products of what was gathered with what came back, added up over all positions.

use rayon::prelude::*;

use super::{gather::Lattice, packed::column_blocks};
use crate::kernels::{ColumnBlock, Element, Isa, Outer, RowPair};

/// Positions that one partial sum covers at least: below that, adding up the partial sums would cost more than it gains.
const POSITIONS_PER_CHUNK: usize = 2048;
/// Most partial sums. Fixed, so that the result doesn't depend on the number of threads.
const MAX_CHUNKS: usize = 32;
/// Positions that a band of rows has about: enough to pay for loading and storing the sums, few enough to stay in L1.
const POSITIONS_PER_BAND: usize = 96;

/// Volume whose voxels lie at the outputs of the lattice, or one that the lattice gathers from.
#[derive(Clone, Copy)]
pub(super) struct Volume<'a, T> {
    pub(super) values: &'a [T],
    pub(super) channels: usize,
}

/// `[taps D][taps H][taps W][gathered channels][anchored channels]` sums over images and positions of
/// gathered × anchored values.
pub(super) fn correlate<T: Element>(
    isa: Isa,
    lattice: &Lattice,
    gathered: Volume<'_, T>,
    anchored: Volume<'_, T>,
) -> Vec<T> {
    let rows = lattice.taps[0] * lattice.taps[1];
    let depth = lattice.taps[2] * gathered.channels;
    let blocks = column_blocks::<T>(isa, anchored.channels, rows * depth);
    let lanes = T::lanes(isa);
    let length = blocks
        .iter()
        .map(|block| block.vectors * lanes * rows * depth)
        .sum::<usize>();
    let planes = lattice.batch * lattice.output[0];
    let positions = planes * lattice.output[1] * lattice.output[2];
    let chunks = (positions / POSITIONS_PER_CHUNK)
        .clamp(1, MAX_CHUNKS)
        .min(planes.max(1));
    let partial: Vec<Vec<T>> = (0..chunks)
        .into_par_iter()
        .map(|chunk| {
            let mut sums = vec![T::zero(); length];
            let planes = planes * chunk / chunks..planes * (chunk + 1) / chunks;
            for plane in planes {
                add_plane(isa, lattice, gathered, anchored, &blocks, plane, &mut sums);
            }
            sums
        })
        .collect();
    unpack(&partial, &blocks, lanes, rows * depth, anchored.channels)
}

/// Adds the partial sums in order and drops the padding.
fn unpack<T: Element>(
    partial: &[Vec<T>],
    blocks: &[ColumnBlock],
    lanes: usize,
    depth: usize,
    columns: usize,
) -> Vec<T> {
    let mut total = vec![T::zero(); depth * columns];
    total
        .par_chunks_mut(columns.max(1))
        .enumerate()
        .for_each(|(index, total)| {
            for sums in partial {
                for block in blocks {
                    let start = block.offset + index * block.vectors * lanes;
                    let total = &mut total[block.first..block.first + block.columns];
                    for (total, &sum) in total.iter_mut().zip(&sums[start..]) {
                        *total = *total + sum;
                    }
                }
            }
        });
    total
}

/// Adds the products of one plane of one image.
fn add_plane<T: Element>(
    isa: Isa,
    lattice: &Lattice,
    gathered: Volume<'_, T>,
    anchored: Volume<'_, T>,
    blocks: &[ColumnBlock],
    plane: usize,
    sums: &mut [T],
) {
    let [depth, height, width] = lattice.output;
    let (n, z) = (plane / depth, plane % depth);
    let band = POSITIONS_PER_BAND.div_ceil(width.max(1));
    let mut pairs = Vec::new();
    for start in (0..height).step_by(band) {
        for dz in 0..lattice.taps[0] {
            let Some(iz) = lattice.input_index(0, z, dz) else {
                continue;
            };
            for dy in 0..lattice.taps[1] {
                pairs.clear();
                for y in start..(start + band).min(height) {
                    let Some(iy) = lattice.input_index(1, y, dy) else {
                        continue;
                    };
                    let row = ((n * lattice.input[0] + iz) * lattice.input[1] + iy) * lattice.input[2];
                    pairs.push(RowPair {
                        gathered: row * gathered.channels,
                        anchored: (plane * height + y) * width * anchored.channels,
                    });
                }
                for block in blocks {
                    let tap_row = dz * lattice.taps[1] + dy;
                    add_tap_row(isa, lattice, gathered, anchored, block, tap_row, &pairs, sums);
                }
            }
        }
    }
}

/// Adds the products of a band of rows for one row of taps.
#[expect(
    clippy::too_many_arguments,
    reason = "one call site; a struct would only rename them"
)]
fn add_tap_row<T: Element>(
    isa: Isa,
    lattice: &Lattice,
    gathered: Volume<'_, T>,
    anchored: Volume<'_, T>,
    block: &ColumnBlock,
    tap_row: usize,
    rows: &[RowPair],
    sums: &mut [T],
) {
    if rows.is_empty() {
        return;
    }
    let along_x = lattice.along_x();
    let width = block.vectors * T::lanes(isa);
    let row_start = block.offset + tap_row * lattice.taps[2] * gathered.channels * width;
    let mut x = 0;
    while x < along_x.output {
        // The taps that reach x, and how far the same ones reach.
        let reaching = |x| (0..along_x.taps).filter(move |&tap| along_x.outputs(tap).contains(&x));
        let (Some(first), Some(last)) = (reaching(x).next(), reaching(x).next_back()) else {
            x += 1;
            continue;
        };
        let mut end = x + 1;
        while end < along_x.output
            && reaching(end).next() == Some(first)
            && reaching(end).next_back() == Some(last)
        {
            end += 1;
        }
        let depth = (last + 1 - first) * gathered.channels;
        let most = T::max_depth(isa, block.vectors).min(depth).max(1);
        let parts = depth.div_ceil(most);
        for part in 0..parts {
            let span = depth * part / parts..depth * (part + 1) / parts;
            let call = Outer {
                positions: end - x,
                sums: row_start + (first * gathered.channels + span.start) * width,
                depth: span.len(),
                columns: block.columns,
                vectors: block.vectors,
                gathered: along_x.input_voxel(x, first) * gathered.channels + span.start,
                gathered_step: along_x.stride * gathered.channels,
                anchored: x * anchored.channels + block.first,
                anchored_step: anchored.channels,
                rows,
            };
            T::outer(isa, sums, gathered.values, anchored.values, &call);
        }
        x = end;
    }
}
