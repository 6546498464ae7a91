//! Sums of products of bf16, in f32: the inner loop of everything that is computed in bf16.
//!
//! What all instruction sets have in common is the shape of a matrix tile: 16 positions × 16 columns of sums, 32 values of
//! depth a step. A call adds up two rows of tiles at once, so that what is loaded is used twice.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use std::{marker::PhantomData, ops::Range};

use half::bf16;

use super::{Isa, isa::ProductSet};

/// Positions of a tile.
pub(crate) const POSITIONS: usize = 16;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 16;
/// Values of depth that a step adds up.
pub(crate) const DEPTH: usize = 32;
/// Rows of tiles of a call.
pub(crate) const ROWS: usize = 2;
/// Most tiles in a row: sums and operands share eight registers.
pub(crate) const MAX_TILES: usize = 3;
/// Sums of a tile.
pub(crate) const TILE: usize = POSITIONS * COLUMNS;

/// 32 values in a cache line of their own: of weights, the pairs of depth `2p` and `2p + 1` of all 16 columns.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [bf16; DEPTH]);

impl Line {
    pub(crate) const ZERO: Self = Self([bf16::ZERO; DEPTH]);
}

/// In which line of a step's, in each tile, the weight of this depth and column is, and where in it.
pub(crate) fn line_of(depth: usize, column: usize) -> (usize, usize) {
    (depth / 2, 2 * column + depth % 2)
}

/// Lines of weights that a tile takes a step.
pub(crate) const TILE_LINES: usize = DEPTH / 2;

/// Sums of a call: by row, tile, position, column.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub [f32; ROWS * MAX_TILES * TILE]);

impl Sums {
    pub(crate) const ZERO: Self = Self([0.0; ROWS * MAX_TILES * TILE]);
}

/// Where the steps read: offsets of their first value from a position's first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps {
    /// In bytes.
    offsets: Vec<usize>,
    /// Values from a position's first to the end of the furthest step.
    reach: usize,
}

impl Steps {
    /// Offsets in values.
    pub(crate) fn new(offsets: impl IntoIterator<Item = usize>) -> Self {
        let mut steps = Self::default();
        for offset in offsets {
            steps.offsets.push(offset * size_of::<bf16>());
            steps.reach = steps.reach.max(offset + DEPTH);
        }
        steps
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Values from a position's first to the end of what the steps read.
    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    fn values(&self) -> impl Iterator<Item = usize> + Clone {
        self.offsets.iter().map(|offset| offset / size_of::<bf16>())
    }
}

/// A call: for each row `r`, tile `t`, position `i` and column `o`
/// `sums[((r·tiles + t)·16 + i)·16 + o] = start + Σ_s Σ_k input[first + r·row + i·position + steps[s] + k] · w`
/// with `w` the weight of depth `k` in column `o` of tile `t` of step `s`, and `start` the sum before, or `bias[16·t + o]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Products<'a> {
    pub input: &'a [bf16],
    pub first: usize,
    pub position: usize,
    pub row: usize,
    pub steps: &'a Steps,
    /// By step, pair of depth, tile.
    pub weights: &'a [Line],
    pub tiles: usize,
    /// Where the sums begin; `None`: at what they are.
    pub bias: Option<&'a [f32; MAX_TILES * COLUMNS]>,
}

/// A thread's use of the instruction set, which has to be prepared and given back.
pub(crate) struct Multiplier {
    set: ProductSet,
    /// The state is the thread's.
    thread: PhantomData<*const ()>,
}

impl Multiplier {
    pub(crate) fn new(isa: Isa) -> Self {
        let set = isa.products();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if set == ProductSet::Amx {
            #[expect(unsafe_code, reason = "an instruction of the set")]
            // SAFETY: an `Isa` is only made where the machine has it.
            unsafe {
                amx::configure();
            }
        }
        Self {
            set,
            thread: PhantomData,
        }
    }

    /// See [`Products`].
    pub(crate) fn add_up(&self, call: &Products<'_>, sums: &mut Sums) {
        // What the instructions read is checked here once for all of them.
        let last = call.first + (ROWS - 1) * call.row + (POSITIONS - 1) * call.position;
        assert!(
            last + call.steps.reach <= call.input.len()
                && (1..=MAX_TILES).contains(&call.tiles)
                && call.weights.len() == call.steps.len() * call.tiles * TILE_LINES
        );
        if call.steps.len() == 0 {
            scalar::add_up(call, sums);
            return;
        }
        #[allow(
            unsafe_code,
            reason = "calls of functions for an instruction set that the `Isa` stands for"
        )]
        match self.set {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: the reads are checked, the tiles configured.
            ProductSet::Amx => unsafe { amx::add_up(call, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the reads are checked, and an `Isa` is only made where the machine has it.
            ProductSet::Avx512Bf16 => unsafe { avx512::add_up_bf16(call, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            ProductSet::Avx512 => unsafe { avx512::add_up_widened(call, sums) },
            _ => scalar::add_up(call, sums),
        }
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.set == ProductSet::Amx {
            #[expect(unsafe_code, reason = "an instruction of the set")]
            // SAFETY: as for `new`.
            unsafe {
                amx::release();
            }
        }
    }
}

/// Whether the processor has AMX with bf16 and the system lets this process use it.
#[cfg(target_arch = "x86_64")]
pub(super) fn amx_is_available() -> bool {
    #[cfg(target_os = "linux")]
    return amx::is_available();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Where sums go: `count` positions from `position` on to `start`, `start + step`, …, the first `columns` columns of
/// all tiles of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub row: usize,
    pub tiles: usize,
    pub position: usize,
    pub count: usize,
    pub columns: usize,
    pub relu: bool,
    pub start: usize,
    pub step: usize,
}

impl Run {
    fn check(&self, length: usize) {
        assert!(
            self.count >= 1
                && self.row < ROWS
                && self.tiles <= MAX_TILES
                && self.position + self.count <= POSITIONS
                && self.columns <= self.tiles * COLUMNS
                && self.start + (self.count - 1) * self.step + self.columns <= length
        );
    }

    /// Where the columns of a tile of a position are among the sums.
    fn place(&self, tile: usize, position: usize) -> usize {
        ((self.row * self.tiles + tile) * POSITIONS + self.position + position) * COLUMNS
    }
}

/// A type that sums are rounded to.
pub(crate) trait Rounded: Copy + Send + Sync {
    /// Writes sums where they go.
    fn store(isa: Isa, sums: &Sums, run: &Run, out: &mut [Self]);

    /// Rounds values, as many as there are places.
    fn round(isa: Isa, values: &[f32], out: &mut [Self]);
}

#[allow(
    unsafe_code,
    reason = "calls of functions for an instruction set that the `Isa` stands for"
)]
impl Rounded for bf16 {
    fn store(isa: Isa, sums: &Sums, run: &Run, out: &mut [Self]) {
        run.check(out.len());
        match isa.products() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: checked, and an `Isa` is only made where the machine has it.
            ProductSet::Amx | ProductSet::Avx512Bf16 => unsafe { avx512::store_bf16(sums, run, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            ProductSet::Avx512 => unsafe { avx512::store_rounded(sums, run, out) },
            _ => scalar::store(sums, run, out, bf16::from_f32),
        }
    }

    fn round(isa: Isa, values: &[f32], out: &mut [Self]) {
        match isa.products() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` is only made where the machine has it.
            ProductSet::Amx | ProductSet::Avx512Bf16 | ProductSet::Avx512 => unsafe {
                avx512::round(values, out);
            },
            ProductSet::Scalar => {
                for (out, &value) in out.iter_mut().zip(values) {
                    *out = bf16::from_f32(value);
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => {}
        }
    }
}

impl Rounded for f32 {
    fn store(_: Isa, sums: &Sums, run: &Run, out: &mut [Self]) {
        run.check(out.len());
        scalar::store(sums, run, out, |sum| sum);
    }

    fn round(_: Isa, values: &[f32], out: &mut [Self]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = value;
        }
    }
}

/// Writes lines of weights of which the depth are neighbouring voxels, `voxel` values apart, and the columns these
/// channels, 16 at most: that of voxels `2p` and `2p + 1` to `out[p·tiles]`, for as many as there is room for. Voxels that
/// are not there, and channels, are zeros.
pub(crate) fn pair_lines(
    isa: Isa,
    voxels: &[bf16],
    voxel: usize,
    channels: Range<usize>,
    tiles: usize,
    out: &mut [Line],
) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if isa.products() != ProductSet::Scalar && channels.len() == COLUMNS && voxel > 0 {
        // The second voxel of a pair is its last value.
        let whole = (voxels.len() + voxel).saturating_sub(channels.end) / voxel / 2;
        done = whole.min(out.len().div_ceil(tiles));
        #[expect(
            unsafe_code,
            reason = "a function for an instruction set that the `Isa` stands for"
        )]
        // SAFETY: an `Isa` is only made where the machine has it; voxels 2p and 2p + 1 have these channels, and line
        // p·tiles is there, for all pairs p below `done`.
        unsafe {
            let from = voxels.as_ptr().add(channels.start);
            avx512::pair_lines(from, voxel, done, out.as_mut_ptr(), tiles);
        }
    }
    let values = |index: usize| {
        let values = voxels.get(index * voxel..).unwrap_or_default();
        values.get(channels.clone()).unwrap_or_default()
    };
    for (pair, line) in out.iter_mut().step_by(tiles).enumerate().skip(done) {
        *line = scalar::line(values(2 * pair), values(2 * pair + 1));
    }
}

/// `to[c·channel + v] = from[v·voxel + c]` for the first voxels and channels.
pub(crate) fn transpose(
    isa: Isa,
    from: &[bf16],
    voxel: usize,
    [voxels, channels]: [usize; 2],
    to: &mut [bf16],
    channel: usize,
) {
    let (mut done_voxels, mut done_channels) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if isa.products() != ProductSet::Scalar && channels <= voxel && voxels > 0 {
        (done_voxels, done_channels) = (voxels / DEPTH * DEPTH, channels / COLUMNS * COLUMNS);
        assert!(
            done_voxels == 0
                || done_channels == 0
                || ((done_voxels - 1) * voxel + done_channels <= from.len()
                    && (done_channels - 1) * channel + done_voxels <= to.len())
        );
        for v in (0..done_voxels).step_by(DEPTH) {
            for c in (0..done_channels).step_by(COLUMNS) {
                #[expect(
                    unsafe_code,
                    reason = "a function for an instruction set that the `Isa` stands for"
                )]
                // SAFETY: an `Isa` is only made where the machine has it; what is read and written is checked above.
                unsafe {
                    let (from, to) = (
                        from.as_ptr().add(v * voxel + c),
                        to.as_mut_ptr().add(c * channel + v),
                    );
                    avx512::transpose(from, voxel, to, channel);
                }
            }
        }
    }
    // What is left: the last voxels of the channels that are done, and the last channels.
    scalar::transpose(from, voxel, [done_voxels..voxels, 0..done_channels], to, channel);
    scalar::transpose(from, voxel, [0..voxels, done_channels..channels], to, channel);
}
