//! The ops on NVIDIA GPUs.
//!
//! What is to be launched, and on which memory, is worked out without a GPU ([`program`], [`convolution`], [`upsample`], [`voxels`],
//! [`loss`], [`windows`], [`optimiser`], [`standardise`]):
//! the tests replay the very same programs with the kernels compiled for the processor (`emulator`). The other modules
//! only allocate, launch and convert.

mod compiled;
mod convolution;
#[cfg(any(test, feature = "cudnn"))]
mod cudnn;
mod gather;
mod loss;
#[cfg(any(test, feature = "nccl"))]
mod nccl;
#[cfg(any(test, feature = "cudnn", feature = "nccl"))]
mod opened;
mod optimiser;
mod program;
mod standardise;
mod upsample;
mod voxels;
mod windows;

#[cfg(feature = "cuda")]
mod choice;
#[cfg(feature = "cuda")]
mod classes;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod ops;
#[cfg(feature = "cuda")]
mod packed;
#[cfg(feature = "cuda")]
mod transfer;

mod emulator;

#[cfg(feature = "cuda")]
pub use classes::{ClassLoss, FoundLoss, class_gradient, class_loss, class_sums};
#[cfg(feature = "cudnn")]
pub(crate) use cudnn::library as cudnn_library;
#[cfg(feature = "nccl")]
pub(crate) use nccl::library as nccl_library;
#[cfg(feature = "nccl")]
pub use nccl::{GpuSums, gpu_sums};
pub(crate) use {
    convolution::{ConvolutionPlan, Direction, pack_convolution},
    optimiser::{adam, average},
    program::{Element, Program},
    standardise::{standardise_rows, standardise_rows_gradient},
    upsample::{pack_upsample, packed_upsample, upsample, upsample_input_gradient, upsample_weight_gradient},
    voxels::{
        Region, add_softmax, argmax, max_pool, max_pool_gradient, relu_gradient, softmax, softmax_gradient,
    },
};
#[cfg(feature = "cuda")]
pub(crate) use {
    ops::{Input, apply, apply_into, apply_to, change_tensors, check_type, convolve, from_tensors},
    packed::PackedOnGpu,
    transfer::Pinned,
    windows::windows_on_gpu,
};
