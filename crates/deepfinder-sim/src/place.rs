use std::collections::BTreeMap;
use std::ops::Range;

use deepfinder_core::{Label, Particle, Progress, Rotation};
use ndarray::Array3;
use rand::{Rng, RngExt};

use crate::distractors::Distractors;
use crate::template::{Pose, Sampler};
use crate::{Result, SimError, SimParams};

/// Particles without overlap, and what had no room.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub(crate) particles: Vec<Particle>,
    /// What has no label: index of its sampler, position `(x, y, z)` and rotation.
    pub(crate) distractors: Vec<(usize, [f64; 3], Rotation)>,
    /// Particles of each class that found no room.
    pub(crate) shortfall: BTreeMap<Label, usize>,
}

/// Places membranes first, then the classes from large to small, gold and crowders last: the other way round the large
/// ones find no room.
pub(crate) fn place(
    templates: &[Sampler],
    distractors: &Distractors,
    params: &SimParams,
    rng: &mut impl Rng,
    progress: &dyn Progress,
) -> Result<Placement> {
    let mut room = Room::new(params);
    let mut particles = Vec::new();
    let mut shortfall = BTreeMap::new();
    let mut unlabelled = Vec::new();
    let mut order: Vec<usize> = (0..templates.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(templates[i].mask.len()));

    let others = params.membranes + params.gold_beads + params.crowders;
    let total = templates.len() * params.particles_per_class + others;
    progress.begin("placing particles", total as u64, "particles");
    let mut put = |room: &mut Room, kinds: &Range<usize>, number: usize, rng: &mut _| {
        for kind in kinds.clone().cycle().take(number) {
            progress.check()?;
            if let Some((position, rotation)) = room.find(&distractors.samplers[kind], params.attempts, rng) {
                unlabelled.push((kind, position, rotation));
            }
            progress.advance(1);
        }
        Ok::<_, SimError>(())
    };
    put(&mut room, &distractors.membranes, params.membranes, rng)?;
    for i in order {
        // One label a template, checked by the caller.
        let label = (i + 1) as Label;
        for placed in 0..params.particles_per_class {
            progress.check()?;
            let Some((position, rotation)) = room.find(&templates[i], params.attempts, rng) else {
                // The next of the class would hardly find room either.
                shortfall.insert(label, params.particles_per_class - placed);
                break;
            };
            particles.push(Particle::new(position, label).with_rotation(rotation));
            progress.advance(1);
        }
    }
    put(&mut room, &distractors.gold, params.gold_beads, rng)?;
    put(&mut room, &distractors.crowders, params.crowders, rng)?;
    progress.end();
    if particles.is_empty() && !shortfall.is_empty() {
        return Err(SimError::NoRoom {
            shape: params.shape,
            attempts: params.attempts,
        });
    }
    Ok(Placement {
        particles,
        distractors: unlabelled,
        shortfall,
    })
}

/// Which voxels are taken, with the gap around each mask.
struct Room {
    taken: Array3<bool>,
    /// Offsets of the voxels within the gap, itself included.
    gap: Vec<[i64; 3]>,
}

impl Room {
    fn new(params: &SimParams) -> Self {
        let reach = params.gap_voxels.floor() as i64;
        let mut gap = Vec::new();
        for dz in -reach..=reach {
            for dy in -reach..=reach {
                for dx in -reach..=reach {
                    let squared = (dz * dz + dy * dy + dx * dx) as f64;
                    if squared <= params.gap_voxels * params.gap_voxels {
                        gap.push([dz, dy, dx]);
                    }
                }
            }
        }
        Self {
            taken: Array3::from_elem(params.shape, false),
            gap,
        }
    }

    /// A free place, drawn uniformly with a uniform rotation, which is then taken.
    fn find(
        &mut self,
        sampler: &Sampler,
        attempts: usize,
        rng: &mut impl Rng,
    ) -> Option<([f64; 3], Rotation)> {
        let [depth, height, width] = self.shape();
        for _ in 0..attempts {
            let position = [width, height, depth].map(|side| rng.random::<f64>() * (side - 1) as f64);
            let rotation = Rotation::random(rng);
            if self.looks_free(sampler, position, rotation)
                && let Some(mask) = self.free_mask(sampler, position, rotation)
            {
                self.take(&mask);
                return Some((position, rotation));
            }
        }
        None
    }

    fn shape(&self) -> [usize; 3] {
        self.taken.dim().into()
    }

    fn index([z, y, x]: [i64; 3], shape: [usize; 3]) -> Option<[usize; 3]> {
        let index = [
            usize::try_from(z).ok()?,
            usize::try_from(y).ok()?,
            usize::try_from(x).ok()?,
        ];
        (0..3).all(|axis| index[axis] < shape[axis]).then_some(index)
    }

    /// Turns the voxels of the unrotated mask, which is quick and refuses most places; every fourth will do.
    fn looks_free(&self, sampler: &Sampler, position: [f64; 3], rotation: Rotation) -> bool {
        sampler.mask.iter().step_by(4).all(|&offset| {
            let turned = rotation.apply(offset);
            let [x, y, z] = std::array::from_fn(|i| (position[i] + turned[i]).round() as i64);
            Self::index([z, y, x], self.shape()).is_some_and(|voxel| !self.taken[voxel])
        })
    }

    /// The voxels of the rotated mask, where all of them lie inside and are free.
    fn free_mask(&self, sampler: &Sampler, position: [f64; 3], rotation: Rotation) -> Option<Vec<[i64; 3]>> {
        let (mut mask, mut free) = (Vec::with_capacity(sampler.mask.len()), true);
        Pose::new(sampler, position, rotation).draw([i64::MIN; 3], [i64::MAX; 3], |voxel, density| {
            if density >= sampler.threshold {
                free &= Self::index(voxel, self.shape()).is_some_and(|voxel| !self.taken[voxel]);
                mask.push(voxel);
            }
        });
        (free && !mask.is_empty()).then_some(mask)
    }

    fn take(&mut self, mask: &[[i64; 3]]) {
        let shape = self.shape();
        for voxel in mask {
            for offset in &self.gap {
                let neighbour = std::array::from_fn(|axis| voxel[axis] + offset[axis]);
                if let Some(index) = Self::index(neighbour, shape) {
                    self.taken[index] = true;
                }
            }
        }
    }
}
