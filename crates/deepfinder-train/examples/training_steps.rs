//! A few iterations of the default recipe, on a GPU or the processor, and what the last one came to. `cargo xtask cuda rehearse`
//! runs it with a stand-in for NVIDIA's driver. Arguments: iterations, `gpu` or `cpu`, `f32` or `bf16`, and `ema` for a moving
//! average.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use candle_core::Device;
use deepfinder_core::{NoProgress, Particle, ParticleList, Volume};
use deepfinder_net::{Metadata, Parametrisation, Precision};
use deepfinder_train::{MetricsLine, RunFolder, Start, TrainParams, TrainingTomogram, train_on};
use ndarray::Array3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |word: &str| arguments.iter().any(|argument| argument == word);
    let steps = arguments.first().ok_or("how many iterations?")?.parse()?;
    let device = if given("gpu") {
        candle_conv3d::gpu(0)?
    } else {
        Device::Cpu
    };
    let params = TrainParams {
        epochs: 1,
        steps_per_epoch: steps,
        // A GPU is waited for after the last one alone.
        log_every_steps: steps,
        batch: 2,
        patch: 8,
        shift: 2,
        warm_up_steps: 0,
        ema: given("ema").then_some(0.5),
        precision: if given("bf16") {
            Precision::Bf16
        } else {
            Precision::F32
        },
        ..TrainParams::default()
    };
    let side = 32;
    let tomogram = Array3::from_shape_fn((side, side, side), |(z, y, x)| ((z * 7 + y * 3 + x) % 11) as f32);
    let target = Array3::from_shape_fn((side, side, side), |(z, _, _)| u8::from(z > side / 2));
    let training = TrainingTomogram {
        name: "ramp".to_owned(),
        tomogram: Arc::new(Volume::new(tomogram)),
        target: Arc::new(Volume::new(target)),
        particles: ParticleList::from(vec![Particle::new([16.0; 3], 1)]),
    };
    let metadata = Metadata::for_classes(["upper half"]);
    let initial = Parametrisation::Residual.initial(2, 0, metadata)?;
    let folder = tempfile::tempdir()?;
    let run = RunFolder::new(folder.path());
    let (training, start) = ([training], Start::Fresh);
    let outcome = train_on(
        std::slice::from_ref(&device),
        &training,
        &[],
        initial,
        &params,
        &run,
        start,
        &NoProgress,
    )?;
    let mut squares = 0.0;
    for tensor in outcome.weights.tensors().values() {
        squares += f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    for line in run.read_metrics()? {
        if let MetricsLine::Step(step) = line {
            println!("loss {}", step.loss);
            println!("gradient {}", step.gradient_norm);
        }
    }
    println!("weights {}", squares.sqrt());
    Ok(())
}
