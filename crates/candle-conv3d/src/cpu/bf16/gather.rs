//! Blocks of outputs, each gathered from what it sees: convolution, up-convolution and their input gradients.
//!
//! Products read rows of voxels with zeros around. Volumes with a halo have these and are read where they are; of others,
//! and where a block reaches over the first or the last plane, what a block sees is copied into panels first.

use std::sync::Mutex;

use half::bf16;
use rayon::prelude::*;

use super::{
    panel::{self, Block, Panel, Shape, View, with_halo},
    weights::{Group, Packed, groups},
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
/// Jobs for each thread, and rows of a block where it is cut for their sake.
const JOBS: usize = 4;
const LEAST_ROWS: usize = 8;
/// The same where nothing is copied: a slow core should not keep the others waiting at the end.
const JOBS_IN_PLACE: usize = 16;
const LEAST_ROWS_IN_PLACE: usize = 4;
/// Most columns of a block.
const COLUMNS_AT_ONCE: usize = 64;
/// Columns up to which rows that are read in place stay whole: positions then run on from row to row.
const WHOLE_ROW: usize = 128;
/// Bytes that outputs computed together see: they are read many times and should stay in L2.
const SEEN_BYTES: usize = 512 << 10;

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
    /// Whether the output has a halo; it is left as it is.
    pub(super) halo: bool,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

/// Where products read what the outputs see.
struct Reading {
    /// Voxels from row to row.
    row: usize,
    /// Of each view.
    shapes: Vec<Shape>,
    /// Of each output and view.
    steps: Vec<Vec<Steps>>,
}

/// The geometry that all blocks share.
struct Plan {
    /// Positions of a block.
    block: [usize; 3],
    panels: Reading,
    in_place: Option<Reading>,
    /// Columns of a block that is read in place.
    in_place_columns: usize,
}

/// Values that a view's products read.
struct Input<'a> {
    values: &'a [bf16],
    /// The first that the block's first position sees, in the first of the planes that are computed together.
    first: usize,
}

impl Gather<'_> {
    /// Fills the output, `[N, D, H, W, C]` of `scale` times the positions, in parallel. Its bits depend neither on the
    /// number of threads nor on how it is cut into blocks.
    pub(super) fn run<O: Rounded>(&self, isa: Isa, out: &mut [O]) {
        let [depth, height, width] = self.positions;
        if out.is_empty() || width == 0 {
            return;
        }
        let plan = self.plan();
        let row_len = self.row_len();
        let [out_height, _] = with_halo([height * self.scale, width * self.scale], self.halo);
        let plane_len = out_height * row_len;
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
        let workers = rayon::current_num_threads().min(jobs.len());
        // Cores are not always equally fast: each takes the next job when it is done with one.
        let jobs = Mutex::new(jobs.into_iter());
        let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
        (0..workers).into_par_iter().with_max_len(1).for_each(|_| {
            let mut worker = Worker::new(self, &plan, isa);
            while let Some(([n, z, y], mut rows)) = next() {
                let size = [plan.block[0].min(depth - z), plan.block[1].min(height - y)];
                worker.rows([n, z, y], size, &mut rows);
            }
        });
    }

    /// Values from row to row of the output.
    fn row_len(&self) -> usize {
        let [_, height, width] = self.positions.map(|positions| positions * self.scale);
        with_halo([height, width], self.halo)[1] * self.channels
    }

    fn reading(&self, row: usize, shapes: Vec<Shape>) -> Reading {
        let steps = |output: &Output<'_>| -> Vec<Steps> {
            let weights = output.weights.iter().zip(&shapes);
            weights.map(|(weights, shape)| weights.steps(shape)).collect()
        };
        Reading {
            row,
            steps: self.outputs.iter().map(steps).collect(),
            shapes,
        }
    }

    /// How products read the views where they are, if all have a halo and rows of the same length.
    fn in_place(&self) -> Option<Reading> {
        let shapes: Vec<Shape> = self.views.iter().map(Shape::in_place).collect();
        let row = shapes.first()?.size[2];
        let fits = |(view, shape): (&View<'_>, &Shape)| {
            view.volume.halo
                && !view.unfolded
                && view.stride == 1
                && shape.size[2] == row
                // Depth is read by pairs.
                && shape.voxel.is_multiple_of(2)
                // The halo is one voxel wide.
                && [1, 2].iter().all(|&axis| {
                    view.first[axis] >= -1
                        && self.positions[axis] as isize - 1 + view.first[axis] + view.taps[axis] as isize - 1
                            <= view.size[axis] as isize
                })
        };
        let all = self.views.iter().zip(&shapes).all(fits);
        all.then(|| self.reading(row, shapes))
    }

    fn plan(&self) -> Plan {
        let [depth, height, width] = self.positions;
        let in_place = self.in_place();
        let columns = width.div_ceil(width.div_ceil(COLUMNS_AT_ONCE).max(1)).max(1);
        let in_place_columns = if width <= WHOLE_ROW {
            width
        } else {
            columns.next_multiple_of(POSITIONS)
        };
        // Some blocks for each thread, so that none is idle for long at the end: cut along y, and along z where that is
        // too little, for most of the margin is there. Where nothing is copied there is no margin.
        let (each, least_rows) = match in_place {
            Some(_) => (JOBS_IN_PLACE, LEAST_ROWS_IN_PLACE),
            None => (JOBS, LEAST_ROWS),
        };
        let wanted = each * rayon::current_num_threads();
        let slabs = wanted.div_ceil(self.batch * (height / least_rows).max(1));
        let no_margin = self.views.iter().all(|view| view.spread()[0] == 1);
        let planes = if in_place.is_some() || no_margin {
            ROWS
        } else {
            depth.div_ceil(slabs).next_multiple_of(ROWS).min(PLANES)
        };
        let most_taps = self.views.iter().map(|view| view.spread()[2]).max().unwrap_or(1);
        let row = columns + most_taps - 1;
        let shapes = |rows: usize| -> Vec<Shape> {
            let shape = |view| Shape::new(view, [planes, rows, columns], row);
            self.views.iter().map(shape).collect()
        };
        let fits = |rows: &usize| {
            let at_once = |(view, shape): (&View<'_>, Shape)| {
                let row = match in_place {
                    Some(_) => in_place_columns + view.taps[2] - 1,
                    None => shape.size[2],
                };
                (ROWS + view.spread()[0] - 1) * shape.size[1] * row * shape.voxel
            };
            let values: usize = self.views.iter().zip(shapes(*rows)).map(at_once).sum();
            values * size_of::<bf16>() <= SEEN_BYTES
        };
        let slabs = self.batch * depth.div_ceil(planes);
        let bands = wanted.div_ceil(slabs.max(1));
        let most_rows = height.div_ceil(bands).max(least_rows).min(height).max(1);
        let rows = (1..=most_rows).rev().find(fits).unwrap_or(1);
        Plan {
            block: [planes, rows, columns],
            panels: self.reading(row, shapes(rows)),
            in_place,
            in_place_columns,
        }
    }

    /// What products read of the views where they are, if all of it is there.
    fn seen(&self, reading: &Reading, block: &Block) -> Option<Vec<Input<'_>>> {
        let [_, rows, columns] = block.size;
        // The last tile may begin at the last position.
        let positions = (rows - 1) * reading.row + columns + POSITIONS;
        let views = self.views.iter().zip(&reading.shapes).enumerate();
        views
            .map(|(index, (view, shape))| {
                let plane = block.start[0].checked_add_signed(view.first[0])?;
                // Of a plane that is not computed what is read does not matter.
                if plane + block.size[0] - 1 + view.taps[0] > view.size[0] {
                    return None;
                }
                let voxels = shape.size.iter().product::<usize>();
                let image = view.volume.start + block.n * voxels * shape.voxel + plane * shape.plane();
                let row = (block.start[1] as isize + view.first[1]) * shape.row() as isize;
                let column = (block.start[2] as isize + view.first[2]) * shape.voxel as isize;
                let first = image.checked_add_signed(row + column)?;
                let last = first + (ROWS - 1) * shape.plane() + (positions - 1) * shape.voxel;
                let reach = reading.steps.iter().map(|steps| steps[index].reach()).max();
                (last + reach.unwrap_or(0) <= view.volume.values.len()).then_some(Input {
                    values: view.volume.values,
                    first,
                })
            })
            .collect()
    }
}

/// A thread's work and its memory.
struct Worker<'a> {
    gather: &'a Gather<'a>,
    plan: &'a Plan,
    isa: Isa,
    multiplier: Multiplier,
    /// Of each group of output channels.
    biases: Vec<(Group, [f32; MAX_TILES * COLUMNS])>,
    panels: Vec<Panel>,
    sums: Box<Sums>,
}

impl<'a> Worker<'a> {
    fn new(gather: &'a Gather<'a>, plan: &'a Plan, isa: Isa) -> Self {
        let biases = groups(gather.channels).into_iter().map(|group| {
            let mut bias = [0.0; MAX_TILES * COLUMNS];
            if let Some(values) = gather.bias {
                bias[..group.columns].copy_from_slice(&values[group.first..][..group.columns]);
            }
            (group, bias)
        });
        Self {
            gather,
            plan,
            isa,
            multiplier: Multiplier::new(isa),
            biases: biases.collect(),
            panels: gather.views.iter().map(|_| Panel::default()).collect(),
            sums: Box::new(Sums::ZERO),
        }
    }

    /// Rows of planes, from `start` on, of all columns.
    fn rows<O: Rounded>(&mut self, start: [usize; 3], size: [usize; 2], out: &mut [&mut [O]]) {
        let width = self.gather.positions[2];
        let [n, z, y] = start;
        let block = |x: usize, columns: usize| Block {
            n,
            start: [z, y, x],
            size: [size[0], size[1], columns],
        };
        let columns = match self.plan.in_place {
            Some(_) => self.plan.in_place_columns,
            None => self.plan.block[2],
        };
        for x in (0..width).step_by(columns) {
            let columns = columns.min(width - x);
            let in_place = self.plan.in_place.as_ref();
            let seen = in_place.and_then(|reading| {
                let block = block(x, columns);
                Some((reading, self.gather.seen(reading, &block)?, block))
            });
            if let Some((reading, inputs, block)) = seen {
                self.planes(reading, &block, 0, &inputs, out);
            } else {
                for inner in (x..x + columns).step_by(self.plan.block[2]) {
                    self.copied(&block(inner, self.plan.block[2].min(x + columns - inner)), out);
                }
            }
        }
    }

    /// A block whose outputs are gathered from copies.
    fn copied<O: Rounded>(&mut self, block: &Block, out: &mut [&mut [O]]) {
        let reading = &self.plan.panels;
        let mut panels = std::mem::take(&mut self.panels);
        for (panel, shape) in panels.iter_mut().zip(&reading.shapes) {
            // The last tile of positions may begin at the last of a block and reach over its end.
            panel.make_room_for(shape, POSITIONS * shape.voxel + DEPTH);
        }
        let mut filled = 0;
        for plane in (0..block.size[0]).step_by(ROWS) {
            for ((panel, view), shape) in panels.iter_mut().zip(self.gather.views).zip(&reading.shapes) {
                // What these outputs see and those before have not.
                let seen = |planes: usize| {
                    if planes == 0 {
                        0
                    } else {
                        planes + view.spread()[0] - 1
                    }
                };
                let planes = seen(filled)..seen(plane + ROWS);
                panel::fill(panel.values_mut(), view, shape, block, planes);
            }
            filled = plane + ROWS;
            let inputs = panels.iter().zip(&reading.shapes).map(|(panel, shape)| Input {
                values: panel.values(),
                first: plane * shape.plane(),
            });
            let inputs: Vec<Input<'_>> = inputs.collect();
            self.planes(reading, block, plane, &inputs, out);
        }
        self.panels = panels;
    }

    /// `ROWS` planes of a block, from `plane` on.
    fn planes<O: Rounded>(
        &mut self,
        reading: &Reading,
        block: &Block,
        plane: usize,
        inputs: &[Input<'_>],
        out: &mut [&mut [O]],
    ) {
        let gather = self.gather;
        let [_, rows, columns] = block.size;
        // Where few that are nobody's, or another block's, lie between two rows, positions run on from row to row.
        let run_on = reading.row - columns < POSITIONS;
        let (runs, length) = if run_on {
            (1, (rows - 1) * reading.row + columns)
        } else {
            (rows, columns)
        };
        let positions = (0..runs).flat_map(|y| {
            let first = y * reading.row;
            (first..first + length).step_by(POSITIONS)
        });
        // All that is computed of some positions before the next: they are read from L1, and lines of the output are
        // whole when they leave it.
        for position in positions {
            for (index, (group, bias)) in self.biases.iter().enumerate() {
                let run = Run {
                    row: 0,
                    tiles: group.tiles,
                    position: 0,
                    count: 0,
                    columns: group.columns,
                    relu: gather.activation == Activation::Relu,
                    start: group.first,
                    step: gather.scale * gather.channels,
                };
                for (output, steps) in gather.outputs.iter().zip(&reading.steps) {
                    let mut start = Some(bias);
                    let views = inputs.iter().zip(&reading.shapes);
                    for (((input, shape), steps), weights) in views.zip(steps).zip(&output.weights) {
                        let call = Products {
                            input: input.values,
                            first: input.first + position * shape.voxel,
                            position: shape.voxel,
                            row: shape.plane(),
                            steps,
                            weights: weights.group(index),
                            tiles: group.tiles,
                            bias: start.take(),
                        };
                        self.multiplier.add_up(&call, &mut self.sums);
                    }
                    for row in 0..ROWS.min(block.size[0] - plane) {
                        let out = &mut out[(plane + row) * gather.scale + output.parity[0]];
                        let place = Place {
                            row: reading.row,
                            block,
                            position,
                            parity: output.parity,
                        };
                        gather.store(self.isa, &place, &self.sums, &Run { row, ..run }, out);
                    }
                }
            }
        }
    }
}

/// Where a tile of positions lies.
struct Place<'a> {
    /// Positions from row to row.
    row: usize,
    block: &'a Block,
    /// Its first, counted from the block's.
    position: usize,
    parity: [usize; 3],
}

impl Gather<'_> {
    /// Writes the sums of a tile of positions, row by row of the block.
    fn store<O: Rounded>(&self, isa: Isa, place: &Place<'_>, sums: &Sums, run: &Run, out: &mut [O]) {
        let [_, rows, columns] = place.block.size;
        let row_len = self.row_len();
        let (mut y, mut x) = (place.position / place.row, place.position % place.row);
        let mut done = 0;
        while done < POSITIONS && y < rows {
            let count = (place.row - x).min(POSITIONS - done);
            let inside = columns.saturating_sub(x).min(count);
            if inside > 0 {
                let line = (y * self.scale + place.parity[1]) * row_len;
                let column = (place.block.start[2] + x) * self.scale + place.parity[2];
                let run = Run {
                    position: done,
                    count: inside,
                    start: line + column * self.channels + run.start,
                    ..*run
                };
                O::store(isa, sums, &run, out);
            }
            done += count;
            (y, x) = (y + 1, 0);
        }
    }
}
