use std::path::{Path, PathBuf};

use deepfinder_core::{
    Binned, Label, Particle, ParticleList, Rotation, Volume, VolumeReader, VoxelSize, read_whole,
};
use deepfinder_io::{
    CopickProject, ElementType, OmeZarr, ParticleFormat, ReadOptions, Voxel, WriteOptions,
    check_ome_zarr_writable, encode_particles, is_particle_list, is_volume_url, open_volume,
    read_particle_file, write_ome_zarr, write_particle_file, write_volume,
};
use serde::Serialize;

use crate::error::OnFile;
use crate::lists::choose_tomogram;
use crate::segment::check_output;
use crate::{PipelineError, Result, TomogramOptions, open_tomogram};

/// A conversion to do.
#[derive(Debug, Clone)]
pub struct ConvertJob {
    /// A volume or particle list.
    pub input: PathBuf,
    /// What to write; its ending says the format, unless `to` does. A copick project's configuration takes picks.
    pub output: PathBuf,
    /// How to read a list.
    pub read: ReadOptions,
    /// The format of a list to write.
    pub to: Option<ParticleFormat>,
    /// Of a list that names tomograms, the one to take; else the name to give.
    pub tomogram: Option<String>,
    /// Only particles of this class.
    pub only_class: Option<Label>,
    /// Voxels so many times as large: positions are counted in them, and a volume's voxels are averaged (labels: the most
    /// frequent stays).
    pub bin: Option<f64>,
    /// How to read a volume.
    pub options: TomogramOptions,
    /// Version of OME-Zarr to write.
    pub ome_zarr: OmeZarr,
    /// Write nothing.
    pub dry_run: bool,
}

/// What was converted.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Converted {
    /// A volume.
    Volume {
        /// Size, `(z, y, x)`.
        shape_zyx: [usize; 3],
        /// Edge of a voxel in Å.
        voxel_size_angstrom: Option<f32>,
        /// What was assumed or is odd.
        notes: Vec<String>,
    },
    /// A particle list.
    Particles {
        /// Format it was read in.
        from: String,
        /// Number of particles.
        particles: usize,
        /// Voxels that positions count in, in Å.
        voxel_size_angstrom: Option<f32>,
        /// The first of them.
        first: Vec<Row>,
        /// The same as the output has them; nothing where it is no text.
        first_as_written: Vec<String>,
        /// What was assumed, and what the output cannot hold.
        notes: Vec<String>,
    },
}

/// A particle in this program's convention.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Class.
    pub label: Label,
    /// `(x, y, z)` in voxels, the first voxel's centre at 0.
    pub position_xyz: [f64; 3],
    /// ZXZ angles `(phi, psi, the)` in degrees.
    pub angles_phi_psi_the: Option<[f64; 3]>,
    /// Its tomogram.
    pub tomogram: Option<String>,
}

const ROWS_SHOWN: usize = 5;

/// Converts a volume or a particle list; voxel size, origin, angles and scores are kept where the output has a place.
///
/// # Errors
/// Where the input cannot be read, something that the output needs is not known, or it cannot be written.
pub fn convert(job: &ConvertJob) -> Result<Converted> {
    let is_list = job.read.format.is_some() || is_particle_list(&job.input);
    if is_list {
        convert_particles(job)
    } else {
        convert_volume(job)
    }
}

fn convert_particles(job: &ConvertJob) -> Result<Converted> {
    let file = read_particle_file(&job.input, &job.read)?;
    let (mut list, mut notes) = (file.particles, file.notes);
    if let Some(name) = &job.tomogram {
        choose_tomogram(&mut list, name, &job.input)?;
    }
    if let Some(label) = job.only_class {
        list.particles.retain(|particle| particle.label == label);
    }
    if let Some(factor) = job.bin {
        list.bin(factor)
            .map_err(|error| PipelineError::input(format!("--bin: {error}")))?;
    }
    if job.read.voxel_size.is_some_and(|size| size.angstrom() == 1.0) {
        notes.push("a voxel size of 1 Å was asked for: is that the tomogram's?".to_owned());
    }
    let names = file.classes.classes();
    let classes = if names.is_empty() {
        job.read.classes.clone()
    } else {
        file.classes.clone()
    };
    let options = WriteOptions {
        format: job.to,
        classes,
        tomograms: job.read.tomograms.clone(),
    };
    let first_as_written = if is_copick_project(&job.output) {
        notes.extend(write_to_copick(job, &list, &options)?);
        Vec::new()
    } else {
        if job.dry_run {
            notes.extend(encode_particles(&job.output, &list, &options)?.1);
        } else {
            check_output(&job.output, &job.input)?;
            notes.extend(write_particle_file(&job.output, &list, &options)?);
        }
        first_as_written(&job.output, &list, &options)?
    };
    Ok(Converted::Particles {
        from: file.format.to_string(),
        particles: list.len(),
        voxel_size_angstrom: list.voxel_size.map(VoxelSize::angstrom),
        first: list.iter().take(ROWS_SHOWN).map(row).collect(),
        first_as_written,
        notes,
    })
}

fn row(particle: &Particle) -> Row {
    Row {
        label: particle.label,
        position_xyz: particle.position,
        angles_phi_psi_the: particle.rotation.map(Rotation::to_zxz_degrees),
        tomogram: particle.tomogram.as_deref().map(str::to_owned),
    }
}

/// The first particles alone as the output has them, in lines.
fn first_as_written(path: &Path, list: &ParticleList, options: &WriteOptions) -> Result<Vec<String>> {
    let first = ParticleList {
        particles: list.iter().take(ROWS_SHOWN).cloned().collect(),
        voxel_size: list.voxel_size,
    };
    let (bytes, _) = encode_particles(path, &first, options)?;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    Ok(text
        .iter()
        .flat_map(|text| text.lines())
        .map(str::to_owned)
        .collect())
}

/// Whether that path is the configuration of a copick project, into which picks are written.
fn is_copick_project(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"pickable_objects\""))
}

/// Picks of each tomogram and class into the overlay of a copick project, as user `deepfinder`, session `1`.
fn write_to_copick(job: &ConvertJob, list: &ParticleList, options: &WriteOptions) -> Result<Vec<String>> {
    let project = CopickProject::read(&job.output)?;
    let mut runs: Vec<&str> = list
        .iter()
        .filter_map(|particle| particle.tomogram.as_deref())
        .collect();
    runs.sort_unstable();
    runs.dedup();
    if runs.is_empty() || list.iter().any(|particle| particle.tomogram.is_none()) {
        return Err(PipelineError::input(format!(
            "{}: a copick project keeps picks by run, and the list does not say in which its particles lie: give the run (--tomogram NAME)",
            job.output.display()
        )));
    }
    let mut notes = Vec::new();
    for run in runs {
        if !project.runs.iter().any(|known| known.name == run) {
            notes.push(format!(
                "the project has no run `{run}` yet: it will show only these picks"
            ));
        }
        if job.dry_run {
            continue;
        }
        let mut of_run = list.clone();
        of_run
            .particles
            .retain(|particle| particle.tomogram.as_deref() == Some(run));
        let own = project.classes();
        let classes = if options.classes.classes().is_empty() {
            &own
        } else {
            &options.classes
        };
        let written = project.write_picks(run, &of_run, classes, "deepfinder", "1")?;
        notes.extend(written.iter().map(|path| format!("wrote {}", path.display())));
    }
    Ok(notes)
}

fn convert_volume(job: &ConvertJob) -> Result<Converted> {
    let into_copick = is_copick_project(&job.output);
    if job.to.is_some() || job.only_class.is_some() || (job.tomogram.is_some() && !into_copick) {
        return Err(PipelineError::input(format!(
            "{}: --to, --tomogram and --only-class are for particle lists, and this is a volume",
            job.input.display()
        )));
    }
    let file = open_volume(&job.input)?;
    let info = file.info();
    let factor = bin_of_volume(job)?;
    let mut notes: Vec<String> = if job.options.voxel_size.is_some() {
        info.warnings_beside_voxel_size().map(str::to_owned).collect()
    } else {
        info.warnings.clone()
    };
    let tomogram = open_tomogram(&job.input, job.options)?;
    let binned = Binned::new(tomogram.as_ref(), factor).on(&job.input)?;
    let (shape, voxel_size) = (binned.shape(), binned.voxel_size());
    if factor > 1 {
        notes.push(format!(
            "the first voxel's centre is that of the {factor} × {factor} × {factor} voxels it was made of: the origin moved \
             there. Positions that are binned keep counting from the first voxel's centre, as in RELION"
        ));
    }
    let output = if into_copick {
        let path = segmentation_path(job, voxel_size)?;
        notes.push(format!("the segmentation is {}", path.display()));
        path
    } else {
        job.output.clone()
    };
    if !job.dry_run {
        check_output_volume(&output, &job.input, job.ome_zarr)?;
        // Integers stay integers: a label map must not come out as floating-point numbers.
        let integers = !matches!(
            info.element_type,
            ElementType::F16 | ElementType::F32 | ElementType::F64
        );
        let labels = integers && !job.options.invert;
        let labels = labels.then(|| read_whole(&Binned::new(&file as &dyn VolumeReader<Label>, factor)?));
        if let Some(Ok(labels)) = labels {
            write(&output, &labels.with_voxel_size(voxel_size), job.ome_zarr)?;
        } else if into_copick {
            return Err(PipelineError::input(format!(
                "{}: a copick project takes label maps as segmentations, and this is none",
                job.input.display()
            )));
        } else {
            write(&output, &read_whole(&binned).on(&job.input)?, job.ome_zarr)?;
        }
    }
    Ok(Converted::Volume {
        shape_zyx: shape,
        voxel_size_angstrom: voxel_size.map(VoxelSize::angstrom),
        notes,
    })
}

/// How many voxels along an axis become one.
fn bin_of_volume(job: &ConvertJob) -> Result<usize> {
    match job.bin {
        None => Ok(1),
        Some(factor) if factor >= 1.0 && factor.fract() == 0.0 => Ok(factor as usize),
        Some(factor) => Err(PipelineError::input(format!(
            "--bin {factor}: a volume is binned by a whole number of voxels, 2 or 4 say"
        ))),
    }
}

/// Where a label map goes in a copick project.
fn segmentation_path(job: &ConvertJob, voxel_size: Option<VoxelSize>) -> Result<PathBuf> {
    let (Some(run), Some(size)) = (&job.tomogram, voxel_size) else {
        return Err(PipelineError::input(format!(
            "{}: a copick project keeps segmentations by run and voxel spacing: give the run (--tomogram NAME), and the \
             voxel size where the file does not say it (--voxel-size)",
            job.output.display()
        )));
    };
    let project = CopickProject::read(&job.output)?;
    Ok(project.segmentation_path(run, size, "deepfinder", "1")?)
}

/// Whether OME-Zarr is written there: in a store under any name.
fn is_zarr_name(path: &Path) -> bool {
    let ending = path.extension();
    is_volume_url(path) || ending.is_some_and(|ending| ending.eq_ignore_ascii_case("zarr"))
}

/// As [`check_output`]; a volume of OME-Zarr that is there already is a folder, and is replaced.
fn check_output_volume(output: &Path, input: &Path, version: OmeZarr) -> Result<()> {
    if !is_zarr_name(output) {
        return check_output(output, input);
    }
    check_ome_zarr_writable(output, version)?;
    match (output.canonicalize(), input.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => Err(PipelineError::input(format!(
            "{}: the output would overwrite the input; choose another name",
            output.display()
        ))),
        _ => Ok(()),
    }
}

fn write<T: Voxel>(path: &Path, volume: &Volume<T>, version: OmeZarr) -> Result<()> {
    if is_zarr_name(path) {
        return Ok(write_ome_zarr(path, volume, version)?);
    }
    Ok(write_volume(path, volume)?)
}
