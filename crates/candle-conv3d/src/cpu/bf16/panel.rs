//! A piece of a volume as the products read it: with zeros around, so that no position is special.

use std::ops::Range;

use half::bf16;

use crate::{
    error::{Conv3dError, check_length},
    kernels::products::{DEPTH, Line},
};

/// A channels-last volume `[N, D, H, W, C]` of which a lattice of positions sees, at position `a`, the voxels
/// `(a + first + t)·stride + phase` for each tap `t`, on each axis; voxels outside are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) volume: Stored<'a>,
    /// Axes D, H, W.
    pub(super) size: [usize; 3],
    pub(super) stride: usize,
    pub(super) phase: [usize; 3],
    pub(super) first: [isize; 3],
    pub(super) taps: [usize; 3],
    /// Whether all that a position sees stands side by side in its panel, as one voxel of many channels (by tap, channel):
    /// of few channels products would be of zeros for the most part. For stride 1.
    pub(super) unfolded: bool,
}

impl View<'_> {
    /// Voxels of a panel that a position sees, on each axis.
    pub(super) fn spread(&self) -> [usize; 3] {
        if self.unfolded { [1; 3] } else { self.taps }
    }

    /// Values of a panel's voxel.
    fn voxel(&self) -> usize {
        if self.unfolded {
            unfolded_values(self.taps, self.volume.channels)
        } else {
            voxel_values(self.volume.channels)
        }
    }
}

/// Values that a position takes in a panel where all that it sees stands side by side: whole steps.
pub(super) fn unfolded_values(taps: [usize; 3], channels: usize) -> usize {
    (taps.iter().product::<usize>() * channels).next_multiple_of(DEPTH)
}

/// A channels-last volume in memory.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The volume's values and, where it has a halo, what stands before and behind them.
    pub values: &'a [bf16],
    /// Where its first voxel is.
    pub start: usize,
    /// Its channels.
    pub channels: usize,
    /// Whether it has a [halo](crate::haloed_zeros).
    pub halo: bool,
}

impl<'a> Stored<'a> {
    /// Values without a halo.
    pub(super) fn dense(values: &'a [bf16], channels: usize) -> Self {
        Self {
            values,
            start: 0,
            channels,
            halo: false,
        }
    }

    /// Refuses values that are no volumes of this size.
    pub(super) fn check(&self, batch: usize, size: [usize; 3]) -> Result<(), Conv3dError> {
        let length = voxels_with_halo(batch, size, self.halo) * self.channels;
        let found = self.values.len().saturating_sub(self.start);
        // Behind a halo more may follow.
        check_length(
            "a source",
            length,
            if self.halo { found.min(length) } else { found },
        )
    }
}

/// Voxels of that many volumes of a size, their halos among them.
pub(super) fn voxels_with_halo(batch: usize, [depth, height, width]: [usize; 3], halo: bool) -> usize {
    let [height, width] = with_halo([height, width], halo);
    batch * depth * height * width
}

/// Rows and their voxels as they follow one another in a plane `[H, W]`, a halo among them.
pub(super) fn with_halo([height, width]: [usize; 2], halo: bool) -> [usize; 2] {
    [height + usize::from(halo), width + usize::from(halo)]
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
        let size = [0, 1].map(|axis| positions[axis] + view.spread()[axis] - 1);
        Self {
            size: [size[0], size[1], row],
            voxel: view.voxel(),
        }
    }

    /// Of a view's planes where they are, for products that read them there.
    pub(super) fn in_place(view: &View<'_>) -> Self {
        let [depth, height, width] = view.size;
        let [height, width] = with_halo([height, width], view.volume.halo);
        Self {
            size: [depth, height, width],
            voxel: view.volume.channels,
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
        let at = [block.start[0] + at[0], block.start[1] + at[1]];
        if view.unfolded {
            let taps = (0..view.taps[0]).flat_map(|z| (0..view.taps[1]).map(move |y| [z, y]));
            for (index, taps) in taps.enumerate() {
                let at = [at[0] + taps[0], at[1] + taps[1]];
                let first = index * view.taps[2] * view.volume.channels;
                let input = input_row(view, block.n, at).unwrap_or_default();
                unfold_row(row, view, shape.voxel, first, block.start[2], input);
            }
            continue;
        }
        match input_row(view, block.n, at) {
            Some(input) => fill_row(row, view, shape.voxel, block.start[2], input),
            None => row.fill(bf16::ZERO),
        }
    }
}

/// The row that the first taps of positions of a row `[z, y]` see, if there is one.
fn input_row<'a>(view: &View<'a>, n: usize, at: [usize; 2]) -> Option<&'a [bf16]> {
    let input = |axis: usize| {
        at[axis]
            .checked_add_signed(view.first[axis])
            .map(|position| position * view.stride + view.phase[axis])
            .filter(|input| *input < view.size[axis])
    };
    let (z, y, volume) = (input(0)?, input(1)?, &view.volume);
    let [height, width] = with_halo([view.size[1], view.size[2]], volume.halo);
    let voxel = ((n * view.size[0] + z) * height + y) * width;
    let row = &volume.values[volume.start + voxel * volume.channels..];
    Some(&row[..view.size[2] * volume.channels])
}

/// Puts what each position's row of taps sees of an input row into its voxel, from value `first` on. Rows come in order: what
/// a row of taps writes behind its own values the next one overwrites.
fn unfold_row(row: &mut [bf16], view: &View<'_>, voxel: usize, first: usize, start: usize, input: &[bf16]) {
    let (taps, channels) = (view.taps[2], view.volume.channels);
    let length = taps * channels;
    let last = first + length == view.taps.iter().product::<usize>() * channels;
    let origin = start as isize + view.first[2];
    for (column, to) in (origin..).zip(row.chunks_exact_mut(voxel)) {
        let seen = usize::try_from(column).ok();
        let values = seen
            .and_then(|seen| input.get(seen * channels..))
            .unwrap_or_default();
        let to = &mut to[first..];
        match (to.first_chunk_mut::<4>(), values.first_chunk::<4>()) {
            // The usual case: one move.
            (Some(to), Some(values)) if length == 3 && !last => *to = *values,
            _ => {
                // Taps before and behind the input are zeros.
                let missing = column.min(0).unsigned_abs().min(taps) * channels;
                let values = if missing > 0 { input } else { values };
                let count = (length - missing).min(values.len());
                to[..missing].fill(bf16::ZERO);
                to[missing..][..count].copy_from_slice(&values[..count]);
                to[missing + count..length].fill(bf16::ZERO);
            }
        }
    }
}

fn fill_row(row: &mut [bf16], view: &View<'_>, voxel: usize, start: usize, input: &[bf16]) {
    let channels = view.volume.channels;
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
    let input = &input[first * channels..];
    if view.stride == 1 && voxel == channels {
        body.copy_from_slice(&input[..body.len()]);
        return;
    }
    let voxels = input.chunks(view.stride * channels);
    for (to, from) in body.chunks_exact_mut(voxel).zip(voxels) {
        let (values, padding) = to.split_at_mut(channels);
        values.copy_from_slice(&from[..channels]);
        padding.fill(bf16::ZERO);
    }
}
