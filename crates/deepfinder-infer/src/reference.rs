use candle_conv3d::{Transfers, softmax_channels};
use deepfinder_core::Progress;
use deepfinder_net::UNet;
use ndarray::{Array4, ArrayView4, Axis, s};

use crate::exact::Work;
use crate::input::Input;
use crate::output::{Output, labels_of};
use crate::{InferError, Result};

/// Zeros around the tomogram, and what is cut off each side of a patch.
const CROP: usize = 25;

/// How much less than a patch the next one lies ahead.
const SHORTER_STEP: usize = 54;

/// A patch must be larger than this, or patches would not advance.
pub(crate) const SMALLEST_PATCH: usize = SHORTER_STEP;

/// Where patches begin on an axis of the padded tomogram: one step after another, and one that ends with it.
/// As what a patch keeps begins `CROP` further, these are also the first voxels it adds to, in the tomogram.
fn starts(length: usize, patch: usize) -> Vec<usize> {
    let last = length + 2 * CROP - patch;
    (0..last).step_by(patch - SHORTER_STEP).chain([last]).collect()
}

/// How many patches add to each voxel of an axis.
fn coverage(length: usize, kept: usize, starts: &[usize]) -> Vec<f32> {
    let mut count = vec![0.0; length];
    for &start in starts {
        count[start..start + kept].iter_mut().for_each(|n| *n += 1.0);
    }
    count
}

/// Runs the network over overlapping patches, and averages their scores.
pub(crate) fn run(
    net: &UNet,
    input: &Input<'_>,
    patch: usize,
    output: &mut Output<'_, '_>,
    progress: &dyn Progress,
) -> Result<Work> {
    let shape = input.shape();
    let padded = shape.map(|side| side + 2 * CROP);
    if padded.iter().any(|side| patch > *side) {
        return Err(InferError::PatchTooLarge { patch, shape, padded });
    }
    let kept = patch - 2 * CROP;
    let [z_starts, y_starts, x_starts] = shape.map(|side| starts(side, patch));
    let [depth, height, width] = shape;
    let z_count = coverage(depth, kept, &z_starts);
    let (y_count, x_count) = (
        coverage(height, kept, &y_starts),
        coverage(width, kept, &x_starts),
    );

    // Sums of the scores in the planes that the patches of one z reach.
    let mut sums = Array4::<f32>::zeros((net.classes(), kept, height, width));
    let transfers = Transfers::new(net.device());
    let patches = z_starts.len() * y_starts.len() * x_starts.len();
    progress.begin("segmenting", patches as u64, "patches");
    for (i, &z) in z_starts.iter().enumerate() {
        for &y in &y_starts {
            for &x in &x_starts {
                progress.check()?;
                let start = [z, y, x].map(|voxel| voxel as isize - CROP as isize);
                let voxels = input.read(start, [patch; 3], &transfers)?;
                let mut logits = net.forward(&voxels)?;
                for axis in 2..5 {
                    logits = logits.narrow(axis, CROP, kept)?;
                }
                let scores = softmax_channels(&logits)?.flatten_all()?.to_vec1::<f32>()?;
                let scores = ArrayView4::from_shape((net.classes(), kept, kept, kept), &scores)?;
                let mut place = sums.slice_mut(s![.., .., y..y + kept, x..x + kept]);
                place += &scores;
                progress.advance(1);
            }
        }
        // No later patch reaches the planes before its own start.
        let next = z_starts.get(i + 1).copied().unwrap_or(depth);
        let mut done = sums.slice_mut(s![.., ..next - z, .., ..]);
        for ((_, plane, row, column), sum) in done.indexed_iter_mut() {
            *sum /= z_count[z + plane] * y_count[row] * x_count[column];
        }
        let labels = labels_of(&done.view());
        let scores = output.score_maps().map(|_| done.view());
        output.write(&labels, scores)?;
        drop_planes(&mut sums, next - z);
    }
    progress.end();
    Ok(Work {
        tiles: patches,
        computed_voxels: (patches * patch.pow(3)) as u64,
    })
}

/// Moves the sums towards z = 0 over planes that are done; zeros follow.
fn drop_planes(sums: &mut Array4<f32>, planes: usize) {
    let kept = sums.dim().1;
    for z in 0..kept {
        if z + planes < kept {
            let (mut to, from) = sums.multi_slice_mut((s![.., z, .., ..], s![.., z + planes, .., ..]));
            to.assign(&from);
        } else {
            sums.index_axis_mut(Axis(1), z).fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_follow_the_published_rule() {
        // Centres l, l + (P - 54), ... < dim + 50 - l, and one more at dim + 50 - l.
        for (length, patch) in [
            (96, 80),
            (100, 80),
            (112, 80),
            (128, 56),
            (30, 80),
            (32, 80),
            (7, 56),
        ] {
            let half = patch / 2;
            let mut centres: Vec<usize> = (half..length + 50 - half).step_by(patch - 54).collect();
            centres.push(length + 50 - half);
            let starts = starts(length, patch);
            assert_eq!(starts, centres.iter().map(|c| c - half).collect::<Vec<_>>());
            let count = coverage(length, patch - 50, &starts);
            assert!(count.iter().all(|n| *n >= 1.0), "{length} {patch}: {count:?}");
        }
    }

    #[test]
    fn ties_go_to_the_lowest_class() {
        let scores =
            Array4::from_shape_vec((3, 1, 1, 3), vec![0.2, 0.4, 0.3, 0.4, 0.4, 0.3, 0.4, 0.2, 0.4]).unwrap();
        assert_eq!(labels_of(&scores.view()).into_raw_vec_and_offset().0, [1, 0, 2]);
    }

    #[test]
    fn sums_move_up() {
        let mut sums = Array4::from_shape_fn((2, 5, 1, 2), |(c, z, _, x)| (100 * c + 10 * z + x) as f32);
        drop_planes(&mut sums, 3);
        let expected = Array4::from_shape_fn((2, 5, 1, 2), |(c, z, _, x)| {
            if z < 2 {
                (100 * c + 10 * (z + 3) + x) as f32
            } else {
                0.0
            }
        });
        assert_eq!(sums, expected);
        drop_planes(&mut sums, 5);
        assert_eq!(sums.sum(), 0.0);
    }
}
