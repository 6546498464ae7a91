use super::{
    super::{
        Element, Region, add_softmax, argmax, max_pool, max_pool_gradient,
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

pub(super) fn tolerance(element: Element) -> f32 {
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
