//! Logical `[N, C, D, H, W]`, in memory `[N, D, H, W, C]`.
//!
//! The custom ops work on contiguous `[N, D, H, W, C]` tensors; only the public functions translate. In the graph of a
//! network each layer would then hang on the previous one through two permutes, and candle adds up gradients on each
//! of them: in backward the permutes would cost more than the layers. So where a tensor is such a view of a
//! channels-last one, the op is hung on that one directly.

use candle_core::{Result, Tensor};

use crate::error::Conv3dError;

/// Axes of `[N, C, D, H, W]` as found in memory.
const TO_CHANNELS_LAST: [usize; 5] = [0, 2, 3, 4, 1];
const FROM_CHANNELS_LAST: [usize; 5] = [0, 4, 1, 2, 3];

/// The logical view of a contiguous `[N, D, H, W, C]` tensor.
pub(crate) fn from_channels_last(tensor: &Tensor) -> Result<Tensor> {
    tensor.permute(FROM_CHANNELS_LAST)
}

/// A contiguous `[N, D, H, W, C]` tensor of the same values as `[N, C, D, H, W]`: without a copy where the memory is
/// channels-last already, and in the graph of gradients the very tensor that this one is a view of.
///
/// # Errors
/// Where the tensor has other dimensions.
pub fn to_channels_last(tensor: &Tensor) -> Result<Tensor> {
    if tensor.track_op()
        && let Some(origin) = channels_last_origin(tensor)
    {
        return Ok(origin);
    }
    tensor.permute(TO_CHANNELS_LAST)?.contiguous()
}

/// The contiguous `[N, D, H, W, C]` tensor that this one is a view of.
pub(crate) fn as_channels_last(op: &'static str, tensor: &Tensor) -> Result<Tensor> {
    let view = tensor.permute(TO_CHANNELS_LAST)?;
    if view.is_contiguous() {
        Ok(view)
    } else {
        Err(Conv3dError::NotContiguous { op }.into())
    }
}

/// The tensor this one is a channels-first view of, if it is one.
fn channels_last_origin(tensor: &Tensor) -> Option<Tensor> {
    // Reverse topological order: what follows a view is what it was made from.
    let origin = *tensor.sorted_nodes().get(1)?;
    let layout = tensor.layout().permute(&TO_CHANNELS_LAST).ok()?;
    let (storage, _) = tensor.storage_and_layout();
    let (origin_storage, origin_layout) = origin.storage_and_layout();
    let same_values = std::ptr::eq(&raw const *storage, &raw const *origin_storage)
        && origin_layout.is_contiguous()
        && origin_layout.shape() == layout.shape()
        && origin_layout.stride() == layout.stride()
        && origin_layout.start_offset() == layout.start_offset();
    drop(origin_storage);
    same_values.then(|| origin.clone())
}
