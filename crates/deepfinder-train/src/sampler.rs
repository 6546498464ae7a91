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
    /// How patches of training are mixed.
    Mixing = 2,
}

/// Places of which the emptiest becomes a patch away from particles.
const EMPTY_TRIES: usize = 32;

/// The generator of a place of a batch.
pub(crate) fn generator(seed: u64, purpose: Purpose, step: u64, place: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, step, place];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A cubic patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    /// Index of the tomogram.
    pub(crate) tomogram: usize,
    /// First voxel `(z, y, x)`; negative where the tomogram is thinner than the patch.
    pub(crate) start: [i64; 3],
}

/// Draws patches near annotated particles (paper, Methods: patch sampling and bootstrap), and some away from them.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    purpose: Purpose,
    seed: u64,
    patch: usize,
    shift: i64,
    negatives: f64,
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
                    Purpose::Training | Purpose::Mixing => "training",
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
            negatives: params.negatives,
            shapes: tomograms.iter().map(|t| t.tomogram.shape()).collect(),
            groups,
        })
    }

    /// The patch at a place of a batch, and the generator for what else happens to it.
    pub(crate) fn draw(&self, step: u64, place: u64) -> (Draw, ChaCha8Rng) {
        let mut rng = generator(self.seed, self.purpose, step, place);
        if self.negatives > 0.0 && rng.random_bool(self.negatives) {
            return (self.draw_empty(&mut rng), rng);
        }
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

    /// A patch that is away from particles: the first without a particle's centre, or else the one whose centre lies
    /// farthest from any (along the axis on which that is farthest).
    fn draw_empty(&self, rng: &mut ChaCha8Rng) -> Draw {
        let voxels = |shape: &[usize; 3]| shape.iter().product::<usize>();
        let all: usize = self.shapes.iter().map(voxels).sum();
        let mut best: Option<(i64, Draw)> = None;
        for _ in 0..EMPTY_TRIES {
            // All voxels of all tomograms are equally likely.
            let mut place = rng.random_range(0..all);
            let mut tomogram = 0;
            while place >= voxels(&self.shapes[tomogram]) {
                place -= voxels(&self.shapes[tomogram]);
                tomogram += 1;
            }
            let [_, height, width] = self.shapes[tomogram];
            let centre = [place / (height * width), place / width % height, place % width];
            let start = patch_start(
                centre.map(|voxel| voxel as i64),
                self.shapes[tomogram],
                self.patch,
            );
            let draw = Draw { tomogram, start };
            let half = self.patch as i64 / 2;
            let distance = |site: &Site| {
                let of_axis = |axis: usize| (site.voxel[axis] - start[axis] - half).abs();
                of_axis(0).max(of_axis(1)).max(of_axis(2))
            };
            let sites = self.groups.iter().flatten();
            let nearest = sites
                .filter(|site| site.tomogram == tomogram)
                .map(distance)
                .min()
                .unwrap_or(i64::MAX);
            if nearest > half {
                return draw;
            }
            if best.is_none_or(|(distance, _)| nearest > distance) {
                best = Some((nearest, draw));
            }
        }
        // There was a first try.
        best.map_or(
            Draw {
                tomogram: 0,
                start: [0; 3],
            },
            |(_, draw)| draw,
        )
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
    fn a_share_of_patches_is_away_from_particles() {
        let crowd = |far: [f64; 3]| {
            let mut particles = vec![Particle::new(far, 1)];
            // All over one half of the tomogram.
            for z in (0..40).step_by(4) {
                for y in (0..44).step_by(4) {
                    particles.extend(
                        (0..24)
                            .step_by(4)
                            .map(|x| Particle::new([f64::from(x), f64::from(y), f64::from(z)], 1)),
                    );
                }
            }
            [tomogram(particles)]
        };
        let params = TrainParams {
            negatives: 0.25,
            ..params()
        };
        let empty = |tomograms: &[TrainingTomogram], purpose| {
            let sampler = Sampler::new(tomograms, purpose, &params, 2).unwrap();
            let draws = (0..400).map(|i| sampler.draw(3, i).0.start);
            let inside = |start: [i64; 3]| {
                tomograms[0].particles.iter().any(|particle| {
                    let [x, y, z] = particle.position.map(|position| position as i64);
                    [z, y, x]
                        .iter()
                        .zip(start)
                        .all(|(voxel, start)| (start..start + 8).contains(voxel))
                })
            };
            draws.filter(|start| !inside(*start)).count()
        };
        let tomograms = crowd([1.0; 3]);
        for purpose in [Purpose::Training, Purpose::Validation] {
            assert!((70..130).contains(&empty(&tomograms, purpose)));
        }
        let none = TrainParams {
            negatives: 0.0,
            ..params.clone()
        };
        let sampler = Sampler::new(&tomograms, Purpose::Training, &none, 2).unwrap();
        assert!((0..400).all(|i| sampler.draw(3, i).0.start[2] <= 26));
    }

    #[test]
    fn where_no_place_is_empty_the_emptiest_is_taken() {
        let particles = vec![Particle::new([24.0, 22.0, 20.0], 1)];
        let params = TrainParams {
            negatives: 0.999,
            patch: 40,
            ..params()
        };
        let tomograms = [tomogram(particles)];
        let sampler = Sampler::new(&tomograms, Purpose::Training, &params, 2).unwrap();
        for i in 0..20 {
            // As far from the middle as the tomogram lets a patch be.
            let [z, y, x] = sampler.draw(0, i).0.start;
            assert!(z == 0 && (y == 0 || y == 4 || x == 0 || x == 8), "{y} {x}");
        }
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
