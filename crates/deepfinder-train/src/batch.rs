//! Batches of patches.

use std::ops::Range;

use candle_conv3d::{Transfers, Window};
use candle_core::Tensor;
use ndarray::Array3;
use rand::Rng;
use rand_distr::{Beta, Distribution};

use crate::augment::Changes;
use crate::params::wrong;
use crate::patch::{normalise, read_patch, voxel_shown};
use crate::sampler::{Purpose, Sampler, generator};
use crate::{Augmentation, Result, TrainError, TrainParams, TrainingTomogram};

/// Normalised patches and their targets, one after the other in C order: a worker's share of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    tomogram: Vec<f32>,
    target: Vec<u8>,
    patches: usize,
    side: usize,
    /// Where patches are mixed with the next ones, their own part, at least a half; the patch that follows the last is then
    /// there too.
    own_part: Option<f32>,
}

/// A share of a batch as the network takes it.
#[derive(Debug)]
pub(crate) struct Examples {
    /// The network's input, `[N, 1, D, H, W]`.
    pub(crate) input: Tensor,
    /// Targets `[N, D, H, W]` and their weights, which add up to 1; the heaviest first.
    pub(crate) targets: Vec<(Tensor, f64)>,
}

impl Batch {
    pub(crate) fn into_tensors(mut self, transfers: &Transfers) -> Result<Examples> {
        let (n, side) = (self.patches, self.side);
        let mut mixed = None;
        if let Some(own) = self.own_part {
            let patch = side.pow(3);
            // In place: what a voxel is mixed with comes after it.
            for voxel in 0..n * patch {
                let other = self.tomogram[voxel + patch];
                self.tomogram[voxel] = own * self.tomogram[voxel] + (1.0 - own) * other;
            }
            self.tomogram.truncate(n * patch);
            let of_next = self.target.split_off(patch);
            let last = of_next.len().saturating_sub(patch);
            self.target.extend_from_slice(&of_next[..last]);
            mixed = Some((of_next, f64::from(own)));
        }
        let target = |target| transfers.send_u8(target, (n, side, side, side));
        let targets = match mixed {
            None => vec![(target(self.target)?, 1.0)],
            Some((other, own)) => vec![(target(self.target)?, own), (target(other)?, 1.0 - own)],
        };
        Ok(Examples {
            input: transfers.send_f32(self.tomogram, (n, 1, side, side, side))?,
            targets,
        })
    }
}

/// Where batches come from.
#[derive(Debug, Clone)]
pub(crate) struct BatchSource<'a> {
    tomograms: &'a [TrainingTomogram],
    sampler: Sampler,
    augmentation: Option<Augmentation>,
    /// The larger or smaller part of each of two mixed patches.
    parts: Option<Beta<f64>>,
    seed: u64,
    patch: usize,
    /// Patches of a batch.
    batch: usize,
    /// Patches of all batches, where their number is fixed.
    patches: Option<usize>,
    scores: usize,
    /// Which worker's share it is, of how many.
    share: [usize; 2],
}

impl<'a> BatchSource<'a> {
    pub(crate) fn new(
        tomograms: &'a [TrainingTomogram],
        purpose: Purpose,
        params: &TrainParams,
        scores: usize,
    ) -> Result<Self> {
        let (augmentation, patches) = match purpose {
            Purpose::Validation => (None, Some(params.validation_patches)),
            Purpose::Training | Purpose::Mixing => (Some(params.augmentation), None),
        };
        // A patch alone has no other to be mixed with.
        let mixes = augmentation.is_some() && params.mixup > 0.0 && params.batch > 1;
        let parts = mixes
            .then(|| Beta::new(params.mixup, params.mixup))
            .transpose()
            .map_err(|error| wrong("mixup", error.to_string()))?;
        Ok(Self {
            tomograms,
            sampler: Sampler::new(tomograms, purpose, params, scores)?,
            augmentation,
            parts,
            seed: params.seed,
            patch: params.patch,
            batch: params.batch,
            patches,
            scores,
            share: [0, 1],
        })
    }

    /// The same batches, and of each the patches that one of several workers learns from. A patch is the same whoever has
    /// it.
    #[must_use]
    pub(crate) fn of_worker(&self, rank: usize, workers: usize) -> Self {
        Self {
            share: [rank, workers],
            ..self.clone()
        }
    }

    pub(crate) fn tomograms(&self) -> &'a [TrainingTomogram] {
        self.tomograms
    }

    /// Side of a patch in voxels.
    pub(crate) fn side(&self) -> usize {
        self.patch
    }

    /// Classes with background.
    pub(crate) fn scores(&self) -> usize {
        self.scores
    }

    fn patches(&self, step: u64) -> usize {
        match self.patches {
            Some(all) => all.saturating_sub(step as usize * self.batch).min(self.batch),
            None => self.batch,
        }
    }

    /// The places in the batch that are this worker's: shares differ by one patch at most.
    fn share(&self, step: u64) -> Range<u64> {
        let ([rank, workers], patches) = (self.share, self.patches(step));
        let first = |rank: usize| (rank * patches / workers) as u64;
        first(rank)..first(rank + 1)
    }

    /// The places of the patches that are looked at for the share: one more where they are mixed, as each is with the next.
    fn places(&self, step: u64) -> Vec<u64> {
        let (share, patches) = (self.share(step), self.patches(step) as u64);
        let next = (self.parts.is_some() && !share.is_empty()).then(|| share.end % patches);
        share.chain(next).collect()
    }

    /// Where the patches of a batch are mixed with the next ones: their own part, at least a half.
    pub(crate) fn own_part(&self, step: u64) -> Option<f32> {
        self.parts.map(|parts| {
            let part = parts.sample(&mut generator(self.seed, Purpose::Mixing, step, 0));
            part.max(1.0 - part) as f32
        })
    }

    /// The patches of the share as windows of the tomograms, with the one that follows the last where they are mixed; nothing
    /// where more is done to them than a window says.
    pub(crate) fn windows(&self, step: u64) -> Option<Vec<Window>> {
        self.places(step)
            .into_iter()
            .map(|place| {
                let (draw, mut rng) = self.sampler.draw(step, place);
                let changes = self.changes(&mut rng);
                (changes.blur.is_none() && changes.noise.is_none()).then_some(Window {
                    volume: draw.tomogram,
                    start: draw.start,
                    turned: changes.turned,
                    scale: changes.contrast,
                    shift: changes.brightness,
                })
            })
            .collect()
    }

    fn changes(&self, rng: &mut impl Rng) -> Changes {
        match &self.augmentation {
            Some(augmentation) => Changes::draw(augmentation, rng),
            None => Changes::NONE,
        }
    }

    /// The share of an iteration's batch; the last batch of a fixed set may be smaller.
    pub(crate) fn batch(&self, step: u64) -> Result<Batch> {
        let places = self.places(step);
        let voxels = places.len() * self.patch.pow(3);
        let mut batch = Batch {
            tomogram: Vec::with_capacity(voxels),
            target: Vec::with_capacity(voxels),
            patches: self.share(step).count(),
            side: self.patch,
            own_part: self.own_part(step),
        };
        for (index, place) in places.iter().enumerate() {
            // Of a whole batch the first patch follows the last.
            if index > 0 && *place == places[0] {
                batch.tomogram.extend_from_within(..self.patch.pow(3));
                batch.target.extend_from_within(..self.patch.pow(3));
                continue;
            }
            let (tomogram, target) = self.patch(step, *place)?;
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
        self.changes(&mut rng).make(&mut voxels, &mut labels, &mut rng);
        Ok((voxels, labels))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Device;
    use deepfinder_core::{Particle, ParticleList, Volume};

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
    fn mixed_patches_keep_their_larger_part_first() {
        let tomograms = [tomogram()];
        let params = TrainParams {
            mixup: 0.4,
            ..params()
        };
        let mixing = BatchSource::new(&tomograms, Purpose::Training, &params, 2).unwrap();
        let plain = TrainParams {
            mixup: 0.0,
            ..params.clone()
        };
        let plain = BatchSource::new(&tomograms, Purpose::Training, &plain, 2).unwrap();
        let transfers = Transfers::new(&Device::Cpu);
        let mut parts = Vec::new();
        for step in 0..8 {
            let examples =
                |source: &BatchSource<'_>| source.batch(step).unwrap().into_tensors(&transfers).unwrap();
            let (mixed, single) = (examples(&mixing), examples(&plain));
            let [(target, own), (other, rest)] = &mixed.targets[..] else {
                panic!("two targets");
            };
            assert!(*own >= 0.5 && (own + rest - 1.0).abs() < 1e-12);
            parts.push(*own);
            let labels = |tensor: &Tensor| tensor.to_vec1::<u8>().unwrap();
            let patch = |tensor: &Tensor, i: usize| labels(&tensor.get(i).unwrap().flatten_all().unwrap());
            let voxel = |tensor: &Tensor, i: usize| {
                let patch = tensor.get(i).unwrap().flatten_all().unwrap();
                patch.to_vec1::<f32>().unwrap()[77]
            };
            for i in 0..4 {
                let next = (i + 1) % 4;
                let single_target = &single.targets[0].0;
                assert_eq!(patch(target, i), patch(single_target, i));
                assert_eq!(patch(other, i), patch(single_target, next));
                let expected =
                    *own as f32 * voxel(&single.input, i) + (1.0 - *own as f32) * voxel(&single.input, next);
                assert!((voxel(&mixed.input, i) - expected).abs() < 1e-6);
            }
        }
        parts.dedup();
        assert_eq!(parts.len(), 8, "drawn anew for each batch");
        let validation = BatchSource::new(&tomograms, Purpose::Validation, &params, 2).unwrap();
        assert_eq!(validation.batch(0).unwrap().own_part, None);
    }

    #[test]
    fn shares_are_the_batch_in_pieces() {
        let tomograms = [tomogram()];
        let transfers = Transfers::new(&Device::Cpu);
        for (mixup, batch) in [(0.0, 5), (0.4, 5), (0.4, 2)] {
            let params = TrainParams {
                mixup,
                batch,
                negatives: 0.3,
                augmentation: Augmentation {
                    noise: 0.3,
                    ..Augmentation::default()
                },
                ..params()
            };
            let source = BatchSource::new(&tomograms, Purpose::Training, &params, 2).unwrap();
            for workers in 1..=batch {
                for step in 0..3 {
                    let examples = |source: &BatchSource<'_>| {
                        let batch = source.batch(step).unwrap().into_tensors(&transfers).unwrap();
                        let labels = |(target, weight): &(Tensor, f64)| {
                            (target.flatten_all().unwrap().to_vec1::<u8>().unwrap(), *weight)
                        };
                        let input = batch.input.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                        (
                            input,
                            batch.targets.iter().map(labels).collect::<Vec<_>>(),
                            batch.input.dims()[0],
                        )
                    };
                    let (input, targets, n) = examples(&source);
                    assert_eq!(n, batch);
                    let mut pieces = (Vec::new(), vec![(Vec::new(), 0.0); targets.len()]);
                    for rank in 0..workers {
                        let (part, of_part, n) = examples(&source.of_worker(rank, workers));
                        assert!(n == batch / workers || n == batch.div_ceil(workers));
                        pieces.0.extend(part);
                        for (all, (labels, weight)) in pieces.1.iter_mut().zip(of_part) {
                            all.0.extend(labels);
                            all.1 = weight;
                        }
                    }
                    assert!(pieces == (input, targets), "{mixup} {batch} {workers} {step}");
                }
            }
        }
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
