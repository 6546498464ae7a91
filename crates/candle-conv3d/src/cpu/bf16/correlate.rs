//! Weight gradients: for each tap, the products of what a position sees with its gradient, added up over all positions.
//!
//! The depth of these products are the positions. A panel is therefore turned round: the positions of a channel are
//! neighbours, so that a tap is an offset, and the gradient is brought into the order of weights, with zeros at
//! positions that are nobody's.

use half::bf16;
use rayon::prelude::*;

use super::{
    panel::{self, Block, Shape, View},
    weights::groups,
};
use crate::kernels::{
    Isa,
    products::{COLUMNS, DEPTH, Line, Multiplier, POSITIONS, Products, ROWS, Steps, Sums, lines, transpose},
};

/// Planes of a block.
const PLANES: usize = 4;
/// Most columns of a block.
const COLUMNS_AT_ONCE: usize = 64;
/// Bytes that the panels of a block may take: they are read many times and should stay in L2.
const PANEL_BYTES: usize = 512 << 10;
/// Most partial sums, each of some of the blocks: how many there are must not depend on the machine.
const MAX_PARTS: usize = 32;
/// Input channels of a call.
const CHANNELS: usize = ROWS * POSITIONS;

/// The geometry that all blocks share.
struct Plan {
    block: [usize; 3],
    seen: Shape,
    gradient: Shape,
    /// Values from channel to channel of the turned panel.
    channel: usize,
    steps: Steps,
}

impl Plan {
    fn new(positions: [usize; 3], view: &View<'_>, gradient: &View<'_>) -> Self {
        let [depth, height, width] = positions;
        let columns = width.div_ceil(width.div_ceil(COLUMNS_AT_ONCE).max(1)).max(1);
        let planes = PLANES.min(depth.max(1));
        let row = columns + view.taps[2] - 1;
        let shapes = |rows: usize| {
            let block = [planes, rows, columns];
            [Shape::new(view, block, row), Shape::new(gradient, block, row)]
        };
        let fits = |rows: &usize| {
            let [seen, gradient] = shapes(*rows);
            // Both as they are and in the order of the products.
            2 * (seen.len() + gradient.len()) * size_of::<bf16>() <= PANEL_BYTES
        };
        let rows = (1..=height.max(1)).rev().find(fits).unwrap_or(1);
        let [seen, gradient] = shapes(rows);
        let plane_steps = (gradient.size[1] * row).div_ceil(DEPTH);
        let offsets = (0..planes)
            .flat_map(|plane| (0..plane_steps).map(move |step| plane * seen.size[1] * row + step * DEPTH));
        let steps = Steps::new(offsets);
        let last_tap = (view.taps[0] - 1) * seen.size[1] * row + (view.taps[1] - 1) * row + view.taps[2] - 1;
        let channel = (last_tap + steps.reach()).max(seen.size[0] * seen.size[1] * row);
        // Sixteen channels are read together: in an odd number of cache lines from one to the next they don't meet in L1.
        let channel = (channel.div_ceil(DEPTH) | 1) * DEPTH;
        Self {
            block: [planes, rows, columns],
            seen,
            gradient,
            channel,
            steps,
        }
    }
}

/// A thread's memory.
#[derive(Default)]
struct Scratch {
    panel: Vec<bf16>,
    turned: Vec<bf16>,
    gradient: Vec<Line>,
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
    let columns = groups(gradient.channels);
    let channel_groups = view.channels.div_ceil(CHANNELS);
    let taps: usize = view.taps.iter().product();
    let calls = taps * channel_groups * columns.len();
    let per_part = blocks.len().div_ceil(MAX_PARTS).max(1);
    let parts: Vec<Vec<Sums>> = blocks
        .par_chunks(per_part)
        .map_init(Scratch::default, |scratch, blocks| {
            let multiplier = Multiplier::new(isa);
            let mut sums = vec![Sums::ZERO; calls];
            for block in blocks {
                add_block(isa, &multiplier, &plan, view, gradient, block, scratch, &mut sums);
            }
            sums
        })
        .collect();
    let [_, kh, kw] = view.taps;
    let mut index = 0;
    for tap in 0..taps {
        for channel_group in 0..channel_groups {
            for group in &columns {
                for channel in 0..CHANNELS.min(view.channels - channel_group * CHANNELS) {
                    for column in 0..group.columns {
                        let tile = channel / POSITIONS * group.tiles + column / COLUMNS;
                        let place = (tile * POSITIONS + channel % POSITIONS) * COLUMNS + column % COLUMNS;
                        let sum = parts.iter().map(|sums| sums[index].0[place]).sum();
                        let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
                        put(tap, channel_group * CHANNELS + channel, group.first + column, sum);
                    }
                }
                index += 1;
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one caller, which has them all at hand")]
fn add_block(
    isa: Isa,
    multiplier: &Multiplier,
    plan: &Plan,
    view: &View<'_>,
    gradient: &View<'_>,
    block: &Block,
    scratch: &mut Scratch,
    sums: &mut [Sums],
) {
    let row = plan.seen.size[2];
    let channel_groups = view.channels.div_ceil(CHANNELS);
    panel::make_room(&mut scratch.panel, &plan.seen, 0);
    panel::fill(&mut scratch.panel, view, &plan.seen, block, 0..plan.seen.size[0]);
    scratch.turned.clear();
    scratch
        .turned
        .resize(channel_groups * CHANNELS * plan.channel, bf16::ZERO);
    let voxels = plan.seen.size.iter().product();
    transpose(
        isa,
        &scratch.panel[..plan.seen.len()],
        plan.seen.voxel,
        [voxels, view.channels],
        &mut scratch.turned,
        plan.channel,
    );
    let cut = Block {
        size: plan.block,
        ..*block
    };
    panel::make_room(&mut scratch.panel, &plan.gradient, 0);
    panel::fill(
        &mut scratch.panel,
        gradient,
        &plan.gradient,
        &cut,
        0..plan.gradient.size[0],
    );
    clear_gaps(
        &mut scratch.panel[..plan.gradient.len()],
        &plan.gradient,
        block.size,
    );
    let columns = groups(gradient.channels);
    let plane_steps = plan.steps.len() / plan.block[0];
    let mut index = 0;
    // By group, as the steps go: a part of each plane's positions.
    let mut starts = Vec::with_capacity(columns.len());
    scratch.gradient.clear();
    for group in &columns {
        starts.push(scratch.gradient.len());
        for plane in scratch.panel[..plan.gradient.len()].chunks_exact(plan.gradient.plane()) {
            for step in 0..plane_steps {
                for tile in 0..group.tiles {
                    let first = group.first + tile * COLUMNS;
                    let end = (group.first + group.columns).min(first + COLUMNS);
                    let positions = plane
                        .get(step * DEPTH * plan.gradient.voxel..)
                        .unwrap_or_default();
                    lines(
                        isa,
                        positions,
                        plan.gradient.voxel,
                        first..end,
                        &mut scratch.gradient,
                    );
                }
            }
        }
    }
    let ends = starts.iter().skip(1).copied().chain([scratch.gradient.len()]);
    let gradients: Vec<&[Line]> = starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| &scratch.gradient[start..end])
        .collect();
    for z in 0..view.taps[0] {
        for y in 0..view.taps[1] {
            for x in 0..view.taps[2] {
                let tap = (z * plan.seen.size[1] + y) * row + x;
                for channel_group in 0..channel_groups {
                    for (group, weights) in columns.iter().zip(&gradients) {
                        let call = Products {
                            input: &scratch.turned,
                            first: channel_group * CHANNELS * plan.channel + tap,
                            position: plan.channel,
                            row: POSITIONS * plan.channel,
                            steps: &plan.steps,
                            weights,
                            tiles: group.tiles,
                            bias: None,
                        };
                        multiplier.add_up(&call, &mut sums[index]);
                        index += 1;
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
