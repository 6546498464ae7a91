//! Random changes of patches.

use ndarray::{Array3, Axis};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::Augmentation;
use crate::patch::reflect;

/// What is changed in a patch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changes {
    pub(crate) turned: bool,
    pub(crate) contrast: f32,
    pub(crate) brightness: f32,
    /// Standard deviation in voxels.
    pub(crate) blur: Option<f32>,
    /// Standard deviation.
    pub(crate) noise: Option<f32>,
}

impl Changes {
    pub(crate) const NONE: Self = Self {
        turned: false,
        contrast: 1.0,
        brightness: 0.0,
        blur: None,
        noise: None,
    };

    pub(crate) fn draw(params: &Augmentation, rng: &mut impl Rng) -> Self {
        let turned = params.half_turn && rng.random();
        let mut around = |centre: f32, width: f32| {
            if width > 0.0 {
                rng.random_range(centre - width..=centre + width)
            } else {
                centre
            }
        };
        let (contrast, brightness) = (around(1.0, params.contrast), around(0.0, params.brightness));
        let mut up_to = |most: f32| (most > 0.0).then(|| rng.random_range(0.0..most));
        Self {
            turned,
            contrast,
            brightness,
            blur: up_to(params.blur),
            noise: up_to(params.noise),
        }
    }

    pub(crate) fn make(&self, voxels: &mut Array3<f32>, labels: &mut Array3<u8>, rng: &mut impl Rng) {
        if self.turned {
            half_turn(voxels);
            half_turn(labels);
        }
        if let Some(deviation) = self.blur {
            blur(voxels, deviation);
        }
        let (contrast, brightness) = (self.contrast, self.brightness);
        if (contrast, brightness) != (1.0, 0.0) {
            voxels.mapv_inplace(|voxel| contrast * voxel + brightness);
        }
        if let Some(deviation) = self.noise {
            voxels.mapv_inplace(|voxel| {
                let normal: f32 = StandardNormal.sample(rng);
                voxel + deviation * normal
            });
        }
    }
}

/// Gaussian blur along each axis, reflected at the border.
fn blur(voxels: &mut Array3<f32>, deviation: f32) {
    let reach = (3.0 * deviation).ceil() as i64;
    let weights: Vec<f32> = (-reach..=reach)
        .map(|i| (-0.5 * (i as f32 / deviation.max(f32::MIN_POSITIVE)).powi(2)).exp())
        .collect();
    let sum: f32 = weights.iter().sum();
    for axis in 0..3 {
        for mut lane in voxels.lanes_mut(Axis(axis)) {
            let old = lane.to_vec();
            for (i, voxel) in lane.iter_mut().enumerate() {
                let places = (i as i64 - reach..).map(|place| reflect(place, old.len()));
                let around = places.zip(&weights).map(|(place, weight)| weight * old[place]);
                *voxel = around.sum::<f32>() / sum;
            }
        }
    }
}

/// 180° about y: the missing wedge, symmetric about the tilt axis, stays where it is.
fn half_turn<T>(patch: &mut Array3<T>) {
    patch.invert_axis(Axis(0));
    patch.invert_axis(Axis(2));
}

#[cfg(test)]
mod tests {
    use deepfinder_core::Moments;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn intensities_change_as_asked() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let params = Augmentation {
            half_turn: false,
            contrast: 0.2,
            brightness: 0.5,
            ..Augmentation::default()
        };
        let mut labels = Array3::zeros((20, 20, 20));
        let mut voxels = Array3::from_shape_fn((20, 20, 20), |(z, _, _)| if z % 2 == 0 { 1.0 } else { -1.0 });
        Changes::draw(&params, &mut rng).make(&mut voxels, &mut labels, &mut rng);
        let moments = Moments::of(voxels.iter());
        assert!((0.8..1.2).contains(&moments.standard_deviation()) && moments.mean.abs() <= 0.5);
        assert_ne!(moments.mean, 0.0);

        let noise = Augmentation {
            half_turn: false,
            noise: 0.5,
            ..Augmentation::default()
        };
        let deviations = [0; 40].map(|_| {
            voxels.fill(3.0);
            Changes::draw(&noise, &mut rng).make(&mut voxels, &mut labels, &mut rng);
            let moments = Moments::of(voxels.iter());
            assert!((moments.mean - 3.0).abs() < 0.03);
            moments.standard_deviation()
        });
        assert!(deviations.iter().all(|deviation| *deviation < 0.51));
        assert!(deviations.iter().any(|deviation| *deviation < 0.2));
        assert!(deviations.iter().any(|deviation| *deviation > 0.3));
    }

    #[test]
    fn a_blur_is_the_gaussian() {
        let mut voxels = Array3::zeros((21, 21, 21));
        voxels[[10, 10, 10]] = 1.0;
        blur(&mut voxels, 1.5);
        let sum: f32 = voxels.sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        for (axis, step) in [[1, 0, 0], [0, 1, 0], [0, 0, 1]].iter().enumerate() {
            let at =
                |n: usize| voxels[[10 + n * step[0], 10 + n * step[1], 10 + n * step[2]]] / voxels[[10; 3]];
            for n in 1..4 {
                let expected = (-0.5 * (n as f32 / 1.5).powi(2)).exp();
                assert!((at(n) - expected).abs() < 1e-5, "axis {axis}, {n}: {}", at(n));
            }
        }
        let mut ramp = Array3::from_shape_fn((4, 4, 4), |(z, _, _)| z as f32);
        let before = ramp.clone();
        blur(&mut ramp, 0.0);
        assert_eq!(ramp, before);
        // Past a patch's border its reflection is seen, also far out.
        blur(&mut ramp, 5.0);
        assert!(ramp.iter().all(|voxel| (0.0..=3.0).contains(voxel)));
    }
}
