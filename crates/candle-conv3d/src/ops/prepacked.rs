//! Layers for inference: weights are brought into the kernels' order once, and results go where they are wanted.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};
use half::bf16;

use super::{
    arithmetic::Arithmetic,
    shape_error,
    storage::{read, stored, write},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda::{self, PackedOnGpu};
use crate::{
    config::{Activation, Padding},
    cpu::{self, ConvShape, Source, UpsampleShape, bf16::Stored},
    error::Conv3dError,
    layout::{as_channels_last, to_channels_last},
};

/// Which of a layer's volumes have a halo: see [`haloed_zeros`](crate::haloed_zeros).
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

    fn check(self, op: &'static str, dtype: DType) -> Result<()> {
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

/// Weights of a layer and its bias.
struct Parameters<W, P> {
    weights: W,
    bias: Option<Vec<P>>,
}

/// Weights for the element type of the volumes: the macro runs the body for it.
macro_rules! by_type {
    ($op:expr, $dtype:expr, $t:ident => $parameters:expr) => {
        match $dtype {
            DType::BF16 => {
                type $t = bf16;
                Typed::BF16($parameters)
            }
            DType::F32 => {
                type $t = f32;
                Typed::F32($parameters)
            }
            DType::F64 => {
                type $t = f64;
                Typed::F64($parameters)
            }
            other => {
                return Err(Conv3dError::ElementType {
                    op: $op,
                    found: vec![other],
                }
                .into());
            }
        }
    };
}

enum Typed<A, B, C> {
    BF16(A),
    F32(B),
    F64(C),
}

type TypedConv = Typed<
    Parameters<cpu::bf16::ConvWeights, f32>,
    Parameters<cpu::ConvWeights<f32>, f32>,
    Parameters<cpu::ConvWeights<f64>, f64>,
>;

type TypedUpsample = Typed<
    Parameters<cpu::bf16::UpsampleWeights, f32>,
    Parameters<cpu::UpsampleWeights<f32>, f32>,
    Parameters<cpu::UpsampleWeights<f64>, f64>,
>;

/// The type that parameters have for volumes of a type.
fn check_parameters(op: &'static str, parameters: &[&Tensor], dtype: DType) -> Result<()> {
    let expected = if dtype == DType::BF16 { DType::F32 } else { dtype };
    match parameters.iter().find(|tensor| tensor.dtype() != expected) {
        Some(tensor) => {
            let found = vec![dtype, tensor.dtype()];
            Err(Conv3dError::ElementType { op, found }.into())
        }
        None => Ok(()),
    }
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

/// Refuses volumes of another element type than the layer is for.
fn check_volumes(op: &'static str, dtype: DType, volumes: &[&Tensor]) -> Result<()> {
    match volumes.iter().find(|volume| volume.dtype() != dtype) {
        Some(volume) => {
            let found = vec![dtype, volume.dtype()];
            Err(Conv3dError::ElementType { op, found }.into())
        }
        None => Ok(()),
    }
}

/// Refuses an output of another shape than the result's.
pub(super) fn check_output(
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

    /// The same layer for input and output with halos, as [`PrepackedConv3d::with_halos`].
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
    /// d ≤ D: as many as it has. It has to be channels-last in memory, as for [`PrepackedConv3d::write`].
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
