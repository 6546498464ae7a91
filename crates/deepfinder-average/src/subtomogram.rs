use deepfinder_core::{Moments, Particle, Region, Rotation, VolumeReader};
use ndarray::{Array3, s};

use crate::{AverageError, Result};

/// A tomogram and the particles in it.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The tomogram.
    pub tomogram: &'a dyn VolumeReader<f32>,
    /// Its particles; classes and scores do not matter.
    pub particles: &'a [Particle],
}

/// A particle on its way through the rounds.
#[derive(Debug, Clone)]
pub(crate) struct Pose {
    /// Number of its source, and its place in that list.
    pub(crate) source: usize,
    pub(crate) index: usize,
    /// `(x, y, z)` in voxels of the tomogram.
    pub(crate) position: [f64; 3],
    pub(crate) rotation: Option<Rotation>,
    pub(crate) score: Option<f32>,
    /// Its half-set: 0 or 1.
    pub(crate) half: usize,
}

impl Pose {
    /// The voxel `(x, y, z)` on which its box is centred, and where its centre lies from there.
    pub(crate) fn centre(&self) -> ([i64; 3], [f64; 3]) {
        let rounded = self.position.map(f64::round);
        let rest = std::array::from_fn(|axis| self.position[axis] - rounded[axis]);
        (rounded.map(|coordinate| coordinate as i64), rest)
    }
}

/// The particles whose whole box lies inside their tomogram, in turn in one half-set and the other; and how many do not.
pub(crate) fn poses(sources: &[Source<'_>], side: usize) -> (Vec<Pose>, usize) {
    let half_side = (side / 2) as f64;
    let (mut poses, mut outside) = (Vec::new(), 0);
    for (number, source) in sources.iter().enumerate() {
        let shape = source.tomogram.shape();
        for (index, particle) in source.particles.iter().enumerate() {
            let inside = (0..3).all(|axis| {
                let centre = particle.position[axis].round();
                centre >= half_side && centre + half_side <= shape[2 - axis] as f64
            });
            if inside {
                poses.push(Pose {
                    source: number,
                    index,
                    position: particle.position,
                    rotation: particle.rotation,
                    score: particle.score,
                    half: poses.len() % 2,
                });
            } else {
                outside += 1;
            }
        }
    }
    (poses, outside)
}

/// The cube of that side around a pose, with mean 0 and spread 1; 0 where it reaches outside the tomogram.
pub(crate) fn extract(sources: &[Source<'_>], pose: &Pose, side: usize) -> Result<Array3<f32>> {
    let tomogram = sources[pose.source].tomogram;
    let volume = tomogram.shape();
    let ([x, y, z], _) = pose.centre();
    let first = [z, y, x].map(|centre| centre - (side / 2) as i64);
    let start: [usize; 3] = std::array::from_fn(|axis| first[axis].clamp(0, volume[axis] as i64) as usize);
    let end: [usize; 3] = std::array::from_fn(|axis| {
        (first[axis] + side as i64).clamp(start[axis] as i64, volume[axis] as i64) as usize
    });
    let shape: [usize; 3] = std::array::from_fn(|axis| end[axis] - start[axis]);
    let window = tomogram.read_window(Region::new(start, shape))?;
    let moments = Moments::of(window.iter());
    let fail = |what| {
        Err(AverageError::Subtomogram {
            position: pose.position,
            what,
        })
    };
    if moments.non_finite > 0 {
        return fail("holds voxels that are NaN or infinite: mend the tomogram first");
    }
    if moments.is_constant() {
        return fail("is the same everywhere: take it from the list");
    }
    let (mean, deviation) = (moments.mean, moments.standard_deviation());
    let mut cube = Array3::zeros([side; 3]);
    let [z, y, x] = std::array::from_fn(|axis| (start[axis] as i64 - first[axis]) as usize);
    cube.slice_mut(s![z..z + shape[0], y..y + shape[1], x..x + shape[2]])
        .assign(&window.mapv(|voxel| ((f64::from(voxel) - mean) / deviation) as f32));
    Ok(cube)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::Volume;

    #[test]
    fn boxes_are_cut_about_the_nearest_voxel() {
        let tomogram = Volume::new(Array3::from_shape_fn((20, 22, 24), |(z, y, x)| {
            (z * 10_000 + y * 100 + x) as f32
        }));
        let particles =
            [[8.4, 9.6, 10.0], [3.0, 9.0, 9.0], [20.0, 18.0, 16.0]].map(|at| Particle::new(at, 1));
        let sources = [Source {
            tomogram: &tomogram,
            particles: &particles,
        }];
        let (poses, outside) = poses(&sources, 8);
        assert_eq!((poses.len(), outside), (2, 1));
        assert_eq!((poses[0].half, poses[1].half, poses[1].index), (0, 1, 2));
        let (centre, rest) = poses[0].centre();
        assert_eq!(centre, [8, 10, 10]);
        assert!((rest[0] - 0.4).abs() < 1e-9 && (rest[1] + 0.4).abs() < 1e-9);

        let cube = extract(&sources, &poses[0], 8).unwrap();
        let moments = Moments::of(cube.iter());
        assert!(moments.mean.abs() < 1e-6 && (moments.standard_deviation() - 1.0).abs() < 1e-6);
        // Steps along z, y and x keep their proportion.
        let step = |to: [usize; 3]| cube[to] - cube[[4, 4, 4]];
        assert!((step([5, 4, 4]) / step([4, 5, 4]) - 100.0).abs() < 0.1);

        // Shifted out by a round of alignment: what is missing is the mean.
        let mut moved = poses[0].clone();
        moved.position = [-2.0, 10.0, 10.0];
        let cube = extract(&sources, &moved, 8).unwrap();
        assert_eq!(cube[[4, 4, 5]], 0.0);
        assert_ne!(cube[[4, 4, 6]], 0.0);
    }
}
