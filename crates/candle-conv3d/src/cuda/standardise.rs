//! Programs that make rows of directions, gains and means: see `standardise_rows`.

use super::program::{Element, Place, Program, whole};
use crate::{cpu::RowsShape, error::Conv3dError};

/// Matrices of a launch: `MATRICES` of `tensors.cuh`.
const MATRICES: usize = 32;

/// Launches a kernel for all matrices, with pointers of four places each.
fn launch(
    program: &mut Program,
    kernel: &str,
    shapes: &[RowsShape],
    places: &[Place],
    pointers: impl Fn(usize) -> [Place; 4],
) -> Result<(), Conv3dError> {
    let mut offset = 0;
    for (chunk, shapes) in shapes.chunks(MATRICES).enumerate() {
        let mut sizes = vec![0; 4 * MATRICES];
        for (matrix, shape) in shapes.iter().enumerate() {
            let of_matrix = whole(&[shape.rows, shape.values, shape.identity.unwrap_or(0), offset])?;
            for (row, size) in of_matrix.into_iter().enumerate() {
                sizes[row * MATRICES + matrix] = size;
            }
            offset += shape.parts_len();
        }
        let rows = shapes.iter().map(|shape| shape.rows).max().unwrap_or(0);
        let table = (0..shapes.len()).flat_map(|matrix| pointers(chunk * MATRICES + matrix));
        program.launch_tensors(kernel, [rows, shapes.len()], places, table.collect(), sizes)?;
    }
    Ok(())
}

/// (directions, gains, means, rows) of each matrix, f32. The rows are changed.
pub(crate) fn standardise_rows(shapes: &[RowsShape]) -> Result<Program, Conv3dError> {
    let inputs = shapes.iter();
    let inputs = inputs.flat_map(|shape| [shape.rows_len(), shape.rows, shape.rows, shape.rows_len()]);
    let mut program = Program::new(Element::F32, &inputs.collect::<Vec<_>>(), 0);
    program.changed = (0..shapes.len()).map(|matrix| 4 * matrix + 3).collect();
    launch(&mut program, "standardise_rows_f32", shapes, &[], |matrix| {
        [0, 1, 2, 3].map(|part| Place::Input(4 * matrix + part, 0))
    })?;
    Ok(program)
}

/// (directions, gains, gradient of the rows) of each matrix, f32 -> gradients of directions, gains and means behind each other.
pub(crate) fn standardise_rows_gradient(shapes: &[RowsShape]) -> Result<Program, Conv3dError> {
    let inputs = shapes.iter();
    let inputs = inputs.flat_map(|shape| [shape.rows_len(), shape.rows, shape.rows_len()]);
    let output = shapes.iter().map(RowsShape::parts_len).sum();
    let mut program = Program::new(Element::F32, &inputs.collect::<Vec<_>>(), output);
    let kernel = "standardise_rows_gradient_f32";
    launch(&mut program, kernel, shapes, &[Place::Output], |matrix| {
        let [directions, gains, gradient] = [0, 1, 2].map(|part| Place::Input(3 * matrix + part, 0));
        [directions, gains, gradient, Place::Nowhere]
    })?;
    Ok(program)
}
