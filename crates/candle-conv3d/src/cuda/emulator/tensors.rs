use super::{
    super::{Element, Program, adam, average, standardise_rows, standardise_rows_gradient},
    from_bytes, replay, replay_all, to_bytes,
    training::{doubles, to_doubles},
    whole_numbers,
};
use crate::cpu::{self, AdamStep, RowsShape};

const STEP: AdamStep = AdamStep {
    betas: [0.9, 0.999],
    epsilon: 0.01,
    learning_rate: 0.02,
    steps: 3,
    clip: f64::INFINITY,
};

/// Not whole, but each operation is done in the same order and rounds in the same way.
fn some(count: usize, seed: u32) -> Vec<f32> {
    let numbers = whole_numbers(count, seed).into_iter().enumerate();
    numbers.map(|(i, n)| n * 0.3 + (i % 17) as f32 * 0.01).collect()
}

fn singles(bytes: &[Vec<u8>]) -> Vec<Vec<f32>> {
    bytes
        .iter()
        .map(|bytes| from_bytes(Element::F32, bytes))
        .collect()
}

/// The gradient's norm, its scale and whether all moves; and gradients, values and means behind the step.
fn stepped(step: &AdamStep, tensors: &[Vec<f32>], loss: f64) -> Option<(Vec<f64>, Vec<Vec<f32>>)> {
    let lengths: Vec<usize> = tensors.iter().step_by(4).map(Vec::len).collect();
    let program = adam(&lengths, step).unwrap();
    let mut inputs: Vec<Vec<u8>> = tensors.iter().map(|v| to_bytes(Element::F32, v)).collect();
    inputs.push(doubles(&[loss]));
    let (mut after, control) = replay_all(&program, &inputs, 8 * program.output)?;
    after.pop();
    Some((to_doubles(&control), singles(&after)))
}

/// Gradients, values and means of tensors of one part, of several, and of a part that is not full.
fn tensors() -> Vec<Vec<f32>> {
    let of = |(length, seed): (usize, u32)| {
        let second: Vec<f32> = some(length, seed).iter().map(|value| value * value).collect();
        [
            some(length, seed + 1),
            some(length, seed + 2),
            some(length, seed + 3),
            second,
        ]
    };
    [(1, 10), (4096, 20), (300, 30), (9000, 40)]
        .into_iter()
        .flat_map(of)
        .collect()
}

#[test]
fn a_step_knows_the_norm_and_whether_all_are_numbers() {
    let mut tensors = tensors();
    for gradient in tensors.iter_mut().step_by(4) {
        *gradient = whole_numbers(gradient.len(), 7);
    }
    let gradients = || tensors.iter().step_by(4).flatten();
    let norm = gradients().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
    let Some((free, after)) = stepped(&STEP, &tensors, 1.5) else {
        return;
    };
    assert_eq!(free, [norm, 1.0, 1.0]);
    assert!(after != tensors);
    let clipped = AdamStep { clip: 2.0, ..STEP };
    let (control, _) = stepped(&clipped, &tensors, 1.5).unwrap();
    assert_eq!(control, [norm, 2.0 / norm, 1.0]);
    let (control, after) = stepped(&clipped, &tensors, f64::NAN).unwrap();
    assert_eq!(control, [norm, 0.0, 0.0]);
    assert!(after == tensors, "a step that diverged moves nothing");
    for bad in [f32::NAN, f32::INFINITY] {
        tensors[12][8999] = bad;
        let (control, after) = stepped(&clipped, &tensors, 1.5).unwrap();
        assert!(
            !control[0].is_finite() && control[1..] == [0.0, 0.0],
            "{control:?}"
        );
        assert!(after[13..] == tensors[13..], "nor does one without a norm");
    }
}

#[test]
fn a_step_of_adam_is_that_of_the_paper() {
    let tensors = tensors();
    let clipped = AdamStep { clip: 20.0, ..STEP };
    for step in [STEP, clipped] {
        let Some((control, after)) = stepped(&step, &tensors, 1.5) else {
            return;
        };
        let scale = control[1];
        assert_eq!(scale < 1.0, step == clipped);
        for (of, after) in tensors.chunks(4).zip(after.chunks(4)) {
            let mut expected = [of[0].clone(), Vec::new(), Vec::new(), Vec::new()];
            for (i, gradient) in of[0].iter().enumerate() {
                let [before, first, second] = [1, 2, 3].map(|part| of[part][i]);
                // As candle does it on the processor: constants are rounded first.
                let mean = first * 0.9 + gradient * ((1.0 - 0.9_f64) * scale) as f32;
                let square =
                    second * 0.999 + gradient * gradient * ((1.0 - 0.999_f64) * scale * scale) as f32;
                let deviation = (square * (1.0 / (1.0 - 0.999_f64.powf(3.0))) as f32).sqrt() + 0.01;
                expected[1].push(before - mean / deviation * (0.02 / (1.0 - 0.9_f64.powf(3.0))) as f32);
                expected[2].push(mean);
                expected[3].push(square);
            }
            assert!(after == expected);
        }
    }
}

#[test]
fn averages_take_in_what_they_should() {
    let lengths = [3, 700, 1, 40_000];
    let program = average(&lengths, 0.98).unwrap();
    let tensors: Vec<Vec<f32>> = lengths
        .iter()
        .zip(1..)
        .flat_map(|(&length, seed)| [some(length, seed), some(length, seed + 100)])
        .collect();
    let inputs: Vec<Vec<u8>> = tensors.iter().map(|v| to_bytes(Element::F32, v)).collect();
    let Some((after, _)) = replay_all(&program, &inputs, 0) else {
        return;
    };
    for (before, after) in tensors.chunks(2).zip(singles(&after).chunks(2)) {
        let pairs = before[0].iter().zip(&before[1]);
        let expected: Vec<f32> = pairs
            .map(|(mean, value)| mean * 0.98 + value * (1.0 - 0.98_f64) as f32)
            .collect();
        assert!(after[0] == expected);
    }
}

/// A row that ends within a turn of the block's threads, with and without the identity, rows of one value, rows of zeros.
const SHAPES: [RowsShape; 4] = [
    RowsShape {
        rows: 3,
        values: 27,
        identity: None,
    },
    RowsShape {
        rows: 5,
        values: 135,
        identity: Some(27),
    },
    RowsShape {
        rows: 40,
        values: 1080,
        identity: Some(27),
    },
    RowsShape {
        rows: 2,
        values: 512,
        identity: None,
    },
];

/// Directions, gains, means and a gradient of the rows, of each shape.
fn parts() -> Vec<[Vec<f32>; 4]> {
    let shapes = SHAPES.iter().zip(1..);
    let mut parts: Vec<[Vec<f32>; 4]> = shapes
        .map(|(shape, seed)| {
            [shape.rows_len(), shape.rows, shape.rows, shape.rows_len()].map(|length| some(length, seed))
        })
        .collect();
    parts[3][0][..512].fill(0.0);
    parts
}

#[test]
fn rows_are_those_of_the_cpu() {
    let parts = parts();
    let program = standardise_rows(&SHAPES).unwrap();
    let inputs = parts.iter().flat_map(|of| {
        let nothing = vec![f32::NAN; of[0].len()];
        [&of[0], &of[1], &of[2], &nothing].map(|values| to_bytes(Element::F32, values))
    });
    let Some((after, _)) = replay_all(&program, &inputs.collect::<Vec<_>>(), 0) else {
        return;
    };
    for ((of, shape), after) in parts.iter().zip(SHAPES).zip(singles(&after).chunks(4)) {
        let mut expected = vec![f32::NAN; shape.rows_len()];
        cpu::standardise_rows(&shape, &of[0], &of[1], &of[2], &mut expected).unwrap();
        assert!(after[3] == expected, "{shape:?}");
    }
}

#[test]
fn gradients_of_rows_are_those_of_the_cpu() {
    let parts = parts();
    let program = standardise_rows_gradient(&SHAPES).unwrap();
    let inputs = parts
        .iter()
        .flat_map(|of| [&of[0], &of[1], &of[3]].map(|values| to_bytes(Element::F32, values)));
    let Some(found) = replay(&program, &inputs.collect::<Vec<_>>(), 4 * program.output) else {
        return;
    };
    let mut expected = Vec::new();
    for (of, shape) in parts.iter().zip(SHAPES) {
        let mut gradients = vec![f32::NAN; shape.parts_len()];
        cpu::standardise_rows_gradient(&shape, &of[0], &of[1], &of[3], &mut gradients).unwrap();
        expected.extend(gradients);
    }
    assert!(from_bytes(Element::F32, &found) == expected);
}

/// More tensors than a launch takes give what they give by themselves.
#[test]
fn many_tensors_take_several_launches() {
    let lengths: Vec<usize> = (1..=130).collect();
    let tensors: Vec<Vec<f32>> = lengths
        .iter()
        .flat_map(|&length| [1, 2, 3, 4].map(|seed| some(length, seed)))
        .map(|values| values.iter().map(|value| value.abs()).collect())
        .collect();
    let Some((control, after)) = stepped(&STEP, &tensors, 1.0) else {
        return;
    };
    let squares = tensors.iter().step_by(4).flatten();
    let norm = squares.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    assert!((control[0] - norm).abs() < 1e-9 * norm);
    let (_, alone) = stepped(&STEP, &tensors[4 * 128..4 * 129], 1.0).unwrap();
    assert!(after[4 * 128..4 * 129] == alone);

    let shapes = [SHAPES[0]; 40];
    let parts = parts();
    let inputs = (0..40).flat_map(|matrix| {
        // The last but one is another.
        let gains = if matrix == 38 { [2.0; 3] } else { [1.0; 3] };
        [&parts[0][0], &gains[..], &parts[0][3]].map(|values| to_bytes(Element::F32, values))
    });
    let program = standardise_rows_gradient(&shapes).unwrap();
    let found = replay(&program, &inputs.collect::<Vec<_>>(), 4 * program.output).unwrap();
    let found = from_bytes(Element::F32, &found);
    let of: Vec<&[f32]> = found.chunks(SHAPES[0].parts_len()).collect();
    assert!(of[39] == of[0] && of[37] == of[0] && of[38] != of[0]);
}

/// What a step of training asks of a GPU besides the network does not grow with its layers.
#[test]
fn the_parameters_of_a_network_take_a_launch_each_way() {
    let launches = |program: Program| program.steps.len();
    assert_eq!(launches(adam(&[1000; 64], &STEP).unwrap()), 3);
    assert_eq!(launches(average(&[1000; 64], 0.9).unwrap()), 1);
    let shapes = [SHAPES[1]; 32];
    assert_eq!(launches(standardise_rows(&shapes).unwrap()), 1);
    assert_eq!(launches(standardise_rows_gradient(&shapes).unwrap()), 1);
}
