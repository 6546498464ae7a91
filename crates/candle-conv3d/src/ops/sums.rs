//! `add_softmax_channels`.

use std::ops::Range;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{
    shape_error,
    storage::{read, write},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{
    cpu::{Isa, softmax_of_voxels},
    error::Conv3dError,
    layout::{as_channels_last, to_channels_last},
};

/// Adds the soft-max over the channels of a box (D, H, W) of `logits`, `[1, C, d, h, w]`, to the planes of `sums`,
/// `[1, C, D, H, W]`, from `to` on; both f32 and channels-last in memory. The box has the rows and columns of the sums.
/// `turned` turns it by 180° about H first: its planes and columns run backwards.
///
/// Means of several networks, or of a volume seen in several ways, are made of this where the scores are.
///
/// # Errors
/// Where shapes or element types don't fit, or `sums` has another layout or shares memory with `logits`.
pub fn add_softmax_channels(
    sums: &Tensor,
    logits: &Tensor,
    part: &[Range<usize>; 3],
    to: usize,
    turned: bool,
) -> Result<()> {
    if let Some(other) = [sums, logits].iter().find(|one| one.dtype() != DType::F32) {
        let found = vec![other.dtype()];
        return Err(Conv3dError::ElementType { op: NAME, found }.into());
    }
    let (batch, channels, [depth, height, width]) = volume_shape(NAME, sums)?;
    let (of_batch, of_channels, of_size) = volume_shape(NAME, logits)?;
    let size = part.clone().map(|range| range.len());
    let inside = part.iter().zip(of_size).all(|(range, size)| range.end <= size);
    let fits = size[1..] == [height, width] && to + size[0] <= depth;
    if batch != 1 || of_batch != 1 || channels == 0 || of_channels != channels || !inside || !fits {
        let expected = format!(
            "[1, {channels}, d, h, w] with a box {part:?} that goes to plane {to} of {:?}",
            sums.dims()
        );
        return Err(shape_error(NAME, "the logits", expected, logits));
    }
    let op = AddSoftmax {
        channels,
        size,
        start: part.clone().map(|range| range.start),
        of_size,
        to,
        turned,
    };
    as_channels_last(NAME, sums)?.inplace_op2(&to_channels_last(logits)?, &op)
}

const NAME: &str = "add_softmax_channels";

struct AddSoftmax {
    channels: usize,
    size: [usize; 3],
    start: [usize; 3],
    of_size: [usize; 3],
    to: usize,
    turned: bool,
}

impl InplaceOp2 for AddSoftmax {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        sums: &mut CpuStorage,
        layout: &Layout,
        logits: &CpuStorage,
        logits_layout: &Layout,
    ) -> Result<()> {
        let (sums, logits) = (
            write::<f32>(NAME, sums, layout)?,
            read::<f32>(NAME, logits, logits_layout)?,
        );
        let [planes, rows, columns] = self.size;
        let row = columns * self.channels;
        if row * rows * planes == 0 {
            return Ok(());
        }
        let first = self.to * rows * row;
        let isa = Isa::current();
        sums[first..first + planes * rows * row]
            .par_chunks_mut(row)
            .enumerate()
            .for_each_init(
                || vec![0.0; row],
                |scores, (index, sums)| {
                    let (plane, y) = (index / rows, index % rows);
                    let z = if self.turned { planes - 1 - plane } else { plane };
                    let [z, y, x] = [self.start[0] + z, self.start[1] + y, self.start[2]];
                    let from = ((z * self.of_size[1] + y) * self.of_size[2] + x) * self.channels;
                    softmax_of_voxels(isa, self.channels, &logits[from..from + row], scores);
                    let scores = scores.chunks_exact(self.channels).enumerate();
                    for (x, scores) in scores {
                        let x = if self.turned { columns - 1 - x } else { x };
                        let sums = &mut sums[x * self.channels..][..self.channels];
                        for (sum, score) in sums.iter_mut().zip(scores) {
                            *sum += score;
                        }
                    }
                },
            );
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        sums: &mut CudaStorage,
        layout: &Layout,
        logits: &CudaStorage,
        logits_layout: &Layout,
    ) -> Result<()> {
        let [_, rows, columns] = self.of_size;
        let lengths = [logits_layout, layout].map(|layout| layout.shape().elem_count());
        cuda::apply_into(NAME, &[(logits, logits_layout)], (sums, layout), |_| {
            cuda::add_softmax(
                lengths[0],
                lengths[1],
                &cuda::Region {
                    size: self.size,
                    channels: self.channels,
                    start: self.start,
                    plane: [rows, columns],
                    to: self.to,
                    turned: self.turned,
                },
            )
        })
    }
}
