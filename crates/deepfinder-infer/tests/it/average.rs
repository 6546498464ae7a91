//! Several networks, and the tomogram turned.

use candle_core::Device;
use deepfinder_core::{NoProgress, Volume, VolumeWriter};
use deepfinder_infer::{InferError, Plan, SegmentParams, segment_with_all};
use deepfinder_net::{Metadata, UNet, Weights};
use ndarray::{Array3, Array4, Axis, s};

use crate::exact::Anywhere;
use crate::{CLASSES, argmax, net, net_of, noise, normalised, run_with, scores_of};

/// One pass over the whole tomogram, turned or not, padded at its end as the network sees it then.
fn pass(net: &UNet, tomogram: &Volume<f32>, turned: bool) -> Array4<f32> {
    let shape = tomogram.shape();
    let [d, h, w] = shape;
    let mut voxels = normalised(tomogram, 0, shape);
    if turned {
        voxels = voxels.slice(s![..;-1, .., ..;-1]).to_owned();
    }
    let mut padded = Array3::zeros(shape.map(|side| side.next_multiple_of(4)));
    padded.slice_mut(s![..d, ..h, ..w]).assign(&voxels);
    let mut scores = scores_of(net, &padded).slice(s![.., ..d, ..h, ..w]).to_owned();
    if turned {
        scores.invert_axis(Axis(1));
        scores.invert_axis(Axis(3));
    }
    scores
}

fn mean(passes: &[Array4<f32>]) -> Array4<f32> {
    let mut sum = Array4::zeros(passes[0].dim());
    for pass in passes {
        sum += pass;
    }
    sum / passes.len() as f32
}

fn params(tile: Option<[usize; 3]>, workspace_bytes: usize, half_turn: bool) -> SegmentParams {
    SegmentParams {
        plan: Plan::Exact { tile },
        workspace_bytes,
        half_turn,
    }
}

#[test]
fn a_half_turn_averages_two_whole_passes_whatever_the_tile() {
    // Odd sides: the turned tomogram is padded at its other end.
    for shape in [[37, 14, 29], [90, 5, 7], [6, 9, 150]] {
        let tomogram = noise(shape, 4);
        let expected = mean(&[false, true].map(|turned| pass(&net(), &tomogram, turned)));
        assert!(expected != pass(&net(), &tomogram, false));
        for (tile, bytes) in [(None, 1 << 30), (Some([16, 8, 12]), 1 << 30), (None, 1)] {
            let (labels, scores, report) = run_with(&[&net()], &tomogram, &params(tile, bytes, true));
            assert!(scores == expected, "{shape:?} in {tile:?}");
            assert_eq!(labels, argmax(&expected));
            assert_eq!(report.voxels_per_label.iter().sum::<u64>(), labels.len() as u64);
            assert!(report.computed_voxels >= 2 * report.voxels);
        }
    }
}

#[test]
fn networks_are_averaged() {
    let tomogram = noise([21, 18, 26], 5);
    let nets = [net(), net_of(12), net_of(13)];
    let nets: Vec<&UNet> = nets.iter().collect();
    let passes = |turns: &[bool]| -> Vec<Array4<f32>> {
        let of_net = |net: &&UNet| {
            turns
                .iter()
                .map(|turned| pass(net, &tomogram, *turned))
                .collect::<Vec<_>>()
        };
        nets.iter().flat_map(of_net).collect()
    };
    for (half_turn, turns) in [(false, &[false][..]), (true, &[false, true])] {
        let expected = mean(&passes(turns));
        for tile in [None, Some([12, 12, 16])] {
            let (labels, scores, _) = run_with(&nets, &tomogram, &params(tile, 1 << 30, half_turn));
            assert!(scores == expected);
            assert_eq!(labels, argmax(&expected));
        }
    }
}

#[test]
fn averages_are_written_by_windows_too() {
    let tomogram = noise([21, 38, 42], 6);
    let expected = argmax(&mean(
        &[false, true].map(|turned| pass(&net(), &tomogram, turned)),
    ));
    let mut labels = Anywhere(Array3::zeros(tomogram.shape()), 0);
    let params = params(Some([12, 20, 24]), 1, true);
    segment_with_all(&[&net()], &tomogram, &params, &mut labels, &mut [], &NoProgress).unwrap();
    assert_eq!(labels.0, expected);
    assert!(labels.1 >= 8, "{} windows", labels.1);
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let tomogram = noise([30, 30, 30], 1);
    let refused = |nets: &[&UNet], params: &SegmentParams| {
        let mut labels: Vec<Array3<u8>> = Vec::new();
        let writer: &mut dyn VolumeWriter<u8> = &mut labels;
        let error = segment_with_all(nets, &tomogram, params, writer, &mut [], &NoProgress).unwrap_err();
        assert!(labels.is_empty());
        error
    };
    let more = Weights::initial(CLASSES + 1, 1, Metadata::default()).unwrap();
    let more = UNet::new(&more, &Device::Cpu).unwrap();
    let exact = SegmentParams::default();
    assert!(matches!(refused(&[], &exact), InferError::NoNetwork));
    assert!(matches!(
        refused(&[&net(), &more], &exact),
        InferError::Classes {
            expected: 3,
            found: 4
        }
    ));
    let reference = SegmentParams {
        plan: Plan::Reference { patch: 56 },
        half_turn: true,
        ..exact
    };
    assert!(matches!(
        refused(&[&net()], &reference),
        InferError::ReferenceOfSeveral
    ));
}
