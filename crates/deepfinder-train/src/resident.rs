//! The training set in a GPU's memory, and patches that are cut out of it there.

use candle_conv3d::{LabelledVolumes, Transfers, free_gpu_memory};
use candle_core::Device;
use deepfinder_core::{Progress, Region};

use crate::batch::{BatchSource, Examples};
use crate::prefetch::BatchStream;
use crate::{Result, TrainError, TrainingTomogram};

/// The training set takes no more than one in so many bytes of a GPU's free memory: the network needs the rest.
const PART: u64 = 2;

/// Voxels that are read at once.
const SLAB_VOXELS: usize = 1 << 23;

/// Where the patches of a training come from.
#[derive(Debug)]
pub(crate) enum Patches<'a> {
    /// Threads that read them.
    Read(BatchStream),
    /// The GPU's memory.
    Resident(Box<Resident<'a>>),
}

impl Patches<'_> {
    /// The batch of the next iteration.
    pub(crate) fn next(&mut self, transfers: &Transfers) -> Result<Examples> {
        match self {
            Self::Read(stream) => stream.next()?.into_tensors(transfers),
            Self::Resident(resident) => resident.next(),
        }
    }
}

/// Training tomograms on a device.
#[derive(Debug)]
pub(crate) struct Resident<'a> {
    source: &'a BatchSource<'a>,
    volumes: LabelledVolumes,
    step: u64,
}

impl<'a> Resident<'a> {
    /// The training set on a GPU, from that iteration on; nothing where it has to be read patch by patch, which a line says.
    /// Nothing, too, on the processor, or where it is cancelled.
    ///
    /// # Errors
    /// Where a tomogram cannot be read.
    pub(crate) fn where_it_fits(
        source: &'a BatchSource<'a>,
        device: &Device,
        step: u64,
        progress: &dyn Progress,
    ) -> Result<Option<Self>> {
        let Some(free) = free_gpu_memory(device) else {
            return Ok(None);
        };
        match Self::load(source, device, free as u64, step, progress)? {
            Ok(resident) => Ok(Some(resident)),
            Err(Obstacle::Cancelled) => Ok(None),
            Err(obstacle) => {
                tracing::warn!("patches are made by the processor and copied to the GPU: {obstacle}");
                Ok(None)
            }
        }
    }

    fn load(
        source: &'a BatchSource<'a>,
        device: &Device,
        free: u64,
        step: u64,
        progress: &dyn Progress,
    ) -> Result<std::result::Result<Self, Obstacle>> {
        if source.windows(step).is_none() {
            return Ok(Err(Obstacle::Augmentation));
        }
        let shapes: Vec<[usize; 3]> = source.tomograms().iter().map(|t| t.tomogram.shape()).collect();
        let bytes = LabelledVolumes::bytes(&shapes);
        if bytes > free / PART {
            return Ok(Err(Obstacle::Memory { bytes, free }));
        }
        let volumes = match LabelledVolumes::new(&shapes, device) {
            Ok(volumes) => volumes,
            Err(error) => return Ok(Err(Obstacle::Refused(error.to_string()))),
        };
        let planes: usize = shapes.iter().map(|shape| shape[0]).sum();
        progress.begin("copying the training set to the GPU", planes as u64, "planes");
        for (index, tomogram) in source.tomograms().iter().enumerate() {
            let copied = copy(tomogram, index, &volumes, source.scores(), progress)?;
            if let Err(obstacle) = copied {
                progress.end();
                return Ok(Err(obstacle));
            }
        }
        progress.end();
        tracing::info!(
            "the training set lies in the GPU's memory: {:.2} GB",
            bytes as f64 / 1e9
        );
        Ok(Ok(Self {
            source,
            volumes,
            step,
        }))
    }

    fn next(&mut self) -> Result<Examples> {
        let step = self.step;
        self.step += 1;
        // There are windows for each iteration where there were for the first.
        let windows = self.source.windows(step).ok_or(TrainError::Worker)?;
        let (input, target) = self.volumes.windows(&windows, self.source.side())?;
        let Some(own) = self.source.own_part(step) else {
            return Ok(Examples {
                input,
                targets: vec![(target, 1.0)],
            });
        };
        // The windows have one more than the share: each is mixed with the next.
        let n = windows.len().saturating_sub(1);
        let [own_voxels, next_voxels] = [input.narrow(0, 0, n)?, input.narrow(0, 1, n)?];
        let (rest, part) = (1.0 - own, f64::from(own));
        let mixed = (own_voxels.affine(part, 0.0)? + next_voxels.affine(f64::from(rest), 0.0)?)?;
        Ok(Examples {
            input: mixed,
            targets: vec![
                (target.narrow(0, 0, n)?, part),
                (target.narrow(0, 1, n)?, 1.0 - part),
            ],
        })
    }
}

/// Why the training set is not kept on a GPU.
#[derive(Debug)]
enum Obstacle {
    Augmentation,
    Memory {
        bytes: u64,
        free: u64,
    },
    Refused(String),
    /// A voxel that an iteration may never see, or else names.
    Voxel {
        tomogram: String,
    },
    Cancelled,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gigabytes = |bytes: &u64| *bytes as f64 / 1e9;
        match self {
            Self::Augmentation => write!(f, "noise and blur are drawn there"),
            Self::Memory { bytes, free } => write!(
                f,
                "the training set takes {:.2} GB, more than half of the {:.2} GB that the GPU has free",
                gigabytes(bytes),
                gigabytes(free)
            ),
            Self::Refused(why) => write!(f, "the GPU has no place for the training set ({why})"),
            Self::Voxel { tomogram } => write!(
                f,
                "tomogram `{tomogram}` has voxels that are not finite, or labels of no class; training stops where a patch shows one"
            ),
            Self::Cancelled => write!(f, "cancelled"),
        }
    }
}

/// Copies a tomogram and its target, slab by slab.
fn copy(
    tomogram: &TrainingTomogram,
    index: usize,
    volumes: &LabelledVolumes,
    scores: usize,
    progress: &dyn Progress,
) -> Result<std::result::Result<(), Obstacle>> {
    let failed = |what| {
        move |source| TrainError::Read {
            what,
            tomogram: tomogram.name.clone(),
            source,
        }
    };
    let [depth, height, width] = tomogram.tomogram.shape();
    let planes = (SLAB_VOXELS / (height * width).max(1)).max(1);
    for first in (0..depth).step_by(planes) {
        if progress.is_cancelled() {
            return Ok(Err(Obstacle::Cancelled));
        }
        let planes = planes.min(depth - first);
        let region = Region::new([first, 0, 0], [planes, height, width]);
        let voxels = tomogram.tomogram.read_window(region);
        let labels = tomogram.target.read_window(region);
        let voxels: Vec<f32> = voxels.map_err(failed("the voxels"))?.into_iter().collect();
        let labels: Vec<u8> = labels.map_err(failed("the target"))?.into_iter().collect();
        let fine = voxels.iter().all(|voxel| voxel.is_finite())
            && labels.iter().all(|label| usize::from(*label) < scores);
        if !fine {
            return Ok(Err(Obstacle::Voxel {
                tomogram: tomogram.name.clone(),
            }));
        }
        volumes.set_planes(index, first, voxels, labels)?;
        progress.advance(planes as u64);
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Tensor;
    use deepfinder_core::{NoProgress, Particle, ParticleList, Volume};
    use ndarray::Array3;

    use super::*;
    use crate::sampler::Purpose;
    use crate::{Augmentation, TrainParams};

    fn tomogram(shape: [usize; 3], particle: [f64; 3]) -> TrainingTomogram {
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| {
            ((z * 7 + y * 13 + x * 29) % 31) as f32 * 0.37 + (z * x) as f32 * 1e-3
        });
        TrainingTomogram {
            name: format!("{shape:?}"),
            target: Arc::new(Volume::new(voxels.mapv(|voxel| voxel as u8 % 3))),
            tomogram: Arc::new(Volume::new(voxels)),
            particles: ParticleList::from(vec![Particle::new(particle, 1), Particle::new([3.0; 3], 2)]),
        }
    }

    fn params() -> TrainParams {
        TrainParams {
            patch: 12,
            shift: 4,
            batch: 5,
            negatives: 0.2,
            augmentation: Augmentation {
                contrast: 0.2,
                brightness: 0.3,
                ..Augmentation::default()
            },
            ..TrainParams::default()
        }
    }

    fn load<'a>(
        source: &'a BatchSource<'a>,
        free: u64,
        step: u64,
    ) -> std::result::Result<Resident<'a>, Obstacle> {
        Resident::load(source, &Device::Cpu, free, step, &NoProgress).unwrap()
    }

    #[test]
    fn patches_are_those_that_are_read() {
        // The second is thinner than a patch.
        let tomograms = [
            tomogram([20, 24, 22], [10.0, 12.0, 6.0]),
            tomogram([7, 30, 16], [9.0, 20.0, 3.0]),
        ];
        let transfers = Transfers::new(&Device::Cpu);
        for mixup in [0.0, 0.4] {
            let params = TrainParams { mixup, ..params() };
            let source = BatchSource::new(&tomograms, Purpose::Training, &params, 3).unwrap();
            let mut resident = Patches::Resident(Box::new(load(&source, u64::MAX, 3).unwrap()));
            for step in 3..9 {
                let found = resident.next(&transfers).unwrap();
                let expected = source.batch(step).unwrap().into_tensors(&transfers).unwrap();
                let values = |examples: &Examples| {
                    let input = examples.input.flatten_all().unwrap();
                    let labels = |(target, weight): &(Tensor, f64)| {
                        (target.flatten_all().unwrap().to_vec1::<u8>().unwrap(), *weight)
                    };
                    let targets: Vec<_> = examples.targets.iter().map(labels).collect();
                    (
                        examples.input.dims().to_vec(),
                        input.to_vec1::<f32>().unwrap(),
                        targets,
                    )
                };
                assert_eq!(values(&found), values(&expected), "{mixup} {step}");
            }
        }
    }

    #[test]
    fn what_cannot_reside_says_why() {
        let tomograms = [tomogram([20, 24, 22], [10.0, 12.0, 6.0])];
        let reason = |params: &TrainParams, tomograms: &[TrainingTomogram], free: u64| {
            let source = BatchSource::new(tomograms, Purpose::Training, params, 3).unwrap();
            load(&source, free, 0).map_or_else(|obstacle| obstacle.to_string(), |_| "resides".to_owned())
        };
        let bytes = 20 * 24 * 22 * 5;
        assert_eq!(reason(&params(), &tomograms, 2 * bytes), "resides");
        let message = reason(&params(), &tomograms, 2 * bytes - 2);
        assert!(message.contains("more than half of the 0.00 GB"), "{message}");
        for (noise, blur) in [(0.1, 0.0), (0.0, 0.5)] {
            let mut params = params();
            (params.augmentation.noise, params.augmentation.blur) = (noise, blur);
            assert!(reason(&params, &tomograms, u64::MAX).contains("noise and blur"));
        }
        let mut voxels = Array3::zeros((20, 24, 22));
        voxels[[19, 23, 21]] = f32::NAN;
        let broken = [TrainingTomogram {
            tomogram: Arc::new(Volume::new(voxels)),
            ..tomograms[0].clone()
        }];
        assert!(reason(&params(), &broken, u64::MAX).contains("not finite"));
        let foreign = [TrainingTomogram {
            target: Arc::new(Volume::new(Array3::from_elem((20, 24, 22), 3))),
            ..tomograms[0].clone()
        }];
        assert!(reason(&params(), &foreign, u64::MAX).contains("labels of no class"));
    }

    #[test]
    fn the_processor_reads_patches() {
        let tomograms = [tomogram([20, 24, 22], [10.0, 12.0, 6.0])];
        let source = BatchSource::new(&tomograms, Purpose::Training, &params(), 3).unwrap();
        let found = Resident::where_it_fits(&source, &Device::Cpu, 0, &NoProgress);
        assert!(found.unwrap().is_none());
    }
}
