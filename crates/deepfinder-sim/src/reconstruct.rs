use deepfinder_core::{Progress, VolumeWriter};
use ndarray::{Array3, Axis};
use rayon::prelude::*;

use crate::tilt_series::Taps;
use crate::{Result, TiltSeries, TiltSeriesParams};

/// Planes reconstructed before they are written.
const SLAB_PLANES: usize = 16;

impl TiltSeries {
    /// Reconstructs a tomogram of that shape `(z, y, x)` by weighted back-projection, slab by slab.
    ///
    /// Each image is weighted by a ramp along x and smeared back along its beam; the sum over all tilts, times the step in
    /// radians, is the specimen where the tilts cover 180°, and the specimen without its missing wedge where they cover
    /// less. Where `params` say so, reversed phases are turned back first. Of `params` nothing else is used.
    ///
    /// # Errors
    /// [`crate::SimError::Fourier`]; where writing fails; `Cancelled`.
    pub fn reconstruct(
        &self,
        shape: [usize; 3],
        params: &TiltSeriesParams,
        tomogram: &mut dyn VolumeWriter<f32>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let [depth, height, width] = shape;
        let weighted = self.weighted(params)?;
        let image_width = weighted.images.dim().2;
        let step = params.step_degrees.to_radians() as f32;
        progress.begin("back-projecting", depth as u64, "planes");
        for first in (0..depth).step_by(SLAB_PLANES) {
            let planes = SLAB_PLANES.min(depth - first);
            let mut slab = Array3::<f32>::zeros((planes, height, width));
            slab.axis_iter_mut(Axis(0))
                .into_par_iter()
                .enumerate()
                .try_for_each(|(i, mut plane)| {
                    for (image, tilt) in weighted.images.outer_iter().zip(&weighted.tilts_degrees) {
                        let taps = Taps::of(*tilt, first + i, depth, width, image_width);
                        taps.gather(&image, step, plane.view_mut());
                    }
                    progress.advance(1);
                    progress.check()
                })?;
            tomogram.write_slab(slab.view())?;
        }
        progress.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt_series::project;
    use deepfinder_core::{NoProgress, Rotation, TiltRange};
    use deepfinder_density::{Fft3, wedge};
    use proptest::prelude::*;

    const SHAPE: [usize; 3] = [40, 6, 48];

    fn blob(shape: [usize; 3], centre: [f64; 3], sigma: f64) -> Array3<f32> {
        Array3::from_shape_fn(shape, |(z, y, x)| {
            let squared: f64 = [z, y, x]
                .iter()
                .zip(centre)
                .map(|(i, c)| (*i as f64 - c).powi(2))
                .sum();
            (-squared / (2.0 * sigma * sigma)).exp() as f32
        })
    }

    fn params(half: f64, step_degrees: f64) -> TiltSeriesParams {
        TiltSeriesParams {
            tilt: TiltRange::symmetric(half),
            step_degrees,
            optics: None,
            exposure: 0.0,
            snr: None,
            ..TiltSeriesParams::default()
        }
    }

    fn projected(volume: &Array3<f32>, params: &TiltSeriesParams, slab: usize) -> TiltSeries {
        let shape: [usize; 3] = volume.dim().into();
        let mut series = TiltSeries::empty(shape, params, None);
        for (i, planes) in volume.axis_chunks_iter(Axis(0), slab).enumerate() {
            project(&mut series, &planes, i * slab, shape[0], &NoProgress).unwrap();
        }
        series
    }

    fn reconstructed(volume: &Array3<f32>, params: &TiltSeriesParams) -> Array3<f32> {
        let shape: [usize; 3] = volume.dim().into();
        let mut slabs: Vec<Array3<f32>> = Vec::new();
        projected(volume, params, 7)
            .reconstruct(shape, params, &mut slabs, &NoProgress)
            .unwrap();
        let views: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
        ndarray::concatenate(Axis(0), &views).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        /// The transform of a projection is the central slice of the volume's, at k_z = k_x · tan θ.
        #[test]
        fn projections_are_slices(
            x in 18.0..30.0f64,
            z in 14.0..26.0f64,
            slab in 1..50_usize,
        ) {
            let volume = blob(SHAPE, [z, 2.5, x], 2.0);
            let params = params(60.0, 20.0);
            let series = projected(&volume, &params, slab);
            prop_assert_eq!(series.tilts_degrees.len(), 7);
            let mass: f64 = volume.iter().map(|v| f64::from(*v)).sum();
            let middle = |side: usize| (side as f64 - 1.0) / 2.0;
            for (image, tilt) in series.images.outer_iter().zip(&series.tilts_degrees) {
                let (sine, cosine) = tilt.to_radians().sin_cos();
                for k in [0.0, 0.03, 0.06, 0.1] {
                    let tau = std::f64::consts::TAU;
                    let along = |at: f64| (tau * k * at).sin_cos();
                    let mut slice = [0.0; 2];
                    for ((z, _, x), &v) in volume.indexed_iter() {
                        let at = (x as f64 - middle(48)) * cosine + (z as f64 - middle(40)) * sine;
                        let (s, c) = along(at);
                        slice[0] += f64::from(v) * c;
                        slice[1] += f64::from(v) * s;
                    }
                    let mut projection = [0.0; 2];
                    for ((_, u), &v) in image.indexed_iter() {
                        let (s, c) = along(u as f64 - middle(image.ncols()));
                        projection[0] += f64::from(v) * c;
                        projection[1] += f64::from(v) * s;
                    }
                    let difference = (slice[0] - projection[0]).hypot(slice[1] - projection[1]);
                    prop_assert!(difference < 0.01 * mass, "tilt {tilt}, k {k}: {difference} of {mass}");
                }
            }
        }
    }

    #[test]
    fn all_tilts_give_the_specimen_back() {
        let volume = blob(SHAPE, [21.0, 3.0, 20.0], 2.5);
        // −90° to 87°: half a turn, each direction once.
        let params = TiltSeriesParams {
            tilt: TiltRange {
                min_degrees: -90.0,
                max_degrees: 87.0,
            },
            ..params(90.0, 3.0)
        };
        let found = reconstructed(&volume, &params);
        let worst = (&found - &volume).iter().fold(0.0, |a: f32, d| a.max(d.abs()));
        assert!(worst < 0.03, "{worst}");
    }

    #[test]
    fn some_tilts_give_it_without_its_missing_wedge() {
        // Large, for the transform is periodic and the microscope is not.
        let shape = [72, 4, 72];
        let volume = blob(shape, [36.0, 2.0, 36.0], 2.5);
        let params = params(60.0, 2.0);
        let found = reconstructed(&volume, &params);
        let fft = Fft3::new(shape);
        let mut spectrum = fft.spectrum();
        fft.forward(&volume, &mut spectrum).unwrap();
        let measured = wedge(shape, params.tilt, Rotation::IDENTITY);
        spectrum.zip_mut_with(&measured, |coefficient, weight| *coefficient *= *weight);
        let mut expected = Array3::zeros(shape);
        fft.inverse(&mut spectrum, expected.view_mut()).unwrap();
        // Means differ: the coefficient at 0 belongs to every tilt and to none.
        let about_mean = |volume: &Array3<f32>| volume - volume.mean().unwrap();
        let (a, b) = (about_mean(&found), about_mean(&expected));
        let correlation = (&a * &b).sum() / ((&a * &a).sum() * (&b * &b).sum()).sqrt();
        assert!(correlation > 0.98, "{correlation}");
        let (peak, expected_peak) = (found[[36, 2, 36]], expected[[36, 2, 36]]);
        assert!(
            (peak / expected_peak - 1.0).abs() < 0.06,
            "{peak} for {expected_peak}"
        );
        // Elongated along the beam.
        // Just outside the blob: its shadow along the beam, a fringe of the other sign beside it.
        let [above, beside] = [found[[42, 2, 36]], found[[36, 2, 42]]];
        assert!(above > 0.0 && beside < 0.0, "above {above}, beside {beside}");
    }
}
