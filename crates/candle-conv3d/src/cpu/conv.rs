//! Convolution of stride 1 with one or more sources.

use super::{
    correlate::{Volume, correlate},
    gather::{Gathered, Lattice, gather},
    packed::Packed,
    winograd,
};
use crate::{
    config::{Activation, Padding},
    error::{Conv3dError, check_length},
    kernels::{Element, Isa, Transforms},
};

/// Sizes of a convolution (axes D, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Input size.
    pub input: [usize; 3],
    /// Input channels, of all sources together.
    pub input_channels: usize,
    /// Output channels.
    pub output_channels: usize,
    /// Kernel size.
    pub kernel: [usize; 3],
    /// Zeros before the input on each axis.
    pub pad_before: [usize; 3],
    /// Output size.
    pub output: [usize; 3],
}

/// A channels-last `[N, D, H, W, channels]` volume; several are read as if concatenated along the channels.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, T> {
    /// The values.
    pub values: &'a [T],
    /// Its channels.
    pub channels: usize,
}

impl ConvShape {
    /// The sizes that follow from those of input and kernel.
    ///
    /// # Errors
    /// [`Conv3dError::KernelTooLarge`] where the padded input is smaller than the kernel.
    pub fn new(
        batch: usize,
        input: [usize; 3],
        [output_channels, input_channels]: [usize; 2],
        kernel: [usize; 3],
        padding: &Padding,
    ) -> Result<Self, Conv3dError> {
        let output = padding.output_size(input, kernel)?;
        let pad_before = padding.amounts(kernel).map(|[before, _]| before);
        Ok(Self {
            batch,
            input,
            input_channels,
            output_channels,
            kernel,
            pad_before,
            output,
        })
    }

    /// Values of the input (with the channels of all sources).
    pub fn input_len(&self) -> usize {
        self.batch * self.input.iter().product::<usize>() * self.input_channels
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.output.iter().product::<usize>() * self.output_channels
    }

    /// Values of the weights `[O, C, kd, kh, kw]`.
    pub fn weight_len(&self) -> usize {
        self.output_channels * self.input_channels * self.taps()
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Index of a weight in `[O, C, kd, kh, kw]`; `row` counts (kd, kh).
    pub(super) fn weight_index(&self, output: usize, input: usize, row: usize, tap: usize) -> usize {
        (output * self.input_channels + input) * self.taps() + row * self.kernel[2] + tap
    }

    pub(super) fn lattice(&self) -> Lattice {
        Lattice {
            batch: self.batch,
            input: self.input,
            output: self.output,
            stride: 1,
            first: self.pad_before.map(|pad| -(pad as isize)),
            taps: self.kernel,
        }
    }

    /// Refuses a call that doesn't fit the shape, or weights of these sizes.
    pub(super) fn check_forward<T>(
        &self,
        kernel: [usize; 3],
        output_channels: usize,
        source_channels: impl ExactSizeIterator<Item = usize>,
        sources: &[Source<'_, T>],
        bias: Option<usize>,
        output: usize,
    ) -> Result<(), Conv3dError> {
        self.check_sources(sources)?;
        check_length("the sources", source_channels.len(), sources.len())?;
        for (source, channels) in sources.iter().zip(source_channels) {
            check_length("the channels of a source", channels, source.channels)?;
        }
        check_length("the output channels", output_channels, self.output_channels)?;
        for (size, of_shape) in kernel.into_iter().zip(self.kernel) {
            check_length("the kernel", size, of_shape)?;
        }
        check_length("the bias", output_channels, bias.unwrap_or(output_channels))?;
        check_length("the output", self.output_len(), output)
    }

    pub(super) fn check_sources<T>(&self, sources: &[Source<'_, T>]) -> Result<(), Conv3dError> {
        let channels = sources.iter().map(|source| source.channels).sum();
        check_length("the channels of all sources", self.input_channels, channels)?;
        let voxels = self.batch * self.input.iter().product::<usize>();
        sources
            .iter()
            .try_for_each(|source| check_length("a source", voxels * source.channels, source.values.len()))
    }
}

/// The weights of a convolution in the order in which the kernels read them, for any number of volumes.
pub struct ConvWeights<T> {
    isa: Isa,
    kernel: [usize; 3],
    output_channels: usize,
    /// For Winograd's transforms, where there are any; else for the taps as they are.
    transforms: Option<Transforms<T>>,
    /// Of each source.
    packed: Vec<Packed<T>>,
}

impl<T: Element> ConvWeights<T> {
    /// Brings `weight`, `[O, C, kd, kh, kw]`, into order, for sources of these numbers of channels.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where `weight` has another length.
    pub fn new(
        isa: Isa,
        kernel: [usize; 3],
        output_channels: usize,
        source_channels: &[usize],
        weight: &[T],
    ) -> Result<Self, Conv3dError> {
        let [kd, kh, kw] = kernel;
        let (taps, input_channels) = (kd * kh * kw, source_channels.iter().sum::<usize>());
        check_length(
            "the weight",
            output_channels * input_channels * taps,
            weight.len(),
        )?;
        let channels = source_channels.iter().copied().chain([output_channels]);
        let transforms = winograd::transforms(isa, kernel, channels);
        let mut first = 0;
        let mut packed = Vec::with_capacity(source_channels.len());
        for &channels in source_channels {
            let at = |row: usize, tap: usize, channel: usize, column: usize| {
                weight[(column * input_channels + first + channel) * taps + row * kw + tap]
            };
            packed.push(if transforms.is_some() {
                let at =
                    |[z, y, x]: [usize; 3], channel: usize, column: usize| at(z * kh + y, x, channel, column);
                winograd::transform_weights(isa, channels, output_channels, at)
            } else {
                Packed::new(isa, kd * kh, kw, channels, output_channels, at)
            });
            first += channels;
        }
        Ok(Self {
            isa,
            kernel,
            output_channels,
            transforms,
            packed,
        })
    }

    /// `output[N, D, H, W, O] = activation(bias + weight ⋆ sources)`.
    ///
    /// # Errors
    /// [`Conv3dError::Length`] where a slice, or the shape, doesn't fit the weights.
    pub fn forward(
        &self,
        shape: &ConvShape,
        sources: &[Source<'_, T>],
        bias: Option<&[T]>,
        activation: Activation,
        output: &mut [T],
    ) -> Result<(), Conv3dError> {
        shape.check_forward(
            self.kernel,
            self.output_channels,
            self.packed.iter().map(|packed| packed.channels),
            sources,
            bias.map(<[T]>::len),
            output.len(),
        )?;
        let volumes = sources.iter().zip(&self.packed);
        if let Some(transforms) = self.transforms {
            let sources: Vec<_> = volumes
                .map(|(source, weights)| winograd::Source {
                    values: source.values,
                    weights,
                })
                .collect();
            winograd::convolve(
                self.isa,
                transforms,
                &shape.lattice(),
                &sources,
                winograd::finish(bias, activation),
                self.output_channels,
                output,
            );
        } else {
            let sources: Vec<_> = volumes
                .map(|(source, packed)| Gathered {
                    values: source.values,
                    packed,
                })
                .collect();
            gather(
                self.isa,
                &shape.lattice(),
                &sources,
                bias,
                activation,
                self.output_channels,
                output,
            );
        }
        Ok(())
    }
}

/// `output[N, D, H, W, O] = activation(bias + weight ⋆ sources)`: [`ConvWeights`] used once.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn conv3d_forward<T: Element>(
    isa: Isa,
    shape: &ConvShape,
    sources: &[Source<'_, T>],
    weight: &[T],
    bias: Option<&[T]>,
    activation: Activation,
    output: &mut [T],
) -> Result<(), Conv3dError> {
    let channels: Vec<usize> = sources.iter().map(|source| source.channels).collect();
    ConvWeights::new(isa, shape.kernel, shape.output_channels, &channels, weight)?
        .forward(shape, sources, bias, activation, output)
}

/// Gradient of the input channels `first_channel..first_channel + channels` (those of one source), from the gradient of
/// the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn conv3d_input_gradient<T: Element>(
    isa: Isa,
    shape: &ConvShape,
    gradient: &[T],
    weight: &[T],
    first_channel: usize,
    channels: usize,
    input_gradient: &mut [T],
) -> Result<(), Conv3dError> {
    check_length("the weight", shape.weight_len(), weight.len())?;
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    let voxels = shape.batch * shape.input.iter().product::<usize>();
    check_length("the input gradient", voxels * channels, input_gradient.len())?;
    let [kd, kh, kw] = shape.kernel;
    // What an input gave to outputs at i − t + pad comes back from there: the same walk with the taps reversed.
    let reversed = |row: usize, tap: usize, channel: usize, column: usize| {
        weight[shape.weight_index(channel, first_channel + column, kd * kh - 1 - row, kw - 1 - tap)]
    };
    let first = [0, 1, 2].map(|axis| shape.pad_before[axis] as isize - (shape.kernel[axis] as isize - 1));
    let lattice = Lattice {
        batch: shape.batch,
        input: shape.output,
        output: shape.input,
        stride: 1,
        first,
        taps: shape.kernel,
    };
    if let Some(transforms) = winograd::transforms(isa, shape.kernel, [shape.output_channels, channels]) {
        let weight =
            |[z, y, x]: [usize; 3], channel: usize, column: usize| reversed(z * kh + y, x, channel, column);
        let source = winograd::Source {
            values: gradient,
            weights: &winograd::transform_weights(isa, shape.output_channels, channels, weight),
        };
        winograd::convolve(
            isa,
            transforms,
            &lattice,
            &[source],
            winograd::finish(None, Activation::Identity),
            channels,
            input_gradient,
        );
        return Ok(());
    }
    let packed = Packed::new(isa, kd * kh, kw, shape.output_channels, channels, reversed);
    let gathered = [Gathered {
        values: gradient,
        packed: &packed,
    }];
    gather(
        isa,
        &lattice,
        &gathered,
        None,
        Activation::Identity,
        channels,
        input_gradient,
    );
    Ok(())
}

/// Gradients of the weight and, where asked for, of the bias, from the gradient of the output before its activation.
///
/// # Errors
/// [`Conv3dError::Length`] where a slice doesn't fit the shape.
pub fn conv3d_weight_gradient<T: Element>(
    isa: Isa,
    shape: &ConvShape,
    sources: &[Source<'_, T>],
    gradient: &[T],
    weight_gradient: &mut [T],
    bias_gradient: Option<&mut [T]>,
) -> Result<(), Conv3dError> {
    shape.check_sources(sources)?;
    check_length("the output gradient", shape.output_len(), gradient.len())?;
    check_length("the weight gradient", shape.weight_len(), weight_gradient.len())?;
    let anchored = Volume {
        values: gradient,
        channels: shape.output_channels,
    };
    let mut first = 0;
    for source in sources {
        let gathered = Volume {
            values: source.values,
            channels: source.channels,
        };
        let lattice = shape.lattice();
        let sums = match winograd::transforms(isa, shape.kernel, [source.channels, shape.output_channels]) {
            Some(transforms) => winograd::correlate(isa, transforms, &lattice, gathered, anchored),
            None => correlate(isa, &lattice, gathered, anchored),
        };
        let mut sums = sums.into_iter();
        for row in 0..shape.kernel[0] * shape.kernel[1] {
            for tap in 0..shape.kernel[2] {
                for channel in first..first + source.channels {
                    for column in 0..shape.output_channels {
                        let sum = sums.next().unwrap_or_else(T::zero);
                        weight_gradient[shape.weight_index(column, channel, row, tap)] = sum;
                    }
                }
            }
        }
        first += source.channels;
    }
    match bias_gradient {
        Some(bias_gradient) => {
            check_length("the bias gradient", shape.output_channels, bias_gradient.len())?;
            super::channels::sum_over_voxels(gradient, bias_gradient, |value| value);
            Ok(())
        }
        None => Ok(()),
    }
}
