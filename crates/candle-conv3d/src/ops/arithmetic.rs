//! The layers of each element type, behind one name.

use candle_core::WithDType;
use half::bf16;

use crate::{
    config::Activation,
    cpu::{self, ConvShape, Element, Isa, Source, UpsampleShape, Value},
    error::Conv3dError,
};

type Checked<T = ()> = Result<T, Conv3dError>;

/// An element type of volumes, with what computes their layers.
pub(super) trait Arithmetic: WithDType + Value {
    /// Type of weights, biases and their gradients: bf16 is for volumes only.
    type Parameter: WithDType + Element;
    type ConvWeights: Send + Sync;
    type UpsampleWeights: Send + Sync;

    fn conv_weights(
        kernel: [usize; 3],
        output_channels: usize,
        source_channels: &[usize],
        weight: &[Self::Parameter],
    ) -> Checked<Self::ConvWeights>;

    fn conv(
        weights: &Self::ConvWeights,
        shape: &ConvShape,
        sources: &[Source<'_, Self>],
        bias: Option<&[Self::Parameter]>,
        activation: Activation,
        output: &mut [Self],
    ) -> Checked;

    fn conv_input_gradient(
        shape: &ConvShape,
        gradient: &[Self],
        weight: &[Self::Parameter],
        first_channel: usize,
        channels: usize,
        input_gradient: &mut [Self],
    ) -> Checked;

    fn conv_weight_gradient(
        shape: &ConvShape,
        sources: &[Source<'_, Self>],
        gradient: &[Self],
        weight_gradient: &mut [Self::Parameter],
        bias_gradient: Option<&mut [Self::Parameter]>,
    ) -> Checked;

    fn upsample_weights(
        output_channels: usize,
        input_channels: usize,
        weight: &[Self::Parameter],
    ) -> Checked<Self::UpsampleWeights>;

    fn upsample(
        weights: &Self::UpsampleWeights,
        shape: &UpsampleShape,
        planes: usize,
        input: &[Self],
        bias: Option<&[Self::Parameter]>,
        activation: Activation,
        output: &mut [Self],
    ) -> Checked;

    fn upsample_input_gradient(
        shape: &UpsampleShape,
        gradient: &[Self],
        weight: &[Self::Parameter],
        input_gradient: &mut [Self],
    ) -> Checked;

    fn upsample_weight_gradient(
        shape: &UpsampleShape,
        input: &[Self],
        gradient: &[Self],
        weight_gradient: &mut [Self::Parameter],
        bias_gradient: Option<&mut [Self::Parameter]>,
    ) -> Checked;
}

/// The functions of a module, whose weights have these types.
macro_rules! arithmetic {
    ($t:ty, $parameter:ty, $conv:ty, $upsample:ty, $($module:ident)::+) => {
        impl Arithmetic for $t {
            type Parameter = $parameter;
            type ConvWeights = $conv;
            type UpsampleWeights = $upsample;

            fn conv_weights(
                kernel: [usize; 3],
                output_channels: usize,
                source_channels: &[usize],
                weight: &[$parameter],
            ) -> Checked<$conv> {
                <$conv>::new(Isa::current(), kernel, output_channels, source_channels, weight)
            }

            fn conv(
                weights: &$conv,
                shape: &ConvShape,
                sources: &[Source<'_, $t>],
                bias: Option<&[$parameter]>,
                activation: Activation,
                output: &mut [$t],
            ) -> Checked {
                weights.forward(shape, sources, bias, activation, output)
            }

            fn conv_input_gradient(
                shape: &ConvShape,
                gradient: &[$t],
                weight: &[$parameter],
                first_channel: usize,
                channels: usize,
                input_gradient: &mut [$t],
            ) -> Checked {
                $($module)::+::conv3d_input_gradient(
                    Isa::current(), shape, gradient, weight, first_channel, channels, input_gradient,
                )
            }

            fn conv_weight_gradient(
                shape: &ConvShape,
                sources: &[Source<'_, $t>],
                gradient: &[$t],
                weight_gradient: &mut [$parameter],
                bias_gradient: Option<&mut [$parameter]>,
            ) -> Checked {
                $($module)::+::conv3d_weight_gradient(
                    Isa::current(), shape, sources, gradient, weight_gradient, bias_gradient,
                )
            }

            fn upsample_weights(
                output_channels: usize,
                input_channels: usize,
                weight: &[$parameter],
            ) -> Checked<$upsample> {
                <$upsample>::new(Isa::current(), output_channels, input_channels, weight)
            }

            fn upsample(
                weights: &$upsample,
                shape: &UpsampleShape,
                planes: usize,
                input: &[$t],
                bias: Option<&[$parameter]>,
                activation: Activation,
                output: &mut [$t],
            ) -> Checked {
                weights.forward(shape, planes, input, bias, activation, output)
            }

            fn upsample_input_gradient(
                shape: &UpsampleShape,
                gradient: &[$t],
                weight: &[$parameter],
                input_gradient: &mut [$t],
            ) -> Checked {
                $($module)::+::upsample2_conv2_input_gradient(
                    Isa::current(), shape, gradient, weight, input_gradient,
                )
            }

            fn upsample_weight_gradient(
                shape: &UpsampleShape,
                input: &[$t],
                gradient: &[$t],
                weight_gradient: &mut [$parameter],
                bias_gradient: Option<&mut [$parameter]>,
            ) -> Checked {
                $($module)::+::upsample2_conv2_weight_gradient(
                    Isa::current(), shape, input, gradient, weight_gradient, bias_gradient,
                )
            }
        }
    };
}

arithmetic!(f32, f32, cpu::ConvWeights<f32>, cpu::UpsampleWeights<f32>, cpu);
arithmetic!(f64, f64, cpu::ConvWeights<f64>, cpu::UpsampleWeights<f64>, cpu);
arithmetic!(
    bf16,
    f32,
    cpu::bf16::ConvWeights,
    cpu::bf16::UpsampleWeights,
    cpu::bf16
);
