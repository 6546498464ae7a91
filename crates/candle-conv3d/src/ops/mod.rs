//! The public functions on tensors, as candle custom ops. Each gradient is a custom op too, so that another device
//! only adds its `*_fwd` beside the CPU's.

mod arithmetic;
mod channels;
mod conv;
mod convert;
mod double;
mod gradients;
mod optimiser;
mod places;
mod planes;
mod pool;
mod prepacked;
mod standardise;
mod storage;
mod sums;
mod upsample;

pub use channels::{argmax_channels, softmax_channels};
pub use conv::{conv3d, conv3d_concat};
pub use convert::convert;
pub use double::{upsample2, upsample2_gradient};
pub use gradients::{
    LayerGradients, add_max_pool2_gradient, conv3d_gradients, relu_gradient, upsample2_conv2_gradients,
};
pub use optimiser::{AdamTensors, adam_step, update_averages};
pub use places::{Halos, channels_last_zeros, haloed_zeros};
pub use planes::copy_planes;
pub use pool::{max_pool2, max_pool2_into, max_pool2_with_halos};
pub use prepacked::{PrepackedConv3d, PrepackedUpsample};
pub use standardise::{RowGradients, StandardisedRows, standardise_rows, standardise_rows_gradients};
pub use sums::add_softmax_channels;
pub use upsample::upsample2_conv2;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{config::Activation, cpu, error::Conv3dError};
use storage::{dispatch, own, read};

/// Refuses tensors of another type than f32.
fn check_f32(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    match tensors.iter().find(|tensor| tensor.dtype() != DType::F32) {
        Some(other) => {
            let found = vec![other.dtype()];
            Err(Conv3dError::ElementType { op, found }.into())
        }
        None => Ok(()),
    }
}

/// Refuses volumes of other types than f32, f64 and bf16, or of several, and parameters of another type than these
/// have: the same, or f32 for bf16.
fn check_types(op: &'static str, volumes: &[&Tensor], parameters: &[&Tensor]) -> Result<()> {
    let found = |tensors: &[&Tensor]| tensors.iter().map(|tensor| tensor.dtype()).collect();
    let (volumes, parameters): (Vec<DType>, Vec<DType>) = (found(volumes), found(parameters));
    let of_parameters = match volumes.first() {
        Some(DType::BF16 | DType::F32) => DType::F32,
        _ => DType::F64,
    };
    let supported = matches!(volumes.first(), Some(DType::BF16 | DType::F32 | DType::F64));
    let one_type = volumes.windows(2).all(|pair| pair[0] == pair[1]);
    if supported && one_type && parameters.iter().all(|dtype| *dtype == of_parameters) {
        Ok(())
    } else {
        let found = [volumes, parameters].concat();
        Err(Conv3dError::ElementType { op, found }.into())
    }
}

/// Refuses tensors of other types than f32 and f64; a GPU takes bf16 too.
fn check_wide(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    let refused = |tensor: &&&Tensor| tensor.dtype() == DType::BF16 && tensor.device().is_cpu();
    match tensors.iter().find(refused) {
        Some(tensor) => Err(Conv3dError::ElementType {
            op,
            found: vec![tensor.dtype()],
        }
        .into()),
        None => check_types(op, tensors, &[]),
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

/// Weight and bias as one tensor: candle's custom ops take three arguments at most. For volumes like this one: a GPU's
/// kernels take all in one type.
fn parameters(op: &'static str, weight: &Tensor, bias: Option<&Tensor>, volume: &Tensor) -> Result<Tensor> {
    let flat = weight.flatten_all()?;
    let parameters = match bias {
        None => flat,
        Some(bias) if bias.dims() == [weight.dims()[0]] => Tensor::cat(&[&flat, bias], 0)?,
        Some(bias) => {
            return Err(shape_error(
                op,
                "the bias",
                format!("[{}]", weight.dims()[0]),
                bias,
            ));
        }
    };
    if volume.device().is_cpu() {
        Ok(parameters)
    } else {
        parameters.to_dtype(volume.dtype())
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
            let mut gradient = read::<T>(self.name(), gradient, gradient_layout)?.to_vec();
            cpu::relu_gradient(result, &mut gradient)?;
            own(gradient)
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
