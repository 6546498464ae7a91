//! Programs of what is computed at each voxel.

use super::program::{Element, Place, Program, whole};
use crate::{cpu::PoolShape, error::Conv3dError};

/// input -> a value per channel and voxel, or one per voxel.
pub(super) fn over_voxels(
    element: Element,
    kernel: &str,
    [voxels, channels]: [usize; 2],
    outputs: usize,
    inputs: &[usize],
) -> Result<Program, Conv3dError> {
    let mut program = Program::new(element, inputs, outputs);
    let places = (0..inputs.len()).map(|index| Place::Input(index, 0));
    let places: Vec<Place> = places.chain([Place::Output]).collect();
    program.launch_over(kernel, voxels, &places, &[voxels, channels, 0, 0, 0])?;
    Ok(program)
}

/// logits -> probabilities.
pub(crate) fn softmax(element: Element, voxels: usize, channels: usize) -> Result<Program, Conv3dError> {
    let values = voxels * channels;
    over_voxels(element, "softmax", [voxels, channels], values, &[values])
}

/// logits -> added to sums: see `struct Region` in `voxels.cuh`.
pub(crate) fn add_softmax(logits: usize, sums: usize, part: &Region) -> Result<Program, Conv3dError> {
    let mut program = Program::new(Element::F32, &[logits], sums);
    let [planes, rows, columns] = part.size;
    let [z, y, x] = part.start;
    let [of_rows, of_columns] = part.plane;
    let turned = usize::from(part.turned);
    let sizes = [
        planes,
        rows,
        columns,
        part.channels,
        z,
        y,
        x,
        of_rows,
        of_columns,
        part.to,
        turned,
    ];
    let places = [Place::Input(0, 0), Place::Output];
    program.launch_over("add_softmax", planes * rows * columns, &places, &sizes)?;
    Ok(program)
}

/// A box of logits, and where it goes.
pub(crate) struct Region {
    pub size: [usize; 3],
    pub channels: usize,
    pub start: [usize; 3],
    /// Rows and columns of the logits.
    pub plane: [usize; 2],
    /// First plane of the sums.
    pub to: usize,
    /// Whether planes and columns are turned about.
    pub turned: bool,
}

/// (probabilities, gradient) -> gradient of the logits.
pub(crate) fn softmax_gradient(
    element: Element,
    voxels: usize,
    channels: usize,
) -> Result<Program, Conv3dError> {
    let values = voxels * channels;
    over_voxels(
        element,
        "softmax_gradient",
        [voxels, channels],
        values,
        &[values; 2],
    )
}

/// values -> u8 index of the greatest.
pub(crate) fn argmax(element: Element, voxels: usize, channels: usize) -> Result<Program, Conv3dError> {
    over_voxels(
        element,
        "argmax",
        [voxels, channels],
        voxels,
        &[voxels * channels],
    )
}

/// (result, gradient) -> gradient before the `ReLU`, of that many values.
pub(crate) fn relu_gradient(element: Element, values: usize) -> Result<Program, Conv3dError> {
    // As voxels × channels, because values are counted in 64 bits.
    let channels = if values.is_multiple_of(16) { 16 } else { 1 };
    let mut program = Program::new(element, &[values; 2], values);
    let places = [Place::Input(0, 0), Place::Input(1, 0), Place::Output];
    program.launch_over(
        "relu_gradient",
        values,
        &places,
        &[values / channels, channels, 0, 0, 0],
    )?;
    Ok(program)
}

fn pool(program: &mut Program, kernel: &str, shape: &PoolShape, places: &[Place]) -> Result<(), Conv3dError> {
    whole(&[shape.output_len() / shape.channels.max(1) * 8])?;
    let [depth, height, width] = shape.output;
    let sizes = [shape.batch, depth, height, width, shape.channels];
    program.launch_over(kernel, shape.output_len(), places, &sizes)
}

/// input -> result.
pub(crate) fn max_pool(element: Element, shape: &PoolShape) -> Result<Program, Conv3dError> {
    let mut program = Program::new(element, &[shape.input_len()], shape.output_len());
    pool(
        &mut program,
        "max_pool",
        shape,
        &[Place::Input(0, 0), Place::Output],
    )?;
    Ok(program)
}

/// (input, result, gradient) -> gradient of the input.
pub(crate) fn max_pool_gradient(element: Element, shape: &PoolShape) -> Result<Program, Conv3dError> {
    let inputs = [shape.input_len(), shape.output_len(), shape.output_len()];
    let mut program = Program::new(element, &inputs, shape.input_len());
    let places = [
        Place::Input(0, 0),
        Place::Input(1, 0),
        Place::Input(2, 0),
        Place::Output,
    ];
    pool(&mut program, "max_pool_gradient", shape, &places)?;
    Ok(program)
}
