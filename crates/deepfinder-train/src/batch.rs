//! Batches of patches, and their random changes.

use std::f32::consts::TAU;

use candle_core::Tensor;
use ndarray::{Array3, Axis};
use rand::{Rng, RngExt};

use crate::patch::{normalise, read_patch, voxel_shown};
use crate::sampler::{Purpose, Sampler};
use crate::{Augmentation, Compute, Result, TrainError, TrainParams, TrainingTomogram};

/// Normalised patches and their targets, one after the other in C order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    tomogram: Vec<f32>,
    target: Vec<u8>,
    patches: usize,
    side: usize,
}

impl Batch {
    /// The network's input `[N, 1, D, H, W]` and the target `[N, D, H, W]`.
    pub(crate) fn into_tensors(self, compute: &Compute) -> Result<(Tensor, Tensor)> {
        let (n, side) = (self.patches, self.side);
        let Compute { device, dtype } = compute;
        let input = Tensor::from_vec(self.tomogram, (n, 1, side, side, side), device)?.to_dtype(*dtype)?;
        let target = Tensor::from_vec(self.target, (n, side, side, side), device)?;
        Ok((input, target))
    }
}

/// Where batches come from.
#[derive(Debug)]
pub(crate) struct BatchSource<'a> {
    tomograms: &'a [TrainingTomogram],
    sampler: Sampler,
    augmentation: Option<Augmentation>,
    patch: usize,
    /// Patches of a batch.
    batch: usize,
    /// Patches of all batches, where their number is fixed.
    patches: Option<usize>,
    scores: usize,
}

impl<'a> BatchSource<'a> {
    pub(crate) fn new(
        tomograms: &'a [TrainingTomogram],
        purpose: Purpose,
        params: &TrainParams,
        scores: usize,
    ) -> Result<Self> {
        let (augmentation, patches) = match purpose {
            Purpose::Training => (Some(params.augmentation), None),
            Purpose::Validation => (None, Some(params.validation_patches)),
        };
        Ok(Self {
            tomograms,
            sampler: Sampler::new(tomograms, purpose, params, scores)?,
            augmentation,
            patch: params.patch,
            batch: params.batch,
            patches,
            scores,
        })
    }

    /// The batch of an iteration; the last one of a fixed set may be smaller.
    pub(crate) fn batch(&self, step: u64) -> Result<Batch> {
        let patches = match self.patches {
            Some(all) => all.saturating_sub(step as usize * self.batch).min(self.batch),
            None => self.batch,
        };
        let voxels = patches * self.patch.pow(3);
        let mut batch = Batch {
            tomogram: Vec::with_capacity(voxels),
            target: Vec::with_capacity(voxels),
            patches,
            side: self.patch,
        };
        for place in 0..patches as u64 {
            let (tomogram, target) = self.patch(step, place)?;
            batch.tomogram.extend(tomogram.iter());
            batch.target.extend(target.iter());
        }
        Ok(batch)
    }

    fn patch(&self, step: u64, place: u64) -> Result<(Array3<f32>, Array3<u8>)> {
        let (draw, mut rng) = self.sampler.draw(step, place);
        let TrainingTomogram {
            name,
            tomogram,
            target,
            ..
        } = &self.tomograms[draw.tomogram];
        let failed = |what| {
            move |source| TrainError::Read {
                what,
                tomogram: name.clone(),
                source,
            }
        };
        let shape = tomogram.shape();
        let mut voxels =
            read_patch(tomogram.as_ref(), draw.start, self.patch).map_err(failed("the voxels"))?;
        let mut labels = read_patch(target.as_ref(), draw.start, self.patch).map_err(failed("the target"))?;
        let xyz = |index| {
            let [z, y, x] = voxel_shown(draw.start, index, shape);
            [x, y, z]
        };
        if let Some(((z, y, x), &label)) = labels
            .indexed_iter()
            .find(|(_, label)| usize::from(**label) >= self.scores)
        {
            return Err(TrainError::Label {
                tomogram: name.clone(),
                place: format!("the target at voxel (x, y, z) = {:?}", xyz([z, y, x])),
                label,
                classes: self.scores - 1,
            });
        }
        if let Err(index) = normalise(&mut voxels) {
            return Err(TrainError::NotFinite {
                tomogram: name.clone(),
                voxel: xyz(index),
                value: voxels[index],
            });
        }
        if let Some(augmentation) = &self.augmentation {
            augment(&mut voxels, &mut labels, augmentation, &mut rng);
        }
        Ok((voxels, labels))
    }
}

fn augment(voxels: &mut Array3<f32>, labels: &mut Array3<u8>, params: &Augmentation, rng: &mut impl Rng) {
    if params.half_turn && rng.random() {
        half_turn(voxels);
        half_turn(labels);
    }
    let mut around = |centre: f32, width: f32| {
        if width > 0.0 {
            rng.random_range(centre - width..=centre + width)
        } else {
            centre
        }
    };
    let (scale, shift) = (around(1.0, params.scale), around(0.0, params.shift));
    if (scale, shift) != (1.0, 0.0) {
        voxels.mapv_inplace(|voxel| scale * voxel + shift);
    }
    if params.noise > 0.0 {
        voxels.mapv_inplace(|voxel| voxel + params.noise * normal(rng));
    }
}

/// 180° about y: the missing wedge, symmetric about the tilt axis, stays where it is.
fn half_turn<T>(patch: &mut Array3<T>) {
    patch.invert_axis(Axis(0));
    patch.invert_axis(Axis(2));
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deepfinder_core::{Moments, Particle, ParticleList, Volume};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn tomogram() -> TrainingTomogram {
        let voxels = Array3::from_shape_fn((12, 16, 20), |(z, y, x)| (z * 400 + y * 20 + x) as f32);
        let labels = voxels.mapv(|voxel| u8::from(voxel > 2000.0));
        TrainingTomogram {
            name: "t1".to_owned(),
            tomogram: Arc::new(Volume::new(voxels)),
            target: Arc::new(Volume::new(labels)),
            particles: ParticleList::from(vec![Particle::new([10.0, 8.0, 6.0], 1)]),
        }
    }

    fn params() -> TrainParams {
        TrainParams {
            patch: 8,
            shift: 2,
            batch: 4,
            validation_patches: 6,
            ..TrainParams::default()
        }
    }

    #[test]
    fn the_half_turn_reverses_z_and_x_of_both() {
        let tomograms = [tomogram()];
        let source = BatchSource::new(&tomograms, Purpose::Training, &params(), 2).unwrap();
        let (mut turned, mut straight) = (0, 0);
        for place in 0..40 {
            let (voxels, labels) = source.patch(0, place).unwrap();
            // The ramp rises along every axis, except along z and x where it was turned.
            let rises = |a: [usize; 3]| voxels[a] > voxels[[4, 4, 4]];
            assert!(rises([4, 5, 4]));
            assert_eq!(rises([5, 4, 4]), rises([4, 4, 5]));
            if rises([5, 4, 4]) {
                straight += 1;
            } else {
                turned += 1;
            }
            let threshold = voxels.iter().zip(&labels).filter(|(_, l)| **l == 0);
            let highest_below = threshold.map(|(v, _)| *v).fold(f32::MIN, f32::max);
            let lowest_above = voxels
                .iter()
                .zip(&labels)
                .filter(|(_, l)| **l == 1)
                .map(|(v, _)| *v);
            assert!(highest_below < lowest_above.fold(f32::MAX, f32::min));
        }
        assert!(turned > 8 && straight > 8, "{turned} {straight}");
    }

    #[test]
    fn validation_patches_are_a_fixed_number_and_unchanged() {
        let tomograms = [tomogram()];
        let params = TrainParams {
            augmentation: Augmentation {
                noise: 1.0,
                ..Augmentation::default()
            },
            ..params()
        };
        let source = BatchSource::new(&tomograms, Purpose::Validation, &params, 2).unwrap();
        assert_eq!(
            [0, 1, 2].map(|step| source.batch(step).unwrap().patches),
            [4, 2, 0]
        );
        let (voxels, _) = source.patch(0, 0).unwrap();
        assert!(voxels[[0, 0, 0]] < voxels[[7, 0, 0]] && voxels[[0, 0, 0]] < voxels[[0, 0, 7]]);
    }

    #[test]
    fn intensities_change_as_asked() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let params = Augmentation {
            half_turn: false,
            scale: 0.2,
            shift: 0.5,
            noise: 0.0,
        };
        let mut labels = Array3::zeros((20, 20, 20));
        let mut voxels = Array3::from_shape_fn((20, 20, 20), |(z, _, _)| if z % 2 == 0 { 1.0 } else { -1.0 });
        augment(&mut voxels, &mut labels, &params, &mut rng);
        let moments = Moments::of(voxels.iter());
        assert!((0.8..1.2).contains(&moments.standard_deviation()) && moments.mean.abs() <= 0.5);
        assert_ne!(moments.mean, 0.0);

        let noise = Augmentation {
            noise: 0.5,
            scale: 0.0,
            shift: 0.0,
            ..params
        };
        voxels.fill(3.0);
        augment(&mut voxels, &mut labels, &noise, &mut rng);
        let moments = Moments::of(voxels.iter());
        assert!((moments.mean - 3.0).abs() < 0.03 && (moments.standard_deviation() - 0.5).abs() < 0.03);
    }

    #[test]
    fn bad_voxels_are_named_with_their_place() {
        let check = |change: fn(&mut Array3<f32>, &mut Array3<u8>), expected: &str| {
            let mut voxels = Array3::zeros((8, 8, 8));
            let mut labels = Array3::zeros((8, 8, 8));
            change(&mut voxels, &mut labels);
            let tomograms = [TrainingTomogram {
                tomogram: Arc::new(Volume::new(voxels)),
                target: Arc::new(Volume::new(labels)),
                particles: ParticleList::from(vec![Particle::new([4.0; 3], 1)]),
                ..tomogram()
            }];
            let source = BatchSource::new(&tomograms, Purpose::Training, &params(), 2).unwrap();
            let message = source.batch(0).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(
            |voxels, _| voxels[[1, 2, 3]] = f32::INFINITY,
            "`t1` holds the value inf at voxel (x, y, z) = [3, 2, 1]",
        );
        check(
            |_, labels| labels[[3, 2, 1]] = 2,
            "the target at voxel (x, y, z) = [1, 2, 3] of tomogram `t1` has class label 2",
        );
    }
}
