//! Segmentation: a tomogram goes through the network in pieces, label and score maps come out as slabs of planes.
//!
//! The tomogram is read window by window, and memory stays bounded whatever its size. The exact plan (the default)
//! gives the same labels whatever the tiles; the reference plan reproduces the numbers of the published program.
//!
//! ```
//! use candle_core::Device;
//! use deepfinder_core::{NoProgress, Volume};
//! use deepfinder_infer::{SegmentParams, segment};
//! use deepfinder_net::{Metadata, UNet, Weights};
//! use ndarray::Array3;
//!
//! let weights = Weights::initial(3, 1, Metadata::for_classes(["ribosome", "proteasome"]))?;
//! let net = UNet::new(&weights, &Device::Cpu)?;
//! let tomogram = Volume::new(Array3::from_shape_fn((6, 10, 9), |(z, y, x)| (z * y) as f32 - x as f32));
//!
//! let mut slabs: Vec<Array3<u8>> = Vec::new();
//! let report = segment(&net, &tomogram, &SegmentParams::default(), &mut slabs, &mut [], &NoProgress)?;
//! assert_eq!(slabs.iter().map(|slab| slab.dim().0).sum::<usize>(), 6);
//! assert_eq!(report.voxels_per_label.iter().sum::<u64>(), 6 * 10 * 9);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod exact;
mod input;
mod output;
mod params;
mod reference;
mod segment;
mod streams;
mod tile;
mod tiling;

pub use error::{InferError, Result};
pub use params::{Plan, SegmentParams};
pub use segment::{SegmentReport, segment, segment_with_all};
