use super::{
    super::{
        Element, Region, add_softmax, argmax, channelwise, max_pool, max_pool_gradient,
        optimiser::{AdamStep, adam},
        program::{Place, Step},
        relu_gradient, softmax, softmax_gradient,
    },
    ELEMENTS, assert_equal, from_bytes, replay, run, to_bytes, whole_numbers,
};
use crate::cpu::{self, PoolShape};

#[test]
fn pooling_and_activation_are_those_of_the_cpu() {
    let shape = PoolShape {
        batch: 2,
        output: [3, 1, 5],
        channels: 7,
    };
    // Many equal values: which of them gets the gradient matters.
    let input = whole_numbers(shape.input_len(), 1);
    let gradient = whole_numbers(shape.output_len(), 2);
    let mut result = vec![0.0; shape.output_len()];
    cpu::max_pool2_forward(&shape, &input, &mut result).unwrap();
    let mut of_input = vec![0.0; shape.input_len()];
    cpu::add_max_pool2_gradient(&shape, &input, &gradient, &mut of_input).unwrap();
    let mut before_relu = gradient.clone();
    cpu::relu_gradient(&result, &mut before_relu).unwrap();
    for element in ELEMENTS {
        let found = run(&max_pool(element, &shape).unwrap(), &[&input]);
        assert_equal("pooling", found, &result);
        let program = max_pool_gradient(element, &shape).unwrap();
        assert_equal(
            "its gradient",
            run(&program, &[&input, &result, &gradient]),
            &of_input,
        );
        let program = relu_gradient(element, gradient.len()).unwrap();
        assert_equal(
            "that of the ReLU",
            run(&program, &[&result, &gradient]),
            &before_relu,
        );
    }
}

/// What bf16 may be off by, relative to 1: half of its last place, twice (input and output).
const BF16_TOLERANCE: f32 = 1.0 / 128.0;
/// What another exp may be off by.
const EXP_TOLERANCE: f32 = 1e-6;

fn tolerance(element: Element) -> f32 {
    match element {
        Element::F32 => EXP_TOLERANCE,
        Element::Bf16 => BF16_TOLERANCE,
    }
}

#[test]
fn soft_max_and_labels_are_those_of_the_cpu() {
    for (voxels, channels) in [(1, 1), (77, 13), (301, 4), (3, 256)] {
        // Halves, exact in bf16, and many equal ones.
        let logits: Vec<f32> = whole_numbers(voxels * channels, 4)
            .iter()
            .zip(whole_numbers(voxels * channels, 5))
            .map(|(a, b)| a + b / 2.0)
            .collect();
        let gradient = whole_numbers(logits.len(), 6);
        let mut probabilities = vec![0.0; logits.len()];
        cpu::softmax_channels(channels, &logits, &mut probabilities).unwrap();
        let mut labels = vec![0; voxels];
        cpu::argmax_channels(channels, &logits, &mut labels).unwrap();
        for element in ELEMENTS {
            let near = |found: Option<Vec<f32>>, expected: &[f32]| {
                for (found, expected) in found.iter().flatten().zip(expected) {
                    assert!(
                        (found - expected).abs() <= tolerance(element),
                        "{found} {expected}"
                    );
                }
            };
            near(
                run(&softmax(element, voxels, channels).unwrap(), &[&logits]),
                &probabilities,
            );
            let probabilities = from_bytes(element, &to_bytes(element, &probabilities));
            let mut of_logits = vec![0.0; logits.len()];
            cpu::softmax_channels_gradient(channels, &probabilities, &gradient, &mut of_logits).unwrap();
            let program = softmax_gradient(element, voxels, channels).unwrap();
            near(run(&program, &[&probabilities, &gradient]), &of_logits);
            let program = argmax(element, voxels, channels).unwrap();
            if let Some(found) = replay(&program, &[to_bytes(element, &logits)], voxels) {
                assert_eq!(found, labels);
            }
        }
    }
}

#[test]
fn scores_are_added_where_they_belong() {
    let (size, channels) = ([3, 2, 5], 4);
    let logits: Vec<f32> = whole_numbers(3 * 2 * 5 * channels, 11);
    let mut scores = vec![0.0; logits.len()];
    cpu::softmax_channels(channels, &logits, &mut scores).unwrap();
    for turned in [false, true] {
        // The last two planes, to what the soft-max has left there.
        let mut program = softmax(Element::F32, 30, channels).unwrap();
        let part = Region {
            size: [2, 2, 5],
            channels,
            start: [1, 0, 0],
            plane: [size[1], size[2]],
            to: usize::from(turned),
            turned,
        };
        let added = add_softmax(logits.len(), logits.len(), &part).unwrap();
        program.steps.extend(added.steps);
        let mut expected = scores.clone();
        for (z, y, x) in (0..2).flat_map(|z| (0..2).flat_map(move |y| (0..5).map(move |x| (z, y, x)))) {
            let (plane, column) = if turned { (1 + 1 - z, 4 - x) } else { (z, x) };
            let from = (((1 + z) * 2 + y) * 5 + x) * channels;
            let to = ((plane * 2 + y) * 5 + column) * channels;
            for c in 0..channels {
                expected[to + c] += scores[from + c];
            }
        }
        for (found, expected) in run(&program, &[&logits]).iter().flatten().zip(&expected) {
            assert!(
                (found - expected).abs() <= 2.0 * EXP_TOLERANCE,
                "{turned}: {found} {expected}"
            );
        }
    }
    // A window within wider logits.
    let wide = whole_numbers(2 * 4 * 7 * channels, 12);
    let part = Region {
        size: [1, 2, 5],
        channels,
        start: [1, 1, 2],
        plane: [4, 7],
        to: 2,
        turned: true,
    };
    let mut program = add_softmax(wide.len(), logits.len(), &part).unwrap();
    // Sums that begin as the soft-max of zeros.
    let zeros = vec![0.0; logits.len()];
    let mut first = softmax(Element::F32, 30, channels).unwrap();
    program.inputs.push(zeros.len());
    for step in &mut first.steps {
        let Step::Launch(launch) = step else {
            panic!("our own kernels are launched");
        };
        launch.places[0] = Place::Input(1, 0);
    }
    first.steps.append(&mut program.steps);
    program.steps = first.steps;
    let mut expected = vec![1.0 / channels as f32; logits.len()];
    for (y, x) in (0..2).flat_map(|y| (0..5).map(move |x| (y, x))) {
        let from = ((4 + 1 + y) * 7 + 2 + x) * channels;
        let mut scores = vec![0.0; channels];
        cpu::softmax_channels(channels, &wide[from..from + channels], &mut scores).unwrap();
        let to = ((2 * 2 + y) * 5 + 4 - x) * channels;
        for c in 0..channels {
            expected[to + c] += scores[c];
        }
    }
    for (found, expected) in run(&program, &[&wide, &zeros]).iter().flatten().zip(&expected) {
        assert!(
            (found - expected).abs() <= 2.0 * EXP_TOLERANCE,
            "{found} {expected}"
        );
    }
}

#[test]
fn the_sums_of_a_loss_and_its_gradient_are_right() {
    for (voxels, channels) in [(1, 2), (5000, 3), (333, 13), (40, 256)] {
        let logits: Vec<f32> = whole_numbers(voxels * channels, 7)
            .iter()
            .zip(whole_numbers(voxels * channels, 8))
            .map(|(a, b)| a + b / 2.0)
            .collect();
        let labels: Vec<u8> = whole_numbers(voxels, 9)
            .iter()
            .enumerate()
            .map(|(i, value)| ((i + (value + 1.0) as usize) % channels) as u8)
            .collect();
        // Slopes of each class: by p everywhere, by p at the label, by −log p there.
        let slopes: Vec<f32> = (0..3 * channels).map(|i| (i % 7) as f32 / 8.0 - 0.25).collect();

        let mut sums = vec![0.0_f64; 6 * channels];
        let mut gradient = Vec::new();
        for (logits, &label) in logits.chunks_exact(channels).zip(&labels) {
            let label = usize::from(label);
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let p: Vec<f64> = logits
                .iter()
                .map(|logit| f64::from(*logit).exp() / total)
                .collect();
            let highest = (0..channels)
                .rev()
                .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
                .unwrap();
            for channel in 0..channels {
                sums[channel] += p[channel];
            }
            sums[channels + label] += p[label];
            sums[2 * channels + label] -= p[label].ln();
            sums[3 * channels + label] += 1.0;
            sums[4 * channels + highest] += 1.0;
            sums[5 * channels + label] += f64::from(u8::from(highest == label));
            // dL/dz_c = Σ_k dL/dp_k · p_k · (δ_ck − p_c), and p_c − δ_c,label of −log p.
            let by_p = |k: usize| {
                let at_label = if k == label { slopes[channels + k] } else { 0.0 };
                f64::from(slopes[k] + at_label)
            };
            for c in 0..channels {
                let own = |k: usize| if k == c { 1.0 } else { 0.0 };
                let through: f64 = (0..channels).map(|k| by_p(k) * p[k] * (own(k) - p[c])).sum();
                let pull = f64::from(slopes[2 * channels + label]) * (p[c] - own(label));
                gradient.push((through + pull) as f32);
            }
        }
        for element in ELEMENTS {
            let bytes = [to_bytes(element, &logits), labels.clone()];
            let program = channelwise::class_sums(element, voxels, channels).unwrap();
            if let Some(found) = replay(&program, &bytes, 8 * program.output) {
                let found = found
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|bytes| f64::from_le_bytes(*bytes));
                for (i, (found, expected)) in found.zip(&sums).enumerate() {
                    assert!(
                        (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                        "{i}: {found} {expected}"
                    );
                }
            }
            let bytes = [&bytes[..], &[to_bytes(Element::F32, &slopes)]].concat();
            let program = channelwise::class_gradient(element, voxels, channels).unwrap();
            let found = replay(&program, &bytes, gradient.len() * element.bytes());
            let found = found.map(|bytes| from_bytes(element, &bytes));
            for (found, expected) in found.iter().flatten().zip(&gradient) {
                assert!(
                    (found - expected).abs() <= tolerance(element),
                    "{found} {expected}"
                );
            }
        }
    }
}

#[test]
fn a_step_of_adam_is_that_of_the_paper() {
    for values in [1, 300, 5000] {
        // Not whole, but each operation is done in the same order and rounds in the same way.
        let some = |seed: u32| -> Vec<f32> {
            let numbers = whole_numbers(values, seed).into_iter().enumerate();
            numbers.map(|(i, n)| n * 0.3 + (i % 17) as f32 * 0.01).collect()
        };
        let (gradient, first) = (some(1), some(2));
        let second: Vec<f32> = some(3).iter().map(|value| value * value).collect();
        let step = AdamStep {
            first: [0.9, 0.05],
            second: [0.999, 0.001],
            second_correction: 1.7,
            epsilon: 0.01,
            rate: 0.02,
        };
        let program = adam(values, &step).unwrap();
        let found = run(&program, &[&gradient, &first, &second]);
        let mut expected = vec![0.0; 3 * values];
        for i in 0..values {
            let mean = first[i] * 0.9 + gradient[i] * 0.05;
            let square = second[i] * 0.999 + gradient[i] * gradient[i] * 0.001;
            expected[i] = mean / ((square * 1.7).sqrt() + 0.01) * 0.02;
            expected[values + i] = mean;
            expected[2 * values + i] = square;
        }
        assert_equal("adam", found, &expected);
    }
}
