//! Rows of outputs, each gathered from rows of inputs: convolution, its input gradient and the up-convolution.

use std::ops::Range;

use rayon::prelude::*;

use super::packed::Packed;
use crate::{
    config::Activation,
    kernels::{Element, Isa, TapRow, Tile},
};

/// Output `x` reads the inputs `x·stride + first + t` for each tap `t`, on each axis; inputs outside are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lattice {
    pub(super) batch: usize,
    /// Size of the gathered volume (axes D, H, W).
    pub(super) input: [usize; 3],
    pub(super) output: [usize; 3],
    pub(super) stride: usize,
    pub(super) first: [isize; 3],
    pub(super) taps: [usize; 3],
}

impl Lattice {
    /// Input index that output `index` reads with this tap, where there is one.
    pub(super) fn input_index(&self, axis: usize, index: usize, tap: usize) -> Option<usize> {
        (index * self.stride)
            .checked_add_signed(self.first[axis] + tap as isize)
            .filter(|&i| i < self.input[axis])
    }

    pub(super) fn along_x(&self) -> RowLattice {
        RowLattice {
            input: self.input[2],
            output: self.output[2],
            stride: self.stride,
            first: self.first[2],
            taps: self.taps[2],
        }
    }

    /// The rows of taps that output row (z, y) of image `n` has, with the voxel where each input row begins.
    pub(super) fn tap_rows(&self, n: usize, z: usize, y: usize, channels: usize, rows: &mut Vec<TapRow>) {
        rows.clear();
        let [depth, height, width] = self.input;
        for dz in 0..self.taps[0] {
            let Some(iz) = self.input_index(0, z, dz) else {
                continue;
            };
            for dy in 0..self.taps[1] {
                let Some(iy) = self.input_index(1, y, dy) else {
                    continue;
                };
                let voxel = ((n * depth + iz) * height + iy) * width;
                rows.push(TapRow {
                    input: voxel * channels,
                    weight: dz * self.taps[1] + dy,
                });
            }
        }
    }
}

/// The x axis of a [`Lattice`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLattice {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) stride: usize,
    pub(super) first: isize,
    pub(super) taps: usize,
}

impl RowLattice {
    /// Outputs whose input for this tap exists.
    pub(super) fn outputs(&self, tap: usize) -> Range<usize> {
        let offset = self.first + tap as isize;
        let stride = self.stride as isize;
        // First x with x·stride + offset ≥ 0, and first with x·stride + offset ≥ input.
        let start = (-offset).max(0).unsigned_abs().div_ceil(self.stride);
        let end = (self.input as isize - offset)
            .max(0)
            .unsigned_abs()
            .div_ceil(stride.unsigned_abs());
        start.min(self.output)..end.min(self.output)
    }

    /// Voxel that output `x` reads with this tap (which must exist).
    pub(super) fn input_voxel(&self, x: usize, tap: usize) -> usize {
        (x * self.stride).saturating_add_signed(self.first + tap as isize)
    }
}

/// One volume that is read, with its weights.
pub(super) struct Gathered<'a, T> {
    pub(super) values: &'a [T],
    pub(super) packed: &'a Packed<T>,
}

/// Where a row of outputs goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputRow {
    pub(super) start: usize,
    pub(super) step: usize,
}

/// Adds one source's share to a row of outputs.
pub(super) fn gather_row<T: Element>(
    isa: Isa,
    lattice: RowLattice,
    source: &Gathered<'_, T>,
    rows: &[TapRow],
    out: &mut [T],
    place: OutputRow,
) {
    let packed = source.packed;
    for block in &packed.blocks {
        let width = packed.width(block);
        let most = T::max_positions(isa, block.vectors).min(lattice.output).max(1);
        let tiles = lattice.output.div_ceil(most);
        for tile in 0..tiles {
            let span = lattice.output * tile / tiles..lattice.output * (tile + 1) / tiles;
            for_tap_groups(lattice, &span, |taps, outputs| {
                let call = Tile {
                    positions: outputs.len(),
                    out: place.start + outputs.start * place.step + block.first,
                    out_step: place.step,
                    columns: block.columns,
                    vectors: block.vectors,
                    input: lattice.input_voxel(outputs.start, taps.start) * packed.channels,
                    input_step: lattice.stride * packed.channels,
                    depth: taps.len() * packed.channels,
                    weight: block.offset + taps.start * packed.channels * width,
                    weight_row_step: packed.taps * packed.channels * width,
                    rows,
                };
                T::accumulate(isa, out, source.values, &packed.values, &call);
            });
        }
    }
}

/// Splits the taps into runs that reach the same outputs of the span: inside a row all of them do, at its ends some.
fn for_tap_groups(
    lattice: RowLattice,
    span: &Range<usize>,
    mut group: impl FnMut(Range<usize>, Range<usize>),
) {
    let clipped = |tap| {
        let outputs = lattice.outputs(tap);
        outputs.start.max(span.start)..outputs.end.min(span.end)
    };
    let mut tap = 0;
    while tap < lattice.taps {
        let outputs = clipped(tap);
        let mut end = tap + 1;
        while end < lattice.taps && clipped(end) == outputs {
            end += 1;
        }
        if !outputs.is_empty() {
            group(tap..end, outputs);
        }
        tap = end;
    }
}

/// Fills the output, row after row.
pub(super) fn gather<T: Element>(
    isa: Isa,
    lattice: &Lattice,
    sources: &[Gathered<'_, T>],
    bias: Option<&[T]>,
    activation: Activation,
    channels: usize,
    output: &mut [T],
) {
    let [depth, height, width] = lattice.output;
    output
        .par_chunks_mut((width * channels).max(1))
        .enumerate()
        .for_each_init(Vec::new, |rows, (row, out)| {
            fill_bias(out, bias, channels);
            let (n, z, y) = (row / (depth * height), row / height % depth, row % height);
            for source in sources {
                lattice.tap_rows(n, z, y, source.packed.channels, rows);
                let place = OutputRow {
                    start: 0,
                    step: channels,
                };
                gather_row(isa, lattice.along_x(), source, rows, out, place);
            }
            activate(out, activation);
        });
}

/// Starts a row of outputs with the bias or zeros.
pub(super) fn fill_bias<T: Element>(out: &mut [T], bias: Option<&[T]>, channels: usize) {
    match bias {
        Some(bias) => out
            .chunks_exact_mut(channels)
            .for_each(|voxel| voxel.copy_from_slice(bias)),
        None => out.fill(T::zero()),
    }
}

/// Ends a row of outputs.
pub(super) fn activate<T: Element>(out: &mut [T], activation: Activation) {
    if activation == Activation::Relu {
        for value in out {
            *value = if *value > T::zero() { *value } else { T::zero() };
        }
    }
}
