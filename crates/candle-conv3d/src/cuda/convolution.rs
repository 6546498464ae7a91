//! Programs of convolution and up-convolution.

use super::program::{Element, Place, Program, parts, whole};
use crate::{
    config::Activation,
    cpu::{ConvShape, UpsampleShape},
    error::Conv3dError,
};

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

/// The struct `Gather` of `gather.cuh`.
struct Gather {
    batch: usize,
    input: [usize; 3],
    output: [usize; 3],
    stride: usize,
    first: [isize; 3],
    taps: [usize; 3],
    place: [usize; 3],
    step: usize,
    offset: [usize; 3],
    channels: [usize; 2],
    outputs: usize,
    activation: Activation,
}

impl Gather {
    fn sizes(&self) -> Result<Vec<i32>, Conv3dError> {
        // Voxels are counted in 32 bits, their values in 64.
        whole(&[
            self.batch * self.output.iter().product::<usize>(),
            self.batch * self.input.iter().product::<usize>(),
        ])?;
        let relu = usize::from(self.activation == Activation::Relu);
        let first = self.first.map(|first| first as i32);
        Ok([
            whole(&[self.batch])?,
            whole(&self.input)?,
            whole(&self.output)?,
            whole(&[self.stride])?,
            first.to_vec(),
            whole(&self.taps)?,
            whole(&self.place)?,
            whole(&[self.step])?,
            whole(&self.offset)?,
            whole(&self.channels)?,
            whole(&[self.outputs, relu])?,
        ]
        .concat())
    }

    fn voxels(&self) -> usize {
        self.batch * self.output.iter().product::<usize>()
    }

    fn taps(&self) -> usize {
        self.taps.iter().product()
    }

    /// `sources`, `weights` and `bias` into the result.
    fn launch(
        &self,
        program: &mut Program,
        sources: [Place; 2],
        weights: Place,
        bias: Place,
    ) -> Result<(), Conv3dError> {
        let fits = self.channels.iter().all(|channels| channels.is_multiple_of(16));
        let places = [sources[0], sources[1], weights, bias, Place::Output];
        let (name, grid) = if program.element == Element::Bf16 && fits {
            let columns = columns(self.outputs);
            let grid = [self.voxels().div_ceil(128), self.outputs.div_ceil(columns), 1];
            (format!("gather_mma{columns}_bf16"), grid)
        } else {
            let suffix = if program.element == Element::F32 {
                "f32"
            } else {
                "bf16"
            };
            let grid = [self.voxels().div_ceil(64), self.outputs.div_ceil(32), 1];
            (format!("gather_{suffix}"), grid)
        };
        program.launch_typed(name, grid, 128, &places, &self.sizes()?)
    }

    /// Sums of what `gathered` and `anchored` have in common, in parts; gives where, and how many parts.
    fn correlate(
        &self,
        program: &mut Program,
        gathered: Place,
        anchored: Place,
    ) -> Result<(Place, usize), Conv3dError> {
        let channels = self.channels[0];
        let rows = self.taps() * channels;
        let bytes = rows * self.outputs * size_of::<f32>();
        let on_tensor_cores =
            program.element == Element::Bf16 && channels.is_multiple_of(16) && self.outputs.is_multiple_of(8);
        let (kernel, threads, [x, y]) = if on_tensor_cores {
            let columns = columns(self.outputs);
            let blocks = [rows.div_ceil(128), self.outputs.div_ceil(columns)];
            (format!("correlate_mma{columns}_bf16"), 128, blocks)
        } else {
            let suffix = if program.element == Element::F32 {
                "f32"
            } else {
                "bf16"
            };
            let blocks = [rows.div_ceil(32), self.outputs.div_ceil(32)];
            (format!("correlate_{suffix}"), 64, blocks)
        };
        let (part, count) = parts(self.voxels(), x * y, bytes);
        let sums = program.scratch(bytes * count);
        let sizes = [self.sizes()?, whole(&[part])?].concat();
        program.launch_typed(
            kernel,
            [x, y, count],
            threads,
            &[gathered, anchored, sums],
            &sizes,
        )?;
        Ok((sums, count))
    }
}

/// Columns of a block on tensor cores: those of 16, 32, 48 and 64 that leave the fewest idle, of equal ones the most.
fn columns(outputs: usize) -> usize {
    let mut best = 64;
    for columns in [48, 32, 16] {
        if outputs.next_multiple_of(columns) < outputs.next_multiple_of(best) {
            best = columns;
        }
    }
    best
}

/// The struct `Weights` of `weights.cuh`.
struct Weights {
    outputs: usize,
    total: usize,
    first: usize,
    channels: usize,
    taps: [usize; 3],
    offset: usize,
    parts: usize,
}

impl Weights {
    fn values(&self) -> usize {
        self.outputs * self.channels * self.taps.iter().product::<usize>()
    }

    fn launch(
        &self,
        program: &mut Program,
        kernel: &str,
        values: usize,
        places: [Place; 2],
    ) -> Result<(), Conv3dError> {
        let [kd, kh, kw] = self.taps;
        let sizes = [
            self.outputs,
            self.total,
            self.first,
            self.channels,
            kd,
            kh,
            kw,
            self.offset,
            self.parts,
        ];
        program.launch_over(kernel, values, &places, &sizes)
    }
}

/// Sums of the gradient's channels, behind the gradient of the weights.
fn bias_gradient(
    program: &mut Program,
    gradient: Place,
    voxels: usize,
    channels: usize,
    offset: usize,
) -> Result<(), Conv3dError> {
    const PART: usize = 4096;
    let count = voxels.div_ceil(PART);
    let sums = program.scratch(count * channels * size_of::<f32>());
    let sizes = [voxels, channels, PART, count, offset];
    let grid = [count, channels.div_ceil(32), 1];
    program.launch("channel_sums", grid, 256, &[gradient, sums], &sizes)?;
    program.launch_over("add_channel_sums", channels, &[sums, Place::Output], &sizes)
}

impl ConvolutionPlan<'_> {
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

    fn bias(&self, of: usize) -> Place {
        if self.has_bias {
            Place::Input(of, self.shape.weight_len())
        } else {
            Place::Nowhere
        }
    }

    /// (sources, weight and bias) -> result.
    pub(crate) fn forward(&self) -> Result<Program, Conv3dError> {
        let parameters = self.channels.len();
        let mut program = Program::new(
            self.element,
            &self.inputs(self.parameters()),
            self.shape.output_len(),
        );
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

    /// (gradient, weight and bias) -> gradient of the channels `first..first + channels`.
    pub(crate) fn input_gradient(&self, first: usize, channels: usize) -> Result<Program, Conv3dError> {
        let shape = self.shape;
        let output = shape.batch * shape.input.iter().product::<usize>() * channels;
        let inputs = [shape.output_len(), shape.weight_len()];
        let mut program = Program::new(self.element, &inputs, output);
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

    /// (sources, gradient) -> gradient of weight and bias.
    pub(crate) fn weight_gradient(&self) -> Result<Program, Conv3dError> {
        let shape = self.shape;
        let weights = shape.weight_len();
        let mut program = Program::new(self.element, &self.inputs(shape.output_len()), self.parameters());
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

/// weight -> packed weight, for [`packed_convolution`]; of the shape only channels and kernel count.
pub(crate) fn pack_convolution(
    element: Element,
    shape: &ConvShape,
    channels: &[usize],
) -> Result<Program, Conv3dError> {
    let mut program = Program::new(element, &[shape.weight_len()], shape.weight_len());
    pack_forward(&mut program, shape, channels, Place::Input(0, 0), Place::Output)?;
    Ok(program)
}

/// (sources, packed weight and bias) -> result.
pub(crate) fn packed_convolution(plan: &ConvolutionPlan<'_>) -> Result<Program, Conv3dError> {
    let parameters = plan.channels.len();
    let inputs = plan.inputs(plan.parameters());
    let mut program = Program::new(plan.element, &inputs, plan.shape.output_len());
    let packed = Place::Input(parameters, 0);
    plan.gather()
        .launch(&mut program, plan.sources(), packed, plan.bias(parameters))?;
    Ok(program)
}

/// Taps, on each axis, of the outputs of one parity (`z·4 + y·2 + x`): see `cpu/upsample.rs`.
fn taps_of_parity(parity: usize) -> [usize; 3] {
    [parity / 4, parity / 2 % 2, parity % 2].map(|parity| 1 + parity)
}

/// Packed values of an up-convolution per pair of channels: 3 summed taps on each axis.
const PACKED_TAPS: usize = 27;

fn pack_parities(
    program: &mut Program,
    shape: &UpsampleShape,
    from: Place,
    to: Place,
) -> Result<(), Conv3dError> {
    let mut offset = 0;
    for parity in 0..8 {
        let weights = Weights {
            outputs: shape.output_channels,
            total: shape.input_channels,
            first: 0,
            channels: shape.input_channels,
            taps: taps_of_parity(parity),
            offset,
            parts: 0,
        };
        weights.launch(program, "pack_upsample", weights.values(), [from, to])?;
        offset += weights.values();
    }
    Ok(())
}

/// Outputs of each parity, of the first planes of the input; `weights` from a value of an input or in scratch memory.
fn gather_parities(
    program: &mut Program,
    shape: &UpsampleShape,
    planes: usize,
    weights: &[Place; 8],
    bias: Place,
    activation: Activation,
) -> Result<(), Conv3dError> {
    let [_, height, width] = shape.input;
    for (parity, &weights) in weights.iter().enumerate() {
        let gather = Gather {
            batch: shape.batch,
            input: shape.input,
            output: [planes, height, width],
            stride: 1,
            first: [0; 3],
            taps: taps_of_parity(parity),
            place: [planes, height, width].map(|size| 2 * size),
            step: 2,
            offset: [parity / 4, parity / 2 % 2, parity % 2],
            channels: [shape.input_channels, 0],
            outputs: shape.output_channels,
            activation,
        };
        gather.launch(program, [Place::Input(0, 0), Place::Nowhere], weights, bias)?;
    }
    Ok(())
}

/// Values of the packed weights before each parity's.
fn parity_offsets(shape: &UpsampleShape) -> [usize; 8] {
    let pairs = shape.output_channels * shape.input_channels;
    std::array::from_fn(|parity| {
        let before = (0..parity).map(|parity| taps_of_parity(parity).iter().product::<usize>());
        before.sum::<usize>() * pairs
    })
}

/// (input, weight and bias) -> result of an up-convolution.
pub(crate) fn upsample(
    element: Element,
    shape: &UpsampleShape,
    has_bias: bool,
    activation: Activation,
) -> Result<Program, Conv3dError> {
    let bias_len = if has_bias { shape.output_channels } else { 0 };
    let inputs = [shape.input_len(), shape.weight_len() + bias_len];
    let mut program = Program::new(element, &inputs, shape.output_len());
    let mut packed = [Place::Nowhere; 8];
    for (parity, place) in packed.iter_mut().enumerate() {
        let weights = Weights {
            outputs: shape.output_channels,
            total: shape.input_channels,
            first: 0,
            channels: shape.input_channels,
            taps: taps_of_parity(parity),
            offset: 0,
            parts: 0,
        };
        *place = program.scratch(weights.values() * element.bytes());
        weights.launch(
            &mut program,
            "pack_upsample",
            weights.values(),
            [Place::Input(1, 0), *place],
        )?;
    }
    let bias = if has_bias {
        Place::Input(1, shape.weight_len())
    } else {
        Place::Nowhere
    };
    gather_parities(&mut program, shape, shape.input[0], &packed, bias, activation)?;
    Ok(program)
}

/// weight -> packed weight, for [`packed_upsample`]; of the shape only the channels count.
pub(crate) fn pack_upsample(element: Element, shape: &UpsampleShape) -> Result<Program, Conv3dError> {
    let values = PACKED_TAPS * shape.output_channels * shape.input_channels;
    let mut program = Program::new(element, &[shape.weight_len()], values);
    pack_parities(&mut program, shape, Place::Input(0, 0), Place::Output)?;
    Ok(program)
}

/// (input, packed weight and bias) -> the first `planes` planes' results.
pub(crate) fn packed_upsample(
    element: Element,
    shape: &UpsampleShape,
    planes: usize,
    has_bias: bool,
    activation: Activation,
) -> Result<Program, Conv3dError> {
    let [_, height, width] = shape.input;
    let outputs = 8 * shape.batch * planes * height * width * shape.output_channels;
    let packed = PACKED_TAPS * shape.output_channels * shape.input_channels;
    let bias_len = if has_bias { shape.output_channels } else { 0 };
    let mut program = Program::new(element, &[shape.input_len(), packed + bias_len], outputs);
    let weights = parity_offsets(shape).map(|offset| Place::Input(1, offset));
    let bias = if has_bias {
        Place::Input(1, packed)
    } else {
        Place::Nowhere
    };
    gather_parities(&mut program, shape, planes, &weights, bias, activation)?;
    Ok(program)
}

/// Inputs as outputs of a lattice that gathers from the outputs `2a − 1 ..= 2a + 1`.
fn around(shape: &UpsampleShape) -> Gather {
    Gather {
        batch: shape.batch,
        input: shape.input.map(|size| 2 * size),
        output: shape.input,
        stride: 2,
        first: [-1; 3],
        taps: [3; 3],
        place: shape.input,
        step: 1,
        offset: [0; 3],
        channels: [shape.output_channels, 0],
        outputs: shape.input_channels,
        activation: Activation::Identity,
    }
}

/// (gradient, weight and bias) -> gradient of the input of an up-convolution.
pub(crate) fn upsample_input_gradient(
    element: Element,
    shape: &UpsampleShape,
) -> Result<Program, Conv3dError> {
    let inputs = [shape.output_len(), shape.weight_len()];
    let mut program = Program::new(element, &inputs, shape.input_len());
    let weights = Weights {
        outputs: shape.output_channels,
        total: shape.input_channels,
        first: 0,
        channels: shape.input_channels,
        taps: [3; 3],
        offset: 0,
        parts: 0,
    };
    let packed = program.scratch(weights.values() * element.bytes());
    let places = [Place::Input(1, 0), packed];
    weights.launch(&mut program, "pack_upsample_reversed", weights.values(), places)?;
    let sources = [Place::Input(0, 0), Place::Nowhere];
    around(shape).launch(&mut program, sources, packed, Place::Nowhere)?;
    Ok(program)
}

/// (input, gradient) -> gradient of weight and bias of an up-convolution.
pub(crate) fn upsample_weight_gradient(
    element: Element,
    shape: &UpsampleShape,
    has_bias: bool,
) -> Result<Program, Conv3dError> {
    let bias = if has_bias { shape.output_channels } else { 0 };
    let inputs = [shape.input_len(), shape.output_len()];
    let mut program = Program::new(element, &inputs, shape.weight_len() + bias);
    let gradient = Place::Input(1, 0);
    let (sums, parts) = around(shape).correlate(&mut program, gradient, Place::Input(0, 0))?;
    let weights = Weights {
        outputs: shape.output_channels,
        total: shape.input_channels,
        first: 0,
        channels: shape.input_channels,
        taps: [2; 3],
        offset: 0,
        parts,
    };
    weights.launch(
        &mut program,
        "add_upsample_parts",
        weights.values(),
        [sums, Place::Output],
    )?;
    if has_bias {
        let voxels = 8 * shape.batch * shape.input.iter().product::<usize>();
        bias_gradient(
            &mut program,
            gradient,
            voxels,
            shape.output_channels,
            shape.weight_len(),
        )?;
    }
    Ok(program)
}
