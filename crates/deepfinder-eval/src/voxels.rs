use deepfinder_core::{BACKGROUND, Label, Progress, Region, VolumeReader};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{EvalError, Result};
use crate::scores::{ConfusionMatrix, ratio};

/// How the voxels of two label maps agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VoxelReport {
    /// Each class that either map holds, by label; background first.
    pub classes: Vec<VoxelRow>,
    /// Mean Dice over the classes, background left out.
    pub mean_dice: f64,
    /// Mean intersection over union over the classes, background left out.
    pub mean_iou: f64,
    /// Part of all voxels that have the right label.
    pub accuracy: f64,
    /// True (rows) and predicted (columns) labels of all voxels.
    pub confusion: ConfusionMatrix,
}

/// How the voxels of one class agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VoxelRow {
    /// The class.
    pub label: Label,
    /// Voxels of it in the truth.
    pub truth: u64,
    /// Voxels of it in the prediction.
    pub predicted: u64,
    /// Voxels of it in both.
    pub shared: u64,
    /// 2 · shared / (truth + predicted): the F1 of voxels.
    pub dice: f64,
    /// shared / voxels of it in either map.
    pub iou: f64,
    /// Part of the predicted voxels that is right.
    pub precision: f64,
    /// Part of the true voxels that was found.
    pub recall: f64,
}

/// Compares two label maps voxel by voxel, in slabs of planes: neither need fit in memory.
///
/// # Errors
/// [`EvalError::Shapes`] for maps of different sizes, and where reading fails or the work is cancelled.
pub fn label_map_scores(
    truth: &dyn VolumeReader<Label>,
    predicted: &dyn VolumeReader<Label>,
    progress: &dyn Progress,
) -> Result<VoxelReport> {
    const SLAB_VOXELS: usize = 1 << 23;
    let shape @ [depth, height, width] = truth.shape();
    if predicted.shape() != shape {
        return Err(EvalError::Shapes {
            truth: shape,
            predicted: predicted.shape(),
        });
    }
    let mut pairs = vec![0_u64; 1 << 16];
    let planes = (SLAB_VOXELS / (height * width).max(1)).max(1);
    progress.begin("comparing label maps", depth as u64, "planes");
    for z in (0..depth).step_by(planes) {
        progress.check()?;
        let region = Region::new([z, 0, 0], [planes.min(depth - z), height, width]);
        let (truth, predicted) = (truth.read_window(region)?, predicted.read_window(region)?);
        let rows: Vec<_> = truth.rows().into_iter().zip(predicted.rows()).collect();
        let slab = rows
            .par_chunks(rows.len().div_ceil(rayon::current_num_threads()).max(1))
            .map(|rows| {
                let mut pairs = vec![0_u64; 1 << 16];
                for (truth, predicted) in rows {
                    for (&t, &p) in truth.iter().zip(predicted) {
                        pairs[usize::from(t) << 8 | usize::from(p)] += 1;
                    }
                }
                pairs
            })
            .reduce(|| vec![0; 1 << 16], sum);
        pairs = sum(pairs, slab);
        progress.advance(region.shape[0] as u64);
    }
    progress.end();
    Ok(report(&pairs))
}

fn sum(mut a: Vec<u64>, b: Vec<u64>) -> Vec<u64> {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
    a
}

/// From the number of voxels of each pair `truth · 256 + predicted`.
fn report(pairs: &[u64]) -> VoxelReport {
    let count = |truth: Label, predicted: Label| pairs[usize::from(truth) << 8 | usize::from(predicted)];
    let all = || 0..=Label::MAX;
    let mut classes: Vec<VoxelRow> = Vec::new();
    for label in all() {
        let truth = all().map(|other| count(label, other)).sum();
        let predicted = all().map(|other| count(other, label)).sum();
        let shared = count(label, label);
        if truth + predicted > 0 || label == BACKGROUND {
            classes.push(VoxelRow {
                label,
                truth,
                predicted,
                shared,
                dice: ratio(2 * shared, truth + predicted),
                iou: ratio(shared, truth + predicted - shared),
                precision: ratio(shared, predicted),
                recall: ratio(shared, truth),
            });
        }
    }
    let foreground = &classes[1..];
    let mean = |value: fn(&VoxelRow) -> f64| {
        foreground.iter().map(value).sum::<f64>() / foreground.len().max(1) as f64
    };
    let right = classes.iter().map(|row| row.shared).sum();
    VoxelReport {
        mean_dice: mean(|row| row.dice),
        mean_iou: mean(|row| row.iou),
        accuracy: ratio(right, pairs.iter().sum()),
        confusion: ConfusionMatrix::from_fn(classes.iter().map(|row| row.label), count),
        classes,
    }
}
