//! `copy_planes`.

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{
    shape_error,
    storage::{dispatch, write},
    volume_shape,
};
use crate::layout::as_channels_last;

/// Copies planes (along D) of `volume`, `[1, C, D, H, W]` and channels-last in memory, to another place in it. The two may
/// overlap.
///
/// # Errors
/// Where planes are not there, or the tensor has another layout, several images, or an element type without ops.
pub fn copy_planes(volume: &Tensor, from: Range<usize>, to: usize) -> Result<()> {
    const NAME: &str = "copy_planes";
    let (batch, _, [depth, ..]) = volume_shape(NAME, volume)?;
    if batch != 1 || from.start > from.end || from.end > depth || to + from.len() > depth {
        let expected = format!("[1, C, D, H, W] with planes {from:?} and room for them from {to} on");
        return Err(shape_error(NAME, "the volume", expected, volume));
    }
    if from.is_empty() || from.start == to {
        return Ok(());
    }
    let volume = as_channels_last(NAME, volume)?;
    if !volume.device().is_cpu() {
        let planes = volume.narrow(1, from.start, from.len())?.force_contiguous()?;
        return volume.slice_set(&planes, 1, to);
    }
    volume.inplace_op1(&CopyPlanes { depth, from, to })
}

struct CopyPlanes {
    depth: usize,
    from: Range<usize>,
    to: usize,
}

impl InplaceOp1 for CopyPlanes {
    fn name(&self) -> &'static str {
        "copy_planes"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        dispatch!(self.name(), storage, T => {
            let values = write::<T>(self.name(), storage, layout)?;
            let plane = values.len() / self.depth;
            let (from, to) = (self.from.start * plane..self.from.end * plane, self.to * plane);
            if to >= from.end {
                let (before, behind) = values.split_at_mut(to);
                copy(&before[from.clone()], &mut behind[..from.len()]);
            } else if to + from.len() <= from.start {
                let (before, behind) = values.split_at_mut(from.start);
                copy(&behind[..from.len()], &mut before[to..to + from.len()]);
            } else {
                values.copy_within(from, to);
            }
            Ok(())
        })
    }
}

/// In parallel: one thread alone doesn't use the memory's bandwidth.
fn copy<T: Copy + Send + Sync>(from: &[T], to: &mut [T]) {
    const CHUNK: usize = 1 << 16;
    let chunks = to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK));
    chunks.for_each(|(to, from)| to.copy_from_slice(from));
}
