use deepfinder_core::{NoProgress, Volume, VolumeWriter, WindowWriter};
use deepfinder_infer::{Plan, SegmentParams, segment};
use deepfinder_net::{Head, Precision, UNet};
use ndarray::{Array3, Array4, ArrayView3, s};

use crate::{CLASSES, argmax, net, net_to, noise, normalised, run, scores_of};

/// Scores of one pass over the whole tomogram, padded at its end.
fn whole_pass(net: &UNet, tomogram: &Volume<f32>) -> Array4<f32> {
    let shape = tomogram.shape();
    let input = normalised(tomogram, 0, shape.map(|side| side.next_multiple_of(4)));
    let [d, h, w] = shape;
    scores_of(net, &input).slice(s![.., ..d, ..h, ..w]).to_owned()
}

/// Every tile gives the whole pass, to the last bit.
fn check(shape: [usize; 3], tiles: &[Option<[usize; 3]>], workspace_bytes: usize) {
    check_of(&net(), shape, tiles, workspace_bytes);
}

fn check_of(net: &UNet, shape: [usize; 3], tiles: &[Option<[usize; 3]>], workspace_bytes: usize) {
    let tomogram = noise(shape, 3);
    let expected = whole_pass(net, &tomogram);
    let labels = argmax(&expected);
    assert!((0..CLASSES as u8).all(|label| labels.iter().any(|found| *found == label)));
    for &tile in tiles {
        let (found, scores, report) = run(net, &tomogram, Plan::Exact { tile }, workspace_bytes);
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
fn tiles_of_a_network_that_ends_on_the_half_level() {
    let net = net_to(Head::Half, 11);
    check_of(&net, [150, 7, 8], &[Some([48; 3])], 1 << 30);
    check_of(&net, [5, 7, 290], &[Some([48; 3])], 1 << 30);
    check_of(&net, [37, 38, 42], &[None, Some([20, 24, 24])], 1);
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
        let expected = whole_pass(&net(), &tomogram);
        let (labels, scores, _) = run(&net(), &tomogram, Plan::default(), 1 << 30);
        assert_eq!((labels, scores), (argmax(&expected), expected));
    }
}

/// Tiles give the same bits in bf16 too, with the thinner margins that they have there: long axes, whose middle tiles see
/// neither end, and all axes at once.
#[test]
fn tiles_in_bf16() {
    for head in [Head::Full, Head::Half] {
        tiles_in_bf16_of(&net_to(head, 11).with_precision(Precision::Bf16));
    }
}

fn tiles_in_bf16_of(net: &UNet) {
    let shapes = [
        ([150, 7, 8], [48; 3]),
        ([5, 130, 8], [20; 3]),
        ([5, 7, 170], [36; 3]),
        ([37, 38, 42], [20, 24, 24]),
    ];
    for (shape, tile) in shapes {
        let tomogram = noise(shape, 3);
        let [whole, cut] = [None, Some(tile)].map(|tile| run(net, &tomogram, Plan::Exact { tile }, 1 << 30));
        assert!(whole.2.tiles == 1 && cut.2.tiles > 1, "{shape:?}");
        assert!(whole.0 == cut.0 && whole.1 == cut.1, "{shape:?}");
    }
}

/// A volume in memory that counts its windows, and takes nothing else.
pub(crate) struct Anywhere<T>(pub(crate) Array3<T>, pub(crate) usize);

impl<T: Copy + Send> VolumeWriter<T> for Anywhere<T> {
    fn write_slab(&mut self, planes: ArrayView3<'_, T>) -> deepfinder_core::Result<()> {
        assert_eq!(planes.dim(), self.0.dim(), "only as a whole");
        self.0.assign(&planes);
        Ok(())
    }

    fn windows(&mut self) -> Option<&mut dyn WindowWriter<T>> {
        Some(self)
    }
}

impl<T: Copy> WindowWriter<T> for Anywhere<T> {
    fn write_window(&mut self, start: [usize; 3], voxels: ArrayView3<'_, T>) -> deepfinder_core::Result<()> {
        let [z, y, x] = [0, 1, 2].map(|axis| start[axis]..start[axis] + voxels.shape()[axis]);
        self.0.slice_mut(s![z, y, x]).assign(&voxels);
        self.1 += 1;
        Ok(())
    }
}

#[test]
fn windows_are_written_where_they_belong() {
    let tomogram = noise([21, 38, 42], 6);
    let expected = whole_pass(&net(), &tomogram);
    let params = SegmentParams {
        plan: Plan::Exact {
            tile: Some([24, 20, 24]),
        },
        workspace_bytes: 1,
        ..SegmentParams::default()
    };
    let mut labels = Anywhere(Array3::zeros(tomogram.shape()), 0);
    let mut maps: Vec<_> = (0..CLASSES)
        .map(|_| Anywhere(Array3::zeros(tomogram.shape()), 0))
        .collect();
    let mut scores: Vec<&mut dyn VolumeWriter<f32>> = maps.iter_mut().map(|map| map as _).collect();
    segment(&net(), &tomogram, &params, &mut labels, &mut scores, &NoProgress).unwrap();
    assert_eq!(labels.0, argmax(&expected));
    assert!(labels.1 >= 4, "{} windows", labels.1);
    for (map, expected) in maps.iter().zip(expected.outer_iter()) {
        assert_eq!(map.0, expected);
    }
}

#[test]
fn labels_alone_are_the_same() {
    let tomogram = noise([10, 21, 7], 5);
    let labels = argmax(&whole_pass(&net(), &tomogram));
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
