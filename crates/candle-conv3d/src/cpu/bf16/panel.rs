//! A piece of a volume as the products read it: with zeros around, so that no position is special.

use std::ops::Range;

use half::bf16;

use crate::kernels::products::{DEPTH, Line};

/// A channels-last volume `[N, D, H, W, C]` of which a lattice of positions sees, at position `a`, the voxels
/// `(a + first + t)·stride + phase` for each tap `t`, on each axis; voxels outside are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [bf16],
    pub(super) channels: usize,
    /// Axes D, H, W.
    pub(super) size: [usize; 3],
    pub(super) stride: usize,
    pub(super) phase: [usize; 3],
    pub(super) first: [isize; 3],
    pub(super) taps: [usize; 3],
}

/// Positions of a lattice that are computed together: of image `n`, `size` from `start` on (axes D, H, W).
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) n: usize,
    pub(super) start: [usize; 3],
    pub(super) size: [usize; 3],
}

/// Where a panel's voxels are: plane after plane, row after row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Axes D, H, W.
    pub(super) size: [usize; 3],
    /// Values of a voxel.
    pub(super) voxel: usize,
}

/// Values that a voxel takes in a panel: whole pairs.
pub(super) fn voxel_values(channels: usize) -> usize {
    channels.next_multiple_of(2)
}

impl Shape {
    /// Of what a block of these positions sees of a view, in rows of this many voxels.
    pub(super) fn new(view: &View<'_>, positions: [usize; 3], row: usize) -> Self {
        let size = [0, 1].map(|axis| positions[axis] + view.taps[axis] - 1);
        Self {
            size: [size[0], size[1], row],
            voxel: voxel_values(view.channels),
        }
    }

    /// Values from row to row.
    pub(super) fn row(&self) -> usize {
        self.size[2] * self.voxel
    }

    /// Values from plane to plane.
    pub(super) fn plane(&self) -> usize {
        self.size[1] * self.row()
    }

    pub(super) fn len(&self) -> usize {
        self.size[0] * self.plane()
    }
}

/// Memory of a panel, which begins where a cache line does: matrix registers take several times as long to load rows
/// that lie across two lines.
#[derive(Debug, Default)]
pub(super) struct Panel {
    values: Vec<bf16>,
    first: usize,
    len: usize,
}

impl Panel {
    /// Makes room for that many values; what they are is not said.
    pub(super) fn make_room(&mut self, len: usize) {
        if self.values.len() < len + DEPTH {
            self.values.resize(len + DEPTH, bf16::ZERO);
        }
        // Never more than a line: an address that cannot be aligned is as good as any.
        self.first = self.values.as_ptr().align_offset(align_of::<Line>()).min(DEPTH);
        self.len = len;
    }

    /// Room for a shape, with `slack` zeros behind it.
    pub(super) fn make_room_for(&mut self, shape: &Shape, slack: usize) {
        self.make_room(shape.len() + slack);
        // Products with weights of zero look there: a NaN of an earlier block would come back.
        self.values_mut()[shape.len()..].fill(bf16::ZERO);
    }

    pub(super) fn values(&self) -> &[bf16] {
        &self.values[self.first..][..self.len]
    }

    pub(super) fn values_mut(&mut self) -> &mut [bf16] {
        &mut self.values[self.first..][..self.len]
    }
}

/// Fills some planes of a panel with what a block sees of a view.
pub(super) fn fill(panel: &mut [bf16], view: &View<'_>, shape: &Shape, block: &Block, planes: Range<usize>) {
    let row_len = shape.row();
    let first = planes.start * shape.size[1];
    let values = &mut panel[planes.start * shape.plane()..planes.end * shape.plane()];
    for (index, row) in values.chunks_exact_mut(row_len.max(1)).enumerate() {
        let index = first + index;
        let at = [index / shape.size[1], index % shape.size[1]];
        let inputs = [0, 1].map(|axis| {
            let position = (block.start[axis] + at[axis]).checked_add_signed(view.first[axis]);
            position
                .map(|position| position * view.stride + view.phase[axis])
                .filter(|input| *input < view.size[axis])
        });
        match inputs {
            [Some(z), Some(y)] => {
                let voxel = ((block.n * view.size[0] + z) * view.size[1] + y) * view.size[2];
                let input = &view.values[voxel * view.channels..][..view.size[2] * view.channels];
                fill_row(row, view, shape.voxel, block.start[2], input);
            }
            _ => row.fill(bf16::ZERO),
        }
    }
}

fn fill_row(row: &mut [bf16], view: &View<'_>, voxel: usize, start: usize, input: &[bf16]) {
    let columns = row.len() / voxel.max(1);
    // Panel column c is voxel (start + c + first)·stride + phase; those inside are neighbours.
    let origin = start as isize + view.first[2];
    let before = (-origin).max(0).unsigned_abs().min(columns);
    let seen = view.size[2].saturating_sub(view.phase[2]).div_ceil(view.stride);
    let end = (seen as isize - origin)
        .clamp(before as isize, columns as isize)
        .unsigned_abs();
    let (head, rest) = row.split_at_mut(before * voxel);
    let (body, tail) = rest.split_at_mut((end - before) * voxel);
    head.fill(bf16::ZERO);
    tail.fill(bf16::ZERO);
    if body.is_empty() {
        return;
    }
    let first = (before as isize + origin).unsigned_abs() * view.stride + view.phase[2];
    let input = &input[first * view.channels..];
    if view.stride == 1 && voxel == view.channels {
        body.copy_from_slice(&input[..body.len()]);
        return;
    }
    let voxels = input.chunks(view.stride * view.channels);
    for (to, from) in body.chunks_exact_mut(voxel).zip(voxels) {
        let (values, padding) = to.split_at_mut(view.channels);
        values.copy_from_slice(&from[..view.channels]);
        padding.fill(bf16::ZERO);
    }
}
