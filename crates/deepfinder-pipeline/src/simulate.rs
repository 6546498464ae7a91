use std::path::{Path, PathBuf};

use deepfinder_core::{Label, Progress};
use deepfinder_io::{check_writable, write_mrc, write_particles};
use deepfinder_sim::{DEMO_CLASSES, SimParams, Simulation, Template, simulate};
use serde::Serialize;

use crate::error::OnFile;
use crate::init::write_project;
use crate::project::PROJECT_FILE;
use crate::target::labels_that_occur;
use crate::templates::builtin_templates;
use crate::{Length, PipelineError, Project, ProjectClass, ProjectTomogram, Result, Split};

/// Tomograms to simulate, as a project.
#[derive(Debug, Clone)]
pub struct SimulateJob {
    /// Folder of the project.
    pub folder: PathBuf,
    /// Tomograms to train on.
    pub training: usize,
    /// Tomograms to validate with.
    pub validation: usize,
    /// What each looks like, and the seed of the one to test with.
    pub params: SimParams,
    /// Seed of the first of the others; the next takes the next number.
    pub training_seed: u64,
}

/// A simulated tomogram.
#[derive(Debug, Clone, Serialize)]
pub struct SimulatedTomogram {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub split: Split,
    /// Particles in it.
    pub particles: usize,
}

/// What was simulated.
#[derive(Debug, Clone, Serialize)]
pub struct SimulateSummary {
    /// The project file.
    pub project: PathBuf,
    /// The tomograms.
    pub tomograms: Vec<SimulatedTomogram>,
}

/// Simulates tomograms with known particles and writes them as a project that is ready to train.
///
/// # Errors
/// Where there is a project already, a setting makes no sense, or a file cannot be written.
pub fn simulate_project(job: &SimulateJob, progress: &dyn Progress) -> Result<SimulateSummary> {
    let path = job.folder.join(PROJECT_FILE);
    if path.exists() {
        return Err(PipelineError::input(format!(
            "{}: there is a project already; choose another folder",
            path.display()
        )));
    }
    job.params.check().on(&path)?;
    std::fs::create_dir_all(&job.folder)
        .map_err(|source| PipelineError::file(&job.folder, "the folder cannot be made", source))?;
    check_writable(&path)?;
    let templates = builtin_templates(&DEMO_CLASSES)?;
    let mut project = Project::new(&job.folder);
    let mut summary = SimulateSummary {
        project: path.clone(),
        tomograms: Vec::new(),
    };
    for i in 0..=job.training + job.validation {
        let others_seed = job.training_seed.wrapping_add(i as u64);
        let (split, seed) = match i.checked_sub(job.training) {
            None => (Split::Train, others_seed),
            Some(i) if i < job.validation => (Split::Validate, others_seed),
            Some(_) => (Split::Test, job.params.seed),
        };
        let params = SimParams {
            seed,
            ..job.params.clone()
        };
        let simulation = simulate(&templates, &params, progress).on(&path)?;
        let tomogram = write_simulation(&job.folder, &format!("tomo{}", i + 1), split, &simulation)?;
        summary.tomograms.push(SimulatedTomogram {
            name: tomogram.name.clone(),
            split,
            particles: simulation.particles.len(),
        });
        if project.classes.is_empty() {
            project.classes = classes(&templates, &simulation);
        }
        project.tomograms.push(tomogram);
    }
    write_project(&path, &project)?;
    Ok(summary)
}

/// Writes a simulated tomogram, its label map and its particles.
pub(crate) fn write_simulation(
    folder: &Path,
    name: &str,
    split: Split,
    simulation: &Simulation,
) -> Result<ProjectTomogram> {
    let [file, target, picks] = [
        format!("{name}.mrc"),
        format!("{name}_labels.mrc"),
        format!("{name}_particles.xml"),
    ]
    .map(PathBuf::from);
    write_mrc(&folder.join(&file), &simulation.tomogram)?;
    write_mrc(&folder.join(&target), &simulation.labels)?;
    write_particles(&folder.join(&picks), &simulation.particles)?;
    Ok(ProjectTomogram {
        name: name.to_owned(),
        file,
        split,
        picks: Some(picks),
        target: Some(target),
        initial: None,
        swap_xz: false,
        invert: false,
        voxel_size: None,
    })
}

/// The classes of the templates; a class's radius is that of a ball as large as its particles are in the label map.
pub(crate) fn classes(templates: &[Template], simulation: &Simulation) -> Vec<ProjectClass> {
    let voxels = labels_that_occur(&simulation.labels.voxels);
    let particles = simulation.particles.count_by_label();
    let classes = (1..=Label::MAX).zip(templates);
    classes
        .map(|(label, template)| {
            let count = |n: Option<f64>| n.unwrap_or(1.0);
            let volume = count(voxels.get(&label).map(|n| *n as f64))
                / count(particles.get(&label).map(|n| *n as f64));
            let radius = (volume * 3.0 / (4.0 * std::f64::consts::PI)).cbrt();
            ProjectClass {
                label,
                name: template.name.clone(),
                radius: Length::Voxels((10.0 * radius).round() / 10.0),
                mask: None,
            }
        })
        .collect()
}
