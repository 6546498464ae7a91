use std::sync::Arc;

use deepfinder_core::Progress;
use ndarray::{Array2, Array3, ArrayViewMut2, Axis};
use rayon::prelude::*;
use realfft::{ComplexToReal, FftError, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::{Result, SimError, TiltRange};

/// Columns transformed together, so that memory is read in whole cache lines.
const COLUMNS: usize = 16;

/// What the microscope leaves of the Fourier coefficients.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter {
    pub(crate) tilt: Option<TiltRange>,
    /// Frequency in cycles per voxel at which the Gaussian is ½.
    pub(crate) half_frequency: Option<f64>,
}

impl Filter {
    /// Whether everything passes.
    pub(crate) fn is_identity(&self) -> bool {
        self.tilt.is_none() && self.half_frequency.is_none()
    }

    /// Whether the tilt series measures coefficients at these frequencies (cycles per voxel, `k_x` ≥ 0).
    fn measures(&self, k_z: f64, k_x: f64) -> bool {
        // Coefficients at exactly ±60° belong to a series to ±60°, whatever the rounding.
        const ROUNDING: f64 = 1e-9;
        let Some(range) = self.tilt else { return true };
        if k_z == 0.0 && k_x == 0.0 {
            return true;
        }
        let angle = k_z.atan2(k_x).to_degrees();
        let holds =
            |angle: f64| range.min_degrees - ROUNDING <= angle && angle <= range.max_degrees + ROUNDING;
        if k_x == 0.0 {
            // ±90° are one tilt.
            return holds(90.0) || holds(-90.0);
        }
        // At the Nyquist frequency a coefficient stands for both signs.
        let both = k_x == 0.5 || k_z.abs() == 0.5;
        holds(angle) && (!both || holds(-angle))
    }

    /// Factor of the low-pass filter along one axis; the product over the axes is the filter.
    fn low_pass(&self, frequency: f64) -> f32 {
        self.half_frequency.map_or(1.0, |half| {
            (-std::f64::consts::LN_2 * (frequency / half).powi(2)).exp() as f32
        })
    }
}

/// The rows of a volume as the transform asks for them: fills row `(z, y)`, zero so far.
pub(crate) type FillRow<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// Filters a volume of that shape `(z, y, x)`, whose rows `fill` gives; it is asked for the padding too.
///
/// The spectrum is the only large buffer beside the result: along z, coefficients are transformed, weighted and
/// transformed back while they are at hand.
pub(crate) fn apply(
    filter: &Filter,
    shape: [usize; 3],
    padding: usize,
    what: &str,
    fill: FillRow<'_>,
    progress: &dyn Progress,
) -> Result<Array3<f32>> {
    let padded = shape.map(|side| smooth_from(side + padding));
    let [depth, height, width] = padded;
    let mut real = RealFftPlanner::<f32>::new();
    let mut complex = FftPlanner::<f32>::new();
    let (to_x, from_x) = (real.plan_fft_forward(width), real.plan_fft_inverse(width));
    let (to_y, from_y) = (complex.plan_fft_forward(height), complex.plan_fft_inverse(height));
    let (to_z, from_z) = (complex.plan_fft_forward(depth), complex.plan_fft_inverse(depth));

    progress.begin(what, (2 * depth + height) as u64, "planes");
    let mut spectrum = Array3::<Complex<f32>>::zeros((depth, height, width / 2 + 1));
    let step = |planes: u64| {
        progress.advance(planes);
        progress.check()
    };
    spectrum
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .try_for_each(|(z, mut plane)| -> Result<()> {
            forward_rows(&mut plane, z, width, &to_x, fill)?;
            transform_columns(&mut plane, &[&to_y], |_, _| {});
            Ok(step(1)?)
        })?;

    let (wedge, low_pass_y) = weights(filter, padded);
    spectrum
        .axis_iter_mut(Axis(1))
        .into_par_iter()
        .enumerate()
        .try_for_each(|(y, mut plane)| -> Result<()> {
            transform_columns(&mut plane, &[&to_z, &from_z], |x, column| {
                for (z, coefficient) in column.iter_mut().enumerate() {
                    *coefficient *= low_pass_y[y] * wedge[[z, x]];
                }
            });
            Ok(step(1)?)
        })?;

    let mut volume = Array3::zeros(shape);
    let pairs: Vec<_> = volume
        .axis_iter_mut(Axis(0))
        .zip(spectrum.axis_iter_mut(Axis(0)))
        .collect();
    pairs
        .into_par_iter()
        .try_for_each(|(mut result, mut plane)| -> Result<()> {
            transform_columns(&mut plane, &[&from_y], |_, _| {});
            inverse_rows(&mut plane, &mut result, width, &from_x)?;
            Ok(step(1)?)
        })?;
    progress.end();
    Ok(volume)
}

/// Wedge, low-pass along z and x, and the scale of the transforms by `(z, x)`; low-pass along y.
fn weights(filter: &Filter, padded: [usize; 3]) -> (Array2<f32>, Vec<f32>) {
    let [depth, height, width] = padded;
    let scale = 1.0 / (depth as f64 * height as f64 * width as f64);
    let wedge = Array2::from_shape_fn((depth, width / 2 + 1), |(z, x)| {
        let (k_z, k_x) = (frequency(z, depth), frequency(x, width));
        if filter.measures(k_z, k_x) {
            filter.low_pass(k_z) * filter.low_pass(k_x) * scale as f32
        } else {
            0.0
        }
    });
    let along_y = (0..height)
        .map(|y| filter.low_pass(frequency(y, height)))
        .collect();
    (wedge, along_y)
}

/// Cycles per voxel of coefficient `i` of `n`; +½ at the Nyquist frequency.
fn frequency(i: usize, n: usize) -> f64 {
    let signed = if 2 * i <= n { i as f64 } else { i as f64 - n as f64 };
    signed / n as f64
}

fn forward_rows(
    plane: &mut ArrayViewMut2<'_, Complex<f32>>,
    z: usize,
    width: usize,
    fft: &Arc<dyn RealToComplex<f32>>,
    fill: FillRow<'_>,
) -> Result<()> {
    let mut row = vec![0.0; width];
    let mut coefficients = fft.make_output_vec();
    let mut scratch = fft.make_scratch_vec();
    for (y, mut target) in plane.axis_iter_mut(Axis(0)).enumerate() {
        row.fill(0.0);
        fill(z, y, &mut row);
        fft.process_with_scratch(&mut row, &mut coefficients, &mut scratch)
            .map_err(fourier_error)?;
        target
            .iter_mut()
            .zip(&coefficients)
            .for_each(|(to, from)| *to = *from);
    }
    Ok(())
}

/// Back to real rows, as many and as long as the result has.
fn inverse_rows(
    plane: &mut ArrayViewMut2<'_, Complex<f32>>,
    result: &mut ArrayViewMut2<'_, f32>,
    width: usize,
    fft: &Arc<dyn ComplexToReal<f32>>,
) -> Result<()> {
    let mut row = vec![0.0; width];
    let mut coefficients = fft.make_input_vec();
    let mut scratch = fft.make_scratch_vec();
    let last = coefficients.len() - 1;
    for (mut target, source) in result.axis_iter_mut(Axis(0)).zip(plane.axis_iter(Axis(0))) {
        coefficients
            .iter_mut()
            .zip(source)
            .for_each(|(to, from)| *to = *from);
        // Real but for rounding; the transform insists.
        coefficients[0].im = 0.0;
        if width.is_multiple_of(2) {
            coefficients[last].im = 0.0;
        }
        fft.process_with_scratch(&mut coefficients, &mut row, &mut scratch)
            .map_err(fourier_error)?;
        target.iter_mut().zip(&row).for_each(|(to, from)| *to = *from);
    }
    Ok(())
}

/// Runs the first transform down every column of a plane, `weigh` on what comes out (given the column's number),
/// and then the second transform, if there is one.
fn transform_columns(
    plane: &mut ArrayViewMut2<'_, Complex<f32>>,
    transforms: &[&Arc<dyn Fft<f32>>],
    weigh: impl Fn(usize, &mut [Complex<f32>]),
) {
    let length = plane.nrows();
    let mut block = vec![Complex::default(); COLUMNS * length];
    let scratch = transforms.iter().map(|fft| fft.get_inplace_scratch_len()).max();
    let mut scratch = vec![Complex::default(); scratch.unwrap_or(0)];
    for (i, mut columns) in plane.axis_chunks_iter_mut(Axis(1), COLUMNS).enumerate() {
        let used = columns.ncols() * length;
        let block = &mut block[..used];
        for (r, row) in columns.axis_iter(Axis(0)).enumerate() {
            row.iter()
                .enumerate()
                .for_each(|(c, value)| block[c * length + r] = *value);
        }
        for (pass, fft) in transforms.iter().enumerate() {
            fft.process_with_scratch(block, &mut scratch);
            if pass == 0 {
                for (c, column) in block.chunks_exact_mut(length).enumerate() {
                    weigh(i * COLUMNS + c, column);
                }
            }
        }
        for (r, mut row) in columns.axis_iter_mut(Axis(0)).enumerate() {
            row.iter_mut()
                .enumerate()
                .for_each(|(c, value)| *value = block[c * length + r]);
        }
    }
}

fn fourier_error(source: FftError) -> SimError {
    SimError::Fourier {
        source: Box::new(source),
    }
}

/// The smallest number from `n` on with no prime factor above 7, for which transforms are quick.
fn smooth_from(n: usize) -> usize {
    let is_smooth = |mut n: usize| {
        for prime in [2, 3, 5, 7] {
            while n.is_multiple_of(prime) {
                n /= prime;
            }
        }
        n == 1
    };
    (n.max(1)..=n.next_power_of_two())
        .find(|&n| is_smooth(n))
        .unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::fill_row;
    use deepfinder_core::NoProgress;
    use proptest::prelude::*;

    fn noise(shape: [usize; 3], seed: u64) -> Array3<f32> {
        let mut volume = Array3::zeros(shape);
        for (i, row) in volume.as_slice_mut().unwrap().chunks_mut(shape[2]).enumerate() {
            fill_row(seed, i as u64, row);
        }
        volume
    }

    fn filtered(filter: Filter, volume: &Array3<f32>, padding: usize) -> Array3<f32> {
        let shape = volume.dim().into();
        let fill = |z: usize, y: usize, row: &mut [f32]| {
            if z < volume.dim().0 && y < volume.dim().1 {
                let source = volume.slice(ndarray::s![z, y, ..]);
                row.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
            }
        };
        apply(&filter, shape, padding, "filtering", &fill, &NoProgress).unwrap()
    }

    /// The definition: the sum over all waves, each by its own frequencies.
    fn coefficient(volume: &Array3<f32>, k: [f64; 3]) -> Complex<f64> {
        volume
            .indexed_iter()
            .map(|((z, y, x), &voxel)| {
                let phase = k[0] * z as f64 + k[1] * y as f64 + k[2] * x as f64;
                Complex::from_polar(f64::from(voxel), -std::f64::consts::TAU * phase)
            })
            .sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn coefficients_are_kept_or_lost(
            // 7-smooth, so that nothing is padded; odd and even.
            shape in prop::array::uniform3(prop::sample::select(vec![1_usize, 2, 5, 6, 7, 9, 12])),
            min in -90.0..10.0f64,
            width in 5.0..80.0f64,
        ) {
            let filter = Filter {
                tilt: Some(TiltRange { min_degrees: min, max_degrees: min + width }),
                half_frequency: Some(0.2),
            };
            let before = noise(shape, 5);
            let after = filtered(filter, &before, 0);
            for z in 0..shape[0] {
                for (y, x) in [(0, 0), (1, 1), (2, 3), (0, 2), (4, 5), (3, 0), (5, 6)] {
                    if y >= shape[1] || 2 * x > shape[2] {
                        continue;
                    }
                    let k = [frequency(z, shape[0]), frequency(y, shape[1]), frequency(x, shape[2])];
                    let squared: f64 = k.iter().map(|k| k * k).sum();
                    let gain = if filter.measures(k[0], k[2]) { 0.5_f64.powf(squared / 0.04) } else { 0.0 };
                    let (found, expected) = (coefficient(&after, k), coefficient(&before, k) * gain);
                    prop_assert!((found - expected).norm() < 1e-3, "{k:?}: {found} for {expected}");
                }
            }
        }

        #[test]
        fn no_filter_changes_nothing(shape in prop::array::uniform3(1..14_usize), padding in 0..5_usize) {
            let before = noise(shape, 2);
            let after = filtered(Filter::default(), &before, padding);
            prop_assert!((&after - &before).iter().all(|d| d.abs() < 1e-5));
        }
    }

    #[test]
    fn a_tilt_measures_its_plane() {
        // A tilt of +30° gives k_z = k_x · tan 30°.
        let filter = Filter {
            tilt: Some(TiltRange {
                min_degrees: 29.0,
                max_degrees: 31.0,
            }),
            half_frequency: None,
        };
        assert!(filter.measures(0.2 * 30_f64.to_radians().tan(), 0.2));
        assert!(!filter.measures(-0.2 * 30_f64.to_radians().tan(), 0.2));
        assert!(filter.measures(0.0, 0.0) && !filter.measures(0.1, 0.0) && !filter.measures(0.0, 0.1));
        let symmetric = Filter {
            tilt: Some(TiltRange::symmetric(45.0)),
            half_frequency: None,
        };
        assert!(symmetric.measures(0.25, 0.25) && symmetric.measures(-0.25, 0.25));
        assert!(!symmetric.measures(0.26, 0.25));
    }

    #[test]
    fn lengths_are_rounded_up_to_small_primes() {
        for (n, expected) in [(0, 1), (1, 1), (11, 12), (97, 98), (210, 210), (528, 540)] {
            assert_eq!(smooth_from(n), expected);
        }
    }
}
