//! The vector kernels, written once for every vector width; [`avx2`](super::avx2) and [`avx512`](super::avx512) compile
//! them for their instruction sets.
#![expect(
    clippy::inline_always,
    reason = "the instructions are only to be had inside a function that enables them"
)]
#![allow(
    unsafe_code,
    reason = "vector loads and stores through pointers whose ranges are checked beforehand"
)]

use super::{Outer, Tile};

/// A vector of `f32` of one instruction set.
///
/// # Safety
/// Methods may only run where the machine has the instruction set; pointers must be valid for [`Self::LANES`] values,
/// for the masked ones for the lanes of the mask.
pub(super) trait Vector: Copy {
    const LANES: usize;
    type Mask: Copy;

    /// Mask of the first `lanes` lanes.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Zeros where the mask is off.
    unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_masked(self, to: *mut f32, mask: Self::Mask);
    /// `self + a · b`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// `self − a · b`.
    unsafe fn sub_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// `max(x, 0)`; NaN stays NaN.
    unsafe fn relu(self) -> Self;
}

/// Checks that a tile stays inside its slices, whatever the caller worked out.
pub(super) fn check_tile(out: &[f32], input: &[f32], weights: &[f32], tile: &Tile<'_>, lanes: usize) {
    assert!(tile.lines > 0 && tile.positions > 0 && tile.vectors > 0);
    assert!(tile.columns > (tile.vectors - 1) * lanes && tile.columns <= tile.vectors * lanes);
    let (last_line, last_x) = (tile.lines - 1, tile.positions - 1);
    assert!(tile.out + last_line * tile.out_line + last_x * tile.out_step + tile.columns <= out.len());
    let input_end = tile.input + last_line * tile.input_line + last_x * tile.input_step + tile.depth;
    let weight_end = tile.weight + tile.depth * tile.vectors * lanes;
    for row in tile.rows {
        assert!(row.input + input_end <= input.len());
        assert!(row.weight + weight_end <= weights.len());
    }
}

/// As [`check_tile`], for weight gradients.
pub(super) fn check_outer(sums: &[f32], gathered: &[f32], anchored: &[f32], outer: &Outer<'_>, lanes: usize) {
    assert!(outer.positions > 0 && outer.depth > 0);
    assert!(outer.columns > (outer.vectors - 1) * lanes && outer.columns <= outer.vectors * lanes);
    assert!(outer.sums + outer.depth * outer.vectors * lanes <= sums.len());
    let gathered_end = outer.gathered + (outer.positions - 1) * outer.gathered_step + outer.depth;
    let anchored_end = outer.anchored + (outer.positions - 1) * outer.anchored_step + outer.columns;
    for row in outer.rows {
        assert!(row.gathered + gathered_end <= gathered.len());
        assert!(row.anchored + anchored_end <= anchored.len());
    }
}

/// Quadruples of positions of the widest tile.
const MAX_QUADS: usize = 4;

/// [`Element::accumulate`](super::Element) for `NX` positions and `NV` vectors.
///
/// # Safety
/// The tile has passed [`check_tile`] for these slices, `NX` and `NV` are its, and the machine has the instructions.
#[inline(always)]
pub(super) unsafe fn accumulate<V: Vector, const NX: usize, const NV: usize>(
    out: *mut f32,
    input: *const f32,
    weights: *const f32,
    tile: &Tile<'_>,
) {
    // SAFETY: every offset below is one that `check_tile` has held against the slices' lengths.
    unsafe {
        let mask = V::mask(tile.columns - (NV - 1) * V::LANES);
        let step = tile.input_step;
        let offsets = [0, step, 2 * step, 3 * step];
        for line in 0..tile.lines {
            let out = out.add(tile.out + line * tile.out_line);
            let mut sums = [[V::zero(); NV]; NX];
            for (x, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let from = out.add(x * tile.out_step + v * V::LANES);
                    *sum = if tile.fresh {
                        V::zero()
                    } else if v + 1 < NV {
                        V::load(from)
                    } else {
                        V::load_masked(from, mask)
                    };
                }
            }
            for row in tile.rows {
                let input = input.add(row.input + tile.input + line * tile.input_line);
                // A pointer for every four positions: more would take instructions from the products.
                let mut quads = [input; MAX_QUADS];
                for (index, quad) in quads.iter_mut().enumerate() {
                    *quad = input.wrapping_add(4 * index * step);
                }
                let mut weight = weights.add(row.weight + tile.weight);
                for _ in 0..tile.depth {
                    let mut columns = [V::zero(); NV];
                    for (v, column) in columns.iter_mut().enumerate() {
                        *column = V::load(weight.add(v * V::LANES));
                    }
                    for (x, sums) in sums.iter_mut().enumerate() {
                        let value = V::splat(*quads[x / 4].add(offsets[x % 4]));
                        for (sum, &column) in sums.iter_mut().zip(&columns) {
                            *sum = sum.add_product(value, column);
                        }
                    }
                    for quad in &mut quads {
                        *quad = quad.wrapping_add(1);
                    }
                    weight = weight.add(NV * V::LANES);
                }
            }
            for (x, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let to = out.add(x * tile.out_step + v * V::LANES);
                    if v + 1 < NV {
                        sum.store(to);
                    } else {
                        sum.store_masked(to, mask);
                    }
                }
            }
        }
    }
}

/// [`Element::outer`](super::Element) for a depth of `NJ` and `NV` vectors.
///
/// # Safety
/// The call has passed [`check_outer`] for these slices, `NJ` and `NV` are its, and the machine has the instructions.
#[inline(always)]
pub(super) unsafe fn outer<V: Vector, const NJ: usize, const NV: usize>(
    sums: *mut f32,
    gathered: *const f32,
    anchored: *const f32,
    outer: &Outer<'_>,
) {
    // SAFETY: every offset below is one that `check_outer` has held against the slices' lengths.
    unsafe {
        let stored = sums.add(outer.sums);
        let mask = V::mask(outer.columns - (NV - 1) * V::LANES);
        let mut sums = [[V::zero(); NV]; NJ];
        for (j, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(stored.add((j * NV + v) * V::LANES));
            }
        }
        for row in outer.rows {
            let mut gathered = gathered.add(row.gathered + outer.gathered);
            let mut anchored = anchored.add(row.anchored + outer.anchored);
            for _ in 0..outer.positions {
                let mut columns = [V::zero(); NV];
                for (v, column) in columns.iter_mut().enumerate() {
                    let from = anchored.add(v * V::LANES);
                    *column = if v + 1 < NV {
                        V::load(from)
                    } else {
                        V::load_masked(from, mask)
                    };
                }
                for (j, sums) in sums.iter_mut().enumerate() {
                    let value = V::splat(*gathered.add(j));
                    for (sum, &column) in sums.iter_mut().zip(&columns) {
                        *sum = sum.add_product(value, column);
                    }
                }
                // Past the last position these may leave the slice: they aren't read there.
                gathered = gathered.wrapping_add(outer.gathered_step);
                anchored = anchored.wrapping_add(outer.anchored_step);
            }
        }
        for (j, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                sum.store(stored.add((j * NV + v) * V::LANES));
            }
        }
    }
}
