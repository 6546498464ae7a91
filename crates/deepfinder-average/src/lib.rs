//! Sub-tomogram averaging: particles of a class, brought into one frame, add up to a density map.
//!
//! [`average`] takes particles from their tomograms, aligns each to a reference by rotation and shift, and adds them up
//! in Fourier space, each coefficient divided by how often it was measured, so that the missing wedge of one particle is filled by the
//! others. The particles are parted into two half-sets that never see each other's average; their Fourier shell
//! correlation ([`FscCurves`]) gives the resolution. [`threshold_mask`] makes a binary shape of the map, as training targets
//! want it.
//!
//! Maps have the contrast of the tomograms that are read: who wants bright densities reads dark tomograms inverted.
//!
//! ```
//! use deepfinder_average::{AverageParams, Source, average};
//! use deepfinder_core::{NoProgress, Particle, Rotation, TiltRange, Volume};
//! use deepfinder_sim::{Contrast, Noise, SimParams, Template, simulate_particles};
//! use ndarray::{Array3, s};
//!
//! let mut rod = Array3::<f32>::zeros((16, 16, 16));
//! rod.slice_mut(s![7..10, 7..10, 4..13]).fill(1.0);
//! let at = |x: f64, rotation| Particle::new([x, 16.0, 16.0], 1).with_rotation(rotation);
//! let particles = vec![at(16.0, Rotation::IDENTITY), at(40.0, Rotation::about_z(90.0))];
//! let params = SimParams { shape: [32, 32, 56], contrast: Contrast::Light, noise: Noise::None, ..SimParams::default() };
//! let templates = [Template::new("rod", Volume::new(rod))];
//! let simulation = simulate_particles(&templates, &particles.into(), &params, &NoProgress)?;
//!
//! let params = AverageParams { iterations: 0, ..AverageParams::new(24) };
//! let source = Source { tomogram: &simulation.tomogram, particles: &simulation.particles };
//! let result = average(&[source], None, &params, &NoProgress)?;
//! assert!(result.map.voxels[[12, 12, 9]] > 3.0 * result.map.voxels[[12, 9, 12]].abs());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod params;

mod align;
mod subtomogram;
mod sums;

mod fsc;

mod average;

mod mask;

pub use average::{Average, Iteration, average};
pub use error::{AverageError, Result};
pub use fsc::{FSC_GOLD_STANDARD, FSC_HALF, Fsc, FscCurves};
pub use mask::{MaskThreshold, threshold_mask};
pub use params::AverageParams;
pub use subtomogram::Source;
