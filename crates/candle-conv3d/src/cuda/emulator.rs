//! The programs of this folder, run by the kernels' C++ on the processor (`kernels/emulator.cpp`), against the CPU's ops.
//!
//! Values are small whole numbers, so that every sum is exact in each element type and results must be equal to the
//! last bit. Each program runs twice, with threads in opposite order and copies arriving at once or as late as they may:
//! a result that depends on either is a race on a GPU.

#![cfg(test)]

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::{
    ConvolutionPlan, Element, Program, channelwise,
    optimiser::{AdamStep, adam},
    pack_convolution, pack_upsample, packed_convolution, packed_upsample,
    program::Place,
};
use crate::{
    config::{Activation, Padding},
    cpu::{self, ConvShape, Isa, PoolShape, Source, UpsampleShape},
};

/// The compiled emulator; nothing where there is no C++ compiler.
fn emulator() -> Option<&'static PathBuf> {
    static EMULATOR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let emulator = EMULATOR.get_or_init(|| {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        Command::new(&compiler).arg("--version").output().ok()?;
        let kernels = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let program = std::env::temp_dir().join(format!("conv3d-emulator-{}", std::process::id()));
        let built = Command::new(&compiler)
            .args([
                "-std=c++17",
                "-O2",
                "-Wno-unknown-pragmas",
                "-U_FORTIFY_SOURCE",
                "-DEMULATED",
                "-o",
            ])
            .arg(&program)
            .arg(kernels.join("emulator.cpp"))
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        Some(program)
    });
    if emulator.is_none() {
        eprintln!("skipped: no C++ compiler here to run the GPU's kernels with");
    }
    emulator.as_ref()
}

/// Bytes of a program's result.
fn replay(program: &Program, inputs: &[Vec<u8>], output_bytes: usize) -> Option<Vec<u8>> {
    let once = |order: u32| -> Option<Vec<u8>> {
        let garbage = |bytes: usize| vec![0xFF; bytes];
        let scratch = program.scratch.iter().copied().map(garbage);
        let buffers: Vec<Vec<u8>> = inputs
            .iter()
            .cloned()
            .chain(scratch)
            .chain([garbage(output_bytes)])
            .collect();
        let mut problem = Vec::new();
        let mut number = |value: u32| problem.extend(value.to_le_bytes());
        number(order);
        number(order);
        number(buffers.len() as u32);
        for buffer in &buffers {
            problem.extend((buffer.len() as u64).to_le_bytes());
            problem.extend(buffer);
        }
        problem.extend((program.launches.len() as u32).to_le_bytes());
        for launch in &program.launches {
            problem.extend((launch.kernel.len() as u32).to_le_bytes());
            problem.extend(launch.kernel.as_bytes());
            for blocks in launch.grid.into_iter().chain([launch.threads]) {
                problem.extend(blocks.to_le_bytes());
            }
            let places: Vec<(i32, i32)> = launch
                .places
                .iter()
                .map(|place| match *place {
                    Place::Nowhere => (-1, 0),
                    Place::Input(index, value) => (index as i32, (value * program.element.bytes()) as i32),
                    Place::Scratch(index) => ((inputs.len() + index) as i32, 0),
                    Place::Output => (buffers.len() as i32 - 1, 0),
                })
                .collect();
            let buffers: Vec<i32> = places.iter().map(|place| place.0).collect();
            let offsets: Vec<i32> = places.iter().map(|place| place.1).collect();
            for integers in [&buffers, &offsets, &launch.sizes] {
                problem.extend((integers.len() as u32).to_le_bytes());
                problem.extend(integers.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        let mut child = Command::new(emulator()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let written = std::thread::spawn(move || stdin.write_all(&problem));
        let found = child.wait_with_output().unwrap();
        let _ = written.join().unwrap();
        assert!(
            found.status.success(),
            "{}: {}",
            found.status,
            String::from_utf8_lossy(&found.stderr)
        );
        Some(found.stdout[found.stdout.len() - output_bytes..].to_vec())
    };
    let (forwards, backwards) = (once(0)?, once(1)?);
    assert!(
        forwards == backwards,
        "the order of threads changes the result of {:?}",
        program.launches
    );
    Some(forwards)
}

fn to_bytes(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Element::Bf16 => {
            let bytes = |&value: &f32| half::bf16::from_f32(value).to_le_bytes();
            values.iter().flat_map(bytes).collect()
        }
    }
}

fn from_bytes(element: Element, bytes: &[u8]) -> Vec<f32> {
    match element {
        Element::F32 => {
            let values = bytes.as_chunks::<4>().0;
            values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Element::Bf16 => {
            let values = bytes.as_chunks::<2>().0;
            let value = |bytes: &[u8; 2]| half::bf16::from_le_bytes(*bytes).to_f32();
            values.iter().map(value).collect()
        }
    }
}

/// The result of a program over values, if it can be run here.
fn run(program: &Program, inputs: &[&[f32]]) -> Option<Vec<f32>> {
    let element = program.element;
    for (values, &length) in inputs.iter().zip(&program.inputs) {
        assert!(values.len() >= length);
    }
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|values| to_bytes(element, values)).collect();
    let bytes = replay(program, &inputs, program.output * element.bytes())?;
    Some(from_bytes(element, &bytes))
}

/// −1, 0 and 1 without pattern.
fn whole_numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) % 3
    };
    (0..count).map(|_| next() as f32 - 1.0).collect()
}

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

#[track_caller]
fn assert_equal(what: &str, found: Option<Vec<f32>>, expected: &[f32]) {
    // Whole numbers up to here are exact in bf16.
    assert!(
        expected.iter().all(|value| value.abs() <= 256.0),
        "{what}: choose smaller numbers"
    );
    if let Some(found) = found {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(found == expected, "{what}: {found} instead of {expected} at {i}");
        }
    }
}

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
            assert_equal(
                &what("the result"),
                run(&plan.forward().unwrap(), &inputs),
                &expected,
            );

            // The same with weights that were packed before.
            let pack = pack_convolution(element, &shape, problem.channels).unwrap();
            let packed = run(&pack, &[weight]).map(|packed| [&packed, bias].concat());
            let inputs = packed.as_ref().map(|packed| {
                let sources = sources.iter().map(Vec::as_slice);
                sources.chain([&packed[..]]).collect::<Vec<_>>()
            });
            let found = inputs.and_then(|inputs| run(&packed_convolution(&plan).unwrap(), &inputs));
            assert_equal(&what("the prepacked result"), found, &expected);

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
                let program = plan.input_gradient(first, channels).unwrap();
                let found = run(&program, &[&gradient, &parameters]);
                assert_equal(&what("the gradient of an input"), found, &expected);
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
            let found = run(&plan.weight_gradient().unwrap(), &inputs);
            assert_equal(&what("the gradient of the weights"), found, &expected);
        }
    }
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
        let program = plan(element).weight_gradient().unwrap();
        assert!(program.launches[0].grid[2] > 2, "{:?}", program.launches[0]);
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
            let program = super::upsample(element, &shape, true, activation).unwrap();
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
            let program = super::upsample_input_gradient(element, &shape).unwrap();
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
            let program = super::upsample_weight_gradient(element, &shape, true).unwrap();
            let found = run(&program, &[&values, &gradient]);
            assert_equal(&what("the gradient of the weights"), found, &expected);
        }
    }
}

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
        let found = run(&super::max_pool(element, &shape).unwrap(), &[&input]);
        assert_equal("pooling", found, &result);
        let program = super::max_pool_gradient(element, &shape).unwrap();
        assert_equal(
            "its gradient",
            run(&program, &[&input, &result, &gradient]),
            &of_input,
        );
        let program = super::relu_gradient(element, gradient.len()).unwrap();
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
                run(&super::softmax(element, voxels, channels).unwrap(), &[&logits]),
                &probabilities,
            );
            let probabilities = from_bytes(element, &to_bytes(element, &probabilities));
            let mut of_logits = vec![0.0; logits.len()];
            cpu::softmax_channels_gradient(channels, &probabilities, &gradient, &mut of_logits).unwrap();
            let program = super::softmax_gradient(element, voxels, channels).unwrap();
            near(run(&program, &[&probabilities, &gradient]), &of_logits);
            let program = super::argmax(element, voxels, channels).unwrap();
            if let Some(found) = replay(&program, &[to_bytes(element, &logits)], voxels) {
                assert_eq!(found, labels);
            }
        }
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
    let error = plan.forward().unwrap_err().to_string();
    assert!(error.contains("68719476736"), "{error}");
}
