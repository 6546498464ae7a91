use candle_conv3d::{Activation, Conv3dConfig, conv3d, conv3d_concat, max_pool2, upsample2_conv2};
use candle_core::{Device, Tensor, Var};

use crate::architecture::{HEAD, layers};
use crate::{NetError, Result, SIDE_MULTIPLE, Weights};

const RELU: Conv3dConfig = Conv3dConfig {
    padding: candle_conv3d::Padding::Same,
    activation: Activation::Relu,
};

/// The two-level 3-D U-Net of DeepFinder (paper, Fig. 1; 387 kFLOP per voxel).
///
/// "Same" padding, bias everywhere, `ReLU` after every convolution but the last, no normalisation.
#[derive(Debug, Clone)]
pub struct UNet {
    scores: usize,
    pub(crate) full_encode: [Convolution; 2],
    pub(crate) half_encode: [Convolution; 2],
    pub(crate) quarter: [Convolution; 4],
    pub(crate) half_upsample: Convolution,
    pub(crate) half_decode: [Convolution; 2],
    pub(crate) full_upsample: Convolution,
    pub(crate) full_decode: [Convolution; 2],
    head: Convolution,
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

    /// Class scores before the soft-max, `[N, classes, D, H, W]`, of `[N, 1, D, H, W]`. The network computes in the
    /// element type of its input.
    ///
    /// # Errors
    /// [`NetError::Input`] unless there is one channel and the sides are multiples of [`SIDE_MULTIPLE`].
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let sides_fit = |sides: &[usize]| sides.iter().all(|side| *side > 0 && side % SIDE_MULTIPLE == 0);
        match input.dims() {
            [_, 1, sides @ ..] if sides.len() == 3 && sides_fit(sides) => {}
            _ => {
                return Err(NetError::Input {
                    found: input.dims().to_vec(),
                });
            }
        }
        // Each level's skip is dropped as soon as its decoder has read it: the peak of memory is there.
        let high = chain(&self.full_encode, input)?;
        let up = {
            let mid = chain(&self.half_encode, &max_pool2(&high)?)?;
            let low = chain(&self.quarter, &max_pool2(&mid)?)?;
            let up = self.half_upsample.upsample(&low)?;
            let x = self.half_decode[0].forward_concat(&up, &mid)?;
            drop((mid, low, up));
            self.full_upsample.upsample(&self.half_decode[1].forward(&x)?)?
        };
        let x = self.full_decode[0].forward_concat(&up, &high)?;
        drop((high, up));
        let x = self.full_decode[1].forward(&x)?;
        self.classify(&x)
    }

    /// Scores per voxel: the classes and background.
    pub fn classes(&self) -> usize {
        self.scores
    }

    /// Where the network's weights are.
    pub fn device(&self) -> &Device {
        self.head.weight.device()
    }

    /// The last layer.
    pub(crate) fn classify(&self, features: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.head.like(features)?;
        Ok(conv3d(features, &weight, Some(&bias), &Conv3dConfig::default())?)
    }

    fn assemble(weights: &Weights, mut place: impl FnMut(String, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut rest = layers(weights.scores());
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
            full_upsample: next("full.upsample")?,
            full_decode: [next("full.decode.0")?, next("full.decode.1")?],
            head: next(HEAD)?,
        })
    }
}

/// A layer's tensors.
#[derive(Debug, Clone)]
pub(crate) struct Convolution {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Convolution {
    /// Weight and bias in the element type of what they meet; gradients flow back to the originals.
    fn like(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.weight.to_dtype(x.dtype())?, self.bias.to_dtype(x.dtype())?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.like(x)?;
        Ok(conv3d(x, &weight, Some(&bias), &RELU)?)
    }

    fn forward_concat(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.like(a)?;
        Ok(conv3d_concat(a, b, &weight, Some(&bias), &RELU)?)
    }

    fn upsample(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.like(x)?;
        Ok(upsample2_conv2(x, &weight, Some(&bias), Activation::Relu)?)
    }
}

fn chain(convolutions: &[Convolution], input: &Tensor) -> Result<Tensor> {
    let mut x = input.clone();
    for convolution in convolutions {
        x = convolution.forward(&x)?;
    }
    Ok(x)
}
