//! `softmax_channels` and `argmax_channels`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::{
    check_wide, shape_error,
    storage::{dispatch_wide, own, read},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{
    cpu,
    layout::{from_channels_last, to_channels_last},
    memory::zeros,
};

/// Soft-max over dimension 1 of `[N, C, D, H, W]`, f32 or f64, with its gradient; channels-last in memory.
///
/// # Errors
/// Where the tensor has other dimensions or another element type.
pub fn softmax_channels(input: &Tensor) -> Result<Tensor> {
    check_wide("softmax_channels", &[input])?;
    let (_, channels, _) = volume_shape("softmax_channels", input)?;
    if channels == 0 {
        return Err(shape_error(
            "softmax_channels",
            "the input",
            "at least one channel",
            input,
        ));
    }
    from_channels_last(&to_channels_last(input)?.apply_op1(Softmax(channels))?)
}

/// Index of the greatest channel of `[N, C, D, H, W]` at each voxel, the lowest of equal ones: u8 `[N, D, H, W]`.
///
/// # Errors
/// Where the tensor has other dimensions, no channel or more than 256, or another element type than f32 and f64.
pub fn argmax_channels(input: &Tensor) -> Result<Tensor> {
    check_wide("argmax_channels", &[input])?;
    let (_, channels, _) = volume_shape("argmax_channels", input)?;
    if !(1..=256).contains(&channels) {
        return Err(shape_error(
            "argmax_channels",
            "the input",
            "1 to 256 channels",
            input,
        ));
    }
    to_channels_last(input)?.apply_op1_no_bwd(&Argmax(channels))
}

/// input -> soft-max over the last dimension, of this size.
struct Softmax(usize);

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax_channels"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = dispatch_wide!(self.name(), input, T => {
            let input = read::<T>(self.name(), input, layout)?;
            let mut output = zeros::<T>(input.len());
            cpu::softmax_channels(self.0, input, &mut output)?;
            own(output)
        });
        Ok((storage, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, input: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let shape = layout.shape();
        cuda::apply(self.name(), &[(input, layout)], shape.clone(), |element| {
            cuda::softmax(element, shape.elem_count() / self.0, self.0)
        })
    }

    fn bwd(&self, _input: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let op = SoftmaxGradient(self.0);
        result
            .contiguous()?
            .apply_op2_no_bwd(&gradient.contiguous()?, &op)
            .map(Some)
    }
}

/// (result, gradient) -> gradient of the input.
struct SoftmaxGradient(usize);

impl CustomOp2 for SoftmaxGradient {
    fn name(&self) -> &'static str {
        "softmax_channels-gradient"
    }

    fn cpu_fwd(
        &self,
        result: &CpuStorage,
        result_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = dispatch_wide!(self.name(), result, T => {
            let result = read::<T>(self.name(), result, result_layout)?;
            let gradient = read::<T>(self.name(), gradient, gradient_layout)?;
            let mut output = zeros::<T>(result.len());
            cpu::softmax_channels_gradient(self.0, result, gradient, &mut output)?;
            own(output)
        });
        Ok((storage, result_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        result: &CudaStorage,
        result_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let shape = result_layout.shape();
        let inputs = [(result, result_layout), (gradient, gradient_layout)];
        cuda::apply(self.name(), &inputs, shape.clone(), |element| {
            cuda::softmax_gradient(element, shape.elem_count() / self.0, self.0)
        })
    }
}

/// input -> index of the greatest of the last dimension, of this size.
struct Argmax(usize);

impl CustomOp1 for Argmax {
    fn name(&self) -> &'static str {
        "argmax_channels"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let voxels = layout.shape().elem_count() / self.0;
        let mut labels = vec![0u8; voxels];
        if matches!(input, CpuStorage::F64(_)) {
            cpu::argmax_channels(self.0, read::<f64>(self.name(), input, layout)?, &mut labels)?;
        } else {
            cpu::argmax_channels(self.0, read::<f32>(self.name(), input, layout)?, &mut labels)?;
        }
        Ok((CpuStorage::U8(labels), layout.dims()[..4].into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, input: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let voxels = layout.shape().elem_count() / self.0;
        let shape = &layout.dims()[..4];
        cuda::apply_to::<u8>(self.name(), &[(input, layout)], shape, |element| {
            cuda::argmax(element, voxels, self.0)
        })
    }
}
