//! Which patch is drawn: a function of (seed, purpose, iteration, place in the batch) alone, so that any thread may
//! draw it, and a resumed run draws what an uninterrupted one would have.

use deepfinder_core::Label;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::patch::patch_start;
use crate::{Result, TrainError, TrainParams, TrainingTomogram};

/// What patches are drawn for: their random numbers have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Training = 0,
    Validation = 1,
}

/// A cubic patch near a particle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    /// Index of the tomogram.
    pub(crate) tomogram: usize,
    /// First voxel `(z, y, x)`; negative where the tomogram is thinner than the patch.
    pub(crate) start: [i64; 3],
}

/// Draws patches near annotated particles (paper, Methods: patch sampling and bootstrap).
#[derive(Debug)]
pub(crate) struct Sampler {
    purpose: Purpose,
    seed: u64,
    patch: usize,
    shift: i64,
    shapes: Vec<[usize; 3]>,
    /// Groups that are equally likely: the classes, or one group of all.
    groups: Vec<Vec<Site>>,
}

/// A particle: index of its tomogram, nearest voxel `(z, y, x)`.
#[derive(Debug, Clone, Copy)]
struct Site {
    tomogram: usize,
    voxel: [i64; 3],
}

impl Sampler {
    pub(crate) fn new(
        tomograms: &[TrainingTomogram],
        purpose: Purpose,
        params: &TrainParams,
        scores: usize,
    ) -> Result<Self> {
        let mut groups = vec![Vec::new(); usize::from(Label::MAX) + 1];
        for (index, tomogram) in tomograms.iter().enumerate() {
            tomogram.check(scores)?;
            for particle in tomogram.particles.iter() {
                let [x, y, z] = particle.position.map(|position| position.round() as i64);
                let group = if params.bootstrap { particle.label } else { 0 };
                groups[usize::from(group)].push(Site {
                    tomogram: index,
                    voxel: [z, y, x],
                });
            }
        }
        groups.retain(|group| !group.is_empty());
        if groups.is_empty() {
            let names: Vec<&str> = tomograms.iter().map(|tomogram| tomogram.name.as_str()).collect();
            return Err(TrainError::NoParticles {
                purpose: match purpose {
                    Purpose::Training => "training",
                    Purpose::Validation => "validation",
                },
                tomograms: names.join(", "),
            });
        }
        Ok(Self {
            purpose,
            seed: params.seed,
            patch: params.patch,
            shift: params.shift as i64,
            shapes: tomograms.iter().map(|t| t.tomogram.shape()).collect(),
            groups,
        })
    }

    /// The patch at a place of a batch, and the generator for what else happens to it.
    pub(crate) fn draw(&self, step: u64, place: u64) -> (Draw, ChaCha8Rng) {
        let mut key = [0; 32];
        let words = [self.seed, self.purpose as u64, step, place];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(key);
        let group = &self.groups[rng.random_range(0..self.groups.len())];
        let site = group[rng.random_range(0..group.len())];
        let centre = site
            .voxel
            .map(|voxel| voxel + rng.random_range(-self.shift..=self.shift));
        let draw = Draw {
            tomogram: site.tomogram,
            start: patch_start(centre, self.shapes[site.tomogram], self.patch),
        };
        (draw, rng)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deepfinder_core::{Particle, ParticleList, Volume};
    use ndarray::Array3;

    use super::*;

    fn tomogram(particles: Vec<Particle>) -> TrainingTomogram {
        TrainingTomogram {
            name: "t1".to_owned(),
            tomogram: Arc::new(Volume::new(Array3::<f32>::zeros((40, 44, 48)))),
            target: Arc::new(Volume::new(Array3::<u8>::zeros((40, 44, 48)))),
            particles: ParticleList::from(particles),
        }
    }

    fn params() -> TrainParams {
        TrainParams {
            patch: 8,
            shift: 3,
            ..TrainParams::default()
        }
    }

    #[test]
    fn classes_are_equally_likely() {
        let mut particles = vec![Particle::new([20.0, 20.0, 30.0], 1); 99];
        particles.push(Particle::new([20.0, 20.0, 10.0], 2));
        let tomograms = [tomogram(particles)];
        let rare = |bootstrap| {
            let sampler = Sampler::new(
                &tomograms,
                Purpose::Training,
                &TrainParams {
                    bootstrap,
                    ..params()
                },
                3,
            )
            .unwrap();
            (0..1000).filter(|&i| sampler.draw(7, i).0.start[0] < 15).count()
        };
        assert!((450..550).contains(&rare(true)));
        assert!((1..30).contains(&rare(false)));
    }

    #[test]
    fn shifts_are_uniform_and_patches_stay_inside() {
        let tomograms = [tomogram(vec![
            Particle::new([20.4, 0.0, 20.0], 1),
            Particle::new([20.4, 43.0, 20.0], 2),
        ])];
        let sampler = Sampler::new(&tomograms, Purpose::Training, &params(), 3).unwrap();
        let mut seen = [0; 7];
        for i in 0..1000 {
            let [z, y, x] = sampler.draw(i, 0).0.start;
            assert!((13..=19).contains(&z) && (13..=19).contains(&x));
            assert!(y == 0 || (33..=36).contains(&y), "{y}");
            seen[(x - 13) as usize] += 1;
        }
        assert!(seen.iter().all(|&times| times > 100), "{seen:?}");
    }

    #[test]
    fn purposes_steps_and_seeds_differ() {
        let tomograms = [tomogram(vec![Particle::new([20.0, 20.0, 20.0], 1)])];
        let draws = |purpose, seed, step| {
            let params = TrainParams { seed, ..params() };
            let sampler = Sampler::new(&tomograms, purpose, &params, 2).unwrap();
            (0..20).map(|i| sampler.draw(step, i).0.start).collect::<Vec<_>>()
        };
        let base = draws(Purpose::Training, 0, 0);
        assert_eq!(base, draws(Purpose::Training, 0, 0));
        assert_ne!(base, draws(Purpose::Validation, 0, 0));
        assert_ne!(base, draws(Purpose::Training, 1, 0));
        assert_ne!(base, draws(Purpose::Training, 0, 1));
    }

    #[test]
    fn unusable_particles_are_named() {
        let check = |particle, expected: &str| {
            let tomograms = [tomogram(vec![Particle::new([1.0; 3], 1), particle])];
            let message = Sampler::new(&tomograms, Purpose::Training, &params(), 3)
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(
            Particle::new([48.0, 1.0, 1.0], 1),
            "particle 2 of tomogram `t1` lies at",
        );
        check(Particle::new([f64::NAN, 1.0, 1.0], 1), "particle 2");
        check(
            Particle::new([1.0; 3], 3),
            "particle 2 of tomogram `t1` has class label 3",
        );
        check(Particle::new([1.0; 3], 0), "class label 0");
        let none = Sampler::new(&[tomogram(vec![])], Purpose::Validation, &params(), 3).unwrap_err();
        assert!(none.to_string().contains("validation tomograms (t1)"));
    }
}
