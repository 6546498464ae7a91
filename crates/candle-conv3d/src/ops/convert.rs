//! `convert`.

use candle_core::{DType, Result, Tensor};

use crate::layout::{from_channels_last, to_channels_last};

/// The values of `[N, C, D, H, W]` in another element type, channels-last in memory; gradients flow back in the type
/// that they came from.
///
/// # Errors
/// Where the tensor has other dimensions, or the device doesn't know the type.
pub fn convert(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    from_channels_last(&to_channels_last(tensor)?.to_dtype(dtype)?)
}
