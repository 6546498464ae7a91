use ndarray::{Array3, ArrayView3};

use crate::{Region, Result, Volume, VoxelSize};

/// A volume that is read window by window, so that a tomogram need not fit in memory.
///
/// A [`Volume`] is one too; files are, through `deepfinder-io`.
pub trait VolumeReader<T>: Send + Sync {
    /// Size, `(z, y, x)`.
    fn shape(&self) -> [usize; 3];

    /// Edge of a voxel, where it is known.
    fn voxel_size(&self) -> Option<VoxelSize>;

    /// Place of voxel 0, `(x, y, z)` in Å.
    fn origin_angstrom(&self) -> [f32; 3] {
        [0.0; 3]
    }

    /// A copy of the voxels in a window, in C order.
    ///
    /// # Errors
    /// `CoreError::Window` where the window reaches outside, `CoreError::Stream` where reading fails.
    fn read_window(&self, region: Region) -> Result<Array3<T>>;
}

impl<T: Clone + Send + Sync> VolumeReader<T> for Volume<T> {
    fn shape(&self) -> [usize; 3] {
        self.shape()
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.voxel_size
    }

    fn origin_angstrom(&self) -> [f32; 3] {
        self.origin_angstrom
    }

    fn read_window(&self, region: Region) -> Result<Array3<T>> {
        self.window(region)
    }
}

/// A volume that is written as slabs of whole planes, from z = 0 upwards.
pub trait VolumeWriter<T>: Send {
    /// Takes the next planes, `(z, y, x)`.
    ///
    /// # Errors
    /// `CoreError::Stream` where writing fails or the planes do not fit.
    fn write_slab(&mut self, planes: ArrayView3<'_, T>) -> Result<()>;

    /// The same volume as one that takes windows in any order: of a file whose voxels have fixed places. It is written
    /// one way or the other.
    fn windows(&mut self) -> Option<&mut dyn WindowWriter<T>> {
        None
    }
}

/// A volume that is written window by window, in any order.
pub trait WindowWriter<T> {
    /// Takes the voxels of a window that begins at `start`; both `(z, y, x)`. No voxel is given twice.
    ///
    /// # Errors
    /// `CoreError::Stream` where writing fails or the window does not fit.
    fn write_window(&mut self, start: [usize; 3], voxels: ArrayView3<'_, T>) -> Result<()>;
}

impl<T: Clone + Send> VolumeWriter<T> for Vec<Array3<T>> {
    fn write_slab(&mut self, planes: ArrayView3<'_, T>) -> Result<()> {
        self.push(planes.to_owned());
        Ok(())
    }
}

/// The whole of a volume that is known to fit in memory.
///
/// # Errors
/// As [`VolumeReader::read_window`].
pub fn read_whole<T>(reader: &dyn VolumeReader<T>) -> Result<Volume<T>> {
    let voxels = reader.read_window(Region::whole(reader.shape()))?;
    Ok(Volume {
        voxels,
        voxel_size: reader.voxel_size(),
        origin_angstrom: reader.origin_angstrom(),
    })
}
