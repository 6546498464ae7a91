//! `upsample2`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use super::{
    check_wide, shape_error,
    storage::{dispatch, own, read},
    volume_shape,
};
use crate::{
    layout::{from_channels_last, to_channels_last},
    memory::zeros,
};

/// Nearest-neighbour up-sampling by 2: each voxel of `[N, C, D, H, W]` becomes 2³ of `[N, C, 2D, 2H, 2W]`, channels-last
/// in memory.
///
/// # Errors
/// Where the tensor has other dimensions, or the element type is neither f32 nor f64 (on a GPU bf16 too).
pub fn upsample2(input: &Tensor) -> Result<Tensor> {
    const NAME: &str = "upsample2";
    check_wide(NAME, &[input])?;
    let (batch, channels, size) = volume_shape(NAME, input)?;
    let voxels = to_channels_last(input)?;
    let shape = Doubled {
        batch,
        channels,
        size,
    };
    let doubled = if input.device().is_cpu() {
        voxels.apply_op1(shape)?
    } else {
        let [depth, height, width] = size;
        let pairs = voxels.reshape(vec![batch, depth, 1, height, 1, width, 1, channels])?;
        pairs.broadcast_as(shape.pairs())?.reshape(shape.doubled())?
    };
    from_channels_last(&doubled)
}

/// The gradient of the input of [`upsample2`]: of `[N, C, 2D, 2H, 2W]` the sums over 2³ voxels, `[N, C, D, H, W]`,
/// channels-last in memory. They are added up in one order.
///
/// # Errors
/// Where a size is odd, or as [`upsample2`].
pub fn upsample2_gradient(gradient: &Tensor) -> Result<Tensor> {
    const NAME: &str = "upsample2-gradient";
    check_wide(NAME, &[gradient])?;
    let (batch, channels, size) = volume_shape(NAME, gradient)?;
    if size.iter().any(|size| size % 2 != 0) {
        let expected = "[N, C, D, H, W] with D, H and W even";
        return Err(shape_error(NAME, "the gradient", expected, gradient));
    }
    let shape = Doubled {
        batch,
        channels,
        size: size.map(|size| size / 2),
    };
    let voxels = to_channels_last(gradient)?;
    let sums = if gradient.device().is_cpu() {
        voxels.apply_op1_no_bwd(&Sums(shape))?
    } else {
        let [depth, height, width] = shape.size;
        let sums = voxels.reshape(shape.pairs())?.sum([2, 4, 6].as_slice())?;
        sums.reshape((batch, depth, height, width, channels))?
    };
    from_channels_last(&sums)
}

/// input -> each voxel 2³ times; channels-last. The size is the input's.
#[derive(Debug, Clone, Copy)]
struct Doubled {
    batch: usize,
    channels: usize,
    size: [usize; 3],
}

impl Doubled {
    /// Voxels by the one that they come from.
    fn pairs(&self) -> Vec<usize> {
        let [depth, height, width] = self.size;
        vec![self.batch, depth, 2, height, 2, width, 2, self.channels]
    }

    fn doubled(&self) -> Vec<usize> {
        let [depth, height, width] = self.size.map(|side| 2 * side);
        vec![self.batch, depth, height, width, self.channels]
    }

    /// Values of a row of the input.
    fn row(&self) -> usize {
        self.size[2] * self.channels
    }

    fn len(&self) -> usize {
        self.batch * self.size[0] * self.size[1] * self.row()
    }
}

impl CustomOp1 for Doubled {
    fn name(&self) -> &'static str {
        "upsample2"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (row, height) = (self.row(), self.size[1]);
        let storage = dispatch!(self.name(), input, T => {
            let input = read::<T>(self.name(), input, layout)?;
            let mut output = zeros::<T>(8 * self.len());
            let rows = output.par_chunks_mut((2 * row).max(1)).enumerate();
            rows.for_each(|(index, output)| {
                // Planes of all images in one count: each image has an even number.
                let (plane, y) = (index / (2 * height), index % (2 * height));
                let from = &input[(plane / 2 * height + y / 2) * row..][..row];
                let pairs = output.chunks_exact_mut(2 * self.channels);
                for (voxel, pair) in from.chunks_exact(self.channels).zip(pairs) {
                    let (first, second) = pair.split_at_mut(self.channels);
                    first.copy_from_slice(voxel);
                    second.copy_from_slice(voxel);
                }
            });
            own(output)
        });
        Ok((storage, self.doubled().into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.contiguous()?.apply_op1_no_bwd(&Sums(*self)).map(Some)
    }
}

/// gradient of the doubled voxels -> of the input.
struct Sums(Doubled);

impl CustomOp1 for Sums {
    fn name(&self) -> &'static str {
        "upsample2-gradient"
    }

    fn cpu_fwd(&self, gradient: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Doubled {
            batch,
            channels,
            size: [depth, height, width],
        } = self.0;
        let row = self.0.row();
        let storage = dispatch!(self.name(), gradient, T => {
            let gradient = read::<T>(self.name(), gradient, layout)?;
            let mut output = zeros::<T>(self.0.len());
            let rows = output.par_chunks_mut(row.max(1)).enumerate();
            rows.for_each(|(index, output)| {
                let (plane, y) = (index / height, index % height);
                for z in 2 * plane..2 * plane + 2 {
                    for y in 2 * y..2 * y + 2 {
                        add_pairs(&gradient[(z * 2 * height + y) * 2 * row..][..2 * row], channels, output);
                    }
                }
            });
            own(output)
        });
        Ok((storage, (batch, depth, height, width, channels).into()))
    }
}

/// Adds the pairs of voxels of a row.
fn add_pairs<T: WithDType>(row: &[T], channels: usize, sums: &mut [T]) {
    let pairs = row.chunks_exact(2 * channels);
    for (pair, sums) in pairs.zip(sums.chunks_exact_mut(channels)) {
        let (first, second) = pair.split_at(channels);
        for (sum, (first, second)) in sums.iter_mut().zip(first.iter().zip(second)) {
            *sum += *first + *second;
        }
    }
}
