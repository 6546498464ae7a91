//! Layers for inference: weights are brought into the kernels' order once, and results go where they are wanted.

mod conv;
mod upsample;

use candle_core::{DType, Result, Tensor};

use super::shape_error;
use crate::error::Conv3dError;

pub use conv::PrepackedConv3d;
pub use upsample::PrepackedUpsample;

/// Weights of a layer and its bias.
struct Parameters<W, P> {
    weights: W,
    bias: Option<Vec<P>>,
}

/// Weights for the element type of the volumes: the macro runs the body for it.
macro_rules! by_type {
    ($op:expr, $dtype:expr, $t:ident => $parameters:expr) => {
        match $dtype {
            DType::BF16 => {
                type $t = half::bf16;
                Typed::BF16($parameters)
            }
            DType::F32 => {
                type $t = f32;
                Typed::F32($parameters)
            }
            DType::F64 => {
                type $t = f64;
                Typed::F64($parameters)
            }
            other => {
                return Err(Conv3dError::ElementType {
                    op: $op,
                    found: vec![other],
                }
                .into());
            }
        }
    };
}

use by_type;

enum Typed<A, B, C> {
    BF16(A),
    F32(B),
    F64(C),
}

/// The type that parameters have for volumes of a type.
fn check_parameters(op: &'static str, parameters: &[&Tensor], dtype: DType) -> Result<()> {
    let expected = if dtype == DType::BF16 { DType::F32 } else { dtype };
    match parameters.iter().find(|tensor| tensor.dtype() != expected) {
        Some(tensor) => {
            let found = vec![dtype, tensor.dtype()];
            Err(Conv3dError::ElementType { op, found }.into())
        }
        None => Ok(()),
    }
}

fn bias_values<T: candle_core::WithDType>(bias: Option<&Tensor>) -> Result<Option<Vec<T>>> {
    bias.map(Tensor::to_vec1::<T>).transpose()
}

fn check_bias(op: &'static str, bias: Option<&Tensor>, outputs: usize) -> Result<()> {
    match bias.filter(|bias| bias.dims() != [outputs]) {
        Some(bias) => Err(shape_error(op, "the bias", format!("[{outputs}]"), bias)),
        None => Ok(()),
    }
}

/// Refuses volumes of another element type than the layer is for.
fn check_volumes(op: &'static str, dtype: DType, volumes: &[&Tensor]) -> Result<()> {
    match volumes.iter().find(|volume| volume.dtype() != dtype) {
        Some(volume) => {
            let found = vec![dtype, volume.dtype()];
            Err(Conv3dError::ElementType { op, found }.into())
        }
        None => Ok(()),
    }
}

/// Refuses an output of another shape than the result's.
pub(super) fn check_output(
    op: &'static str,
    output: &Tensor,
    batch: usize,
    channels: usize,
    [depth, height, width]: [usize; 3],
) -> Result<()> {
    let expected = [batch, channels, depth, height, width];
    if output.dims() == expected {
        Ok(())
    } else {
        Err(shape_error(op, "the output", format!("{expected:?}"), output))
    }
}
