//! What a user of the crate relies on.
#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(
    clippy::reversed_empty_ranges,
    reason = "ndarray counts negative indices from the end"
)]

mod average;
mod errors;
mod exact;
mod reference;

use candle_core::{Device, Tensor};
use deepfinder_core::{NoProgress, Volume};
use deepfinder_infer::{Plan, SegmentParams, SegmentReport, segment_with_all};
use deepfinder_net::{Head, Metadata, UNet, Weights};
use ndarray::{Array3, Array4, Axis, concatenate, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLASSES: usize = 3;

fn net() -> UNet {
    net_of(11)
}

fn net_of(seed: u64) -> UNet {
    net_to(Head::Full, seed)
}

/// A network that ends there.
fn net_to(head: Head, seed: u64) -> UNet {
    let metadata = Metadata {
        head,
        ..Metadata::default()
    };
    let weights = Weights::initial(CLASSES, seed, metadata.clone()).unwrap();
    // Larger weights in the last layer, so that every label is somewhere the best.
    let tensors = weights.tensors().iter().map(|(name, tensor)| {
        let factor = if name == "head.weight" { 40.0 } else { 1.0 };
        (name.clone(), (tensor * factor).unwrap())
    });
    let weights = Weights::from_tensors(tensors, metadata).unwrap();
    UNet::new(&weights, &Device::Cpu).unwrap()
}

fn noise(shape: [usize; 3], seed: u64) -> Volume<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Volume::new(Array3::from_shape_simple_fn(shape, || {
        rng.random_range(-20.0..100.0)
    }))
}

/// The tomogram at mean 0 and deviation 1, in a box of zeros that begins `before` voxels earlier.
fn normalised(tomogram: &Volume<f32>, before: usize, shape: [usize; 3]) -> Array3<f32> {
    let voxels = tomogram.voxels.mapv(f64::from);
    let (mean, deviation) = (voxels.mean().unwrap(), voxels.std(0.0));
    let mut padded = Array3::zeros(shape);
    let [d, h, w] = tomogram.shape().map(|side| before..before + side);
    padded
        .slice_mut(s![d, h, w])
        .assign(&voxels.mapv(|v| ((v - mean) / deviation) as f32));
    padded
}

fn scores_of(net: &UNet, input: &Array3<f32>) -> Array4<f32> {
    let (d, h, w) = input.dim();
    let input = Tensor::from_slice(input.as_slice().unwrap(), (1, 1, d, h, w), &Device::Cpu).unwrap();
    let scores = candle_conv3d::softmax_channels(&net.forward(&input).unwrap()).unwrap();
    let scores = scores.flatten_all().unwrap().to_vec1().unwrap();
    Array4::from_shape_vec((net.classes(), d, h, w), scores).unwrap()
}

fn argmax(scores: &Array4<f32>) -> Array3<u8> {
    scores.map_axis(Axis(0), |scores| {
        let best = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
        (0..scores.len()).fold(0, best) as u8
    })
}

fn run(
    net: &UNet,
    tomogram: &Volume<f32>,
    plan: Plan,
    workspace_bytes: usize,
) -> (Array3<u8>, Array4<f32>, SegmentReport) {
    let params = SegmentParams {
        plan,
        workspace_bytes,
        ..SegmentParams::default()
    };
    run_with(&[net], tomogram, &params)
}

fn run_with(
    nets: &[&UNet],
    tomogram: &Volume<f32>,
    params: &SegmentParams,
) -> (Array3<u8>, Array4<f32>, SegmentReport) {
    let mut labels: Vec<Array3<u8>> = Vec::new();
    let mut maps: Vec<Vec<Array3<f32>>> = vec![Vec::new(); CLASSES];
    let mut scores: Vec<&mut dyn deepfinder_core::VolumeWriter<f32>> = Vec::new();
    for map in &mut maps {
        scores.push(map);
    }
    let report = segment_with_all(nets, tomogram, params, &mut labels, &mut scores, &NoProgress).unwrap();
    let joined = |slabs: &[Array3<f32>]| {
        let views: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
        concatenate(Axis(0), &views).unwrap()
    };
    let maps: Vec<_> = maps.iter().map(|slabs| joined(slabs)).collect();
    let views: Vec<_> = maps.iter().map(|slab| slab.view()).collect();
    let scores = ndarray::stack(Axis(0), &views).unwrap();
    let views: Vec<_> = labels.iter().map(|slab| slab.view()).collect();
    (concatenate(Axis(0), &views).unwrap(), scores, report)
}
