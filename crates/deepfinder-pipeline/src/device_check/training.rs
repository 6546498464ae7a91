//! The loss, and short trainings.

use std::path::Path;
use std::sync::Arc;

use candle_conv3d::{LabelledVolumes, Window};
use candle_core::{DType, Device, Var};
use deepfinder_core::{Label, Particle, ParticleList, Progress, Volume};
use deepfinder_net::{Metadata, Precision, Weights};
use deepfinder_train::{
    Augmentation, LossParams, RunFolder, Start, TrainError, TrainParams, TrainingTomogram, loss, train_on,
};

use super::{DeviceCheck, F32_ALLOWED, difference, noise, precisions, unlike, voxels};
use crate::device::check_shared_training;
use crate::error::OnFile;
use crate::{PipelineError, Result};

/// Difference of losses along a training, of the loss.
const LOSS_ALLOWED: f64 = 2e-2;

/// How many things are held against the processor for one precision.
#[cfg(test)]
pub(super) const CHECKS: usize = 4 + 1 + 4;

/// The loss with its gradient, and trainings with their losses and their end.
pub(super) fn check_training(
    device: &Device,
    precisions: &[Precision],
    progress: &dyn Progress,
) -> Result<Vec<DeviceCheck>> {
    let here = Path::new("check-device");
    let mut checks = Vec::new();
    for (what, params) in losses() {
        checks.push(check_loss(device, what, &params).on(here)?);
    }
    checks.push(check_windows(device).on(here)?);
    for &precision in precisions {
        let params = TrainParams {
            steps_per_epoch: 12,
            patch: 16,
            log_every_steps: 1,
            precision,
            ..short()
        };
        checks.push(check_losses(device, "", &params, progress)?);
    }
    checks.push(check_losses(device, SMOOTHED, &smoothed_and_mixed(), progress)?);
    // Such patches are made by the processor and copied.
    let params = TrainParams {
        augmentation: Augmentation {
            noise: 0.5,
            ..Augmentation::default()
        },
        ..short()
    };
    checks.push(check_losses(device, ", noisy patches", &params, progress)?);
    checks.push(check_divergence(device, progress)?);
    Ok(checks)
}

const SMOOTHED: &str = ", smoothed and mixed";

/// Of losses against two targets each.
fn smoothed_and_mixed() -> TrainParams {
    TrainParams {
        mixup: 0.4,
        ema: Some(0.9),
        loss: LossParams {
            label_smoothing: 0.1,
            ..LossParams::default()
        },
        ..short()
    }
}

/// Trainings that several devices share, in parts that differ, held against the first of them.
pub(super) fn check_shared(devices: &[Device], progress: &dyn Progress) -> Result<Vec<DeviceCheck>> {
    check_shared_training(devices)?;
    let first = devices.get(..1).unwrap_or_default();
    let mut checks = Vec::new();
    let on = format!(" on {} devices", devices.len());
    for &precision in first.first().map_or(&[][..], precisions) {
        for (what, params) in [("", short()), (SMOOTHED, smoothed_and_mixed())] {
            let params = TrainParams {
                batch: 2 * devices.len() + 1,
                log_every_steps: 1,
                precision,
                ..params
            };
            let [found, expected] = [devices, first].map(|devices| trained(devices, &params, progress));
            let here = Path::new("check-device");
            let losses = [found?.on(here)?, expected?.on(here)?];
            checks.push(compared(&format!("{on}{what}"), &params, &losses, LOSS_ALLOWED));
        }
    }
    Ok(checks)
}

fn losses() -> [(&'static str, LossParams); 4] {
    let default = LossParams::default();
    [
        ("Dice + cross-entropy", default.clone()),
        ("Dice", LossParams::dice()),
        (
            "a smoothed loss",
            LossParams {
                label_smoothing: 0.1,
                ..default.clone()
            },
        ),
        (
            "a weighted focal Tversky loss",
            LossParams {
                alpha: 0.3,
                beta: 0.7,
                focal: 0.75,
                class_weights: Some((1..=13).map(f64::from).collect()),
                ..default
            },
        ),
    ]
}

/// The loss of some logits, how many voxels it counts, and its gradient.
fn check_loss(
    device: &Device,
    what: &str,
    params: &LossParams,
) -> std::result::Result<DeviceCheck, TrainError> {
    let logits = (noise(&[2, 13, 9, 10, 11], 11)? * 3.0)?;
    let labels = noise(&[2, 9, 10, 11], 12)?.abs()?;
    // Twelve of the thirteen classes.
    let labels = (labels * 12.0)?.to_dtype(DType::U8)?;
    let on = |device: &Device| -> std::result::Result<_, TrainError> {
        let variable = Var::from_tensor(&logits.to_device(device)?)?;
        let found = loss(variable.as_tensor(), &labels.to_device(device)?, params)?;
        let gradients = found.tensor.backward()?;
        let gradient = gradients
            .get(variable.as_tensor())
            .cloned()
            .ok_or_else(|| candle_core::Error::Msg("logits without a gradient".into()))?;
        Ok((found.value, found.counts, gradient))
    };
    let (value, counts, gradient) = on(device)?;
    let (expected_value, expected_counts, expected_gradient) = on(&Device::Cpu)?;
    let found = if counts == expected_counts {
        let of_value = (value - expected_value).abs() / expected_value.abs();
        of_value.max(difference(&gradient, &expected_gradient)?)
    } else {
        f64::INFINITY
    };
    Ok(DeviceCheck {
        what: format!("{what}, its counts and gradient"),
        found,
        allowed: F32_ALLOWED,
    })
}

/// Windows of a training set that lies on the device, and their labels.
fn check_windows(device: &Device) -> candle_core::Result<DeviceCheck> {
    let shapes = [[30, 24, 28], [9, 40, 16]];
    let window = Window {
        volume: 0,
        start: [5, 3, 1],
        turned: false,
        scale: 1.0,
        shift: 0.0,
    };
    let windows = [
        window,
        Window {
            turned: true,
            ..window
        },
        // Thinner than the window.
        Window {
            volume: 1,
            start: [-6, 11, -2],
            scale: 1.1,
            shift: -0.2,
            ..window
        },
    ];
    let on = |device: &Device| -> candle_core::Result<_> {
        let volumes = LabelledVolumes::new(&shapes, device)?;
        for (volume, shape) in shapes.iter().enumerate() {
            let values = noise(shape, 20 + volume as u32)?.flatten_all()?;
            let labels = (values.abs()? * 3.0)?.to_dtype(DType::U8)?.to_vec1()?;
            volumes.set_planes(volume, 0, values.to_vec1()?, labels)?;
        }
        let (values, labels) = volumes.windows(&windows, 20)?;
        Ok((values, labels.flatten_all()?.to_vec1::<u8>()?))
    };
    let (values, labels) = on(device)?;
    let (expected, expected_labels) = on(&Device::Cpu)?;
    Ok(DeviceCheck {
        what: "patches of a training set on the device".to_owned(),
        found: difference(&values, &expected)?.max(unlike(&labels, &expected_labels)),
        // Means and deviations are sums of f64: a value is off by its last place at most.
        allowed: if device.is_cpu() {
            0.0
        } else {
            2.0 * f64::from(f32::EPSILON)
        },
    })
}

/// Parameters of a training that takes a moment.
fn short() -> TrainParams {
    TrainParams {
        epochs: 1,
        steps_per_epoch: 6,
        batch: 2,
        patch: 8,
        log_every_steps: 3,
        ..TrainParams::default()
    }
}

/// What there is to learn: noise.
fn tomogram() -> Result<TrainingTomogram> {
    let volume = voxels(32)?;
    let target = volume.mapv(|value| ((value.abs() * 1e4) as usize % 3) as Label);
    Ok(TrainingTomogram {
        name: "noise".to_owned(),
        tomogram: Arc::new(Volume::new(volume)),
        target: Arc::new(Volume::new(target)),
        particles: ParticleList::from(vec![Particle::new([16.0; 3], 1)]),
    })
}

/// Trains into a folder that goes with the answer, and gives the losses that were written down.
fn trained(
    devices: &[Device],
    params: &TrainParams,
    progress: &dyn Progress,
) -> Result<std::result::Result<Vec<f64>, TrainError>> {
    let here = Path::new("check-device");
    let folder =
        tempfile::tempdir().map_err(|error| PipelineError::input(format!("no temporary folder: {error}")))?;
    let run = RunFolder::new(folder.path().join("run"));
    let initial = Weights::initial(3, 1, Metadata::default()).on(here)?;
    let tomograms = [tomogram()?];
    let outcome = train_on(
        devices,
        &tomograms,
        &[],
        initial,
        params,
        &run,
        Start::Fresh,
        progress,
    );
    match outcome {
        Ok(_) => crate::train::losses_of_run(&run).map(Ok),
        Err(error) => Ok(Err(error)),
    }
}

/// The losses along a short training.
fn check_losses(
    device: &Device,
    what: &str,
    params: &TrainParams,
    progress: &dyn Progress,
) -> Result<DeviceCheck> {
    let here = Path::new("check-device");
    let found = trained(std::slice::from_ref(device), params, progress)?.on(here)?;
    let in_f32 = TrainParams {
        precision: Precision::F32,
        ..params.clone()
    };
    let expected = trained(&[Device::Cpu], &in_f32, progress)?.on(here)?;
    let allowed = if device.is_cpu() { 0.0 } else { LOSS_ALLOWED };
    Ok(compared(what, params, &[found, expected], allowed))
}

/// The greatest difference of the losses of two trainings.
fn compared(what: &str, params: &TrainParams, losses: &[Vec<f64>; 2], allowed: f64) -> DeviceCheck {
    let [found, expected] = losses;
    let steps = params.steps_per_epoch;
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs());
    let complete = [found, expected].map(Vec::len) == [steps / params.log_every_steps; 2];
    DeviceCheck {
        what: format!("losses of {steps} iterations{what}, {}", params.precision),
        found: if complete {
            off.fold(0.0, f64::max)
        } else {
            f64::INFINITY
        },
        allowed,
    }
}

/// A training that breaks is found out, however late, and says at which iteration.
fn check_divergence(device: &Device, progress: &dyn Progress) -> Result<DeviceCheck> {
    let params = TrainParams {
        learning_rate: 1e30,
        warm_up_steps: 0,
        ..short()
    };
    let iteration = |device: &Device| -> Result<u8> {
        Ok(match trained(std::slice::from_ref(device), &params, progress)? {
            Err(TrainError::Diverged { step, .. }) => step as u8,
            _ => 0,
        })
    };
    let (found, expected) = (iteration(device)?, iteration(&Device::Cpu)?);
    Ok(DeviceCheck {
        what: "a training that diverges says when".to_owned(),
        found: if expected > 0 {
            unlike(&[found], &[expected])
        } else {
            f64::INFINITY
        },
        allowed: 0.0,
    })
}
