use deepfinder_core::{Rotation, TiltRange};
use ndarray::Array3;

use crate::fft::frequency;

/// Which coefficients of a volume's spectrum a tilt series measures: 1, and 0 in the missing wedge.
///
/// `tomogram_from_volume` rotates the volume's frame to the tomogram's, in which the tilt axis is y: the identity for a
/// piece of the tomogram, a particle's rotation for a volume in the particle's frame.
pub fn wedge(shape: [usize; 3], tilt: TiltRange, tomogram_from_volume: Rotation) -> Array3<f32> {
    let unrotated = tomogram_from_volume == Rotation::IDENTITY;
    over_spectrum(shape, |k| {
        // A rotation's rounding must not take a coefficient for one at the Nyquist frequency, nor the other way round.
        let [k_x, _, k_z] = if unrotated {
            k
        } else {
            tomogram_from_volume.apply(k)
        };
        f32::from(u8::from(tilt.measures(k_z, k_x)))
    })
}

/// A Gaussian low-pass filter that has come down to ½ at that frequency, in cycles per voxel.
pub fn low_pass(shape: [usize; 3], half_frequency: f64) -> Array3<f32> {
    over_spectrum(shape, |k| {
        k.map(|k| low_pass_factor(k, half_frequency)).iter().product()
    })
}

/// Factor of [`low_pass`] along one axis; the product over the axes is the filter.
pub fn low_pass_factor(frequency: f64, half_frequency: f64) -> f32 {
    (-std::f64::consts::LN_2 * (frequency / half_frequency).powi(2)).exp() as f32
}

/// Weights of a cube's voxels in a ball about the voxel `side / 2`: 1 up to the radius, and beyond it down to 0 along a
/// cosine over the edge; both in voxels.
pub fn soft_ball(side: usize, radius: f64, edge: f64) -> Array3<f32> {
    let centre = (side / 2) as f64;
    Array3::from_shape_fn([side; 3], |(z, y, x)| {
        let squared: f64 = [z, y, x].map(|i| (i as f64 - centre).powi(2)).iter().sum();
        let beyond = squared.sqrt() - radius;
        if beyond <= 0.0 {
            1.0
        } else if beyond < edge {
            (0.5 + 0.5 * (std::f64::consts::PI * beyond / edge).cos()) as f32
        } else {
            0.0
        }
    })
}

/// A weight for each coefficient, by its frequencies `(k_x, k_y, k_z)`.
pub(crate) fn over_spectrum(
    [depth, height, width]: [usize; 3],
    weight: impl Fn([f64; 3]) -> f32,
) -> Array3<f32> {
    Array3::from_shape_fn((depth, height, width / 2 + 1), |(z, y, x)| {
        weight([frequency(x, width), frequency(y, height), frequency(z, depth)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wedge_turns_with_its_particle() {
        let tilt = TiltRange::symmetric(60.0);
        let flat = wedge([12; 3], tilt, Rotation::IDENTITY);
        assert_eq!(
            (flat[[3, 0, 0]], flat[[0, 3, 0]], flat[[0, 0, 3]]),
            (0.0, 1.0, 1.0)
        );
        // A quarter turn about x brings the particle's y onto the tomogram's z, which is not measured.
        let turned = wedge([12; 3], tilt, Rotation::about_x(90.0));
        assert_eq!(
            (turned[[3, 0, 0]], turned[[0, 3, 0]], turned[[0, 0, 3]]),
            (1.0, 0.0, 1.0)
        );
        // Two thirds of all directions about y are measured; how many coefficients, a cube's corners decide too.
        for rotation in [Rotation::IDENTITY, Rotation::from_zxz_degrees(20.0, 70.0, 40.0)] {
            let part = wedge([32; 3], tilt, rotation).mean().unwrap();
            assert!((part - 0.67).abs() < 0.06, "{part}");
        }
    }

    #[test]
    fn a_ball_has_a_soft_edge() {
        let ball = soft_ball(17, 4.0, 4.0);
        for (x, expected) in [(8, 1.0), (12, 1.0), (14, 0.5), (16, 0.0), (2, 0.5)] {
            assert!((ball[[8, 8, x]] - expected).abs() < 1e-6);
        }
        assert_eq!(soft_ball(4, 1.0, 0.0).iter().sum::<f32>(), 7.0);
    }

    #[test]
    fn a_low_pass_is_half_at_its_frequency() {
        let filter = low_pass([10, 20, 40], 0.1);
        for voxel in [[1, 0, 0], [0, 2, 0], [0, 0, 4], [9, 0, 0]] {
            assert!((filter[voxel] - 0.5).abs() < 1e-6);
        }
        assert_eq!(filter[[0, 0, 0]], 1.0);
    }
}
