//! Weight gradients: for each tap, products of what was gathered with what came back, added up over all positions.

use rayon::prelude::*;

use super::{
    gather::{Axis, Lattice, Reach},
    packed::column_blocks,
};
use crate::kernels::{ColumnBlock, Element, Isa, Outer, RowPair};

/// Positions that one partial sum covers at least: below that, adding up the partial sums would cost more than it gains.
const POSITIONS_PER_CHUNK: usize = 2048;
/// Most partial sums. Fixed, so that the result doesn't depend on the number of threads.
const MAX_CHUNKS: usize = 32;
/// Positions that a band of rows has about: enough to pay for loading and storing the sums, few enough to stay in L1.
const POSITIONS_PER_BAND: usize = 96;

/// From so many channels on a tap is worth calls of its own.
const CHANNELS_PER_TAP: usize = 8;

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
    let chunks = chunks(positions, planes);
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

/// How many partial sums there are, each of some of the planes.
pub(super) fn chunks(positions: usize, planes: usize) -> usize {
    (positions / POSITIONS_PER_CHUNK)
        .clamp(1, MAX_CHUNKS)
        .min(planes.max(1))
}

/// Adds the partial sums in order and drops the padding.
pub(super) fn unpack<T: Element>(
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
    let (along_z, along_y, along_x) = (lattice.axis(0), lattice.axis(1), lattice.axis(2));
    let rows = POSITIONS_PER_BAND.div_ceil(width.max(1));
    // Neighbouring taps are contiguous channels: few channels are better taken together with those, for the positions
    // that all of the taps reach; many tap by tap, without the extra calls at a row's ends.
    let reaches = match gathered.channels {
        ..CHANNELS_PER_TAP => along_x.reaches(0..width),
        _ => along_x.taps_apart(),
    };
    let row_depth = lattice.taps[2] * gathered.channels;
    let mut pairs = Vec::new();
    for start in (0..height).step_by(rows) {
        for dz in along_z.taps_of(z) {
            let iz = along_z.input_index(z, dz);
            for dy in 0..lattice.taps[1] {
                pairs.clear();
                for y in (start..(start + rows).min(height)).filter(|&y| along_y.taps_of(y).contains(&dy)) {
                    let row = lattice.input_row(n, iz, along_y.input_index(y, dy));
                    pairs.push(RowPair {
                        gathered: row * gathered.channels,
                        anchored: (plane * height + y) * width * anchored.channels,
                    });
                }
                for block in blocks {
                    let length = row_depth * block.vectors * T::lanes(isa);
                    let tap_row = dz * lattice.taps[1] + dy;
                    let sums = &mut sums[block.offset + tap_row * length..][..length];
                    for reach in &reaches {
                        add_band(isa, along_x, gathered, anchored, block, reach, &pairs, sums);
                    }
                }
            }
        }
    }
}

/// Adds the products of a band of rows, for positions that the same taps reach.
#[expect(
    clippy::too_many_arguments,
    reason = "one call site; a struct would only rename them"
)]
fn add_band<T: Element>(
    isa: Isa,
    along_x: Axis,
    gathered: Volume<'_, T>,
    anchored: Volume<'_, T>,
    block: &ColumnBlock,
    reach: &Reach,
    rows: &[RowPair],
    sums: &mut [T],
) {
    if rows.is_empty() {
        return;
    }
    let width = block.vectors * T::lanes(isa);
    let (x, tap) = (reach.outputs.start, reach.taps.start);
    let depth = reach.taps.len() * gathered.channels;
    let most = T::max_depth(isa, block.vectors).min(depth).max(1);
    let parts = depth.div_ceil(most);
    for part in 0..parts {
        let span = depth * part / parts..depth * (part + 1) / parts;
        let call = Outer {
            positions: reach.outputs.len(),
            sums: (tap * gathered.channels + span.start) * width,
            depth: span.len(),
            columns: block.columns,
            vectors: block.vectors,
            gathered: along_x.input_index(x, tap) * gathered.channels + span.start,
            gathered_step: along_x.stride * gathered.channels,
            anchored: x * anchored.channels + block.first,
            anchored_step: anchored.channels,
            rows,
        };
        T::outer(isa, sums, gathered.values, anchored.values, &call);
    }
}
