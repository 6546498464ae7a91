//! Layers for inference: weights are brought into the kernels' order once, and results go where they are wanted.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};

use super::{
    check_types, shape_error,
    storage::{read, write},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda::{self, PackedOnGpu};
use crate::{
    config::{Activation, Padding},
    cpu::{self, ConvShape, ConvWeights, Isa, Source, UpsampleShape, UpsampleWeights},
    error::Conv3dError,
    layout::{as_channels_last, to_channels_last},
};

/// Weights of a layer and its bias.
struct Parameters<W, T> {
    weights: W,
    bias: Option<Vec<T>>,
}

/// Weights and bias of whatever element type the tensors have: the macro runs the body for it.
macro_rules! by_type {
    ($weight:expr, $t:ident => $parameters:expr) => {
        match $weight.dtype() {
            DType::F64 => {
                type $t = f64;
                Typed::F64($parameters)
            }
            _ => {
                type $t = f32;
                Typed::F32($parameters)
            }
        }
    };
}

enum Typed<A, B> {
    F32(A),
    F64(B),
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

/// [`conv3d`](crate::conv3d) and [`conv3d_concat`](crate::conv3d_concat) for weights that stay as they are: the same
/// values, bit for bit, without the work of preparing weights on each call, and into memory that is there already.
/// No gradients.
pub struct PrepackedConv3d {
    source_channels: Vec<usize>,
    output_channels: usize,
    kernel: [usize; 3],
    activation: Activation,
    parameters: Typed<Parameters<ConvWeights<f32>, f32>, Parameters<ConvWeights<f64>, f64>>,
    #[cfg(feature = "cuda")]
    on_gpu: Option<PackedOnGpu>,
}

impl PrepackedConv3d {
    const NAME: &str = "prepacked conv3d";

    /// Prepares `weight` `[O, C, kd, kh, kw]` and `bias` `[O]` for sources of these numbers of channels (C in all; one
    /// source, or two to be read as if concatenated).
    ///
    /// # Errors
    /// Where shapes or element types don't fit.
    pub fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        source_channels: &[usize],
        activation: Activation,
    ) -> Result<Self> {
        let tensors: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
        check_types(Self::NAME, &tensors)?;
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
        let parameters = by_type!(weight, T => Parameters {
            weights: ConvWeights::new(
                Isa::current(),
                kernel,
                output_channels,
                source_channels,
                &flat.to_vec1::<T>()?,
            )?,
            bias: bias_values::<T>(bias)?,
        });
        Ok(Self {
            source_channels: source_channels.to_vec(),
            output_channels,
            kernel,
            activation,
            parameters,
            #[cfg(feature = "cuda")]
            on_gpu: PackedOnGpu::new(weight, bias),
        })
    }

    /// Channels of the result.
    pub fn output_channels(&self) -> usize {
        self.output_channels
    }

    /// Writes the convolution of the sources, `[N, C, D, H, W]` each, into `output`, `[N, O, D', H', W']` and
    /// channels-last in memory (see [`channels_last_zeros`](crate::channels_last_zeros)), or a part of such along D
    /// where N is 1. What `output` held before doesn't matter.
    ///
    /// # Errors
    /// Where shapes or element types don't fit, or `output` has another layout or shares memory with a source.
    pub fn write(&self, sources: &[&Tensor], padding: &Padding, output: &Tensor) -> Result<()> {
        let tensors: Vec<&Tensor> = sources.iter().copied().chain([output]).collect();
        check_types(Self::NAME, &tensors)?;
        let count = self.source_channels.len();
        let first = match sources.first() {
            Some(first) if sources.len() == count => *first,
            _ => {
                let expected = format!("as many as the weights are for, {count}");
                return Err(shape_error(Self::NAME, "the sources", expected, output));
            }
        };
        let (batch, _, input) = volume_shape(Self::NAME, first)?;
        let input_channels = self.source_channels.iter().sum();
        let channels = [self.output_channels, input_channels];
        let shape = ConvShape::new(batch, input, channels, self.kernel, padding)?;
        check_output(Self::NAME, output, batch, self.output_channels, shape.output)?;
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

fn check_output(
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
        match &self.layer.parameters {
            Typed::F32(parameters) => self.run_typed(parameters, output, layout, sources),
            Typed::F64(parameters) => self.run_typed(parameters, output, layout, sources),
        }
    }

    fn run_typed<T: cpu::Element + candle_core::WithDType>(
        &self,
        parameters: &Parameters<ConvWeights<T>, T>,
        output: &mut CpuStorage,
        layout: &Layout,
        sources: &[(&CpuStorage, &Layout)],
    ) -> Result<()> {
        let name = PrepackedConv3d::NAME;
        let sources = sources.iter().zip(&self.layer.source_channels);
        let sources: Vec<Source<'_, T>> = sources
            .map(|(&(storage, layout), &channels)| {
                Ok(Source {
                    values: read(name, storage, layout)?,
                    channels,
                })
            })
            .collect::<Result<_>>()?;
        let output = write(name, output, layout)?;
        let bias = parameters.bias.as_deref();
        let weights = &parameters.weights;
        Ok(weights.forward(&self.shape, &sources, bias, self.layer.activation, output)?)
    }
}

#[cfg(feature = "cuda")]
impl Convolution<'_> {
    fn run_on_gpu(&self, output: (&mut CudaStorage, &Layout), sources: &[cuda::Input<'_>]) -> Result<()> {
        let (op, layer) = (PrepackedConv3d::NAME, self.layer);
        let weights = layer.on_gpu.as_ref().ok_or(Conv3dError::OtherDevice { op })?;
        let pack = |element| cuda::pack_convolution(element, &self.shape, &layer.source_channels);
        weights.run(op, sources, output, pack, |element| {
            cuda::packed_convolution(&cuda::ConvolutionPlan {
                element,
                shape: &self.shape,
                channels: &layer.source_channels,
                has_bias: weights.has_bias(),
                activation: layer.activation,
            })
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

/// [`upsample2_conv2`](crate::upsample2_conv2) for weights that stay as they are: the same values, bit for bit. No
/// gradients.
pub struct PrepackedUpsample {
    channels: [usize; 2],
    activation: Activation,
    parameters: Typed<Parameters<UpsampleWeights<f32>, f32>, Parameters<UpsampleWeights<f64>, f64>>,
    #[cfg(feature = "cuda")]
    on_gpu: Option<PackedOnGpu>,
}

impl PrepackedUpsample {
    const NAME: &str = "prepacked upsample2_conv2";

    /// Prepares `weight` `[O, C, 2, 2, 2]` and `bias` `[O]`.
    ///
    /// # Errors
    /// Where shapes or element types don't fit.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Self> {
        let tensors: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
        check_types(Self::NAME, &tensors)?;
        let &[outputs, inputs, 2, 2, 2] = weight.dims() else {
            return Err(shape_error(Self::NAME, "the weight", "[O, C, 2, 2, 2]", weight));
        };
        check_bias(Self::NAME, bias, outputs)?;
        let flat = weight.flatten_all()?;
        let parameters = by_type!(weight, T => Parameters {
            weights: UpsampleWeights::new(Isa::current(), outputs, inputs, &flat.to_vec1::<T>()?)?,
            bias: bias_values::<T>(bias)?,
        });
        Ok(Self {
            channels: [outputs, inputs],
            activation,
            parameters,
            #[cfg(feature = "cuda")]
            on_gpu: PackedOnGpu::new(weight, bias),
        })
    }

    /// Channels of the result.
    pub fn output_channels(&self) -> usize {
        self.channels[0]
    }

    /// Writes the first planes of the result for `input`, `[N, C, D, H, W]`, into `output`, `[N, O, 2d, 2H, 2W]` with
    /// d ≤ D: as many as it has. It has to be channels-last in memory, as for [`PrepackedConv3d::write`].
    ///
    /// # Errors
    /// Where shapes or element types don't fit, or `output` has another layout or shares memory with `input`.
    pub fn write(&self, input: &Tensor, output: &Tensor) -> Result<()> {
        check_types(Self::NAME, &[input, output])?;
        let [output_channels, input_channels] = self.channels;
        let (batch, found, size) = volume_shape(Self::NAME, input)?;
        if found != input_channels {
            let expected = format!("[N, {input_channels}, D, H, W]");
            return Err(shape_error(Self::NAME, "the input", expected, input));
        }
        let shape = UpsampleShape {
            batch,
            input: size,
            input_channels,
            output_channels,
        };
        let planes = volume_shape(Self::NAME, output)?.2[0] / 2;
        let expected = [2 * planes.min(size[0]), 2 * size[1], 2 * size[2]];
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
    fn run<T: cpu::Element + candle_core::WithDType>(
        &self,
        parameters: &Parameters<UpsampleWeights<T>, T>,
        (output, layout): (&mut CpuStorage, &Layout),
        (input, input_layout): (&CpuStorage, &Layout),
    ) -> Result<()> {
        let name = PrepackedUpsample::NAME;
        let (input, output) = (read(name, input, input_layout)?, write(name, output, layout)?);
        let (bias, activation) = (parameters.bias.as_deref(), self.layer.activation);
        let weights = &parameters.weights;
        Ok(weights.forward(&self.shape, self.planes, input, bias, activation, output)?)
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
            Typed::F32(parameters) => self.run(parameters, (output, layout), (input, input_layout)),
            Typed::F64(parameters) => self.run(parameters, (output, layout), (input, input_layout)),
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

/// A tensor `[N, C, D, H, W]` of zeros, channels-last in memory: a place for results.
///
/// # Errors
/// Where the element type is neither f32 nor f64, or the device cannot hold it.
pub fn channels_last_zeros(
    [batch, channels, depth, height, width]: [usize; 5],
    dtype: DType,
    device: &candle_core::Device,
) -> Result<Tensor> {
    let shape = (batch, depth, height, width, channels);
    let length = batch * depth * height * width * channels;
    let tensor = match dtype {
        _ if !device.is_cpu() => Tensor::zeros(shape, dtype, device)?,
        DType::F32 => Tensor::from_vec(crate::memory::zeros::<f32>(length), shape, device)?,
        DType::F64 => Tensor::from_vec(crate::memory::zeros::<f64>(length), shape, device)?,
        other => {
            return Err(Conv3dError::ElementType {
                op: "channels_last_zeros",
                found: vec![other],
            }
            .into());
        }
    };
    crate::layout::from_channels_last(&tensor)
}

/// Writes [`max_pool2`](crate::max_pool2) of `input` into `output`, as [`PrepackedConv3d::write`] does.
///
/// # Errors
/// Where shapes or element types don't fit, or `output` has another layout or shares memory with `input`.
pub fn max_pool2_into(input: &Tensor, output: &Tensor) -> Result<()> {
    const NAME: &str = "max_pool2_into";
    check_types(NAME, &[input, output])?;
    let (batch, channels, size) = volume_shape(NAME, input)?;
    if size.iter().any(|side| side % 2 == 1) {
        return Err(shape_error(NAME, "the input", "even sides", input));
    }
    let half = size.map(|side| side / 2);
    check_output(NAME, output, batch, channels, half)?;
    let shape = cpu::PoolShape {
        batch,
        output: half,
        channels,
    };
    as_channels_last(NAME, output)?.inplace_op2(&to_channels_last(input)?, &Pool(shape))
}

/// input -> output; everything channels-last.
struct Pool(cpu::PoolShape);

impl InplaceOp2 for Pool {
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
        let layouts = (layout, input_layout);
        if matches!(output, CpuStorage::F64(_)) {
            self.run::<f64>(output, input, layouts)
        } else {
            self.run::<f32>(output, input, layouts)
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
        let name = InplaceOp2::name(self);
        cuda::apply_into(name, &[(input, input_layout)], (output, layout), |element| {
            cuda::max_pool(element, &self.0)
        })
    }
}

impl Pool {
    fn run<T: cpu::Element + candle_core::WithDType>(
        &self,
        output: &mut CpuStorage,
        input: &CpuStorage,
        (layout, input_layout): (&Layout, &Layout),
    ) -> Result<()> {
        let name = InplaceOp2::name(self);
        let (input, output) = (
            read::<T>(name, input, input_layout)?,
            write(name, output, layout)?,
        );
        Ok(cpu::max_pool2_forward(&self.0, input, output)?)
    }
}
