//! A step of Adam and of a moving average, of all tensors at once.

use super::program::{Element, Place, Program, over, whole, words};
use crate::{cpu::AdamStep, error::Conv3dError};

/// Tensors of a launch: `TENSORS` of `tensors.cuh`.
const TENSORS: usize = 64;
/// Blocks of a tensor that keep a GPU busy where it has several.
const BLOCKS: usize = 128;
/// Values of a part of the sums of squares.
const SQUARES: usize = 4096;

/// Pointers of a few tensors: the inputs from `first` on, `columns` each.
fn table(first: usize, tensors: usize, columns: usize) -> Vec<Place> {
    let inputs = columns * first..columns * (first + tensors);
    inputs.map(|index| Place::Input(index, 0)).collect()
}

/// Blocks along x and y for those tensors.
fn grid(lengths: &[usize]) -> [usize; 2] {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    [over(longest)[0].min(BLOCKS), lengths.len()]
}

/// The lengths at the end of a struct, which has room for those of a full launch.
fn padded(lengths: &[usize]) -> Result<Vec<i32>, Conv3dError> {
    let mut padded = whole(lengths)?;
    padded.resize(TENSORS, 0);
    Ok(padded)
}

/// The bits of a kernel's constant.
fn single(constant: f64) -> i32 {
    (constant as f32).to_bits().cast_signed()
}

/// For tensors of these lengths (gradient, values, mean, mean square) of each, all f32, and last the f64 loss -> f64 `[3]`: see
/// `step_control` in `tensors.cuh`. Values and means are changed.
pub(crate) fn adam(lengths: &[usize], step: &AdamStep) -> Result<Program, Conv3dError> {
    let mut inputs: Vec<usize> = lengths.iter().flat_map(|&length| [length; 4]).collect();
    let loss = Place::Input(inputs.len(), 0);
    inputs.push(1);
    let mut program = Program::new(Element::F32, &inputs, 3);
    program.changed = (0..4 * lengths.len()).filter(|index| index % 4 != 0).collect();

    let longest = lengths.iter().copied().max().unwrap_or(0);
    let parts = longest.div_ceil(SQUARES);
    let squares = program.scratch(lengths.len() * parts * size_of::<f64>());
    for (chunk, of_chunk) in lengths.chunks(TENSORS).enumerate() {
        let first = chunk * TENSORS;
        let sizes = [whole(&[parts, SQUARES, first, 0])?, padded(of_chunk)?].concat();
        let table = table(first, of_chunk.len(), 4);
        program.launch_tensors(
            "square_sums_f32",
            [parts, of_chunk.len()],
            &[squares],
            table,
            sizes,
        )?;
    }
    let mut sizes = whole(&[lengths.len() * parts, 0])?;
    sizes.extend(words(step.clip));
    let places = [squares, loss, Place::Output];
    program.launch_typed("step_control_f64".to_owned(), [1; 3], 256, &places, &sizes)?;

    let [beta1, beta2] = step.betas;
    let [of_first, of_second] = step.corrections();
    let mut constants = vec![single(beta1), single(beta2)];
    constants.extend([1.0 - beta1, 1.0 - beta2].into_iter().flat_map(words));
    constants.extend([
        single(1.0 / of_second),
        single(step.epsilon),
        single(step.learning_rate / of_first),
        0,
    ]);
    for (chunk, of_chunk) in lengths.chunks(TENSORS).enumerate() {
        let sizes = [constants.clone(), padded(of_chunk)?].concat();
        let table = table(chunk * TENSORS, of_chunk.len(), 4);
        program.launch_tensors("adam_f32", grid(of_chunk), &[Place::Output], table, sizes)?;
    }
    Ok(program)
}

/// For tensors of these lengths (mean, values) of each, f32: the means become `decay` of themselves and the rest of the values.
pub(crate) fn average(lengths: &[usize], decay: f64) -> Result<Program, Conv3dError> {
    let inputs: Vec<usize> = lengths.iter().flat_map(|&length| [length; 2]).collect();
    let mut program = Program::new(Element::F32, &inputs, 0);
    program.changed = (0..lengths.len()).map(|tensor| 2 * tensor).collect();
    for (chunk, of_chunk) in lengths.chunks(TENSORS).enumerate() {
        let sizes = [vec![single(decay), single(1.0 - decay)], padded(of_chunk)?].concat();
        let table = table(chunk * TENSORS, of_chunk.len(), 2);
        program.launch_tensors("average_f32", grid(of_chunk), &[], table, sizes)?;
    }
    Ok(program)
}
