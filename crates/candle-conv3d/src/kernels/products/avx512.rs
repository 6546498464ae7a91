//! Products with AVX-512: with its bf16 instructions, or widened to f32.
#![expect(
    clippy::inline_always,
    reason = "the instructions are only to be had inside a function that enables them"
)]
#![allow(
    unsafe_code,
    reason = "vector instructions behind a check that the machine has them"
)]

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _CMP_UNORD_Q, _mm256_loadu_si256, _mm256_mask_storeu_epi16,
    _mm256_storeu_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmp_ps_mask, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_cvtepi32_storeu_epi16,
    _mm512_mask_mov_epi32, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_or_si512, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_store_si512, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use half::bf16;

use super::{COLUMNS, Line, POSITIONS, Products, ROWS, Run, Sums, TILE, TILE_LINES};

/// Positions whose sums are in registers at once, with three tiles.
const AT_ONCE: usize = 8;

/// How pairs are multiplied and added up.
trait Dot {
    /// A vector of pairs of weights, prepared.
    type Weights: Copy;

    /// # Safety
    /// The machine has the instructions; here and below.
    unsafe fn prepare(weights: __m512i) -> Self::Weights;

    /// `sum + pair · weights`, with the pair in each lane of `pair`.
    unsafe fn add(sum: __m512, pair: __m512i, weights: Self::Weights) -> __m512;
}

/// The bf16 instruction.
struct Native;

impl Dot for Native {
    type Weights = __m512i;

    #[inline(always)]
    unsafe fn prepare(weights: __m512i) -> Self::Weights {
        weights
    }

    #[inline(always)]
    unsafe fn add(sum: __m512, pair: __m512i, weights: Self::Weights) -> __m512 {
        // SAFETY: the callers see to the instruction set; both types are 512 bits of anything.
        unsafe {
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512i, __m512bh>(pair),
                std::mem::transmute::<__m512i, __m512bh>(weights),
            )
        }
    }
}

/// Both halves widened to f32.
struct Widened;

impl Dot for Widened {
    type Weights = [__m512; 2];

    #[inline(always)]
    unsafe fn prepare(weights: __m512i) -> Self::Weights {
        // SAFETY: the callers see to the instruction set. A bf16 is the upper half of an f32.
        unsafe {
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(weights)),
                _mm512_castsi512_ps(_mm512_and_si512(weights, _mm512_set1_epi32(!0xFFFF))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512, pair: __m512i, [even, odd]: Self::Weights) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let [first, second] = Self::prepare(pair);
            _mm512_fmadd_ps(second, odd, _mm512_fmadd_ps(first, even, sum))
        }
    }
}

/// # Safety
/// The call's reads are within its slices, and the machine has the instructions.
#[inline(always)]
unsafe fn add_up<D: Dot, const TILES: usize>(call: &Products<'_>, sums: &mut Sums) {
    for row in 0..ROWS {
        for first in (0..POSITIONS).step_by(AT_ONCE) {
            // SAFETY: places are within `Sums` for up to `MAX_TILES` tiles; the caller answers for the reads.
            unsafe {
                let place =
                    |tile: usize, position: usize| (row * TILES + tile) * TILE + (first + position) * COLUMNS;
                let mut values = [[_mm512_setzero_ps(); TILES]; AT_ONCE];
                for (position, values) in values.iter_mut().enumerate() {
                    for (tile, value) in values.iter_mut().enumerate() {
                        *value = match call.bias {
                            Some(bias) => _mm512_loadu_ps(bias.as_ptr().add(tile * COLUMNS)),
                            None => _mm512_loadu_ps(sums.0.as_ptr().add(place(tile, position))),
                        };
                    }
                }
                let input = call
                    .input
                    .as_ptr()
                    .add(call.first + row * call.row + first * call.position);
                let mut weights = call.weights.as_ptr();
                for offset in call.steps.values() {
                    let input = input.add(offset);
                    for pair in 0..TILE_LINES {
                        let prepared: [D::Weights; TILES] = std::array::from_fn(|tile| {
                            D::prepare(_mm512_loadu_si512(weights.add(pair * TILES + tile).cast()))
                        });
                        for (position, values) in values.iter_mut().enumerate() {
                            let pair = input.add(position * call.position + 2 * pair);
                            let pair = i32::from_le_bytes(pair.cast::<[u8; 4]>().read());
                            let pair = _mm512_set1_epi32(pair);
                            for (value, &weights) in values.iter_mut().zip(&prepared) {
                                *value = D::add(*value, pair, weights);
                            }
                        }
                    }
                    weights = weights.add(TILES * TILE_LINES);
                }
                for (position, values) in values.iter().enumerate() {
                    for (tile, value) in values.iter().enumerate() {
                        _mm512_storeu_ps(sums.0.as_mut_ptr().add(place(tile, position)), *value);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As for the generic function.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn add_up_bf16(call: &Products<'_>, sums: &mut Sums) {
    // SAFETY: the caller's.
    unsafe {
        match call.tiles {
            1 => add_up::<Native, 1>(call, sums),
            2 => add_up::<Native, 2>(call, sums),
            _ => add_up::<Native, 3>(call, sums),
        }
    }
}

/// # Safety
/// As for the generic function.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_up_widened(call: &Products<'_>, sums: &mut Sums) {
    // SAFETY: the caller's.
    unsafe {
        match call.tiles {
            1 => add_up::<Widened, 1>(call, sums),
            2 => add_up::<Widened, 2>(call, sums),
            _ => add_up::<Widened, 3>(call, sums),
        }
    }
}

/// Calls `put(value, mask, where)` for each tile of each position of a run, after the activation.
///
/// # Safety
/// The run has been checked.
#[inline(always)]
unsafe fn each(sums: &Sums, run: &Run, out: &mut [bf16], put: impl Fn(__m512, u16, *mut bf16)) {
    for index in 0..run.count {
        for tile in 0..run.columns.div_ceil(COLUMNS) {
            let columns = (run.columns - tile * COLUMNS).min(COLUMNS);
            // SAFETY: checked by the caller.
            unsafe {
                let mut value = _mm512_loadu_ps(sums.0.as_ptr().add(run.place(tile, index)));
                if run.relu {
                    // Of a NaN and a number the instruction gives the second.
                    value = _mm512_max_ps(_mm512_setzero_ps(), value);
                }
                let to = out
                    .as_mut_ptr()
                    .add(run.start + index * run.step + tile * COLUMNS);
                put(value, u16::MAX >> (COLUMNS - columns), to);
            }
        }
    }
}

/// Rounded by the instruction.
///
/// # Safety
/// The run has been checked, and the machine has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn store_bf16(sums: &Sums, run: &Run, out: &mut [bf16]) {
    // SAFETY: the caller's; both types are 256 bits of anything.
    unsafe {
        match run.columns {
            32 => store_whole::<2>(sums, run, out),
            48 => store_whole::<3>(sums, run, out),
            _ => each(sums, run, out, |value, mask, to| {
                let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
                _mm256_mask_storeu_epi16(to.cast(), mask, rounded);
            }),
        }
    }
}

/// The same for whole tiles: two make a cache line.
///
/// # Safety
/// As for [`store_bf16`], and the run has the columns of that many tiles, which are all it has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn store_whole<const TILES: usize>(sums: &Sums, run: &Run, out: &mut [bf16]) {
    // Of a NaN and a number the instruction gives the second.
    let least = if run.relu { 0.0 } else { f32::NEG_INFINITY };
    // SAFETY: the run has been checked; types of as many bits.
    unsafe {
        let least = _mm512_set1_ps(least);
        let from = sums.0.as_ptr().add(run.place(0, 0));
        let to = out.as_mut_ptr().add(run.start);
        for index in 0..run.count {
            let value = |tile: usize| {
                let value = _mm512_load_ps(from.add(tile * TILE + index * COLUMNS));
                _mm512_max_ps(least, value)
            };
            let to = to.add(index * run.step);
            let pair = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(value(1), value(0)));
            _mm512_storeu_si512(to.cast(), pair);
            if TILES == 3 {
                let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value(2)));
                _mm256_storeu_si256(to.add(2 * COLUMNS).cast(), rounded);
            }
        }
    }
}

/// Rounded to the nearest, to even where there are two; a NaN stays one. In the lower halves of 32 bits.
///
/// # Safety
/// The machine has AVX-512F.
#[inline(always)]
unsafe fn rounded(value: __m512) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(value);
        let upper = _mm512_srli_epi32::<16>(bits);
        let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
        let quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
        _mm512_mask_mov_epi32(rounded, nan, quiet)
    }
}

/// Rounded by computing.
///
/// # Safety
/// The run has been checked, and the machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn store_rounded(sums: &Sums, run: &Run, out: &mut [bf16]) {
    // SAFETY: the caller's.
    unsafe {
        each(sums, run, out, |value, mask, to| {
            _mm512_mask_cvtepi32_storeu_epi16(to.cast(), mask, rounded(value));
        });
    }
}

/// Rounds values, as many as there are places.
///
/// # Safety
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn round(values: &[f32], out: &mut [bf16]) {
    let length = values.len().min(out.len());
    for first in (0..length).step_by(COLUMNS) {
        let mask = u16::MAX >> (COLUMNS - (length - first).min(COLUMNS));
        // SAFETY: the mask leaves what both slices have.
        unsafe {
            let value = _mm512_maskz_loadu_ps(mask, values.as_ptr().add(first));
            _mm512_mask_cvtepi32_storeu_epi16(out.as_mut_ptr().add(first).cast(), mask, rounded(value));
        }
    }
}

/// Pairs of the values of two voxels.
///
/// # Safety
/// Both pointers are valid for 16 values, and the machine has AVX-512F.
#[inline(always)]
unsafe fn pairs(even: *const bf16, odd: *const bf16) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let even = _mm512_cvtepu16_epi32(_mm256_loadu_si256(even.cast()));
        let odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256(odd.cast()));
        _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
    }
}

/// The pairs of 16 values of each two voxels into every `step`th of so many lines.
///
/// # Safety
/// The voxels, `voxel` values apart, and the lines are there, and the machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pair_lines(from: *const bf16, voxel: usize, lines: usize, to: *mut Line, step: usize) {
    for line in 0..lines {
        // SAFETY: the caller's; a line is 512 bits, aligned.
        unsafe {
            let even = from.add(2 * line * voxel);
            _mm512_store_si512(to.add(line * step).cast(), pairs(even, even.add(voxel)));
        }
    }
}

/// `to[c·channel + v] = from[v·voxel + c]` for 32 voxels and 16 channels: pairs of voxels are 32 bits, which four rounds
/// of shuffles turn round.
///
/// # Safety
/// The pointers are valid for these places, and the machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose(from: *const bf16, voxel: usize, to: *mut bf16, channel: usize) {
    // SAFETY: the caller's.
    unsafe {
        let mut rows: [__m512i; 16] = std::array::from_fn(|pair| {
            let even = from.add(2 * pair * voxel);
            pairs(even, even.add(voxel))
        });
        for two in rows.as_chunks_mut::<2>().0 {
            let [a, b] = *two;
            *two = [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)];
        }
        for four in rows.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *four;
            *four = [
                _mm512_unpacklo_epi64(a, c),
                _mm512_unpackhi_epi64(a, c),
                _mm512_unpacklo_epi64(b, d),
                _mm512_unpackhi_epi64(b, d),
            ];
        }
        // Lane l of row 4·i + j holds channel 4·l + j of the pairs 4·i to 4·i + 3.
        for j in 0..4 {
            let [a, b, c, d] = [rows[j], rows[4 + j], rows[8 + j], rows[12 + j]];
            let (even_ab, odd_ab) = (
                _mm512_shuffle_i32x4::<0x88>(a, b),
                _mm512_shuffle_i32x4::<0xDD>(a, b),
            );
            let (even_cd, odd_cd) = (
                _mm512_shuffle_i32x4::<0x88>(c, d),
                _mm512_shuffle_i32x4::<0xDD>(c, d),
            );
            let lanes = [
                _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd),
                _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd),
                _mm512_shuffle_i32x4::<0xDD>(even_ab, even_cd),
                _mm512_shuffle_i32x4::<0xDD>(odd_ab, odd_cd),
            ];
            for (lane, values) in lanes.into_iter().enumerate() {
                _mm512_storeu_si512(to.add((4 * lane + j) * channel).cast(), values);
            }
        }
    }
}
