use ndarray::Array3;

use crate::{Region, Result, VolumeReader};

/// Count, mean, spread and range of voxels, gathered piece by piece.
///
/// Non-finite voxels are counted and otherwise left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Finite voxels seen.
    pub count: u64,
    /// NaN and infinite voxels seen.
    pub non_finite: u64,
    /// Arithmetic mean of the finite voxels.
    pub mean: f64,
    sum_of_squared_deviations: f64,
    /// Smallest finite voxel, +∞ where there is none.
    pub min: f32,
    /// Largest finite voxel, −∞ where there is none.
    pub max: f32,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            non_finite: 0,
            mean: 0.0,
            sum_of_squared_deviations: 0.0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }
}

impl Moments {
    /// The moments of these voxels: two passes, so that the result is good to the last digits of an f64.
    pub fn of<'a>(voxels: impl IntoIterator<Item = &'a f32> + Clone) -> Self {
        let mut this = Self::default();
        let mut sum = 0.0;
        for &voxel in voxels.clone() {
            if voxel.is_finite() {
                this.count += 1;
                sum += f64::from(voxel);
                this.min = this.min.min(voxel);
                this.max = this.max.max(voxel);
            } else {
                this.non_finite += 1;
            }
        }
        if this.count > 0 {
            this.mean = sum / this.count as f64;
            this.sum_of_squared_deviations = voxels
                .into_iter()
                .filter(|v| v.is_finite())
                .map(|&v| (f64::from(v) - this.mean).powi(2))
                .sum();
        }
        this
    }

    /// The moments of voxels that are known by how many have which value.
    pub fn of_counts(counts: impl IntoIterator<Item = (f32, u64)> + Clone) -> Self {
        let mut this = Self::default();
        let mut sum = 0.0;
        for (value, count) in counts.clone().into_iter().filter(|(_, count)| *count > 0) {
            if value.is_finite() {
                this.count += count;
                sum += f64::from(value) * count as f64;
                this.min = this.min.min(value);
                this.max = this.max.max(value);
            } else {
                this.non_finite += count;
            }
        }
        if this.count > 0 {
            this.mean = sum / this.count as f64;
            this.sum_of_squared_deviations = counts
                .into_iter()
                .filter(|(value, count)| value.is_finite() && *count > 0)
                .map(|(value, count)| (f64::from(value) - this.mean).powi(2) * count as f64)
                .sum();
        }
        this
    }

    /// The moments of a whole volume, read in slabs of planes.
    ///
    /// # Errors
    /// As [`VolumeReader::read_window`].
    pub fn of_volume(reader: &dyn VolumeReader<f32>) -> Result<Self> {
        const SLAB_VOXELS: usize = 1 << 23;
        let [depth, height, width] = reader.shape();
        let planes = (SLAB_VOXELS / (height * width).max(1)).max(1);
        let mut this = Self::default();
        for z in (0..depth).step_by(planes) {
            let region = Region::new([z, 0, 0], [planes.min(depth - z), height, width]);
            let slab: Array3<f32> = reader.read_window(region)?;
            this = this.merge(Self::of(slab.iter()));
        }
        Ok(this)
    }

    /// The moments of both sets of voxels together (Chan's parallel update).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let [n, a, b] = [count, self.count, other.count].map(|count| count as f64);
        let difference = other.mean - self.mean;
        let (shift, spread) = if count == 0 {
            (0.0, 0.0)
        } else {
            (difference * b / n, difference.powi(2) * a * b / n)
        };
        Self {
            count,
            non_finite: self.non_finite + other.non_finite,
            mean: self.mean + shift,
            sum_of_squared_deviations: self.sum_of_squared_deviations
                + other.sum_of_squared_deviations
                + spread,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Population standard deviation.
    pub fn standard_deviation(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            (self.sum_of_squared_deviations / self.count as f64).sqrt()
        }
    }

    /// Whether all finite voxels are the same, to the rounding of an f32: there is nothing to normalise.
    pub fn is_constant(&self) -> bool {
        self.standard_deviation() <= f64::from(f32::EPSILON) * self.mean.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Volume;

    #[test]
    fn parts_make_the_whole() {
        let volume = Volume::new(Array3::from_shape_fn((5, 7, 9), |(z, y, x)| {
            1e4 + (z * y) as f32 - x as f32
        }));
        let voxels = volume.voxels.as_slice().unwrap();
        let whole = Moments::of(voxels);
        let merged = voxels
            .chunks(17)
            .map(Moments::of)
            .fold(Moments::default(), Moments::merge);
        assert!((whole.mean - merged.mean).abs() < 1e-9);
        assert!((whole.standard_deviation() - merged.standard_deviation()).abs() < 1e-9);
        assert_eq!(
            (whole.min, whole.max, whole.count),
            (merged.min, merged.max, merged.count)
        );
        assert!((Moments::of_volume(&volume).unwrap().mean - whole.mean).abs() < 1e-9);
    }

    #[test]
    fn counts_stand_for_the_voxels() {
        let voxels = [3.0_f32, 0.0, 3.0, f32::NAN, 7.0, 0.0, 0.0];
        let found = Moments::of_counts([(0.0, 3), (3.0, 2), (f32::NAN, 1), (5.0, 0), (7.0, 1)]);
        let expected = Moments::of(&voxels);
        assert_eq!(
            (found.count, found.non_finite, found.min, found.max),
            (6, 1, 0.0, 7.0)
        );
        assert!((found.mean - expected.mean).abs() < 1e-12);
        assert!((found.standard_deviation() - expected.standard_deviation()).abs() < 1e-12);
        assert_eq!(Moments::of_counts([(1.0, 0)]), Moments::default());
    }

    #[test]
    fn non_finite_voxels_are_counted_apart() {
        let moments = Moments::of(&[1.0, f32::NAN, 3.0, f32::INFINITY]);
        assert_eq!((moments.count, moments.non_finite, moments.mean), (2, 2, 2.0));
        assert_eq!(moments.standard_deviation(), 1.0);
        assert!(Moments::of(&[0.1; 1000]).is_constant() && !moments.is_constant());
        assert!(Moments::of(&[]).is_constant());
    }
}
