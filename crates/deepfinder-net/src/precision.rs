use std::fmt;

use candle_conv3d::{GRID, cpu::Isa};
use candle_core::{DType, Device};

use crate::{INFLUENCE, ORIGIN_MULTIPLE, RECEPTIVE_FIELD, ReceptiveField, SIDE_MULTIPLE};

/// What a network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Volumes and weights are rounded to bfloat16 (8 bits of precision) between and within layers; sums, biases, logits
    /// and the weights that learn are 32-bit.
    Bf16,
}

impl Precision {
    /// The one that is faster there: bf16 on a GPU, and where a processor has matrix instructions for it (AMX).
    pub fn fastest(device: &Device) -> Self {
        if !device.is_cpu() || Isa::current().prefers_bf16() {
            Self::Bf16
        } else {
            Self::F32
        }
    }

    /// Whether there are instructions for it. Otherwise it gives the same results, but later than f32 would.
    pub fn is_native(self, device: &Device) -> bool {
        self == Self::F32 || !device.is_cpu() || Isa::current().has_bf16()
    }

    /// How far the last bits of a result look, on each axis (D, H, W): [`INFLUENCE`], or in bf16, where no outputs are
    /// computed together, no further than the network itself.
    pub fn influence(self) -> [ReceptiveField; 3] {
        match self {
            Self::F32 => INFLUENCE,
            Self::Bf16 => [RECEPTIVE_FIELD; 3],
        }
    }

    /// Where a part of a volume may begin, on each axis (D, H, W): at multiples of [`ORIGIN_MULTIPLE`], or in bf16 of
    /// [`SIDE_MULTIPLE`].
    pub fn origin_multiple(self) -> [usize; 3] {
        match self {
            Self::F32 => ORIGIN_MULTIPLE,
            Self::Bf16 => [SIDE_MULTIPLE; 3],
        }
    }

    /// Planes that a convolution computes together.
    pub(crate) fn planes_together(self) -> usize {
        match self {
            Self::F32 => GRID[0],
            Self::Bf16 => 1,
        }
    }

    /// Bytes of a value between layers.
    pub fn bytes(self) -> usize {
        self.dtype().size_in_bytes()
    }

    /// The element type of volumes between layers.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
