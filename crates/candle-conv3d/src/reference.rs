//! Naive versions of the ops: one loop per dimension, in `f64` inside. They define what the fast ones must give; use
//! them in tests. Results are contiguous and carry no gradient.

use candle_core::{DType, Result, Tensor};

use crate::config::{Activation, Conv3dConfig};

/// `[N, C, D, H, W]` in `f64`, zero outside.
struct Volume {
    dims: [usize; 5],
    values: Vec<f64>,
}

impl Volume {
    fn of(tensor: &Tensor) -> Result<Self> {
        let (n, c, d, h, w) = tensor.dims5()?;
        Ok(Self {
            dims: [n, c, d, h, w],
            values: values(tensor)?,
        })
    }

    fn at(&self, n: usize, c: usize, [z, y, x]: [usize; 3]) -> f64 {
        let [_, channels, depth, height, width] = self.dims;
        self.values[(((n * channels + c) * depth + z) * height + y) * width + x]
    }

    /// The value at a signed position, 0 outside.
    fn padded(&self, n: usize, c: usize, position: [isize; 3]) -> f64 {
        let inside = (0..3).all(|axis| (0..self.dims[axis + 2] as isize).contains(&position[axis]));
        if inside {
            self.at(n, c, position.map(isize::unsigned_abs))
        } else {
            0.0
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// A tensor of these dimensions whose values come from a function of (n, c, position).
fn build(
    like: &Tensor,
    [n, c, d, h, w]: [usize; 5],
    mut value: impl FnMut(usize, usize, [usize; 3]) -> f64,
) -> Result<Tensor> {
    let mut values = Vec::with_capacity(n * c * d * h * w);
    for image in 0..n {
        for channel in 0..c {
            for z in 0..d {
                for y in 0..h {
                    for x in 0..w {
                        values.push(value(image, channel, [z, y, x]));
                    }
                }
            }
        }
    }
    Tensor::from_vec(values, (n, c, d, h, w), like.device())?.to_dtype(like.dtype())
}

fn activate(value: f64, activation: Activation) -> f64 {
    match activation {
        Activation::Identity => value,
        Activation::Relu => value.max(0.0),
    }
}

/// See [`conv3d`](crate::conv3d).
///
/// # Errors
/// Where the tensors have the wrong number of dimensions.
pub fn conv3d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv3dConfig,
) -> Result<Tensor> {
    let (volume, kernel) = (Volume::of(input)?, Volume::of(weight)?);
    let [outputs, channels, kd, kh, kw] = kernel.dims;
    let [n, _, d, h, w] = volume.dims;
    let bias = bias.map_or_else(|| Ok(vec![0.0; outputs]), values)?;
    let before = config
        .padding
        .amounts([kd, kh, kw])
        .map(|[before, _]| before as isize);
    let [od, oh, ow] = config.padding.output_size([d, h, w], [kd, kh, kw])?;
    build(input, [n, outputs, od, oh, ow], |image, output, position| {
        let mut sum = bias[output];
        for channel in 0..channels {
            for z in 0..kd {
                for y in 0..kh {
                    for x in 0..kw {
                        let tap = [z, y, x];
                        let mut from = [0; 3];
                        for axis in 0..3 {
                            from[axis] = (position[axis] + tap[axis]) as isize - before[axis];
                        }
                        sum += volume.padded(image, channel, from) * kernel.at(output, channel, tap);
                    }
                }
            }
        }
        activate(sum, config.activation)
    })
}

/// See [`conv3d_concat`](crate::conv3d_concat).
///
/// # Errors
/// Where the tensors have the wrong number of dimensions.
pub fn conv3d_concat(
    a: &Tensor,
    b: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv3dConfig,
) -> Result<Tensor> {
    conv3d(&Tensor::cat(&[a, b], 1)?, weight, bias, config)
}

/// See [`max_pool2`](crate::max_pool2).
///
/// # Errors
/// Where the tensor has the wrong number of dimensions.
pub fn max_pool2(input: &Tensor) -> Result<Tensor> {
    let volume = Volume::of(input)?;
    let [n, c, d, h, w] = volume.dims;
    build(input, [n, c, d / 2, h / 2, w / 2], |image, channel, [z, y, x]| {
        let corners = (0..8).map(|corner| [2 * z + corner / 4, 2 * y + corner / 2 % 2, 2 * x + corner % 2]);
        corners
            .map(|corner| volume.at(image, channel, corner))
            .fold(f64::NEG_INFINITY, f64::max)
    })
}

/// See [`upsample2_conv2`](crate::upsample2_conv2): here the upsampled volume is built.
///
/// # Errors
/// Where the tensors have the wrong number of dimensions.
pub fn upsample2_conv2(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    conv3d(
        &upsample2(input)?,
        weight,
        bias,
        &Conv3dConfig {
            activation,
            ..Default::default()
        },
    )
}

/// See [`upsample2`](crate::upsample2).
///
/// # Errors
/// Where the tensor has the wrong number of dimensions.
pub fn upsample2(input: &Tensor) -> Result<Tensor> {
    let volume = Volume::of(input)?;
    let [n, c, d, h, w] = volume.dims;
    build(input, [n, c, 2 * d, 2 * h, 2 * w], |image, channel, position| {
        volume.at(image, channel, position.map(|index| index / 2))
    })
}

/// See [`softmax_channels`](crate::softmax_channels).
///
/// # Errors
/// Where the tensor has the wrong number of dimensions.
pub fn softmax_channels(input: &Tensor) -> Result<Tensor> {
    let volume = Volume::of(input)?;
    build(input, volume.dims, |image, channel, position| {
        let sum: f64 = (0..volume.dims[1])
            .map(|other| volume.at(image, other, position).exp())
            .sum();
        volume.at(image, channel, position).exp() / sum
    })
}

/// See [`argmax_channels`](crate::argmax_channels).
///
/// # Errors
/// Where the tensor has the wrong number of dimensions.
pub fn argmax_channels(input: &Tensor) -> Result<Tensor> {
    let volume = Volume::of(input)?;
    let [n, channels, d, h, w] = volume.dims;
    let labels = build(input, [n, 1, d, h, w], |image, _, position| {
        let value = |channel| volume.at(image, channel, position);
        (1..channels).fold(0, |best, channel| {
            if value(channel) > value(best) {
                channel
            } else {
                best
            }
        }) as f64
    })?;
    labels.squeeze(1)?.to_dtype(DType::U8)
}
