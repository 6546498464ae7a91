//! Which instruction set to use.

use std::{fmt, sync::OnceLock};

/// An instruction set that has kernels here and that this machine runs: there is no other way to get one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Scalar,
    Avx2,
    Avx512,
    Avx512Bf16,
    Amx,
}

/// What f32 is computed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    Scalar,
    Avx2,
    Avx512,
}

/// What products of bf16 are computed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProductSet {
    Scalar,
    /// Widened to f32: right, and no faster than f32.
    Avx512,
    Avx512Bf16,
    Amx,
}

impl Isa {
    /// Portable Rust, on any machine.
    pub const SCALAR: Self = Self(Level::Scalar);

    /// Those of this machine, the slowest first: portable, AVX2 with FMA, AVX-512F, AVX-512 with bf16, AMX with bf16.
    pub fn available() -> Vec<Self> {
        // Asked once: AMX is asked of the system.
        static AVAILABLE: OnceLock<Vec<Isa>> = OnceLock::new();
        AVAILABLE
            .get_or_init(|| {
                let mut sets = vec![Self::SCALAR];
                sets.extend(vector_sets().into_iter().map(Self));
                sets
            })
            .clone()
    }

    /// The one to use: the fastest of this machine, or the one that `DEEPFINDER_ISA` names where the machine has it.
    pub fn current() -> Self {
        // Read once: a result must not change half-way through a network.
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let available = Self::available();
            let wanted = std::env::var("DEEPFINDER_ISA").ok();
            let forced = available.iter().find(|isa| Some(isa.name()) == wanted.as_deref());
            forced.or(available.last()).copied().unwrap_or(Self::SCALAR)
        })
    }

    /// The name that `DEEPFINDER_ISA` knows it by.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
            Level::Amx => "amx",
        }
    }

    /// Whether bf16 is computed faster than f32: products of matrices in hardware beat what Winograd's algorithm saves,
    /// products of vectors don't.
    pub fn prefers_bf16(self) -> bool {
        self.0 == Level::Amx
    }

    /// Whether there are instructions for bf16. Elsewhere it is computed by widening to f32, which takes longer than f32.
    pub fn has_bf16(self) -> bool {
        matches!(self.0, Level::Avx512Bf16 | Level::Amx)
    }

    /// AVX-512 with bf16 and AMX whatever the machine has: for tests that run these instructions in software.
    ///
    /// # Safety
    /// The machine has AVX-512F, BW and VL, and whoever calls sees to it that the instructions beyond are carried out.
    #[doc(hidden)]
    #[allow(unsafe_code, reason = "an instruction set that may not be there")]
    pub unsafe fn assumed() -> [Self; 2] {
        [Self(Level::Avx512Bf16), Self(Level::Amx)]
    }

    /// Runs a loop compiled for this set: the same values, sooner.
    #[allow(
        unsafe_code,
        reason = "a call of a function for an instruction set that the `Isa` stands for"
    )]
    pub(crate) fn run(self, plain: impl PlainLoop) {
        match self.set() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` is only made where the machine has it, and those with AVX-512 have AVX2.
            InstructionSet::Avx2 | InstructionSet::Avx512 => unsafe { with_avx2(plain) },
            _ => plain.run(),
        }
    }

    pub(crate) fn set(self) -> InstructionSet {
        match self.0 {
            Level::Scalar => InstructionSet::Scalar,
            Level::Avx2 => InstructionSet::Avx2,
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => InstructionSet::Avx512,
        }
    }

    pub(crate) fn products(self) -> ProductSet {
        match self.0 {
            Level::Scalar | Level::Avx2 => ProductSet::Scalar,
            Level::Avx512 => ProductSet::Avx512,
            Level::Avx512Bf16 => ProductSet::Avx512Bf16,
            Level::Amx => ProductSet::Amx,
        }
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A loop in plain Rust that the compiler turns into vectors of whatever set it may use.
pub(crate) trait PlainLoop {
    /// To be inlined always: what is not is compiled for any machine.
    fn run(self);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(plain: impl PlainLoop) {
    plain.run();
}

/// Those beyond the portable one, the slowest first.
#[cfg(target_arch = "x86_64")]
fn vector_sets() -> Vec<Level> {
    let has_all = |level: &Level| match level {
        Level::Scalar => true,
        Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Level::Avx512 => is_x86_feature_detected!("avx512f"),
        Level::Avx512Bf16 => {
            is_x86_feature_detected!("avx512bf16")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
        }
        Level::Amx => super::products::amx_is_available(),
    };
    let levels = [Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];
    // Each takes those before for granted.
    levels.into_iter().take_while(has_all).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_sets() -> Vec<Level> {
    Vec::new()
}
