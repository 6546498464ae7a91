//! The public functions on tensors, as candle custom ops. Each gradient is a custom op too, so that another device
//! only adds its `*_fwd` beside the CPU's.

mod channels;
mod conv;
mod pool;
mod prepacked;
mod storage;
mod upsample;

pub use channels::{argmax_channels, softmax_channels};
pub use conv::{conv3d, conv3d_concat};
pub use pool::max_pool2;
pub use prepacked::{PrepackedConv3d, PrepackedUpsample, channels_last_zeros, max_pool2_into};
pub use upsample::upsample2_conv2;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{config::Activation, cpu, error::Conv3dError, memory::zeros};
use storage::{dispatch, read};

/// Refuses tensors of other types than f32, f64 and bf16, or of several.
fn check_types(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    let found: Vec<DType> = tensors.iter().map(|tensor| tensor.dtype()).collect();
    let supported = matches!(found.first(), Some(DType::F32 | DType::F64 | DType::BF16));
    if supported && found.windows(2).all(|pair| pair[0] == pair[1]) {
        Ok(())
    } else {
        Err(Conv3dError::ElementType { op, found }.into())
    }
}

/// `[N, C, D, H, W]` of a five-dimensional tensor: batch, channels, size.
fn volume_shape(op: &'static str, tensor: &Tensor) -> Result<(usize, usize, [usize; 3])> {
    match *tensor.dims() {
        [batch, channels, depth, height, width] => Ok((batch, channels, [depth, height, width])),
        _ => Err(shape_error(op, "the input", "[N, C, D, H, W]", tensor)),
    }
}

fn shape_error(
    op: &'static str,
    what: &'static str,
    expected: impl Into<String>,
    tensor: &Tensor,
) -> candle_core::Error {
    Conv3dError::Shape {
        op,
        what,
        expected: expected.into(),
        found: tensor.dims().to_vec(),
    }
    .into()
}

/// Weight and bias as one tensor: candle's custom ops take three arguments at most.
fn parameters(op: &'static str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let flat = weight.flatten_all()?;
    match bias {
        None => Ok(flat),
        Some(bias) if bias.dims() == [weight.dims()[0]] => Tensor::cat(&[&flat, bias], 0),
        Some(bias) => Err(shape_error(
            op,
            "the bias",
            format!("[{}]", weight.dims()[0]),
            bias,
        )),
    }
}

/// Takes back the activation from the gradient of a result.
fn before_activation(activation: Activation, result: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    match activation {
        Activation::Identity => Ok(gradient),
        Activation::Relu => result.contiguous()?.apply_op2_no_bwd(&gradient, &ReluGradient),
    }
}

/// (result, gradient) -> gradient before the `ReLU`.
struct ReluGradient;

impl CustomOp2 for ReluGradient {
    fn name(&self) -> &'static str {
        "relu-gradient"
    }

    fn cpu_fwd(
        &self,
        result: &CpuStorage,
        result_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = dispatch!(self.name(), result, T => {
            let result = read::<T>(self.name(), result, result_layout)?;
            let gradient = read::<T>(self.name(), gradient, gradient_layout)?;
            let mut output = zeros::<T>(result.len());
            cpu::relu_gradient(result, gradient, &mut output)?;
            output
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
        let inputs = [(result, result_layout), (gradient, gradient_layout)];
        let shape = result_layout.shape();
        cuda::apply(self.name(), &inputs, shape.clone(), |element| {
            cuda::relu_gradient(element, shape.elem_count())
        })
    }
}
