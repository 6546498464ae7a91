use deepfinder_core::{Rotation, Volume};
use deepfinder_density::{DensitySampler, Interpolation};
use ndarray::Array3;

use crate::{Result, SimError};

/// Density below this fraction of the maximum counts as empty.
const SUPPORT_FRACTION: f32 = 1e-3;

/// A density map of one class, with the particle's centre at `side / 2` on every axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Name of the class.
    pub name: String,
    /// Density `(z, y, x)`, 0 in the solvent and positive in the particle.
    pub density: Volume<f32>,
}

impl Template {
    /// A template of that name.
    pub fn new(name: impl Into<String>, density: Volume<f32>) -> Self {
        Self {
            name: name.into(),
            density,
        }
    }
}

/// A template, ready to be sampled between its voxels.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    density: DensitySampler,
    /// No density is further than this from the centre, interpolation included.
    pub(crate) radius: f64,
    /// Density from which a voxel belongs to the particle.
    pub(crate) threshold: f32,
    /// Offsets `(x, y, z)` from the centre of the voxels that belong to the unrotated particle.
    pub(crate) mask: Vec<[f64; 3]>,
    /// Largest density.
    pub(crate) maximum: f32,
}

impl Sampler {
    pub(crate) fn new(template: &Template, interpolation: Interpolation, mask_fraction: f32) -> Result<Self> {
        let fail = |what| {
            Err(SimError::Template {
                name: template.name.clone(),
                what,
            })
        };
        let voxels = &template.density.voxels;
        if voxels.iter().any(|density| !density.is_finite()) {
            return fail("holds values that are not finite");
        }
        let maximum = voxels.iter().fold(0.0, |a: f32, &b| a.max(b));
        if maximum <= 0.0 {
            return fail("is empty");
        }
        let shape = template.density.shape();
        let centre = shape.map(|side| side as f64 / 2.0);
        let threshold = mask_fraction * maximum;
        let mut radius_squared: f64 = 0.0;
        let mut mask = Vec::new();
        let mut density = Array3::zeros(shape);
        for ((z, y, x), &voxel) in voxels.indexed_iter() {
            if voxel.abs() < SUPPORT_FRACTION * maximum {
                continue;
            }
            density[[z, y, x]] = voxel;
            let offset @ [dx, dy, dz] = [x as f64 - centre[2], y as f64 - centre[1], z as f64 - centre[0]];
            radius_squared = radius_squared.max(dx * dx + dy * dy + dz * dz);
            if voxel >= threshold {
                mask.push(offset);
            }
        }
        Ok(Self {
            density: DensitySampler::new(&density, interpolation),
            radius: radius_squared.sqrt() + DensitySampler::reach(interpolation),
            threshold,
            mask,
            maximum,
        })
    }

    /// The density at an offset `(x, y, z)` from the centre, in the particle's frame.
    pub(crate) fn density(&self, offset: [f64; 3]) -> f32 {
        self.density.at(offset)
    }
}

/// A template, turned and put in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pose<'a> {
    pub(crate) sampler: &'a Sampler,
    /// `[z, y, x]`.
    position: [f64; 3],
    /// Tomogram → particle, acting on `(x, y, z)`.
    particle_from_tomogram: [[f64; 3]; 3],
}

impl<'a> Pose<'a> {
    pub(crate) fn new(sampler: &'a Sampler, [x, y, z]: [f64; 3], tomogram_from_particle: Rotation) -> Self {
        Self {
            sampler,
            position: [z, y, x],
            particle_from_tomogram: tomogram_from_particle.inverse().matrix(),
        }
    }

    /// Calls `paint` with every voxel `[z, y, x]` that the density may reach, inside these bounds
    /// (first and one past the last), and the density there. Rows come in order of z, then y, then x.
    pub(crate) fn draw(&self, first: [i64; 3], end: [i64; 3], mut paint: impl FnMut([i64; 3], f32)) {
        let radius = self.sampler.radius;
        let range = |axis: usize, reach: f64| {
            // Casts saturate, so that a particle far away stays far away.
            let from = (self.position[axis] - reach).ceil() as i64;
            let to = (self.position[axis] + reach).floor() as i64;
            from.max(first[axis])..=to.min(end[axis] - 1)
        };
        for z in range(0, radius) {
            let dz = z as f64 - self.position[0];
            for y in range(1, radius) {
                let dy = y as f64 - self.position[1];
                let chord = radius * radius - dz * dz - dy * dy;
                if chord < 0.0 {
                    continue;
                }
                for x in range(2, chord.sqrt()) {
                    let dx = x as f64 - self.position[2];
                    let offset = self
                        .particle_from_tomogram
                        .map(|[rx, ry, rz]| rx * dx + ry * dy + rz * dz);
                    paint([z, y, x], self.sampler.density(offset));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(interpolation: Interpolation) -> Sampler {
        let density = Array3::from_shape_fn((12, 14, 16), |(z, y, x)| {
            1.0 + z as f32 + 0.5 * y as f32 + 0.25 * x as f32
        });
        Sampler::new(&Template::new("ramp", Volume::new(density)), interpolation, 0.1).unwrap()
    }

    #[test]
    fn a_pose_reaches_all_of_its_density() {
        for interpolation in [Interpolation::Linear, Interpolation::Cubic] {
            let sampler = sampler(interpolation);
            let rotation = Rotation::from_zxz_degrees(20.0, 50.0, 70.0);
            let pose = Pose::new(&sampler, [20.3, 20.6, 19.9], rotation);
            let (mut near, mut all) = (0.0, 0.0);
            pose.draw([0; 3], [40; 3], |_, density| near += f64::from(density.abs()));
            for voxel in 0..40 * 40 * 40 {
                let [z, y, x] = [voxel / 1600, voxel / 40 % 40, voxel % 40].map(f64::from);
                let offset = rotation.inverse().apply([x - 20.3, y - 20.6, z - 19.9]);
                all += f64::from(sampler.density(offset).abs());
            }
            assert!((near - all).abs() < 1e-6 * all, "{near} of {all}");
        }
    }

    #[test]
    fn templates_without_density_are_refused() {
        let check = |density: Array3<f32>, word: &str| {
            let error = Sampler::new(
                &Template::new("a", Volume::new(density)),
                Interpolation::Linear,
                0.1,
            )
            .unwrap_err()
            .to_string();
            assert!(error.contains(word), "{error}");
        };
        check(Array3::zeros((4, 4, 4)), "is empty");
        check(Array3::from_elem((4, 4, 4), -1.0), "is empty");
        check(Array3::from_elem((4, 4, 4), f32::NAN), "not finite");
        check(Array3::zeros((0, 4, 4)), "is empty");
    }
}
