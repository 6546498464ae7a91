//! Products with AMX: the processor's matrix registers.
//!
//! The instructions have no intrinsics on stable Rust. What a register holds does not outlive a block of assembly, so a
//! block adds up all steps of a call.
#![allow(unsafe_code, reason = "instructions behind a check that the machine has them")]

use std::arch::{asm, x86_64::__cpuid_count};

use super::{Products, Sums};

/// Whether the processor has AMX with bf16 and the system lets this process use it: Linux wants to be asked.
pub(super) fn is_available() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    /// Bits of EDX of leaf 7.
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;

    let leaf = __cpuid_count(7, 0);
    leaf.edx & AMX_BF16 != 0
        && leaf.edx & AMX_TILE != 0
        // SAFETY: the call takes two numbers and answers whether it allows; it has no other effect.
        && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) } == 0
}

/// `ldtilecfg`'s operand: eight registers of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

static CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    // Palette.
    bytes[0] = 1;
    let mut register = 0;
    while register < 8 {
        // Bytes of a row (16 bits), and rows.
        bytes[16 + 2 * register] = 64;
        bytes[48 + register] = 16;
        register += 1;
    }
    Configuration(bytes)
};

/// Prepares this thread's matrix registers.
///
/// # Safety
/// The machine has AMX, and the system allows it.
pub(super) unsafe fn configure() {
    // SAFETY: the operand is 64 bytes of a valid configuration.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION.0, options(nostack, readonly)) };
}

/// Empties them, so that the system need not save them when it switches threads.
///
/// # Safety
/// As for [`configure`].
pub(super) unsafe fn release() {
    // SAFETY: the registers hold nothing that is needed.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// All steps of a call. Sums are registers 0 to 5, by row and tile. A step's input is `{p}`, positions `{position}` bytes
/// apart; its weights are `{w}`, in rows of 64 bytes, those of all tiles side by side.
macro_rules! steps {
    ($call:ident, $sums:ident, start: $stride:expr, $from:expr, [$($load:literal),*], step: [$($step:literal),*], store: [$($store:literal),*]) => {
        asm!(
            $($load,)*
            "2:",
            "mov {p}, [{steps}]",
            "add {steps}, 8",
            "add {p}, {input}",
            $($step,)*
            "dec {count}",
            "jnz 2b",
            $($store,)*
            p = out(reg) _,
            steps = inout(reg) $call.steps.offsets.as_ptr() => _,
            count = inout(reg) $call.steps.offsets.len() => _,
            input = in(reg) $call.input.as_ptr().add($call.first),
            position = in(reg) 2 * $call.position,
            row = in(reg) 2 * $call.row,
            w = inout(reg) $call.weights.as_ptr() => _,
            line = in(reg) 64usize,
            wide = in(reg) 64 * $call.tiles,
            from = in(reg) $from,
            stride = in(reg) $stride,
            sums = in(reg) $sums,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// The same with sums that begin with the bias (rows of no stride repeat it for all positions) or where they are.
macro_rules! call {
    ($call:ident, $sums:ident, bias: [$($bias:literal),*], sums: [$($load:literal),*], step: $step:tt, store: $store:tt) => {
        match $call.bias {
            Some(bias) => steps!($call, $sums, start: 0usize, bias.as_ptr(), [$($bias),*], step: $step, store: $store),
            None => steps!($call, $sums, start: 64usize, $sums, [$($load),*], step: $step, store: $store),
        }
    };
}

/// # Safety
/// The call's reads are within its slices, there is a step at least, and the registers are configured.
pub(super) unsafe fn add_up(call: &Products<'_>, sums: &mut Sums) {
    let sums = sums.0.as_mut_ptr();
    // SAFETY: rows of sums are 64 bytes, tiles 1024, six tiles at most; the caller answers for the rest.
    unsafe {
        match call.tiles {
            1 => call!(
                call, sums,
                bias: ["tileloadd tmm0, [{from} + {stride}]", "tileloadd tmm1, [{from} + {stride}]"],
                sums: ["tileloadd tmm0, [{from} + {stride}]", "tileloadd tmm1, [{from} + {stride} + 1024]"],
                step: [
                    "tileloadd tmm6, [{w} + {wide}]",
                    "tileloadd tmm4, [{p} + {position}]",
                    "add {p}, {row}",
                    "tileloadd tmm5, [{p} + {position}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm5, tmm6",
                    "add {w}, 1024"
                ],
                store: ["tilestored [{sums} + {line}], tmm0", "tilestored [{sums} + {line} + 1024], tmm1"]
            ),
            2 => call!(
                call, sums,
                bias: [
                    "tileloadd tmm0, [{from} + {stride}]", "tileloadd tmm1, [{from} + {stride} + 64]",
                    "tileloadd tmm2, [{from} + {stride}]", "tileloadd tmm3, [{from} + {stride} + 64]"
                ],
                sums: [
                    "tileloadd tmm0, [{from} + {stride}]", "tileloadd tmm1, [{from} + {stride} + 1024]",
                    "tileloadd tmm2, [{from} + {stride} + 2048]", "tileloadd tmm3, [{from} + {stride} + 3072]"
                ],
                step: [
                    "tileloadd tmm6, [{w} + {wide}]",
                    "tileloadd tmm4, [{p} + {position}]",
                    "add {p}, {row}",
                    "tileloadd tmm7, [{w} + {wide} + 64]",
                    "tileloadd tmm5, [{p} + {position}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {w}, 2048"
                ],
                store: [
                    "tilestored [{sums} + {line}], tmm0", "tilestored [{sums} + {line} + 1024], tmm1",
                    "tilestored [{sums} + {line} + 2048], tmm2", "tilestored [{sums} + {line} + 3072], tmm3"
                ]
            ),
            // Six sums leave two registers: weights are loaded again for the second row, from L1, but for the last.
            _ => call!(
                call, sums,
                bias: [
                    "tileloadd tmm0, [{from} + {stride}]", "tileloadd tmm1, [{from} + {stride} + 64]",
                    "tileloadd tmm2, [{from} + {stride} + 128]", "tileloadd tmm3, [{from} + {stride}]",
                    "tileloadd tmm4, [{from} + {stride} + 64]", "tileloadd tmm5, [{from} + {stride} + 128]"
                ],
                sums: [
                    "tileloadd tmm0, [{from} + {stride}]", "tileloadd tmm1, [{from} + {stride} + 1024]",
                    "tileloadd tmm2, [{from} + {stride} + 2048]", "tileloadd tmm3, [{from} + {stride} + 3072]",
                    "tileloadd tmm4, [{from} + {stride} + 4096]", "tileloadd tmm5, [{from} + {stride} + 5120]"
                ],
                step: [
                    "tileloadd tmm6, [{p} + {position}]",
                    "tileloadd tmm7, [{w} + {wide}]",
                    "tdpbf16ps tmm0, tmm6, tmm7",
                    "tileloadd tmm7, [{w} + {wide} + 64]",
                    "tdpbf16ps tmm1, tmm6, tmm7",
                    "tileloadd tmm7, [{w} + {wide} + 128]",
                    "tdpbf16ps tmm2, tmm6, tmm7",
                    "add {p}, {row}",
                    "tileloadd tmm6, [{p} + {position}]",
                    "tdpbf16ps tmm5, tmm6, tmm7",
                    "tileloadd tmm7, [{w} + {wide} + 64]",
                    "tdpbf16ps tmm4, tmm6, tmm7",
                    "tileloadd tmm7, [{w} + {wide}]",
                    "tdpbf16ps tmm3, tmm6, tmm7",
                    "add {w}, 3072"
                ],
                store: [
                    "tilestored [{sums} + {line}], tmm0", "tilestored [{sums} + {line} + 1024], tmm1",
                    "tilestored [{sums} + {line} + 2048], tmm2", "tilestored [{sums} + {line} + 3072], tmm3",
                    "tilestored [{sums} + {line} + 4096], tmm4", "tilestored [{sums} + {line} + 5120], tmm5"
                ]
            ),
        }
    }
}
