//! Convolution of stride 1.

use half::bf16;

use super::{
    Rounded,
    correlate::correlate,
    gather::{Gather, Output},
    panel::{Stored, View, unfolded_values, voxels_with_halo},
    round,
    weights::Packed,
    widened,
};
use crate::{
    config::Activation,
    cpu::{self, ConvShape, Source, sum_over_voxels},
    error::{Conv3dError, check_length},
    kernels::Isa,
};

/// Input channels below which the products of a step would be zeros for the most part: of such layers, the first of a
/// network, all that an output sees is multiplied at once. Their gradients are computed in f32.
const FEW_CHANNELS: usize = 8;

/// The weights of a convolution in the order in which the kernels read them, for any number of volumes.
pub struct ConvWeights {
    isa: Isa,
    kernel: [usize; 3],
    output_channels: usize,
    source_channels: Vec<usize>,
    /// Whether there are few channels.
    unfolded: bool,
    /// Of each source.
    packed: Vec<Packed>,
}

fn rounded(weight: &[f32]) -> Vec<f32> {
    weight
        .iter()
        .map(|value| bf16::from_f32(*value).to_f32())
        .collect()
}

impl ConvWeights {
    /// Rounds `weight`, `[O, C, kd, kh, kw]`, and brings it into order, for sources of these numbers of channels.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where `weight` has another length.
    pub fn new(
        isa: Isa,
        kernel: [usize; 3],
        output_channels: usize,
        source_channels: &[usize],
        weight: &[f32],
    ) -> Result<Self, Conv3dError> {
        let [kd, kh, kw] = kernel;
        let (taps, input_channels) = (kd * kh * kw, source_channels.iter().sum::<usize>());
        check_length(
            "the weight",
            output_channels * input_channels * taps,
            weight.len(),
        )?;
        let unfolded = input_channels < FEW_CHANNELS;
        let mut first = 0;
        let packed = source_channels.iter().map(|&channels| {
            let at = |tap: usize, channel: usize, column: usize| {
                weight[(column * input_channels + first + channel) * taps + tap]
            };
            let packed = if unfolded {
                let at = |_, value: usize, column| {
                    let tap = value / channels;
                    if tap < taps {
                        at(tap, value % channels, column)
                    } else {
                        0.0
                    }
                };
                Packed::new([1; 3], unfolded_values(kernel, channels), output_channels, at)
            } else {
                let at = |[z, y, x]: [usize; 3], channel, column| at((z * kh + y) * kw + x, channel, column);
                Packed::new(kernel, channels, output_channels, at)
            };
            first += channels;
            packed
        });
        Ok(Self {
            isa,
            kernel,
            output_channels,
            source_channels: source_channels.to_vec(),
            unfolded,
            packed: packed.collect(),
        })
    }

    /// `output[N, D, H, W, O] = activation(bias + weight ⋆ sources)`.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where a slice, or the shape, doesn't fit the weights.
    pub fn forward<O: Rounded>(
        &self,
        shape: &ConvShape,
        sources: &[Source<'_, bf16>],
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [O],
    ) -> Result<(), Conv3dError> {
        let sources = sources
            .iter()
            .map(|source| Stored::dense(source.values, source.channels));
        let sources: Vec<Stored<'_>> = sources.collect();
        self.forward_stored(shape, &sources, bias, activation, output, false)
    }

    /// The same for volumes with and without [halos](crate::haloed_zeros): those of the sources are read, that of the
    /// output is left as it is. The shape is that of what lies inside. The values are the same, bit for bit.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where a slice, or the shape, doesn't fit the weights.
    pub fn forward_stored<O: Rounded>(
        &self,
        shape: &ConvShape,
        sources: &[Stored<'_>],
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [O],
        halo: bool,
    ) -> Result<(), Conv3dError> {
        let outputs = self.output_channels;
        check_length("the sources", self.source_channels.len(), sources.len())?;
        for (source, &channels) in sources.iter().zip(&self.source_channels) {
            check_length("the channels of a source", channels, source.channels)?;
            source.check(shape.batch, shape.input)?;
        }
        check_length("the output channels", outputs, shape.output_channels)?;
        for (size, of_shape) in self.kernel.into_iter().zip(shape.kernel) {
            check_length("the kernel", size, of_shape)?;
        }
        check_length("the bias", outputs, bias.map_or(outputs, <[f32]>::len))?;
        let voxels = voxels_with_halo(shape.batch, shape.output, halo);
        check_length("the output", voxels * outputs, output.len())?;
        let lattice = shape.lattice();
        let views: Vec<View<'_>> = sources
            .iter()
            .map(|&volume| View {
                volume,
                size: shape.input,
                stride: 1,
                phase: [0; 3],
                first: lattice.first,
                taps: self.kernel,
                unfolded: self.unfolded,
            })
            .collect();
        let gather = Gather {
            batch: shape.batch,
            positions: shape.output,
            views: &views,
            scale: 1,
            outputs: &[Output {
                parity: [0; 3],
                weights: self.packed.iter().collect(),
            }],
            channels: outputs,
            halo,
            bias,
            activation,
        };
        gather.run(self.isa, output);
        Ok(())
    }
}

/// Gradient of the input channels `first_channel..first_channel + channels` (those of one source), from the gradient of
/// the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn conv3d_input_gradient(
    isa: Isa,
    shape: &ConvShape,
    gradient: &[bf16],
    weight: &[f32],
    first_channel: usize,
    channels: usize,
    input_gradient: &mut [bf16],
) -> Result<(), Conv3dError> {
    check_length("the weight", shape.weight_len(), weight.len())?;
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    let voxels = shape.batch * shape.input.iter().product::<usize>();
    check_length("the input gradient", voxels * channels, input_gradient.len())?;
    if shape.output_channels.min(channels) < FEW_CHANNELS {
        let (gradient, weight) = (widened(gradient), rounded(weight));
        let mut wide = vec![0.0; input_gradient.len()];
        cpu::conv3d_input_gradient(isa, shape, &gradient, &weight, first_channel, channels, &mut wide)?;
        round(isa, &wide, input_gradient);
        return Ok(());
    }
    // What an input gave to outputs at i − t + pad comes back from there: the same walk with the taps reversed.
    let [kd, kh, kw] = shape.kernel;
    let reversed = |[z, y, x]: [usize; 3], channel: usize, column: usize| {
        let row = (kd - 1 - z) * kh + kh - 1 - y;
        weight[shape.weight_index(channel, first_channel + column, row, kw - 1 - x)]
    };
    let packed = Packed::new(shape.kernel, shape.output_channels, channels, reversed);
    let first = [0, 1, 2].map(|axis| shape.pad_before[axis] as isize - (shape.kernel[axis] as isize - 1));
    let view = View {
        volume: Stored::dense(gradient, shape.output_channels),
        size: shape.output,
        stride: 1,
        phase: [0; 3],
        first,
        taps: shape.kernel,
        unfolded: false,
    };
    let gather = Gather {
        batch: shape.batch,
        positions: shape.input,
        views: &[view],
        scale: 1,
        outputs: &[Output {
            parity: [0; 3],
            weights: vec![&packed],
        }],
        channels,
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
pub fn conv3d_weight_gradient(
    isa: Isa,
    shape: &ConvShape,
    sources: &[Source<'_, bf16>],
    gradient: &[bf16],
    weight_gradient: &mut [f32],
    bias_gradient: Option<&mut [f32]>,
) -> Result<(), Conv3dError> {
    shape.check_sources(sources)?;
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    check_length("the weight gradient", shape.weight_len(), weight_gradient.len())?;
    if shape.output_channels < FEW_CHANNELS {
        let values: Vec<Vec<f32>> = sources.iter().map(|source| widened(source.values)).collect();
        let sources = sources.iter().zip(&values);
        let sources: Vec<Source<'_, f32>> = sources
            .map(|(source, values)| Source {
                values,
                channels: source.channels,
            })
            .collect();
        let gradient = widened(gradient);
        return cpu::conv3d_weight_gradient(isa, shape, &sources, &gradient, weight_gradient, bias_gradient);
    }
    let lattice = shape.lattice();
    let anchored = View {
        volume: Stored::dense(gradient, shape.output_channels),
        size: shape.output,
        stride: 1,
        phase: [0; 3],
        first: [0; 3],
        taps: [1; 3],
        unfolded: false,
    };
    let mut first = 0;
    for source in sources {
        let view = View {
            volume: Stored::dense(source.values, source.channels),
            size: shape.input,
            stride: 1,
            phase: [0; 3],
            first: lattice.first,
            taps: shape.kernel,
            unfolded: false,
        };
        correlate(
            isa,
            shape.batch,
            shape.output,
            &view,
            &anchored,
            |[z, y, x], channel, column, sum| {
                let row = z * shape.kernel[1] + y;
                weight_gradient[shape.weight_index(column, first + channel, row, x)] = sum;
            },
        );
        first += source.channels;
    }
    if let Some(bias_gradient) = bias_gradient {
        check_length("the bias gradient", shape.output_channels, bias_gradient.len())?;
        sum_over_voxels(gradient, bias_gradient, bf16::to_f32);
    }
    Ok(())
}
