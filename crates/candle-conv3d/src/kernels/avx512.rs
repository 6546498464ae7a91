//! AVX-512F: 16 lanes, 32 registers.
#![expect(
    clippy::inline_always,
    reason = "the instructions are only to be had inside a function that enables them"
)]
#![allow(
    unsafe_code,
    reason = "vector instructions behind a check that the machine has them"
)]

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{
    Outer, Tile, scalar, transform,
    vector::{self, Vector, check_outer, check_tile},
    winograd::{Finish, INPUTS, TILE, TileRow},
};

pub(super) const LANES: usize = 16;
pub(super) const MAX_VECTORS: usize = 4;

/// Positions (or depth) by number of vectors: as many sums as leave registers for the operands.
pub(super) const MAX_POSITIONS: [usize; 5] = [0, 16, 14, 9, 6];
pub(super) const MAX_DEPTH: [usize; 5] = [0, 24, 12, 9, 6];

impl Vector for __m512 {
    const LANES: usize = LANES;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> Self::Mask {
        u16::MAX >> (LANES - lanes)
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's callers see to the instruction set; here and below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above; the pointer is valid for a vector.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self {
        // SAFETY: as above; the pointer is valid for the lanes of the mask.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; the pointer is valid for a vector.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: Self::Mask) {
        // SAFETY: as above; the pointer is valid for the lanes of the mask.
        unsafe { _mm512_mask_storeu_ps(to, mask, self) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn sub_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fnmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: as above. Of a NaN and a number the instruction gives the second.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), self) }
    }
}

#[target_feature(enable = "avx512f")]
fn accumulate_sized<const NX: usize, const NV: usize>(
    out: &mut [f32],
    input: &[f32],
    weights: &[f32],
    tile: &Tile<'_>,
) {
    check_tile(out, input, weights, tile, LANES);
    assert!(tile.positions == NX && tile.vectors == NV);
    // SAFETY: checked just now; the function's own target feature.
    unsafe {
        vector::accumulate::<__m512, NX, NV>(out.as_mut_ptr(), input.as_ptr(), weights.as_ptr(), tile);
    }
}

#[target_feature(enable = "avx512f")]
fn outer_sized<const NJ: usize, const NV: usize>(
    sums: &mut [f32],
    gathered: &[f32],
    anchored: &[f32],
    outer: &Outer<'_>,
) {
    check_outer(sums, gathered, anchored, outer, LANES);
    assert!(outer.depth == NJ && outer.vectors == NV);
    // SAFETY: checked just now; the function's own target feature.
    unsafe {
        vector::outer::<__m512, NJ, NV>(sums.as_mut_ptr(), gathered.as_ptr(), anchored.as_ptr(), outer);
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn accumulate(out: &mut [f32], input: &[f32], weights: &[f32], tile: &Tile<'_>) {
    super::sizes::select!(accumulate_sized(out, input, weights, tile), tile.vectors, tile.positions, {
        1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16,
        2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14,
        3: 1 2 3 4 5 6 7 8 9,
        4: 1 2 3 4 5 6,
    });
}

#[target_feature(enable = "avx512f")]
pub(super) fn outer(sums: &mut [f32], gathered: &[f32], anchored: &[f32], outer: &Outer<'_>) {
    super::sizes::select!(outer_sized(sums, gathered, anchored, outer), outer.vectors, outer.depth, {
        1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24,
        2: 1 2 3 4 5 6 7 8 9 10 11 12,
        3: 1 2 3 4 5 6 7 8 9,
        4: 1 2 3 4 5 6,
    });
}

#[target_feature(enable = "avx512f")]
pub(super) fn relu(values: &mut [f32]) {
    scalar::relu(values);
}

#[target_feature(enable = "avx512f")]
pub(super) fn transform_inputs(transformed: &mut [f32], volume: &[f32], call: &TileRow<{ INPUTS[0] }>) {
    // SAFETY: the function's own target feature.
    unsafe { transform::inputs::<__m512>(transformed, volume, call) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn transform_gradients(transformed: &mut [f32], volume: &[f32], call: &TileRow<{ TILE[0] }>) {
    // SAFETY: as above.
    unsafe { transform::gradients::<__m512>(transformed, volume, call) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn transform_outputs(
    outputs: [&mut [f32]; 2],
    transformed: &[f32],
    finish: Finish<'_, f32>,
    call: &TileRow<{ TILE[0] }>,
) {
    // SAFETY: as above.
    unsafe { transform::outputs::<__m512>(outputs, transformed, finish, call) }
}
