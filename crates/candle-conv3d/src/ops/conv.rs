//! `conv3d` and `conv3d_concat`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    arithmetic::Arithmetic,
    before_activation, check_types, parameters, shape_error,
    storage::{dispatch, own, read},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{
    config::{Activation, Conv3dConfig},
    cpu::{ConvShape, Source},
    layout::{from_channels_last, to_channels_last},
    memory::zeros,
};

/// Convolution (cross-correlation, as in every deep-learning library) of stride 1.
///
/// `input` is `[N, C, D, H, W]`, `weight` `[O, C, kd, kh, kw]`, `bias` `[O]`; all f32, all f64, or a bf16 input with f32
/// parameters, whose weights are rounded as they are used. The result is
/// `[N, O, D', H', W']`, channels-last in memory. Gradients flow to input, weight and bias.
///
/// # Errors
/// Where shapes or element types don't fit, or the kernel is larger than the padded input.
pub fn conv3d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv3dConfig,
) -> Result<Tensor> {
    let (op, parameters) = Convolution::new("conv3d", &[input], weight, bias, config)?;
    from_channels_last(&to_channels_last(input)?.apply_op2(&parameters, op)?)
}

/// [`conv3d`] of `cat([a, b], 1)`, read from the two where they are.
///
/// `a` is `[N, A, D, H, W]`, `b` `[N, B, D, H, W]`, `weight` `[O, A + B, kd, kh, kw]`, `bias` `[O]`.
///
/// # Errors
/// Where shapes or element types don't fit, or the kernel is larger than the padded input.
pub fn conv3d_concat(
    a: &Tensor,
    b: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv3dConfig,
) -> Result<Tensor> {
    let (op, parameters) = Convolution::new("conv3d_concat", &[a, b], weight, bias, config)?;
    from_channels_last(&to_channels_last(a)?.apply_op3(&to_channels_last(b)?, &parameters, op)?)
}

/// (sources, parameters) -> result; everything channels-last.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    name: &'static str,
    shape: ConvShape,
    /// Channels of each source.
    channels: Vec<usize>,
    has_bias: bool,
    activation: Activation,
}

impl Convolution {
    pub(super) fn new(
        name: &'static str,
        sources: &[&Tensor],
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: &Conv3dConfig,
    ) -> Result<(Self, Tensor)> {
        let parameters_given: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
        check_types(name, sources, &parameters_given)?;
        let (batch, _, input) = volume_shape(name, sources[0])?;
        let mut channels = Vec::with_capacity(sources.len());
        for source in sources {
            let (source_batch, source_channels, source_input) = volume_shape(name, source)?;
            if (source_batch, source_input) != (batch, input) {
                let expected = format!(
                    "[{batch}, B, {}, {}, {}] like the first",
                    input[0], input[1], input[2]
                );
                return Err(shape_error(name, "the second input", expected, source));
            }
            channels.push(source_channels);
        }
        let input_channels = channels.iter().sum::<usize>();
        let &[output_channels, weight_channels, kd, kh, kw] = weight.dims() else {
            return Err(shape_error(name, "the weight", "[O, C, kd, kh, kw]", weight));
        };
        if weight_channels != input_channels {
            let expected = format!("[O, {input_channels}, kd, kh, kw]");
            return Err(shape_error(name, "the weight", expected, weight));
        }
        let channel_counts = [output_channels, input_channels];
        let shape = ConvShape::new(batch, input, channel_counts, [kd, kh, kw], &config.padding)?;
        let op = Self {
            name,
            shape,
            channels,
            has_bias: bias.is_some(),
            activation: config.activation,
        };
        Ok((op, parameters(name, weight, bias, sources[0])?))
    }

    fn forward(
        &self,
        sources: &[(&CpuStorage, &Layout)],
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = &self.shape;
        let storage = dispatch!(self.name, sources[0].0, T => {
            let sources = self.sources::<T>(sources)?;
            let parameters = read(self.name, parameters, parameters_layout)?;
            let (weight, bias) = parameters.split_at(shape.weight_len().min(parameters.len()));
            let mut output = zeros::<T>(shape.output_len());
            let bias = self.has_bias.then_some(bias);
            let weights = T::conv_weights(shape.kernel, shape.output_channels, &self.channels, weight)?;
            T::conv(&weights, shape, &sources, bias, self.activation, &mut output)?;
            own(output)
        });
        Ok((storage, self.result_shape()))
    }

    fn result_shape(&self) -> Shape {
        let [depth, height, width] = self.shape.output;
        (self.shape.batch, depth, height, width, self.shape.output_channels).into()
    }

    #[cfg(feature = "cuda")]
    fn plan(&self, element: cuda::Element) -> cuda::ConvolutionPlan<'_> {
        cuda::ConvolutionPlan {
            element,
            shape: &self.shape,
            channels: &self.channels,
            has_bias: self.has_bias,
            activation: self.activation,
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_forward(&self, inputs: &[cuda::Input<'_>]) -> Result<(CudaStorage, Shape)> {
        let shape = self.result_shape();
        let direction = cuda::Direction::Forward;
        cuda::convolve(self.name, inputs, shape, direction, |element| self.plan(element))
    }

    fn sources<'a, T: candle_core::WithDType>(
        &self,
        sources: &[(&'a CpuStorage, &Layout)],
    ) -> Result<Vec<Source<'a, T>>> {
        let pairs = sources.iter().zip(&self.channels);
        pairs
            .map(|(&(storage, layout), &channels)| {
                Ok(Source {
                    values: read(self.name, storage, layout)?,
                    channels,
                })
            })
            .collect()
    }

    /// Images and size of the result.
    pub(super) fn result_size(&self) -> (usize, [usize; 3]) {
        (self.shape.batch, self.shape.output)
    }

    /// The same with a bias.
    pub(super) fn with_bias(self) -> Self {
        Self {
            has_bias: true,
            ..self
        }
    }

    /// The gradient of one source, from that before the activation; everything channels-last.
    pub(super) fn source_gradient(
        &self,
        index: usize,
        parameters: &Tensor,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let op = InputGradient {
            shape: self.shape,
            first_channel: self.channels[..index].iter().sum(),
            channels: self.channels[index],
        };
        gradient.apply_op2_no_bwd(parameters, &op)
    }

    /// The gradient of the parameters, from that before the activation; everything channels-last.
    pub(super) fn weight_gradient(&self, sources: &[Tensor], gradient: &Tensor) -> Result<Tensor> {
        let op = WeightGradient(self.clone());
        match sources {
            [a, b] => a.apply_op3_no_bwd(b, gradient, &op),
            _ => sources[0].apply_op2_no_bwd(gradient, &op),
        }
    }

    /// The gradients that candle tracks: of the sources and of the parameters.
    fn tracked_gradients(
        &self,
        sources: &[&Tensor],
        parameters: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Vec<Option<Tensor>>, Option<Tensor>)> {
        let gradient = before_activation(self.activation, result, gradient)?;
        let of_parameters = parameters.track_op().then(|| {
            let sources: Vec<Tensor> = sources.iter().map(|&source| source.clone()).collect();
            self.weight_gradient(&sources, &gradient)
        });
        let parameters = parameters.contiguous()?;
        let of_sources = sources.iter().enumerate().map(|(index, source)| {
            source
                .track_op()
                .then(|| self.source_gradient(index, &parameters, &gradient))
                .transpose()
        });
        Ok((of_sources.collect::<Result<_>>()?, of_parameters.transpose()?))
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        source: &CpuStorage,
        source_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(source, source_layout)], parameters, parameters_layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        source: &CudaStorage,
        source_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda_forward(&[(source, source_layout), (parameters, parameters_layout)])
    }

    fn bwd(
        &self,
        source: &Tensor,
        parameters: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut of_sources, of_parameters) =
            self.tracked_gradients(&[source], parameters, result, gradient)?;
        Ok((of_sources.pop().flatten(), of_parameters))
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, a_layout), (b, b_layout)], parameters, parameters_layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda_forward(&[(a, a_layout), (b, b_layout), (parameters, parameters_layout)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        parameters: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (mut of_sources, of_parameters) =
            self.tracked_gradients(&[a, b], parameters, result, gradient)?;
        let of_b = of_sources.pop().flatten();
        Ok((of_sources.pop().flatten(), of_b, of_parameters))
    }
}

/// (gradient, parameters) -> gradient of one source.
struct InputGradient {
    shape: ConvShape,
    first_channel: usize,
    channels: usize,
}

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "conv3d-input-gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = &self.shape;
        let [depth, height, width] = shape.input;
        let dims = (shape.batch, depth, height, width, self.channels);
        let storage = dispatch!(self.name(), gradient, T => {
            let gradient = read::<T>(self.name(), gradient, gradient_layout)?;
            let parameters = read(self.name(), parameters, parameters_layout)?;
            let weight = &parameters[..shape.weight_len().min(parameters.len())];
            let mut output = zeros::<T>(shape.batch * depth * height * width * self.channels);
            T::conv_input_gradient(shape, gradient, weight, self.first_channel, self.channels, &mut output)?;
            own(output)
        });
        Ok((storage, dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let [depth, height, width] = self.shape.input;
        let dims = (self.shape.batch, depth, height, width, self.channels);
        let inputs = [(gradient, gradient_layout), (parameters, parameters_layout)];
        let direction = cuda::Direction::InputGradient {
            first: self.first_channel,
            channels: self.channels,
        };
        let all = [self.shape.input_channels];
        cuda::convolve(self.name(), &inputs, dims, direction, |element| {
            cuda::ConvolutionPlan {
                element,
                shape: &self.shape,
                channels: &all,
                has_bias: false,
                activation: Activation::Identity,
            }
        })
    }
}

/// (sources, gradient) -> gradient of the parameters.
struct WeightGradient(Convolution);

impl WeightGradient {
    fn forward(
        &self,
        sources: &[(&CpuStorage, &Layout)],
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Convolution {
            name,
            shape,
            has_bias,
            ..
        } = &self.0;
        let bias_len = if *has_bias { shape.output_channels } else { 0 };
        let length = shape.weight_len() + bias_len;
        let storage = dispatch!(name, gradient, T => {
            let sources = self.0.sources::<T>(sources)?;
            let gradient = read::<T>(name, gradient, gradient_layout)?;
            let mut output = zeros(length);
            let (weight, bias) = output.split_at_mut(shape.weight_len());
            T::conv_weight_gradient(shape, &sources, gradient, weight, has_bias.then_some(bias))?;
            own(output)
        });
        Ok((storage, length.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_forward(&self, inputs: &[cuda::Input<'_>]) -> Result<(CudaStorage, Shape)> {
        let Convolution { shape, has_bias, .. } = &self.0;
        let length = shape.weight_len() + if *has_bias { shape.output_channels } else { 0 };
        let direction = cuda::Direction::WeightGradient;
        cuda::convolve(self.0.name, inputs, length, direction, |element| {
            self.0.plan(element)
        })
    }
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv3d-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        source: &CpuStorage,
        source_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(source, source_layout)], gradient, gradient_layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        source: &CudaStorage,
        source_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda_forward(&[(source, source_layout), (gradient, gradient_layout)])
    }
}

impl CustomOp3 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv3d-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, a_layout), (b, b_layout)], gradient, gradient_layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda_forward(&[(a, a_layout), (b, b_layout), (gradient, gradient_layout)])
    }
}
