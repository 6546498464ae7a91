//! Programs of a loss over soft-max and labels.

use super::{
    program::{Element, Place, Program, over, whole, words},
    voxels::over_voxels,
};
use crate::error::Conv3dError;

/// Voxels of a part of the sums of a loss.
const PART: usize = 4096;
/// Rows of the sums of a loss: see `loss.cuh`.
pub(crate) const ROWS: usize = 7;

/// A weighted sum of the Tversky loss and the cross-entropy, over soft-max and labels.
///
/// With the sums over all voxels, the Tversky index of class c is T = (Σpg + s) / (Σpg + α·Σp(1−g) + β·Σ(1−p)g + s), its
/// loss Σ (1 − T)^γ over the classes. The cross-entropy is the (weighted) mean over the voxels, against a target that has
/// 1 − ε of the label and ε of all classes alike.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    not(feature = "cuda"),
    expect(
        unreachable_pub,
        reason = "the functions that take it are there with the feature alone"
    )
)]
pub struct ClassLoss {
    /// Weight of the Tversky loss.
    pub dice_weight: f64,
    /// Weight of the cross-entropy.
    pub cross_entropy_weight: f64,
    /// α, what a voxel found wrongly costs.
    pub alpha: f64,
    /// β, what a voxel missed costs.
    pub beta: f64,
    /// s, in voxels.
    pub smoothing: f64,
    /// γ.
    pub focal: f64,
    /// ε.
    pub label_smoothing: f64,
}

/// (logits, u8 labels) -> f64 `[7, channels]`: see `class_sums` in `loss.cuh`. The last row where `smoothed` says so.
pub(crate) fn class_sums(
    element: Element,
    voxels: usize,
    channels: usize,
    smoothed: bool,
) -> Result<Program, Conv3dError> {
    let count = voxels.div_ceil(PART);
    let mut program = Program::new(element, &[voxels * channels, voxels], ROWS * channels);
    let sums = program.scratch(count * ROWS * channels * size_of::<f64>());
    let sizes = [voxels, channels, PART, count, usize::from(smoothed)];
    let places = [Place::Input(0, 0), Place::Input(1, 0), sums];
    program.launch("class_sums", [count, 1, 1], 256, &places, &sizes)?;
    let (grid, sizes) = (over(ROWS * channels), whole(&sizes)?);
    program.launch_typed(
        "add_class_sums_f64".to_owned(),
        grid,
        256,
        &[sums, Place::Output],
        &sizes,
    )?;
    Ok(program)
}

/// (f64 sums, f64 weights of the classes or nothing) -> what the kernel makes of them, that many values a channel and one.
fn of_sums(
    kernel: &str,
    channels: usize,
    weighted: bool,
    per_channel: usize,
    loss: &ClassLoss,
) -> Result<Program, Conv3dError> {
    let inputs = [ROWS * channels, channels];
    let inputs = &inputs[..if weighted { 2 } else { 1 }];
    let mut program = Program::new(Element::F32, inputs, per_channel * channels + 1);
    let weights = if weighted {
        Place::Input(1, 0)
    } else {
        Place::Nowhere
    };
    let mut sizes = whole(&[channels, 0])?;
    let (sure, spread) = (1.0 - loss.label_smoothing, loss.label_smoothing / channels as f64);
    let parts = [
        loss.dice_weight,
        loss.cross_entropy_weight,
        loss.alpha,
        loss.beta,
        loss.smoothing,
        loss.focal,
    ];
    sizes.extend(parts.into_iter().chain([sure, spread]).flat_map(words));
    let places = [Place::Input(0, 0), weights, Place::Output];
    program.launch_typed(kernel.to_owned(), [1; 3], 256, &places, &sizes)?;
    Ok(program)
}

/// (f64 sums, f64 weights of the classes or nothing) -> f64 `[1 + 3 · channels]`: see `class_value` in `loss.cuh`.
pub(crate) fn class_value(channels: usize, weighted: bool, loss: &ClassLoss) -> Result<Program, Conv3dError> {
    of_sums("class_value_f64", channels, weighted, 3, loss)
}

/// (f64 sums, f64 weights of the classes or nothing) -> f32 `[4 · channels + 1]`: see `class_slopes` in `loss.cuh`.
pub(crate) fn class_slopes(
    channels: usize,
    weighted: bool,
    loss: &ClassLoss,
) -> Result<Program, Conv3dError> {
    of_sums("class_slopes_f32", channels, weighted, 4, loss)
}

/// (logits, u8 labels, f32 slopes) -> gradient of the logits.
pub(crate) fn class_gradient(
    element: Element,
    voxels: usize,
    channels: usize,
) -> Result<Program, Conv3dError> {
    let values = voxels * channels;
    let inputs = [values, voxels, 4 * channels + 1];
    over_voxels(element, "class_gradient", [voxels, channels], values, &inputs)
}
