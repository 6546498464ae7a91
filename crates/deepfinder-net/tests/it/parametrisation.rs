use std::collections::BTreeMap;

use candle_conv3d::{Conv3dConfig, conv3d};
use candle_core::{Device, Tensor, Var};
use deepfinder_net::{Head, Learner, Metadata, Parametrisation, UNet, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{noise, way_back, weights};

const SCORES: usize = 3;

/// The layers that pass their channels through.
const SQUARE: [&str; 7] = [
    "full.encode.1",
    "half.encode.1",
    "quarter.1",
    "quarter.2",
    "quarter.3",
    "half.decode.1",
    "full.decode.1",
];

fn residual() -> Learner {
    let metadata = Metadata::for_classes(["a", "b"]);
    let initial = Parametrisation::Residual.initial(SCORES, 3, metadata).unwrap();
    Learner::new(&initial, Parametrisation::Residual, &Device::Cpu).unwrap()
}

/// A learner whose variables are all set to something.
fn random() -> Learner {
    let learner = residual();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (_, variable) in learner.variables() {
        let values: Vec<f32> = (0..variable.elem_count())
            .map(|_| rng.random_range(-0.5..0.7))
            .collect();
        let values = Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap();
        variable.set(&values).unwrap();
    }
    learner.refresh().unwrap();
    learner
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// The kernels of reparametrised layers by what they are made of: name, shape, direction, gain, mean.
fn parts(learner: &Learner) -> Vec<(&str, &Var, [&Var; 3])> {
    let variables: BTreeMap<&str, &Var> = learner
        .variables()
        .iter()
        .map(|(name, variable)| (name.as_str(), variable))
        .collect();
    let of_tensor = |(name, tensor)| {
        let name: &String = name;
        let part = |part: &str| variables.get(format!("{name}.{part}").as_str()).copied();
        let parts = [part("direction")?, part("gain")?, part("mean")?];
        Some((name.as_str(), tensor, parts))
    };
    learner
        .tensors()
        .iter()
        .map(|(name, tensor)| (name, tensor))
        .filter_map(of_tensor)
        .collect()
}

/// A kernel `[O, C, k, k, k]` by the formula, value by value.
fn kernel(name: &str, shape: &[usize], direction: &[f64], gain: &[f64], mean: &[f64]) -> Vec<f64> {
    let taps = shape[2].pow(3);
    let n = shape[1] * taps;
    let square = SQUARE.contains(&name.trim_end_matches(".weight"));
    let mut kernel = Vec::new();
    for (o, row) in direction.chunks(n).enumerate() {
        let middle = row.iter().sum::<f64>() / n as f64;
        let length = row.iter().map(|w| (w - middle).powi(2)).sum::<f64>().sqrt();
        for (i, w) in row.iter().enumerate() {
            let passed = square && i / taps == o && i % taps == taps / 2;
            let branch = gain[o] * (w - middle) / length + mean[o] / (n as f64).sqrt();
            kernel.push(branch + f64::from(u8::from(passed)));
        }
    }
    kernel
}

#[test]
fn kernels_are_what_a_plain_computation_makes_of_the_variables() {
    let learner = random();
    let parts = parts(&learner);
    assert_eq!(parts.len(), 14, "all layers but the last");
    for (name, tensor, [direction, gain, mean]) in parts {
        let expected = kernel(
            name,
            tensor.dims(),
            &values(direction),
            &values(gain),
            &values(mean),
        );
        for (found, expected) in values(tensor).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
    }
}

#[test]
fn a_network_that_ends_on_the_half_level_learns_so_too() {
    let metadata = Metadata {
        head: Head::Half,
        ..Metadata::for_classes(["a", "b"])
    };
    let initial = Parametrisation::Residual.initial(SCORES, 3, metadata).unwrap();
    let learner = Learner::new(&initial, Parametrisation::Residual, &Device::Cpu).unwrap();
    assert_eq!(parts(&learner).len(), 11, "all layers but the last");
    let trace = learner.net().trace(&noise(4, &[1, 1, 8, 8, 8])).unwrap();
    let mut found = way_back(trace, |logits| logits.sqr().unwrap().mean_all().unwrap());
    learner.chain(&mut found).unwrap();
    for (name, variable) in learner.variables() {
        let gradient = values(found.get(variable).unwrap());
        assert!(gradient.iter().any(|g| *g != 0.0), "{name} does not learn");
    }
}

/// The loss is `Σ K · G` with G the gradients that the network's walk back gives for its kernels.
#[test]
fn gradients_are_finite_differences_of_the_plain_computation() {
    let learner = random();
    let input = noise(4, &[1, 1, 8, 8, 8]);
    let walk_back = || {
        let trace = learner.net().trace(&input).unwrap();
        way_back(trace, |logits| logits.sqr().unwrap().mean_all().unwrap())
    };
    let of_kernels = walk_back();
    let mut found = walk_back();
    learner.chain(&mut found).unwrap();
    for (name, tensor, variables) in parts(&learner) {
        let of_kernel = values(of_kernels.get(tensor.as_tensor()).unwrap());
        let at = variables.map(|variable| values(variable));
        let loss = |at: &[Vec<f64>; 3]| -> f64 {
            let kernel = kernel(name, tensor.dims(), &at[0], &at[1], &at[2]);
            kernel.iter().zip(&of_kernel).map(|(k, g)| k * g).sum()
        };
        for (which, variable) in variables.into_iter().enumerate() {
            let gradient = values(found.get(variable.as_tensor()).unwrap());
            let scale = gradient.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
            assert!(scale > 0.0, "{name}: part {which} does not learn");
            for index in [0, gradient.len() / 3, gradient.len() - 1] {
                let step = 1e-4;
                let moved = [-step, step].map(|step| {
                    let mut moved = at.clone();
                    moved[which][index] += step;
                    loss(&moved)
                });
                let expected = (moved[1] - moved[0]) / (2.0 * step);
                assert!(
                    (gradient[index] - expected).abs() < 1e-4 * scale,
                    "{name}, part {which}, {index}: {} {expected}",
                    gradient[index]
                );
            }
        }
    }
}

#[test]
fn without_a_branch_a_layer_passes_its_channels_through() {
    let learner = residual();
    let parts = parts(&learner);
    for (_, _, [_, gain, mean]) in &parts {
        for variable in [gain, mean] {
            variable.set(&variable.zeros_like().unwrap()).unwrap();
        }
    }
    learner.refresh().unwrap();
    for (name, tensor, _) in parts {
        let channels = tensor.dim(1).unwrap();
        let input = noise(5, &[1, channels, 4, 4, 4]).relu().unwrap();
        let passed = conv3d(&input, tensor.as_tensor(), None, &Conv3dConfig::default()).unwrap();
        if SQUARE.contains(&name.trim_end_matches(".weight")) {
            for (passed, came) in values(&passed).into_iter().zip(values(&input)) {
                assert!((passed - came).abs() < 1e-5, "{name}: {passed} {came}");
            }
        } else {
            assert!(values(&passed).iter().all(|value| *value == 0.0), "{name}");
        }
    }
}

#[test]
fn what_is_kept_is_the_network_that_learns_bit_for_bit() {
    let learner = random();
    let tensors = learner.tensors().iter();
    let named = tensors.map(|(name, tensor)| (name.clone(), tensor.as_tensor().clone()));
    let kept = Weights::from_tensors(named, Metadata::default()).unwrap();
    let kept = Weights::from_safetensors(&kept.to_safetensors().unwrap()).unwrap();
    let net = UNet::new(&kept, &Device::Cpu).unwrap();
    let input = noise(6, &[2, 1, 8, 4, 8]);
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let traced = |net: &UNet| bits(net.trace(&input).unwrap().logits());
    assert_eq!(traced(&net), traced(learner.net()));
    let through = |net: &UNet| bits(&net.forward(&input).unwrap());
    assert_eq!(through(&net), through(learner.net()));
}

/// Given weights stay what they are until something is learnt, those with channels that are nothing but a mean, or
/// nothing at all, among them; and those too can learn.
#[test]
fn any_weights_can_be_learnt_from() {
    let given = weights(SCORES, 2);
    let mut tensors = given.tensors().clone();
    for (name, value) in [("quarter.0.weight", 0.0), ("half.decode.0.weight", 0.25)] {
        let tensor = tensors.get_mut(name).unwrap();
        *tensor = tensor.affine(0.0, value).unwrap();
    }
    let given = Weights::from_tensors(tensors, given.metadata().clone()).unwrap();
    let learner = Learner::new(&given, Parametrisation::Residual, &Device::Cpu).unwrap();
    for (name, tensor) in learner.tensors() {
        let expected = values(&given.tensors()[name]);
        for (found, expected) in values(tensor.as_tensor()).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
    }
    for (name, _, [direction, gain, _]) in parts(&learner) {
        let length = direction.sqr().unwrap().sum(1).unwrap();
        for length in values(&length) {
            assert!((length - 1.0).abs() < 1e-5, "{name}: {length}");
        }
        gain.set(&gain.affine(1.0, 0.1).unwrap()).unwrap();
    }
    learner.refresh().unwrap();
    for (name, tensor, _) in parts(&learner) {
        let spread = values(&tensor.flatten_from(1).unwrap().var(1).unwrap());
        assert!(spread.iter().all(|spread| *spread > 0.0), "{name}");
    }
}

#[test]
fn plain_kernels_are_the_variables() {
    let given = weights(SCORES, 2);
    let learner = Learner::new(&given, Parametrisation::Plain, &Device::Cpu).unwrap();
    let ids = |named: &[(String, Var)]| -> Vec<_> {
        named
            .iter()
            .map(|(name, variable)| (name.clone(), variable.as_tensor().id()))
            .collect()
    };
    assert_eq!(ids(learner.variables()), ids(learner.tensors()));
    let fresh = Parametrisation::Plain.initial(SCORES, 2, given.metadata().clone());
    assert!(crate::same(&fresh.unwrap(), &given));
}

/// In a fresh network what comes out varies about as much as what comes in, where drawn weights let it fade.
#[test]
fn the_variance_is_kept_through_the_layers() {
    let input = noise(7, &[1, 1, 16, 16, 16]);
    let deviation = |parametrisation: Parametrisation| {
        let weights = parametrisation.initial(SCORES, 3, Metadata::default()).unwrap();
        let net = UNet::new(&weights, &Device::Cpu).unwrap();
        let logits = net.forward(&input).unwrap();
        let variance = logits
            .flatten_from(2)
            .unwrap()
            .var(2)
            .unwrap()
            .mean_all()
            .unwrap();
        f64::from(variance.to_scalar::<f32>().unwrap()).sqrt()
    };
    let (plain, residual) = (
        deviation(Parametrisation::Plain),
        deviation(Parametrisation::Residual),
    );
    assert!(
        plain < 0.1 && (0.3..3.0).contains(&residual),
        "{plain} {residual}"
    );
}
