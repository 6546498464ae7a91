//! Trains DeepFinder's network: patch sampling, augmentation, losses, optimiser, loop and checkpoints.
//!
//! A run is a folder ([`RunFolder`]). The same parameters, tomograms and weights give the same run bit for bit, whatever
//! the number of threads, and whether it was interrupted or not.
//!
//! ```
//! use std::sync::Arc;
//!
//! use deepfinder_core::{NoProgress, Particle, ParticleList, Volume};
//! use deepfinder_net::{Metadata, Weights};
//! use deepfinder_train::{RunFolder, Start, TrainParams, TrainingTomogram, train};
//! use ndarray::Array3;
//!
//! // Any `VolumeReader` will do: files are read window by window.
//! let target = Array3::from_shape_fn((16, 16, 16), |(z, y, x)| u8::from(z.max(y).max(x) < 6));
//! let tomogram = TrainingTomogram {
//!     name: "tomogram 1".to_owned(),
//!     tomogram: Arc::new(Volume::new(target.mapv(f32::from))),
//!     target: Arc::new(Volume::new(target)),
//!     particles: ParticleList::from(vec![Particle::new([3.0, 3.0, 3.0], 1)]),
//! };
//! let params = TrainParams {
//!     epochs: 1,
//!     steps_per_epoch: 1,
//!     batch: 1,
//!     patch: 8,
//!     shift: 2,
//!     ..TrainParams::default()
//! };
//! let folder = tempfile::tempdir()?;
//! let run = RunFolder::new(folder.path().join("run"));
//! let initial = Weights::initial(2, 0, Metadata::for_classes(["cube"]))?;
//! let outcome = train(&[tomogram], &[], initial, &params, &run, Start::Fresh, &NoProgress)?;
//! assert_eq!((outcome.epochs, outcome.steps), (1, 1));
//! assert!(run.best_weights().exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adam;
mod augment;
mod average;
mod batch;
mod checkpoint;
mod counts;
mod cpu_loss;
mod dataset;
mod error;
mod exchange;
mod fingerprint;
mod fused;
#[cfg(feature = "cuda")]
mod gpu_loss;
mod grading;
mod loss;
mod metrics;
mod params;
mod patch;
mod plain;
mod prefetch;
mod resident;
mod sampler;
mod session;
mod team;
mod train;
mod worker;

pub use adam::{Adam, AdamMoments, AdamParams};
pub use checkpoint::RunFolder;
pub use counts::{ClassMetrics, VoxelCounts};
pub use dataset::TrainingTomogram;
pub use error::{Result, TrainError};
pub use loss::{Loss, LossParams, loss};
pub use metrics::{Best, EpochMetrics, MetricsLine, SplitMetrics, StepMetrics};
pub use params::{Augmentation, Prefetch, Recipe, Schedule, TrainParams};
pub use train::{Ended, PhaseTimes, Start, TrainOutcome, train, train_on};
