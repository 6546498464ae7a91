//! `upsample2_conv2`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{
    arithmetic::Arithmetic,
    before_activation, check_types, parameters, shape_error,
    storage::{dispatch, own, read},
    volume_shape,
};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{
    config::Activation,
    cpu::UpsampleShape,
    layout::{from_channels_last, to_channels_last},
    memory::zeros,
};

/// Nearest-neighbour upsampling ×2, then a 2³ convolution with "same" padding (0 before, 1 after), as one step.
///
/// `input` is `[N, C, D, H, W]`, `weight` `[O, C, 2, 2, 2]`, `bias` `[O]`; all f32, all f64, or a bf16
/// input with f32 parameters. The result is
/// `[N, O, 2D, 2H, 2W]`, channels-last in memory. The upsampled volume is never built: weights summed beforehand give
/// the same with 27 instead of 64 products per input voxel and channel pair. Gradients flow to input, weight and bias.
///
/// # Errors
/// Where shapes or element types don't fit.
pub fn upsample2_conv2(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let (op, parameters) = UpConvolution::new("upsample2_conv2", input, weight, bias, activation)?;
    from_channels_last(&to_channels_last(input)?.apply_op2(&parameters, op)?)
}

/// (input, parameters) -> result; everything channels-last.
#[derive(Debug, Clone)]
pub(super) struct UpConvolution {
    shape: UpsampleShape,
    has_bias: bool,
    activation: Activation,
}

impl UpConvolution {
    pub(super) fn new(
        name: &'static str,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<(Self, Tensor)> {
        let parameters_given: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
        check_types(name, &[input], &parameters_given)?;
        let (batch, input_channels, size) = volume_shape(name, input)?;
        let output_channels = match *weight.dims() {
            [outputs, inputs, 2, 2, 2] if inputs == input_channels => outputs,
            _ => {
                let expected = format!("[O, {input_channels}, 2, 2, 2]");
                return Err(shape_error(name, "the weight", expected, weight));
            }
        };
        let op = Self {
            shape: UpsampleShape {
                batch,
                input: size,
                input_channels,
                output_channels,
            },
            has_bias: bias.is_some(),
            activation,
        };
        Ok((op, parameters(name, weight, bias, input)?))
    }

    /// The same with a bias.
    pub(super) fn with_bias(self) -> Self {
        Self {
            has_bias: true,
            ..self
        }
    }

    /// The gradient of the input, from that before the activation; everything channels-last.
    pub(super) fn input_gradient(&self, parameters: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        gradient.apply_op2_no_bwd(parameters, &InputGradient(self.shape))
    }

    /// The gradient of the parameters, from that before the activation; everything channels-last.
    pub(super) fn weight_gradient(&self, input: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        input.apply_op2_no_bwd(gradient, &WeightGradient(self.clone()))
    }
}

impl CustomOp2 for UpConvolution {
    fn name(&self) -> &'static str {
        "upsample2_conv2"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = &self.shape;
        let storage = dispatch!(self.name(), input, T => {
            let input = read::<T>(self.name(), input, input_layout)?;
            let parameters = read(self.name(), parameters, parameters_layout)?;
            let (weight, bias) = parameters.split_at(shape.weight_len().min(parameters.len()));
            let mut output = zeros::<T>(shape.output_len());
            let bias = self.has_bias.then_some(bias);
            let weights = T::upsample_weights(shape.output_channels, shape.input_channels, weight)?;
            T::upsample(&weights, shape, shape.input[0], input, bias, self.activation, &mut output)?;
            own(output)
        });
        let [depth, height, width] = shape.input.map(|size| 2 * size);
        Ok((
            storage,
            (shape.batch, depth, height, width, shape.output_channels).into(),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        input: &CudaStorage,
        input_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let shape = &self.shape;
        let [depth, height, width] = shape.input.map(|size| 2 * size);
        let dims = (shape.batch, depth, height, width, shape.output_channels);
        let inputs = [(input, input_layout), (parameters, parameters_layout)];
        cuda::apply(self.name(), &inputs, dims, |element| {
            cuda::upsample(element, shape, self.has_bias, self.activation)
        })
    }

    fn bwd(
        &self,
        input: &Tensor,
        parameters: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = before_activation(self.activation, result, gradient)?;
        let weight_gradient = parameters
            .track_op()
            .then(|| self.weight_gradient(input, &gradient))
            .transpose()?;
        let input_gradient = input
            .track_op()
            .then(|| self.input_gradient(&parameters.contiguous()?, &gradient))
            .transpose()?;
        Ok((input_gradient, weight_gradient))
    }
}

/// (gradient, parameters) -> gradient of the input.
struct InputGradient(UpsampleShape);

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "upsample2_conv2-input-gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = &self.0;
        let storage = dispatch!(self.name(), gradient, T => {
            let gradient = read::<T>(self.name(), gradient, gradient_layout)?;
            let parameters = read(self.name(), parameters, parameters_layout)?;
            let weight = &parameters[..shape.weight_len().min(parameters.len())];
            let mut output = zeros::<T>(shape.input_len());
            T::upsample_input_gradient(shape, gradient, weight, &mut output)?;
            own(output)
        });
        let [depth, height, width] = shape.input;
        Ok((
            storage,
            (shape.batch, depth, height, width, shape.input_channels).into(),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let shape = &self.0;
        let [depth, height, width] = shape.input;
        let dims = (shape.batch, depth, height, width, shape.input_channels);
        let inputs = [(gradient, gradient_layout), (parameters, parameters_layout)];
        cuda::apply(self.name(), &inputs, dims, |element| {
            cuda::upsample_input_gradient(element, shape)
        })
    }
}

/// (input, gradient) -> gradient of the parameters.
struct WeightGradient(UpConvolution);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "upsample2_conv2-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let UpConvolution { shape, has_bias, .. } = &self.0;
        let length = shape.weight_len() + if *has_bias { shape.output_channels } else { 0 };
        let storage = dispatch!(self.name(), input, T => {
            let input = read::<T>(self.name(), input, input_layout)?;
            let gradient = read::<T>(self.name(), gradient, gradient_layout)?;
            let mut output = zeros(length);
            let (weight, bias) = output.split_at_mut(shape.weight_len());
            T::upsample_weight_gradient(shape, input, gradient, weight, has_bias.then_some(bias))?;
            own(output)
        });
        Ok((storage, length.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        input: &CudaStorage,
        input_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let UpConvolution { shape, has_bias, .. } = &self.0;
        let length = shape.weight_len() + if *has_bias { shape.output_channels } else { 0 };
        let inputs = [(input, input_layout), (gradient, gradient_layout)];
        cuda::apply(self.name(), &inputs, length, |element| {
            cuda::upsample_weight_gradient(element, shape, *has_bias)
        })
    }
}
