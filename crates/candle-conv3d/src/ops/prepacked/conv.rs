//! [`conv3d`](crate::conv3d) and [`conv3d_concat`](crate::conv3d_concat), prepacked.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};
use half::bf16;

use super::{
    Parameters, Typed, bias_values, by_type, check_bias, check_output, check_parameters, check_volumes,
};
#[cfg(feature = "cuda")]
use crate::cuda::{self, PackedOnGpu};
use crate::{
    config::{Activation, Padding},
    cpu::{self, ConvShape, Source, bf16::Stored},
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

type TypedConv = Typed<
    Parameters<cpu::bf16::ConvWeights, f32>,
    Parameters<cpu::ConvWeights<f32>, f32>,
    Parameters<cpu::ConvWeights<f64>, f64>,
>;

/// [`conv3d`](crate::conv3d) and [`conv3d_concat`](crate::conv3d_concat) for weights that stay as they are: the same
/// values, bit for bit, without the work of preparing weights on each call, and into memory that is there already.
/// No gradients.
pub struct PrepackedConv3d {
    source_channels: Vec<usize>,
    output_channels: usize,
    kernel: [usize; 3],
    activation: Activation,
    dtype: DType,
    halos: Halos,
    parameters: TypedConv,
    #[cfg(feature = "cuda")]
    on_gpu: Option<PackedOnGpu>,
}

impl PrepackedConv3d {
    const NAME: &str = "prepacked conv3d";

    /// Prepares `weight` `[O, C, kd, kh, kw]` and `bias` `[O]` for sources of these numbers of channels (C in all; one
    /// source, or two to be read as if concatenated) and of this element type: that of the parameters, or bf16 for
    /// parameters in f32.
    ///
    /// # Errors
    /// Where shapes or element types don't fit.
    pub fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        source_channels: &[usize],
        activation: Activation,
        dtype: DType,
    ) -> Result<Self> {
        let tensors: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
        check_parameters(Self::NAME, &tensors, dtype)?;
        let channels: usize = source_channels.iter().sum();
        let (output_channels, kernel) = match *weight.dims() {
            [outputs, inputs, kd, kh, kw] if inputs == channels => (outputs, [kd, kh, kw]),
            _ => {
                let expected = format!("[O, {channels}, kd, kh, kw]");
                return Err(shape_error(Self::NAME, "the weight", expected, weight));
            }
        };
        check_bias(Self::NAME, bias, output_channels)?;
        let flat = weight.flatten_all()?;
        let parameters = by_type!(Self::NAME, dtype, T => Parameters {
            weights: T::conv_weights(kernel, output_channels, source_channels, &flat.to_vec1()?)?,
            bias: bias_values(bias)?,
        });
        Ok(Self {
            source_channels: source_channels.to_vec(),
            output_channels,
            kernel,
            activation,
            dtype,
            halos: Halos::default(),
            parameters,
            #[cfg(feature = "cuda")]
            on_gpu: PackedOnGpu::new(weight, bias),
        })
    }

    /// The same layer for volumes with halos: [`haloed_zeros`](crate::haloed_zeros). Such sources are read where they are,
    /// which is faster; the results are the same, bit for bit.
    ///
    /// # Errors
    /// Where the layer is not for bf16.
    pub fn with_halos(mut self, halos: Halos) -> Result<Self> {
        halos.check(Self::NAME, self.dtype)?;
        self.halos = halos;
        Ok(self)
    }

    /// Channels of the result.
    pub fn output_channels(&self) -> usize {
        self.output_channels
    }

    /// Writes the convolution of the sources, `[N, C, D, H, W]` each, into `output`, `[N, O, D', H', W']` and
    /// channels-last in memory (see [`channels_last_zeros`](crate::channels_last_zeros)), or a part of such along D
    /// where N is 1. What `output` held before doesn't matter. It has the element type of the sources; of bf16 it may
    /// have f32, for results that are not to be rounded.
    ///
    /// # Errors
    /// Where shapes or element types don't fit, or `output` has another layout or shares memory with a source.
    pub fn write(&self, sources: &[&Tensor], padding: &Padding, output: &Tensor) -> Result<()> {
        check_volumes(Self::NAME, self.dtype, sources)?;
        if !(self.dtype == DType::BF16 && output.dtype() == DType::F32) {
            check_volumes(Self::NAME, self.dtype, &[output])?;
        }
        let count = self.source_channels.len();
        let first = match sources.first() {
            Some(first) if sources.len() == count => *first,
            _ => {
                let expected = format!("as many as the weights are for, {count}");
                return Err(shape_error(Self::NAME, "the sources", expected, output));
            }
        };
        let (batch, _, input) = volume_shape(Self::NAME, first)?;
        if let Some(other) = sources
            .iter()
            .find(|source| source.dims().get(2..) != Some(&input[..]))
        {
            let expected = format!("the size of the first, {input:?}");
            return Err(shape_error(Self::NAME, "a source", expected, other));
        }
        let input = inside(input, self.halos.sources);
        let input_channels = self.source_channels.iter().sum();
        let channels = [self.output_channels, input_channels];
        let shape = ConvShape::new(batch, input, channels, self.kernel, padding)?;
        let expected = outside(shape.output, self.halos.output);
        check_output(Self::NAME, output, batch, self.output_channels, expected)?;
        let output = as_channels_last(Self::NAME, output)?;
        let run = Convolution { layer: self, shape };
        match sources {
            [a] => output.inplace_op2(&to_channels_last(a)?, &run),
            [a, b] => output.inplace_op3(&to_channels_last(a)?, &to_channels_last(b)?, &run),
            _ => Err(shape_error(Self::NAME, "the sources", "one or two", first)),
        }
    }
}

impl std::fmt::Debug for PrepackedConv3d {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrepackedConv3d")
            .field("source_channels", &self.source_channels)
            .field("output_channels", &self.output_channels)
            .field("kernel", &self.kernel)
            .field("activation", &self.activation)
            .finish_non_exhaustive()
    }
}

/// sources -> output; everything channels-last.
struct Convolution<'a> {
    layer: &'a PrepackedConv3d,
    shape: ConvShape,
}

impl Convolution<'_> {
    fn run(
        &self,
        output: &mut CpuStorage,
        layout: &Layout,
        sources: &[(&CpuStorage, &Layout)],
    ) -> Result<()> {
        let name = PrepackedConv3d::NAME;
        let (shape, activation, halos) = (&self.shape, self.layer.activation, self.layer.halos);
        match &self.layer.parameters {
            Typed::BF16(Parameters { weights, bias }) => {
                let volumes = sources.iter().zip(&self.layer.source_channels);
                let volumes =
                    volumes.map(|(source, &channels)| stored(name, *source, channels, halos.sources));
                let volumes: Vec<Stored<'_>> = volumes.collect::<Result<_>>()?;
                let bias = bias.as_deref();
                if matches!(output, CpuStorage::F32(_)) {
                    let output = write::<f32>(name, output, layout)?;
                    weights.forward_stored(shape, &volumes, bias, activation, output, halos.output)?;
                } else {
                    let output = write::<bf16>(name, output, layout)?;
                    weights.forward_stored(shape, &volumes, bias, activation, output, halos.output)?;
                }
            }
            Typed::F32(Parameters { weights, bias }) => {
                let (sources, output) = (self.sources(sources)?, write(name, output, layout)?);
                weights.forward(shape, &sources, bias.as_deref(), activation, output)?;
            }
            Typed::F64(Parameters { weights, bias }) => {
                let (sources, output) = (self.sources(sources)?, write(name, output, layout)?);
                weights.forward(shape, &sources, bias.as_deref(), activation, output)?;
            }
        }
        Ok(())
    }

    fn sources<'a, T: candle_core::WithDType>(
        &self,
        sources: &[(&'a CpuStorage, &Layout)],
    ) -> Result<Vec<Source<'a, T>>> {
        let sources = sources.iter().zip(&self.layer.source_channels);
        sources
            .map(|(&(storage, layout), &channels)| {
                Ok(Source {
                    values: read(PrepackedConv3d::NAME, storage, layout)?,
                    channels,
                })
            })
            .collect()
    }
}

#[cfg(feature = "cuda")]
impl Convolution<'_> {
    fn run_on_gpu(&self, output: (&mut CudaStorage, &Layout), sources: &[cuda::Input<'_>]) -> Result<()> {
        let (op, layer) = (PrepackedConv3d::NAME, self.layer);
        if layer.halos != Halos::default() {
            return Err(Conv3dError::Halo { op }.into());
        }
        let weights = layer.on_gpu.as_ref().ok_or(Conv3dError::OtherDevice { op })?;
        let pack = |element| cuda::pack_convolution(element, &self.shape, &layer.source_channels);
        weights.convolve(op, sources, output, pack, |element| cuda::ConvolutionPlan {
            element,
            shape: &self.shape,
            channels: &layer.source_channels,
            has_bias: weights.has_bias(),
            activation: layer.activation,
        })
    }
}

impl InplaceOp2 for Convolution<'_> {
    fn name(&self) -> &'static str {
        PrepackedConv3d::NAME
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        self.run(output, layout, &[(source, source_layout)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        output: &mut CudaStorage,
        layout: &Layout,
        source: &CudaStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        self.run_on_gpu((output, layout), &[(source, source_layout)])
    }
}

impl InplaceOp3 for Convolution<'_> {
    fn name(&self) -> &'static str {
        PrepackedConv3d::NAME
    }

    fn cpu_fwd(
        &self,
        output: &mut CpuStorage,
        layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<()> {
        self.run(output, layout, &[(a, a_layout), (b, b_layout)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        output: &mut CudaStorage,
        layout: &Layout,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<()> {
        self.run_on_gpu((output, layout), &[(a, a_layout), (b, b_layout)])
    }
}
