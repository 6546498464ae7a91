//! Nearest-neighbour upsampling ×2 followed by a "same" 2³ convolution, without the upsampled volume.
//!
//! On each axis the even outputs `2a` see input `a` under both taps, the odd ones `2a + 1` see `a` and `a + 1`: with
//! weights summed beforehand that makes 3 products per input where the two steps take 4, so 27 instead of 64 in space.

use super::{
    correlate::{Volume, correlate},
    gather::{
        Band, Gathered, Lattice, Place, activate, band_rows, fill_bias, for_bands, gather, gather_band,
    },
    packed::Packed,
};
use crate::{
    config::Activation,
    error::{Conv3dError, check_length},
    kernels::{Element, Isa},
};

/// Sizes of an up-convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleShape {
    /// Images.
    pub batch: usize,
    /// Input size (axes D, H, W); the output is twice as large on each.
    pub input: [usize; 3],
    /// Input channels.
    pub input_channels: usize,
    /// Output channels.
    pub output_channels: usize,
}

/// Which of the two taps `[0, 1]` of the original kernel a summed tap is made of.
pub(super) type Taps = &'static [usize];
const BOTH: Taps = &[0, 1];
/// Taps of the outputs of even and odd index: the input `a`, and for odd ones `a + 1`.
pub(super) const BY_PARITY: [&[Taps]; 2] = [&[BOTH], &[&[0], &[1]]];
/// Seen from input `a`: what it gave to the outputs `2a − 1`, `2a` and `2a + 1`.
pub(super) const BY_OUTPUT: [Taps; 3] = [&[1], BOTH, &[0]];

impl UpsampleShape {
    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.input.iter().product::<usize>() * self.input_channels
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        8 * self.batch * self.input.iter().product::<usize>() * self.output_channels
    }

    /// Values of the weights `[O, C, 2, 2, 2]`.
    pub fn weight_len(&self) -> usize {
        8 * self.output_channels * self.input_channels
    }

    fn output(&self) -> [usize; 3] {
        self.input.map(|size| 2 * size)
    }

    /// The convolution that gives the outputs of one parity, of the first planes.
    fn parity_lattice(&self, planes: usize, parity: usize) -> Lattice {
        let [_, height, width] = self.input;
        Lattice {
            batch: self.batch,
            input: self.input,
            output: [planes, height, width],
            stride: 1,
            first: [0; 3],
            taps: taps_of_parity(parity).map(<[_]>::len),
        }
    }

    /// Inputs as outputs of a lattice that gathers from the outputs `2a − 1 ..= 2a + 1`.
    fn gradient_lattice(&self) -> Lattice {
        Lattice {
            batch: self.batch,
            input: self.output(),
            output: self.input,
            stride: 2,
            first: [-1; 3],
            taps: [3; 3],
        }
    }
}

/// The weights of an up-convolution, summed and in the order in which the kernels read them.
pub struct UpsampleWeights<T> {
    isa: Isa,
    channels: [usize; 2],
    /// Of each parity (`z·4 + y·2 + x`) of outputs.
    parities: Vec<Packed<T>>,
}

impl<T: Element> UpsampleWeights<T> {
    /// Sums up `weight`, `[O, C, 2, 2, 2]`, for each parity of outputs.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where `weight` has another length.
    pub fn new(
        isa: Isa,
        output_channels: usize,
        input_channels: usize,
        weight: &[T],
    ) -> Result<Self, Conv3dError> {
        check_length("the weight", 8 * output_channels * input_channels, weight.len())?;
        let parity = |parity| {
            let [z, y, x] = taps_of_parity(parity);
            let summed = |row: usize, tap: usize, channel, column| {
                let taps = [z[row / y.len()], y[row % y.len()], x[tap]];
                summed(weight, input_channels, column, channel, taps)
            };
            Packed::new(
                isa,
                z.len() * y.len(),
                x.len(),
                input_channels,
                output_channels,
                summed,
            )
        };
        Ok(Self {
            isa,
            channels: [output_channels, input_channels],
            parities: (0..8).map(parity).collect(),
        })
    }

    /// `output[N, 2·planes, 2H, 2W, O] = activation(bias + weight ⋆ upsampled input)`, of the input's first `planes`
    /// planes. The plane behind them is looked at, where there is one.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where a slice, or the shape, doesn't fit.
    pub fn forward(
        &self,
        shape: &UpsampleShape,
        planes: usize,
        input: &[T],
        bias: Option<&[T]>,
        activation: Activation,
        output: &mut [T],
    ) -> Result<(), Conv3dError> {
        let [channels, input_channels] = self.channels;
        check_length("the input channels", input_channels, shape.input_channels)?;
        check_length("the output channels", channels, shape.output_channels)?;
        check_length("the input", shape.input_len(), input.len())?;
        check_length("the bias", channels, bias.map_or(channels, <[T]>::len))?;
        check_length("the planes", planes.min(shape.input[0]), planes)?;
        let [_, height, width] = shape.output();
        let row = width * channels;
        check_length(
            "the output",
            shape.batch * 2 * planes * height * row,
            output.len(),
        )?;
        let lattices: Vec<Lattice> = (0..8)
            .map(|parity| shape.parity_lattice(planes, parity))
            .collect();
        // Rows of both parities make a band: each half of them reads the same input rows.
        let rows = 2 * band_rows(shape.input[2]);
        for_bands(
            [2 * planes, height, width],
            channels,
            rows,
            output,
            |band, out| {
                fill_bias(out, bias, channels);
                let inputs = Band {
                    n: band.n,
                    z: band.z / 2,
                    y: band.y.start / 2..band.y.end / 2,
                };
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let parity = band.z % 2 * 4 + y * 2 + x;
                    let source = Gathered {
                        values: input,
                        packed: &self.parities[parity],
                    };
                    let place = Place {
                        start: y * row + x * channels,
                        line: 2 * row,
                        step: 2 * channels,
                    };
                    gather_band(self.isa, &lattices[parity], &source, &inputs, out, place);
                }
                activate(self.isa, out, activation);
            },
        );
        Ok(())
    }
}

/// `output[N, 2D, 2H, 2W, O] = activation(bias + weight ⋆ upsampled input)`: [`UpsampleWeights`] used once.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn upsample2_conv2_forward<T: Element>(
    isa: Isa,
    shape: &UpsampleShape,
    input: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    activation: Activation,
    output: &mut [T],
) -> Result<(), Conv3dError> {
    UpsampleWeights::new(isa, shape.output_channels, shape.input_channels, weight)?.forward(
        shape,
        shape.input[0],
        input,
        bias,
        activation,
        output,
    )
}

/// The taps, on each axis, of the convolution that gives the outputs of one parity.
fn taps_of_parity(parity: usize) -> [&'static [Taps]; 3] {
    [parity / 4, parity / 2 % 2, parity % 2].map(|parity| BY_PARITY[parity])
}

/// The sum of the weights `[O, C, 2, 2, 2]` that these taps are made of.
pub(super) fn summed<T: Element>(
    weight: &[T],
    input_channels: usize,
    output: usize,
    input: usize,
    taps: [Taps; 3],
) -> T {
    let mut sum = T::zero();
    for &z in taps[0] {
        for &y in taps[1] {
            for &x in taps[2] {
                sum = sum + weight[weight_index(input_channels, output, input, [z, y, x])];
            }
        }
    }
    sum
}

pub(super) fn weight_index(
    input_channels: usize,
    output: usize,
    input: usize,
    [z, y, x]: [usize; 3],
) -> usize {
    (output * input_channels + input) * 8 + z * 4 + y * 2 + x
}

/// Gradient of the input, from the gradient of the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn upsample2_conv2_input_gradient<T: Element>(
    isa: Isa,
    shape: &UpsampleShape,
    gradient: &[T],
    weight: &[T],
    input_gradient: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    check_length("the weight", shape.weight_len(), weight.len())?;
    check_length("the input gradient", shape.input_len(), input_gradient.len())?;
    let (outputs, inputs) = (shape.output_channels, shape.input_channels);
    let packed = Packed::new(isa, 9, 3, outputs, inputs, |row, tap, channel, column| {
        let taps = [row / 3, row % 3, tap].map(|offset| BY_OUTPUT[offset]);
        summed(weight, inputs, channel, column, taps)
    });
    let gathered = [Gathered {
        values: gradient,
        packed: &packed,
    }];
    gather(
        isa,
        &shape.gradient_lattice(),
        &gathered,
        None,
        Activation::Identity,
        inputs,
        input_gradient,
    );
    Ok(())
}

/// Gradients of the weight and, where asked for, of the bias, from the gradient of the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn upsample2_conv2_weight_gradient<T: Element>(
    isa: Isa,
    shape: &UpsampleShape,
    input: &[T],
    gradient: &[T],
    weight_gradient: &mut [T],
    bias_gradient: Option<&mut [T]>,
) -> Result<(), Conv3dError> {
    check_length("the input", shape.input_len(), input.len())?;
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    check_length("the weight gradient", shape.weight_len(), weight_gradient.len())?;
    let (outputs, inputs) = (shape.output_channels, shape.input_channels);
    let gathered = Volume {
        values: gradient,
        channels: outputs,
    };
    let sums = correlate(
        isa,
        &shape.gradient_lattice(),
        gathered,
        Volume {
            values: input,
            channels: inputs,
        },
    );
    // Gradients of the 27 summed taps; each goes to every weight in its sum.
    weight_gradient.fill(T::zero());
    for (index, &sum) in sums.iter().enumerate() {
        let (tap, output, input) = (
            index / (outputs * inputs),
            index / inputs % outputs,
            index % inputs,
        );
        for &z in BY_OUTPUT[tap / 9] {
            for &y in BY_OUTPUT[tap / 3 % 3] {
                for &x in BY_OUTPUT[tap % 3] {
                    let target = &mut weight_gradient[weight_index(inputs, output, input, [z, y, x])];
                    *target = *target + sum;
                }
            }
        }
    }
    if let Some(bias_gradient) = bias_gradient {
        check_length("the bias gradient", outputs, bias_gradient.len())?;
        super::channels::sum_over_voxels(gradient, bias_gradient, |value| value);
    }
    Ok(())
}
