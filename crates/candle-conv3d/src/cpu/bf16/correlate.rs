//! Weight gradients: for each tap, the products of what a position sees with its gradient, added up over all positions.
//!
//! The depth of these products are the positions, which run on through the rows and planes of a block, gaps between rows
//! included. The gradient is turned round, so that the positions of a channel are neighbours, with zeros at those that
//! are nobody's. What is seen is brought into the order of weights, twice: in pairs that begin at even, and at odd
//! positions. A tap is then a distance in whole pairs in one of the two, and all that is read begins a cache line.

use half::bf16;
use rayon::prelude::*;

use super::{
    panel::{self, Block, Panel, Shape, View},
    weights::{Group, groups},
};
use crate::kernels::{
    Isa,
    products::{
        COLUMNS, DEPTH, Line, Multiplier, POSITIONS, Products, ROWS, Steps, Sums, TILE_LINES, pair_lines,
        transpose,
    },
};

/// Planes of a block.
const PLANES: usize = 4;
/// Most columns of a block.
const COLUMNS_AT_ONCE: usize = 64;
/// Bytes that a block may take: it is read once for each tap and should stay in L2.
const BLOCK_BYTES: usize = 1 << 20;
/// Steps of a call: what one reads of them is read again for the next tap and should stay in L1.
const STEPS_AT_ONCE: usize = 8;
/// Most partial sums, each of some of the blocks: how many there are must not depend on the machine.
const MAX_PARTS: usize = 32;
/// Channels of the gradient in a call.
const GRADIENTS: usize = ROWS * POSITIONS;

/// The geometry that all blocks share.
struct Plan {
    block: [usize; 3],
    seen: Shape,
    gradient: Shape,
    /// The first step of each call, and where its steps read.
    chunks: Vec<(usize, Steps)>,
    /// Steps over all positions.
    steps: usize,
    /// Values from channel to channel of the turned gradient.
    channel: usize,
    /// Distance of each tap, in positions.
    taps: Vec<usize>,
    /// Pairs of what is seen, of each parity.
    pairs: usize,
    /// Channels that are seen.
    groups: Vec<Group>,
    gradient_groups: usize,
}

impl Plan {
    fn new(positions: [usize; 3], view: &View<'_>, gradient: &View<'_>) -> Self {
        let [depth, height, width] = positions;
        let columns = width.div_ceil(width.div_ceil(COLUMNS_AT_ONCE).max(1)).max(1);
        let planes = PLANES.min(depth.max(1));
        let row = columns + view.taps[2] - 1;
        let shapes = |rows: usize| {
            let seen = Shape::new(view, [planes, rows, columns], row);
            // As many rows as are seen: positions run on alike in both.
            [seen, Shape::new(gradient, [planes, seen.size[1], columns], row)]
        };
        let fits = |rows: &usize| {
            let [seen, gradient] = shapes(*rows);
            // As they are, and in the order of the products.
            (3 * seen.len() + 2 * gradient.len()) * size_of::<bf16>() <= BLOCK_BYTES
        };
        let rows = (1..=height.max(1)).rev().find(fits).unwrap_or(1);
        let [seen, shape] = shapes(rows);
        let end = ((planes - 1) * seen.size[1] + rows - 1) * row + columns;
        let steps = end.div_ceil(DEPTH);
        let chunks = (0..steps).step_by(STEPS_AT_ONCE).map(|first| {
            let count = STEPS_AT_ONCE.min(steps - first);
            (first, Steps::new((0..count).map(|step| step * DEPTH)))
        });
        let [kd, kh, kw] = view.taps;
        let taps =
            (0..kd * kh * kw).map(|tap| (tap / (kh * kw) * seen.size[1] + tap / kw % kh) * row + tap % kw);
        let taps: Vec<usize> = taps.collect();
        Self {
            block: [planes, rows, columns],
            chunks: chunks.collect(),
            steps,
            // Sixteen channels are read together: an odd number of cache lines apart they don't meet in L1.
            channel: (steps | 1) * DEPTH,
            pairs: steps * TILE_LINES + taps.last().map_or(0, |tap| tap / 2),
            taps,
            groups: groups(view.volume.channels),
            gradient_groups: gradient.volume.channels.div_ceil(GRADIENTS),
            seen,
            gradient: shape,
        }
    }

    fn calls(&self) -> usize {
        self.gradient_groups * self.groups.len() * self.taps.len()
    }
}

/// A thread's memory.
#[derive(Default)]
struct Scratch {
    panel: Panel,
    /// By channel of the gradient, position.
    turned: Panel,
    /// By group, parity, pair, tile of what is seen.
    pairs: Vec<Line>,
}

/// Calls `put(tap, channel, column, Σ_a seen[a + tap][channel] · gradient[a][column])` for all taps of the view and all
/// channels; positions are `[batch]` images of this size.
pub(super) fn correlate(
    isa: Isa,
    batch: usize,
    positions: [usize; 3],
    view: &View<'_>,
    gradient: &View<'_>,
    mut put: impl FnMut([usize; 3], usize, usize, f32),
) {
    let plan = Plan::new(positions, view, gradient);
    let mut blocks = Vec::new();
    for n in 0..batch {
        for z in (0..positions[0]).step_by(plan.block[0]) {
            for y in (0..positions[1]).step_by(plan.block[1]) {
                for x in (0..positions[2]).step_by(plan.block[2]) {
                    let start = [z, y, x];
                    let size = [0, 1, 2].map(|axis| plan.block[axis].min(positions[axis] - start[axis]));
                    blocks.push(Block { n, start, size });
                }
            }
        }
    }
    let per_part = blocks.len().div_ceil(MAX_PARTS).max(1);
    let parts: Vec<Vec<Sums>> = blocks
        .par_chunks(per_part)
        .map_init(Scratch::default, |scratch, blocks| {
            let multiplier = Multiplier::new(isa);
            let mut sums = vec![Sums::ZERO; plan.calls()];
            for block in blocks {
                scratch.prepare(isa, &plan, view, gradient, block);
                scratch.add_up(&multiplier, &plan, &mut sums);
            }
            sums
        })
        .collect();
    let sums: Vec<Sums> = (0..plan.calls())
        .into_par_iter()
        .map(|call| {
            let mut total = Sums::ZERO;
            for part in &parts {
                for (total, sum) in total.0.iter_mut().zip(&part[call].0) {
                    *total += sum;
                }
            }
            total
        })
        .collect();
    let [_, kh, kw] = view.taps;
    let mut calls = sums.iter();
    for first in (0..gradient.volume.channels).step_by(GRADIENTS) {
        for group in &plan.groups {
            for (tap, sums) in (0..plan.taps.len()).zip(&mut calls) {
                for column in 0..GRADIENTS.min(gradient.volume.channels - first) {
                    for channel in 0..group.columns {
                        let tile = column / POSITIONS * group.tiles + channel / COLUMNS;
                        let place = (tile * POSITIONS + column % POSITIONS) * COLUMNS + channel % COLUMNS;
                        let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
                        put(tap, group.first + channel, first + column, sums.0[place]);
                    }
                }
            }
        }
    }
}

impl Scratch {
    /// Brings what a block sees, and its gradient, into the order of the products.
    fn prepare(&mut self, isa: Isa, plan: &Plan, view: &View<'_>, gradient: &View<'_>, block: &Block) {
        self.panel.make_room_for(&plan.seen, 0);
        panel::fill(
            self.panel.values_mut(),
            view,
            &plan.seen,
            block,
            0..plan.seen.size[0],
        );
        let tiles: usize = plan.groups.iter().map(|group| group.tiles).sum();
        self.pairs.resize(2 * tiles * plan.pairs, Line::ZERO);
        let mut rest = &mut self.pairs[..];
        for group in &plan.groups {
            for parity in 0..2 {
                let (lines, behind) = rest.split_at_mut(group.tiles * plan.pairs);
                rest = behind;
                let voxels = self.panel.values().get(parity * plan.seen.voxel..);
                for tile in 0..group.tiles {
                    let first = group.first + tile * COLUMNS;
                    let end = (group.first + group.columns).min(first + COLUMNS);
                    pair_lines(
                        isa,
                        voxels.unwrap_or_default(),
                        plan.seen.voxel,
                        first..end,
                        group.tiles,
                        &mut lines[tile..],
                    );
                }
            }
        }
        let positions = plan.steps * DEPTH;
        let (shape, voxel) = (&plan.gradient, plan.gradient.voxel);
        self.panel
            .make_room_for(shape, (positions * voxel).saturating_sub(shape.len()));
        panel::fill(self.panel.values_mut(), gradient, shape, block, 0..shape.size[0]);
        clear_gaps(&mut self.panel.values_mut()[..shape.len()], shape, block.size);
        self.turned
            .make_room(plan.gradient_groups * GRADIENTS * plan.channel);
        transpose(
            isa,
            self.panel.values(),
            voxel,
            [positions, gradient.volume.channels],
            self.turned.values_mut(),
            plan.channel,
        );
        self.turned.values_mut()[gradient.volume.channels * plan.channel..].fill(bf16::ZERO);
    }

    fn add_up(&self, multiplier: &Multiplier, plan: &Plan, sums: &mut [Sums]) {
        for (first, steps) in &plan.chunks {
            let mut sums = sums.iter_mut();
            for gradients in 0..plan.gradient_groups {
                let mut rest = &self.pairs[..];
                for group in &plan.groups {
                    let (lines, behind) = rest.split_at(2 * group.tiles * plan.pairs);
                    rest = behind;
                    for (&tap, sums) in plan.taps.iter().zip(&mut sums) {
                        let pair = tap % 2 * plan.pairs + first * TILE_LINES + tap / 2;
                        let call = Products {
                            input: self.turned.values(),
                            first: gradients * GRADIENTS * plan.channel + first * DEPTH,
                            position: plan.channel,
                            row: POSITIONS * plan.channel,
                            steps,
                            weights: &lines[pair * group.tiles..][..steps.len() * TILE_LINES * group.tiles],
                            tiles: group.tiles,
                            bias: None,
                        };
                        multiplier.add_up(&call, sums);
                    }
                }
            }
        }
    }
}

/// Zeros at the positions of a panel that lie outside a block.
fn clear_gaps(panel: &mut [bf16], shape: &Shape, size: [usize; 3]) {
    for (index, row) in panel.chunks_exact_mut(shape.row()).enumerate() {
        let inside = index / shape.size[1] < size[0] && index % shape.size[1] < size[1];
        let first = if inside { size[2] * shape.voxel } else { 0 };
        row[first..].fill(bf16::ZERO);
    }
}
