//! What a user of the crate relies on.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests too, and say what they skip"
)]

mod bytes;
mod keras;
mod keras_file;
mod network;
mod parametrisation;
mod parity;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use deepfinder_net::{Head, Metadata, Trace, Weights};
use rand::{RngExt, SeedableRng};

fn weights(scores: usize, seed: u64) -> Weights {
    weights_to(Head::Full, scores, seed)
}

/// Of a network that ends there.
fn weights_to(head: Head, scores: usize, seed: u64) -> Weights {
    let names = (1..scores).map(|label| format!("protein {label}"));
    let metadata = Metadata {
        head,
        ..Metadata::for_classes(names)
    };
    Weights::initial(scores, seed, metadata).unwrap()
}

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let voxels: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-2.0..2.0))
        .collect();
    Tensor::from_vec(voxels, shape, &Device::Cpu).unwrap()
}

/// The gradients of that loss of a trace's logits.
fn way_back(trace: Trace, loss: impl Fn(&Tensor) -> Tensor) -> GradStore {
    let logits = Var::from_tensor(trace.logits()).unwrap();
    let by_logits = loss(&logits).backward().unwrap();
    trace.backward(by_logits.get(&logits).unwrap()).unwrap()
}

fn same(a: &Weights, b: &Weights) -> bool {
    let values = |weights: &Weights| -> Vec<(String, Vec<usize>, Vec<u32>)> {
        weights
            .tensors()
            .iter()
            .map(|(name, tensor)| {
                let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let bits = values.into_iter().map(f32::to_bits).collect();
                (name.clone(), tensor.dims().to_vec(), bits)
            })
            .collect()
    };
    a.metadata() == b.metadata() && values(a) == values(b)
}

/// A message with all its causes.
fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
