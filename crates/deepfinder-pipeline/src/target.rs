use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deepfinder_core::{
    ClassTable, Label, ParticleList, Progress, Volume, VolumeWriter, VoxelSize, count_labels,
};
use deepfinder_io::{
    MrcWriter, ReadOptions, VolumeFormat, check_writable, open_volume, read_label_map, volume_formats,
    write_volume,
};
use deepfinder_target::{ClassOrder, ParticleShape, TargetParams, TargetReport, write_target};
use ndarray::{Array3, Axis};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::OnFile;
use crate::lists::read_particles_in;
use crate::{Length, PipelineError, Result};

/// What a class looks like in a target, as a user says it.
#[derive(Debug, Clone, PartialEq)]
pub enum ShapeSource {
    /// A sphere of that radius.
    Sphere(Length),
    /// A small ball at the centre of a particle of that radius: [`deepfinder_target::point_radius`].
    Point(Length),
    /// A binary volume.
    Mask(PathBuf),
}

/// A target to draw.
#[derive(Debug, Clone)]
pub struct TargetJob {
    /// The annotated particles.
    pub picks: PathBuf,
    /// How to read them.
    pub read: ReadOptions,
    /// The tomogram they belong to.
    pub like: PathBuf,
    /// Its voxel size, where the file says none or a wrong one.
    pub voxel_size: Option<VoxelSize>,
    /// Its name: of a list that spans several tomograms, only its particles are drawn.
    pub tomogram: Option<String>,
    /// Shape of each class, by name or label.
    pub shapes: Vec<(String, ShapeSource)>,
    /// Classes, by name or label, in the order in which they are drawn: later ones over earlier ones, those not named
    /// beneath them all. Where it is empty, later particles of the list lie over earlier ones.
    pub order: Vec<String>,
    /// A label map to draw onto.
    pub initial: Option<PathBuf>,
    /// The label map to write.
    pub output: PathBuf,
}

/// What was drawn.
#[derive(Debug, Clone, Serialize)]
pub struct TargetSummary {
    /// The label map.
    pub output: PathBuf,
    /// Particles drawn.
    pub particles: usize,
    /// Numbers (from 1) of the particles that lie wholly outside the tomogram.
    pub outside: Vec<usize>,
    /// Voxels of each label.
    pub voxels_by_label: BTreeMap<Label, u64>,
}

/// Draws the target of a tomogram and writes it.
///
/// # Errors
/// For unreadable files, classes without a shape, an order that names a class twice, an output that cannot be written.
pub fn make_target(job: &TargetJob, progress: &dyn Progress) -> Result<TargetSummary> {
    check_writable(&job.output)?;
    let tomogram = open_volume(&job.like)?;
    let info = tomogram.info();
    let voxel_size = job.voxel_size.or(info.voxel_size);
    let particles = read_particles_in(
        &job.picks,
        &job.read,
        job.tomogram.as_deref(),
        &tomogram,
        voxel_size,
    )?;
    let mut shapes = BTreeMap::new();
    for (class, source) in &job.shapes {
        let label = label_of(class, &job.read.classes)?;
        let shape = match source {
            ShapeSource::Sphere(radius) => ParticleShape::Sphere {
                radius_voxels: radius.in_voxels(voxel_size)?,
            },
            ShapeSource::Point(radius) => {
                let radius = radius.in_voxels(voxel_size)?;
                // What is no radius is refused as that of a sphere, below.
                if radius > 0.0 {
                    ParticleShape::point(radius)
                } else {
                    ParticleShape::Sphere {
                        radius_voxels: radius,
                    }
                }
            }
            ShapeSource::Mask(path) => ParticleShape::Mask(read_label_map(path)?),
        };
        shapes.insert(label, shape);
    }
    let order = job.order.iter().map(|class| label_of(class, &job.read.classes));
    let params = TargetParams {
        order: match order.collect::<Result<Vec<_>>>()? {
            none if none.is_empty() => ClassOrder::AsListed,
            classes => ClassOrder::Classes(classes),
        },
        ..TargetParams::new(shapes)
    };
    // What is wrong here, no file is to blame for.
    params
        .check()
        .map_err(|error| PipelineError::input(error.to_string()))?;
    let initial = job.initial.as_deref().map(read_label_map).transpose()?;
    let draw = |target: &mut dyn VolumeWriter<Label>| {
        write_target(
            info.shape,
            &particles,
            &params,
            initial.as_ref(),
            target,
            progress,
        )
        .on(&job.picks)
    };
    let (report, counts) = if is_mrc(&job.output) {
        let mut target =
            MrcWriter::<Label>::create(&job.output, info.shape, voxel_size, info.origin_angstrom)?;
        let drawn = draw(&mut target)?;
        target.finish()?;
        drawn
    } else {
        let mut slabs: Vec<Array3<Label>> = Vec::new();
        let drawn = draw(&mut slabs)?;
        let slabs: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
        let voxels = ndarray::concatenate(Axis(0), &slabs)
            .map_err(|error| PipelineError::input(format!("{}: {error}", job.like.display())))?;
        let target = Volume {
            voxels,
            voxel_size,
            origin_angstrom: info.origin_angstrom,
        };
        write_volume(&job.output, &target)?;
        drawn
    };
    Ok(summary(job, info.shape, &particles, &report, &counts))
}

/// Whether a volume of that name is written as MRC, which takes planes as they come.
fn is_mrc(path: &Path) -> bool {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    volume_formats()
        .iter()
        .any(|entry| entry.format == VolumeFormat::Mrc && entry.extensions.contains(&extension.as_str()))
}

fn summary(
    job: &TargetJob,
    shape: [usize; 3],
    particles: &ParticleList,
    report: &TargetReport,
    counts: &[u64; 256],
) -> TargetSummary {
    let outside: Vec<usize> = report.outside.iter().map(|index| index + 1).collect();
    if !outside.is_empty() {
        tracing::warn!(
            "{}: {} of {} particles lie outside the tomogram of {:?} voxels (z, y, x): \
             is this its list, and is x the fastest axis (else --swap-xz)?",
            job.picks.display(),
            outside.len(),
            particles.len(),
            shape
        );
    }
    TargetSummary {
        output: job.output.clone(),
        particles: report.drawn,
        outside,
        voxels_by_label: that_occur(counts),
    }
}

/// Voxels of each label that occurs.
pub(crate) fn labels_that_occur(labels: &Array3<Label>) -> BTreeMap<Label, u64> {
    let planes = labels.axis_iter(Axis(0)).into_par_iter();
    let counts = planes
        .map(|plane| count_labels(plane.as_standard_layout().as_slice().unwrap_or_default()))
        .reduce(
            || [0; 256],
            |mut all, plane| {
                all.iter_mut().zip(plane).for_each(|(all, count)| *all += count);
                all
            },
        );
    that_occur(&counts)
}

fn that_occur(counts: &[u64; 256]) -> BTreeMap<Label, u64> {
    (0..=Label::MAX)
        .zip(counts.iter().copied())
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The label of a class given by name or number.
fn label_of(class: &str, classes: &ClassTable) -> Result<Label> {
    let named = classes.by_name(class).map(|class| class.label);
    named
        .or_else(|| class.parse().ok().filter(|label| *label > 0))
        .ok_or_else(|| {
            PipelineError::input(format!(
                "`{class}` is no class: give its label (1 to 255), or a name that the project or --class NAME=LABEL gives to one"
            ))
        })
}
