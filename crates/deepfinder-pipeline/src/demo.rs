use std::path::{Path, PathBuf};

use candle_core::Device;
use deepfinder_core::Progress;
use deepfinder_io::write_file_atomically;
use deepfinder_net::Precision;
use deepfinder_sim::SimParams;
use serde::Serialize;

use crate::project::PROJECT_FILE;
use crate::{
    Evaluation, PipelineError, Project, Result, RunOptions, SimulateJob, Split, TrainSettings, run_project,
    simulate_project,
};

/// The model that comes with the program; how it was trained stands in `fixtures/README.md`.
const DEMO_MODEL: &[u8] = include_bytes!("../../../fixtures/demo/model.safetensors");

/// Where the simulations that the demo's model learned from begin: no demo's own seed comes near.
const TRAINING_SEED: u64 = 1 << 32;

/// A demonstration.
#[derive(Debug, Clone)]
pub struct DemoJob {
    /// Folder for everything it makes.
    pub folder: PathBuf,
    /// Learn a network first.
    pub train: bool,
    /// Seed of the tomogram that particles are looked for in, and of training.
    pub seed: u64,
    /// What the network computes with.
    pub precision: Precision,
}

/// What a demonstration made and found.
#[derive(Debug, Clone, Serialize)]
pub struct DemoSummary {
    /// The project file.
    pub project: PathBuf,
    /// The simulated tomogram.
    pub tomogram: PathBuf,
    /// Its label map.
    pub labels: PathBuf,
    /// Its picks.
    pub picks: PathBuf,
    /// Slices with the picks on them.
    pub picture: PathBuf,
    /// How many particles were found.
    pub evaluation: Evaluation,
}

/// Simulates a tomogram that no network has seen, segments it, picks its particles and scores them.
///
/// # Errors
/// Where the folder cannot be written, or holds something else.
pub fn demo(job: &DemoJob, device: &Device, progress: &dyn Progress) -> Result<DemoSummary> {
    let path = job.folder.join(PROJECT_FILE);
    prepare(&job.folder, &path)?;
    let simulate = SimulateJob {
        training: if job.train { DEMO_TRAINING_TOMOGRAMS } else { 0 },
        validation: usize::from(job.train),
        training_seed: TRAINING_SEED.wrapping_add(job.seed),
        ..SimulateJob::new(&job.folder, SimParams::demo(job.seed))
    };
    simulate_project(&simulate, progress)?;
    let mut project = Project::read(&path)?;
    if job.train {
        project.train = TrainSettings {
            seed: Some(job.seed),
            ..demo_training()
        };
    } else {
        let weights = PathBuf::from("model.safetensors");
        write_file_atomically(&job.folder.join(&weights), DEMO_MODEL)?;
        project.segment.weights = Some(weights);
    }
    crate::init::write_project(&path, &project)?;
    let options = RunOptions {
        precision: job.precision,
        ..RunOptions::default()
    };
    let summary = run_project(&project, options, std::slice::from_ref(device), progress)?;
    let (Some(evaluation), Some(test)) = (summary.evaluation, project.tomograms_for(Split::Test).next())
    else {
        return Err(PipelineError::input("the demo has nothing to score"));
    };
    Ok(DemoSummary {
        tomogram: project.resolve(&test.file),
        labels: project.output_path(format!("labels/{}.mrc", test.name)),
        picks: project.output_path(format!("picks/{}.xml", test.name)),
        picture: project.output_path(format!("slices/{}.png", test.name)),
        project: path,
        evaluation,
    })
}

/// Tomograms that `demo --train` learns from.
const DEMO_TRAINING_TOMOGRAMS: usize = 4;

/// How `demo --train` learns: until the particles are found, in minutes on two cores.
fn demo_training() -> TrainSettings {
    TrainSettings {
        epochs: Some(7),
        steps_per_epoch: Some(50),
        batch: Some(4),
        patch: Some(40),
        schedule: Some("cosine".to_owned()),
        ..TrainSettings::default()
    }
}

/// Makes room: an earlier demo is replaced, anything else is left alone.
fn prepare(folder: &Path, project: &Path) -> Result<()> {
    const MARK: &str = ".deepfinder-demo";
    let mark = folder.join(MARK);
    if mark.exists() {
        std::fs::remove_dir_all(folder)
            .map_err(|source| PipelineError::file(folder, "the earlier demo cannot be replaced", source))?;
    } else if project.exists()
        || folder
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(PipelineError::input(format!(
            "{}: the folder is not empty; name another with --out, nothing was changed",
            folder.display()
        )));
    }
    std::fs::create_dir_all(folder)
        .map_err(|source| PipelineError::file(folder, "the folder cannot be made", source))?;
    Ok(write_file_atomically(
        &mark,
        b"made by `deepfinder demo`, which may replace this folder\n",
    )?)
}
