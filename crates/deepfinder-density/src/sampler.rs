use ndarray::{Array3, s};

/// How a density is sampled between its voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interpolation {
    /// Trilinear; blurs by about a voxel.
    Linear,
    /// Cubic convolution with a = −½ (Keys 1981), which keeps fine detail.
    #[default]
    Cubic,
}

/// Zeros around the density, so that the taps of the cubic kernel need no bounds.
const RIM: usize = 3;

/// A density, ready to be sampled between its voxels; 0 outside. Its centre is at `side / 2` on every axis: on voxel 8
/// of 16, between voxels 7 and 8 of 15.
#[derive(Debug, Clone)]
pub struct DensitySampler {
    /// With the rim, C-contiguous.
    density: Vec<f32>,
    sides: [usize; 3],
    centre: [f64; 3],
    interpolation: Interpolation,
}

impl DensitySampler {
    /// Of a density `(z, y, x)`.
    pub fn new(density: &Array3<f32>, interpolation: Interpolation) -> Self {
        let shape: [usize; 3] = density.dim().into();
        let sides = shape.map(|side| side + 2 * RIM);
        let mut padded = Array3::zeros(sides);
        let [z, y, x] = shape.map(|side| side + RIM);
        padded.slice_mut(s![RIM..z, RIM..y, RIM..x]).assign(density);
        Self {
            density: padded.into_raw_vec_and_offset().0,
            sides,
            centre: shape.map(|side| side as f64 / 2.0),
            interpolation,
        }
    }

    /// How far from a voxel its density reaches, in voxels: the kernel's 1 (linear) or 2 on each axis, on the diagonal.
    pub const fn reach(interpolation: Interpolation) -> f64 {
        match interpolation {
            Interpolation::Linear => 1.75,
            Interpolation::Cubic => 3.5,
        }
    }

    /// The density at an offset `(x, y, z)` from the centre.
    pub fn at(&self, [x, y, z]: [f64; 3]) -> f32 {
        let mut floor = [0; 3];
        let mut fraction = [0.0; 3];
        for (axis, offset) in [z, y, x].into_iter().enumerate() {
            let point = offset + self.centre[axis] + RIM as f64;
            let below = point.floor();
            if !(1.0..self.sides[axis] as f64 - 2.0).contains(&below) {
                return 0.0;
            }
            floor[axis] = below as usize;
            fraction[axis] = (point - below) as f32;
        }
        match self.interpolation {
            Interpolation::Linear => self.sum(floor, fraction.map(|t| [1.0 - t, t])),
            Interpolation::Cubic => self.sum(floor.map(|i| i - 1), fraction.map(cubic_weights)),
        }
    }

    /// Another volume `(z, y, x)` made of this density: each voxel, at an offset `(x, y, z)` from the volume's centre at
    /// `side / 2`, takes what is at the `place` of that offset.
    pub fn resampled(&self, shape: [usize; 3], place: impl Fn([f64; 3]) -> [f64; 3]) -> Array3<f32> {
        let [cz, cy, cx] = shape.map(|side| side as f64 / 2.0);
        Array3::from_shape_fn(shape, |(z, y, x)| {
            self.at(place([x as f64 - cx, y as f64 - cy, z as f64 - cz]))
        })
    }

    /// Weighted sum over `N³` voxels from the first.
    fn sum<const N: usize>(&self, [z, y, x]: [usize; 3], [wz, wy, wx]: [[f32; N]; 3]) -> f32 {
        let mut sum = 0.0;
        for (dz, wz) in wz.into_iter().enumerate() {
            for (dy, wy) in wy.into_iter().enumerate() {
                let first = ((z + dz) * self.sides[1] + y + dy) * self.sides[2] + x;
                let row = &self.density[first..first + N];
                sum += wz
                    * wy
                    * row
                        .iter()
                        .zip(&wx)
                        .map(|(voxel, weight)| voxel * weight)
                        .sum::<f32>();
            }
        }
        sum
    }
}

/// Weights of the voxels at −1, 0, 1, 2 for a point at `t` in [0, 1): Keys' kernel with a = −½.
pub fn cubic_weights(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kernels_reproduce_a_ramp() {
        let density = Array3::from_shape_fn((12, 14, 16), |(z, y, x)| {
            1.0 + z as f32 + 0.5 * y as f32 + 0.25 * x as f32
        });
        for interpolation in [Interpolation::Linear, Interpolation::Cubic] {
            let sampler = DensitySampler::new(&density, interpolation);
            for [x, y, z] in [[0.0, 0.0, 0.0], [0.3, -0.6, 1.7], [-2.25, 3.5, -1.0]] {
                let expected = 1.0 + (z + 6.0) + 0.5 * (y + 7.0) + 0.25 * (x + 8.0);
                let found = f64::from(sampler.at([x, y, z]));
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{interpolation:?}: {found} for {expected}"
                );
            }
            assert_eq!(sampler.at([0.0, 0.0, 30.0]), 0.0);
            assert_eq!(sampler.at([f64::NAN, 0.0, 0.0]), 0.0);
        }
    }

    #[test]
    fn resampling_in_place_changes_nothing() {
        for shape in [[4, 5, 6], [7, 3, 1]] {
            let density = Array3::from_shape_fn(shape, |(z, y, x)| (100 * z + 10 * y + x) as f32);
            let sampler = DensitySampler::new(&density, Interpolation::Cubic);
            assert_eq!(sampler.resampled(shape, |offset| offset), density);
        }
    }
}
