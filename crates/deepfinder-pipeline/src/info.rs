use std::collections::BTreeMap;
use std::path::Path;

use deepfinder_core::{Label, Moments, ParticleList, Progress, Region, VolumeReader};
use deepfinder_io::{ReadOptions, VolumeFile, VolumeInfo, open_volume, read_particles};
use serde::Serialize;

use crate::error::OnFile;
use crate::{Model, Project, Result};

/// What a file holds.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FileSummary {
    /// A tomogram, label map or score map.
    Volume(VolumeSummary),
    /// Particles.
    Particles(ParticlesSummary),
    /// A trained network.
    Weights(WeightsSummary),
    /// A project.
    Project(ProjectSummary),
}

/// What a volume holds.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeSummary {
    /// Format of the file.
    pub format: String,
    /// Size, `(z, y, x)`.
    pub shape_zyx: [usize; 3],
    /// How a voxel is stored.
    pub element_type: String,
    /// Edge of a voxel in Å.
    pub voxel_size_angstrom: Option<f32>,
    /// Place of voxel 0, `(x, y, z)` in Å.
    pub origin_angstrom_xyz: [f32; 3],
    /// Mean of the finite voxels.
    pub mean: f64,
    /// Their standard deviation.
    pub standard_deviation: f64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// Voxels of each label, where all voxels are small whole numbers.
    pub labels: Option<BTreeMap<Label, u64>>,
    /// What looks wrong.
    pub warnings: Vec<String>,
}

/// What a particle list holds.
#[derive(Debug, Clone, Serialize)]
pub struct ParticlesSummary {
    /// Number of particles.
    pub particles: usize,
    /// Number by label.
    pub by_label: BTreeMap<Label, usize>,
    /// Number by tomogram, where the list names them.
    pub by_tomogram: BTreeMap<String, usize>,
    /// Smallest position, `(x, y, z)` in voxels.
    pub first_xyz: [f64; 3],
    /// Largest position.
    pub last_xyz: [f64; 3],
    /// Particles with an orientation.
    pub with_rotation: usize,
    /// Particles with a score.
    pub with_score: usize,
    /// What looks wrong.
    pub warnings: Vec<String>,
}

/// What weights hold.
#[derive(Debug, Clone, Serialize)]
pub struct WeightsSummary {
    /// Kind of network, with its version.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Scores per voxel: the classes and background.
    pub scores: usize,
    /// Names of the classes by label.
    pub classes: BTreeMap<Label, String>,
    /// Voxel size it learned from, in Å.
    pub voxel_size_angstrom: Option<f32>,
    /// Anything else its file says.
    pub extra: BTreeMap<String, String>,
}

/// What a project holds.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectSummary {
    /// Names of the classes by label.
    pub classes: BTreeMap<Label, String>,
    /// Names of the tomograms, and what they are for.
    pub tomograms: BTreeMap<String, crate::Split>,
    /// Files that are named but not there.
    pub missing: Vec<String>,
}

/// Says what a file holds: told by its content where that speaks, else by its ending.
///
/// # Errors
/// Where the file cannot be read as anything known.
pub fn file_summary(path: &Path, progress: &dyn Progress) -> Result<FileSummary> {
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    match ending.as_str() {
        "toml" => project_summary(path).map(FileSummary::Project),
        _ if path.is_dir() => project_summary(path).map(FileSummary::Project),
        "safetensors" => weights_summary(path).map(FileSummary::Weights),
        "xml" | "csv" | "tsv" | "txt" => Ok(FileSummary::Particles(particles_summary(&read_particles(
            path,
            &ReadOptions::default(),
        )?))),
        "h5" | "hdf5" => match open_volume(path) {
            Ok(file) => volume_summary(&file, path, progress).map(FileSummary::Volume),
            Err(error) => weights_summary(path)
                .map(FileSummary::Weights)
                .map_err(|_| error.into()),
        },
        _ => volume_summary(&open_volume(path)?, path, progress).map(FileSummary::Volume),
    }
}

fn volume_summary(file: &VolumeFile, path: &Path, progress: &dyn Progress) -> Result<VolumeSummary> {
    let VolumeInfo {
        format,
        shape,
        element_type,
        voxel_size,
        origin_angstrom,
        warnings,
        ..
    } = file.info();
    let moments = Moments::of_volume(file).on(path)?;
    progress.check().on(path)?;
    let whole = moments.min >= 0.0 && moments.max <= f32::from(Label::MAX) && moments.non_finite == 0;
    let labels = if whole { count_if_labels(file) } else { None };
    let mut warnings = warnings.clone();
    if moments.non_finite > 0 {
        warnings.push(format!(
            "{} voxels are not finite (NaN or infinite)",
            moments.non_finite
        ));
    }
    if moments.is_constant() {
        warnings.push("all voxels have the same value".to_owned());
    }
    Ok(VolumeSummary {
        format: format.to_string(),
        shape_zyx: *shape,
        element_type: element_type.to_string(),
        voxel_size_angstrom: voxel_size.map(deepfinder_core::VoxelSize::angstrom),
        origin_angstrom_xyz: *origin_angstrom,
        mean: moments.mean,
        standard_deviation: moments.standard_deviation(),
        min: moments.min,
        max: moments.max,
        labels,
        warnings,
    })
}

/// The labels of a volume, plane by plane; `None` as soon as a voxel is no label.
fn count_if_labels(file: &VolumeFile) -> Option<BTreeMap<Label, u64>> {
    let reader: &dyn VolumeReader<Label> = file;
    let [depth, height, width] = reader.shape();
    let mut counts = BTreeMap::new();
    for z in 0..depth {
        let plane = reader
            .read_window(Region::new([z, 0, 0], [1, height, width]))
            .ok()?;
        for (label, count) in crate::target::labels_that_occur(&plane) {
            *counts.entry(label).or_default() += count;
        }
    }
    Some(counts)
}

fn particles_summary(list: &ParticleList) -> ParticlesSummary {
    let mut by_tomogram = BTreeMap::new();
    for name in list.iter().filter_map(|particle| particle.tomogram.as_deref()) {
        *by_tomogram.entry(name.to_owned()).or_default() += 1;
    }
    let bound = |start: f64, choose: fn(f64, f64) -> f64| {
        std::array::from_fn(|axis| {
            list.iter()
                .map(|particle| particle.position[axis])
                .fold(start, choose)
        })
    };
    let (first_xyz, last_xyz): ([f64; 3], [f64; 3]) =
        (bound(f64::INFINITY, f64::min), bound(f64::NEG_INFINITY, f64::max));
    let mut warnings = Vec::new();
    if list.is_empty() {
        warnings.push("the list is empty".to_owned());
    }
    if first_xyz.iter().any(|position| *position < 0.0) {
        warnings.push("some positions are negative: other voxel, origin or axis convention?".to_owned());
    }
    ParticlesSummary {
        particles: list.len(),
        by_label: list.count_by_label(),
        by_tomogram,
        first_xyz,
        last_xyz,
        with_rotation: list.iter().filter(|particle| particle.rotation.is_some()).count(),
        with_score: list.iter().filter(|particle| particle.score.is_some()).count(),
        warnings,
    }
}

fn weights_summary(path: &Path) -> Result<WeightsSummary> {
    let model = Model::read(path)?;
    let metadata = model.weights.metadata();
    Ok(WeightsSummary {
        architecture: format!("{} v{}", metadata.architecture, metadata.architecture_version),
        parameters: model.weights.parameters(),
        scores: model.weights.scores(),
        classes: model
            .classes()
            .classes()
            .iter()
            .map(|class| (class.label, class.name.clone()))
            .collect(),
        voxel_size_angstrom: metadata.voxel_size_angstrom,
        extra: metadata.extra.clone(),
    })
}

fn project_summary(path: &Path) -> Result<ProjectSummary> {
    let project = Project::read(path)?;
    let files = project.tomograms.iter().flat_map(|tomogram| {
        [
            Some(&tomogram.file),
            tomogram.picks.as_ref(),
            tomogram.target.as_ref(),
            tomogram.initial.as_ref(),
        ]
    });
    let masks = project.classes.iter().map(|class| class.mask.as_ref());
    let missing = files
        .chain(masks)
        .flatten()
        .filter(|file| !project.resolve(file).exists());
    Ok(ProjectSummary {
        classes: project
            .classes
            .iter()
            .map(|class| (class.label, class.name.clone()))
            .collect(),
        tomograms: project
            .tomograms
            .iter()
            .map(|tomogram| (tomogram.name.clone(), tomogram.split))
            .collect(),
        missing: missing.map(|file| file.display().to_string()).collect(),
    })
}
