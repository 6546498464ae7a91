//! Rows of outputs, each gathered from rows of inputs: convolution, its input gradient and the up-convolution.

use std::ops::Range;

use rayon::prelude::*;

use super::packed::Packed;
use crate::{
    config::Activation,
    kernels::{Element, Isa, TapRow, Tile},
};

/// Positions that a band of rows has about: weights are fetched from L2 once a band, and its sums should stay in L1.
const POSITIONS_PER_BAND: usize = 128;

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

/// One axis of a [`Lattice`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) stride: usize,
    pub(super) first: isize,
    pub(super) taps: usize,
}

/// Neighbouring outputs that the same taps reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) outputs: Range<usize>,
    pub(super) taps: Range<usize>,
}

impl Lattice {
    pub(super) fn axis(&self, axis: usize) -> Axis {
        Axis {
            input: self.input[axis],
            output: self.output[axis],
            stride: self.stride,
            first: self.first[axis],
            taps: self.taps[axis],
        }
    }

    /// Voxel at which row (z, y) of input image `n` begins.
    pub(super) fn input_row(&self, n: usize, z: usize, y: usize) -> usize {
        ((n * self.input[0] + z) * self.input[1] + y) * self.input[2]
    }
}

impl Axis {
    /// Outputs whose input for this tap exists.
    fn outputs(&self, tap: usize) -> Range<usize> {
        let offset = self.first + tap as isize;
        // This runs for every tile: a division would be felt.
        let steps = |voxels: usize| {
            if self.stride == 1 {
                voxels
            } else {
                voxels.div_ceil(self.stride)
            }
        };
        // First x with x·stride + offset ≥ 0, and first with x·stride + offset ≥ input.
        let start = steps((-offset).max(0).unsigned_abs());
        let end = steps((self.input as isize - offset).max(0).unsigned_abs());
        start.min(self.output)..end.min(self.output)
    }

    /// Input that an output reads with this tap (which must reach it).
    pub(super) fn input_index(&self, output: usize, tap: usize) -> usize {
        (output * self.stride).saturating_add_signed(self.first + tap as isize)
    }

    /// Taps that reach this output: always neighbours.
    pub(super) fn taps_of(&self, output: usize) -> Range<usize> {
        let reaches = |tap: &usize| self.outputs(*tap).contains(&output);
        let first = (0..self.taps).find(reaches).unwrap_or(self.taps);
        let end = (first..self.taps).find(|tap| !reaches(tap)).unwrap_or(self.taps);
        first..end
    }

    /// Splits a span of outputs into runs that the same taps reach; outputs without taps are left out.
    pub(super) fn reaches(&self, span: Range<usize>) -> Vec<Reach> {
        let mut runs: Vec<Reach> = Vec::new();
        for output in span {
            let taps = self.taps_of(output);
            match runs.last_mut() {
                Some(run) if run.taps == taps => run.outputs.end = output + 1,
                _ => runs.push(Reach {
                    outputs: output..output + 1,
                    taps,
                }),
            }
        }
        runs.retain(|run| !run.taps.is_empty());
        runs
    }

    /// Splits the taps into runs that reach the same outputs of a span: inside a row all do, at its ends some.
    fn tap_runs(&self, span: &Range<usize>) -> Vec<Reach> {
        let mut runs: Vec<Reach> = Vec::new();
        for tap in 0..self.taps {
            let all = self.outputs(tap);
            let outputs = all.start.max(span.start)..all.end.min(span.end);
            match runs.last_mut() {
                Some(run) if run.outputs == outputs => run.taps.end = tap + 1,
                _ => runs.push(Reach {
                    outputs,
                    taps: tap..tap + 1,
                }),
            }
        }
        runs.retain(|run| !run.outputs.is_empty());
        runs
    }

    /// Each tap with all the outputs that it reaches.
    pub(super) fn taps_apart(&self) -> Vec<Reach> {
        let taps = (0..self.taps).map(|tap| Reach {
            outputs: self.outputs(tap),
            taps: tap..tap + 1,
        });
        taps.filter(|reach| !reach.outputs.is_empty()).collect()
    }
}

/// One volume that is read, with its weights.
pub(super) struct Gathered<'a, T> {
    pub(super) values: &'a [T],
    pub(super) packed: &'a Packed<T>,
}

/// Rows of outputs that are computed together: rows `y` of plane `z` of image `n`.
#[derive(Debug, Clone)]
pub(super) struct Band {
    pub(super) n: usize,
    pub(super) z: usize,
    pub(super) y: Range<usize>,
}

/// Where a band's outputs go: the first, from row to row, from position to position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) line: usize,
    pub(super) step: usize,
}

/// Adds one source's share to a band of outputs.
pub(super) fn gather_band<T: Element>(
    isa: Isa,
    lattice: &Lattice,
    source: &Gathered<'_, T>,
    band: &Band,
    out: &mut [T],
    place: Place,
) {
    let packed = source.packed;
    let (along_z, along_y, along_x) = (lattice.axis(0), lattice.axis(1), lattice.axis(2));
    let mut rows = Vec::new();
    for block in &packed.blocks {
        let width = packed.width(block);
        let row_depth = packed.taps * packed.channels;
        // As many tap rows at once as L1 has room for; where one is too many, parts of one.
        let rows_at_once = (T::tile_depth(isa, block.vectors) / row_depth.max(1)).max(1);
        for reach in along_y.reaches(band.y.clone()) {
            rows.clear();
            for dz in along_z.taps_of(band.z) {
                for dy in reach.taps.clone() {
                    let iz = along_z.input_index(band.z, dz);
                    let iy = along_y.input_index(reach.outputs.start, dy);
                    let weight = block.offset + (dz * lattice.taps[1] + dy) * row_depth * width;
                    rows.push(TapRow {
                        input: lattice.input_row(band.n, iz, iy) * packed.channels,
                        weight,
                    });
                }
            }
            let first_line = place.start + (reach.outputs.start - band.y.start) * place.line;
            for rows in rows.chunks(rows_at_once) {
                let lines = Tile {
                    lines: reach.outputs.len(),
                    positions: 0,
                    out: first_line + block.first,
                    out_line: place.line,
                    out_step: place.step,
                    columns: block.columns,
                    vectors: block.vectors,
                    input: 0,
                    input_line: lattice.stride * lattice.input[2] * packed.channels,
                    input_step: lattice.stride * packed.channels,
                    depth: 0,
                    weight: 0,
                    rows,
                    fresh: false,
                };
                gather_lines(isa, along_x, source, out, &lines);
            }
        }
    }
}

/// Adds the share of some tap rows to the lines of a tile, part after part.
fn gather_lines<T: Element>(
    isa: Isa,
    along_x: Axis,
    source: &Gathered<'_, T>,
    out: &mut [T],
    lines: &Tile<'_>,
) {
    let packed = source.packed;
    let width = lines.vectors * T::lanes(isa);
    let most = T::max_positions(isa, lines.vectors).min(along_x.output).max(1);
    let tiles = along_x.output.div_ceil(most);
    for tile in 0..tiles {
        let span = along_x.output * tile / tiles..along_x.output * (tile + 1) / tiles;
        // Every output adds up row by row, tap by tap, channel by channel, so that its bits don't depend on how near the
        // end of a row it lies. At those ends a single tap row may go tap by tap; of several, each output needs all taps
        // of a row before the next row's.
        let runs = if lines.rows.len() == 1 {
            along_x.tap_runs(&span)
        } else {
            along_x.reaches(span)
        };
        for Reach { outputs, taps } in runs {
            let depth = taps.len() * packed.channels;
            let parts = depth.div_ceil(T::tile_depth(isa, lines.vectors)).max(1);
            for part in 0..parts {
                let depths = depth * part / parts..depth * (part + 1) / parts;
                let first = taps.start * packed.channels + depths.start;
                let call = Tile {
                    positions: outputs.len(),
                    out: lines.out + outputs.start * lines.out_step,
                    input: along_x.input_index(outputs.start, taps.start) * packed.channels + depths.start,
                    depth: depths.len(),
                    weight: first * width,
                    ..*lines
                };
                T::accumulate(isa, out, source.values, packed.values(), &call);
            }
        }
    }
}

/// Rows of outputs of this width that make a band.
pub(super) fn band_rows(width: usize) -> usize {
    POSITIONS_PER_BAND.div_ceil(width.max(1))
}

/// Calls `fill(band, outputs of the band)` in parallel for all rows, `step` of them at least at a time.
pub(super) fn for_bands<T: Send>(
    [depth, height, width]: [usize; 3],
    channels: usize,
    rows: usize,
    output: &mut [T],
    fill: impl Fn(&Band, &mut [T]) + Sync,
) {
    let row_len = width * channels;
    // Each plane is cut on its own: a band's rows are neighbours.
    let planes = output.par_chunks_mut((height * row_len).max(1)).enumerate();
    planes.for_each(|(plane, out)| {
        out.par_chunks_mut((rows * row_len).max(1))
            .enumerate()
            .for_each(|(index, out)| {
                let start = index * rows;
                let band = Band {
                    n: plane / depth,
                    z: plane % depth,
                    y: start..(start + rows).min(height),
                };
                fill(&band, out);
            });
    });
}

/// Fills the output, band after band.
pub(super) fn gather<T: Element>(
    isa: Isa,
    lattice: &Lattice,
    sources: &[Gathered<'_, T>],
    bias: Option<&[T]>,
    activation: Activation,
    channels: usize,
    output: &mut [T],
) {
    let place = Place {
        start: 0,
        line: lattice.output[2] * channels,
        step: channels,
    };
    for_bands(
        lattice.output,
        channels,
        band_rows(lattice.output[2]),
        output,
        |band, out| {
            fill_bias(out, bias, channels);
            for source in sources {
                gather_band(isa, lattice, source, band, out, place);
            }
            activate(isa, out, activation);
        },
    );
}

/// Starts a row of outputs with the bias or zeros.
pub(super) fn fill_bias<T: Element>(out: &mut [T], bias: Option<&[T]>, channels: usize) {
    let Some(bias) = bias.filter(|_| !out.is_empty()) else {
        out.fill(T::zero());
        return;
    };
    // Doubling what is there makes few long copies of many short ones.
    let mut filled = channels;
    out[..channels].copy_from_slice(bias);
    while filled < out.len() {
        let more = filled.min(out.len() - filled);
        out.copy_within(..more, filled);
        filled += more;
    }
}

/// Ends a row of outputs.
pub(super) fn activate<T: Element>(isa: Isa, out: &mut [T], activation: Activation) {
    if activation == Activation::Relu {
        T::relu(isa, out);
    }
}
