//! `max_pool2`, also into memory that is there.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor};

use super::{
    check_types,
    places::{inside, outside},
    prepacked::check_output,
    shape_error,
    storage::{dispatch, own, read, write},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{
    cpu::{self, PoolShape},
    error::Conv3dError,
    layout::{as_channels_last, from_channels_last, to_channels_last},
    memory::zeros,
};

/// Max-pooling of 2³ voxels with stride 2.
///
/// `input` is `[N, C, D, H, W]` of even sizes, f32, f64 or bf16; the result `[N, C, D/2, H/2, W/2]`, channels-last in
/// memory. The gradient goes to the first of the greatest voxels, in the order z, y, x.
///
/// # Errors
/// Where a size is odd, or the element type isn't one of the three.
pub fn max_pool2(input: &Tensor) -> Result<Tensor> {
    const NAME: &str = "max_pool2";
    check_types(NAME, &[input], &[])?;
    let (batch, channels, size) = volume_shape(NAME, input)?;
    if size.iter().any(|size| size % 2 != 0) {
        return Err(shape_error(
            NAME,
            "the input",
            "[N, C, D, H, W] with D, H and W even",
            input,
        ));
    }
    let op = MaxPool(PoolShape {
        batch,
        output: size.map(|size| size / 2),
        channels,
    });
    from_channels_last(&to_channels_last(input)?.apply_op1(op)?)
}

/// input -> result, channels-last.
struct MaxPool(PoolShape);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = dispatch!(self.name(), input, T => {
            let input = read::<T>(self.name(), input, layout)?;
            let mut output = zeros::<T>(self.0.output_len());
            cpu::max_pool2_forward(&self.0, input, &mut output)?;
            own(output)
        });
        let [depth, height, width] = self.0.output;
        Ok((
            storage,
            (self.0.batch, depth, height, width, self.0.channels).into(),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, input: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let PoolShape {
            batch,
            output: [depth, height, width],
            channels,
        } = self.0;
        let dims = (batch, depth, height, width, channels);
        cuda::apply(self.name(), &[(input, layout)], dims, |element| {
            cuda::max_pool(element, &self.0)
        })
    }

    fn bwd(&self, input: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self::gradient(self.0, input, &result.contiguous()?, &gradient.contiguous()?).map(Some)
    }
}

/// The gradient of the input; everything channels-last.
pub(super) fn gradient(
    shape: PoolShape,
    input: &Tensor,
    result: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    input.apply_op3_no_bwd(result, gradient, &MaxPoolGradient(shape))
}

/// (input, result, gradient) -> gradient of the input.
struct MaxPoolGradient(PoolShape);

impl CustomOp3 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max_pool2-gradient"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = dispatch!(self.name(), input, T => {
            let input = read::<T>(self.name(), input, input_layout)?;
            let gradient = read::<T>(self.name(), gradient, gradient_layout)?;
            let mut output = zeros::<T>(input.len());
            cpu::add_max_pool2_gradient(&self.0, input, gradient, &mut output)?;
            own(output)
        });
        Ok((storage, input_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        input: &CudaStorage,
        input_layout: &Layout,
        result: &CudaStorage,
        result_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [
            (input, input_layout),
            (result, result_layout),
            (gradient, gradient_layout),
        ];
        cuda::apply(self.name(), &inputs, input_layout.shape().clone(), |element| {
            cuda::max_pool_gradient(element, &self.0)
        })
    }
}

/// Writes [`max_pool2`](crate::max_pool2) of `input` into `output`, as
/// [`PrepackedConv3d::write`](crate::PrepackedConv3d::write) does.
///
/// # Errors
/// Where shapes or element types don't fit, or `output` has another layout or shares memory with `input`.
pub fn max_pool2_into(input: &Tensor, output: &Tensor) -> Result<()> {
    pool_into(input, output, false)
}

/// The same for volumes that both have a [halo](crate::haloed_zeros), on the CPU.
///
/// # Errors
/// Where shapes or element types don't fit, or `output` has another layout or shares memory with `input`.
pub fn max_pool2_with_halos(input: &Tensor, output: &Tensor) -> Result<()> {
    if input.device().is_cpu() {
        pool_into(input, output, true)
    } else {
        Err(Conv3dError::Halo {
            op: "max_pool2_with_halos",
        }
        .into())
    }
}

fn pool_into(input: &Tensor, output: &Tensor, halo: bool) -> Result<()> {
    const NAME: &str = "max_pool2_into";
    check_types(NAME, &[input, output], &[])?;
    let (batch, channels, size) = volume_shape(NAME, input)?;
    let size = inside(size, halo);
    if size.iter().any(|side| side % 2 == 1) {
        return Err(shape_error(NAME, "the input", "even sides", input));
    }
    let half = size.map(|side| side / 2);
    check_output(NAME, output, batch, channels, outside(half, halo))?;
    let shape = PoolShape {
        batch,
        output: half,
        channels,
    };
    as_channels_last(NAME, output)?.inplace_op2(&to_channels_last(input)?, &PoolInto { shape, halo })
}

/// input -> output; everything channels-last.
struct PoolInto {
    shape: PoolShape,
    halo: bool,
}

impl InplaceOp2 for PoolInto {
    fn name(&self) -> &'static str {
        "max_pool2_into"
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
    ) -> Result<()> {
        let name = InplaceOp2::name(self);
        dispatch!(name, input, T => {
            let (input, output) = (read::<T>(name, input, input_layout)?, write(name, output, layout)?);
            Ok(cpu::max_pool2_forward_stored(&self.shape, input, output, self.halo)?)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        output: &mut CudaStorage,
        layout: &Layout,
        input: &CudaStorage,
        input_layout: &Layout,
    ) -> Result<()> {
        let name = InplaceOp2::name(self);
        cuda::apply_into(name, &[(input, input_layout)], (output, layout), |element| {
            cuda::max_pool(element, &self.shape)
        })
    }
}
