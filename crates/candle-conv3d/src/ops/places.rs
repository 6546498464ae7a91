//! Places for results, with and without a halo.

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;

use crate::{error::Conv3dError, layout::from_channels_last, memory};

/// A tensor `[N, C, D, H, W]` of zeros, channels-last in memory: a place for results.
///
/// # Errors
/// Where the element type is none of bf16, f32 and f64, or the device cannot hold it.
pub fn channels_last_zeros(
    [batch, channels, depth, height, width]: [usize; 5],
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = (batch, depth, height, width, channels);
    let length = batch * depth * height * width * channels;
    let tensor = match dtype {
        _ if !device.is_cpu() => Tensor::zeros(shape, dtype, device)?,
        DType::BF16 => Tensor::from_vec(memory::zeros::<bf16>(length), shape, device)?,
        DType::F32 => Tensor::from_vec(memory::zeros::<f32>(length), shape, device)?,
        DType::F64 => Tensor::from_vec(memory::zeros::<f64>(length), shape, device)?,
        other => {
            return Err(Conv3dError::ElementType {
                op: "channels_last_zeros",
                found: vec![other],
            }
            .into());
        }
    };
    from_channels_last(&tensor)
}

/// A tensor of zeros in bf16 for volumes `[N, C, D, H, W]` with a halo, channels-last in memory on the CPU: a place for
/// results that are then read where they are.
///
/// Products read rows of voxels and want zeros around the volume. Here each row has a voxel of zeros behind it and each plane a
/// row, so that the tensor is `[N, C, D, H + 1, W + 1]`; what stands before the first voxel is zeros too. Who writes into it
/// ([`PrepackedConv3d::with_halos`](crate::PrepackedConv3d::with_halos) and its neighbours) leaves the halo as it is.
///
/// # Errors
/// None but candle's.
pub fn haloed_zeros([batch, channels, depth, height, width]: [usize; 5]) -> Result<Tensor> {
    /// Values in a cache line: matrix registers take several times as long to load rows that lie across two.
    const LINE: usize = 32;
    /// Voxels that a tile of positions may read behind the last.
    const BEHIND: usize = 32;
    let (height, width) = (height + 1, width + 1);
    let length = batch * depth * height * width * channels;
    let before = (width + 1) * channels;
    let values = memory::zeros::<bf16>(before + LINE + length + BEHIND * channels + LINE);
    // Never more than a line: an address that cannot be aligned is as good as any.
    let aligned = values[before..].as_ptr().align_offset(2 * LINE).min(LINE);
    let all = values.len();
    let volume = Tensor::from_vec(values, all, &Device::Cpu)?.narrow(0, before + aligned, length)?;
    from_channels_last(&volume.reshape((batch, depth, height, width, channels))?)
}

/// Which of a layer's volumes have a halo: see [`haloed_zeros`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Halos {
    /// Those that it reads.
    pub sources: bool,
    /// The one that it writes.
    pub output: bool,
}

impl Halos {
    /// All.
    pub const BOTH: Self = Self {
        sources: true,
        output: true,
    };

    pub(super) fn check(self, op: &'static str, dtype: DType) -> Result<()> {
        if dtype == DType::BF16 || self == Self::default() {
            Ok(())
        } else {
            Err(Conv3dError::Halo { op }.into())
        }
    }
}

/// A volume's size without its halo.
pub(super) fn inside([depth, height, width]: [usize; 3], halo: bool) -> [usize; 3] {
    let halo = usize::from(halo);
    [depth, height.saturating_sub(halo), width.saturating_sub(halo)]
}

/// A volume's size with its halo.
pub(super) fn outside([depth, height, width]: [usize; 3], halo: bool) -> [usize; 3] {
    let halo = usize::from(halo);
    [depth, height + halo, width + halo]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_with_a_halo_begin_where_a_cache_line_does_behind_a_row_of_zeros() -> Result<()> {
        let volume = haloed_zeros([1, 48, 3, 5, 7])?;
        assert_eq!(volume.dims(), [1, 48, 3, 6, 8]);
        let (storage, layout) = volume.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            panic!("on the CPU");
        };
        let values = storage.as_slice::<bf16>()?;
        assert!(layout.start_offset() >= 9 * 48 && layout.start_offset() + 3 * 48 * 48 < values.len());
        assert_eq!(values[layout.start_offset()..].as_ptr().addr() % 64, 0);
        Ok(())
    }
}
