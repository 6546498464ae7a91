//! The vocabulary of DeepFinder: what every stage takes and gives.
//!
//! No files, no tensors, no terminal. Conventions that hold in the whole workspace:
//!
//! * volumes are `(z, y, x)`, C-contiguous; shapes and windows are written in that order;
//! * positions are `(x, y, z)` in voxels, and the centre of voxel 0 is 0.0;
//! * a [`Rotation`] maps the particle's frame to the tomogram's;
//! * labels are `u8`, and 0 is background.
//!
//! ```
//! use deepfinder_core::{Particle, ParticleList, Rotation, Volume, VoxelSize};
//! use ndarray::Array3;
//!
//! let tomogram = Volume::new(Array3::<f32>::zeros((4, 6, 8))).with_voxel_size(VoxelSize::new(10.0)?);
//! assert_eq!(tomogram.shape(), [4, 6, 8]);
//!
//! let ribosome = Particle::new([7.0, 5.0, 3.0], 1).with_rotation(Rotation::from_zxz_degrees(30.0, 0.0, 90.0));
//! assert!(tomogram.contains(ribosome.position));
//! let picks = ParticleList::from(vec![ribosome]);
//! assert_eq!(picks.len(), 1);
//! # Ok::<(), deepfinder_core::CoreError>(())
//! ```

mod atom;
mod binned;
mod class;
mod error;
mod moments;
mod orientations;
mod particle;
mod progress;
mod rotation;
mod stream;
mod symmetry;
mod tilt;
mod volume;

pub use atom::Atom;
pub use binned::Binned;
pub use class::{Class, ClassTable};
pub use error::{BoxError, CoreError, Result};
pub use moments::Moments;
pub use orientations::{orientations, orientations_within};
pub use particle::{Particle, ParticleList};
pub use progress::{CancelToken, NoProgress, Progress};
pub use rotation::Rotation;
pub use stream::{VolumeReader, VolumeWriter, WindowWriter, read_whole};
pub use symmetry::Symmetry;
pub use tilt::TiltRange;
pub use volume::{BACKGROUND, Label, LabelMap, Region, Volume, VoxelSize, count_labels};
