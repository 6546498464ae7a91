use deepfinder_core::{Label, Volume};
use ndarray::Array3;

use crate::{AverageError, Result};

/// From which value on a voxel of a map belongs to the particle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum MaskThreshold {
    /// The value that parts the map's values into two kinds that spread least (Otsu 1979, IEEE Trans. SMC 9:62).
    #[default]
    Automatic,
    /// So many standard deviations above the map's mean.
    Deviations(f64),
    /// The value itself.
    Value(f64),
}

/// The shape of a particle: 1 in the largest piece of a map that reaches the threshold, voxels touching by their faces,
/// and 0 elsewhere. What a class's `mask` in a project wants.
///
/// # Errors
/// [`AverageError::EmptyMask`] where no voxel reaches it.
pub fn threshold_mask(map: &Volume<f32>, threshold: MaskThreshold) -> Result<Volume<Label>> {
    let voxels = &map.voxels;
    let (min, max) = voxels
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &v| {
            (min.min(v), max.max(v))
        });
    let threshold = match threshold {
        MaskThreshold::Automatic => otsu(voxels, min, max),
        MaskThreshold::Deviations(deviations) => {
            let moments = deepfinder_core::Moments::of(voxels.iter());
            moments.mean + deviations * moments.standard_deviation()
        }
        MaskThreshold::Value(value) => value,
    };
    let reaches = voxels.mapv(|voxel| f64::from(voxel) >= threshold);
    let largest = largest_piece(&reaches);
    if largest.is_empty() {
        return Err(AverageError::EmptyMask { threshold, min, max });
    }
    let mut mask = Array3::zeros(voxels.dim());
    for voxel in largest {
        mask[voxel] = 1;
    }
    Ok(map.like(mask))
}

/// Otsu's threshold on a histogram of 256 bins.
fn otsu(voxels: &Array3<f32>, min: f32, max: f32) -> f64 {
    const BINS: usize = 256;
    let width = f64::from(max - min) / BINS as f64;
    if width.is_nan() || width <= 0.0 {
        return f64::from(max);
    }
    let mut histogram = [0_u64; BINS];
    for &voxel in voxels {
        histogram[((f64::from(voxel - min) / width) as usize).min(BINS - 1)] += 1;
    }
    let total = voxels.len() as f64;
    let sum: f64 = histogram
        .iter()
        .enumerate()
        .map(|(bin, n)| bin as f64 * *n as f64)
        .sum();
    let (mut below, mut sum_below) = (0.0, 0.0);
    let (mut best, mut best_bin) = (0.0, 0);
    for (bin, &n) in histogram.iter().enumerate() {
        below += n as f64;
        sum_below += bin as f64 * n as f64;
        let above = total - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let difference = sum_below / below - (sum - sum_below) / above;
        let between = below * above * difference * difference;
        if between > best {
            (best, best_bin) = (between, bin);
        }
    }
    f64::from(min) + width * (best_bin + 1) as f64
}

/// The voxels of the largest piece; of equals the first in C order.
fn largest_piece(inside: &Array3<bool>) -> Vec<[usize; 3]> {
    let mut seen = Array3::from_elem(inside.dim(), false);
    let mut largest = Vec::new();
    for ((z, y, x), &is_inside) in inside.indexed_iter() {
        if !is_inside || seen[[z, y, x]] {
            continue;
        }
        seen[[z, y, x]] = true;
        let mut piece = vec![[z, y, x]];
        let mut next = 0;
        while let Some(&voxel) = piece.get(next) {
            next += 1;
            for axis in 0..3 {
                for step in [-1, 1] {
                    let mut neighbour = voxel;
                    let Some(moved) = voxel[axis].checked_add_signed(step) else {
                        continue;
                    };
                    neighbour[axis] = moved;
                    if inside.get(neighbour) == Some(&true) && !seen[neighbour] {
                        seen[neighbour] = true;
                        piece.push(neighbour);
                    }
                }
            }
        }
        if piece.len() > largest.len() {
            largest = piece;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    /// A cube of 4³ and a smaller one of 2³, bright on a rippled ground.
    fn map() -> Volume<f32> {
        let mut map = Array3::from_shape_fn((12, 12, 12), |(z, y, x)| {
            ((z * 37 + y * 101 + x * 13) % 5) as f32 * 0.05
        });
        map.slice_mut(s![1..5, 1..5, 1..5])
            .mapv_inplace(|voxel| voxel + 1.0);
        map.slice_mut(s![8..10, 8..10, 8..10])
            .mapv_inplace(|voxel| voxel + 2.0);
        Volume::new(map)
    }

    #[test]
    fn the_largest_piece_is_the_particle() {
        for threshold in [
            MaskThreshold::Automatic,
            MaskThreshold::Value(0.7),
            MaskThreshold::Deviations(1.0),
        ] {
            let mask = threshold_mask(&map(), threshold).unwrap();
            assert_eq!(
                mask.voxels.iter().map(|&v| usize::from(v)).sum::<usize>(),
                64,
                "{threshold:?}"
            );
            assert_eq!((mask.voxels[[1, 1, 4]], mask.voxels[[8, 8, 8]]), (1, 0));
        }
        assert_eq!(
            threshold_mask(&map(), MaskThreshold::Value(1.5)).unwrap().voxels[[8, 8, 8]],
            1
        );
        let error = threshold_mask(&map(), MaskThreshold::Value(5.0)).unwrap_err();
        assert!(error.to_string().contains("reaches the threshold 5"), "{error}");
    }
}
