//! Nearest-neighbour upsampling ×2 followed by a "same" 2³ convolution, as one step: see `cpu::UpsampleWeights`.

use half::bf16;

use super::{
    Rounded,
    correlate::correlate,
    gather::{Gather, Output},
    panel::{Stored, View, voxels_with_halo},
    weights::Packed,
};
use crate::{
    config::Activation,
    cpu::{
        UpsampleShape, sum_over_voxels,
        upsample::{BY_OUTPUT, BY_PARITY, Taps, summed, weight_index},
    },
    error::{Conv3dError, check_length},
    kernels::Isa,
};

/// z, y and x of a parity.
fn axes(parity: usize) -> [usize; 3] {
    [parity / 4, parity / 2 % 2, parity % 2]
}

/// The weights of an up-convolution, summed, rounded and in the order in which the kernels read them.
pub struct UpsampleWeights {
    isa: Isa,
    channels: [usize; 2],
    /// Of each parity (`z·4 + y·2 + x`) of outputs.
    parities: Vec<Packed>,
}

impl UpsampleWeights {
    /// Sums up `weight`, `[O, C, 2, 2, 2]`, for each parity of outputs.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where `weight` has another length.
    pub fn new(
        isa: Isa,
        output_channels: usize,
        input_channels: usize,
        weight: &[f32],
    ) -> Result<Self, Conv3dError> {
        check_length("the weight", 8 * output_channels * input_channels, weight.len())?;
        let parity = |parity| {
            let taps = axes(parity).map(|parity| BY_PARITY[parity]);
            let at = |[z, y, x]: [usize; 3], channel, column| {
                summed(
                    weight,
                    input_channels,
                    column,
                    channel,
                    [taps[0][z], taps[1][y], taps[2][x]],
                )
            };
            Packed::new(taps.map(<[_]>::len), input_channels, output_channels, at)
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
    pub fn forward<O: Rounded>(
        &self,
        shape: &UpsampleShape,
        planes: usize,
        input: &[bf16],
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [O],
    ) -> Result<(), Conv3dError> {
        let input = Stored::dense(input, shape.input_channels);
        self.forward_stored(shape, planes, &input, bias, activation, output)
    }

    /// The same for volumes with and without [halos](crate::haloed_zeros), both alike: that of the input is read, that of
    /// the output is left as it is. The values are the same, bit for bit.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where a slice, or the shape, doesn't fit.
    pub fn forward_stored<O: Rounded>(
        &self,
        shape: &UpsampleShape,
        planes: usize,
        input: &Stored<'_>,
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [O],
    ) -> Result<(), Conv3dError> {
        let [channels, input_channels] = self.channels;
        check_length("the input channels", input_channels, shape.input_channels)?;
        check_length("the input channels", input_channels, input.channels)?;
        check_length("the output channels", channels, shape.output_channels)?;
        input.check(shape.batch, shape.input)?;
        check_length("the bias", channels, bias.map_or(channels, <[f32]>::len))?;
        check_length("the planes", planes.min(shape.input[0]), planes)?;
        let [_, height, width] = shape.input;
        let size = [2 * planes, 2 * height, 2 * width];
        let voxels = voxels_with_halo(shape.batch, size, input.halo);
        check_length("the output", voxels * channels, output.len())?;
        let outputs: Vec<Output<'_>> = (0..8)
            .map(|parity| Output {
                parity: axes(parity),
                weights: vec![&self.parities[parity]],
            })
            .collect();
        let gather = Gather {
            batch: shape.batch,
            positions: [planes, height, width],
            views: &[seen(shape, *input)],
            scale: 2,
            outputs: &outputs,
            channels,
            halo: input.halo,
            bias,
            activation,
        };
        gather.run(self.isa, output);
        Ok(())
    }
}

/// What the outputs of a position see of the input.
fn seen<'a>(shape: &UpsampleShape, volume: Stored<'a>) -> View<'a> {
    View {
        volume,
        size: shape.input,
        stride: 1,
        phase: [0; 3],
        first: [0; 3],
        taps: [2; 3],
        unfolded: false,
    }
}

/// The outputs of one parity, by position; `before` more of them are seen.
fn of_parity<'a>(shape: &UpsampleShape, gradient: &'a [bf16], parity: usize, before: bool) -> View<'a> {
    let before = axes(parity).map(|parity| if before { parity } else { 0 });
    View {
        volume: Stored::dense(gradient, shape.output_channels),
        size: shape.input.map(|size| 2 * size),
        stride: 2,
        phase: axes(parity),
        first: before.map(|before| -(before as isize)),
        taps: before.map(|before| before + 1),
        unfolded: false,
    }
}

/// Gradient of the input, from the gradient of the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn upsample2_conv2_input_gradient(
    isa: Isa,
    shape: &UpsampleShape,
    gradient: &[bf16],
    weight: &[f32],
    input_gradient: &mut [bf16],
) -> Result<(), Conv3dError> {
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    check_length("the weight", shape.weight_len(), weight.len())?;
    check_length("the input gradient", shape.input_len(), input_gradient.len())?;
    let (outputs, inputs) = (shape.output_channels, shape.input_channels);
    // Input a gave to the outputs 2a − 1, 2a and 2a + 1: the even one, and of the odd ones those before and at a.
    let views: Vec<View<'_>> = (0..8)
        .map(|parity| of_parity(shape, gradient, parity, true))
        .collect();
    let packed: Vec<Packed> = views
        .iter()
        .zip(0..)
        .map(|(view, parity)| {
            let taps_of =
                |tap: usize, parity: usize| -> Taps { BY_OUTPUT[if parity == 0 { 1 } else { 2 * tap }] };
            let at = |tap: [usize; 3], channel, column| {
                let parity = axes(parity);
                let taps = [0, 1, 2].map(|axis| taps_of(tap[axis], parity[axis]));
                summed(weight, inputs, channel, column, taps)
            };
            Packed::new(view.taps, outputs, inputs, at)
        })
        .collect();
    let gather = Gather {
        batch: shape.batch,
        positions: shape.input,
        views: &views,
        scale: 1,
        outputs: &[Output {
            parity: [0; 3],
            weights: packed.iter().collect(),
        }],
        channels: inputs,
        halo: false,
        bias: None,
        activation: Activation::Identity,
    };
    gather.run(isa, input_gradient);
    Ok(())
}

/// Gradients of the weight and, where asked for, of the bias, from the gradient of the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn upsample2_conv2_weight_gradient(
    isa: Isa,
    shape: &UpsampleShape,
    input: &[bf16],
    gradient: &[bf16],
    weight_gradient: &mut [f32],
    bias_gradient: Option<&mut [f32]>,
) -> Result<(), Conv3dError> {
    check_length("the input", shape.input_len(), input.len())?;
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    check_length("the weight gradient", shape.weight_len(), weight_gradient.len())?;
    weight_gradient.fill(0.0);
    for parity in 0..8 {
        let taps = axes(parity).map(|parity| BY_PARITY[parity]);
        let view = View {
            taps: taps.map(<[_]>::len),
            ..seen(shape, Stored::dense(input, shape.input_channels))
        };
        let of_parity = of_parity(shape, gradient, parity, false);
        // Gradients of the summed taps; each goes to every weight in its sum.
        correlate(
            isa,
            shape.batch,
            shape.input,
            &view,
            &of_parity,
            |tap, channel, column, sum| {
                for &z in taps[0][tap[0]] {
                    for &y in taps[1][tap[1]] {
                        for &x in taps[2][tap[2]] {
                            let index = weight_index(shape.input_channels, column, channel, [z, y, x]);
                            weight_gradient[index] += sum;
                        }
                    }
                }
            },
        );
    }
    if let Some(bias_gradient) = bias_gradient {
        check_length("the bias gradient", shape.output_channels, bias_gradient.len())?;
        sum_over_voxels(gradient, bias_gradient, bf16::to_f32);
    }
    Ok(())
}
