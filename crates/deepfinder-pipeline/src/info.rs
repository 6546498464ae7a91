use std::collections::BTreeMap;
use std::path::Path;

use deepfinder_core::{Label, Moments, ParticleList, Progress, Region, VolumeReader};
use deepfinder_io::{
    CopickProject, ParticleFile, ReadOptions, TomogramTable, VolumeFile, VolumeInfo, is_particle_list,
    open_volume, read_particle_file,
};
use deepfinder_net::Head;
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
    /// RELION's list of tomograms.
    Tomograms(TomogramsSummary),
    /// A copick project.
    Copick(CopickSummary),
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

/// What RELION's list of tomograms holds.
#[derive(Debug, Clone, Serialize)]
pub struct TomogramsSummary {
    /// Size of each unbinned tomogram, `(z, y, x)`.
    pub unbinned_shape_zyx: BTreeMap<String, [usize; 3]>,
    /// Pixel size of each tilt series in Å.
    pub pixel_size_angstrom: BTreeMap<String, Option<f32>>,
    /// How many times each reconstruction is binned.
    pub binning: BTreeMap<String, Option<f64>>,
}

/// What a copick project holds.
#[derive(Debug, Clone, Serialize)]
pub struct CopickSummary {
    /// Names of the objects by label.
    pub classes: BTreeMap<Label, String>,
    /// Voxel spacings of the tomograms of each run, in Å.
    pub tomograms: BTreeMap<String, Vec<f32>>,
    /// Files of picks of each run.
    pub picks: BTreeMap<String, usize>,
}

/// What a particle list holds.
#[derive(Debug, Clone, Serialize)]
pub struct ParticlesSummary {
    /// Format of the file.
    pub format: String,
    /// Edge of the voxels that positions count in, in Å, where the list says.
    pub voxel_size_angstrom: Option<f32>,
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
    /// Names of the classes, where the list gives them.
    pub class_names: BTreeMap<Label, String>,
    /// Particles with an orientation.
    pub with_rotation: usize,
    /// How orientations spread, where there are any.
    pub orientations: Option<Orientations>,
    /// Particles with a score.
    pub with_score: usize,
    /// What was assumed to read it.
    pub assumed: Vec<String>,
    /// What looks wrong.
    pub warnings: Vec<String>,
}

/// How the z axes of particles spread over the sphere.
#[derive(Debug, Clone, Serialize)]
pub struct Orientations {
    /// Smallest, mean and largest angle between a particle's z axis and the tomogram's, in degrees.
    pub tilt_degrees_min_mean_max: [f64; 3],
    /// Of 48 equal parts of the sphere, those that hold a z axis.
    pub parts_of_48_covered: usize,
}

/// What weights hold.
#[derive(Debug, Clone, Serialize)]
pub struct WeightsSummary {
    /// Kind of network, with its version.
    pub architecture: String,
    /// Level that its last layer stands on: `full`, or `half`.
    pub head: Head,
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

/// Says what a file holds: told by its content where that speaks, else by its ending. With the tomograms that a list
/// lies in, positions outside them are found too.
///
/// # Errors
/// Where the file cannot be read as anything known.
pub fn file_summary(path: &Path, tomograms: &TomogramTable, progress: &dyn Progress) -> Result<FileSummary> {
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    match ending.as_str() {
        "toml" => project_summary(path).map(FileSummary::Project),
        _ if path.is_dir() && !deepfinder_io::is_volume_folder(path) => {
            project_summary(path).map(FileSummary::Project)
        }
        "safetensors" => weights_summary(path).map(FileSummary::Weights),
        "json" if is_copick_project(path) => copick_summary(path).map(FileSummary::Copick),
        _ if is_particle_list(path) => {
            let options = ReadOptions {
                tomograms: tomograms.clone(),
                is_preview: true,
                ..ReadOptions::default()
            };
            match (read_particle_file(path, &options), ending.as_str()) {
                (Ok(file), _) => Ok(FileSummary::Particles(particles_summary(&file))),
                (Err(error), "star") => tomograms_summary(path)
                    .map(FileSummary::Tomograms)
                    .map_err(|_| error.into()),
                (Err(error), _) => Err(error.into()),
            }
        }
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
    let [depth, height, width] = *shape;
    if depth > height.max(width) {
        warnings.push(format!(
            "z is the longest axis ({depth} of {height} and {width}): is x the slowest axis here?"
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

fn is_copick_project(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"pickable_objects\""))
}

fn copick_summary(path: &Path) -> Result<CopickSummary> {
    let project = CopickProject::read(path)?;
    let classes = project.classes();
    let spacings =
        |run: &deepfinder_io::CopickRun| run.tomograms.iter().map(|(size, _)| size.angstrom()).collect();
    Ok(CopickSummary {
        classes: classes
            .classes()
            .iter()
            .map(|class| (class.label, class.name.clone()))
            .collect(),
        tomograms: project
            .runs
            .iter()
            .map(|run| (run.name.clone(), spacings(run)))
            .collect(),
        picks: project
            .runs
            .iter()
            .map(|run| (run.name.clone(), run.picks.len()))
            .collect(),
    })
}

fn tomograms_summary(path: &Path) -> Result<TomogramsSummary> {
    let table = TomogramTable::read(path)?;
    let mut summary = TomogramsSummary {
        unbinned_shape_zyx: BTreeMap::new(),
        pixel_size_angstrom: BTreeMap::new(),
        binning: BTreeMap::new(),
    };
    for frame in table.frames() {
        let name = frame.name.clone().unwrap_or_default();
        summary.unbinned_shape_zyx.insert(name.clone(), frame.shape);
        let size = frame.voxel_size.map(deepfinder_core::VoxelSize::angstrom);
        summary.pixel_size_angstrom.insert(name.clone(), size);
        summary.binning.insert(name, frame.binning);
    }
    Ok(summary)
}

fn particles_summary(file: &ParticleFile) -> ParticlesSummary {
    let list = &file.particles;
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
    ParticlesSummary {
        format: file.format.to_string(),
        voxel_size_angstrom: list.voxel_size.map(deepfinder_core::VoxelSize::angstrom),
        particles: list.len(),
        by_label: list.count_by_label(),
        by_tomogram,
        first_xyz,
        last_xyz,
        class_names: file
            .classes
            .classes()
            .iter()
            .map(|class| (class.label, class.name.clone()))
            .collect(),
        with_rotation: list.iter().filter(|particle| particle.rotation.is_some()).count(),
        orientations: orientations(list),
        with_score: list.iter().filter(|particle| particle.score.is_some()).count(),
        warnings: list_warnings(file, first_xyz, last_xyz),
        assumed: file.notes.clone(),
    }
}

fn list_warnings(file: &ParticleFile, first: [f64; 3], last: [f64; 3]) -> Vec<String> {
    let list = &file.particles;
    let mut warnings = Vec::new();
    if list.is_empty() {
        warnings.push("the list is empty".to_owned());
        return warnings;
    }
    if first.iter().any(|position| *position < 0.0) {
        warnings.push("some positions are negative: other voxel, origin or axis convention?".to_owned());
    }
    if list.len() > 1
        && first
            .iter()
            .chain(&last)
            .all(|position| (0.0..=1.0).contains(position))
    {
        warnings.push(
            "all positions lie between 0 and 1: parts of the tomogram, as template matching in WarpTools gives them?"
                .to_owned(),
        );
    }
    // Tomograms are flat; a cube is no reason to ask.
    if last[2] > 1.2 * last[0].max(last[1]) {
        warnings.push("positions reach furthest along z: is x the slowest axis here (--swap-xz)?".to_owned());
    }
    if list.voxel_size.is_some_and(|size| size.angstrom() == 1.0) {
        warnings
            .push("a voxel size of 1 Å, as many programs write when they do not know: check it".to_owned());
    }
    let mut outside: BTreeMap<&str, (usize, [f64; 3])> = BTreeMap::new();
    for particle in list.iter() {
        let name = particle.tomogram.as_deref();
        let Some(frame) = file.tomograms.get(name) else {
            continue;
        };
        let shape = frame.shape_in(list.voxel_size);
        let is_inside = (0..3).all(|axis| (-0.5..shape[2 - axis]).contains(&particle.position[axis]));
        if !is_inside {
            let (count, furthest) = outside.entry(name.unwrap_or("the tomogram")).or_default();
            *count += 1;
            for axis in 0..3 {
                furthest[axis] = furthest[axis].max(particle.position[axis] / shape[2 - axis]);
            }
        }
    }
    for (name, (count, furthest)) in outside {
        let reach = furthest.iter().copied().fold(0.0, f64::max);
        let hint = if reach > 1.5 {
            format!(
                ": they reach {reach:.1} times its size. Are they of a tomogram binned otherwise (--bin)?"
            )
        } else {
            ": other axis order or origin?".to_owned()
        };
        warnings.push(format!("{count} positions lie outside {name}{hint}"));
    }
    let rotations = list.iter().filter_map(|particle| particle.rotation);
    let first_rotation = rotations.clone().next();
    if rotations.clone().count() > 1
        && first_rotation.is_some_and(|first| rotations.clone().all(|r| r == first))
    {
        warnings.push("all orientations are the same: are they known at all?".to_owned());
    }
    warnings
}

/// How z axes spread: four bands of equal area and twelve sectors make 48 equal parts.
fn orientations(list: &ParticleList) -> Option<Orientations> {
    let axes = list
        .iter()
        .filter_map(|particle| Some(particle.rotation?.apply([0.0, 0.0, 1.0])));
    let tilts: Vec<f64> = axes
        .clone()
        .map(|[_, _, z]| z.clamp(-1.0, 1.0).acos().to_degrees())
        .collect();
    if tilts.is_empty() {
        return None;
    }
    let parts: std::collections::BTreeSet<(u8, u8)> = axes
        .map(|[x, y, z]| {
            let band = ((z + 1.0) * 2.0).clamp(0.0, 3.0) as u8;
            let turn = (y.atan2(x) / std::f64::consts::TAU + 0.5) * 12.0;
            (band, turn.clamp(0.0, 11.0) as u8)
        })
        .collect();
    Some(Orientations {
        tilt_degrees_min_mean_max: [
            tilts.iter().copied().fold(f64::INFINITY, f64::min),
            tilts.iter().sum::<f64>() / tilts.len() as f64,
            tilts.iter().copied().fold(0.0, f64::max),
        ],
        parts_of_48_covered: parts.len(),
    })
}

fn weights_summary(path: &Path) -> Result<WeightsSummary> {
    let model = Model::read(path)?;
    let metadata = model.weights.metadata();
    Ok(WeightsSummary {
        architecture: format!("{} v{}", metadata.architecture, metadata.architecture_version),
        head: model.weights.head(),
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
