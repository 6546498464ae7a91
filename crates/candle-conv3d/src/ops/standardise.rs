//! `standardise_rows`.

use candle_core::{CpuStorage, CustomOp2, InplaceOp2, Layout, Result, Shape, Tensor};

use super::{
    check_f32, shape_error,
    storage::{own, read, write},
};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::{
    cpu::{self, RowsShape},
    error::Conv3dError,
    memory::zeros,
};

/// What the rows of a matrix are made of, f32 and contiguous: row r is `gain · (d − d̄) / |d − d̄| + mean / √n`, of the mean d̄
/// and the number n of the values d of its direction (weight standardisation: Qiao et al. 2019).
#[derive(Debug, Clone, Copy)]
pub struct StandardisedRows<'a> {
    /// `[R, n]`, of any length but 0.
    pub directions: &'a Tensor,
    /// `[R, 1]`.
    pub gains: &'a Tensor,
    /// `[R, 1]`.
    pub means: &'a Tensor,
    /// Whether the identity is added: with a row as R blocks of so many values, 1 in the middle of the r-th block of row r.
    pub identity: Option<usize>,
}

/// Gradients of the parts of [`StandardisedRows`], of their shapes.
#[derive(Debug)]
pub struct RowGradients {
    /// `[R, n]`.
    pub directions: Tensor,
    /// `[R, 1]`.
    pub gains: Tensor,
    /// `[R, 1]`.
    pub means: Tensor,
}

const NAME: &str = "standardise_rows";

impl StandardisedRows<'_> {
    /// `rows`: a tensor with as many values as the directions, row by row.
    fn shape(&self, rows: &Tensor) -> Result<RowsShape> {
        let (count, values) = self.directions.dims2()?;
        let tensors = [self.directions, self.gains, self.means, rows];
        check_f32(NAME, &tensors)?;
        if !tensors.iter().all(|tensor| tensor.is_contiguous()) {
            return Err(Conv3dError::NotContiguous { op: NAME }.into());
        }
        for (what, part) in [("the gains", self.gains), ("the means", self.means)] {
            if part.dims() != [count, 1] {
                return Err(shape_error(NAME, what, format!("[{count}, 1]"), part));
            }
        }
        if rows.elem_count() != count * values {
            let expected = format!("{count} rows of {values} values");
            return Err(shape_error(NAME, "the rows", expected, rows));
        }
        if self.identity.is_some_and(|block| count * block != values) {
            let expected = format!("[R, R · n], with n of the identity {:?}", self.identity);
            return Err(shape_error(NAME, "the directions", expected, self.directions));
        }
        Ok(RowsShape {
            rows: count,
            values,
            identity: self.identity,
        })
    }
}

/// Makes the rows of each matrix, where the tensor beside it has its R · n values; on a GPU those of some thirty in one launch.
///
/// # Errors
/// Where shapes or types don't fit, or tensors are not contiguous or share memory.
pub fn standardise_rows(matrices: &[(StandardisedRows<'_>, &Tensor)]) -> Result<()> {
    let shapes = matrices.iter().map(|(parts, rows)| parts.shape(rows));
    let shapes: Vec<RowsShape> = shapes.collect::<Result<_>>()?;
    #[cfg(feature = "cuda")]
    if matrices.iter().any(|(_, rows)| rows.device().is_cuda()) {
        let inputs = matrices.iter();
        let inputs = inputs.flat_map(|(of, rows)| [of.directions, of.gains, of.means, rows]);
        let program = cuda::standardise_rows(&shapes)?;
        return cuda::change_tensors(NAME, &inputs.collect::<Vec<_>>(), &program);
    }
    for ((parts, rows), shape) in matrices.iter().zip(shapes) {
        let op = Rows {
            shape,
            gains: few(parts.gains)?,
            means: few(parts.means)?,
        };
        rows.inplace_op2(parts.directions, &op)?;
    }
    Ok(())
}

/// The gradients of what the rows of each matrix are made of, from that of the rows beside it.
///
/// # Errors
/// Where shapes or types don't fit, or tensors are not contiguous.
pub fn standardise_rows_gradients(matrices: &[(StandardisedRows<'_>, &Tensor)]) -> Result<Vec<RowGradients>> {
    let shapes = matrices.iter().map(|(parts, rows)| parts.shape(rows));
    let shapes: Vec<RowsShape> = shapes.collect::<Result<_>>()?;
    #[cfg(feature = "cuda")]
    if matrices.iter().any(|(_, rows)| rows.device().is_cuda()) {
        let inputs = matrices.iter();
        let inputs = inputs.flat_map(|(of, gradient)| [of.directions, of.gains, gradient]);
        let program = cuda::standardise_rows_gradient(&shapes)?;
        let inputs: Vec<&Tensor> = inputs.collect();
        let all = cuda::from_tensors::<f32>(NAME, &inputs, program.output, &program)?;
        let mut first = 0;
        return shapes
            .iter()
            .map(|shape| {
                let parts = all.narrow(0, first, shape.parts_len())?;
                first += shape.parts_len();
                gradients_in(shape, &parts)
            })
            .collect();
    }
    let pairs = matrices.iter().zip(shapes);
    let gradients = pairs.map(|((parts, of_rows), shape)| {
        let op = RowsGradient {
            shape,
            gains: few(parts.gains)?,
        };
        let parts = parts
            .directions
            .detach()
            .apply_op2_no_bwd(&of_rows.detach(), &op)?;
        gradients_in(&shape, &parts)
    });
    gradients.collect()
}

/// Views of gradients that lie behind each other.
fn gradients_in(shape: &RowsShape, parts: &Tensor) -> Result<RowGradients> {
    let (rows, length) = (shape.rows, shape.rows_len());
    Ok(RowGradients {
        directions: parts.narrow(0, 0, length)?.reshape((rows, shape.values))?,
        gains: parts.narrow(0, length, rows)?.reshape((rows, 1))?,
        means: parts.narrow(0, length + rows, rows)?.reshape((rows, 1))?,
    })
}

/// A value for each row: candle's ops take few tensors.
fn few(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.detach().flatten_all()?.to_vec1()
}

/// (rows, directions) -> rows.
struct Rows {
    shape: RowsShape,
    gains: Vec<f32>,
    means: Vec<f32>,
}

impl InplaceOp2 for Rows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        rows: &mut CpuStorage,
        layout: &Layout,
        directions: &CpuStorage,
        directions_layout: &Layout,
    ) -> Result<()> {
        let (rows, directions) = (
            write::<f32>(NAME, rows, layout)?,
            read::<f32>(NAME, directions, directions_layout)?,
        );
        cpu::standardise_rows(&self.shape, directions, &self.gains, &self.means, rows)?;
        Ok(())
    }
}

/// (directions, gradient of the rows) -> gradients of directions, gains and means, behind each other.
struct RowsGradient {
    shape: RowsShape,
    gains: Vec<f32>,
}

impl CustomOp2 for RowsGradient {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        directions: &CpuStorage,
        layout: &Layout,
        of_rows: &CpuStorage,
        of_rows_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let directions = read::<f32>(NAME, directions, layout)?;
        let of_rows = read::<f32>(NAME, of_rows, of_rows_layout)?;
        let mut parts = zeros::<f32>(self.shape.parts_len());
        cpu::standardise_rows_gradient(&self.shape, directions, &self.gains, of_rows, &mut parts)?;
        let shape = parts.len().into();
        Ok((own(parts), shape))
    }
}
