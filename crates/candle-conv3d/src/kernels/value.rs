//! What volumes are made of.

use half::{bf16, vec::HalfBitsVecExt};

/// A value of a volume: `f32`, `f64` or `bf16`.
pub trait Value: Copy + PartialEq + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;

    /// As many zeros, in memory that the system gives as such.
    fn zeros(length: usize) -> Vec<Self>;

    /// The greater of two.
    #[must_use]
    fn greater(self, other: Self) -> Self;

    /// Whether it is greater than zero.
    fn is_positive(self) -> bool;

    /// The sum of two.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

macro_rules! float {
    ($t:ty) => {
        impl Value for $t {
            const ZERO: Self = 0.0;

            fn zeros(length: usize) -> Vec<Self> {
                vec![0.0; length]
            }

            #[inline]
            fn greater(self, other: Self) -> Self {
                if other > self { other } else { self }
            }

            #[inline]
            fn is_positive(self) -> bool {
                self > 0.0
            }

            #[inline]
            fn plus(self, other: Self) -> Self {
                self + other
            }
        }
    };
}

float!(f32);
float!(f64);

/// Computed by their bits, which the compiler turns into vector instructions.
impl Value for bf16 {
    const ZERO: Self = Self::ZERO;

    fn zeros(length: usize) -> Vec<Self> {
        vec![0_u16; length].reinterpret_into()
    }

    #[inline]
    fn greater(self, other: Self) -> Self {
        // Negative values go the other way: without the sign, greater bits are smaller values.
        let order = |value: Self| {
            let bits = value.to_bits().cast_signed();
            bits ^ ((bits >> 15) & i16::MAX)
        };
        if order(other) > order(self) { other } else { self }
    }

    #[inline]
    fn is_positive(self) -> bool {
        self.to_bits().cast_signed() > 0
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        let widened = |value: Self| f32::from_bits(u32::from(value.to_bits()) << 16);
        let sum = widened(self) + widened(other);
        // To the nearest, to even where there are two; a NaN stays one.
        let bits = sum.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
        let bits = if sum.is_nan() { bits | 0x40_0000 } else { rounded };
        Self::from_bits((bits >> 16) as u16)
    }
}
