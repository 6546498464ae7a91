//! 3-D convolution, pooling and up-convolution for candle, with gradients.
//!
//! candle has no 3-D convolution; this crate adds what a volumetric network needs as candle custom ops: stride-1
//! [`conv3d`] with fused bias and `ReLU`, [`conv3d_concat`] (a skip connection without the concatenation), [`max_pool2`],
//! the fused up-convolution [`upsample2_conv2`], the bare [`upsample2`], [`softmax_channels`] and [`argmax_channels`]. Tensors are logically
//! `[N, C, D, H, W]`. Results are channels-last in memory (a permuted view), which is also the layout the kernels read
//! in place: pass results on as they are, `contiguous()` between layers only costs time.
//!
//! Where the machine has vectors, 3³ convolutions of many channels take a third of the products (Winograd's minimal
//! filtering, forward and backward); portable code and `f64` take them all and say what is right.
//!
//! For training without candle's own walk back, which adds each gradient to zeros of its own, there are the layers'
//! gradients one by one: [`conv3d_gradients`] and its neighbours. For inference there are [`PrepackedConv3d`], [`PrepackedUpsample`] and [`max_pool2_into`]: weights prepared once, and
//! results written into memory that is there already; in bf16 also volumes with a halo of zeros ([`haloed_zeros`]), which are
//! read where they are.
//!
//! Kernels may be made of directions and gains ([`standardise_rows`]). All parameters of a network are moved in a few calls
//! ([`adam_step`], [`update_averages`]), which on a GPU are a few launches.
//!
//! Volumes may be bf16, with parameters in f32: products are then of bf16 and sums of f32, on AMX where the machine has it.
//!
//! With the feature `cuda` every op also runs on NVIDIA GPUs, in f32 and bf16, through kernels of this crate; with `cudnn`
//! each convolution through NVIDIA's cuDNN where that is found and faster, which is measured once for each size; with `nccl`
//! several GPUs add up tensors among each other, through NVIDIA's NCCL.
//!
//! Every result is the same, bit for bit, whatever the number of rayon threads. On a GPU with cuDNN last bits may differ
//! between machines, and between runs where both ways are about as fast: `DEEPFINDER_CUDNN=0` (never) or `1` (wherever it
//! can) settles the choice. The instruction set (AMX, AVX-512 with and
//! without bf16, AVX2 with FMA, or portable) is found at run time; the environment variable
//! `DEEPFINDER_ISA=scalar|avx2|avx512|avx512bf16|amx` forces one.
//!
//! ```
//! use candle_conv3d::{Activation, Conv3dConfig, conv3d, max_pool2};
//! use candle_core::{Device, Tensor};
//!
//! # fn main() -> candle_core::Result<()> {
//! let volume = Tensor::randn(0f32, 1.0, (1, 1, 8, 8, 8), &Device::Cpu)?;
//! let weight = Tensor::randn(0f32, 0.1, (32, 1, 3, 3, 3), &Device::Cpu)?;
//! let bias = Tensor::zeros(32, candle_core::DType::F32, &Device::Cpu)?;
//! let relu = Conv3dConfig { activation: Activation::Relu, ..Default::default() };
//! let features = max_pool2(&conv3d(&volume, &weight, Some(&bias), &relu)?)?;
//! assert_eq!(features.dims(), [1, 32, 4, 4, 4]);
//! # Ok(())
//! # }
//! ```

mod config;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod error;
mod gpu;
mod kernels;
mod layout;
mod memory;
mod ops;
mod transfer;
mod windows;

pub mod cpu;
pub mod reference;

/// Spacing on each axis (D, H, W) of the grid from which outputs of [`conv3d`] are computed together: a volume that is
/// computed in pieces gives the same bits as the whole where pieces begin on this grid, and where every group of
/// outputs that is kept sees the same inputs.
pub const GRID: [usize; 3] = [kernels::TILE[0], 1, kernels::TILE[1]];

pub use config::{Activation, Conv3dConfig, Padding};
pub use cpu::AdamStep;
#[cfg(feature = "cuda")]
pub use cuda::{ClassLoss, FoundLoss, class_gradient, class_loss, class_sums};
#[cfg(feature = "nccl")]
pub use cuda::{GpuSums, gpu_sums};
pub use error::Conv3dError;
pub use gpu::{Gpu, GpuError, LibraryError, cudnn_version, free_gpu_memory, gpu, gpus, nccl_version};
pub use layout::to_channels_last;
pub use memory::keep_memory;
pub use ops::{
    AdamTensors, Halos, LayerGradients, PrepackedConv3d, PrepackedUpsample, RowGradients, StandardisedRows,
    adam_step, add_max_pool2_gradient, add_softmax_channels, argmax_channels, channels_last_zeros, conv3d,
    conv3d_concat, conv3d_gradients, convert, copy_planes, haloed_zeros, max_pool2, max_pool2_into,
    max_pool2_with_halos, relu_gradient, softmax_channels, standardise_rows, standardise_rows_gradients,
    update_averages, upsample2, upsample2_conv2, upsample2_conv2_gradients, upsample2_gradient,
};
pub use transfer::{Download, Transfers};
pub use windows::{LabelledVolumes, Window};
