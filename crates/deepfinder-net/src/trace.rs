use candle_conv3d::{
    Activation, Conv3dConfig, LayerGradients, Padding, PrepackedConv3d, add_max_pool2_gradient,
    channels_last_zeros, conv3d, conv3d_gradients, convert, max_pool2, relu_gradient, upsample2,
    upsample2_conv2_gradients, upsample2_gradient,
};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

use crate::unet::{Convolution, UNet, check_input};
use crate::{Head, NetError, Result};

/// A forward pass that can be walked back: see [`UNet::trace`].
///
/// candle could walk back by itself from the logits of [`UNet::forward`]. This is the same walk by hand: no gradient is
/// added to zeros, and none takes new memory where it can have another's.
#[derive(Debug)]
pub struct Trace {
    net: UNet,
    /// What the loss is computed from.
    logits: Tensor,
    input: Tensor,
    full: [Tensor; 2],
    full_pooled: Tensor,
    half: [Tensor; 2],
    half_pooled: Tensor,
    quarter: [Tensor; 4],
    half_up: Tensor,
    half_decoded: [Tensor; 2],
    full_decoded: Option<FullDecoded>,
}

/// What the full level's decoder gave.
#[derive(Debug)]
struct FullDecoded {
    up: Tensor,
    decoded: [Tensor; 2],
}

impl UNet {
    /// The logits of [`forward`](Self::forward) with all that the way back needs.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn trace(&self, input: &Tensor) -> Result<Trace> {
        check_input(input)?;
        // No graph of candle's.
        let net = self.detached();
        let input = convert(input, self.precision.dtype())?;
        let full = chain(&net.full_encode, &input)?;
        let full_pooled = max_pool2(&full[1])?;
        let half = chain(&net.half_encode, &full_pooled)?;
        let half_pooled = max_pool2(&half[1])?;
        let quarter = chain(&net.quarter, &half_pooled)?;
        let half_up = net.half_upsample.upsample(&quarter[3])?;
        let half_decoded = decoded(&net.half_decode, &half_up, &half[1])?;
        let full_decoded = net.full_decoder.as_ref().map(|decoder| {
            let up = decoder.upsample.upsample(&half_decoded[1])?;
            let decoded = decoded(&decoder.decode, &up, &full[1])?;
            Ok::<_, NetError>(FullDecoded { up, decoded })
        });
        let full_decoded = full_decoded.transpose()?;
        let features = match &full_decoded {
            Some(full) => &full.decoded[1],
            None => &half_decoded[1],
        };
        let (weight, bias) = (&net.head.weight, Some(&net.head.bias));
        let logits = if features.device().is_cpu() {
            let (channels, dtype) = ([weight.dim(1)?], features.dtype());
            let head = PrepackedConv3d::new(weight, bias, &channels, Activation::Identity, dtype)?;
            write_logits(&head, features, false)?
        } else {
            convert(
                &conv3d(features, weight, bias, &Conv3dConfig::default())?,
                DType::F32,
            )?
        };
        let logits = match self.head() {
            Head::Full => logits,
            Head::Half => upsample2(&logits)?,
        };
        Ok(Trace {
            net: self.clone(),
            logits,
            input,
            full,
            full_pooled,
            half,
            half_pooled,
            quarter,
            half_up,
            half_decoded,
            full_decoded,
        })
    }
}

/// The last layer's results in f32; `halo`: whether the features have one.
pub(crate) fn write_logits(head: &PrepackedConv3d, features: &Tensor, halo: bool) -> Result<Tensor> {
    let (batch, _, depth, height, width) = features.dims5()?;
    let halo = usize::from(halo);
    let shape = [batch, head.output_channels(), depth, height - halo, width - halo];
    // On a GPU results have the type of what they come from.
    let dtype = match features.dtype() {
        DType::BF16 if features.device().is_cpu() => DType::F32,
        dtype => dtype,
    };
    let logits = channels_last_zeros(shape, dtype, features.device())?;
    head.write(&[features], &Padding::Same, &logits)?;
    match dtype {
        DType::BF16 => Ok(convert(&logits, DType::F32)?),
        _ => Ok(logits),
    }
}

impl Trace {
    /// Class scores before the soft-max, `[N, classes, D, H, W]`: compute the loss from these, and its gradient by them.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// Walks back from the gradient by the logits, `[N, classes, D, H, W]`: the gradients of the network's parameters.
    ///
    /// # Errors
    /// Where the gradient is not of the shape of the logits.
    pub fn backward(self, of_logits: &Tensor) -> Result<GradStore> {
        // candle makes no empty store: that of a tensor by itself.
        let mut gradients = Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()?;
        let net = &self.net;
        let dtype = net.precision.dtype();
        // Summed up before it is rounded.
        let of_logits = match net.head() {
            Head::Full => convert(of_logits, dtype)?,
            Head::Half => convert(&upsample2_gradient(of_logits)?, dtype)?,
        };
        let mut back = Back(&mut gradients);

        // The gradients of the half level's features and of the full level's skip.
        let (x, high) = match (&net.full_decoder, &self.full_decoded) {
            (Some(layers), Some(full)) => {
                let [first, second] = &full.decoded;
                let x = back.conv(&net.head, &[second], &of_logits)?;
                let x = back.relu_conv(&layers.decode[1], &[first], second, only(x)?)?;
                let x = back.relu_conv(&layers.decode[0], &[&full.up, &self.full[1]], first, only(x)?)?;
                let [x, high] = two(x)?;
                let x = back.upsample(&layers.upsample, &self.half_decoded[1], &full.up, x)?;
                (x, Some(high))
            }
            _ => (
                only(back.conv(&net.head, &[&self.half_decoded[1]], &of_logits)?)?,
                None,
            ),
        };

        let [first, second] = &self.half_decoded;
        let x = back.relu_conv(&net.half_decode[1], &[first], second, x)?;
        let x = back.relu_conv(
            &net.half_decode[0],
            &[&self.half_up, &self.half[1]],
            first,
            only(x)?,
        )?;
        let [x, mid] = two(x)?;
        let mut x = back.upsample(&net.half_upsample, &self.quarter[3], &self.half_up, x)?;

        for (index, layer) in net.quarter.iter().enumerate().rev() {
            let source = match index {
                0 => &self.half_pooled,
                _ => &self.quarter[index - 1],
            };
            x = only(back.relu_conv(layer, &[source], &self.quarter[index], x)?)?;
        }

        let [first, second] = &self.half;
        let x = add_max_pool2_gradient(second, &self.half_pooled, &x, mid)?;
        let x = back.relu_conv(&net.half_encode[1], &[first], second, x)?;
        let x = back.relu_conv(&net.half_encode[0], &[&self.full_pooled], first, only(x)?)?;

        let [first, second] = &self.full;
        let high = match high {
            Some(high) => high,
            None => channels_last_zeros(second.dims5()?.into(), dtype, second.device())?,
        };
        let x = add_max_pool2_gradient(second, &self.full_pooled, &only(x)?, high)?;
        let x = back.relu_conv(&net.full_encode[1], &[first], second, x)?;
        let x = relu_gradient(first, only(x)?)?;
        // The tomogram learns nothing.
        let layer = &net.full_encode[0];
        let found = conv3d_gradients(&[&self.input], &layer.weight.detach(), &x, Padding::Same, false)?;
        back.keep(layer, found);
        Ok(gradients)
    }
}

/// The gradients found on the way.
struct Back<'a>(&'a mut GradStore);

impl Back<'_> {
    /// Keeps those of a layer's parameters and gives those of its sources.
    fn keep(&mut self, layer: &Convolution, found: LayerGradients) -> Vec<Tensor> {
        self.0.insert(&layer.weight, found.weight);
        self.0.insert(&layer.bias, found.bias);
        found.sources
    }

    fn conv(&mut self, layer: &Convolution, sources: &[&Tensor], gradient: &Tensor) -> Result<Vec<Tensor>> {
        let weight = layer.weight.detach();
        let found = conv3d_gradients(sources, &weight, gradient, Padding::Same, true)?;
        Ok(self.keep(layer, found))
    }

    fn relu_conv(
        &mut self,
        layer: &Convolution,
        sources: &[&Tensor],
        result: &Tensor,
        gradient: Tensor,
    ) -> Result<Vec<Tensor>> {
        self.conv(layer, sources, &relu_gradient(result, gradient)?)
    }

    fn upsample(
        &mut self,
        layer: &Convolution,
        source: &Tensor,
        result: &Tensor,
        gradient: Tensor,
    ) -> Result<Tensor> {
        let gradient = relu_gradient(result, gradient)?;
        let found = upsample2_conv2_gradients(source, &layer.weight.detach(), &gradient)?;
        only(self.keep(layer, found))
    }
}

fn only(gradients: Vec<Tensor>) -> Result<Tensor> {
    gradients.into_iter().next().ok_or(NetError::NoGradient)
}

fn two(gradients: Vec<Tensor>) -> Result<[Tensor; 2]> {
    gradients.try_into().map_err(|_| NetError::NoGradient)
}

/// The results of convolutions, one after the other.
fn chain<const N: usize>(layers: &[Convolution; N], input: &Tensor) -> Result<[Tensor; N]> {
    let mut results = Vec::with_capacity(N);
    for layer in layers {
        results.push(layer.forward(results.last().unwrap_or(input))?);
    }
    results.try_into().map_err(|_| NetError::NoGradient)
}

/// The two results of a decoder.
fn decoded([first, second]: &[Convolution; 2], up: &Tensor, skip: &Tensor) -> Result<[Tensor; 2]> {
    let joined = first.forward_concat(up, skip)?;
    let result = second.forward(&joined)?;
    Ok([joined, result])
}
