use std::path::{Path, PathBuf};

use deepfinder_core::{Particle, read_whole};
use deepfinder_io::{
    ElementType, ReadOptions, open_volume, read_label_map, read_particles, write_particles, write_volume,
};
use serde::Serialize;

use crate::error::OnFile;
use crate::segment::check_output;
use crate::{Result, TomogramOptions, open_tomogram};

/// A conversion to do.
#[derive(Debug, Clone)]
pub struct ConvertJob {
    /// A volume or particle list.
    pub input: PathBuf,
    /// What to write; its ending says the format.
    pub output: PathBuf,
    /// How to read a list.
    pub read: ReadOptions,
    /// How to read a volume.
    pub options: TomogramOptions,
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
    },
    /// A particle list.
    Particles {
        /// Number of particles.
        particles: usize,
        /// The first of them, with label and `(x, y, z)` in voxels.
        first: Vec<(u8, [f64; 3])>,
    },
}

const LIST_ENDINGS: [&str; 4] = ["xml", "csv", "tsv", "txt"];
const ROWS_SHOWN: usize = 5;

/// Converts a volume or a particle list; voxel size, origin, angles and scores are kept.
///
/// # Errors
/// Where the input cannot be read or the output's format cannot hold it.
pub fn convert(job: &ConvertJob) -> Result<Converted> {
    if !job.dry_run {
        check_output(&job.output, &job.input)?;
    }
    if is_list(&job.input) {
        convert_particles(job)
    } else {
        convert_volume(job)
    }
}

pub(crate) fn is_list(path: &Path) -> bool {
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    LIST_ENDINGS.contains(&ending.as_str())
}

fn convert_particles(job: &ConvertJob) -> Result<Converted> {
    let list = read_particles(&job.input, &job.read)?;
    if !job.dry_run {
        write_particles(&job.output, &list)?;
    }
    let row = |particle: &Particle| (particle.label, particle.position);
    Ok(Converted::Particles {
        particles: list.len(),
        first: list.iter().take(ROWS_SHOWN).map(row).collect(),
    })
}

fn convert_volume(job: &ConvertJob) -> Result<Converted> {
    let file = open_volume(&job.input)?;
    let info = file.info();
    let voxel_size = job.options.voxel_size.or(info.voxel_size);
    if !job.dry_run {
        // Integers stay integers: a label map must not come out as floating-point numbers.
        let integers = !matches!(
            info.element_type,
            ElementType::F16 | ElementType::F32 | ElementType::F64
        );
        let labels = integers && !job.options.invert;
        if let Some(Ok(labels)) = labels.then(|| read_label_map(&job.input)) {
            write_volume(&job.output, &labels.with_voxel_size(voxel_size))?;
        } else {
            let tomogram = open_tomogram(&job.input, job.options)?;
            write_volume(&job.output, &read_whole(tomogram.as_ref()).on(&job.input)?)?;
        }
    }
    Ok(Converted::Volume {
        shape_zyx: info.shape,
        voxel_size_angstrom: voxel_size.map(deepfinder_core::VoxelSize::angstrom),
    })
}
