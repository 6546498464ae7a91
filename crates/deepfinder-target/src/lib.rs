//! Annotated particles to training targets: spheres and rotated shapes drawn into a label map.
//!
//! One label per voxel, `(z, y, x)`: 0 is background, and a particle's voxels carry its class. Particles are
//! drawn one after the other, later ones over earlier ones, on top of an optional initial label map
//! (membranes, say). A class is drawn as a sphere, as a small one that stands for the particle's centre, or as a binary mask
//! that each particle's rotation turns.
//! Work is shared among threads by slabs of planes, and the result is the same whatever their number.
//!
//! ```
//! use deepfinder_core::{NoProgress, Particle, ParticleList, Rotation, Volume};
//! use deepfinder_target::{ParticleShape, TargetParams, draw_target};
//! use ndarray::Array3;
//!
//! // Class 1 is a sphere, class 2 a rod along x.
//! let mut rod = Array3::zeros((7, 7, 7));
//! rod.slice_mut(ndarray::s![3, 3, 1..6]).fill(1);
//! let params = TargetParams::new([
//!     (1, ParticleShape::Sphere { radius_voxels: 2.0 }),
//!     (2, ParticleShape::Mask(Volume::new(rod))),
//! ]);
//!
//! let picks = ParticleList::from(vec![
//!     Particle::new([5.0, 5.0, 5.0], 1),
//!     Particle::new([14.0, 6.0, 5.0], 2).with_rotation(Rotation::from_zxz_degrees(0.0, 180.0, 0.0)),
//!     Particle::new([99.0, 6.0, 5.0], 1),
//! ]);
//! let (target, report) = draw_target([12, 12, 20], &picks, &params, None, &NoProgress)?;
//! assert_eq!(target.voxels[[5, 5, 7]], 1);
//! assert_eq!(target.voxels.iter().filter(|&&label| label == 2).count(), 5);
//! assert_eq!((report.drawn, report.outside), (2, vec![2]));
//! # Ok::<(), deepfinder_target::TargetError>(())
//! ```

mod draw;
mod error;
mod mask;
mod params;
mod sphere;

pub use draw::{TargetReport, draw_target, write_target};
pub use error::{Result, TargetError};
pub use params::{ClassOrder, ParticleShape, SphereCentre, TargetParams, point_radius};
