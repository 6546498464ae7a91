//! The 3-D U-Net of DeepFinder: named weights, safetensors, import of the published Keras weights.
//!
//! It works on bytes and tensors `[N, C, D, H, W]`; files and tomograms are other crates' business.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use deepfinder_net::{Metadata, UNet, Weights};
//!
//! let metadata = Metadata {
//!     voxel_size_angstrom: Some(10.0),
//!     ..Metadata::for_classes(["ribosome", "proteasome"])
//! };
//! let weights = Weights::initial(3, 7, metadata)?;
//! assert_eq!(weights.parameters(), 902_928 + 33 * 3);
//!
//! let file = weights.to_safetensors()?;
//! let net = UNet::new(&Weights::from_bytes(file)?, &Device::Cpu)?;
//! let patch = Tensor::zeros((1, 1, 8, 8, 12), DType::F32, &Device::Cpu)?;
//! assert_eq!(net.forward(&patch)?.dims(), [1, 3, 8, 8, 12]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod architecture;
mod error;
mod keras;
mod learner;
mod metadata;
mod parametrisation;
mod planes;
mod precision;
mod stage;
mod stored;
mod sweep;
mod trace;
mod unet;
mod weights;

pub use architecture::{
    ARCHITECTURE, ARCHITECTURE_VERSION, Head, INFLUENCE, ORIGIN_MULTIPLE, RECEPTIVE_FIELD, ReceptiveField,
    SIDE_MULTIPLE,
};
pub use error::{BoxError, NetError, Result};
pub use learner::Learner;
pub use metadata::{ClassName, Metadata, SHREC19_CLASSES, ZERO_MEAN_UNIT_DEVIATION};
pub use parametrisation::Parametrisation;
pub use precision::Precision;
pub use sweep::{Skip, Sweep};
pub use trace::Trace;
pub use unet::UNet;
pub use weights::Weights;
