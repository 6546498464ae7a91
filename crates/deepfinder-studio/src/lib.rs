//! A page in the browser to look at tomograms, annotate them, train, segment, pick and check.
//!
//! The server belongs to whoever started it: it listens on this machine alone unless told otherwise, wants the token it
//! printed, and reads and writes nothing outside the folders of the one project it was given. What it does, it does
//! through the use-cases of `deepfinder-pipeline`.
//!
//! ```
//! use deepfinder_core::{CancelToken, Volume};
//! use deepfinder_studio::{Studio, StudioOptions};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("tomogram.mrc");
//! # let voxels = ndarray::Array3::from_shape_fn((4, 5, 6), |(z, y, x)| (z + y * x) as f32);
//! # deepfinder_io::write_volume(&path, &Volume::new(voxels))?;
//! let options = StudioOptions { port: 0, ..StudioOptions::new(&path) };
//! let studio = Studio::bind(&options)?;
//! assert!(studio.url().contains("token="));
//! let stop = CancelToken::default();
//! stop.cancel(); // else it serves until Ctrl-C
//! studio.serve(&stop)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assets;
mod commands;
mod error;
mod guard;
mod jobs;
mod planes;
mod routes;
mod sections;
mod server;
mod state;
mod wire;

pub use error::{Result, StudioError};
pub use server::{DEFAULT_PORT, Studio, StudioOptions};
