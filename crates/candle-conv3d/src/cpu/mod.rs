//! The computations on plain channels-last slices, without tensors.
//!
//! Volumes are `[N, D, H, W, C]`, convolution weights `[O, C, kd, kh, kw]` as in candle. Every function works in
//! parallel on rayon's current pool and gives the same bits for any number of threads. The instruction set is an
//! argument: [`Isa::current`] where there is no reason to choose.

mod activation;
pub mod bf16;
mod channels;
mod conv;
mod correlate;
mod gather;
mod optimiser;
mod packed;
mod pool;
mod standardise;
mod upsample;
mod winograd;

pub use crate::kernels::{Element, Isa, Value};
pub use activation::relu_gradient;
use channels::sum_over_voxels;
pub use channels::{argmax_channels, softmax_channels, softmax_channels_gradient, softmax_of_voxels};
pub use conv::{
    ConvShape, ConvWeights, Source, conv3d_forward, conv3d_input_gradient, conv3d_weight_gradient,
};
pub use optimiser::{AdamStep, adam_values, running_mean};
pub use pool::{PoolShape, add_max_pool2_gradient, max_pool2_forward, max_pool2_forward_stored};
pub use standardise::{RowsShape, standardise_rows, standardise_rows_gradient};
pub use upsample::{
    UpsampleShape, UpsampleWeights, upsample2_conv2_forward, upsample2_conv2_input_gradient,
    upsample2_conv2_weight_gradient,
};
