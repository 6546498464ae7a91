use candle_conv3d::{
    Activation, Conv3dConfig, conv3d, conv3d_concat, convert, max_pool2, upsample2, upsample2_conv2,
};
use candle_core::{DType, Device, Tensor, Var};

use crate::architecture::{HEAD, layers};
use crate::{Head, NetError, Precision, Result, SIDE_MULTIPLE, Weights};

const RELU: Conv3dConfig = Conv3dConfig {
    padding: candle_conv3d::Padding::Same,
    activation: Activation::Relu,
};

/// The two-level 3-D U-Net of DeepFinder (paper, Fig. 1; 387 kFLOP per voxel, with a [`Head::Half`] 156).
///
/// "Same" padding, bias everywhere, `ReLU` after every convolution but the last, no normalisation.
#[derive(Debug, Clone)]
pub struct UNet {
    scores: usize,
    pub(crate) precision: Precision,
    pub(crate) full_encode: [Convolution; 2],
    pub(crate) half_encode: [Convolution; 2],
    pub(crate) quarter: [Convolution; 4],
    pub(crate) half_upsample: Convolution,
    pub(crate) half_decode: [Convolution; 2],
    /// Where the head stands on the full level.
    pub(crate) full_decoder: Option<FullDecoder>,
    pub(crate) head: Convolution,
}

/// The layers between the half level's features and the full level's.
#[derive(Debug, Clone)]
pub(crate) struct FullDecoder {
    pub upsample: Convolution,
    pub decode: [Convolution; 2],
}

impl UNet {
    /// A network for inference: nothing is tracked for gradients.
    ///
    /// # Errors
    /// Where the device cannot hold the weights.
    pub fn new(weights: &Weights, device: &Device) -> Result<Self> {
        Self::assemble(weights, |_, tensor| Ok(tensor.to_device(device)?.detach()))
    }

    /// A network that learns, and its variables by name, in the order in which the layers run. The network sees what
    /// the variables are set to.
    ///
    /// # Errors
    /// Where the device cannot hold the weights.
    pub fn trainable(weights: &Weights, device: &Device) -> Result<(Self, Vec<(String, Var)>)> {
        let mut variables = Vec::new();
        let net = Self::assemble(weights, |name, tensor| {
            // Copied: a variable on the CPU would else write into the caller's weights.
            let variable = Var::from_tensor(&tensor.to_device(device)?.copy()?)?;
            let tensor = variable.as_tensor().clone();
            variables.push((name, variable));
            Ok(tensor)
        })?;
        Ok((net, variables))
    }

    /// The same network that computes with this precision; weights that learn stay f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// What the network computes with.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Class scores before the soft-max, `[N, classes, D, H, W]`, of `[N, 1, D, H, W]`.
    ///
    /// # Errors
    /// [`NetError::Input`] unless there is one channel and the sides are multiples of [`SIDE_MULTIPLE`].
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        check_input(input)?;
        let input = &convert(input, self.precision.dtype())?;
        // Each level's skip is dropped as soon as its decoder has read it: the peak of memory is there.
        let high = chain(&self.full_encode, input)?;
        let pooled = max_pool2(&high)?;
        let high = self.full_decoder.as_ref().map(|decoder| (decoder, high));
        let half = {
            let mid = chain(&self.half_encode, &pooled)?;
            drop(pooled);
            let low = chain(&self.quarter, &max_pool2(&mid)?)?;
            let up = self.half_upsample.upsample(&low)?;
            let x = self.half_decode[0].forward_concat(&up, &mid)?;
            drop((mid, low, up));
            self.half_decode[1].forward(&x)?
        };
        let Some((decoder, high)) = high else {
            return Ok(upsample2(&self.classify(&half)?)?);
        };
        let up = decoder.upsample.upsample(&half)?;
        drop(half);
        let x = decoder.decode[0].forward_concat(&up, &high)?;
        drop((high, up));
        let x = decoder.decode[1].forward(&x)?;
        self.classify(&x)
    }

    /// The same network in which nothing is tracked for gradients.
    pub(crate) fn detached(&self) -> Self {
        Self {
            scores: self.scores,
            precision: self.precision,
            full_encode: self.full_encode.each_ref().map(Convolution::detached),
            half_encode: self.half_encode.each_ref().map(Convolution::detached),
            quarter: self.quarter.each_ref().map(Convolution::detached),
            half_upsample: self.half_upsample.detached(),
            half_decode: self.half_decode.each_ref().map(Convolution::detached),
            full_decoder: self.full_decoder.as_ref().map(|decoder| FullDecoder {
                upsample: decoder.upsample.detached(),
                decode: decoder.decode.each_ref().map(Convolution::detached),
            }),
            head: self.head.detached(),
        }
    }

    /// Scores per voxel: the classes and background.
    pub fn classes(&self) -> usize {
        self.scores
    }

    /// Where the network ends.
    pub fn head(&self) -> Head {
        match self.full_decoder {
            Some(_) => Head::Full,
            None => Head::Half,
        }
    }

    /// Where the network's weights are.
    pub fn device(&self) -> &Device {
        self.head.weight.device()
    }

    /// The last layer.
    fn classify(&self, features: &Tensor) -> Result<Tensor> {
        let config = Conv3dConfig::default();
        let (weight, bias) = (&self.head.weight, Some(&self.head.bias));
        if self.precision == Precision::F32 {
            return Ok(conv3d(features, weight, bias, &config)?);
        }
        // The products of bf16, but the sums as they are: logits that are nearly equal would be the same in bf16.
        let features = convert(features, DType::F32)?;
        let weight = weight.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
        Ok(conv3d(&features, &weight, bias, &config)?)
    }

    fn assemble(weights: &Weights, mut place: impl FnMut(String, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut rest = layers(weights.scores(), weights.head());
        let mut next = |stage: &str| {
            let layer = rest.next().filter(|layer| layer.name.starts_with(stage));
            let Some(layer) = layer else {
                return Err(NetError::MissingTensor {
                    name: stage.to_owned(),
                });
            };
            let mut tensor = |name: String| match weights.tensors().get(&name) {
                Some(tensor) => place(name, tensor),
                None => Err(NetError::MissingTensor { name }),
            };
            let [(weight, _), (bias, _)] = layer.tensors();
            Ok(Convolution {
                weight: tensor(weight)?,
                bias: tensor(bias)?,
            })
        };
        // In the order in which the layers run, which is that of the table.
        Ok(Self {
            scores: weights.scores(),
            precision: Precision::F32,
            full_encode: [next("full.encode.0")?, next("full.encode.1")?],
            half_encode: [next("half.encode.0")?, next("half.encode.1")?],
            quarter: [
                next("quarter.0")?,
                next("quarter.1")?,
                next("quarter.2")?,
                next("quarter.3")?,
            ],
            half_upsample: next("half.upsample")?,
            half_decode: [next("half.decode.0")?, next("half.decode.1")?],
            full_decoder: match weights.head() {
                Head::Full => Some(FullDecoder {
                    upsample: next("full.upsample")?,
                    decode: [next("full.decode.0")?, next("full.decode.1")?],
                }),
                Head::Half => None,
            },
            head: next(HEAD)?,
        })
    }
}

/// Refuses what the network cannot take.
pub(crate) fn check_input(input: &Tensor) -> Result<()> {
    let sides_fit = |sides: &[usize]| sides.iter().all(|side| *side > 0 && side % SIDE_MULTIPLE == 0);
    match input.dims() {
        [_, 1, sides @ ..] if sides.len() == 3 && sides_fit(sides) => Ok(()),
        found => Err(NetError::Input {
            found: found.to_vec(),
        }),
    }
}

/// A layer's tensors.
#[derive(Debug, Clone)]
pub(crate) struct Convolution {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Convolution {
    fn detached(&self) -> Self {
        Self {
            weight: self.weight.detach(),
            bias: self.bias.detach(),
        }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(conv3d(x, &self.weight, Some(&self.bias), &RELU)?)
    }

    pub(crate) fn forward_concat(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(conv3d_concat(a, b, &self.weight, Some(&self.bias), &RELU)?)
    }

    pub(crate) fn upsample(&self, x: &Tensor) -> Result<Tensor> {
        Ok(upsample2_conv2(
            x,
            &self.weight,
            Some(&self.bias),
            Activation::Relu,
        )?)
    }
}

fn chain(convolutions: &[Convolution], input: &Tensor) -> Result<Tensor> {
    let mut x = input.clone();
    for convolution in convolutions {
        x = convolution.forward(&x)?;
    }
    Ok(x)
}
