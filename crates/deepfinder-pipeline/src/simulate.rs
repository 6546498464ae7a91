use std::path::{Path, PathBuf};

use deepfinder_core::{Class, ClassTable, Label, ParticleList, Progress, VoxelSize};
use deepfinder_io::{
    Assembly, MrcWriter, ReadOptions, check_writable, read_particles, write_file_atomically, write_mrc,
    write_particles,
};
use deepfinder_sim::{
    DEMO_CLASSES, SimParams, Simulation, Template, TiltSeriesParams, Truth, TruthWriters, simulate,
    simulate_particles, simulate_tilt_series,
};
use serde::Serialize;

use crate::error::OnFile;
use crate::init::write_project;
use crate::project::PROJECT_FILE;
use crate::templates::{TemplateSource, load_templates};
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
    /// The kinds of particles, labelled from 1; those of the demo where there are none.
    pub classes: Vec<TemplateSource>,
    /// How density is made of atomic structures.
    pub structures: StructureOptions,
    /// Particles of the tomogram to test with, instead of random ones.
    pub particles: Option<PathBuf>,
    /// First voxel `(z, y, x)` of a box as large as the tomogram: only particles of the list whose centre lies in it are
    /// taken, and counted from there.
    pub crop_start: Option<[usize; 3]>,
    /// Take a tilt series and reconstruct it, instead of the quick way.
    pub microscope: Option<TiltSeriesParams>,
    /// Write the tilt series too.
    pub keep_tilt_series: bool,
}

/// How density is made of atomic structures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StructureOptions {
    /// Voxel size; 10 Å where none is given.
    pub voxel_size: Option<VoxelSize>,
    /// Resolution in Å; two voxels where none is given.
    pub resolution_angstrom: Option<f64>,
    /// Which copies of a structure's chains are meant.
    pub assembly: Assembly,
}

impl SimulateJob {
    /// One tomogram to test with, of the demo's classes, the quick way.
    pub fn new(folder: &Path, params: SimParams) -> Self {
        Self {
            folder: folder.to_owned(),
            training: 0,
            validation: 0,
            training_seed: params.seed.wrapping_add(1),
            params,
            classes: Vec::new(),
            structures: StructureOptions::default(),
            particles: None,
            crop_start: None,
            microscope: None,
            keep_tilt_series: false,
        }
    }
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
    job.microscope
        .as_ref()
        .map_or(Ok(()), TiltSeriesParams::check)
        .on(&path)?;
    let templates = if job.classes.is_empty() {
        load_templates(&DEMO_CLASSES.map(TemplateSource::built_in), &job.structures)?
    } else {
        load_templates(&job.classes, &job.structures)?
    };
    let particles = job
        .particles
        .as_deref()
        .map(|list| listed(list, &templates))
        .transpose()?;
    let particles = match (particles, job.crop_start) {
        (Some(list), Some(start)) => Some(cropped(list, start, job.params.shape, job.particles.as_deref())?),
        (list, _) => list,
    };
    std::fs::create_dir_all(&job.folder)
        .map_err(|source| PipelineError::file(&job.folder, "the folder cannot be made", source))?;
    check_writable(&path)?;
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
        let name = format!("tomo{}", i + 1);
        let given = particles.as_ref().filter(|_| split == Split::Test);
        let truth = match &job.microscope {
            None => {
                let simulation = match given {
                    None => simulate(&templates, &params, progress),
                    Some(list) => simulate_particles(&templates, list, &params, progress),
                };
                let simulation = simulation.on(&path)?;
                write_simulation(&job.folder, &name, &simulation)?;
                (simulation.particles, simulation.classes)
            }
            Some(microscope) => {
                let files = Files::new(&job.folder, &name);
                let truth = with_microscope(job, &templates, given, &params, microscope, &files, progress)?;
                (truth.particles, truth.classes)
            }
        };
        let (found, table) = truth;
        summary.tomograms.push(SimulatedTomogram {
            name: name.clone(),
            split,
            particles: found.len(),
        });
        if project.classes.is_empty() {
            project.classes = classes(&table, &found);
        }
        project.tomograms.push(project_tomogram(name, split));
    }
    write_project(&path, &project)?;
    Ok(summary)
}

/// The particles of a list, whose classes are the templates.
fn listed(path: &Path, templates: &[Template]) -> Result<ParticleList> {
    let classes = (1..=Label::MAX).zip(templates).map(|(label, template)| Class {
        label,
        name: template.name.clone(),
        radius_voxels: None,
    });
    let classes =
        ClassTable::new(classes.collect()).map_err(|error| PipelineError::input(error.to_string()))?;
    let mut list = read_particles(
        path,
        &ReadOptions {
            classes,
            ..ReadOptions::default()
        },
    )?;
    // All of them stand in this one tomogram, whatever it was called.
    list.particles
        .iter_mut()
        .for_each(|particle| particle.tomogram = None);
    Ok(list)
}

/// The particles whose centre lies in a box of that shape, by their place in it.
fn cropped(
    mut list: ParticleList,
    start: [usize; 3],
    shape: [usize; 3],
    path: Option<&Path>,
) -> Result<ParticleList> {
    let all = list.len();
    list.particles.retain_mut(|particle| {
        let mut is_inside = true;
        for (axis, coordinate) in particle.position.iter_mut().enumerate() {
            let zyx = 2 - axis;
            *coordinate -= start[zyx] as f64;
            // A voxel reaches half of its edge from its centre.
            is_inside &= (-0.5..shape[zyx] as f64 - 0.5).contains(coordinate);
        }
        is_inside
    });
    if list.is_empty() {
        return Err(PipelineError::input(format!(
            "{}: none of its {all} particles lies in the box of {shape:?} voxels that begins at {start:?} (z, y, x)",
            path.unwrap_or(Path::new("the list")).display()
        )));
    }
    Ok(list)
}

/// The files of a simulated tomogram, relative to their folder.
struct Files {
    tomogram: PathBuf,
    labels: PathBuf,
    particle_ids: PathBuf,
    particles: PathBuf,
    tilt_series: PathBuf,
    tilts: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str) -> Self {
        let file = |ending: &str| folder.join(format!("{name}{ending}"));
        Self {
            tomogram: file(".mrc"),
            labels: file("_labels.mrc"),
            particle_ids: file("_particle_ids.mrc"),
            particles: file("_particles.xml"),
            tilt_series: file("_tilt_series.mrc"),
            tilts: file("_tilt_series.tlt"),
        }
    }
}

/// Takes a tilt series, reconstructs it, and writes everything as it comes.
fn with_microscope(
    job: &SimulateJob,
    templates: &[Template],
    particles: Option<&ParticleList>,
    params: &SimParams,
    microscope: &TiltSeriesParams,
    files: &Files,
    progress: &dyn Progress,
) -> Result<Truth> {
    let shape = params.shape;
    let size = params
        .voxel_size
        .or(templates.first().and_then(|template| template.density.voxel_size));
    let mut labels = MrcWriter::<u8>::create(&files.labels, shape, size, [0.0; 3])?;
    let mut particle_ids = MrcWriter::<u16>::create(&files.particle_ids, shape, size, [0.0; 3])?;
    let mut writers = TruthWriters {
        labels: &mut labels,
        particle_ids: &mut particle_ids,
    };
    let (series, truth) =
        simulate_tilt_series(templates, particles, params, microscope, &mut writers, progress)
            .on(&files.tomogram)?;
    let mut tomogram = MrcWriter::<f32>::create(&files.tomogram, shape, size, [0.0; 3])?;
    series
        .reconstruct(shape, microscope, &mut tomogram, progress)
        .on(&files.tomogram)?;
    labels.finish()?;
    particle_ids.finish()?;
    if job.keep_tilt_series {
        let images = deepfinder_core::Volume::new(series.images).with_voxel_size(size);
        write_mrc(&files.tilt_series, &images)?;
        let angles: Vec<String> = series
            .tilts_degrees
            .iter()
            .map(|tilt| format!("{tilt:.2}\n"))
            .collect();
        write_file_atomically(&files.tilts, angles.concat().as_bytes())?;
    }
    write_particles(&files.particles, &truth.particles)?;
    tomogram.finish()?;
    Ok(truth)
}

/// Writes a simulated tomogram, its label map, its map of particle numbers and its particles.
fn write_simulation(folder: &Path, name: &str, simulation: &Simulation) -> Result<()> {
    let files = Files::new(folder, name);
    write_mrc(&files.labels, &simulation.labels)?;
    write_mrc(&files.particle_ids, &simulation.particle_ids)?;
    write_particles(&files.particles, &simulation.particles)?;
    Ok(write_mrc(&files.tomogram, &simulation.tomogram)?)
}

/// A simulated tomogram as the project names it.
fn project_tomogram(name: String, split: Split) -> ProjectTomogram {
    let files = Files::new(Path::new(""), &name);
    ProjectTomogram {
        name,
        file: files.tomogram,
        split,
        picks: Some(files.particles),
        target: Some(files.labels),
        initial: None,
        swap_xz: false,
        invert: false,
        voxel_size: None,
    }
}

/// The classes of a project; a class's radius is that of a ball as large as its particles are in the label map.
fn classes(table: &ClassTable, particles: &ParticleList) -> Vec<ProjectClass> {
    let radius_of = |class: &Class| {
        let sizes: Vec<f64> = particles
            .iter()
            .filter(|particle| particle.label == class.label)
            .filter_map(|particle| particle.size_voxels)
            .map(|size| size as f64)
            .collect();
        let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
        if mean > 0.0 {
            (mean * 3.0 / (4.0 * std::f64::consts::PI)).cbrt()
        } else {
            class.radius_voxels.map_or(1.0, f64::from)
        }
    };
    let rounded = |radius: f64| ((10.0 * radius).round() / 10.0).max(0.1);
    table
        .classes()
        .iter()
        .map(|class| ProjectClass {
            label: class.label,
            name: class.name.clone(),
            radius: Length::Voxels(rounded(radius_of(class))),
            mask: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::Particle;

    #[test]
    fn a_crop_takes_the_particles_in_its_box_and_counts_from_there() {
        let at = |x: f64, y: f64, z: f64| Particle::new([x, y, z], 1);
        let list = ParticleList::from(vec![
            at(9.5, 20.0, 30.0),
            at(9.4, 20.0, 30.0),
            at(17.4, 27.4, 34.4),
            at(17.5, 20.0, 30.0),
            at(12.0, 19.0, 30.0),
        ]);
        let found = cropped(list.clone(), [30, 20, 10], [5, 8, 8], None).unwrap();
        let positions: Vec<_> = found.iter().map(|particle| particle.position).collect();
        assert_eq!(positions.len(), 2);
        assert_eq!(positions[0], [-0.5, 0.0, 0.0]);
        let error = cropped(list, [0; 3], [5, 8, 8], Some(Path::new("a.xml"))).unwrap_err();
        assert!(error.to_string().contains("a.xml: none of its 5"), "{error}");
    }
}
