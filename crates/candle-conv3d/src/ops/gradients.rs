//! Gradients of single layers, for programs that walk back through a network themselves.
//!
//! candle's own walk begins every sum of gradients with zeros and adds to them: in a network whose layers are these ops
//! that takes as long as the layers.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor};

use super::{
    before_activation, check_types,
    conv::Convolution,
    pool,
    prepacked::check_output,
    shape_error,
    storage::{dispatch, read, write},
    upsample::UpConvolution,
    volume_shape,
};
use crate::{
    config::{Activation, Conv3dConfig, Padding},
    cpu,
    layout::{as_channels_last, from_channels_last, to_channels_last},
};

/// Gradients of what a layer is made from.
#[derive(Debug)]
pub struct LayerGradients {
    /// Of each source, `[N, C, D, H, W]`; none where they were not asked for.
    pub sources: Vec<Tensor>,
    /// `[O, C, kd, kh, kw]`.
    pub weight: Tensor,
    /// `[O]`.
    pub bias: Tensor,
}

impl LayerGradients {
    /// `parameters`: weight and bias in one, of the volume's element type on a GPU.
    fn new(sources: Vec<Tensor>, parameters: &Tensor, weight: &Tensor) -> Result<Self> {
        let (length, outputs) = (weight.elem_count(), weight.dim(0)?);
        let parameters = parameters.to_dtype(weight.dtype())?;
        Ok(Self {
            sources,
            weight: parameters.narrow(0, 0, length)?.reshape(weight.shape())?,
            bias: parameters.narrow(0, length, outputs)?,
        })
    }
}

/// Gradients of [`conv3d`](crate::conv3d) with a bias or, of two sources, of [`conv3d_concat`](crate::conv3d_concat),
/// from the gradient of its result before the activation, `[N, O, D', H', W']`. Those of the sources only where
/// `of_sources` says so.
///
/// # Errors
/// Where shapes or element types don't fit.
pub fn conv3d_gradients(
    sources: &[&Tensor],
    weight: &Tensor,
    gradient: &Tensor,
    padding: Padding,
    of_sources: bool,
) -> Result<LayerGradients> {
    const NAME: &str = "conv3d_gradients";
    let config = Conv3dConfig {
        padding,
        activation: Activation::Identity,
    };
    if !matches!(sources.len(), 1 | 2) {
        return Err(shape_error(NAME, "the sources", "one or two", gradient));
    }
    let (op, parameters) = Convolution::new(NAME, sources, weight, None, &config)?;
    check_types(NAME, &[sources, &[gradient]].concat(), &[weight])?;
    let (batch, size) = op.result_size();
    check_output(NAME, gradient, batch, weight.dim(0)?, size)?;
    let gradient = to_channels_last(gradient)?;
    let (parameters, sources) = (parameters.contiguous()?, channels_last(sources)?);
    let of_sources: Vec<Tensor> = (0..if of_sources { sources.len() } else { 0 })
        .map(|index| from_channels_last(&op.source_gradient(index, &parameters, &gradient)?))
        .collect::<Result<_>>()?;
    LayerGradients::new(
        of_sources,
        &op.with_bias().weight_gradient(&sources, &gradient)?,
        weight,
    )
}

/// Gradients of [`upsample2_conv2`](crate::upsample2_conv2) with a bias, from the gradient of its result before the
/// activation, `[N, O, 2D, 2H, 2W]`.
///
/// # Errors
/// Where shapes or element types don't fit.
pub fn upsample2_conv2_gradients(
    input: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
) -> Result<LayerGradients> {
    const NAME: &str = "upsample2_conv2_gradients";
    let (op, parameters) = UpConvolution::new(NAME, input, weight, None, Activation::Identity)?;
    check_types(NAME, &[input, gradient], &[weight])?;
    let (batch, _, size) = volume_shape(NAME, input)?;
    check_output(NAME, gradient, batch, weight.dim(0)?, size.map(|size| 2 * size))?;
    let (input, gradient) = (to_channels_last(input)?, to_channels_last(gradient)?);
    let of_input = op.input_gradient(&parameters.contiguous()?, &gradient)?;
    let of_parameters = op.with_bias().weight_gradient(&input, &gradient)?;
    LayerGradients::new(vec![from_channels_last(&of_input)?], &of_parameters, weight)
}

/// The gradient before a `ReLU` from that behind it: zeros where `result`, of the same shape, is not positive. On the CPU
/// in the memory of `gradient`.
///
/// # Errors
/// Where shapes or element types don't fit, or the gradient is not channels-last in memory.
pub fn relu_gradient(result: &Tensor, gradient: Tensor) -> Result<Tensor> {
    const NAME: &str = "relu_gradient";
    check_types(NAME, &[result, &gradient], &[])?;
    let (batch, channels, size) = volume_shape(NAME, result)?;
    check_output(NAME, &gradient, batch, channels, size)?;
    let (result, memory) = (to_channels_last(result)?, as_channels_last(NAME, &gradient)?);
    if memory.device().is_cpu() {
        memory.inplace_op2(&result, &ReluInPlace)?;
        Ok(gradient)
    } else {
        from_channels_last(&before_activation(Activation::Relu, &result, &memory)?)
    }
}

/// Adds the gradient of the input of [`max_pool2`](crate::max_pool2), from that of its result, to `sum`, of the input's
/// shape. On the CPU in the memory of `sum`.
///
/// # Errors
/// Where shapes or element types don't fit, or the sum is not channels-last in memory.
pub fn add_max_pool2_gradient(
    input: &Tensor,
    result: &Tensor,
    gradient: &Tensor,
    sum: Tensor,
) -> Result<Tensor> {
    const NAME: &str = "add_max_pool2_gradient";
    check_types(NAME, &[input, result, gradient, &sum], &[])?;
    let (batch, channels, size) = volume_shape(NAME, input)?;
    check_output(NAME, &sum, batch, channels, size)?;
    for pooled in [result, gradient] {
        check_output(NAME, pooled, batch, channels, size.map(|size| size / 2))?;
    }
    let shape = cpu::PoolShape {
        batch,
        output: size.map(|size| size / 2),
        channels,
    };
    let (input, gradient) = (to_channels_last(input)?, to_channels_last(gradient)?);
    let memory = as_channels_last(NAME, &sum)?;
    if memory.device().is_cpu() {
        memory.inplace_op3(&input, &gradient, &PoolOnto(shape))?;
        Ok(sum)
    } else {
        let pooled = pool::gradient(shape, &input, &to_channels_last(result)?, &gradient)?;
        from_channels_last(&(memory + pooled)?)
    }
}

fn channels_last(volumes: &[&Tensor]) -> Result<Vec<Tensor>> {
    volumes.iter().map(|volume| to_channels_last(volume)).collect()
}

/// (gradient, result) -> gradient.
struct ReluInPlace;

impl InplaceOp2 for ReluInPlace {
    fn name(&self) -> &'static str {
        "relu_gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &mut CpuStorage,
        layout: &Layout,
        result: &CpuStorage,
        result_layout: &Layout,
    ) -> Result<()> {
        let name = self.name();
        dispatch!(name, result, T => {
            let (result, gradient) = (read::<T>(name, result, result_layout)?, write(name, gradient, layout)?);
            Ok(cpu::relu_gradient(result, gradient)?)
        })
    }
}

/// (sum, input, gradient) -> sum.
struct PoolOnto(cpu::PoolShape);

impl InplaceOp3 for PoolOnto {
    fn name(&self) -> &'static str {
        "add_max_pool2_gradient"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let name = self.name();
        dispatch!(name, input, T => {
            let (input, gradient) = (read::<T>(name, input, input_layout)?, read(name, gradient, gradient_layout)?);
            Ok(cpu::add_max_pool2_gradient(&self.0, input, gradient, write(name, sum, layout)?)?)
        })
    }
}
