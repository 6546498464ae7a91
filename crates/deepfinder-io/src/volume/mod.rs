//! Volumes: one module a format, joined by the table in [`format`].

mod element;
mod em;
mod format;
mod hdf5;
mod mrc;
mod npy;
mod raw;
mod tiff;
mod tiff_tags;
mod tiff_write;
mod zarr;

use std::path::{Path, PathBuf};

use deepfinder_core::{LabelMap, Region, Volume, VolumeReader, VoxelSize};
use ndarray::{Array3, s};

pub use element::{ElementType, Voxel};
pub use format::{
    VolumeFormat, VolumeFormatEntry, is_volume_folder, open_volume, volume_formats, write_volume,
};
pub use hdf5::{open_hdf5_dataset, write_hdf5, write_hdf5_datasets};
pub use mrc::{MrcWriter, write_mrc};
pub use zarr::{OmeZarr, check_ome_zarr_writable, is_url as is_volume_url, write_ome_zarr};

use crate::{IoError, Result};
use element::{Decoded, NoLabel};

/// What a volume's header says, without its voxels having been read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Format of the file, by its content.
    pub format: VolumeFormat,
    /// Size, `(z, y, x)`.
    pub shape: [usize; 3],
    /// How a voxel is stored.
    pub element_type: ElementType,
    /// Edge of a voxel, where the file says.
    pub voxel_size: Option<VoxelSize>,
    /// Place of voxel 0, `(x, y, z)` in Å.
    pub origin_angstrom: [f32; 3],
    /// What is unusual about the file, and what was assumed.
    pub warnings: Vec<String>,
}

impl VolumeInfo {
    /// The warnings that are left where the voxel size is known from elsewhere, or does not matter.
    pub fn warnings_beside_voxel_size(&self) -> impl Iterator<Item = &str> {
        let warnings = self.warnings.iter().map(String::as_str);
        warnings.filter(|warning| !warning.contains("voxel size"))
    }
}

/// A volume on disk: a [`VolumeReader`] of voxels as `f32`, and of labels as `u8`.
///
/// Nothing but the header is read until windows are asked for, and then only the rows or chunks they touch;
/// gzip and bzip2 files alone are unpacked into memory as a whole.
pub struct VolumeFile {
    path: PathBuf,
    info: VolumeInfo,
    voxels: Box<dyn Windows>,
}

impl VolumeFile {
    /// What its header says.
    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size, `(z, y, x)`.
    pub fn shape(&self) -> [usize; 3] {
        self.info.shape
    }

    /// Edge of a voxel, where the file says.
    pub fn voxel_size(&self) -> Option<VoxelSize> {
        self.info.voxel_size
    }

    fn whole<T: Decoded>(&self, read: impl Fn(Region) -> Result<Array3<T>>) -> Result<Volume<T>> {
        let [depth, height, width] = self.shape();
        let voxels = self.voxels_checked()?;
        let planes = (SLAB_VOXELS / (height * width).max(1)).max(1);
        // Grown by what was read, so that no header makes for an allocation its file cannot fill.
        let mut stack = Vec::new();
        stack.try_reserve_exact(voxels).map_err(|_| self.too_large())?;
        for z in (0..depth).step_by(planes) {
            let slab = read(Region::new([z, 0, 0], [planes.min(depth - z), height, width]))?;
            stack.extend(slab.iter());
        }
        let voxels =
            Array3::from_shape_vec(self.shape(), stack).map_err(IoError::format(&self.path, "volume"))?;
        Ok(Volume {
            voxels,
            voxel_size: self.info.voxel_size,
            origin_angstrom: self.info.origin_angstrom,
        })
    }

    fn voxels_checked(&self) -> Result<usize> {
        let [depth, height, width] = self.shape();
        let count = depth.checked_mul(height).and_then(|n| n.checked_mul(width));
        count.ok_or_else(|| self.too_large())
    }

    fn too_large(&self) -> IoError {
        let what = format!(
            "{:?} voxels (z, y, x) do not fit into memory: read windows of it, or bin it first",
            self.shape()
        );
        IoError::unsupported(&self.path, what)
    }
}

impl std::fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeFile")
            .field("path", &self.path)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl VolumeReader<f32> for VolumeFile {
    fn shape(&self) -> [usize; 3] {
        self.info.shape
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.info.voxel_size
    }

    fn origin_angstrom(&self) -> [f32; 3] {
        self.info.origin_angstrom
    }

    fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<f32>> {
        region.check_inside(self.info.shape)?;
        Ok(self.voxels.window_f32(&self.path, region)?)
    }
}

/// Labels; a window with a voxel that is none is an error.
impl VolumeReader<u8> for VolumeFile {
    fn shape(&self) -> [usize; 3] {
        self.info.shape
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.info.voxel_size
    }

    fn origin_angstrom(&self) -> [f32; 3] {
        self.info.origin_angstrom
    }

    fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<u8>> {
        region.check_inside(self.info.shape)?;
        Ok(self.voxels.window_u8(&self.path, region)?)
    }
}

/// A whole volume as `f32`, whatever its format and element type.
///
/// # Errors
/// As [`open_volume`]; also where the volume does not fit into memory.
pub fn read_volume(path: &Path) -> Result<Volume<f32>> {
    let file = open_volume(path)?;
    file.whole(|region| file.voxels.window_f32(path, region))
}

/// A whole label map, whatever its format and element type.
///
/// # Errors
/// As [`read_volume`]; [`IoError::NoLabel`] where a voxel is not a whole number from 0 to 255.
pub fn read_label_map(path: &Path) -> Result<LabelMap> {
    let file = open_volume(path)?;
    file.whole(|region| file.voxels.window_u8(path, region))
}

/// Voxels that are read at a time where a window need not be in memory twice.
const SLAB_VOXELS: usize = 1 << 22;

/// A format's reader: windows inside the volume, which its caller has checked.
trait Source: Send + Sync {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>>;
}

/// [`Source`] as an object.
trait Windows: Send + Sync {
    fn window_f32(&self, path: &Path, region: Region) -> Result<Array3<f32>>;
    fn window_u8(&self, path: &Path, region: Region) -> Result<Array3<u8>>;
}

impl<S: Source> Windows for S {
    fn window_f32(&self, path: &Path, region: Region) -> Result<Array3<f32>> {
        self.window(path, region)
    }

    fn window_u8(&self, path: &Path, region: Region) -> Result<Array3<u8>> {
        self.window(path, region)
    }
}

/// Copies a window out of whole planes of `f32`, of which the first is plane `z` of the volume.
fn crop_planes<T: Decoded>(
    path: &Path,
    planes: &Array3<f32>,
    z: usize,
    region: Region,
    window: &mut Array3<T>,
) -> Result<()> {
    let ([z0, y0, x0], [z1, y1, x1]) = (region.start, region.end());
    let end = z1.min(z + planes.dim().0);
    let crop = planes.slice(s![..end - z, y0..y1, x0..x1]);
    let shape = crop.dim();
    let values = T::collect(crop.iter().copied()).map_err(|NoLabel { index, value }| IoError::NoLabel {
        path: path.to_owned(),
        at: [
            z + index / (shape.1 * shape.2),
            y0 + index / shape.2 % shape.1,
            x0 + index % shape.2,
        ],
        value,
    })?;
    let crop = Array3::from_shape_vec(shape, values).map_err(IoError::format(path, "volume"))?;
    window.slice_mut(s![z - z0..end - z0, .., ..]).assign(&crop);
    Ok(())
}
