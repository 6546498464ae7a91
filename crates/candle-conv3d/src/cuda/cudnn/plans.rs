//! Programs of convolutions whose sums cuDNN makes.

use super::call::{Call, Kind, Problem};
use crate::{
    config::Activation,
    cuda::{
        convolution::{ConvolutionPlan, Direction},
        gather::{Weights, bias_gradient},
        program::{Place, Program, whole},
    },
    error::Conv3dError,
    gpu::LibraryError,
};

/// How cuDNN computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// One of those that add up products in one order.
    algorithm: u32,
    /// Bias and activation with it, or by a kernel of ours after it.
    fused: bool,
}

/// Most memory that an algorithm may take for itself.
const MOST_WORKSPACE: usize = 512 << 20;
/// What cuDNN's faster kernels expect of an address.
pub(crate) const ALIGNMENT: usize = 16;

/// `IMPLICIT_GEMM` and `IMPLICIT_PRECOMP_GEMM`.
const FORWARD: [u32; 2] = [1, 0];
/// `BWD_DATA_ALGO_1` and `BWD_FILTER_ALGO_1`: those numbered 0 add up in any order.
const BACKWARD: u32 = 1;

impl Way {
    /// Those to try, the likeliest first.
    pub(crate) fn all(direction: Direction) -> Vec<Self> {
        match direction {
            Direction::Forward | Direction::Packed => [true, false]
                .into_iter()
                .flat_map(|fused| FORWARD.map(|algorithm| Self { algorithm, fused }))
                .collect(),
            Direction::InputGradient { .. } | Direction::WeightGradient => vec![Self {
                algorithm: BACKWARD,
                fused: false,
            }],
        }
    }
}

/// Asks for the bytes that an algorithm needs.
pub(crate) type Ask<'a> = &'a mut dyn FnMut(&Problem) -> Result<usize, LibraryError>;

/// A program with calls in it, as they are added.
struct Calls<'a> {
    program: Program,
    sizes: Problem,
    ask: Ask<'a>,
}

impl Calls<'_> {
    /// Adds a call; nothing where cuDNN has none such, or it needs too much memory.
    fn add(&mut self, kind: Kind, channels: usize, places: &[Place]) -> Option<()> {
        let problem = Problem {
            kind,
            channels: channels as i32,
            ..self.sizes
        };
        let bytes = (self.ask)(&problem).ok()?;
        if bytes > MOST_WORKSPACE {
            return None;
        }
        let workspace = (bytes > 0).then(|| (self.program.scratch(bytes), bytes));
        self.program.call(Call {
            problem,
            places: places.to_vec(),
            workspace,
        });
        Some(())
    }
}

impl ConvolutionPlan<'_> {
    /// The same as [`Self::program`], by cuDNN; nothing where it cannot: where more zeros are on one side than on the other,
    /// for volumes that it cannot count, or where `ask` refuses.
    ///
    /// # Errors
    /// Where sizes cannot be counted.
    pub(crate) fn library(
        &self,
        direction: Direction,
        way: Way,
        ask: Ask<'_>,
    ) -> Result<Option<Program>, Conv3dError> {
        let Some(sizes) = self.sizes(way.algorithm) else {
            return Ok(None);
        };
        let program = match direction {
            Direction::Forward | Direction::Packed => self.begin_forward(),
            Direction::InputGradient { channels, .. } => self.begin_input_gradient(channels),
            Direction::WeightGradient => self.begin_weight_gradient(),
        };
        let calls = Calls { program, sizes, ask };
        match direction {
            Direction::Forward => self.library_forward(calls, way, false),
            Direction::Packed => self.library_forward(calls, way, true),
            Direction::InputGradient { first, channels } => {
                self.library_input_gradient(calls, first, channels)
            }
            Direction::WeightGradient => self.library_weight_gradient(calls),
        }
    }

    /// What all calls have in common.
    fn sizes(&self, algorithm: u32) -> Option<Problem> {
        let shape = self.shape;
        let symmetric = (0..3).all(|axis| {
            shape.output[axis] + shape.kernel[axis] == shape.input[axis] + 2 * shape.pad_before[axis] + 1
        });
        let counted = [shape.input_len(), shape.output_len(), shape.weight_len()];
        let aligned = self.channels.iter().all(|channels| {
            (shape.weight_len() / shape.input_channels.max(1) * channels * self.element.bytes())
                .is_multiple_of(ALIGNMENT)
        });
        if !symmetric || !aligned || counted.contains(&0) || whole(&counted).is_err() {
            return None;
        }
        let integers = |sizes: [usize; 3]| sizes.map(|size| size as i32);
        Some(Problem {
            kind: Kind::Forward { add: false },
            algorithm,
            element: self.element,
            batch: shape.batch as i32,
            input: integers(shape.input),
            output: integers(shape.output),
            kernel: integers(shape.kernel),
            padding: integers(shape.pad_before),
            channels: 0,
            outputs: shape.output_channels as i32,
        })
    }

    /// Weights of a source.
    fn weights(&self, first: usize, channels: usize) -> Weights {
        Weights {
            outputs: self.shape.output_channels,
            total: self.shape.input_channels,
            first,
            channels,
            taps: self.shape.kernel,
            offset: 0,
            parts: 0,
        }
    }

    /// Packed weights of a source.
    fn pack(&self, program: &mut Program, from: Place, weights: &Weights) -> Result<Place, Conv3dError> {
        let packed = program.scratch(weights.values() * self.element.bytes());
        weights.launch(program, "pack_forward", weights.values(), [from, packed])?;
        Ok(packed)
    }

    /// The sources one after the other, each added to what those before gave.
    fn library_forward(
        &self,
        mut calls: Calls<'_>,
        way: Way,
        packed: bool,
    ) -> Result<Option<Program>, Conv3dError> {
        let relu = self.activation == Activation::Relu;
        // cuDNN has one algorithm only where there is a bias without activation.
        if way.fused && !(self.has_bias && (relu || way.algorithm == FORWARD[0])) {
            return Ok(None);
        }
        let parameters = self.channels.len();
        let bias = self.bias(parameters);
        let mut first = 0;
        for (index, &channels) in self.channels.iter().enumerate() {
            let weights = self.weights(first, channels);
            let packed = if packed {
                Place::Input(
                    parameters,
                    self.shape.weight_len() / self.shape.input_channels * first,
                )
            } else {
                self.pack(&mut calls.program, Place::Input(parameters, 0), &weights)?
            };
            let add = index > 0;
            let source = Place::Input(index, 0);
            let added = if way.fused && index + 1 == parameters {
                let places = [source, packed, bias, Place::Output];
                calls.add(Kind::Fused { add, relu }, channels, &places)
            } else {
                calls.add(Kind::Forward { add }, channels, &[source, packed, Place::Output])
            };
            if added.is_none() {
                return Ok(None);
            }
            first += channels;
        }
        if !way.fused && (self.has_bias || relu) {
            let (values, outputs) = (self.shape.output_len(), self.shape.output_channels);
            let sizes = [values / outputs, outputs, usize::from(relu), 0, 0];
            calls
                .program
                .launch_over("add_bias", values, &[bias, Place::Output], &sizes)?;
        }
        Ok(Some(calls.program))
    }

    fn library_input_gradient(
        &self,
        mut calls: Calls<'_>,
        first: usize,
        channels: usize,
    ) -> Result<Option<Program>, Conv3dError> {
        let weights = self.weights(first, channels);
        let packed = self.pack(&mut calls.program, Place::Input(1, 0), &weights)?;
        let places = [packed, Place::Input(0, 0), Place::Output];
        let added = calls.add(Kind::InputGradient, channels, &places);
        Ok(added.map(|()| calls.program))
    }

    fn library_weight_gradient(&self, mut calls: Calls<'_>) -> Result<Option<Program>, Conv3dError> {
        let gradient = Place::Input(self.channels.len(), 0);
        let mut first = 0;
        for (index, &channels) in self.channels.iter().enumerate() {
            let weights = self.weights(first, channels);
            let packed = calls.program.scratch(weights.values() * self.element.bytes());
            let places = [Place::Input(index, 0), gradient, packed];
            if calls.add(Kind::WeightGradient, channels, &places).is_none() {
                return Ok(None);
            }
            let places = [packed, Place::Output];
            weights.launch(&mut calls.program, "unpack_forward", weights.values(), places)?;
            first += channels;
        }
        if self.has_bias {
            let shape = self.shape;
            let voxels = shape.output_len() / shape.output_channels;
            let (outputs, offset) = (shape.output_channels, shape.weight_len());
            bias_gradient(&mut calls.program, gradient, voxels, outputs, offset)?;
        }
        Ok(Some(calls.program))
    }
}
