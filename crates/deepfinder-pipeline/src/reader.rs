use std::path::Path;
use std::sync::Arc;

use deepfinder_core::{Region, VolumeReader, VoxelSize};
use deepfinder_io::open_volume;
use ndarray::Array3;

use crate::{PipelineError, Result};

/// How a tomogram's file is to be understood.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TomogramOptions {
    /// Particles are bright: multiply the voxels by −1.
    pub invert: bool,
    /// Voxel size, where the file says none or a wrong one.
    pub voxel_size: Option<VoxelSize>,
}

/// A tomogram's file with its options applied, still read window by window.
struct Tomogram {
    file: Box<dyn VolumeReader<f32>>,
    options: TomogramOptions,
}

impl VolumeReader<f32> for Tomogram {
    fn shape(&self) -> [usize; 3] {
        self.file.shape()
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.options.voxel_size.or(self.file.voxel_size())
    }

    fn origin_angstrom(&self) -> [f32; 3] {
        self.file.origin_angstrom()
    }

    fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<f32>> {
        let mut voxels = self.file.read_window(region)?;
        if self.options.invert {
            voxels.mapv_inplace(|voxel| -voxel);
        }
        Ok(voxels)
    }
}

/// Opens a tomogram, to be read lazily.
///
/// What is odd about the file is logged; that it does not say its voxel size is left to those to whom it matters.
///
/// # Errors
/// Where the file cannot be read as a volume.
pub fn open_tomogram(path: &Path, options: TomogramOptions) -> Result<Arc<dyn VolumeReader<f32>>> {
    let file = open_volume(path)?;
    let info = file.info();
    let warn = |warning: &str| tracing::warn!("{}: {warning}", path.display());
    if options.voxel_size.is_some() || info.voxel_size.is_none() {
        info.warnings_beside_voxel_size().for_each(warn);
    } else {
        info.warnings.iter().map(String::as_str).for_each(warn);
    }
    Ok(Arc::new(Tomogram {
        file: Box::new(file),
        options,
    }))
}

/// Opens a label map, to be read lazily.
///
/// # Errors
/// Where the file cannot be read as a volume.
pub fn open_label_map(path: &Path) -> Result<Arc<dyn VolumeReader<u8>>> {
    Ok(Arc::new(open_volume(path)?))
}

/// A voxel size in Å given by a user.
///
/// # Errors
/// Where it is no length.
pub fn voxel_size(angstrom: Option<f32>) -> Result<Option<VoxelSize>> {
    angstrom
        .map(VoxelSize::new)
        .transpose()
        .map_err(|error| PipelineError::input(error.to_string()))
}
