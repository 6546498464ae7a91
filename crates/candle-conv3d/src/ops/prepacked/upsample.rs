//! [`upsample2_conv2`](crate::upsample2_conv2), prepacked.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor};
use half::bf16;

use super::{
    Parameters, Typed, bias_values, by_type, check_bias, check_output, check_parameters, check_volumes,
};
#[cfg(feature = "cuda")]
use crate::cuda::{self, PackedOnGpu};
use crate::{
    config::Activation,
    cpu::{self, UpsampleShape},
    error::Conv3dError,
    layout::{as_channels_last, to_channels_last},
    ops::{
        arithmetic::Arithmetic,
        places::{Halos, inside, outside},
        shape_error,
        storage::{read, stored, write},
        volume_shape,
    },
};

type TypedUpsample = Typed<
    Parameters<cpu::bf16::UpsampleWeights, f32>,
    Parameters<cpu::UpsampleWeights<f32>, f32>,
    Parameters<cpu::UpsampleWeights<f64>, f64>,
>;

/// [`upsample2_conv2`](crate::upsample2_conv2) for weights that stay as they are: the same values, bit for bit. No
/// gradients.
pub struct PrepackedUpsample {
    channels: [usize; 2],
    activation: Activation,
    dtype: DType,
    halo: bool,
    parameters: TypedUpsample,
    #[cfg(feature = "cuda")]
    on_gpu: Option<PackedOnGpu>,
}

impl PrepackedUpsample {
    const NAME: &str = "prepacked upsample2_conv2";

    /// Prepares `weight` `[O, C, 2, 2, 2]` and `bias` `[O]` for volumes of this element type: that of the parameters, or
    /// bf16 for parameters in f32.
    ///
    /// # Errors
    /// Where shapes or element types don't fit.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, activation: Activation, dtype: DType) -> Result<Self> {
        let tensors: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
        check_parameters(Self::NAME, &tensors, dtype)?;
        let &[outputs, inputs, 2, 2, 2] = weight.dims() else {
            return Err(shape_error(Self::NAME, "the weight", "[O, C, 2, 2, 2]", weight));
        };
        check_bias(Self::NAME, bias, outputs)?;
        let flat = weight.flatten_all()?;
        let parameters = by_type!(Self::NAME, dtype, T => Parameters {
            weights: T::upsample_weights(outputs, inputs, &flat.to_vec1()?)?,
            bias: bias_values(bias)?,
        });
        Ok(Self {
            channels: [outputs, inputs],
            activation,
            dtype,
            halo: false,
            parameters,
            #[cfg(feature = "cuda")]
            on_gpu: PackedOnGpu::new(weight, bias),
        })
    }

    /// The same layer for input and output with halos, as [`PrepackedConv3d::with_halos`](crate::PrepackedConv3d::with_halos).
    ///
    /// # Errors
    /// Where the layer is not for bf16.
    pub fn with_halo(mut self) -> Result<Self> {
        Halos::BOTH.check(Self::NAME, self.dtype)?;
        self.halo = true;
        Ok(self)
    }

    /// Channels of the result.
    pub fn output_channels(&self) -> usize {
        self.channels[0]
    }

    /// Writes the first planes of the result for `input`, `[N, C, D, H, W]`, into `output`, `[N, O, 2d, 2H, 2W]` with
    /// d ≤ D: as many as it has. It has to be channels-last in memory, as for [`PrepackedConv3d::write`](crate::PrepackedConv3d::write).
    ///
    /// # Errors
    /// Where shapes or element types don't fit, or `output` has another layout or shares memory with `input`.
    pub fn write(&self, input: &Tensor, output: &Tensor) -> Result<()> {
        check_volumes(Self::NAME, self.dtype, &[input, output])?;
        let [output_channels, input_channels] = self.channels;
        let (batch, found, size) = volume_shape(Self::NAME, input)?;
        if found != input_channels {
            let expected = format!("[N, {input_channels}, D, H, W]");
            return Err(shape_error(Self::NAME, "the input", expected, input));
        }
        let size = inside(size, self.halo);
        let shape = UpsampleShape {
            batch,
            input: size,
            input_channels,
            output_channels,
        };
        let planes = volume_shape(Self::NAME, output)?.2[0] / 2;
        let expected = outside([2 * planes.min(size[0]), 2 * size[1], 2 * size[2]], self.halo);
        check_output(Self::NAME, output, batch, output_channels, expected)?;
        let run = Upsampling {
            layer: self,
            shape,
            planes,
        };
        as_channels_last(Self::NAME, output)?.inplace_op2(&to_channels_last(input)?, &run)
    }
}

impl std::fmt::Debug for PrepackedUpsample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrepackedUpsample")
            .field("channels", &self.channels)
            .field("activation", &self.activation)
            .finish_non_exhaustive()
    }
}

/// input -> the first planes of the output; everything channels-last.
struct Upsampling<'a> {
    layer: &'a PrepackedUpsample,
    shape: UpsampleShape,
    planes: usize,
}

impl Upsampling<'_> {
    fn run<T: Arithmetic>(
        &self,
        Parameters { weights, bias }: &Parameters<T::UpsampleWeights, T::Parameter>,
        (output, layout): (&mut CpuStorage, &Layout),
        (input, input_layout): (&CpuStorage, &Layout),
    ) -> Result<()> {
        let name = PrepackedUpsample::NAME;
        let (input, output) = (read(name, input, input_layout)?, write(name, output, layout)?);
        let activation = self.layer.activation;
        Ok(T::upsample(
            weights,
            &self.shape,
            self.planes,
            input,
            bias.as_deref(),
            activation,
            output,
        )?)
    }
}

impl InplaceOp2 for Upsampling<'_> {
    fn name(&self) -> &'static str {
        PrepackedUpsample::NAME
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
    ) -> Result<()> {
        match &self.layer.parameters {
            Typed::BF16(Parameters { weights, bias }) => {
                let (name, channels) = (PrepackedUpsample::NAME, self.shape.input_channels);
                let input = stored(name, (input, input_layout), channels, self.layer.halo)?;
                let output = write::<bf16>(name, output, layout)?;
                let (bias, activation) = (bias.as_deref(), self.layer.activation);
                Ok(weights.forward_stored(&self.shape, self.planes, &input, bias, activation, output)?)
            }
            Typed::F32(parameters) => self.run::<f32>(parameters, (output, layout), (input, input_layout)),
            Typed::F64(parameters) => self.run::<f64>(parameters, (output, layout), (input, input_layout)),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        output: &mut CudaStorage,
        layout: &Layout,
        input: &CudaStorage,
        input_layout: &Layout,
    ) -> Result<()> {
        let (op, shape) = (PrepackedUpsample::NAME, &self.shape);
        if self.layer.halo {
            return Err(Conv3dError::Halo { op }.into());
        }
        let weights = self
            .layer
            .on_gpu
            .as_ref()
            .ok_or(Conv3dError::OtherDevice { op })?;
        let pack = |element| cuda::pack_upsample(element, shape);
        weights.run(op, &[(input, input_layout)], (output, layout), pack, |element| {
            let (bias, activation) = (weights.has_bias(), self.layer.activation);
            cuda::packed_upsample(element, shape, self.planes, bias, activation)
        })
    }
}
