//! How fast the network learns here, and where the time goes: `cargo run --release -p deepfinder-train --example
//! training_speed [BATCH PATCH SCORES STEPS]`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use deepfinder_core::{NoProgress, Particle, ParticleList, Volume};
use deepfinder_net::{Metadata, Weights};
use deepfinder_train::{RunFolder, Start, TrainParams, TrainingTomogram, train};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let &[batch, patch, scores, steps] = arguments.as_slice() else {
        for [batch, patch, scores] in [[4, 56, 13], [8, 40, 10]] {
            measure(batch, patch, scores, 5)?;
        }
        return Ok(());
    };
    measure(batch, patch, scores, steps)
}

/// Trains on noise; prints the seconds an iteration spends in each part.
fn measure(
    batch: usize,
    patch: usize,
    scores: usize,
    steps: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let shape = [patch + 8; 3];
    let classes = scores as u8;
    let target = Array3::from_shape_fn(shape, |_| rng.random_range(0..classes));
    let voxels = Array3::from_shape_fn(shape, |_| rng.random_range(-1.0..1.0f32));
    let tomogram = TrainingTomogram {
        name: "noise".to_owned(),
        tomogram: Arc::new(Volume::new(voxels)),
        target: Arc::new(Volume::new(target)),
        particles: ParticleList::from(vec![Particle::new([patch as f64 / 2.0; 3], 1)]),
    };
    let params = TrainParams {
        epochs: 1,
        steps_per_epoch: steps,
        batch,
        patch,
        ..TrainParams::default()
    };
    let folder = tempfile::tempdir()?;
    let run = RunFolder::new(folder.path().join("run"));
    let initial = Weights::initial(scores, 0, Metadata::default())?;
    let outcome = train(
        &[tomogram],
        &[],
        initial,
        &params,
        &run,
        Start::Fresh,
        &NoProgress,
    )?;
    let times = outcome.times;
    println!(
        "{batch} x {patch}^3, {scores} scores: {:.3} Mvoxel/s",
        times.megavoxels_per_second()
    );
    let parts = [
        ("waiting", times.waiting),
        ("forward", times.forward),
        ("loss", times.loss),
        ("backward", times.backward),
        ("update", times.update),
    ];
    for (part, time) in parts {
        println!(
            "  {part:9} {:.3} s an iteration",
            time.as_secs_f64() / steps as f64
        );
    }
    Ok(())
}
