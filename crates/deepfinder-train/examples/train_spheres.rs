//! Trains the network on spheres in noise, with this crate alone: `cargo run --release -p deepfinder-train --example
//! train_spheres`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use deepfinder_core::{NoProgress, Particle, ParticleList, Volume};
use deepfinder_net::{Metadata, Weights};
use deepfinder_train::{MetricsLine, RunFolder, Start, TrainParams, TrainingTomogram, train};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let params = TrainParams {
        epochs: 5,
        steps_per_epoch: 20,
        batch: 4,
        patch: 24,
        shift: 8,
        warm_up_steps: 20,
        validation_patches: 8,
        ..TrainParams::default()
    };
    let folder = tempfile::tempdir()?;
    let run = RunFolder::new(folder.path());
    let initial = Weights::initial(3, 0, Metadata::for_classes(["small", "large"]))?;
    let training = [spheres(1), spheres(2)];
    let outcome = train(
        &training,
        &[spheres(3)],
        initial,
        &params,
        &run,
        Start::Fresh,
        &NoProgress,
    )?;
    for line in run.read_metrics()? {
        if let MetricsLine::Epoch(epoch) = line {
            let (training, validation) = (&epoch.training, epoch.decisive());
            println!(
                "epoch {}: loss {:.3}, validation loss {:.3}, mean F1 {:.3}",
                epoch.epoch, training.loss, validation.loss, validation.mean_f1
            );
        }
    }
    println!("{:.3} Mvoxel/s", outcome.times.megavoxels_per_second());
    Ok(())
}

/// A noisy tomogram with spheres of two sizes, its label map and the list of its particles.
fn spheres(seed: u64) -> TrainingTomogram {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let side = 64;
    let mut tomogram = Array3::from_shape_fn((side, side, side), |_| rng.random_range(-1.0..1.0f32));
    let mut target = Array3::zeros((side, side, side));
    let particles: Vec<Particle> = (0..24)
        .map(|i| {
            let label = 1 + i % 2;
            let radius = if label == 1 { 3.0 } else { 6.0 };
            let [x, y, z]: [f64; 3] = std::array::from_fn(|_| rng.random_range(8.0..56.0));
            for ((k, j, i), class) in target.indexed_iter_mut() {
                let offsets = [k as f64 - z, j as f64 - y, i as f64 - x];
                if offsets.iter().map(|offset| offset * offset).sum::<f64>() <= radius * radius {
                    *class = label;
                }
            }
            Particle::new([x, y, z], label)
        })
        .collect();
    tomogram.zip_mut_with(&target, |voxel, label| *voxel += f32::from((*label).min(1)));
    TrainingTomogram {
        name: format!("spheres {seed}"),
        tomogram: Arc::new(Volume::new(tomogram)),
        target: Arc::new(Volume::new(target)),
        particles: ParticleList::from(particles),
    }
}
