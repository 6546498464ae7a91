//! Whether a device computes what the processor does: the suite to run on a GPU that nobody has tried yet.

mod training;

use std::path::Path;

use candle_conv3d::{
    Activation, Conv3dConfig, Padding, argmax_channels, conv3d, conv3d_concat, gpu, gpus, max_pool2,
    softmax_channels, upsample2_conv2,
};
use candle_core::{DType, Device, Tensor, Var};
use deepfinder_core::{Label, Progress, Volume, VolumeWriter};
use deepfinder_infer::{Plan, SegmentParams, segment};
use deepfinder_net::{Head, Metadata, Precision, UNet, Weights};
use ndarray::Array3;
use serde::Serialize;

use crate::Result;
use crate::error::OnFile;

/// One thing that was held against the processor.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceCheck {
    /// What.
    pub what: String,
    /// By how much it is off, or how often.
    pub found: f64,
    /// How much is allowed.
    pub allowed: f64,
}

impl DeviceCheck {
    /// Whether it holds. A number that is none does not.
    pub fn holds(&self) -> bool {
        self.found <= self.allowed
    }
}

/// Greatest difference in f32, of the greatest value: sums of some thousand products in another order.
const F32_ALLOWED: f64 = 2e-5;
/// The same in bf16: a value has 8 bits, and a network rounds a dozen times.
const BF16_ALLOWED: f64 = 3e-2;
/// Voxels that may get another label where scores are all but equal.
const LABELS_ALLOWED: f64 = 1e-3;

/// Holds one device against the processor, or several that share a training against the first of them.
///
/// # Errors
/// Where a device fails at what it must do, or several cannot work together.
pub fn check_devices(devices: &[Device], progress: &dyn Progress) -> Result<Vec<DeviceCheck>> {
    match devices {
        [device] => check_device(device, progress),
        _ => training::check_shared(devices, progress),
    }
}

/// What a device is checked with.
fn precisions(device: &Device) -> &'static [Precision] {
    if device.is_cuda() {
        &[Precision::F32, Precision::Bf16]
    } else {
        &[Precision::F32]
    }
}

/// Runs ops with their gradients, the network, a segmentation and a training on `device` and on the processor, and looks
/// at how a device fails. On the processor itself everything agrees, and what is for GPUs alone is left out.
///
/// # Errors
/// Where the device fails at what it must do.
fn check_device(device: &Device, progress: &dyn Progress) -> Result<Vec<DeviceCheck>> {
    let here = Path::new("check-device");
    let mut checks = Vec::new();
    let precisions = precisions(device);
    for &precision in precisions {
        checks.extend(check_ops(device, precision).on(here)?);
        for (_, head) in Head::ALL {
            checks.push(check_network(device, precision, head).on(here)?);
        }
    }
    checks.extend(check_segmentation(device, false, progress)?);
    checks.extend(check_segmentation(device, true, progress)?);
    checks.extend(training::check_training(device, precisions, progress)?);
    checks.extend(check_failures(device));
    Ok(checks)
}

fn allowed(precision: Precision) -> f64 {
    match precision {
        Precision::Bf16 => BF16_ALLOWED,
        Precision::F32 => F32_ALLOWED,
    }
}

/// The element type of volumes.
fn dtype_of(precision: Precision) -> DType {
    match precision {
        Precision::Bf16 => DType::BF16,
        Precision::F32 => DType::F32,
    }
}

/// Values in [-1, 1) without pattern.
fn noise(shape: &[usize], seed: u32) -> candle_core::Result<Tensor> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / (1_u32 << 31) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The greatest difference, of the greatest value; infinite where there is one that is no number.
fn difference(found: &Tensor, expected: &Tensor) -> candle_core::Result<f64> {
    let values = |tensor: &Tensor| {
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        tensor.flatten_all()?.to_vec1::<f32>()
    };
    let (found, expected) = (values(found)?, values(expected)?);
    let greatest = expected
        .iter()
        .fold(f32::MIN_POSITIVE, |greatest, value| greatest.max(value.abs()));
    let differences = found
        .iter()
        .zip(&expected)
        .map(|(found, expected)| (found - expected).abs());
    let most = differences.fold(0.0, |most: f32, difference| {
        if difference.is_nan() {
            f32::INFINITY
        } else {
            most.max(difference)
        }
    });
    Ok(f64::from(most / greatest))
}

type Op = fn(&[Tensor]) -> candle_core::Result<Tensor>;

/// An op with the shapes of what it takes.
struct Problem {
    name: &'static str,
    /// Volumes come first; what follows are parameters, in f32.
    volumes: usize,
    inputs: &'static [&'static [usize]],
    op: Op,
}

const RELU: Conv3dConfig = Conv3dConfig {
    padding: Padding::Same,
    activation: Activation::Relu,
};
const ODD: Conv3dConfig = Conv3dConfig {
    padding: Padding::Explicit([[0, 2], [2, 1], [1, 0]]),
    activation: Activation::Identity,
};

const MIDDLE: Conv3dConfig = Conv3dConfig {
    padding: Padding::Explicit([[0, 0], [1, 1], [1, 1]]),
    activation: Activation::Relu,
};

/// Layers of the network, and odd sizes.
const PROBLEMS: &[Problem] = &[
    Problem {
        name: "conv3d 1 to 32",
        volumes: 1,
        inputs: &[&[2, 1, 9, 7, 11], &[32, 1, 3, 3, 3], &[32]],
        op: |t| conv3d(&t[0], &t[1], Some(&t[2]), &RELU),
    },
    Problem {
        name: "conv3d 32 to 32",
        volumes: 1,
        inputs: &[&[1, 32, 13, 17, 19], &[32, 32, 3, 3, 3], &[32]],
        op: |t| conv3d(&t[0], &t[1], Some(&t[2]), &RELU),
    },
    Problem {
        name: "conv3d 48 to 64",
        volumes: 1,
        inputs: &[&[2, 48, 6, 5, 7], &[64, 48, 3, 3, 3], &[64]],
        op: |t| conv3d(&t[0], &t[1], Some(&t[2]), &RELU),
    },
    Problem {
        name: "conv3d 5 to 9, odd padding",
        volumes: 1,
        inputs: &[&[1, 5, 3, 4, 5], &[9, 5, 3, 3, 3], &[9]],
        op: |t| conv3d(&t[0], &t[1], Some(&t[2]), &ODD),
    },
    Problem {
        name: "conv3d 32 to 13, 1 voxel",
        volumes: 1,
        inputs: &[&[1, 32, 7, 9, 5], &[13, 32, 1, 1, 1], &[13]],
        op: |t| conv3d(&t[0], &t[1], Some(&t[2]), &Conv3dConfig::default()),
    },
    Problem {
        name: "conv3d 32 to 48, a sweep's middle",
        volumes: 1,
        inputs: &[&[1, 32, 8, 12, 16], &[48, 32, 3, 3, 3], &[48]],
        op: |t| conv3d(&t[0], &t[1], Some(&t[2]), &MIDDLE),
    },
    Problem {
        name: "conv3d 16 to 24 without bias",
        volumes: 1,
        inputs: &[&[3, 16, 5, 6, 4], &[24, 16, 3, 3, 3]],
        op: |t| conv3d(&t[0], &t[1], None, &RELU),
    },
    Problem {
        name: "conv3d_concat 48 + 32 to 32",
        volumes: 2,
        inputs: &[&[1, 48, 8, 9, 10], &[1, 32, 8, 9, 10], &[32, 80, 3, 3, 3], &[32]],
        op: |t| conv3d_concat(&t[0], &t[1], &t[2], Some(&t[3]), &RELU),
    },
    Problem {
        name: "upsample2_conv2 64 to 64",
        volumes: 1,
        inputs: &[&[1, 64, 5, 6, 7], &[64, 64, 2, 2, 2], &[64]],
        op: |t| upsample2_conv2(&t[0], &t[1], Some(&t[2]), Activation::Relu),
    },
    Problem {
        name: "max_pool2",
        volumes: 1,
        inputs: &[&[2, 48, 6, 8, 10]],
        op: |t| max_pool2(&t[0]),
    },
    Problem {
        name: "softmax_channels",
        volumes: 1,
        inputs: &[&[2, 13, 5, 6, 7]],
        op: |t| softmax_channels(&t[0]),
    },
];

/// Each op and its gradients against those of the processor in f32, on values that both can hold.
fn check_ops(device: &Device, precision: Precision) -> candle_core::Result<Vec<DeviceCheck>> {
    let dtype = dtype_of(precision);
    let mut checks = Vec::new();
    for (seed, problem) in PROBLEMS.iter().enumerate() {
        let inputs: Vec<Tensor> = problem
            .inputs
            .iter()
            .enumerate()
            .map(|(i, shape)| noise(shape, (100 * seed + i) as u32)?.to_dtype(dtype))
            .collect::<candle_core::Result<_>>()?;
        let run = |device: &Device, dtype: DType| -> candle_core::Result<Vec<Tensor>> {
            let on_device = |(index, tensor): (usize, &Tensor)| {
                let dtype = if index < problem.volumes {
                    dtype
                } else {
                    DType::F32
                };
                Var::from_tensor(&tensor.to_dtype(dtype)?.to_device(device)?)
            };
            let variables: Vec<Var> = inputs
                .iter()
                .enumerate()
                .map(on_device)
                .collect::<candle_core::Result<_>>()?;
            let arguments: Vec<Tensor> = variables.iter().map(|var| var.as_tensor().clone()).collect();
            let result = (problem.op)(&arguments)?;
            let factors = noise(result.dims(), 7)?.to_device(device)?.to_dtype(dtype)?;
            let gradients = (&result * factors)?.sum_all()?.backward()?;
            let of_inputs = variables.iter().map(|variable| {
                let gradient = gradients.get(variable.as_tensor());
                gradient
                    .cloned()
                    .ok_or_else(|| candle_core::Error::Msg("an input without a gradient".into()))
            });
            [Ok(result.clone())].into_iter().chain(of_inputs).collect()
        };
        let (found, expected) = (run(device, dtype)?, run(&Device::Cpu, DType::F32)?);
        let mut most: f64 = 0.0;
        for (found, expected) in found.iter().zip(&expected) {
            most = most.max(difference(found, expected)?);
        }
        checks.push(DeviceCheck {
            what: format!("{} and its gradients, {precision}", problem.name),
            found: most,
            allowed: allowed(precision),
        });
    }
    let values = noise(&[1, 13, 9, 10, 11], 3)?.to_dtype(dtype)?;
    let labels = |device: &Device, dtype: DType| -> candle_core::Result<Vec<u8>> {
        let values = values.to_dtype(dtype)?.to_device(device)?;
        argmax_channels(&values)?.flatten_all()?.to_vec1()
    };
    checks.push(DeviceCheck {
        what: format!("argmax_channels, {precision}"),
        found: unlike(&labels(device, dtype)?, &labels(&Device::Cpu, DType::F32)?),
        allowed: 0.0,
    });
    Ok(checks)
}

/// Part of the labels that differ.
fn unlike(found: &[u8], expected: &[u8]) -> f64 {
    let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    (differing + found.len().abs_diff(expected.len())) as f64 / expected.len().max(1) as f64
}

fn weights(head: Head) -> deepfinder_net::Result<Weights> {
    let metadata = Metadata {
        head,
        ..Metadata::default()
    };
    Weights::initial(13, 1, metadata)
}

/// The whole network's logits.
fn check_network(device: &Device, precision: Precision, head: Head) -> deepfinder_net::Result<DeviceCheck> {
    let input = noise(&[1, 1, 24, 20, 28], 5)?;
    let on = |device: &Device, precision: Precision| {
        let net = UNet::new(&weights(head)?, device)?.with_precision(precision);
        net.forward(&input.to_device(device)?)
    };
    Ok(DeviceCheck {
        what: format!("logits of the network, head {head}, {precision}"),
        found: difference(&on(device, precision)?, &on(&Device::Cpu, Precision::F32)?)?,
        allowed: allowed(precision),
    })
}

fn voxels(side: usize) -> Result<Array3<f32>> {
    let here = Path::new("check-device");
    let values = noise(&[side.pow(3)], 9)
        .and_then(|tensor| tensor.to_vec1())
        .on(here)?;
    Array3::from_shape_vec([side; 3], values).on(here)
}

/// A segmentation in tiles, plane by plane, as tomograms are, and averaged with that of the tomogram turned where that is
/// wanted; its labels, and its score maps.
fn check_segmentation(device: &Device, half_turn: bool, progress: &dyn Progress) -> Result<[DeviceCheck; 2]> {
    let here = Path::new("check-device");
    let tomogram = Volume::new(voxels(72)?);
    let segmented = |device: &Device, tile: Option<[usize; 3]>| -> Result<(Vec<u8>, Tensor)> {
        let net = weights(Head::Full)
            .and_then(|weights| UNet::new(&weights, device))
            .on(here)?;
        let params = SegmentParams {
            plan: Plan::Exact { tile },
            half_turn,
            ..SegmentParams::default()
        };
        let mut slabs: Vec<Array3<Label>> = Vec::new();
        let mut maps: Vec<Vec<Array3<f32>>> = vec![Vec::new(); net.classes()];
        let mut scores: Vec<&mut dyn VolumeWriter<f32>> = maps.iter_mut().map(|map| map as _).collect();
        segment(&net, &tomogram, &params, &mut slabs, &mut scores, progress).on(here)?;
        let scores: Vec<f32> = maps.into_iter().flatten().flatten().collect();
        let length = scores.len();
        let scores = Tensor::from_vec(scores, length, &Device::Cpu).on(here)?;
        Ok((slabs.into_iter().flatten().collect(), scores))
    };
    let (labels, scores) = segmented(device, Some([36, 72, 40]))?;
    let (expected_labels, expected_scores) = segmented(&Device::Cpu, None)?;
    let of_gpu = |allowed: f64| if device.is_cpu() { 0.0 } else { allowed };
    let what = if half_turn {
        "an averaged segmentation"
    } else {
        "a segmentation"
    };
    Ok([
        DeviceCheck {
            what: format!("labels of {what} in tiles"),
            found: unlike(&labels, &expected_labels),
            allowed: of_gpu(LABELS_ALLOWED),
        },
        DeviceCheck {
            what: format!("scores of {what} in tiles"),
            found: difference(&scores, &expected_scores).on(here)?,
            allowed: of_gpu(allowed(Precision::F32)),
        },
    ])
}

/// That what cannot be had is an error, and that the device goes on after it.
fn check_failures(device: &Device) -> Vec<DeviceCheck> {
    let holds = |what: &str, holds: bool| DeviceCheck {
        what: what.to_owned(),
        found: if holds { 0.0 } else { 1.0 },
        allowed: 0.0,
    };
    let mut checks = vec![holds(
        "a GPU that is not there is refused",
        gpu(gpus().map_or(0, |gpus| gpus.len())).is_err(),
    )];
    if device.is_cuda() {
        // 4 TiB: more than any has.
        let refused = Tensor::zeros(1 << 40, DType::F32, device).is_err();
        checks.push(holds("a tensor that does not fit is refused", refused));
        let works = noise(&[4], 1)
            .and_then(|tensor| difference(&tensor.to_device(device)?, &tensor))
            .is_ok_and(|difference| difference == 0.0);
        checks.push(holds("and the next one is taken", works));
    }
    checks
}

#[cfg(test)]
mod tests {
    use deepfinder_core::NoProgress;

    use super::*;

    #[test]
    fn the_processor_agrees_with_itself() {
        let checks = check_device(&Device::Cpu, &NoProgress).unwrap();
        assert_eq!(
            checks.len(),
            PROBLEMS.len() + 6 + Head::ALL.len() + training::CHECKS
        );
        for check in &checks {
            assert!(check.holds() && check.found == 0.0, "{check:?}");
        }
    }

    #[test]
    fn several_processors_train_what_one_does() {
        let checks = check_devices(&[Device::Cpu, Device::Cpu], &NoProgress).unwrap();
        assert_eq!(checks.len(), 2);
        for check in &checks {
            // Sums in another order, which some iterations make larger.
            assert!(check.holds() && check.found < 1e-3, "{check:?}");
            assert!(check.what.contains("on 2 devices"), "{check:?}");
        }
        let one = check_devices(&[Device::Cpu], &NoProgress).unwrap();
        assert!(one.len() > checks.len());
    }

    #[test]
    fn what_differs_or_is_no_number_is_found() {
        let expected = Tensor::new(&[1f32, -4.0], &Device::Cpu).unwrap();
        let found =
            |values: [f32; 2]| difference(&Tensor::new(&values, &Device::Cpu).unwrap(), &expected).unwrap();
        assert_eq!((found([1.0, -4.0]), found([1.0, -2.0])), (0.0, 0.5));
        assert!(found([f32::NAN, -4.0]).is_infinite());
        assert_eq!((unlike(&[1, 2], &[1, 3]), unlike(&[1], &[1, 3])), (0.5, 0.5));
    }
}
