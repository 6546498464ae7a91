//! How well a list of picks, or a label map, agrees with the truth.
//!
//! [`evaluate`] sets picks against true particles in one of four ways ([`Mode`]): one-to-one within a radius, as
//! SHREC does, by bounding boxes as in the DeepFinder paper, or as the CZII challenge does. [`sweep`] does so at every
//! threshold of score or size, [`label_map_scores`] compares voxels, [`consensus`] takes what two pickers share. Reports are `serde::Serialize`.
//!
//! A ratio without a denominator (the precision of no picks, the recall of no particles) is 0.
//!
//! ```
//! use deepfinder_core::{Particle, ParticleList};
//! use deepfinder_eval::{EvaluateParams, Mode, evaluate};
//!
//! let truth = ParticleList::from(vec![Particle::new([10.0, 10.0, 10.0], 1), Particle::new([30.0, 10.0, 10.0], 2)]);
//! let picks = ParticleList::from(vec![Particle::new([12.0, 10.0, 10.0], 1), Particle::new([30.0, 11.0, 10.0], 1)]);
//!
//! let report = evaluate(&truth, &picks, &EvaluateParams::new(Mode::one_to_one(5.0)))?;
//! let first = &report.pooled.classes[0];
//! assert_eq!((first.label, first.scores.true_positives, first.scores.false_positives), (1, 1, 1));
//! // Both particles were found, one of them under the wrong name.
//! assert_eq!(report.pooled.localisation.recall, 1.0);
//! assert_eq!(report.pooled.confusion.count(2, 1), 1);
//! # Ok::<(), deepfinder_eval::EvalError>(())
//! ```

mod error;
mod radius;
mod scores;

mod assignment;
mod matching;
mod tally;

mod consensus;
mod distance;
mod evaluate;
mod sweep;
mod voxels;

pub use consensus::{Consensus, ConsensusPick, ConsensusRow, FoundBy, consensus};
pub use distance::distances_to_labels;
pub use error::{EvalError, Result};
pub use evaluate::{EvaluateParams, Mode, Report, TomogramReport, evaluate, evaluate_occupancy};
pub use matching::{Assignment, Classes, Match, match_one_to_one};
pub use radius::Radius;
pub use scores::{Averages, ClassRow, ConfusionMatrix, Counts, Detection, Scores};
pub use sweep::{Best, Sweep, SweepBy, SweepPoint, sweep};
pub use voxels::{VoxelReport, VoxelRow, label_map_scores};
