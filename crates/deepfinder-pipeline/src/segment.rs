use std::path::{Path, PathBuf};

use candle_core::Device;
use deepfinder_core::{Progress, VolumeReader, VolumeWriter};
use deepfinder_infer::{Plan, SegmentParams, SegmentReport, segment_with_all};
use deepfinder_io::{MrcWriter, check_writable};
use deepfinder_net::{Precision, UNet};
use serde::Serialize;

use crate::error::OnFile;
use crate::{Model, PipelineError, Result, TomogramOptions, open_tomogram};

/// A segmentation to do.
#[derive(Debug, Clone)]
pub struct SegmentJob {
    /// The tomogram.
    pub tomogram: PathBuf,
    /// How to read it.
    pub options: TomogramOptions,
    /// The label map to write.
    pub labels: PathBuf,
    /// A folder for one score map per class, background among them.
    pub scores: Option<PathBuf>,
    /// How the tomogram is cut.
    pub plan: Plan,
    /// Average the scores with those of the tomogram turned by 180° about the tilt axis y.
    pub half_turn: bool,
    /// What the network computes with.
    pub precision: Precision,
    /// Go on although the model learned from another voxel size.
    pub force: bool,
}

/// What was segmented.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentSummary {
    /// The label map.
    pub labels: PathBuf,
    /// Size of the tomogram, `(z, y, x)`.
    pub shape: [usize; 3],
    /// Voxel size in Å.
    pub voxel_size_angstrom: Option<f32>,
    /// Voxels of each class that occurs, background among them.
    pub voxels_by_class: Vec<(String, u64)>,
    /// Seconds that the network took.
    pub seconds: f64,
    /// Voxels labelled a second, in millions.
    pub mvoxels_per_second: f64,
    /// Voxels computed for each voxel labelled: what the margins of the tiles cost.
    pub computed_per_voxel: f64,
}

/// The name of a class's score map in a folder of them.
pub(crate) fn score_map_name(label: usize) -> String {
    format!("class{label}.mrc")
}

/// Labels every voxel of a tomogram by the mean of the models' scores and writes the label map, and score maps where asked.
///
/// # Errors
/// Where there is no model or they do not know the same classes; for files that cannot be read or written (found before the long work), a voxel size that is not the model's, voxels
/// that are not finite or all the same.
pub fn segment_tomogram(
    job: &SegmentJob,
    models: &[Model],
    device: &Device,
    progress: &dyn Progress,
) -> Result<SegmentSummary> {
    check_output(&job.labels, &job.tomogram)?;
    let tomogram = open_tomogram(&job.tomogram, job.options)?;
    let tomogram = tomogram.as_ref();
    let Some(first) = models.first() else {
        return Err(PipelineError::input("there are no weights to segment with"));
    };
    let mut networks = Vec::new();
    for model in models {
        check_same_classes(first, model)?;
        model.check_voxel_size(&job.tomogram, tomogram.voxel_size(), job.force)?;
        networks.push(model.network(device)?.with_precision(job.precision));
    }
    let networks: Vec<&UNet> = networks.iter().collect();
    let mut labels = mrc_like::<u8>(&job.labels, tomogram)?;
    let mut scores = match &job.scores {
        None => Vec::new(),
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|source| {
                PipelineError::file(folder, "the folder for score maps cannot be made", source)
            })?;
            (0..first.weights.scores())
                .map(|label| mrc_like::<f32>(&folder.join(score_map_name(label)), tomogram))
                .collect::<Result<Vec<_>>>()?
        }
    };
    let params = SegmentParams {
        plan: job.plan,
        half_turn: job.half_turn,
        ..SegmentParams::default()
    };
    let report = {
        let mut scores: Vec<&mut dyn VolumeWriter<f32>> = scores.iter_mut().map(|map| map as _).collect();
        segment_with_all(&networks, tomogram, &params, &mut labels, &mut scores, progress).on(&job.tomogram)?
    };
    labels.finish()?;
    for map in scores {
        map.finish()?;
    }
    Ok(summary(job, first, tomogram, &report))
}

/// That the scores of two models mean the same.
fn check_same_classes(first: &Model, other: &Model) -> Result<()> {
    let names = |model: &Model| -> Vec<String> {
        let labels = 1..model.weights.scores();
        let classes = model.classes();
        labels.map(|label| classes.name_of(label as u8)).collect()
    };
    let [a, b] = [names(first), names(other)];
    if a == b {
        return Ok(());
    }
    Err(PipelineError::input(format!(
        "{} knows the classes {}, {} knows {}: scores can be averaged only where they mean the same",
        first.path.display(),
        a.join(", "),
        other.path.display(),
        b.join(", ")
    )))
}

fn summary(
    job: &SegmentJob,
    model: &Model,
    tomogram: &dyn VolumeReader<f32>,
    report: &SegmentReport,
) -> SegmentSummary {
    let classes = model.classes();
    let counts = report
        .voxels_per_label
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0);
    let voxels = report.voxels as f64;
    SegmentSummary {
        labels: job.labels.clone(),
        shape: tomogram.shape(),
        voxel_size_angstrom: tomogram.voxel_size().map(deepfinder_core::VoxelSize::angstrom),
        voxels_by_class: counts
            .map(|(label, count)| (classes.name_of(label as u8), *count))
            .collect(),
        seconds: report.seconds,
        mvoxels_per_second: voxels / report.seconds.max(1e-9) / 1e6,
        computed_per_voxel: report.computed_voxels as f64 / voxels.max(1.0),
    }
}

fn mrc_like<T: deepfinder_io::Voxel>(path: &Path, tomogram: &dyn VolumeReader<f32>) -> Result<MrcWriter<T>> {
    let writer = MrcWriter::create(
        path,
        tomogram.shape(),
        tomogram.voxel_size(),
        tomogram.origin_angstrom(),
    )?;
    Ok(writer)
}

/// Finds out before the long work whether an output can be written, and that it is not the input.
pub(crate) fn check_output(output: &Path, input: &Path) -> Result<()> {
    check_writable(output)?;
    if let (Ok(a), Ok(b)) = (output.canonicalize(), input.canonicalize())
        && a == b
    {
        return Err(PipelineError::input(format!(
            "{}: the output would overwrite the input; choose another name",
            output.display()
        )));
    }
    Ok(())
}
