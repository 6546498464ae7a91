use ndarray::Array3;

use crate::{CoreError, Label, Region, Result, VolumeReader, VoxelSize};

/// A volume with `factor`³ voxels of another made into one: averaged, or for labels the most frequent of them (of
/// several, the lowest). What does not fill a whole voxel at the far ends is left out, as in IMOD's `binvol`.
///
/// It is made as it is read: a window takes the memory of the `factor` planes below one of its own.
pub struct Binned<'a, T> {
    reader: &'a dyn VolumeReader<T>,
    factor: usize,
    shape: [usize; 3],
    voxel_size: Option<VoxelSize>,
}

impl<'a, T> Binned<'a, T> {
    /// # Errors
    /// [`CoreError::Binning`] where the factor is 0 or leaves no voxel; [`CoreError::VoxelSize`] where the voxels would
    /// have no size.
    pub fn new(reader: &'a dyn VolumeReader<T>, factor: usize) -> Result<Self> {
        let shape = reader.shape().map(|n| n.checked_div(factor).unwrap_or(0));
        if shape.contains(&0) {
            let volume = reader.shape();
            return Err(CoreError::Binning { factor, volume });
        }
        let size = reader.voxel_size();
        let size = size.map(|size| VoxelSize::new(size.angstrom() * factor as f32));
        Ok(Self {
            reader,
            factor,
            shape,
            voxel_size: size.transpose()?,
        })
    }

    /// The middle of the voxels that became voxel 0, where those have a size.
    fn origin(&self) -> [f32; 3] {
        let edge = self.reader.voxel_size().map_or(0.0, VoxelSize::angstrom);
        let shift = edge * (self.factor - 1) as f32 / 2.0;
        self.reader.origin_angstrom().map(|place| place + shift)
    }

    fn window(&self, region: Region, merge: impl Fn(&mut Vec<T>) -> T) -> Result<Array3<T>>
    where
        T: Copy + Default,
    {
        region.check_inside(self.shape)?;
        if self.factor == 1 {
            return self.reader.read_window(region);
        }
        let (factor, [_, height, width]) = (self.factor, region.shape);
        let mut voxels = Vec::with_capacity(region.voxels());
        let mut cube = Vec::with_capacity(factor.pow(3));
        for z in region.start[0]..region.end()[0] {
            let start = [z, region.start[1], region.start[2]].map(|place| place * factor);
            let shape = [1, height, width].map(|n| n * factor);
            let planes = self.reader.read_window(Region::new(start, shape))?;
            let planes = planes.as_standard_layout();
            let (planes, row) = (planes.as_slice().unwrap_or_default(), width * factor);
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                cube.clear();
                for (dz, dy) in (0..factor).flat_map(|dz| (0..factor).map(move |dy| (dz, dy))) {
                    let at = (dz * height * factor + y * factor + dy) * row + x * factor;
                    cube.extend_from_slice(&planes[at..at + factor]);
                }
                voxels.push(merge(&mut cube));
            }
        }
        Ok(Array3::from_shape_vec(region.shape, voxels).unwrap_or_default())
    }
}

impl VolumeReader<f32> for Binned<'_, f32> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.voxel_size
    }

    fn origin_angstrom(&self) -> [f32; 3] {
        self.origin()
    }

    fn read_window(&self, region: Region) -> Result<Array3<f32>> {
        self.window(region, |cube| {
            let sum: f64 = cube.iter().map(|&voxel| f64::from(voxel)).sum();
            (sum / cube.len() as f64) as f32
        })
    }
}

impl VolumeReader<Label> for Binned<'_, Label> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.voxel_size
    }

    fn origin_angstrom(&self) -> [f32; 3] {
        self.origin()
    }

    fn read_window(&self, region: Region) -> Result<Array3<Label>> {
        self.window(region, |cube| {
            cube.sort_unstable();
            let runs = cube.chunk_by(|a, b| a == b);
            // The last of several maxima: from the highest label downwards, the lowest.
            let longest = runs.rev().max_by_key(|run| run.len());
            longest.and_then(<[Label]>::first).copied().unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Volume, read_whole};

    #[test]
    fn voxels_are_averaged_and_the_rest_is_left_out() {
        let voxels = Array3::from_shape_fn((3, 5, 4), |(z, y, x)| (100 * z + 10 * y + x) as f32);
        let mut volume = Volume::new(voxels).with_voxel_size(VoxelSize::new(5.0).unwrap());
        volume.origin_angstrom = [1.0, 2.0, 3.0];
        let binned = read_whole(&Binned::new(&volume, 2).unwrap()).unwrap();
        assert_eq!(binned.shape(), [1, 2, 2]);
        assert_eq!(
            binned.voxels.into_raw_vec_and_offset().0,
            [55.5, 57.5, 75.5, 77.5]
        );
        assert_eq!(binned.voxel_size, VoxelSize::new(10.0).ok());
        // The middle of two voxels of 5 Å is 2.5 Å from that of the first.
        assert_eq!(binned.origin_angstrom, [3.5, 4.5, 5.5]);
        let once = Binned::new(&volume, 1).unwrap();
        assert_eq!(read_whole(&once).unwrap(), volume);
        for factor in [0, 4] {
            assert!(matches!(
                Binned::new(&volume, factor),
                Err(CoreError::Binning { .. })
            ));
        }
    }

    #[test]
    fn windows_are_parts_of_the_whole() {
        let volume = Volume::new(Array3::from_shape_fn((6, 7, 9), |(z, y, x)| {
            (z * 63 + y * 9 + x) as f32
        }));
        let binned = Binned::new(&volume, 3).unwrap();
        let whole = read_whole(&binned).unwrap();
        let region = Region::new([1, 0, 1], [1, 2, 2]);
        assert_eq!(binned.read_window(region).unwrap(), whole.window(region).unwrap());
        assert!(binned.read_window(Region::new([1, 0, 2], [1, 2, 2])).is_err());
    }

    #[test]
    fn of_labels_the_most_frequent_stays() {
        let labels = |cube: [Label; 8]| {
            let volume = Volume::new(Array3::from_shape_vec((2, 2, 2), cube.to_vec()).unwrap());
            read_whole(&Binned::new(&volume, 2).unwrap()).unwrap().voxels[[0, 0, 0]]
        };
        assert_eq!(labels([7, 3, 7, 3, 7, 0, 0, 0]), 0);
        assert_eq!(labels([7, 3, 7, 3, 7, 3, 7, 0]), 7);
        assert_eq!(labels([9, 9, 9, 9, 2, 2, 2, 2]), 2);
    }
}
