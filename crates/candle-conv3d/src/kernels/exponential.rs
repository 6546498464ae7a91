//! e to the power of many values at once.

#![expect(
    clippy::inline_always,
    reason = "loops are compiled for the instruction set of their caller"
)]

use super::PlainLoop;

/// e to the power of each value, none above 0, in its place; of a NaN it is one.
pub(crate) struct Exponentials<'a>(pub(crate) &'a mut [f32]);

impl PlainLoop for Exponentials<'_> {
    #[inline(always)]
    fn run(self) {
        for value in self.0 {
            *value = exponential(*value);
        }
    }
}

/// Below this the result is no normal number, and 0 is near enough.
const LEAST: f32 = -87.0;

/// Added to a number below 2²¹, this leaves the nearest integer in the lowest bits.
const TO_INTEGER: f32 = 12_582_912.0;

/// ln 2 in two parts. The first has few digits, so that its product with an exponent is exact.
const LN_2: [f32; 2] = [355.0 / 512.0, (std::f64::consts::LN_2 - 355.0 / 512.0) as f32];

/// Taylor's series from the highest power on; what it leaves out is below a tenth of a rounding.
const SERIES: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// 2ⁿ·eʳ with |r| ≤ ½·ln 2, by nothing that compilers can't do for many values at once.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    let shifted = x * std::f32::consts::LOG2_E + TO_INTEGER;
    let n = shifted - TO_INTEGER;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let [first, rest @ ..] = SERIES;
    let mut sum = first;
    for coefficient in rest {
        sum = sum * r + coefficient;
    }
    // n to where the exponent is; the bits above it fall out.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1_f32.to_bits()));
    if x < LEAST { 0.0 } else { sum * power }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn values_are_those_of_the_standard_library_with_every_instruction_set() {
        let arguments: Vec<f32> = (0..=2_000_000).map(|i| -1e-4 * i as f32).collect();
        for isa in Isa::available() {
            let mut values = arguments.clone();
            isa.run(Exponentials(&mut values));
            for (x, found) in arguments.iter().zip(values) {
                let expected = f64::from(*x).exp();
                let error = (f64::from(found) - expected).abs();
                let tolerance = if *x < LEAST {
                    f64::from(f32::MIN_POSITIVE) * 2.0
                } else {
                    expected * 1.5e-7
                };
                assert!(error <= tolerance, "{isa:?}: e^{x} = {expected}, not {found}");
            }
        }
    }

    #[test]
    fn ends_of_the_range() {
        let mut values = [
            0.0,
            -0.0,
            -1e-30,
            LEAST,
            -88.0,
            -1e30,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        Exponentials(&mut values).run();
        assert_eq!(values[..3], [1.0; 3]);
        assert!(values[3] >= f32::MIN_POSITIVE);
        assert_eq!(values[4..7], [0.0; 3]);
        assert!(values[7].is_nan());
    }
}
