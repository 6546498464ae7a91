//! Windows of a tomogram: read lazily, reflected where the tomogram is thinner than the patch, normalised.

use deepfinder_core::{CoreError, Moments, Region, VolumeReader};
use ndarray::Array3;

/// First voxel `(z, y, x)` of the cubic patch that is centred on a voxel and moved inside the volume. Negative on an
/// axis where the volume is thinner than the patch, and then centred on the volume.
pub(crate) fn patch_start(centre: [i64; 3], shape: [usize; 3], patch: usize) -> [i64; 3] {
    let side = patch as i64;
    std::array::from_fn(|axis| {
        let room = shape[axis] as i64 - side;
        if room < 0 {
            room.div_euclid(2)
        } else {
            (centre[axis] - side / 2).clamp(0, room)
        }
    })
}

/// The cubic patch that begins there; voxels outside the volume are reflections (without repeating the edge).
pub(crate) fn read_patch<T: Copy>(
    reader: &dyn VolumeReader<T>,
    start: [i64; 3],
    patch: usize,
) -> Result<Array3<T>, CoreError> {
    let shape = reader.shape();
    let first = start.map(|first| first.max(0) as usize);
    let size = std::array::from_fn(|axis| {
        let end = (start[axis] + patch as i64).max(0) as usize;
        end.min(shape[axis]) - first[axis].min(shape[axis])
    });
    let window = reader.read_window(Region::new(first, size))?;
    if size == [patch; 3] {
        return Ok(window);
    }
    let places: [Vec<usize>; 3] = std::array::from_fn(|axis| {
        let reflected = |i| reflect(start[axis] + i, shape[axis]) - first[axis];
        (0..patch as i64).map(reflected).collect()
    });
    let [z, y, x] = &places;
    Ok(Array3::from_shape_fn([patch; 3], |(i, j, k)| {
        window[[z[i], y[j], x[k]]]
    }))
}

/// The voxel that a patch shows at an index, `(z, y, x)`.
pub(crate) fn voxel_shown(start: [i64; 3], index: [usize; 3], shape: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| reflect(start[axis] + index[axis] as i64, shape[axis]))
}

/// The index inside `0..n` that an index outside is a mirror image of.
pub(crate) fn reflect(index: i64, n: usize) -> usize {
    let period = (2 * n as i64 - 2).max(1);
    let folded = index.rem_euclid(period);
    folded.min(period - folded).min(n as i64 - 1) as usize
}

/// Brings a patch to mean 0 and population standard deviation 1; a constant one becomes 0.
///
/// # Errors
/// The index `(z, y, x)` of the first voxel that is not finite.
pub(crate) fn normalise(patch: &mut Array3<f32>) -> Result<(), [usize; 3]> {
    let moments = Moments::of(patch.iter());
    if moments.non_finite > 0 {
        let found = patch.indexed_iter().find(|(_, voxel)| !voxel.is_finite());
        return Err(found.map_or([0; 3], |((z, y, x), _)| [z, y, x]));
    }
    if moments.is_constant() {
        patch.fill(0.0);
    } else {
        let (mean, spread) = (moments.mean, moments.standard_deviation());
        patch.mapv_inplace(|voxel| ((f64::from(voxel) - mean) / spread) as f32);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::Volume;
    use proptest::prelude::*;

    #[test]
    fn reflections_do_not_repeat_the_edge() {
        let reflected = |n| (-4..6).map(|i| reflect(i, n)).collect::<Vec<_>>();
        assert_eq!(reflected(3), [0, 1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!(reflected(2), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(reflected(1), [0; 10]);
        assert_eq!(reflected(6), [4, 3, 2, 1, 0, 1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn patches_show_the_voxels_they_say(
            shape in [1usize..14, 1usize..14, 1usize..14],
            centre in [-3i64..16, -3i64..16, -3i64..16],
            quarter in 1usize..3,
        ) {
            let patch = 4 * quarter;
            let volume = Volume::new(Array3::from_shape_fn(shape, |(z, y, x)| 10_000 * z + 100 * y + x));
            let start = patch_start(centre, shape, patch);
            let window = read_patch(&volume, start, patch).unwrap();
            for ((z, y, x), &value) in window.indexed_iter() {
                let voxel = voxel_shown(start, [z, y, x], shape);
                prop_assert_eq!(value, volume.voxels[voxel]);
            }
            for axis in 0..3 {
                if shape[axis] >= patch {
                    prop_assert!(start[axis] >= 0 && start[axis] as usize + patch <= shape[axis]);
                }
            }
        }
    }

    #[test]
    fn patches_are_normalised() {
        let mut patch = Array3::from_shape_fn((4, 4, 4), |(z, y, x)| 1e3 + (z * y + x) as f32);
        normalise(&mut patch).unwrap();
        let moments = Moments::of(patch.iter());
        assert!(moments.mean.abs() < 1e-6 && (moments.standard_deviation() - 1.0).abs() < 1e-6);

        let mut constant = Array3::from_elem((4, 4, 4), 0.1);
        normalise(&mut constant).unwrap();
        assert!(constant.iter().all(|&voxel| voxel == 0.0));

        patch[[1, 2, 3]] = f32::NAN;
        assert_eq!(normalise(&mut patch), Err([1, 2, 3]));
    }
}
