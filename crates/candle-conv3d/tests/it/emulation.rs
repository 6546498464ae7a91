//! Instructions that the machine lacks, carried out in software: a kernel for AMX or AVX-512 with bf16 runs as it is, and
//! each instruction that the processor refuses (`SIGILL`) is decoded and done here. Slow, but the same instructions.
#![allow(
    unsafe_code,
    reason = "a signal handler that changes the registers of what it interrupts"
)]

use std::{
    arch::x86_64::__cpuid_count,
    cell::Cell,
    sync::{Once, OnceLock},
};

use candle_conv3d::cpu::Isa;
use half::bf16;

static INSTALLED: Once = Once::new();

/// The instruction sets that the machine can run with this help.
pub(crate) fn sets() -> Vec<Isa> {
    let base = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    if !base {
        return Vec::new();
    }
    INSTALLED.call_once(|| {
        AREAS.get_or_init(Areas::of_this_machine);
        // SAFETY: the structure is zeroed but for the handler, which has the signature that the flag asks for.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "the handler is installed");
    });
    // SAFETY: the machine has what they build on, and the handler does the rest.
    unsafe { Isa::assumed() }.to_vec()
}

/// Bytes of a matrix register.
const TILE: usize = 1024;

thread_local! {
    static TILES: Cell<[[u8; TILE]; 8]> = const { Cell::new([[0; TILE]; 8]) };
    static CONFIGURED: Cell<bool> = const { Cell::new(false) };
}

/// Where the upper parts of the vector registers, and the registers beyond the sixteenth, are in a signal frame.
struct Areas {
    ymm: usize,
    zmm: usize,
    registers: usize,
}

static AREAS: OnceLock<Areas> = OnceLock::new();

impl Areas {
    fn of_this_machine() -> Self {
        let offset = |component| __cpuid_count(0xD, component).ebx as usize;
        Self {
            ymm: offset(2),
            zmm: offset(6),
            registers: offset(7),
        }
    }
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system hands over the context of the thread that it interrupted, for us to change.
    let machine = unsafe {
        let context = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        &mut Machine {
            general: &mut context.gregs,
            vectors: context.fpregs.cast(),
        }
    };
    if machine.step().is_none() {
        // What is refused next time ends the program, as it should.
        // SAFETY: a call without memory.
        unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) };
    }
}

struct Machine<'a> {
    general: &'a mut [i64; 23],
    /// The area that XSAVE wrote.
    vectors: *mut u8,
}

/// What an instruction's last operand is.
enum Operand {
    Register(usize),
    Memory {
        address: usize,
        /// Of an index register, scaled.
        stride: usize,
    },
}

impl Machine<'_> {
    /// Carries out the instruction that was refused; `None` where it isn't one of ours.
    fn step(&mut self) -> Option<()> {
        let at = self.general[libc::REG_RIP as usize] as usize;
        // SAFETY: it has been fetched from there; no instruction is longer, and code is followed by more.
        let code = unsafe { std::slice::from_raw_parts(at as *const u8, 15) };
        let length = match code[0] {
            0xC4 => self.matrix(at, code)?,
            0x62 => self.vector(at, code)?,
            _ => return None,
        };
        self.general[libc::REG_RIP as usize] = (at + length) as i64;
        Some(())
    }

    fn register(&self, index: usize) -> usize {
        use libc::{
            REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX,
            REG_RCX, REG_RDI, REG_RDX, REG_RSI, REG_RSP,
        };
        const ORDER: [libc::c_int; 16] = [
            REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10,
            REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
        ];
        self.general[ORDER[index] as usize] as usize
    }

    /// The operand that begins with the byte ModR/M at `start`, and the instruction's length; `unit` is what a
    /// displacement of one byte counts in.
    fn operand(
        &self,
        at: usize,
        code: &[u8],
        start: usize,
        [x, b]: [usize; 2],
        unit: usize,
    ) -> (Operand, usize) {
        let (mode, rm) = (code[start] >> 6, usize::from(code[start] & 7));
        if mode == 3 {
            return (Operand::Register(rm | b << 3 | x << 4), start + 1);
        }
        let mut next = start + 1;
        let (mut address, mut stride) = (0, 0);
        let mut far = mode == 2;
        let mut of_code = false;
        if rm == 4 {
            let sib = code[next];
            next += 1;
            let (scale, index, base) = (sib >> 6, usize::from(sib >> 3 & 7) | x << 3, usize::from(sib & 7));
            if index != 4 {
                stride = self.register(index) << scale;
            }
            if base == 5 && mode == 0 {
                far = true;
            } else {
                address = self.register(base | b << 3);
            }
        } else if rm == 5 && mode == 0 {
            (far, of_code) = (true, true);
        } else {
            address = self.register(rm | b << 3);
        }
        if far {
            let bytes = [code[next], code[next + 1], code[next + 2], code[next + 3]];
            address = address.wrapping_add_signed(i32::from_le_bytes(bytes) as isize);
            next += 4;
        } else if mode == 1 {
            address = address.wrapping_add_signed((code[next] as i8 as isize) * unit as isize);
            next += 1;
        }
        if of_code {
            address = address.wrapping_add(at + next);
        }
        (Operand::Memory { address, stride }, next)
    }

    /// AMX.
    fn matrix(&mut self, at: usize, code: &[u8]) -> Option<usize> {
        let inverted = |bit: u8| usize::from(code[1] >> bit & 1 ^ 1);
        let (x, b) = (inverted(6), inverted(5));
        let (map, prefix, second) = (code[1] & 31, code[2] & 3, usize::from(!code[2] >> 3 & 7));
        if map != 2 {
            return None;
        }
        let reg = usize::from(code[4] >> 3 & 7);
        let (operand, length) = self.operand(at, code, 4, [x, b], 1);
        let mut tiles = TILES.get();
        match (code[3], prefix, operand) {
            // ldtilecfg
            (0x49, 0, Operand::Memory { address, stride }) => {
                // SAFETY: the program's operand, of 64 bytes.
                let bytes = unsafe { (address.wrapping_add(stride) as *const [u8; 64]).read_unaligned() };
                let whole =
                    bytes[0] == 1 && (0..8).all(|tile| bytes[16 + 2 * tile] == 64 && bytes[48 + tile] == 16);
                assert!(whole, "eight whole registers");
                CONFIGURED.set(true);
                tiles = [[0; TILE]; 8];
            }
            // tilerelease
            (0x49, 0, Operand::Register(_)) => CONFIGURED.set(false),
            _ if !CONFIGURED.get() => return None,
            // tileloadd
            (0x4B, 3, Operand::Memory { address, stride }) => {
                for (row, bytes) in tiles[reg].chunks_exact_mut(64).enumerate() {
                    let from = address.wrapping_add(row.wrapping_mul(stride)) as *const u8;
                    // SAFETY: the program's operand: 16 rows of 64 bytes.
                    unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), 64) };
                }
            }
            // tilestored
            (0x4B, 2, Operand::Memory { address, stride }) => {
                for (row, bytes) in tiles[reg].chunks_exact(64).enumerate() {
                    let to = address.wrapping_add(row.wrapping_mul(stride)) as *mut u8;
                    // SAFETY: as above.
                    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, 64) };
                }
            }
            // tdpbf16ps
            (0x5C, 2, Operand::Register(first)) => {
                let (a, b) = (halves(&tiles[first & 7]), halves(&tiles[second]));
                let mut sums = singles(&tiles[reg]);
                for (m, sums) in sums.chunks_exact_mut(16).enumerate() {
                    for k in 0..16 {
                        let [even, odd] = [a[m * 32 + 2 * k], a[m * 32 + 2 * k + 1]];
                        for (n, sum) in sums.iter_mut().enumerate() {
                            let [of_even, of_odd] = [b[k * 32 + 2 * n], b[k * 32 + 2 * n + 1]];
                            *sum += even * of_even + odd * of_odd;
                        }
                    }
                }
                for (bytes, sum) in tiles[reg].chunks_exact_mut(4).zip(&sums) {
                    bytes.copy_from_slice(&sum.to_le_bytes());
                }
            }
            _ => return None,
        }
        TILES.set(tiles);
        Some(length)
    }

    /// AVX-512 with bf16, on whole registers.
    fn vector(&mut self, at: usize, code: &[u8]) -> Option<usize> {
        let inverted = |byte: usize, bit: u8| usize::from(code[byte] >> bit & 1 ^ 1);
        let (r, x, b, upper_r) = (inverted(1, 7), inverted(1, 6), inverted(1, 5), inverted(1, 4));
        let (map, prefix) = (code[1] & 7, code[2] & 3);
        let second = usize::from(!code[2] >> 3 & 15) | inverted(3, 3) << 4;
        let (broadcast, mask, length) = (code[3] >> 4 & 1 == 1, code[3] & 7, code[3] >> 5 & 3);
        let two = prefix == 3 && code[4] == 0x72;
        if map != 2 || !(prefix == 2 || two) || mask != 0 || length != 2 {
            return None;
        }
        let reg = usize::from(code[5] >> 3 & 7) | r << 3 | upper_r << 4;
        let unit = if broadcast { 4 } else { 64 };
        let (operand, length) = self.operand(at, code, 5, [x, b], unit);
        let last = match operand {
            Operand::Register(register) => self.zmm(register),
            Operand::Memory { address, stride } => {
                let address = address.wrapping_add(stride);
                let mut bytes = [0; 64];
                // SAFETY: the program's operand, of 4 bytes that are repeated or 64.
                unsafe {
                    if broadcast {
                        let one = (address as *const [u8; 4]).read_unaligned();
                        bytes.chunks_exact_mut(4).for_each(|to| to.copy_from_slice(&one));
                    } else {
                        bytes = (address as *const [u8; 64]).read_unaligned();
                    }
                }
                bytes
            }
        };
        let mut result = [0; 64];
        match code[4] {
            // vcvtne2ps2bf16
            0x72 if two => {
                let values = singles(&last).into_iter().chain(singles(&self.zmm(second)));
                for (to, from) in result.chunks_exact_mut(2).zip(values) {
                    to.copy_from_slice(&bf16::from_f32(from).to_le_bytes());
                }
            }
            // vcvtneps2bf16
            0x72 => {
                for (to, from) in result.chunks_exact_mut(2).zip(singles(&last)) {
                    to.copy_from_slice(&bf16::from_f32(from).to_le_bytes());
                }
            }
            // vdpbf16ps
            0x52 => {
                let (a, b, sums) = (halves(&self.zmm(second)), halves(&last), singles(&self.zmm(reg)));
                for (lane, to) in result.chunks_exact_mut(4).enumerate() {
                    let sum = sums[lane] + (a[2 * lane] * b[2 * lane] + a[2 * lane + 1] * b[2 * lane + 1]);
                    to.copy_from_slice(&sum.to_le_bytes());
                }
            }
            _ => return None,
        }
        self.set_zmm(reg, &result);
        Some(length)
    }

    /// The parts of a register: component of the saved state, offset in the area, place in the register.
    fn parts(register: usize) -> Vec<(u32, usize, std::ops::Range<usize>)> {
        let Some(areas) = AREAS.get() else {
            return Vec::new();
        };
        if register < 16 {
            vec![
                (1, 160 + 16 * register, 0..16),
                (2, areas.ymm + 16 * register, 16..32),
                (6, areas.zmm + 32 * register, 32..64),
            ]
        } else {
            vec![(7, areas.registers + 64 * (register - 16), 0..64)]
        }
    }

    /// Which components of the saved state are not in their initial state.
    fn components(&self) -> *mut u64 {
        // SAFETY: the header follows the 512 bytes of the legacy area.
        unsafe { self.vectors.add(512).cast() }
    }

    fn zmm(&self, register: usize) -> [u8; 64] {
        let mut value = [0; 64];
        for (component, offset, place) in Self::parts(register) {
            // SAFETY: within the saved state of a machine with AVX-512.
            unsafe {
                if self.components().read_unaligned() >> component & 1 == 1 {
                    let from = self.vectors.add(offset);
                    std::ptr::copy_nonoverlapping(from, value[place.clone()].as_mut_ptr(), place.len());
                }
            }
        }
        value
    }

    fn set_zmm(&mut self, register: usize, value: &[u8; 64]) {
        for (component, offset, place) in Self::parts(register) {
            // SAFETY: as above.
            unsafe {
                let components = self.components().read_unaligned();
                if components >> component & 1 == 0 {
                    // The others of the component are zeros, whatever the area holds.
                    for other in 0..32 {
                        for (of, offset, place) in Self::parts(other) {
                            if of == component {
                                std::ptr::write_bytes(self.vectors.add(offset), 0, place.len());
                            }
                        }
                    }
                    self.components().write_unaligned(components | 1 << component);
                }
                std::ptr::copy_nonoverlapping(
                    value[place.clone()].as_ptr(),
                    self.vectors.add(offset),
                    place.len(),
                );
            }
        }
    }
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    let values = bytes.chunks_exact(2);
    values
        .map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f32())
        .collect()
}

fn singles(bytes: &[u8]) -> Vec<f32> {
    let values = bytes.chunks_exact(4);
    values
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect()
}
