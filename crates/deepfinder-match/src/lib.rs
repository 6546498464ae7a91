//! Template matching: where, and in which orientation, a density looks most like a known particle.
//!
//! The template is rotated to each of a list of [orientations](deepfinder_core::orientations), loses what the tilt
//! series did not measure, and is correlated with the tomogram, normalised by the tomogram's mean and spread under the
//! template's mask at each place (Roseman 2003, Ultramicroscopy 94:225): scores are correlation coefficients from −1 to 1. Of each voxel
//! the best score is kept and which rotation gave it. [`MatchReport::threshold`] says from which score on a peak is
//! hardly noise; of what is a particle, but another one, [`compete`] finds out more where its template is known. This is the method that DeepFinder is compared with in its paper, and a way to first annotations.
//!
//! The tomogram is read and correlated tile by tile, so that it need not fit in memory; threads share the rotations of
//! a tile, and their number changes no bit of the result.
//!
//! ```
//! use deepfinder_core::{NoProgress, Symmetry, Volume, orientations};
//! use deepfinder_match::{MatchParams, match_template};
//! use ndarray::{Array3, s};
//!
//! // A bent rod, and a tomogram with one of it whose centre is at x = 20, y = 15, z = 12.
//! let mut rod = Array3::<f32>::zeros((12, 12, 12));
//! rod.slice_mut(s![6, 6, 2..10]).fill(1.0);
//! rod.slice_mut(s![6, 6..9, 9]).fill(1.0);
//! let mut tomogram = Array3::from_shape_fn((24, 28, 32), |(z, y, x)| ((7 * z + 5 * y + 3 * x) % 11) as f32 / 50.0);
//! let mut window = tomogram.slice_mut(s![6..18, 9..21, 14..26]);
//! window += &rod;
//!
//! let rotations = orientations(60.0, Symmetry::C1)?;
//! let (mut scores, mut best) = (Vec::new(), Vec::new());
//! let params = MatchParams { tilt: None, ..MatchParams::default() };
//! let report = match_template(
//!     &Volume::new(tomogram), &Volume::new(rod), &rotations, &params, &mut scores, &mut best, &NoProgress,
//! )?;
//! let (score, rotation) = (scores[0][[12, 15, 20]], best[0][[12, 15, 20]]);
//! assert!(score > 0.9 && f64::from(score) > report.threshold(0.1) && rotation == 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod params;

mod template;
mod tiling;

mod correlate;
mod search;

mod competition;

mod threshold;

pub use competition::{Candidate, compete};
pub use deepfinder_density::{Optics, Tilt, TiltScheme};
pub use error::{MatchError, Result};
pub use params::MatchParams;
pub use search::match_template;
pub use threshold::MatchReport;
