//! Which instruction set to use.

use std::{fmt, sync::OnceLock};

/// An instruction set that has kernels here and that this machine runs: there is no other way to get one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(InstructionSet);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    Scalar,
    Avx2,
    Avx512,
}

impl Isa {
    /// Portable Rust, on any machine.
    pub const SCALAR: Self = Self(InstructionSet::Scalar);

    /// Those of this machine, the slowest first: portable, AVX2 with FMA, AVX-512F.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self(InstructionSet::Avx2));
                if is_x86_feature_detected!("avx512f") {
                    sets.push(Self(InstructionSet::Avx512));
                }
            }
        }
        sets
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
            InstructionSet::Scalar => "scalar",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
        }
    }

    pub(crate) fn set(self) -> InstructionSet {
        self.0
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
