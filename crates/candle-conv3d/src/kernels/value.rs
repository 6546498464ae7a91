//! What volumes are made of.

use half::bf16;

/// A value of a volume: `f32`, `f64` or `bf16`.
pub trait Value: Copy + PartialEq + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;

    /// The greater of two.
    #[must_use]
    fn greater(self, other: Self) -> Self;

    /// Whether it is greater than zero.
    fn is_positive(self) -> bool;

    /// Whether the two are the same number.
    fn equals(self, other: Self) -> bool;

    /// The sum of two.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

macro_rules! float {
    ($t:ty) => {
        impl Value for $t {
            const ZERO: Self = 0.0;

            #[inline]
            fn greater(self, other: Self) -> Self {
                if other > self { other } else { self }
            }

            #[inline]
            fn is_positive(self) -> bool {
                self > 0.0
            }

            #[inline]
            fn equals(self, other: Self) -> bool {
                self == other
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
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "branches would be in the way of vectors"
    )]
    fn equals(self, other: Self) -> bool {
        const MAGNITUDE: u16 = 0x7FFF;
        let (a, b) = (self.to_bits(), other.to_bits());
        let number = a & MAGNITUDE <= Self::INFINITY.to_bits();
        (a == b) & number | ((a | b) & MAGNITUDE == 0)
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        let widened = |value: Self| f32::from_bits(u32::from(value.to_bits()) << 16);
        let sum = widened(self) + widened(other);
        // To the nearest, to even where there are two; a NaN stays one.
        let bits = sum.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
        let nan = bits & 0x7FFF_FFFF > 0x7F80_0000;
        Self::from_bits(((if nan { bits | 0x40_0000 } else { rounded }) >> 16) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_say_what_numbers_say() {
        let values: Vec<bf16> = (0..=u16::MAX).step_by(97).map(bf16::from_bits).collect();
        let special = [
            bf16::ZERO,
            bf16::NEG_ZERO,
            bf16::NAN,
            bf16::INFINITY,
            bf16::NEG_INFINITY,
            bf16::MAX,
        ];
        for &a in values.iter().chain(&special) {
            assert_eq!(
                a.is_positive(),
                a > bf16::ZERO || (a.is_nan() && a.is_sign_positive()),
                "{a:?}"
            );
            for &b in values.iter().step_by(7).chain(&special) {
                assert_eq!(Value::equals(a, b), a == b, "{a:?} {b:?}");
                let sum = bf16::from_f32(a.to_f32() + b.to_f32());
                let found = a.plus(b);
                assert!(
                    found == sum || (found.is_nan() && sum.is_nan()),
                    "{a:?} + {b:?}: {found:?}"
                );
            }
        }
    }
}
