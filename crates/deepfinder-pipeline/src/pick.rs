use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use deepfinder_cluster::{
    ComponentsParams, DbscanParams, FilterParams, MeanShiftParams, PeaksParams, SizeRange, filter,
};
use deepfinder_core::{ClassTable, Label, ParticleList, Progress, VolumeReader, VoxelSize};
use deepfinder_io::{
    ParticleFormat, TomogramFrame, TomogramTable, VolumeFile, WriteOptions, open_volume, read_label_map,
    write_particle_file,
};
use serde::{Deserialize, Serialize};

use crate::error::OnFile;
use crate::lists::frame_of;
use crate::segment::{check_output, score_map_name};
use crate::{Length, PipelineError, Result};

/// How labelled voxels or scores become particles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PickMethod {
    /// The paper's: voxels move to the densest place within the radius.
    #[default]
    MeanShift,
    /// Touching voxels of one class are a particle.
    Components,
    /// Local maxima of the score maps.
    Peaks,
    /// Density-based clusters.
    Dbscan,
}

impl PickMethod {
    /// All methods, with the name a user gives them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("mean-shift", Self::MeanShift),
        ("components", Self::Components),
        ("peaks", Self::Peaks),
        ("dbscan", Self::Dbscan),
    ];
}

impl FromStr for PickMethod {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, method)| *method).ok_or_else(|| {
            PipelineError::input(format!(
                "`{text}` is no method: use mean-shift, components, peaks or dbscan"
            ))
        })
    }
}

impl fmt::Display for PickMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, method)| method == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// A picking to do.
#[derive(Debug, Clone)]
pub struct PickJob {
    /// A label map; for peaks, a folder of score maps.
    pub input: PathBuf,
    /// The list to write.
    pub output: PathBuf,
    /// How.
    pub method: PickMethod,
    /// Radius of a particle; not needed for components.
    pub radius: Option<Length>,
    /// Clusters of fewer voxels are dropped.
    pub min_size: u64,
    /// The same for single classes.
    pub min_size_of_class: BTreeMap<Label, u64>,
    /// Clusters of more voxels are dropped.
    pub max_size: Option<u64>,
    /// Peaks below this score are dropped.
    pub min_score: f32,
    /// The same for single classes.
    pub min_score_of_class: BTreeMap<Label, f32>,
    /// Of two particles nearer than this, the better is kept.
    pub min_distance: Option<Length>,
    /// At most so many particles of each class are kept.
    pub top: Option<usize>,
    /// Only particles inside this mask are kept.
    pub mask: Option<PathBuf>,
    /// As the published program: positions are modes.
    pub reference: bool,
    /// Voxel size, where the file says none or a wrong one.
    pub voxel_size: Option<VoxelSize>,
    /// Name of the tomogram, to be written into the list.
    pub tomogram: Option<String>,
    /// RELION's tomograms, for lists that count from their middle; where there are none, the label map's own size.
    pub tomograms: TomogramTable,
    /// Format of the list; `None` tells it from the output's ending.
    pub to: Option<ParticleFormat>,
    /// Names of the classes, for formats that name them.
    pub classes: ClassTable,
}

impl PickJob {
    /// Mean-shift of a label map, nothing dropped.
    pub fn new(input: &Path, output: &Path) -> Self {
        Self {
            input: input.to_owned(),
            output: output.to_owned(),
            method: PickMethod::default(),
            radius: None,
            min_size: 0,
            min_size_of_class: BTreeMap::new(),
            max_size: None,
            min_score: 0.5,
            min_score_of_class: BTreeMap::new(),
            min_distance: None,
            top: None,
            mask: None,
            reference: false,
            voxel_size: None,
            tomogram: None,
            tomograms: TomogramTable::default(),
            to: None,
            classes: ClassTable::default(),
        }
    }

    fn radius_voxels(&self, voxel_size: Option<VoxelSize>) -> Result<f64> {
        let radius = self.radius.ok_or_else(|| {
            PipelineError::input(format!(
                "{} needs the particles' radius: pass --radius, in voxels (6) or Å (60A)",
                self.method
            ))
        })?;
        radius.in_voxels(voxel_size)
    }
}

/// What was picked.
#[derive(Debug, Clone)]
pub struct Picked {
    /// The particles written.
    pub particles: ParticleList,
    /// Particles found before anything was dropped.
    pub found: usize,
    /// Seconds that clustering took.
    pub seconds: f64,
}

/// Turns a label map or score maps into particles and writes the list.
///
/// # Errors
/// For files that cannot be read or written, or a method without its radius.
pub fn pick_particles(job: &PickJob, progress: &dyn Progress) -> Result<Picked> {
    check_output(&job.output, &job.input)?;
    let (picked, frame) = find(job, progress)?;
    write_list(job, &picked.particles, frame)?;
    Ok(picked)
}

/// Turns a label map or score maps into particles and writes nothing.
///
/// # Errors
/// As [`pick_particles`].
pub fn find_particles(job: &PickJob, progress: &dyn Progress) -> Result<Picked> {
    find(job, progress).map(|(picked, _)| picked)
}

fn find(job: &PickJob, progress: &dyn Progress) -> Result<(Picked, TomogramFrame)> {
    let mut seconds = 0.0;
    let mut timed = |work: &mut dyn FnMut() -> Result<ParticleList>| {
        let start = std::time::Instant::now();
        let list = work();
        seconds += start.elapsed().as_secs_f64();
        list
    };
    let (mut particles, voxel_size, frame) = match job.method {
        PickMethod::Peaks => {
            let mut list = ParticleList::default();
            let maps = score_maps(&job.input)?;
            let voxel_size = job.voxel_size.or(VolumeReader::<f32>::voxel_size(&maps[0].1));
            let radius = job.radius_voxels(voxel_size)?;
            for (label, map) in &maps {
                let min_score = job.min_score_of_class.get(label).unwrap_or(&job.min_score);
                let params = PeaksParams::new(radius, *min_score).check().on(&job.input)?;
                let peaks = timed(&mut || params.find(map, *label, progress).on(&job.input))?;
                list.particles.extend(peaks.particles);
            }
            let frame = frame_of(&maps[0].1, voxel_size, None);
            (list, voxel_size, frame)
        }
        method => {
            if job.input.is_dir() {
                return Err(PipelineError::input(format!(
                    "{}: {method} works on a label map, not on a folder; for a folder of score maps use --method peaks",
                    job.input.display()
                )));
            }
            let labels: VolumeFile = open_volume(&job.input)?;
            let voxel_size = job.voxel_size.or(labels.voxel_size());
            (
                timed(&mut || cluster(job, &labels, voxel_size, progress))?,
                voxel_size,
                frame_of(&labels, voxel_size, None),
            )
        }
    };
    let found = particles.len();
    let mask = job.mask.as_deref().map(read_label_map).transpose()?;
    let min_distance = job
        .min_distance
        .map(|length| length.in_voxels(voxel_size))
        .transpose()?;
    let params = FilterParams {
        size: SizeRange {
            min: job.min_size,
            max: job.max_size.unwrap_or(u64::MAX),
        },
        size_of_class: job
            .min_size_of_class
            .iter()
            .map(|(label, min)| {
                (
                    *label,
                    SizeRange {
                        min: *min,
                        max: job.max_size.unwrap_or(u64::MAX),
                    },
                )
            })
            .collect(),
        min_distance_within_class: min_distance,
        min_distance_across_classes: min_distance,
        mask: mask.as_ref(),
        top_n: job.top,
        ..FilterParams::default()
    };
    particles = filter(particles, &params).on(&job.input)?;
    particles.voxel_size = voxel_size;
    if let Some(name) = tomogram_name(job) {
        let name = std::sync::Arc::<str>::from(name);
        particles
            .particles
            .iter_mut()
            .for_each(|particle| particle.tomogram = Some(name.clone()));
    }
    let picked = Picked {
        particles,
        found,
        seconds,
    };
    Ok((picked, frame))
}

/// The tomogram's name: as given, or that of RELION's tomograms which the label map is called after.
fn tomogram_name(job: &PickJob) -> Option<&str> {
    let stem = job.input.file_stem().and_then(|stem| stem.to_str());
    let of_relion = || job.tomograms.get(stem)?.name.as_deref();
    job.tomogram.as_deref().or_else(of_relion)
}

/// Writes the list; what its format cannot hold, and what does not fit RELION's tomogram, is logged.
fn write_list(job: &PickJob, particles: &ParticleList, frame: TomogramFrame) -> Result<()> {
    let warn = |what: String| tracing::warn!("{}: {what}", job.output.display());
    let tomograms = if job.tomograms.is_empty() {
        frame.into()
    } else {
        if let Some(relion) = job.tomograms.get(tomogram_name(job)) {
            let expected = relion.shape_in(particles.voxel_size);
            let fits = (0..3).all(|axis| (expected[axis] - frame.shape[axis] as f64).abs() <= 2.0);
            if !fits {
                warn(format!(
                    "the label map has {:?} voxels (z, y, x), but RELION's tomogram has {:?} of that size: is it the \
                     same tomogram, and is its voxel size right?",
                    frame.shape,
                    expected.map(|n| n.round() as u64)
                ));
            }
        }
        job.tomograms.clone()
    };
    let options = WriteOptions {
        format: job.to,
        classes: job.classes.clone(),
        tomograms,
    };
    write_particle_file(&job.output, particles, &options)?
        .into_iter()
        .for_each(warn);
    Ok(())
}

fn cluster(
    job: &PickJob,
    labels: &dyn VolumeReader<Label>,
    voxel_size: Option<VoxelSize>,
    progress: &dyn Progress,
) -> Result<ParticleList> {
    match job.method {
        PickMethod::Components => ComponentsParams::default()
            .check()
            .and_then(|p| p.cluster(labels, progress))
            .on(&job.input),
        PickMethod::Dbscan => DbscanParams::new(job.radius_voxels(voxel_size)?, 4)
            .check()
            .and_then(|p| p.cluster(labels, progress))
            .on(&job.input),
        PickMethod::MeanShift | PickMethod::Peaks => {
            let new = if job.reference {
                MeanShiftParams::reference
            } else {
                MeanShiftParams::new
            };
            new(job.radius_voxels(voxel_size)?)
                .check()
                .and_then(|valid| valid.cluster(labels, progress))
                .on(&job.input)
        }
    }
}

/// The score maps of a folder, background left out.
fn score_maps(folder: &Path) -> Result<Vec<(Label, deepfinder_io::VolumeFile)>> {
    let mut maps = Vec::new();
    for label in 1..=Label::MAX {
        let path = folder.join(score_map_name(usize::from(label)));
        if path.is_file() {
            maps.push((label, open_volume(&path)?));
        }
    }
    if maps.is_empty() {
        return Err(PipelineError::input(format!(
            "{}: there are no score maps (class1.mrc, class2.mrc, …): write them with `deepfinder segment … --scores DIR`",
            folder.display()
        )));
    }
    Ok(maps)
}
