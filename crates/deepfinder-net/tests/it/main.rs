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
mod parity;

use deepfinder_net::{Metadata, Weights};

fn weights(scores: usize, seed: u64) -> Weights {
    let names = (1..scores).map(|label| format!("protein {label}"));
    Weights::initial(scores, seed, Metadata::for_classes(names)).unwrap()
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
