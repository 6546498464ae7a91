use deepfinder_core::{Progress, TiltRange};
use deepfinder_density::{Fft3, FourierError, fast_length, frequency, low_pass_factor};
use ndarray::{Array2, Array3, Axis};
use rayon::prelude::*;

use crate::{Result, SimError};

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

    /// Whether the tilt series measures coefficients at these frequencies (cycles per voxel).
    fn measures(&self, k_z: f64, k_x: f64) -> bool {
        self.tilt.is_none_or(|range| range.measures(k_z, k_x))
    }

    /// Factor of the low-pass filter along one axis; the product over the axes is the filter.
    fn low_pass(&self, frequency: f64) -> f32 {
        self.half_frequency
            .map_or(1.0, |half| low_pass_factor(frequency, half))
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
    let padded = shape.map(|side| fast_length(side + padding));
    let [depth, height, _] = padded;
    let fft = Fft3::new(padded);

    progress.begin(what, (2 * depth + height) as u64, "planes");
    let mut spectrum = fft.spectrum();
    let step = |planes: u64| {
        progress.advance(planes);
        progress.check()
    };
    spectrum
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .try_for_each(|(z, mut plane)| -> Result<()> {
            fft.forward_plane(&mut plane, height, |y, row| fill(z, y, row))
                .map_err(fourier_error)?;
            Ok(step(1)?)
        })?;

    let (wedge, low_pass_y) = weights(filter, padded);
    spectrum
        .axis_iter_mut(Axis(1))
        .into_par_iter()
        .enumerate()
        .try_for_each(|(y, mut plane)| -> Result<()> {
            fft.along_z_and_back(&mut plane, |x, column| {
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
            fft.inverse_plane(&mut plane, &mut result)
                .map_err(fourier_error)?;
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

pub(crate) fn fourier_error(source: FourierError) -> SimError {
    SimError::Fourier {
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::fill_row;
    use deepfinder_core::NoProgress;
    use proptest::prelude::*;
    use rustfft::num_complex::Complex;

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
}
