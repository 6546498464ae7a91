//! AVX2 with FMA: 8 lanes, 16 registers.
#![expect(
    clippy::inline_always,
    reason = "the instructions are only to be had inside a function that enables them"
)]
#![allow(
    unsafe_code,
    reason = "vector instructions behind a check that the machine has them"
)]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::{
    Outer, Tile, scalar, transform,
    vector::{self, Vector, check_outer, check_tile},
    winograd::{Finish, INPUTS, TILE, TileRow},
};

pub(super) const LANES: usize = 8;
pub(super) const MAX_VECTORS: usize = 2;

/// Positions (or depth) by number of vectors: as many sums as leave registers for the operands.
pub(super) const MAX_POSITIONS: [usize; 3] = [0, 12, 6];
pub(super) const MAX_DEPTH: [usize; 3] = [0, 12, 6];

impl Vector for __m256 {
    const LANES: usize = LANES;
    type Mask = __m256i;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> Self::Mask {
        // SAFETY: the trait's callers see to the instruction set; here and below.
        unsafe {
            let indices = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), indices)
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: as above.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above; the pointer is valid for a vector.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self {
        // SAFETY: as above; the pointer is valid for the lanes of the mask.
        unsafe { _mm256_maskload_ps(from, mask) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; the pointer is valid for a vector.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: Self::Mask) {
        // SAFETY: as above; the pointer is valid for the lanes of the mask.
        unsafe { _mm256_maskstore_ps(to, mask, self) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn sub_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fnmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: as above. Of a NaN and a number the instruction gives the second.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), self) }
    }
}

#[target_feature(enable = "avx2,fma")]
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
        vector::accumulate::<__m256, NX, NV>(out.as_mut_ptr(), input.as_ptr(), weights.as_ptr(), tile);
    }
}

#[target_feature(enable = "avx2,fma")]
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
        vector::outer::<__m256, NJ, NV>(sums.as_mut_ptr(), gathered.as_ptr(), anchored.as_ptr(), outer);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn accumulate(out: &mut [f32], input: &[f32], weights: &[f32], tile: &Tile<'_>) {
    super::sizes::select!(accumulate_sized(out, input, weights, tile), tile.vectors, tile.positions, {
        1: 1 2 3 4 5 6 7 8 9 10 11 12,
        2: 1 2 3 4 5 6,
    });
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn outer(sums: &mut [f32], gathered: &[f32], anchored: &[f32], outer: &Outer<'_>) {
    super::sizes::select!(outer_sized(sums, gathered, anchored, outer), outer.vectors, outer.depth, {
        1: 1 2 3 4 5 6 7 8 9 10 11 12,
        2: 1 2 3 4 5 6,
    });
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn relu(values: &mut [f32]) {
    scalar::relu(values);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn transform_inputs(transformed: &mut [f32], volume: &[f32], call: &TileRow<{ INPUTS[0] }>) {
    // SAFETY: the function's own target feature.
    unsafe { transform::inputs::<__m256>(transformed, volume, call) }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn transform_gradients(transformed: &mut [f32], volume: &[f32], call: &TileRow<{ TILE[0] }>) {
    // SAFETY: as above.
    unsafe { transform::gradients::<__m256>(transformed, volume, call) }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn transform_outputs(
    outputs: [&mut [f32]; 2],
    transformed: &[f32],
    finish: Finish<'_, f32>,
    call: &TileRow<{ TILE[0] }>,
) {
    // SAFETY: as above.
    unsafe { transform::outputs::<__m256>(outputs, transformed, finish, call) }
}
