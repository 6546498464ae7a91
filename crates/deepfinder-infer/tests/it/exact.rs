use deepfinder_core::{NoProgress, Volume};
use deepfinder_infer::{Plan, SegmentParams, segment};
use ndarray::{Array3, Array4, s};

use crate::{CLASSES, argmax, net, noise, normalised, run, scores_of};

/// Scores of one pass over the whole tomogram, padded at its end.
fn whole_pass(tomogram: &Volume<f32>) -> Array4<f32> {
    let shape = tomogram.shape();
    let input = normalised(tomogram, 0, shape.map(|side| side.next_multiple_of(4)));
    let [d, h, w] = shape;
    scores_of(&net(), &input).slice(s![.., ..d, ..h, ..w]).to_owned()
}

/// Every tile gives the whole pass, to the last bit.
fn check(shape: [usize; 3], tiles: &[Option<[usize; 3]>], workspace_bytes: usize) {
    let tomogram = noise(shape, 3);
    let expected = whole_pass(&tomogram);
    let labels = argmax(&expected);
    assert!((0..CLASSES as u8).all(|label| labels.iter().any(|found| *found == label)));
    for &tile in tiles {
        let (found, scores, report) = run(&net(), &tomogram, Plan::Exact { tile }, workspace_bytes);
        let difference = (&scores - &expected)
            .mapv(f32::abs)
            .fold(0.0_f32, |a, b| a.max(*b));
        assert!(
            scores == expected,
            "{shape:?} in {tile:?}: scores differ by up to {difference:e}"
        );
        assert_eq!(found, labels, "{shape:?} in {tile:?}");
        let count = |label: u8| found.iter().filter(|found| **found == label).count() as u64;
        assert_eq!(report.voxels_per_label, [count(0), count(1), count(2)]);
        assert_eq!(report.voxels, found.len() as u64);
        assert!(report.computed_voxels >= report.voxels);
        if let Some(tile) = tile {
            let tiles = |axis: usize| shape[axis].div_ceil(tile[axis]);
            assert_eq!(report.tiles, tiles(0) * tiles(1) * tiles(2));
        }
    }
}

#[test]
fn tiles_along_one_axis() {
    // Long enough that the middle tiles see neither end.
    for (axis, long) in [150, 90, 290].into_iter().enumerate() {
        let mut shape = [5, 7, 8];
        shape[axis] = long;
        let tiles = [8, 48].map(|side| Some([side; 3]));
        check(shape, &tiles, 1 << 30);
    }
}

#[test]
fn tiles_along_all_axes() {
    check([37, 38, 42], &[Some([20, 24, 24])], 1 << 30);
}

#[test]
fn the_smallest_workspace_changes_nothing() {
    check([58, 6, 21], &[None, Some([16, 8, 16])], 1);
    check([58, 6, 21], &[None], 10_000_000);
}

#[test]
fn tiny_tomograms_are_padded() {
    for shape in [[1, 2, 3], [5, 1, 10]] {
        let tomogram = noise(shape, 8);
        let expected = whole_pass(&tomogram);
        let (labels, scores, _) = run(&net(), &tomogram, Plan::default(), 1 << 30);
        assert_eq!((labels, scores), (argmax(&expected), expected));
    }
}

#[test]
fn labels_alone_are_the_same() {
    let tomogram = noise([10, 21, 7], 5);
    let labels = argmax(&whole_pass(&tomogram));
    for workspace_bytes in [1, 1 << 30] {
        let params = SegmentParams {
            workspace_bytes,
            ..SegmentParams::default()
        };
        let mut slabs: Vec<Array3<u8>> = Vec::new();
        segment(&net(), &tomogram, &params, &mut slabs, &mut [], &NoProgress).unwrap();
        let views: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
        let found = ndarray::concatenate(ndarray::Axis(0), &views).unwrap();
        assert_eq!(found, labels);
    }
}
