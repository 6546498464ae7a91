use std::time::Instant;

use deepfinder_core::{Label, Moments, Progress, VolumeReader, VolumeWriter};
use deepfinder_net::{Head, Precision, UNet};

use crate::input::Input;
use crate::output::Output;
use crate::streams::Pace;
use crate::tile::View;
use crate::tiling::Demand;
use crate::{InferError, Plan, Result, SegmentParams, exact, reference};

/// What a segmentation found and took.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentReport {
    /// Tiles of the exact plan, or patches of the reference plan.
    pub tiles: usize,
    /// Voxels of the tomogram.
    pub voxels: u64,
    /// Voxels that went through the network: those of the tomogram, and the margins.
    pub computed_voxels: u64,
    /// Time it took, in seconds.
    pub seconds: f64,
    /// Moments of the tomogram before it was normalised.
    pub moments: Moments,
    /// Voxels of each label, background first.
    pub voxels_per_label: Vec<u64>,
}

/// Labels every voxel of a tomogram by one network, and writes its scores where they are wanted: see
/// [`segment_with_all`].
///
/// # Errors
/// As [`segment_with_all`].
pub fn segment(
    net: &UNet,
    tomogram: &dyn VolumeReader<f32>,
    params: &SegmentParams,
    labels: &mut dyn VolumeWriter<Label>,
    scores: &mut [&mut dyn VolumeWriter<f32>],
    progress: &dyn Progress,
) -> Result<SegmentReport> {
    segment_with_all(&[net], tomogram, params, labels, scores, progress)
}

/// Labels every voxel of a tomogram by the mean of the networks' scores, and writes that where it is wanted.
///
/// The tomogram is brought to mean 0 and (population) standard deviation 1 as a whole, then cut by the plan and read
/// window by window. `labels` and `scores` (none, or one writer per class with background first) get whole planes from
/// z = 0 upwards, or windows where all of them take those. A label is the class of the highest score, of equal ones the lowest.
///
/// Memory: [`SegmentParams::workspace_bytes`] for the network, or three quarters of what its GPU has free; where that
/// turns out not to be enough, fewer planes go through it at once. Where one tile does not span y and x and the writers take
/// no windows, planes wait for the tiles beside them in as much again, as do the mean scores of a tile where there are several
/// networks or [`SegmentParams::half_turn`]; the reference plan keeps the scores of as many planes as a patch is deep.
///
/// # Errors
/// Where there is no network, or they score different numbers of classes; where the tomogram is empty, constant or holds NaN
/// or infinite voxels; where the plan's tile or patch does not fit; where reading, writing or computing fails; where `progress` cancels.
pub fn segment_with_all(
    nets: &[&UNet],
    tomogram: &dyn VolumeReader<f32>,
    params: &SegmentParams,
    labels: &mut dyn VolumeWriter<Label>,
    scores: &mut [&mut dyn VolumeWriter<f32>],
    progress: &dyn Progress,
) -> Result<SegmentReport> {
    let begun = Instant::now();
    params.check()?;
    let Some(net) = nets.first() else {
        return Err(InferError::NoNetwork);
    };
    let classes = net.classes();
    if let Some(other) = nets.iter().find(|other| other.classes() != classes) {
        return Err(InferError::Classes {
            expected: classes,
            found: other.classes(),
        });
    }
    let turns: &[bool] = if params.half_turn {
        &[false, true]
    } else {
        &[false]
    };
    let views: Vec<View<'_>> = nets
        .iter()
        .flat_map(|net| turns.iter().map(|turned| View { net, turned: *turned }))
        .collect();
    if !scores.is_empty() && scores.len() != classes {
        return Err(InferError::ScoreMaps {
            expected: classes,
            found: scores.len(),
        });
    }
    let bytes_per_voxel = 1 + size_of::<f32>() * scores.len();
    let mut output = Output::new(labels, scores, classes);
    let input = Input::new(tomogram, progress)?;
    let shape = input.shape();
    let work = match params.plan {
        Plan::Exact { tile } => {
            // The driver, and what else runs there, needs some too; where scores are added up there, that takes as much as the
            // network.
            let shares = if exact::is_single(&views) { 1 } else { 2 };
            let of_gpu = candle_conv3d::free_gpu_memory(net.device()).map(|free| free / 4 * 3 / shares);
            let demand = Demand {
                shape,
                bytes: of_gpu.unwrap_or(params.workspace_bytes),
                bytes_per_waiting_voxel: if output.takes_windows() {
                    0
                } else {
                    bytes_per_voxel
                },
                bytes_per_core_voxel: if exact::is_single(&views) {
                    0
                } else {
                    1 + size_of::<f32>() * classes
                },
                classes,
                // What needs most, and looks furthest.
                precision: if nets.iter().all(|net| net.precision() == Precision::Bf16) {
                    Precision::Bf16
                } else {
                    Precision::F32
                },
                head: if nets.iter().all(|net| net.head() == Head::Half) {
                    Head::Half
                } else {
                    Head::Full
                },
            };
            let tiling = match tile {
                Some(core) => demand.with_core(core),
                None => demand.tiling(),
            };
            let pace = if net.device().is_cpu() {
                Pace::InTurn
            } else {
                Pace::Beside
            };
            exact::run(&views, &input, tiling, pace, &mut output, progress)?
        }
        Plan::Reference { .. } if !exact::is_single(&views) => return Err(InferError::ReferenceOfSeveral),
        Plan::Reference { patch } => reference::run(net, &input, patch, &mut output, progress)?,
    };
    Ok(SegmentReport {
        tiles: work.tiles,
        voxels: shape.iter().map(|side| *side as u64).product(),
        computed_voxels: work.computed_voxels,
        seconds: begun.elapsed().as_secs_f64(),
        moments: input.moments,
        voxels_per_label: output.voxels_per_label,
    })
}
