//! Blocks of outputs, each gathered from panels of what it sees: convolution, up-convolution and their input gradients.

use half::bf16;
use rayon::prelude::*;

use super::{
    panel::{self, Block, Panel, Shape, View},
    weights::{Packed, groups},
};
use crate::{
    config::Activation,
    kernels::{
        Isa,
        products::{
            COLUMNS, DEPTH, MAX_TILES, Multiplier, POSITIONS, Products, ROWS, Rounded, Run, Steps, Sums,
        },
    },
};

/// Most planes of a block. Its panels are filled as its planes are computed, and each plane of them once.
const PLANES: usize = 8;
/// Rows of a block where it is cut for the sake of the threads.
const LEAST_ROWS: usize = 8;
/// Most columns of a block.
const COLUMNS_AT_ONCE: usize = 64;
/// Bytes of the panels that outputs computed together see: they are read many times and should stay in L2.
const PANEL_BYTES: usize = 512 << 10;

/// What is computed at each position of a lattice: output `scale·position + parity`.
pub(super) struct Output<'a> {
    pub(super) parity: [usize; 3],
    /// For each view.
    pub(super) weights: Vec<&'a Packed>,
}

/// A lattice of positions and what is computed there.
pub(super) struct Gather<'a> {
    pub(super) batch: usize,
    /// Positions (axes D, H, W).
    pub(super) positions: [usize; 3],
    pub(super) views: &'a [View<'a>],
    /// Outputs of a position, on each axis.
    pub(super) scale: usize,
    pub(super) outputs: &'a [Output<'a>],
    /// Channels of the output.
    pub(super) channels: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

/// The geometry that all blocks share.
struct Plan {
    /// Positions of a block.
    block: [usize; 3],
    /// Voxels of a panel's row.
    row: usize,
    panels: Vec<Shape>,
    /// Of each output and view.
    steps: Vec<Vec<Steps>>,
    /// Zeros behind each panel.
    slack: Vec<usize>,
}

/// What is computed at once: 16 positions of `ROWS` planes of a block, from `plane` on.
struct Tile<'a> {
    plan: &'a Plan,
    block: &'a Block,
    panels: &'a [Panel],
    plane: usize,
    position: usize,
}

impl Tile<'_> {
    /// The sums of one group of channels of one of the outputs; `steps`: of each view.
    #[expect(clippy::too_many_arguments, reason = "one caller, which has them all at hand")]
    fn add_up(
        &self,
        multiplier: &Multiplier,
        output: &Output<'_>,
        steps: &[Steps],
        group: usize,
        bias: &[f32; MAX_TILES * COLUMNS],
        tiles: usize,
        sums: &mut Sums,
    ) {
        let mut start = Some(bias);
        let views = self.panels.iter().zip(&self.plan.panels);
        for (((panel, shape), steps), weights) in views.zip(steps).zip(&output.weights) {
            let call = Products {
                input: panel.values(),
                first: self.plane * shape.plane() + self.position * shape.voxel,
                position: shape.voxel,
                row: shape.plane(),
                steps,
                weights: weights.group(group),
                tiles,
                bias: start.take(),
            };
            multiplier.add_up(&call, sums);
        }
    }
}

impl Gather<'_> {
    /// Fills the output, `[N, D, H, W, C]` of `scale` times the positions, in parallel. Its bits depend neither on the
    /// number of threads nor on how it is cut into blocks.
    pub(super) fn run<O: Rounded>(&self, isa: Isa, out: &mut [O]) {
        let [depth, height, width] = self.positions;
        if out.is_empty() {
            return;
        }
        let plan = self.plan();
        let row_len = width * self.scale * self.channels;
        let plane_len = height * self.scale * row_len;
        let image_len = depth * self.scale * plane_len;
        // Each job: some rows of some planes.
        let mut jobs = Vec::new();
        for (n, image) in out.chunks_mut(image_len).enumerate() {
            for (index, planes) in image
                .chunks_mut(plan.block[0] * self.scale * plane_len)
                .enumerate()
            {
                let z = index * plan.block[0];
                let planes = planes.chunks_mut(plane_len);
                let mut rows: Vec<_> = planes
                    .map(|plane| plane.chunks_mut(plan.block[1] * self.scale * row_len))
                    .collect();
                for y in (0..height).step_by(plan.block[1]) {
                    let rows: Vec<&mut [O]> = rows.iter_mut().filter_map(Iterator::next).collect();
                    jobs.push(([n, z, y], rows));
                }
            }
        }
        jobs.into_par_iter().for_each_init(
            || self.views.iter().map(|_| Panel::default()).collect::<Vec<_>>(),
            |panels, ([n, z, y], mut rows)| {
                let multiplier = Multiplier::new(isa);
                let size = [plan.block[0].min(depth - z), plan.block[1].min(height - y)];
                for x in (0..width).step_by(plan.block[2]) {
                    let block = Block {
                        n,
                        start: [z, y, x],
                        size: [size[0], size[1], plan.block[2].min(width - x)],
                    };
                    self.block(isa, &multiplier, &plan, &block, panels, &mut rows);
                }
            },
        );
    }

    fn plan(&self) -> Plan {
        let [depth, height, width] = self.positions;
        let columns = width.div_ceil(width.div_ceil(COLUMNS_AT_ONCE).max(1)).max(1);
        // Some blocks for each thread, so that none is idle for long at the end: cut along y, and along z where that is
        // too little, for most of the margin is there.
        let wanted = 4 * rayon::current_num_threads();
        let slabs = wanted.div_ceil(self.batch * (height / LEAST_ROWS).max(1));
        let planes = depth.div_ceil(slabs).next_multiple_of(ROWS).min(PLANES);
        let most_taps = self.views.iter().map(|view| view.taps[2]).max().unwrap_or(1);
        let row = columns + most_taps - 1;
        let shapes = |rows: usize| -> Vec<Shape> {
            let shape = |view| Shape::new(view, [planes, rows, columns], row);
            self.views.iter().map(shape).collect()
        };
        let fits = |rows: &usize| {
            let at_once = |(shape, view): (Shape, &View<'_>)| (ROWS + view.taps[0] - 1) * shape.plane();
            let values: usize = shapes(*rows).into_iter().zip(self.views).map(at_once).sum();
            values * size_of::<bf16>() <= PANEL_BYTES
        };
        let slabs = self.batch * depth.div_ceil(planes);
        let bands = wanted.div_ceil(slabs.max(1));
        let most_rows = height.div_ceil(bands).max(LEAST_ROWS).min(height).max(1);
        let rows = (1..=most_rows).rev().find(fits).unwrap_or(1);
        let panels = shapes(rows);
        let steps = |output: &Output<'_>| -> Vec<Steps> {
            let weights = output.weights.iter().zip(&panels);
            weights.map(|(weights, shape)| weights.steps(shape)).collect()
        };
        // The last tile of positions may begin at the last of a block and reach over its end.
        let slack = panels
            .iter()
            .map(|shape| POSITIONS * shape.voxel + DEPTH)
            .collect();
        Plan {
            block: [planes, rows, columns],
            row,
            steps: self.outputs.iter().map(steps).collect(),
            panels,
            slack,
        }
    }

    fn block<O: Rounded>(
        &self,
        isa: Isa,
        multiplier: &Multiplier,
        plan: &Plan,
        block: &Block,
        panels: &mut [Panel],
        out: &mut [&mut [O]],
    ) {
        for ((panel, shape), &slack) in panels.iter_mut().zip(&plan.panels).zip(&plan.slack) {
            panel.make_room_for(shape, slack);
        }
        let biases: Vec<_> = groups(self.channels)
            .into_iter()
            .map(|group| {
                let mut bias = [0.0; MAX_TILES * COLUMNS];
                if let Some(values) = self.bias {
                    bias[..group.columns].copy_from_slice(&values[group.first..][..group.columns]);
                }
                (group, bias)
            })
            .collect();
        let mut sums = Sums::ZERO;
        let mut filled = 0;
        for plane in (0..block.size[0]).step_by(ROWS) {
            for ((panel, view), shape) in panels.iter_mut().zip(self.views).zip(&plan.panels) {
                // What these outputs see and those before have not.
                let seen = |planes: usize| if planes == 0 { 0 } else { planes + view.taps[0] - 1 };
                panel::fill(
                    panel.values_mut(),
                    view,
                    shape,
                    block,
                    seen(filled)..seen(plane + ROWS),
                );
            }
            filled = plane + ROWS;
            let [_, rows, columns] = block.size;
            // Positions run on from row to row of the panels; between two rows lie some that are nobody's.
            let positions = (rows - 1) * plan.row + columns;
            let mut tile = Tile {
                plan,
                block,
                panels,
                plane,
                position: 0,
            };
            // All that is computed of some positions before the next: they are read from L1, and lines of the output
            // are whole when they leave it.
            for position in (0..positions).step_by(POSITIONS) {
                tile.position = position;
                for (index, (group, bias)) in biases.iter().enumerate() {
                    let run = Run {
                        row: 0,
                        tiles: group.tiles,
                        position: 0,
                        count: 0,
                        columns: group.columns,
                        relu: self.activation == Activation::Relu,
                        start: group.first,
                        step: self.scale * self.channels,
                    };
                    for (output, steps) in self.outputs.iter().zip(&plan.steps) {
                        tile.add_up(multiplier, output, steps, index, bias, run.tiles, &mut sums);
                        for row in 0..ROWS.min(block.size[0] - plane) {
                            let out = &mut out[(plane + row) * self.scale + output.parity[0]];
                            self.store(isa, &tile, output, &sums, &Run { row, ..run }, out);
                        }
                    }
                }
            }
        }
    }

    /// Writes the sums of a tile of positions, row by row of the block.
    fn store<O: Rounded>(
        &self,
        isa: Isa,
        &Tile {
            plan,
            block,
            position,
            ..
        }: &Tile<'_>,
        output: &Output<'_>,
        sums: &Sums,
        run: &Run,
        out: &mut [O],
    ) {
        let [_, rows, columns] = block.size;
        let row_len = self.positions[2] * self.scale * self.channels;
        let mut done = 0;
        while done < POSITIONS {
            let (y, x) = ((position + done) / plan.row, (position + done) % plan.row);
            if y >= rows {
                return;
            }
            let count = (plan.row - x).min(POSITIONS - done);
            let inside = columns.saturating_sub(x).min(count);
            if inside > 0 {
                let line = (y * self.scale + output.parity[1]) * row_len;
                let column = (block.start[2] + x) * self.scale + output.parity[2];
                let run = Run {
                    position: done,
                    count: inside,
                    start: line + column * self.channels + run.start,
                    ..*run
                };
                O::store(isa, sums, &run, out);
            }
            done += count;
        }
    }
}
