use ndarray::{Array3, s};

use crate::{CoreError, Result};

/// A class label of a voxel or particle; 0 is background.
pub type Label = u8;

/// The label of voxels that belong to no class.
pub const BACKGROUND: Label = 0;

/// One class label per voxel.
pub type LabelMap = Volume<Label>;

/// The edge of a voxel in Å: positive and finite. Tomograms have cubic voxels.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct VoxelSize(f32);

impl VoxelSize {
    /// # Errors
    /// [`CoreError::VoxelSize`] unless `angstrom` is positive and finite.
    pub fn new(angstrom: f32) -> Result<Self> {
        if angstrom.is_finite() && angstrom > 0.0 {
            Ok(Self(angstrom))
        } else {
            Err(CoreError::VoxelSize { found: angstrom })
        }
    }

    /// The edge in Å.
    pub const fn angstrom(self) -> f32 {
        self.0
    }

    /// Whether two sizes agree to a relative tolerance (0.01 is what programs' rounding of headers needs).
    pub fn agrees_with(self, other: Self, relative: f32) -> bool {
        (self.0 - other.0).abs() <= relative * self.0.max(other.0)
    }
}

impl std::fmt::Display for VoxelSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Å", self.0)
    }
}

/// A box of voxels inside a volume, `(z, y, x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// First voxel.
    pub start: [usize; 3],
    /// Size in voxels.
    pub shape: [usize; 3],
}

impl Region {
    /// The box of `shape` voxels that begins at `start`.
    pub const fn new(start: [usize; 3], shape: [usize; 3]) -> Self {
        Self { start, shape }
    }

    /// All of a volume.
    pub const fn whole(shape: [usize; 3]) -> Self {
        Self { start: [0; 3], shape }
    }

    /// One past the last voxel.
    pub fn end(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.start[axis].saturating_add(self.shape[axis]))
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// # Errors
    /// [`CoreError::Window`] where the box reaches outside a volume of that shape.
    pub fn check_inside(&self, volume: [usize; 3]) -> Result<()> {
        let end = self.end();
        if (0..3).all(|axis| end[axis] <= volume[axis]) {
            Ok(())
        } else {
            Err(CoreError::Window {
                start: self.start,
                shape: self.shape,
                volume,
            })
        }
    }
}

/// Voxels on a grid `(z, y, x)`, with the size of one in Å where it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume<T> {
    /// The voxels, `(z, y, x)`.
    pub voxels: Array3<T>,
    /// Edge of a voxel; `None` where the file did not say.
    pub voxel_size: Option<VoxelSize>,
    /// Place of voxel 0 in the file's world, `(x, y, z)` in Å. Carried along, never computed with.
    pub origin_angstrom: [f32; 3],
}

impl<T> Volume<T> {
    /// A volume of unknown voxel size with its origin at 0.
    pub fn new(voxels: Array3<T>) -> Self {
        Self {
            voxels,
            voxel_size: None,
            origin_angstrom: [0.0; 3],
        }
    }

    /// The same voxels, of that size.
    #[must_use]
    pub fn with_voxel_size(mut self, voxel_size: impl Into<Option<VoxelSize>>) -> Self {
        self.voxel_size = voxel_size.into();
        self
    }

    /// Other voxels on the same grid.
    pub fn like<U>(&self, voxels: Array3<U>) -> Volume<U> {
        Volume {
            voxels,
            voxel_size: self.voxel_size,
            origin_angstrom: self.origin_angstrom,
        }
    }

    /// Size, `(z, y, x)`.
    pub fn shape(&self) -> [usize; 3] {
        self.voxels.dim().into()
    }

    /// Whether a position `(x, y, z)` in voxels rounds to a voxel of this volume.
    pub fn contains(&self, position: [f64; 3]) -> bool {
        self.voxel_at(position).is_some()
    }

    /// The index `(z, y, x)` of the voxel that a position `(x, y, z)` rounds to; `None` outside.
    pub fn voxel_at(&self, position: [f64; 3]) -> Option<[usize; 3]> {
        let shape = self.shape();
        let mut index = [0; 3];
        for axis in 0..3 {
            let nearest = position[2 - axis].round();
            if !(nearest >= 0.0 && nearest < shape[axis] as f64) {
                return None;
            }
            index[axis] = nearest as usize;
        }
        Some(index)
    }
}

impl<T: Clone> Volume<T> {
    /// A copy of the voxels in a window.
    ///
    /// # Errors
    /// [`CoreError::Window`] where the window reaches outside.
    pub fn window(&self, region: Region) -> Result<Array3<T>> {
        region.check_inside(self.shape())?;
        let ([z, y, x], [z1, y1, x1]) = (region.start, region.end());
        Ok(self.voxels.slice(s![z..z1, y..y1, x..x1]).to_owned())
    }
}

/// How many voxels have each label.
pub fn count_labels(labels: &[Label]) -> [u64; 256] {
    // Several tables: where neighbours differ, a count should not wait for the one before it.
    let mut tables = [[0_u64; 256]; 4];
    let (groups, rest) = labels.as_chunks::<32>();
    for group in groups {
        // Nearly all of a label map is one label for long stretches.
        let first = group[0];
        if group
            .iter()
            .fold(0, |different, label| different | (label ^ first))
            == 0
        {
            tables[0][usize::from(first)] += group.len() as u64;
            continue;
        }
        for four in group.as_chunks::<4>().0 {
            for (table, &label) in tables.iter_mut().zip(four) {
                table[usize::from(label)] += 1;
            }
        }
    }
    let mut counts = [0; 256];
    for &label in rest {
        counts[usize::from(label)] += 1;
    }
    for (label, count) in counts.iter_mut().enumerate() {
        *count += tables.iter().map(|table| table[label]).sum::<u64>();
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voxel_sizes_are_lengths() {
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(VoxelSize::new(bad).is_err(), "{bad}");
        }
        let [a, b] = [10.0, 10.05].map(|size| VoxelSize::new(size).unwrap());
        assert!(a.agrees_with(b, 0.01) && !a.agrees_with(b, 0.001));
    }

    #[test]
    fn labels_are_counted() {
        for length in 0..20_u8 {
            let labels: Vec<Label> = (0..length).map(|i| i % 3 * 100).collect();
            let counts = count_labels(&labels);
            assert_eq!(counts.iter().sum::<u64>(), u64::from(length));
            for label in [0, 100, 200] {
                let expected = (0..length).filter(|i| i % 3 * 100 == label).count() as u64;
                assert_eq!(counts[usize::from(label)], expected, "{label} of {length}");
            }
        }
    }

    #[test]
    fn windows_stay_inside() {
        let volume = Volume::new(Array3::from_shape_fn((2, 3, 4), |(z, y, x)| 100 * z + 10 * y + x));
        let window = volume.window(Region::new([1, 1, 2], [1, 2, 2])).unwrap();
        assert_eq!(window.into_raw_vec_and_offset().0, [112, 113, 122, 123]);
        assert!(volume.window(Region::new([1, 1, 2], [1, 2, 3])).is_err());
        assert!(volume.window(Region::new([usize::MAX, 0, 0], [2, 1, 1])).is_err());
    }

    #[test]
    fn positions_are_xyz_and_round() {
        let volume = Volume::new(Array3::<u8>::zeros((2, 3, 4)));
        assert_eq!(volume.voxel_at([3.4, 1.6, 0.0]), Some([0, 2, 3]));
        assert_eq!(volume.voxel_at([3.5, 0.0, 0.0]), None);
        assert_eq!(volume.voxel_at([-0.5, 0.0, 0.0]), None);
        assert!(volume.contains([-0.49, 0.0, 0.0]));
        assert_eq!(volume.voxel_at([f64::NAN, 0.0, 0.0]), None);
    }
}
