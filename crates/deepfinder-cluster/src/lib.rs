//! Label maps and score maps to particles.
//!
//! Four ways, each a parameter struct that [`check`](MeanShiftParams::check)s itself into a method that runs:
//!
//! * [`MeanShiftParams`]: the reference's clustering, exactly scikit-learn's `MeanShift(bin_seeding=True)`;
//! * [`ComponentsParams`]: connected components of each class;
//! * [`DbscanParams`]: density-based clusters, which drop isolated voxels as noise;
//! * [`PeaksParams`]: maxima of a score map with non-maximum suppression.
//!
//! [`filter`] then keeps what has the right size, score, distance and place. Volumes are read in slabs of
//! planes and only their foreground is held, so a label map need not fit in memory.
//!
//! ```
//! use deepfinder_cluster::{FilterParams, MeanShiftParams, filter};
//! use deepfinder_core::{LabelMap, NoProgress, Volume};
//! use ndarray::Array3;
//!
//! let ball = |z: usize, y: usize, x: usize| z.abs_diff(8).pow(2) + y.abs_diff(9).pow(2) + x.abs_diff(10).pow(2) <= 25;
//! let mut labels: LabelMap = Volume::new(Array3::from_shape_fn((20, 20, 40), |(z, y, x)| 2 * u8::from(ball(z, y, x))));
//! labels.voxels[[2, 2, 35]] = 1;
//!
//! let picks = MeanShiftParams::new(5.0).check()?.cluster(&labels, &NoProgress)?;
//! assert_eq!(picks.len(), 2);
//! let picks = filter(picks, &FilterParams::min_size(10))?;
//! assert_eq!((picks[0].position, picks[0].label), ([10.0, 9.0, 8.0], 2));
//! # Ok::<(), deepfinder_cluster::ClusterError>(())
//! ```

mod error;
mod foreground;
mod members;

mod mean_shift;

mod components;
mod dbscan;
mod peaks;
mod plateaus;

mod filter;
mod point_grid;

pub use components::{Components, ComponentsParams, Connectivity};
pub use dbscan::{Dbscan, DbscanParams};
pub use error::{ClusterError, Result};
pub use filter::{FilterParams, MembraneDistance, SizeRange, filter};
pub use mean_shift::{MeanShift, MeanShiftParams, ParticlePosition};
pub use peaks::{Peaks, PeaksParams, Refinement};
