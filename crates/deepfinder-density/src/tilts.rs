use ndarray::Array3;

use crate::optics::{Optics, exposure_filter};
use crate::weights::over_spectrum;

/// An image of a tilt series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tilt {
    /// Tilt about y.
    pub degrees: f64,
    /// Electrons per Å² that the specimen had seen at the middle of this image's exposure.
    pub exposure: f64,
    /// Underfocus of this image in µm; `None` where it is that of the series.
    pub defocus_um: Option<f64>,
}

impl Tilt {
    /// The tilts of a series, which share an exposure in electrons per Å² evenly. They are taken from the one nearest
    /// 0° outwards, to both sides in turn (dose-symmetric).
    pub fn dose_symmetric(tilts_degrees: &[f64], exposure: f64) -> Vec<Self> {
        let mut order: Vec<usize> = (0..tilts_degrees.len()).collect();
        order.sort_by(|&a, &b| tilts_degrees[a].abs().total_cmp(&tilts_degrees[b].abs()));
        let each = exposure / tilts_degrees.len().max(1) as f64;
        let mut tilts: Vec<Self> = tilts_degrees
            .iter()
            .map(|&degrees| Self {
                degrees,
                exposure: 0.0,
                defocus_um: None,
            })
            .collect();
        for (rank, tilt) in order.into_iter().enumerate() {
            tilts[tilt].exposure = (rank as f64 + 0.5) * each;
        }
        tilts
    }
}

/// A tilt series, as far as it decides what a reconstruction shows.
#[derive(Debug, Clone, PartialEq)]
pub struct TiltScheme {
    /// The images, in any order; two at least.
    pub tilts: Vec<Tilt>,
    /// The microscope; `None` for a contrast transfer of 1 everywhere.
    pub optics: Option<Optics>,
    /// Whether the phases that the contrast transfer function reversed were turned back before reconstruction.
    pub phases_flipped: bool,
}

impl TiltScheme {
    /// What a weighted back-projection of the series leaves of each coefficient of a cube's spectrum, `(k_z, k_y, k_x)`:
    /// 1 where all is measured and nothing weakened, 0 in the missing wedge and between two tilts that stand too far apart for the
    /// cube's size; less than 0 where contrast is reversed.
    ///
    /// A tilt measures the plane through 0 that it stands across, as thick as a coefficient of the cube is wide. The
    /// ramp of back-projection weighs it by its distance from the tilt axis and the angle it stands for, so that
    /// planes that overlap near the axis count as one; on it comes the image's contrast transfer, and what radiation damage
    /// left. Dark particles stay dark: contrast is taken to be 1, not −1, at low frequencies.
    pub fn transfer(&self, shape: [usize; 3], voxel_size_angstrom: f64) -> Array3<f32> {
        let mut tilts = self.tilts.clone();
        tilts.sort_by(|a, b| a.degrees.total_cmp(&b.degrees));
        let planes: Vec<Plane> = (0..tilts.len())
            .map(|i| {
                let (before, after) = (i.saturating_sub(1), (i + 1).min(tilts.len() - 1));
                let gap = tilts[after].degrees - tilts[before].degrees;
                // A tilt stands for half of the gap on each side; the outermost for a whole one.
                let angle = gap.to_radians() / if after - before == 2 { 2.0 } else { 1.0 };
                let (sine, cosine) = tilts[i].degrees.to_radians().sin_cos();
                let optics = self.optics.map(|optics| Optics {
                    defocus_um: tilts[i].defocus_um.unwrap_or(optics.defocus_um),
                    ..optics
                });
                Plane {
                    sine,
                    cosine,
                    angle,
                    exposure: tilts[i].exposure,
                    optics,
                }
            })
            .collect();
        let extent = shape.into_iter().max().unwrap_or(1) as f64;
        over_spectrum(shape, |[k_x, k_y, k_z]| {
            let terms = planes.iter().map(|plane| {
                let (along, across) = (
                    k_x * plane.cosine + k_z * plane.sine,
                    k_z * plane.cosine - k_x * plane.sine,
                );
                let thickness = 1.0 - extent * across.abs();
                if thickness <= 0.0 {
                    return 0.0;
                }
                let weight = thickness * plane.angle * extent * along.abs();
                weight * self.image(plane, k_y.hypot(along) / voxel_size_angstrom)
            });
            // On the tilt axis every image measures, and the ramp's middle lets the mean of them through.
            if extent * k_x.hypot(k_z) < 0.5 {
                let images = planes
                    .iter()
                    .map(|plane| self.image(plane, k_y.abs() / voxel_size_angstrom));
                return (images.sum::<f64>() / planes.len() as f64) as f32;
            }
            terms.sum::<f64>() as f32
        })
    }

    /// What an image keeps of a spatial frequency in 1/Å.
    fn image(&self, plane: &Plane, per_angstrom: f64) -> f64 {
        let voltage = plane.optics.unwrap_or_default().voltage_kv;
        let contrast = plane.optics.map_or(1.0, |optics| {
            let transfer = optics.transfer(per_angstrom);
            if self.phases_flipped {
                transfer.abs()
            } else {
                -transfer
            }
        });
        contrast * exposure_filter(per_angstrom, plane.exposure, voltage)
    }
}

/// The plane of Fourier space that an image measures.
struct Plane {
    sine: f64,
    cosine: f64,
    /// Angle that it stands for, in radians.
    angle: f64,
    exposure: f64,
    optics: Option<Optics>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fft::frequency;

    fn scheme(half_range: i32, step: i32) -> TiltScheme {
        let degrees: Vec<f64> = (-half_range..=half_range)
            .step_by(step as usize)
            .map(f64::from)
            .collect();
        TiltScheme {
            tilts: Tilt::dose_symmetric(&degrees, 0.0),
            optics: None,
            phases_flipped: true,
        }
    }

    #[test]
    fn the_dose_grows_outwards() {
        let tilts = Tilt::dose_symmetric(&[-6.0, -3.0, 0.0, 3.0, 6.0], 100.0);
        let exposures: Vec<f64> = tilts.iter().map(|tilt| tilt.exposure).collect();
        assert_eq!(exposures, [70.0, 30.0, 10.0, 50.0, 90.0]);
    }

    #[test]
    fn close_tilts_leave_the_missing_wedge_alone() {
        const SIDE: usize = 24;
        let transfer = scheme(60, 1).transfer([SIDE; 3], 10.0);
        for ((z, _, x), &weight) in transfer.indexed_iter() {
            let [k_z, k_x] = [frequency(z, SIDE), frequency(x, SIDE)];
            let angle = k_z.atan2(k_x).to_degrees().abs();
            let radius = SIDE as f64 * k_z.hypot(k_x);
            // What a plane's thickness smears out near the border, and near the axis, is neither.
            let rim = (1.0 / radius).asin().to_degrees() + 1.0;
            if radius > 2.0 && angle < 60.0 - rim {
                assert!((weight - 1.0).abs() < 0.1, "{k_z} {k_x}: {weight}");
            } else if radius > 2.0 && angle > 60.0 + rim {
                assert_eq!(weight, 0.0, "{k_z} {k_x}");
            }
        }
        assert_eq!(transfer[[0, 5, 0]], 1.0);
    }

    #[test]
    fn distant_tilts_leave_gaps_far_from_the_axis() {
        let transfer = scheme(60, 15).transfer([48; 3], 10.0);
        // Along x, where there is a tilt, all is measured; halfway to the next only near the axis.
        assert!(transfer[[0, 0, 20]] > 0.9);
        assert_eq!(transfer[[3, 0, 20]], 0.0);
        assert!(transfer[[0, 0, 3]] > 0.4);
    }

    #[test]
    fn contrast_and_damage_weigh_every_plane() {
        let mut scheme = scheme(60, 3);
        let size = 5.0;
        let optics = Optics::default();
        scheme.optics = Some(optics);
        let at = |scheme: &TiltScheme, y: usize| f64::from(scheme.transfer([40; 3], size)[[0, y, 0]]);
        for y in [2, 9, 15] {
            let per_angstrom = y as f64 / 40.0 / size;
            let expected = optics.transfer(per_angstrom);
            assert!((at(&scheme, y) - expected.abs()).abs() < 1e-6);
        }
        scheme.phases_flipped = false;
        let zero = 0.0411;
        let [below, above] = [0.8 * zero, 1.2 * zero].map(|k: f64| (k * 40.0 * size).round() as usize);
        assert!(at(&scheme, below) > 0.0 && at(&scheme, above) < 0.0);
        // Another defocus moves the zero beyond; damage weakens what is fine.
        let undamaged = at(&scheme, above);
        for tilt in &mut scheme.tilts {
            tilt.defocus_um = Some(1.0);
        }
        assert!(at(&scheme, above) > 0.0);
        for tilt in &mut scheme.tilts {
            (tilt.defocus_um, tilt.exposure) = (None, 100.0);
        }
        assert!(at(&scheme, above).abs() < 0.5 * undamaged.abs());
    }
}
