//! The loss in candle's own operations: for devices without the fused one, and to check that against.

use candle_core::{DType, Tensor};

use crate::{Loss, LossParams, Result, VoxelCounts};

/// The loss of `[N, C, D, H, W]` logits against labels in C order, all of them below C.
pub(crate) fn loss(logits: &Tensor, labels: &[u8], params: &LossParams) -> Result<Loss> {
    let (n, scores, d, h, w) = logits.dims5()?;
    let device = logits.device();
    let one_hot: Vec<u8> = (0..n)
        .flat_map(|patch| {
            let labels = &labels[patch * d * h * w..(patch + 1) * d * h * w];
            (0..scores).flat_map(move |class| {
                labels
                    .iter()
                    .map(move |label| u8::from(usize::from(*label) == class))
            })
        })
        .collect();
    let truth = Tensor::from_vec(one_hot, (n, scores, d, h, w), device)?.to_dtype(logits.dtype())?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(1)?.log()?)?;
    let p = log_p.exp()?;
    let per_class = |x: &Tensor| x.sum((0, 2, 3, 4));

    let overlap = per_class(&(&p * &truth)?)?;
    let wrongly = (per_class(&p)? - &overlap)?;
    let missed = (per_class(&truth)? - &overlap)?;
    let numerator = (&overlap + params.smoothing)?;
    // No 0/0: far below one voxel's share of anything.
    let denominator =
        ((&numerator + (wrongly * params.alpha)?)? + (missed * params.beta)?)?.maximum(1e-30)?;
    let missing = (1.0 - (numerator / denominator)?)?;
    let dice = match params.focal {
        ..1.0 => missing.maximum(1e-6)?.powf(params.focal)?,
        focal => missing.powf(focal)?,
    };
    let dice = dice.sum_all()?;

    let weights: Vec<f64> = (0..scores).map(|class| params.class_weight(class)).collect();
    let weights = Tensor::from_vec(weights, scores, device)?.to_dtype(logits.dtype())?;
    let total = (per_class(&truth)? * &weights)?.sum_all()?.maximum(1e-30)?;
    let surprise = (per_class(&(&log_p * &truth)?)? * &weights)?.sum_all()?.neg()?;
    let (sure, spread) = params.shares(scores);
    let surprise = if spread > 0.0 {
        let doubt = (per_class(&log_p)? * &weights)?.sum_all()?.neg()?;
        ((surprise * sure)? + (doubt * spread)?)?
    } else {
        surprise
    };
    let cross_entropy = (surprise / total)?;

    let tensor = ((dice * params.dice_weight)? + (cross_entropy * params.cross_entropy_weight)?)?;
    let mut counts = VoxelCounts::new(scores);
    let predicted = logits.argmax(1)?.flatten_all()?.to_vec1::<u32>()?;
    for (&label, predicted) in labels.iter().zip(predicted) {
        let (label, predicted) = (usize::from(label), predicted as usize);
        counts.truth[label] += 1;
        counts.predicted[predicted] += 1;
        counts.agreed[label] += u64::from(label == predicted);
    }
    let value = tensor.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(Loss {
        tensor,
        value,
        counts,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Whether memory is channels-first, channels-last, or neither.
    #[derive(Debug, Clone, Copy)]
    enum Memory {
        First,
        Last,
        Neither,
    }

    fn problem(shape: [usize; 5], memory: Memory, seed: u64, present: u8) -> (Tensor, Vec<u8>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let [n, c, d, h, w] = shape;
        let logits: Vec<f64> = (0..n * c * d * h * w)
            .map(|_| rng.random_range(-4.0..4.0))
            .collect();
        let device = &Device::Cpu;
        let logits = match memory {
            Memory::First => Tensor::from_vec(logits, &shape, device),
            Memory::Last => Tensor::from_vec(logits, &[n, d, h, w, c], device)
                .and_then(|logits| logits.permute((0, 4, 1, 2, 3))),
            Memory::Neither => Tensor::from_vec(logits, &[w, n, d, h, c], device)
                .and_then(|logits| logits.permute((1, 4, 2, 3, 0))),
        };
        let labels = (0..n * d * h * w)
            .map(|_| rng.random_range(0..present.min(c as u8)))
            .collect();
        (logits.unwrap(), labels)
    }

    const CASES: usize = 6;

    fn params(case: usize, scores: usize) -> LossParams {
        match case {
            0 => LossParams::default(),
            1 => LossParams::dice(),
            2 => LossParams {
                dice_weight: 0.0,
                class_weights: Some((1..=scores).map(|class| class as f64).collect()),
                ..LossParams::default()
            },
            3 => LossParams {
                focal: 0.75,
                label_smoothing: 0.2,
                ..LossParams::default()
            },
            4 => LossParams {
                focal: 1.5,
                smoothing: 0.0,
                label_smoothing: 0.1,
                class_weights: Some((1..=scores).map(|class| class as f64).collect()),
                ..LossParams::default()
            },
            _ => LossParams {
                dice_weight: 0.7,
                cross_entropy_weight: 2.0,
                alpha: 0.3,
                beta: 0.9,
                smoothing: 0.1,
                ..LossParams::default()
            },
        }
    }

    fn gradient(logits: &Tensor, of: impl Fn(&Tensor) -> Loss) -> (f64, Vec<f64>, VoxelCounts) {
        // Zero is added so that the layout stays while the variable is the leaf.
        let zero = Var::zeros(logits.shape(), logits.dtype(), logits.device()).unwrap();
        let order = [0, 2, 3, 4, 1];
        let leaf = if logits.is_contiguous() {
            (logits + zero.as_tensor()).unwrap()
        } else {
            let (a, b) = (logits.permute(order).unwrap(), zero.permute(order).unwrap());
            (a + b).unwrap().permute((0, 4, 1, 2, 3)).unwrap()
        };
        let loss = of(&leaf);
        let gradients = loss.tensor.backward().unwrap();
        let gradient = gradients.get(&zero).unwrap().to_dtype(DType::F64).unwrap();
        (
            loss.value,
            gradient.flatten_all().unwrap().to_vec1().unwrap(),
            loss.counts,
        )
    }

    fn fused(logits: &Tensor, labels: &[u8], params: &LossParams) -> Loss {
        let (n, _, d, h, w) = logits.dims5().unwrap();
        let target = Tensor::from_slice(labels, (n, d, h, w), logits.device()).unwrap();
        crate::loss(logits, &target, params).unwrap()
    }

    /// Of sums of up to some thousand terms of order 1.
    const F64_TOLERANCE: f64 = 1e-11;
    const F32_TOLERANCE: f64 = 1e-5;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_fused_loss_is_the_plain_one(
            shape in [1usize..3, 1usize..6, 1usize..5, 1usize..5, 1usize..20],
            memory in prop_oneof![Just(Memory::First), Just(Memory::Last), Just(Memory::Neither)],
            case in 0usize..CASES,
            present in 1u8..5,
            seed: u64,
        ) {
            let (logits, labels) = problem(shape, memory, seed, present);
            let params = params(case, shape[1]);
            for (dtype, tolerance) in [(DType::F64, F64_TOLERANCE), (DType::F32, F32_TOLERANCE)] {
                let logits = logits.to_dtype(dtype).unwrap();
                let a = gradient(&logits, |logits| fused(logits, &labels, &params));
                let b = gradient(&logits, |logits| loss(logits, &labels, &params).unwrap());
                prop_assert!((a.0 - b.0).abs() <= tolerance * a.0.abs().max(1.0), "{} {}", a.0, b.0);
                for (a, b) in a.1.iter().zip(&b.1) {
                    prop_assert!((a - b).abs() <= tolerance, "{a} {b}");
                }
                prop_assert_eq!(a.2, b.2);
            }
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        const STEP: f64 = 1e-5;
        const TOLERANCE: f64 = 1e-9;
        for case in 0..CASES {
            let (logits, labels) = problem([2, 4, 2, 3, 2], Memory::Last, 11, 3);
            let params = params(case, 4);
            let (_, analytic, _) = gradient(&logits, |logits| fused(logits, &labels, &params));
            let values = logits.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (i, analytic) in analytic.iter().enumerate() {
                let at = |step: f64| {
                    let mut values = values.clone();
                    values[i] += step;
                    let logits = Tensor::from_vec(values, logits.shape(), logits.device()).unwrap();
                    fused(&logits, &labels, &params).value
                };
                let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert!(
                    (analytic - numeric).abs() < TOLERANCE,
                    "{case} {i}: {analytic} {numeric}"
                );
            }
        }
    }

    #[test]
    fn an_absent_class_costs_one_and_teaches_nothing_without_smoothing() {
        let (logits, _) = problem([1, 3, 4, 4, 4], Memory::Last, 2, 1);
        let with_three = fused(&logits, &[0; 64], &LossParams::dice()).value;
        assert!((2.0..3.0).contains(&with_three));
        // Scores so far apart that the other classes' probabilities are 0: 0/0 in the bare formula.
        let device = &Device::Cpu;
        let sure = Tensor::from_slice(&[1000f32, 0.0, 0.0], (1, 3, 1, 1, 1), device)
            .and_then(|logits| logits.broadcast_as((1, 3, 2, 2, 2)))
            .and_then(|logits| logits.contiguous())
            .unwrap();
        let (value, gradient, _) = gradient(&sure, |logits| fused(logits, &[0; 8], &LossParams::dice()));
        assert_eq!(value, 2.0);
        assert!(gradient.iter().all(|slope| *slope == 0.0));
        assert_eq!(fused(&sure, &[0; 8], &LossParams::default()).value, 0.0);
    }

    #[test]
    fn threads_do_not_matter() {
        let (logits, labels) = problem([2, 3, 24, 20, 20], Memory::Last, 3, 3);
        let logits = logits.to_dtype(DType::F32).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| gradient(&logits, |logits| fused(logits, &labels, &LossParams::default())))
        };
        assert_eq!(run(1), run(5));
    }

    #[test]
    fn targets_that_do_not_fit_are_refused() {
        let (logits, _) = problem([1, 3, 2, 2, 2], Memory::First, 2, 1);
        let refused = |target: Tensor| {
            crate::loss(&logits, &target, &LossParams::default())
                .unwrap_err()
                .to_string()
        };
        let device = &Device::Cpu;
        let small = Tensor::zeros((1, 2, 2, 1), DType::U8, device).unwrap();
        assert!(refused(small).contains("[1, 2, 2, 2]"));
        let foreign = Tensor::full(3u8, (1, 2, 2, 2), device).unwrap();
        assert!(refused(foreign).contains("label 3 has none of the 3 scores"));
        let weights = LossParams {
            class_weights: Some(vec![1.0; 2]),
            ..LossParams::default()
        };
        let target = Tensor::zeros((1, 2, 2, 2), DType::U8, device).unwrap();
        let error = crate::loss(&logits, &target, &weights).unwrap_err();
        assert!(error.to_string().contains("must be 3 numbers"));
    }
}
