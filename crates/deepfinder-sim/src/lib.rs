//! Simulated tomograms with ground truth: structures and templates, placement, tilt series, reconstruction, noise.
//!
//! [`density_of_atoms`] makes a density map of a molecular structure. Particles are put into an empty volume at random,
//! without overlap and in random orientations, or where a list says. From there two ways lead to a tomogram:
//!
//! * the quick one, [`simulate()`]: the volume loses the missing wedge of Fourier space that a tilt series about y leaves
//!   out, and gains noise;
//! * the microscope's, [`simulate_tilt_series`]: projections at each tilt, contrast transfer, radiation damage and noise,
//!   then weighted back-projection ([`TiltSeries::reconstruct`]). Volumes are streamed, and never held whole.
//!
//! Along with the tomogram come its label map, a map of particle numbers, and the list of particles with their rotations.
//!
//! Template `i` of the list has label `i + 1`. Everything follows from the seed, whatever the number of threads.
//!
//! ```
//! use deepfinder_core::{NoProgress, Volume};
//! use deepfinder_sim::{SimParams, Template, simulate};
//! use ndarray::Array3;
//!
//! // A ball of radius 4 with a soft edge; real templates are density maps of macromolecules.
//! let ball = Array3::from_shape_fn((16, 16, 16), |(z, y, x)| {
//!     let squared: f32 = [z, y, x].map(|i| (i as f32 - 8.0).powi(2)).iter().sum();
//!     (4.5 - squared.sqrt()).clamp(0.0, 1.0)
//! });
//! let templates = [Template::new("ball", Volume::new(ball))];
//!
//! let params = SimParams { shape: [32, 40, 48], particles_per_class: 4, seed: 7, ..SimParams::default() };
//! let simulation = simulate(&templates, &params, &NoProgress)?;
//! assert_eq!(simulation.tomogram.shape(), [32, 40, 48]);
//! assert_eq!(simulation.particles.len(), 4);
//! let first = &simulation.particles[0];
//! assert_eq!(simulation.labels.voxel_at(first.position).map(|voxel| simulation.labels.voxels[voxel]), Some(1));
//! # Ok::<(), deepfinder_sim::SimError>(())
//! ```

mod atoms;
mod distractors;
mod error;
mod filter;
mod noise;
mod params;
mod phantom;
mod place;
mod reconstruct;
mod simulate;
mod template;
mod tilt_series;
mod tomography;

pub use atoms::density_of_atoms;
pub use deepfinder_core::TiltRange;
pub use deepfinder_density::{Interpolation, Optics, exposure_filter};
pub use error::{Result, SimError};
pub use params::{Contrast, DEMO_CLASSES, Noise, SimParams};
pub use simulate::{Simulation, simulate, simulate_particles};
pub use template::Template;
pub use tilt_series::{TiltSeries, TiltSeriesParams};
pub use tomography::{Truth, TruthWriters, simulate_tilt_series};
