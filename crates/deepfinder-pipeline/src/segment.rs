use std::path::{Path, PathBuf};

use candle_core::Device;
use deepfinder_core::{Progress, VolumeReader, VolumeWriter};
use deepfinder_infer::{Plan, SegmentParams, SegmentReport, segment_with_all};
use deepfinder_io::{MrcWriter, check_writable, open_volume};
use deepfinder_net::{Precision, UNet};
use serde::Serialize;

use crate::error::OnFile;
use crate::share::{Share, share};
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

/// Labels the voxels of several tomograms as [`segment_tomogram`] does, each on the next free device. `done` hears of
/// each as soon as its files are there. Which device computes a tomogram makes no difference where all are of one kind.
///
/// # Errors
/// As [`segment_tomogram`]; what is wrong with a tomogram's header or an output is found before the first is begun.
/// Where two would write the same file. Tomograms that were done until then stay.
pub fn segment_tomograms(
    jobs: &[SegmentJob],
    models: &[Model],
    devices: &[Device],
    progress: &dyn Progress,
    done: impl FnMut(usize, &SegmentSummary) -> Result<()> + Send,
) -> Result<Vec<SegmentSummary>> {
    let mut shares = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        if let Some(other) = jobs[..index].iter().find(|other| other.labels == job.labels) {
            return Err(PipelineError::input(format!(
                "{} and {} would both be written to {}: segment them one by one, or rename one",
                other.tomogram.display(),
                job.tomogram.display(),
                job.labels.display()
            )));
        }
        let voxels = check_early(job, models)?;
        shares.push(Share { job, voxels });
    }
    if devices.len() > jobs.len() && !jobs.is_empty() {
        tracing::warn!(
            "a tomogram is segmented on one device: {} of {} devices have nothing to do",
            devices.len() - jobs.len(),
            devices.len()
        );
    }
    let what = format!("segmenting {} tomograms", jobs.len());
    let work = |job: &&SegmentJob, device: &Device, progress: &dyn Progress| {
        segment_tomogram(job, models, device, progress)
    };
    share(&what, &shares, devices, progress, work, done)
}

/// What can be said without a word in the log: it comes when the tomogram's turn comes. Gives its voxels.
fn check_early(job: &SegmentJob, models: &[Model]) -> Result<u64> {
    check_output(&job.labels, &job.tomogram)?;
    let file = open_volume(&job.tomogram)?;
    let voxel_size = job.options.voxel_size.or(file.voxel_size());
    if voxel_size.is_some() && !job.force {
        for model in models {
            model.check_voxel_size(&job.tomogram, voxel_size, false)?;
        }
    }
    Ok(file.shape().iter().map(|side| *side as u64).product())
}

/// The jobs that segment each of these tomograms as `like` says. One is written where that says; of several each is
/// written into that folder, which is made where it is not there, under its own name, and its score maps into a folder
/// of its name in that for score maps.
///
/// # Errors
/// Where the folder is no folder or cannot be made.
pub fn segment_jobs(tomograms: &[PathBuf], like: &SegmentJob) -> Result<Vec<SegmentJob>> {
    if let [tomogram] = tomograms {
        let tomogram = tomogram.clone();
        return Ok(vec![SegmentJob {
            tomogram,
            ..like.clone()
        }]);
    }
    let folder = &like.labels;
    if folder.is_file() || folder.extension().is_some_and(|ending| ending == "mrc") {
        return Err(PipelineError::input(format!(
            "{}: of several tomograms the label maps go into a folder; name one",
            folder.display()
        )));
    }
    std::fs::create_dir_all(folder)
        .map_err(|source| PipelineError::file(folder, "the folder for label maps cannot be made", source))?;
    let job = |tomogram: &PathBuf| {
        let name = name_of(tomogram);
        SegmentJob {
            tomogram: tomogram.clone(),
            labels: folder.join(format!("{name}.mrc")),
            scores: like.scores.as_ref().map(|folder| folder.join(&name)),
            ..like.clone()
        }
    };
    Ok(tomograms.iter().map(job).collect())
}

/// A file's name without what says its format.
fn name_of(tomogram: &Path) -> String {
    let stem = |path: &Path| PathBuf::from(path.file_stem().unwrap_or_default());
    let is_packed = tomogram
        .extension()
        .is_some_and(|ending| ending == "gz" || ending == "bz2");
    let name = stem(tomogram);
    let name = if is_packed { stem(&name) } else { name };
    name.to_string_lossy().into_owned()
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

#[cfg(test)]
mod tests {
    use deepfinder_core::{NoProgress, Volume, VoxelSize};
    use deepfinder_io::write_mrc;
    use deepfinder_net::{Metadata, Weights};
    use ndarray::Array3;

    use super::*;

    fn models() -> Vec<Model> {
        let weights = Weights::initial(3, 1, Metadata::for_classes(["a", "b"])).unwrap();
        let path = PathBuf::from("w.safetensors");
        vec![Model { path, weights }]
    }

    /// Tomograms of different sizes, and the job that is like theirs.
    fn tomograms(folder: &Path) -> (Vec<PathBuf>, SegmentJob) {
        let one = |index: usize| {
            let shape = (8 + 4 * index, 12, 20 - 4 * index);
            let voxels =
                Array3::from_shape_fn(shape, |(z, y, x)| ((z * 31 + y * 17 + x * 7 + index) % 13) as f32);
            let path = folder.join(format!("t{index}.mrc"));
            write_mrc(
                &path,
                &Volume::new(voxels).with_voxel_size(VoxelSize::new(10.0).unwrap()),
            )
            .unwrap();
            path
        };
        let job = SegmentJob {
            tomogram: PathBuf::new(),
            options: TomogramOptions::default(),
            labels: PathBuf::new(),
            scores: None,
            plan: Plan::default(),
            half_turn: false,
            precision: Precision::F32,
            force: false,
        };
        ((0..4).map(one).collect(), job)
    }

    #[test]
    fn devices_share_tomograms_and_results_do_not_depend_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let (tomograms, like) = tomograms(folder.path());
        let models = models();
        let files = |devices: &[Device]| {
            let labels = folder.path().join(format!("by{}", devices.len()));
            let like = SegmentJob {
                scores: Some(labels.join("scores")),
                labels,
                ..like.clone()
            };
            let jobs = segment_jobs(&tomograms, &like).unwrap();
            let mut written = 0;
            let summaries = segment_tomograms(&jobs, &models, devices, &NoProgress, |index, summary| {
                assert!(summary.labels == jobs[index].labels && summary.labels.is_file());
                written += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!((written, summaries.len()), (4, 4));
            let shapes = summaries.iter().map(|summary| summary.shape[0]);
            assert!(shapes.eq([8, 12, 16, 20]));
            let names = (0..4).flat_map(|t| {
                let scores = (0..3).map(move |class| format!("scores/t{t}/class{class}.mrc"));
                scores.chain([format!("t{t}.mrc")])
            });
            let read = |name: String| std::fs::read(like.labels.join(name)).unwrap();
            names.map(read).collect::<Vec<_>>()
        };
        let one = files(&[Device::Cpu]);
        assert_eq!(one.len(), 16);
        assert!(files(&[Device::Cpu, Device::Cpu]) == one);
        assert!(files(&[Device::Cpu, Device::Cpu, Device::Cpu, Device::Cpu, Device::Cpu]) == one);
    }

    #[test]
    fn what_cannot_work_is_found_before_the_first_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let (mut tomograms, mut like) = tomograms(folder.path());
        like.labels = folder.path().join("labels");
        let refused = |tomograms: &[PathBuf], like: &SegmentJob| {
            let jobs = segment_jobs(tomograms, like)?;
            let begun = |_: usize, _: &SegmentSummary| Err(PipelineError::input("begun"));
            segment_tomograms(&jobs, &models(), &[Device::Cpu], &NoProgress, begun)
        };
        let reason = refused(&tomograms, &like).unwrap_err().to_string();
        assert_eq!(reason, "begun");
        tomograms.push(folder.path().join("missing.mrc"));
        let reason = refused(&tomograms, &like).unwrap_err().to_string();
        assert!(reason.contains("missing.mrc"), "{reason}");
        tomograms[4] = tomograms[0].clone();
        let reason = refused(&tomograms, &like).unwrap_err().to_string();
        assert!(reason.contains("would both be written"), "{reason}");
        tomograms.truncate(2);
        // Into the folder of the tomograms.
        let beside = SegmentJob {
            labels: folder.path().to_owned(),
            ..like.clone()
        };
        let reason = refused(&tomograms, &beside).unwrap_err().to_string();
        assert!(reason.contains("overwrite the input"), "{reason}");
        like.labels = folder.path().join("labels.mrc");
        let reason = refused(&tomograms, &like).unwrap_err().to_string();
        assert!(
            reason.contains("into a folder") && !like.labels.exists(),
            "{reason}"
        );
    }

    #[test]
    fn names_are_without_endings() {
        for (file, name) in [
            ("a/tomo.mrc", "tomo"),
            ("tomo.mrc.gz", "tomo"),
            ("ts_1.rec", "ts_1"),
            ("s3://bucket/run.zarr", "run"),
            ("tomo", "tomo"),
        ] {
            assert_eq!(name_of(Path::new(file)), name);
        }
    }
}
