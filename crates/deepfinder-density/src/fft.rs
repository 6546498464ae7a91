use std::sync::Arc;

use ndarray::{Array3, ArrayViewMut2, ArrayViewMut3, Axis, s};
use realfft::{ComplexToReal, FftError, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// Columns transformed together, so that memory is read in whole cache lines.
const COLUMNS: usize = 16;

/// The Fourier coefficients of a real volume, `(k_z, k_y, k_x)`; those of negative `k_x` are the conjugates of others.
pub type Spectrum = Array3<Complex<f32>>;

/// A transform was given a buffer of the wrong length.
#[derive(Debug, thiserror::Error)]
#[error("the Fourier transform failed")]
pub struct FourierError(#[source] FftError);

type Result<T> = std::result::Result<T, FourierError>;

/// Transforms of real volumes of one shape, planned once.
///
/// [`Fft3::forward`] and [`Fft3::inverse`] take a volume in one go, on one thread. The pieces they are made of are
/// public too, for who shares planes out among threads: [`Fft3::forward_plane`] on each plane of constant z,
/// [`Fft3::along_z_and_back`] on each of constant y, [`Fft3::inverse_plane`] again on each of constant z.
#[derive(Clone)]
pub struct Fft3 {
    shape: [usize; 3],
    to_x: Arc<dyn RealToComplex<f32>>,
    from_x: Arc<dyn ComplexToReal<f32>>,
    to_y: Arc<dyn Fft<f32>>,
    from_y: Arc<dyn Fft<f32>>,
    to_z: Arc<dyn Fft<f32>>,
    from_z: Arc<dyn Fft<f32>>,
}

impl Fft3 {
    /// For volumes of that shape `(z, y, x)`, at least 1 on every axis; [`fast_length`]s are quick.
    pub fn new(shape: [usize; 3]) -> Self {
        let [depth, height, width] = shape;
        let mut real = RealFftPlanner::<f32>::new();
        let mut complex = FftPlanner::<f32>::new();
        Self {
            shape,
            to_x: real.plan_fft_forward(width),
            from_x: real.plan_fft_inverse(width),
            to_y: complex.plan_fft_forward(height),
            from_y: complex.plan_fft_inverse(height),
            to_z: complex.plan_fft_forward(depth),
            from_z: complex.plan_fft_inverse(depth),
        }
    }

    /// Size of the volumes, `(z, y, x)`.
    pub const fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// A spectrum of zeros.
    pub fn spectrum(&self) -> Spectrum {
        let [depth, height, width] = self.shape;
        Array3::zeros((depth, height, width / 2 + 1))
    }

    /// The spectrum of a volume, which may be smaller than the transform's shape on every axis: zeros follow it.
    ///
    /// # Errors
    /// [`FourierError`] where the spectrum is not of this transform.
    pub fn forward(&self, volume: &Array3<f32>, spectrum: &mut Spectrum) -> Result<()> {
        for (z, mut plane) in spectrum.axis_iter_mut(Axis(0)).enumerate() {
            if z >= volume.dim().0 {
                plane.fill(Complex::default());
                continue;
            }
            let source = volume.index_axis(Axis(0), z);
            self.forward_plane(&mut plane, volume.dim().1, |y, row| {
                row.iter_mut()
                    .zip(source.row(y))
                    .for_each(|(to, from)| *to = *from);
            })?;
        }
        for mut plane in spectrum.axis_iter_mut(Axis(1)) {
            transform_columns(&mut plane, &[&self.to_z], |_, _| {});
        }
        Ok(())
    }

    /// The volume of a spectrum, or its first voxels on every axis where the volume is smaller than the transform's
    /// shape. The spectrum is used up.
    ///
    /// # Errors
    /// [`FourierError`] where the spectrum is not of this transform.
    pub fn inverse(&self, spectrum: &mut Spectrum, mut volume: ArrayViewMut3<'_, f32>) -> Result<()> {
        for mut plane in spectrum.axis_iter_mut(Axis(1)) {
            transform_columns(&mut plane, &[&self.from_z], |_, _| {});
        }
        let scale = 1.0 / self.shape.iter().product::<usize>() as f32;
        for (mut result, mut plane) in volume.axis_iter_mut(Axis(0)).zip(spectrum.axis_iter_mut(Axis(0))) {
            self.inverse_plane(&mut plane, &mut result)?;
            result.mapv_inplace(|voxel| scale * voxel);
        }
        Ok(())
    }

    /// Transforms a plane `(y, x)` along both axes; `fill` gives its first `rows` rows, zero so far.
    ///
    /// # Errors
    /// [`FourierError`] where the plane is not of this transform.
    pub fn forward_plane(
        &self,
        plane: &mut ArrayViewMut2<'_, Complex<f32>>,
        rows: usize,
        mut fill: impl FnMut(usize, &mut [f32]),
    ) -> Result<()> {
        let mut row = vec![0.0; self.shape[2]];
        let mut coefficients = self.to_x.make_output_vec();
        let mut scratch = self.to_x.make_scratch_vec();
        for (y, mut target) in plane.axis_iter_mut(Axis(0)).enumerate() {
            if y >= rows {
                target.fill(Complex::default());
                continue;
            }
            row.fill(0.0);
            fill(y, &mut row);
            self.to_x
                .process_with_scratch(&mut row, &mut coefficients, &mut scratch)
                .map_err(FourierError)?;
            target
                .iter_mut()
                .zip(&coefficients)
                .for_each(|(to, from)| *to = *from);
        }
        transform_columns(plane, &[&self.to_y], |_, _| {});
        Ok(())
    }

    /// Transforms each column of a plane `(z, k_x)` along z, calls `weigh` with the column's number and its coefficients,
    /// and transforms it back.
    pub fn along_z_and_back(
        &self,
        plane: &mut ArrayViewMut2<'_, Complex<f32>>,
        weigh: impl Fn(usize, &mut [Complex<f32>]),
    ) {
        transform_columns(plane, &[&self.to_z, &self.from_z], weigh);
    }

    /// Transforms a plane `(k_y, k_x)` back to real rows, as many and as long as the result has, without the factor
    /// 1 / voxels.
    ///
    /// # Errors
    /// [`FourierError`] where the plane is not of this transform.
    pub fn inverse_plane(
        &self,
        plane: &mut ArrayViewMut2<'_, Complex<f32>>,
        result: &mut ArrayViewMut2<'_, f32>,
    ) -> Result<()> {
        transform_columns(plane, &[&self.from_y], |_, _| {});
        let width = self.shape[2];
        let mut row = vec![0.0; width];
        let mut coefficients = self.from_x.make_input_vec();
        let mut scratch = self.from_x.make_scratch_vec();
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
            self.from_x
                .process_with_scratch(&mut coefficients, &mut row, &mut scratch)
                .map_err(FourierError)?;
            target.iter_mut().zip(&row).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Fft3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fft3")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Cycles per voxel of coefficient `i` of `n`; +½ at the Nyquist frequency.
pub fn frequency(i: usize, n: usize) -> f64 {
    let signed = if 2 * i <= n { i as f64 } else { i as f64 - n as f64 };
    signed / n as f64
}

/// The smallest number from `n` on with no prime factor above 7, for which transforms are quick.
pub fn fast_length(n: usize) -> usize {
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
    let columns = plane.ncols();
    for first in (0..columns).step_by(COLUMNS) {
        let end = (first + COLUMNS).min(columns);
        let mut columns = plane.slice_mut(s![.., first..end]);
        let block = &mut block[..(end - first) * length];
        for (r, row) in columns.axis_iter(Axis(0)).enumerate() {
            row.iter()
                .enumerate()
                .for_each(|(c, value)| block[c * length + r] = *value);
        }
        for (pass, fft) in transforms.iter().enumerate() {
            fft.process_with_scratch(block, &mut scratch);
            if pass == 0 {
                for (c, column) in block.chunks_exact_mut(length).enumerate() {
                    weigh(first + c, column);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ripples([depth, height, width]: [usize; 3]) -> Array3<f32> {
        Array3::from_shape_fn((depth, height, width), |(z, y, x)| {
            ((z * 37 + y * 101 + x * 13) % 17) as f32 - 8.0
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_spectrum_is_the_sum_over_all_waves(
            small in prop::array::uniform3(1..6_usize),
            more in prop::array::uniform3(0..5_usize),
        ) {
            let volume = ripples(small);
            let shape: [usize; 3] = std::array::from_fn(|axis| small[axis] + more[axis]);
            let fft = Fft3::new(shape);
            let mut spectrum = fft.spectrum();
            spectrum.fill(Complex::new(9.0, 9.0));
            fft.forward(&volume, &mut spectrum).unwrap();
            for ((kz, ky, kx), found) in spectrum.indexed_iter() {
                let k: [f64; 3] = [frequency(kz, shape[0]), frequency(ky, shape[1]), frequency(kx, shape[2])];
                let expected: Complex<f64> = volume
                    .indexed_iter()
                    .map(|((z, y, x), &voxel)| {
                        let phase = k[0] * z as f64 + k[1] * y as f64 + k[2] * x as f64;
                        Complex::from_polar(f64::from(voxel), -std::f64::consts::TAU * phase)
                    })
                    .sum();
                let found = Complex::new(f64::from(found.re), f64::from(found.im));
                prop_assert!((found - expected).norm() < 1e-3, "{k:?}: {found} for {expected}");
            }
            // Back, and no more of it than was there.
            let mut back = Array3::zeros(small);
            fft.inverse(&mut spectrum, back.view_mut()).unwrap();
            prop_assert!((&back - &volume).iter().all(|difference| difference.abs() < 1e-4));
        }
    }

    #[test]
    fn lengths_are_rounded_up_to_small_primes() {
        for (n, expected) in [(0, 1), (1, 1), (11, 12), (97, 98), (210, 210), (528, 540)] {
            assert_eq!(fast_length(n), expected);
        }
    }
}
