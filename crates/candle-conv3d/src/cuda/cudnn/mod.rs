//! NVIDIA's cuDNN for convolutions, where it is found and faster than the kernels of this crate.
//!
//! It is opened at run time, so that one program serves machines with and without it. Only algorithms that add up
//! products plainly, and in one order, are asked for: the matrix products that NVIDIA calls implicit GEMM, summed in f32,
//! f32 itself without TF32. Volumes and weights lie in memory as cuDNN wants them already: NDHWC, and `[output][tap][channel]`,
//! which is how the kernels here have them too.
//!
//! The functions and their types are those of cuDNN 9's `cudnn_cnn.h`, `cudnn_ops.h` and `cudnn_graph.h`.

mod call;
mod library;
mod plans;
mod preference;

mod tests;

pub(crate) use call::Call;
#[cfg(test)]
pub(crate) use tests::{library_of, run_here};
pub(crate) use {call::Handle, plans::Way};
#[cfg(feature = "cudnn")]
pub(crate) use {plans::ALIGNMENT, preference::Preference, preference::library};
