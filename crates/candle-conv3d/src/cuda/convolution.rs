//! Programs of convolution.

use super::{
    gather::{Gather, Weights, bias_gradient},
    program::{Element, Place, Program},
};
use crate::{config::Activation, cpu::ConvShape, error::Conv3dError};

/// What is computed of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// (sources, weight and bias) -> result.
    Forward,
    /// (sources, packed weight and bias) -> result; see [`pack_convolution`].
    Packed,
    /// (gradient, weight and bias) -> gradient of the channels `first..first + channels`.
    InputGradient { first: usize, channels: usize },
    /// (sources, gradient) -> gradient of weight and bias.
    WeightGradient,
}

/// A convolution and its gradients: inputs and results are channels-last, as the ops have them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvolutionPlan<'a> {
    pub element: Element,
    pub shape: &'a ConvShape,
    /// Channels of each source: one or two.
    pub channels: &'a [usize],
    pub has_bias: bool,
    pub activation: Activation,
}

impl ConvolutionPlan<'_> {
    /// By the kernels of this crate.
    ///
    /// # Errors
    /// Where sizes cannot be counted.
    pub(crate) fn program(&self, direction: Direction) -> Result<Program, Conv3dError> {
        match direction {
            Direction::Forward => self.forward(),
            Direction::Packed => self.packed(),
            Direction::InputGradient { first, channels } => self.input_gradient(first, channels),
            Direction::WeightGradient => self.weight_gradient(),
        }
    }

    fn gather(&self) -> Gather {
        let shape = self.shape;
        Gather {
            batch: shape.batch,
            input: shape.input,
            output: shape.output,
            stride: 1,
            first: shape.pad_before.map(|pad| -(pad as isize)),
            taps: shape.kernel,
            place: shape.output,
            step: 1,
            offset: [0; 3],
            channels: [self.channels[0], self.channels.get(1).copied().unwrap_or(0)],
            outputs: shape.output_channels,
            activation: self.activation,
        }
    }

    fn sources(&self) -> [Place; 2] {
        let second = match self.channels.len() {
            1 => Place::Nowhere,
            _ => Place::Input(1, 0),
        };
        [Place::Input(0, 0), second]
    }

    /// Values of weight and bias.
    fn parameters(&self) -> usize {
        let bias = if self.has_bias {
            self.shape.output_channels
        } else {
            0
        };
        self.shape.weight_len() + bias
    }

    /// Values of the sources, and of what comes with them.
    fn inputs(&self, with: usize) -> Vec<usize> {
        let voxels = self.shape.batch * self.shape.input.iter().product::<usize>();
        let sources = self.channels.iter().map(|channels| voxels * channels);
        sources.chain([with]).collect()
    }

    pub(super) fn bias(&self, of: usize) -> Place {
        if self.has_bias {
            Place::Input(of, self.shape.weight_len())
        } else {
            Place::Nowhere
        }
    }

    /// A program of [`Direction::Forward`] or [`Direction::Packed`] without steps.
    pub(super) fn begin_forward(&self) -> Program {
        let inputs = self.inputs(self.parameters());
        Program::new(self.element, &inputs, self.shape.output_len())
    }

    /// The same of [`Direction::InputGradient`].
    pub(super) fn begin_input_gradient(&self, channels: usize) -> Program {
        let shape = self.shape;
        let output = shape.batch * shape.input.iter().product::<usize>() * channels;
        Program::new(self.element, &[shape.output_len(), shape.weight_len()], output)
    }

    /// The same of [`Direction::WeightGradient`].
    pub(super) fn begin_weight_gradient(&self) -> Program {
        let inputs = self.inputs(self.shape.output_len());
        Program::new(self.element, &inputs, self.parameters())
    }

    fn forward(&self) -> Result<Program, Conv3dError> {
        let parameters = self.channels.len();
        let mut program = self.begin_forward();
        let packed = program.scratch(self.shape.weight_len() * self.element.bytes());
        pack_forward(
            &mut program,
            self.shape,
            self.channels,
            Place::Input(parameters, 0),
            packed,
        )?;
        self.gather()
            .launch(&mut program, self.sources(), packed, self.bias(parameters))?;
        Ok(program)
    }

    fn packed(&self) -> Result<Program, Conv3dError> {
        let parameters = self.channels.len();
        let mut program = self.begin_forward();
        let packed = Place::Input(parameters, 0);
        self.gather()
            .launch(&mut program, self.sources(), packed, self.bias(parameters))?;
        Ok(program)
    }

    fn input_gradient(&self, first: usize, channels: usize) -> Result<Program, Conv3dError> {
        let shape = self.shape;
        let mut program = self.begin_input_gradient(channels);
        let weights = Weights {
            outputs: shape.output_channels,
            total: shape.input_channels,
            first,
            channels,
            taps: shape.kernel,
            offset: 0,
            parts: 0,
        };
        let packed = program.scratch(weights.values() * self.element.bytes());
        let places = [Place::Input(1, 0), packed];
        weights.launch(&mut program, "pack_reversed", weights.values(), places)?;
        // What an input gave to outputs at i − t + pad comes back from there: the same walk with the taps reversed.
        let first = [0, 1, 2].map(|axis| shape.pad_before[axis] as isize - (shape.kernel[axis] as isize - 1));
        let gather = Gather {
            input: shape.output,
            output: shape.input,
            first,
            place: shape.input,
            channels: [shape.output_channels, 0],
            outputs: channels,
            activation: Activation::Identity,
            ..self.gather()
        };
        let sources = [Place::Input(0, 0), Place::Nowhere];
        gather.launch(&mut program, sources, packed, Place::Nowhere)?;
        Ok(program)
    }

    fn weight_gradient(&self) -> Result<Program, Conv3dError> {
        let shape = self.shape;
        let weights = shape.weight_len();
        let mut program = self.begin_weight_gradient();
        let gradient = Place::Input(self.channels.len(), 0);
        let mut first = 0;
        for (index, &channels) in self.channels.iter().enumerate() {
            let gather = Gather {
                channels: [channels, 0],
                ..self.gather()
            };
            let (sums, parts) = gather.correlate(&mut program, Place::Input(index, 0), gradient)?;
            let weights = Weights {
                outputs: shape.output_channels,
                total: shape.input_channels,
                first,
                channels,
                taps: shape.kernel,
                offset: 0,
                parts,
            };
            weights.launch(&mut program, "add_parts", weights.values(), [sums, Place::Output])?;
            first += channels;
        }
        if self.has_bias {
            let voxels = shape.batch * shape.output.iter().product::<usize>();
            bias_gradient(&mut program, gradient, voxels, shape.output_channels, weights)?;
        }
        Ok(program)
    }
}

fn pack_forward(
    program: &mut Program,
    shape: &ConvShape,
    channels: &[usize],
    from: Place,
    to: Place,
) -> Result<(), Conv3dError> {
    let mut first = 0;
    for &channels in channels {
        let weights = Weights {
            outputs: shape.output_channels,
            total: shape.input_channels,
            first,
            channels,
            taps: shape.kernel,
            offset: first * shape.output_channels * shape.kernel.iter().product::<usize>(),
            parts: 0,
        };
        weights.launch(program, "pack_forward", weights.values(), [from, to])?;
        first += channels;
    }
    Ok(())
}

/// weight -> packed weight, for [`Direction::Packed`]; of the shape only channels and kernel count.
pub(crate) fn pack_convolution(
    element: Element,
    shape: &ConvShape,
    channels: &[usize],
) -> Result<Program, Conv3dError> {
    let mut program = Program::new(element, &[shape.weight_len()], shape.weight_len());
    pack_forward(&mut program, shape, channels, Place::Input(0, 0), Place::Output)?;
    Ok(program)
}
