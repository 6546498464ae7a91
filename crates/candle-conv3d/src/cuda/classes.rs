//! A loss over soft-max and labels: its sums, what follows from them, and its gradient.

use candle_core::{DType, Result, Tensor};

pub use super::loss::ClassLoss;
use super::{
    loss,
    ops::{check_type, element_of, from_tensors},
    program::Element,
};
use crate::{
    error::Conv3dError,
    layout::{from_channels_last, to_channels_last},
};

/// What a loss over soft-max and labels is made of: f64 `[7, C]` of logits `[N, C, D, H, W]` (f32 or bf16) and labels
/// `[N, D, H, W]` (u8), on a GPU alone.
///
/// With p the soft-max, its rows are for each class: Σp, Σp where it is the label, Σ −log p of the label, voxels of the
/// label, voxels where it is the highest (of equal ones the lowest), those where it is both, and, where `smoothed`, Σ −log p
/// over all voxels. Voxels whose label has no channel are missing in the fourth.
///
/// # Errors
/// Where shapes or types don't fit, or the tensors are not on a GPU.
pub fn class_sums(logits: &Tensor, labels: &Tensor, smoothed: bool) -> Result<Tensor> {
    const NAME: &str = "class_sums";
    let (channels, element) = check(NAME, logits, labels)?;
    let inputs = [&to_channels_last(&logits.detach())?, &labels.contiguous()?];
    let program = loss::class_sums(element, labels.elem_count(), channels, smoothed)?;
    from_tensors::<f64>(NAME, &inputs, (loss::ROWS, channels), &program)
}

/// What a loss is, on the GPU still.
#[derive(Debug)]
pub struct FoundLoss {
    /// Its value, f64 `[1]`.
    pub value: Tensor,
    /// Voxels of each class, voxels where it is the highest, and those where it is both, f64 `[3 · C]`.
    pub counts: Tensor,
    /// What [`class_gradient`] makes the gradient of, f32 `[4 · C + 1]`: for each class the derivatives by p at every voxel,
    /// by p where the class is the label, by −log p there, and by −log p at every voxel; then the sum of the last.
    pub slopes: Tensor,
}

/// The loss that follows from the sums of [`class_sums`], with the weights of the classes in the cross-entropy, f64 `[C]`,
/// where they differ. On a GPU alone, where nobody waits for it.
///
/// # Errors
/// Where shapes or types don't fit, or the tensors are not on a GPU.
pub fn class_loss(sums: &Tensor, weights: Option<&Tensor>, params: &ClassLoss) -> Result<FoundLoss> {
    const NAME: &str = "class_loss";
    check_type(NAME, sums, DType::F64)?;
    let (rows, channels) = sums.dims2()?;
    if rows != loss::ROWS {
        return Err(Conv3dError::Shape {
            op: NAME,
            what: "the sums",
            expected: format!("[{}, C]", loss::ROWS),
            found: sums.dims().to_vec(),
        }
        .into());
    }
    let sums = sums.contiguous()?;
    let mut inputs = vec![&sums];
    if let Some(weights) = weights {
        check_type(NAME, weights, DType::F64)?;
        inputs.push(weights);
    }
    let weighted = weights.is_some();
    let program = loss::class_value(channels, weighted, params)?;
    let row = from_tensors::<f64>(NAME, &inputs, 1 + 3 * channels, &program)?;
    let program = loss::class_slopes(channels, weighted, params)?;
    Ok(FoundLoss {
        value: row.narrow(0, 0, 1)?,
        counts: row.narrow(0, 1, 3 * channels)?,
        slopes: from_tensors::<f32>(NAME, &inputs, 4 * channels + 1, &program)?,
    })
}

/// The gradient by the logits of a loss with slopes as [`FoundLoss`] has them, f32. On a GPU alone.
///
/// # Errors
/// As [`class_sums`].
pub fn class_gradient(logits: &Tensor, labels: &Tensor, slopes: &Tensor) -> Result<Tensor> {
    const NAME: &str = "class_gradient";
    let (channels, element) = check(NAME, logits, labels)?;
    check_type(NAME, slopes, DType::F32)?;
    let logits = to_channels_last(&logits.detach())?;
    let inputs = [&logits, &labels.contiguous()?, &slopes.contiguous()?];
    let program = loss::class_gradient(element, labels.elem_count(), channels)?;
    let gradient = match element {
        Element::F32 => from_tensors::<f32>(NAME, &inputs, logits.shape(), &program)?,
        Element::Bf16 => from_tensors::<half::bf16>(NAME, &inputs, logits.shape(), &program)?,
    };
    from_channels_last(&gradient)
}

fn check(op: &'static str, logits: &Tensor, labels: &Tensor) -> Result<(usize, Element)> {
    let (n, channels, d, h, w) = logits.dims5()?;
    let shape = |what, expected: String, found: &Tensor| Conv3dError::Shape {
        op,
        what,
        expected,
        found: found.dims().to_vec(),
    };
    if !(1..=256).contains(&channels) {
        return Err(shape("the logits", "[N, 1 to 256, D, H, W]".to_owned(), logits).into());
    }
    if labels.dims() != [n, d, h, w] {
        return Err(shape("the labels", format!("[{n}, {d}, {h}, {w}]"), labels).into());
    }
    check_type(op, labels, DType::U8)?;
    Ok((channels, element_of(op, logits.dtype())?))
}
