use candle_core::{DType, Device, Tensor};
use deepfinder_net::{Head, NetError, Precision, RECEPTIVE_FIELD, Skip, UNet, Weights};

use crate::{noise, way_back, weights, weights_to};

const HEADS: [Head; 2] = [Head::Full, Head::Half];

#[test]
fn only_fitting_inputs_run() {
    let net = UNet::new(&weights(3, 1), &Device::Cpu).unwrap();
    let run = |shape: &[usize]| net.forward(&Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
    assert_eq!(run(&[2, 1, 4, 8, 4]).unwrap().dims(), [2, 3, 4, 8, 4]);
    for bad in [
        &[1, 1, 4, 4, 6][..],
        &[1, 2, 4, 4, 4],
        &[1, 4, 4, 4],
        &[1, 1, 0, 4, 4],
    ] {
        assert!(matches!(run(bad), Err(NetError::Input { .. })), "{bad:?}");
    }
}

#[test]
fn variables_are_what_the_network_sees() {
    let weights = weights(2, 1);
    let (net, variables) = UNet::trainable(&weights, &Device::Cpu).unwrap();
    assert_eq!(variables.len(), weights.tensors().len());
    let input = Tensor::ones((1, 1, 4, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let before = net.forward(&input).unwrap();
    let gradients = before.sqr().unwrap().mean_all().unwrap().backward().unwrap();
    for (name, variable) in &variables {
        assert!(gradients.get(variable).is_some(), "no gradient for {name}");
        variable.set(&variable.zeros_like().unwrap()).unwrap();
    }
    let largest = |logits: &Tensor| {
        logits
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    assert!(largest(&before) > 0.0);
    assert_eq!(largest(&net.forward(&input).unwrap()), 0.0);
    // The weights they were made from are untouched.
    let fresh = UNet::new(&weights, &Device::Cpu)
        .unwrap()
        .forward(&input)
        .unwrap();
    assert_eq!(largest(&(fresh - before).unwrap()), 0.0);
}

/// The way back by hand and candle's own: in f32 they add up the same numbers in the same order; in bf16 the gradient of
/// the logits is rounded before the last layer.
#[test]
fn the_way_back_is_that_of_candle() {
    let ways = [(Precision::F32, 0.0), (Precision::Bf16, 0.02)];
    for (head, (precision, tolerance)) in HEADS.into_iter().flat_map(|head| ways.map(|way| (head, way))) {
        let weights = weights_to(head, 4, 9);
        let (net, variables) = UNet::trainable(&weights, &Device::Cpu).unwrap();
        let net = net.with_precision(precision);
        let input = Tensor::randn(0f32, 1.0, (2, 1, 8, 12, 16), &Device::Cpu).unwrap();
        let loss = |logits: &Tensor| logits.sqr().unwrap().mean_all().unwrap();
        let logits = net.forward(&input).unwrap();
        let expected = loss(&logits).backward().unwrap();
        let trace = net.trace(&input).unwrap();
        let found = trace.logits().clone();
        let scale = |tensor: &Tensor| {
            let greatest = tensor.abs().unwrap().max_all().unwrap();
            greatest.to_scalar::<f32>().unwrap()
        };
        let off = |a: &Tensor, b: &Tensor| scale(&(a - b).unwrap()) / scale(b);
        assert!(off(&found, &logits) <= 1e-5, "{head}, {precision:?}: logits");
        let found = way_back(trace, loss);
        for (name, variable) in &variables {
            let (found, expected) = (found.get(variable).unwrap(), expected.get(variable).unwrap());
            let off = off(found, expected);
            assert!(off <= tolerance, "{head}, {precision:?}, {name}: {off}");
        }
    }
}

#[test]
fn a_gradient_of_something_else_is_no_way_back() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for head in HEADS {
        let (net, _) = UNet::trainable(&weights_to(head, 2, 1), &Device::Cpu).unwrap();
        let back = |of_logits: &[usize]| {
            let trace = net.trace(&zeros(&[1, 1, 4, 4, 4])).unwrap();
            trace.backward(&zeros(of_logits))
        };
        assert!(back(&[1, 2, 4, 4, 4]).is_ok());
        for other in [[1, 3, 4, 4, 4], [1, 2, 4, 4, 8], [2, 2, 4, 4, 4]] {
            assert!(back(&other).is_err(), "{head}: {other:?}");
        }
    }
}

/// With positive weights and no bias, an impulse lights up exactly the voxels that look at it: the response of a
/// network that looks at most `before` and `after` voxels reaches `after` before the impulse and `before` after it.
/// Voxels in front of it and behind it that are lit, on each axis.
fn lit_by_an_impulse(head: Head) -> [(usize, usize); 3] {
    let weights = weights_to(head, 2, 4);
    let positive: Vec<_> = weights
        .tensors()
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.abs().unwrap()))
        .collect();
    let weights = Weights::from_tensors(positive, weights.metadata().clone()).unwrap();
    let net = UNet::new(&weights, &Device::Cpu).unwrap();
    [0, 1, 2].map(|axis| {
        let mut reach = (0, 0);
        for impulse in 40..44 {
            let mut shape = [1, 1, 4, 4, 4];
            shape[2 + axis] = 84;
            let mut voxels = vec![0.0_f32; 84 * 16];
            voxels[impulse * [16, 4, 1][axis]] = 1.0;
            let response = net
                .forward(&Tensor::from_vec(voxels, &shape, &Device::Cpu).unwrap())
                .unwrap();
            let others: Vec<usize> = (0..5).filter(|dim| *dim != 2 + axis).collect();
            let profile = response.sum(others).unwrap().to_vec1::<f32>().unwrap();
            // Outwards from the impulse. What is computed together with a lit voxel is off by rounding.
            let lit = |inner: usize, outer: usize| profile[outer] > 2e-3 * profile[inner];
            let first = (1..=impulse).rev().find(|i| !lit(*i, i - 1)).unwrap_or(0);
            let last = (impulse..83).find(|i| !lit(*i, i + 1)).unwrap_or(83);
            reach = (reach.0.max(impulse - first), reach.1.max(last - impulse));
        }
        reach
    })
}

#[test]
fn the_receptive_field_is_as_stated() {
    let expected = (RECEPTIVE_FIELD.after, RECEPTIVE_FIELD.before);
    assert_eq!(lit_by_an_impulse(Head::Full), [expected; 3]);
    // It lacks two convolutions on the full level, and one that looks ahead on the half level.
    for (before, after) in lit_by_an_impulse(Head::Half) {
        assert!(before < expected.0 && after < expected.1, "{before}, {after}");
        assert!(
            before > expected.0 / 2 && after > expected.1 / 2,
            "{before}, {after}"
        );
    }
}

/// Eight voxels have the scores of their block.
#[test]
fn scores_of_the_half_level_are_those_of_its_voxels() {
    let net = UNet::new(&weights_to(Head::Half, 3, 2), &Device::Cpu).unwrap();
    assert_eq!((net.head(), net.classes()), (Head::Half, 3));
    let input = noise(3, &[2, 1, 8, 4, 12]);
    let logits = net.forward(&input).unwrap();
    assert_eq!(logits.dims(), [2, 3, 8, 4, 12]);
    let values = |z: usize, y: usize, x: usize| {
        let at = |axis: usize, from: usize, tensor: &Tensor| {
            let places: Vec<u32> = (from as u32..tensor.dim(axis).unwrap() as u32)
                .step_by(2)
                .collect();
            let places = Tensor::new(places, &Device::Cpu).unwrap();
            tensor.contiguous().unwrap().index_select(&places, axis).unwrap()
        };
        bits(&at(4, x, &at(3, y, &at(2, z, &logits))))
    };
    let first = values(0, 0, 0);
    assert!(first.windows(2).any(|pair| pair[0] != pair[1]));
    for (z, y, x) in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)] {
        assert_eq!(values(z, y, x), first);
    }
}

/// Pieces of any size give what the whole gives, to the last bit.
#[test]
fn a_sweep_is_a_pass_over_the_whole() {
    for (head, depth) in HEADS
        .into_iter()
        .flat_map(|head| [4, 8, 48, 72].map(|depth| (head, depth)))
    {
        let net = UNet::new(&weights_to(head, 3, 6), &Device::Cpu).unwrap();
        let input = noise(depth as u64, &[1, 1, depth, 8, 12]);
        let expected = bits(&net.forward(&input).unwrap());
        let skips = [Skip::Keep, Skip::Recompute];
        for (chunk, skip) in [4, 8, 20, 72]
            .into_iter()
            .flat_map(|chunk| skips.map(|skip| (chunk, skip)))
        {
            let mut sweep = net.sweep(skip).unwrap();
            let mut found = Vec::new();
            for z in (0..depth).step_by(chunk) {
                let planes = chunk.min(depth - z);
                let piece = input.narrow(2, z, planes).unwrap();
                sweep
                    .push(&piece, z + planes == depth, |logits| {
                        assert!(logits.dim(2).unwrap() <= chunk, "no thicker than what came");
                        found.push(logits);
                        Ok::<_, NetError>(())
                    })
                    .unwrap();
            }
            let found = bits(&Tensor::cat(&found, 2).unwrap());
            assert_eq!(
                found, expected,
                "{head}, depth {depth} in pieces of {chunk}, {skip:?}"
            );
            assert!(
                sweep.push(&input, true, |_| Ok::<_, NetError>(())).is_err(),
                "a sweep that is over takes nothing"
            );
        }
    }
}

/// In bf16, pieces of any size give the same, and what a pass over the whole gives; and that is close to f32.
#[test]
fn sweeps_in_bf16_agree() {
    HEADS.into_iter().for_each(sweeps_in_bf16_agree_to);
}

fn sweeps_in_bf16_agree_to(head: Head) {
    let net = UNet::new(&weights_to(head, 3, 6), &Device::Cpu).unwrap();
    let half = net.clone().with_precision(Precision::Bf16);
    assert_eq!(half.precision(), Precision::Bf16);
    let input = noise(48, &[1, 1, 48, 8, 12]);
    let of_sweep = |chunk: usize, skip| {
        let mut sweep = half.sweep(skip).unwrap();
        let mut found = Vec::new();
        for z in (0..48).step_by(chunk) {
            let planes = chunk.min(48 - z);
            let give = |logits| {
                found.push(logits);
                Ok::<_, NetError>(())
            };
            sweep
                .push(&input.narrow(2, z, planes).unwrap(), z + planes == 48, give)
                .unwrap();
        }
        Tensor::cat(&found, 2).unwrap()
    };
    let largest = |a: &Tensor, b: &Tensor| {
        let difference = (a - b).unwrap().abs().unwrap();
        difference.max_all().unwrap().to_scalar::<f32>().unwrap()
    };
    let whole = of_sweep(48, Skip::Keep);
    for (chunk, skip) in [(4, Skip::Keep), (20, Skip::Recompute), (8, Skip::Recompute)] {
        assert_eq!(
            bits(&of_sweep(chunk, skip)),
            bits(&whole),
            "pieces of {chunk}, {skip:?}"
        );
    }
    let (forward, single) = (half.forward(&input).unwrap(), net.forward(&input).unwrap());
    let scale = largest(&single, &single.zeros_like().unwrap());
    assert!(largest(&whole, &forward) < 1e-4 * scale);
    let off = largest(&whole, &single) / scale;
    assert!(0.0 < off && off < 0.03, "{off}");
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}
