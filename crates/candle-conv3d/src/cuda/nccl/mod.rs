//! NVIDIA's NCCL, by which several GPUs of one program add up tensors among each other.
//!
//! It is opened at run time, so that one program serves machines with and without it. Each GPU has a thread that asks it
//! for its part of a sum, on the stream of all its other work: nobody waits for a GPU.
//!
//! The functions and their types are those of NCCL 2's `nccl.h`.

mod group;
mod library;
#[cfg(feature = "nccl")]
mod sums;

mod tests;

#[cfg(feature = "nccl")]
pub(crate) use library::library;
#[cfg(feature = "nccl")]
pub use sums::{GpuSums, gpu_sums};
