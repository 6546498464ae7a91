use super::{
    super::{
        ConvolutionPlan, Direction, Element, Program,
        cudnn::{Way, library_of},
        pack_convolution, pack_upsample, packed_upsample,
        program::Step,
        upsample, upsample_input_gradient, upsample_weight_gradient,
    },
    ELEMENTS, assert_equal, run, whole_numbers,
};
use crate::{
    config::{Activation, Padding},
    cpu::{self, ConvShape, Isa, Source, UpsampleShape},
};

struct Problem {
    batch: usize,
    input: [usize; 3],
    channels: &'static [usize],
    outputs: usize,
    kernel: [usize; 3],
    padding: Padding,
}

/// Odd sizes first; channels for the plain kernels and for each width of those on tensor cores.
fn problems() -> Vec<Problem> {
    let problem = |batch, input, channels, outputs, kernel, padding| Problem {
        batch,
        input,
        channels,
        outputs,
        kernel,
        padding,
    };
    let odd = Padding::Explicit([[0, 2], [2, 1], [1, 0]]);
    vec![
        problem(2, [3, 5, 7], &[1], 5, [3; 3], Padding::Same),
        problem(1, [5, 1, 3], &[3], 33, [3, 1, 2], Padding::Same),
        problem(1, [4, 3, 5], &[5, 7], 9, [3; 3], odd),
        problem(1, [3, 3, 3], &[32], 13, [1; 3], Padding::Same),
        problem(2, [1, 3, 5], &[16], 8, [3; 3], odd),
        problem(1, [5, 7, 6], &[32], 32, [3; 3], Padding::Same),
        problem(1, [3, 5, 3], &[16, 32], 48, [3; 3], Padding::Same),
        problem(1, [2, 3, 3], &[48], 64, [3, 3, 1], Padding::Same),
        problem(1, [3, 2, 2], &[16], 80, [2; 3], Padding::Same),
        problem(1, [1, 1, 1], &[16], 16, [3; 3], Padding::Same),
    ]
}

#[test]
fn convolutions_are_those_of_the_cpu() {
    for (index, problem) in problems().iter().enumerate() {
        let input_channels = problem.channels.iter().sum();
        let channels = [problem.outputs, input_channels];
        let shape = ConvShape::new(
            problem.batch,
            problem.input,
            channels,
            problem.kernel,
            &problem.padding,
        )
        .unwrap();
        let voxels = problem.batch * problem.input.iter().product::<usize>();
        let sources: Vec<Vec<f32>> = problem
            .channels
            .iter()
            .enumerate()
            .map(|(i, channels)| whole_numbers(voxels * channels, (1 + 10 * index + i) as u32))
            .collect();
        let parameters = whole_numbers(shape.weight_len() + problem.outputs, 77);
        let gradient = whole_numbers(shape.output_len(), 99);
        let (weight, bias) = parameters.split_at(shape.weight_len());
        let of_sources: Vec<Source<'_, f32>> = sources
            .iter()
            .zip(problem.channels)
            .map(|(values, &channels)| Source { values, channels })
            .collect();
        for (element, activation) in ELEMENTS.into_iter().zip([Activation::Relu, Activation::Identity]) {
            let plan = ConvolutionPlan {
                element,
                shape: &shape,
                channels: problem.channels,
                has_bias: true,
                activation,
            };
            let what = |of: &str| format!("{of} of {shape:?} in {element:?}");

            let mut expected = vec![0.0; shape.output_len()];
            cpu::conv3d_forward(
                Isa::SCALAR,
                &shape,
                &of_sources,
                weight,
                Some(bias),
                activation,
                &mut expected,
            )
            .unwrap();
            let inputs: Vec<&[f32]> = sources
                .iter()
                .map(Vec::as_slice)
                .chain([&parameters[..]])
                .collect();
            for program in programs(&plan, Direction::Forward) {
                assert_equal(&what("the result"), run(&program, &inputs), &expected);
            }

            for found in packed_before(&plan, &sources, &parameters) {
                assert_equal(&what("the prepacked result"), found, &expected);
            }

            let mut first = 0;
            for &channels in problem.channels {
                let mut expected = vec![0.0; voxels * channels];
                cpu::conv3d_input_gradient(
                    Isa::SCALAR,
                    &shape,
                    &gradient,
                    weight,
                    first,
                    channels,
                    &mut expected,
                )
                .unwrap();
                for program in programs(&plan, Direction::InputGradient { first, channels }) {
                    let found = run(&program, &[&gradient, &parameters]);
                    assert_equal(&what("the gradient of an input"), found, &expected);
                }
                first += channels;
            }

            let mut expected = vec![0.0; parameters.len()];
            let (of_weight, of_bias) = expected.split_at_mut(shape.weight_len());
            cpu::conv3d_weight_gradient(
                Isa::SCALAR,
                &shape,
                &of_sources,
                &gradient,
                of_weight,
                Some(of_bias),
            )
            .unwrap();
            let inputs: Vec<&[f32]> = sources.iter().map(Vec::as_slice).chain([&gradient[..]]).collect();
            for program in programs(&plan, Direction::WeightGradient) {
                let found = run(&program, &inputs);
                assert_equal(&what("the gradient of the weights"), found, &expected);
            }
        }
    }
}

/// Results by weights that were packed before.
fn packed_before(
    plan: &ConvolutionPlan<'_>,
    sources: &[Vec<f32>],
    parameters: &[f32],
) -> Vec<Option<Vec<f32>>> {
    let (weight, bias) = parameters.split_at(plan.shape.weight_len());
    let pack = pack_convolution(plan.element, plan.shape, plan.channels).unwrap();
    let packed = run(&pack, &[weight]).map(|packed| [&packed, bias].concat());
    let inputs = packed.as_ref().map(|packed| {
        let sources = sources.iter().map(Vec::as_slice);
        sources.chain([&packed[..]]).collect::<Vec<_>>()
    });
    let programs = programs(plan, Direction::Packed);
    let found = programs
        .iter()
        .map(|program| inputs.as_ref().and_then(|inputs| run(program, inputs)));
    found.collect()
}

/// That of our own kernels, and those that cuDNN has.
fn programs(plan: &ConvolutionPlan<'_>, direction: Direction) -> Vec<Program> {
    let own = plan.program(direction).unwrap();
    assert!(own.steps.iter().all(|step| matches!(step, Step::Launch(_))));
    let library = library_of();
    let others = Way::all(direction).into_iter().filter_map(|way| {
        let mut handle = library.as_ref()?.lock().unwrap();
        plan.library(direction, way, &mut |problem| handle.workspace(problem))
            .unwrap()
    });
    let others: Vec<Program> = others.collect();
    for other in &others {
        assert!(other.steps.iter().any(|step| matches!(step, Step::Call(_))));
    }
    [own].into_iter().chain(others).collect()
}

#[test]
fn cudnn_is_offered_what_it_can_take() {
    let Some(library) = library_of() else { return };
    let offered = |channels: &[usize], padding: Padding, kernel, has_bias, direction| {
        let inputs = channels.iter().sum();
        let shape = ConvShape::new(1, [6, 7, 8], [16, inputs], kernel, &padding).unwrap();
        let plan = ConvolutionPlan {
            element: Element::Bf16,
            shape: &shape,
            channels,
            has_bias,
            activation: Activation::Identity,
        };
        let mut handle = library.lock().unwrap();
        let ways = Way::all(direction).into_iter().filter(|way| {
            let program = plan.library(direction, *way, &mut |problem| handle.workspace(problem));
            program.unwrap().is_some()
        });
        ways.count()
    };
    let gradient = Direction::InputGradient {
        first: 0,
        channels: 8,
    };
    // One algorithm with a bias and without activation, and two with a kernel of ours behind them.
    assert_eq!(offered(&[8], Padding::Same, [3; 3], true, Direction::Packed), 3);
    assert_eq!(
        offered(&[8, 16], Padding::Same, [3; 3], false, Direction::Forward),
        2
    );
    assert_eq!(offered(&[8], Padding::Same, [3; 3], true, gradient), 1);
    assert_eq!(
        offered(&[8], Padding::Same, [1; 3], true, Direction::WeightGradient),
        1
    );
    // Between the ends of a sweep, where all planes are there.
    let inner = Padding::Explicit([[0, 0], [1, 1], [1, 1]]);
    assert_eq!(offered(&[8], inner, [3; 3], true, Direction::Packed), 3);
    // Zeros on one side only, and values that begin anywhere.
    let first = Padding::Explicit([[1, 0], [1, 1], [1, 1]]);
    assert_eq!(offered(&[8], first, [3; 3], true, Direction::Packed), 0);
    assert_eq!(offered(&[8], Padding::Same, [2; 3], true, gradient), 0);
    assert_eq!(
        offered(&[3, 8], Padding::Same, [3; 3], true, Direction::Packed),
        3
    );
    assert_eq!(
        offered(&[1, 8], Padding::Same, [1; 3], true, Direction::Packed),
        3
    );
}

#[test]
fn sums_over_many_voxels_are_cut_and_put_together() {
    // More voxels than a part has, so that there are several, the last one shorter.
    let shape = ConvShape::new(2, [9, 11, 13], [16, 16], [1, 1, 2], &Padding::Same).unwrap();
    let plan = |element| ConvolutionPlan {
        element,
        shape: &shape,
        channels: &[16],
        has_bias: true,
        activation: Activation::Identity,
    };
    // Few values that are not 0: sums stay exact in bf16.
    let sparse = |count, seed| {
        let values = whole_numbers(count, seed)
            .into_iter()
            .zip(whole_numbers(count, seed + 1));
        values.map(|(a, b)| a * b.max(0.0)).collect::<Vec<f32>>()
    };
    let (input, gradient) = (sparse(shape.input_len(), 3), sparse(shape.output_len(), 5));
    let mut expected = vec![0.0; shape.weight_len() + 16];
    let (weight, bias) = expected.split_at_mut(shape.weight_len());
    let source = Source {
        values: &input,
        channels: 16,
    };
    cpu::conv3d_weight_gradient(Isa::SCALAR, &shape, &[source], &gradient, weight, Some(bias)).unwrap();
    for element in ELEMENTS {
        let program = plan(element).program(Direction::WeightGradient).unwrap();
        let Step::Launch(first) = &program.steps[0] else {
            panic!("our own kernels are launched");
        };
        assert!(first.grid[2] > 2, "{first:?}");
        assert_equal(
            "the gradient of the weights",
            run(&program, &[&input, &gradient]),
            &expected,
        );
    }
}

#[test]
fn up_convolutions_are_those_of_the_cpu() {
    for (batch, input, inputs, outputs) in [
        (2, [1, 2, 3], 3, 5),
        (1, [3, 2, 1], 16, 13),
        (1, [2, 3, 3], 16, 32),
        (1, [3, 2, 2], 48, 16),
    ] {
        let shape = UpsampleShape {
            batch,
            input,
            input_channels: inputs,
            output_channels: outputs,
        };
        let values = whole_numbers(shape.input_len(), 1);
        let parameters = whole_numbers(shape.weight_len() + outputs, 2);
        let gradient = whole_numbers(shape.output_len(), 3);
        let (weight, bias) = parameters.split_at(shape.weight_len());
        for (element, activation) in ELEMENTS.into_iter().zip([Activation::Identity, Activation::Relu]) {
            let what = |of: &str| format!("{of} of {shape:?} in {element:?}");
            let mut expected = vec![0.0; shape.output_len()];
            cpu::upsample2_conv2_forward(
                Isa::SCALAR,
                &shape,
                &values,
                weight,
                Some(bias),
                activation,
                &mut expected,
            )
            .unwrap();
            let program = upsample(element, &shape, true, activation).unwrap();
            let found = run(&program, &[&values, &parameters]);
            assert_equal(&what("the up-convolution"), found, &expected);

            let pack = pack_upsample(element, &shape).unwrap();
            let packed = run(&pack, &[weight]).map(|packed| [&packed, bias].concat());
            for planes in [input[0], 1] {
                let program = packed_upsample(element, &shape, planes, true, activation).unwrap();
                let found = packed
                    .as_ref()
                    .and_then(|packed| run(&program, &[&values, packed]));
                let all = expected.chunks_exact(expected.len() / batch);
                let expected: Vec<f32> = all
                    .flat_map(|image| &image[..image.len() / input[0] * planes])
                    .copied()
                    .collect();
                assert_equal(&what("the first planes"), found, &expected);
            }

            let mut expected = vec![0.0; shape.input_len()];
            cpu::upsample2_conv2_input_gradient(Isa::SCALAR, &shape, &gradient, weight, &mut expected)
                .unwrap();
            let program = upsample_input_gradient(element, &shape).unwrap();
            let found = run(&program, &[&gradient, &parameters]);
            assert_equal(&what("the gradient of the input"), found, &expected);

            let mut expected = vec![0.0; parameters.len()];
            let (of_weight, of_bias) = expected.split_at_mut(shape.weight_len());
            cpu::upsample2_conv2_weight_gradient(
                Isa::SCALAR,
                &shape,
                &values,
                &gradient,
                of_weight,
                Some(of_bias),
            )
            .unwrap();
            let program = upsample_weight_gradient(element, &shape, true).unwrap();
            let found = run(&program, &[&values, &gradient]);
            assert_equal(&what("the gradient of the weights"), found, &expected);
        }
    }
}

#[test]
fn sizes_that_cannot_be_counted_are_refused() {
    let shape = ConvShape::new(1, [4096, 4096, 4096], [1, 1], [1; 3], &Padding::Same).unwrap();
    let plan = ConvolutionPlan {
        element: Element::F32,
        shape: &shape,
        channels: &[1],
        has_bias: false,
        activation: Activation::Identity,
    };
    let error = plan.program(Direction::Forward).unwrap_err().to_string();
    assert!(error.contains("68719476736"), "{error}");
}
