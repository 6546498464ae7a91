//! Programs of up-convolution.

use super::{
    gather::{Gather, Weights, bias_gradient},
    program::{Element, Place, Program},
};
use crate::{config::Activation, cpu::UpsampleShape, error::Conv3dError};

/// Taps, on each axis, of the outputs of one parity (`z·4 + y·2 + x`): see `cpu/upsample.rs`.
fn taps_of_parity(parity: usize) -> [usize; 3] {
    [parity / 4, parity / 2 % 2, parity % 2].map(|parity| 1 + parity)
}

/// All weights of an up-convolution, with those taps.
fn weights_of(shape: &UpsampleShape, taps: [usize; 3], offset: usize, parts: usize) -> Weights {
    Weights {
        outputs: shape.output_channels,
        total: shape.input_channels,
        first: 0,
        channels: shape.input_channels,
        taps,
        offset,
        parts,
    }
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
        let weights = weights_of(shape, taps_of_parity(parity), offset, 0);
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
        let weights = weights_of(shape, taps_of_parity(parity), 0, 0);
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
    let weights = weights_of(shape, [3; 3], 0, 0);
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
    let weights = weights_of(shape, [2; 3], 0, parts);
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
