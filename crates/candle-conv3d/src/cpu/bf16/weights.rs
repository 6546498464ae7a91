//! Weights in the order in which the products read them.

use half::bf16;

use super::panel::{Shape, voxel_values};
use crate::kernels::products::{COLUMNS, DEPTH, Line, MAX_TILES, Steps, TILE_LINES, line_of};

/// Output channels that one call computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// First output channel.
    pub(super) first: usize,
    pub(super) columns: usize,
    pub(super) tiles: usize,
}

/// Splits output channels into groups of as equal numbers of tiles as can be.
pub(super) fn groups(columns: usize) -> Vec<Group> {
    let tiles = columns.div_ceil(COLUMNS);
    let count = tiles.div_ceil(MAX_TILES).max(1);
    (0..count)
        .map(|index| (tiles * index / count, tiles * (index + 1) / count))
        .filter(|(start, end)| start < end)
        .map(|(start, end)| Group {
            first: start * COLUMNS,
            columns: (end * COLUMNS).min(columns) - start * COLUMNS,
            tiles: end - start,
        })
        .collect()
}

/// The weights of one view for one set of outputs, rounded to bf16.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// Taps on each axis, from the view's first on.
    taps: [usize; 3],
    channels: usize,
    /// Of each group: by step, pair of depth, tile.
    groups: Vec<Vec<Line>>,
}

impl Packed {
    /// `weight(tap, channel, column)`, for these taps on each axis.
    pub(super) fn new(
        taps: [usize; 3],
        channels: usize,
        columns: usize,
        weight: impl Fn([usize; 3], usize, usize) -> f32,
    ) -> Self {
        let voxel = voxel_values(channels);
        let row_steps = (taps[2] * voxel).div_ceil(DEPTH);
        let group = |group: Group| {
            let mut lines = vec![Line::ZERO; taps[0] * taps[1] * row_steps * group.tiles * TILE_LINES];
            for row in 0..taps[0] * taps[1] {
                for depth in 0..taps[2] * voxel {
                    let (tap, channel) = (depth / voxel, depth % voxel);
                    if channel >= channels {
                        continue;
                    }
                    let step = row * row_steps + depth / DEPTH;
                    for column in 0..group.columns {
                        let (line, place) = line_of(depth % DEPTH, column % COLUMNS);
                        let line = (step * TILE_LINES + line) * group.tiles + column / COLUMNS;
                        let value =
                            weight([row / taps[1], row % taps[1], tap], channel, group.first + column);
                        lines[line].0[place] = bf16::from_f32(value);
                    }
                }
            }
            lines
        };
        Self {
            taps,
            channels,
            groups: groups(columns).into_iter().map(group).collect(),
        }
    }

    /// The weights of a group.
    pub(super) fn group(&self, index: usize) -> &[Line] {
        &self.groups[index]
    }

    /// Where the steps read in a panel: a row of taps is contiguous there, as in the weights.
    pub(super) fn steps(&self, shape: &Shape) -> Steps {
        let row_steps = (self.taps[2] * voxel_values(self.channels)).div_ceil(DEPTH);
        let rows = (0..self.taps[0] * self.taps[1])
            .map(|row| row / self.taps[1] * shape.plane() + row % self.taps[1] * shape.row());
        Steps::new(rows.flat_map(|row| (0..row_steps).map(move |step| row + step * DEPTH)))
    }
}
