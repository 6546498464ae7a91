//! Layers in bf16 on every instruction set: forward against the naive reference, gradients against the portable kernels
//! in f64, all of values that are rounded already.

use candle_conv3d::{
    Activation, Conv3dConfig, Padding,
    cpu::{self, ConvShape, Isa, Source, UpsampleShape, bf16 as half_precision},
    reference,
};
use candle_core::{DType, Result, Tensor};
use half::bf16;
use proptest::{prelude::*, test_runner::TestCaseResult};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::emulation;
use crate::problems::{close, random};

/// Of f32 sums, relative to the greatest value.
const TOLERANCE: f64 = 5e-6;

/// Those that the machine lacks, carried out in software: a step of matrix instructions takes microseconds there, of
/// vector instructions a hundred times that.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn emulated(names: &[&str]) -> Vec<Isa> {
    let available = Isa::available();
    let mut sets = emulation::sets();
    sets.retain(|set| !available.contains(set) && names.contains(&set.name()));
    sets
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn emulated(_: &[&str]) -> Vec<Isa> {
    Vec::new()
}

#[derive(Debug, Clone)]
struct Problem {
    seed: u64,
    batch: usize,
    channels: Vec<usize>,
    size: [usize; 3],
    outputs: usize,
    kernel: [usize; 3],
    config: Conv3dConfig,
    has_bias: bool,
}

fn problems() -> impl Strategy<Value = Problem> {
    let sizes = (1usize..7, 1usize..9, 1usize..40).prop_map(|(d, h, w)| [d, h, w]);
    let kernels = prop::array::uniform3(1usize..4);
    let channels = prop::collection::vec(prop_oneof![1usize..12, Just(16), Just(32), 12usize..70], 1..3);
    let outputs = prop_oneof![1usize..70, Just(32), Just(48)];
    let paddings = prop_oneof![
        Just(Padding::Same),
        prop::array::uniform3(prop::array::uniform2(0usize..4)).prop_map(Padding::Explicit)
    ];
    let activations = prop_oneof![Just(Activation::Identity), Just(Activation::Relu)];
    (
        any::<u64>(),
        1usize..3,
        channels,
        sizes,
        outputs,
        kernels,
        paddings,
        activations,
        any::<bool>(),
    )
        .prop_map(
            |(seed, batch, channels, size, outputs, kernel, padding, activation, has_bias)| Problem {
                seed,
                batch,
                channels,
                size,
                outputs,
                kernel,
                config: Conv3dConfig { padding, activation },
                has_bias,
            },
        )
        .prop_filter("the kernel fits", |p| {
            p.config.padding.output_size(p.size, p.kernel).is_ok()
        })
}

/// Random values that bf16 holds, as f64.
fn rounded(shape: &[usize], seed: u64) -> Result<Tensor> {
    random(shape, seed, DType::BF16)?.to_dtype(DType::F64)
}

/// Values of `[N, C, D, H, W]` in channels-last order.
fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.permute((0, 2, 3, 4, 1))?.flatten_all()?.to_vec1()
}

fn halves(values: &[f64]) -> Vec<bf16> {
    values.iter().map(|value| bf16::from_f64(*value)).collect()
}

fn singles(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// Within the last bit of bf16.
fn close_halves(found: &[bf16], expected: &[f64]) -> bool {
    let scale = expected
        .iter()
        .fold(1.0, |scale: f64, value| scale.max(value.abs()));
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            (found.to_f64() - expected).abs() <= expected.abs() / 250.0 + TOLERANCE * scale
        })
}

fn run(test: impl FnOnce() -> Result<()>) -> TestCaseResult {
    test().map_err(|error| TestCaseError::fail(error.to_string()))
}

/// A problem's volumes and weights, as they are and rounded.
struct Given {
    shape: ConvShape,
    flats: Vec<Vec<f64>>,
    values: Vec<Vec<bf16>>,
    weight: Vec<f64>,
    bias: Option<Vec<f32>>,
    /// What the naive reference makes of them.
    expected: Vec<f64>,
}

impl Given {
    fn new(problem: &Problem) -> Result<Self> {
        let Problem {
            seed,
            batch,
            size,
            outputs,
            kernel,
            config,
            ..
        } = *problem;
        let volumes = problem.channels.iter().zip(seed..);
        let volumes: Vec<Tensor> = volumes
            .map(|(&channels, seed)| rounded(&[&[batch, channels], &size[..]].concat(), seed))
            .collect::<Result<_>>()?;
        let inputs: usize = problem.channels.iter().sum();
        let weight = rounded(&[&[outputs, inputs], &kernel[..]].concat(), seed ^ 1)?;
        let bias = random(&[outputs], seed ^ 2, DType::F32)?.to_dtype(DType::F64)?;
        let bias = problem.has_bias.then_some(bias);
        let joined = Tensor::cat(&volumes, 1)?;
        let expected = flat(&reference::conv3d(&joined, &weight, bias.as_ref(), &config)?)?;
        let flats: Vec<Vec<f64>> = volumes.iter().map(flat).collect::<Result<_>>()?;
        let bias: Option<Vec<f64>> = bias.map(|bias| bias.to_vec1()).transpose()?;
        Ok(Self {
            shape: ConvShape::new(batch, size, [outputs, inputs], kernel, &config.padding)?,
            values: flats.iter().map(|values| halves(values)).collect(),
            flats,
            weight: weight.flatten_all()?.to_vec1()?,
            bias: bias.map(|bias| singles(&bias)),
            expected,
        })
    }
}

fn sources<'a, T>(values: &'a [Vec<T>], channels: &[usize]) -> Vec<Source<'a, T>> {
    let sources = values.iter().zip(channels);
    sources
        .map(|(values, &channels)| Source { values, channels })
        .collect()
}

fn check_convolution(problem: &Problem, sets: &[Isa]) -> Result<()> {
    let given = Given::new(problem)?;
    check_forward(problem, &given, sets)?;
    check_gradients(problem, &given, sets)
}

fn check_forward(problem: &Problem, given: &Given, sets: &[Isa]) -> Result<()> {
    let sources = sources(&given.values, &problem.channels);
    let (weight, bias) = (singles(&given.weight), given.bias.as_deref());
    let activation = problem.config.activation;
    for &isa in sets {
        let (kernel, outputs) = (problem.kernel, problem.outputs);
        let weights = half_precision::ConvWeights::new(isa, kernel, outputs, &problem.channels, &weight)?;
        let mut sums = vec![f32::NAN; given.expected.len()];
        weights.forward(&given.shape, &sources, bias, activation, &mut sums)?;
        assert!(close(&sums, &given.expected, TOLERANCE), "{isa:?}");
        let mut found = vec![bf16::NAN; sums.len()];
        weights.forward(&given.shape, &sources, bias, activation, &mut found)?;
        let nearest = sums
            .iter()
            .zip(&found)
            .all(|(sum, found)| bf16::from_f32(*sum) == *found);
        assert!(nearest, "{isa:?} rounds");
    }
    Ok(())
}

fn check_gradients(problem: &Problem, given: &Given, sets: &[Isa]) -> Result<()> {
    let Given { shape, weight, .. } = given;
    let gradient_shape = [&[problem.batch, problem.outputs], &shape.output[..]].concat();
    let gradient = flat(&rounded(&gradient_shape, problem.seed ^ 3)?)?;
    let (mut of_weight, mut of_bias) = (vec![0.0; weight.len()], vec![0.0; problem.outputs]);
    let wide = sources(&given.flats, &problem.channels);
    cpu::conv3d_weight_gradient(
        Isa::SCALAR,
        shape,
        &wide,
        &gradient,
        &mut of_weight,
        Some(&mut of_bias),
    )?;
    // Of the last source.
    let channels = problem.channels[problem.channels.len() - 1];
    let first = problem.channels.iter().sum::<usize>() - channels;
    let mut of_input = vec![0.0; given.flats[given.flats.len() - 1].len()];
    cpu::conv3d_input_gradient(
        Isa::SCALAR,
        shape,
        &gradient,
        weight,
        first,
        channels,
        &mut of_input,
    )?;

    let sources = sources(&given.values, &problem.channels);
    let (gradient, weight) = (halves(&gradient), singles(weight));
    for &isa in sets {
        let mut found = vec![bf16::NAN; of_input.len()];
        half_precision::conv3d_input_gradient(isa, shape, &gradient, &weight, first, channels, &mut found)?;
        assert!(close_halves(&found, &of_input), "{isa:?}: input gradient");

        let (mut found, mut found_bias) = (vec![f32::NAN; of_weight.len()], vec![f32::NAN; of_bias.len()]);
        let bias = Some(&mut found_bias[..]);
        half_precision::conv3d_weight_gradient(isa, shape, &sources, &gradient, &mut found, bias)?;
        assert!(close(&found, &of_weight, TOLERANCE), "{isa:?}: weight gradient");
        assert!(close(&found_bias, &of_bias, TOLERANCE), "{isa:?}: bias gradient");
    }
    Ok(())
}

fn check_upsampling(
    seed: u64,
    batch: usize,
    [outputs, inputs]: [usize; 2],
    size: [usize; 3],
    left: usize,
    sets: &[Isa],
) -> Result<()> {
    let input = rounded(&[&[batch, inputs], &size[..]].concat(), seed)?;
    let planes = size[0].saturating_sub(left).max(1);
    // Sums of weights are rounded once more: eighths of small numbers need no rounding.
    let weight = (rounded(&[outputs, inputs, 2, 2, 2], seed ^ 1)? * 8.0)?
        .round()?
        .affine(0.125, 0.0)?;
    let bias = random(&[outputs], seed ^ 2, DType::F32)?.to_dtype(DType::F64)?;
    let expected = reference::upsample2_conv2(&input, &weight, Some(&bias), Activation::Relu)?;
    let expected = flat(&expected.narrow(2, 0, 2 * planes)?)?;
    let shape = UpsampleShape {
        batch,
        input: size,
        input_channels: inputs,
        output_channels: outputs,
    };
    let weight: Vec<f64> = weight.flatten_all()?.to_vec1()?;
    let (values, bias) = (flat(&input)?, singles(&bias.to_vec1()?));

    let gradient = flat(&rounded(
        &[batch, outputs, 2 * size[0], 2 * size[1], 2 * size[2]],
        seed ^ 3,
    )?)?;
    let mut input_gradient = vec![0.0; shape.input_len()];
    cpu::upsample2_conv2_input_gradient(Isa::SCALAR, &shape, &gradient, &weight, &mut input_gradient)?;
    let (mut weight_gradient, mut bias_gradient) = (vec![0.0; shape.weight_len()], vec![0.0; outputs]);
    let of_bias = Some(&mut bias_gradient[..]);
    cpu::upsample2_conv2_weight_gradient(
        Isa::SCALAR,
        &shape,
        &values,
        &gradient,
        &mut weight_gradient,
        of_bias,
    )?;

    let (values, gradient, weight) = (halves(&values), halves(&gradient), singles(&weight));
    for &isa in sets {
        let weights = half_precision::UpsampleWeights::new(isa, outputs, inputs, &weight)?;
        let mut found = vec![f32::NAN; expected.len()];
        weights.forward(&shape, planes, &values, Some(&bias), Activation::Relu, &mut found)?;
        assert!(close(&found, &expected, TOLERANCE), "{isa:?}");

        let mut found = vec![bf16::NAN; input_gradient.len()];
        half_precision::upsample2_conv2_input_gradient(isa, &shape, &gradient, &weight, &mut found)?;
        assert!(close_halves(&found, &input_gradient), "{isa:?}: input gradient");

        let (mut found, mut of_bias) = (vec![f32::NAN; weight_gradient.len()], vec![f32::NAN; outputs]);
        half_precision::upsample2_conv2_weight_gradient(
            isa,
            &shape,
            &values,
            &gradient,
            &mut found,
            Some(&mut of_bias),
        )?;
        assert!(
            close(&found, &weight_gradient, TOLERANCE),
            "{isa:?}: weight gradient"
        );
        assert!(
            close(&of_bias, &bias_gradient, TOLERANCE),
            "{isa:?}: bias gradient"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn convolutions_and_their_gradients(problem in problems()) {
        run(|| check_convolution(&problem, &Isa::available()))?;
    }

    #[test]
    fn up_convolutions_and_their_gradients(
        seed in any::<u64>(),
        batch in 1usize..3,
        channels in prop::array::uniform2(1usize..50),
        size in (1usize..4, 1usize..5, 1usize..20),
        left in 0usize..2,
    ) {
        // A part of the planes is for one image.
        let left = if batch == 1 { left } else { 0 };
        run(|| check_upsampling(seed, batch, channels, [size.0, size.1, size.2], left, &Isa::available()))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn matrix_instructions(problem in problems()) {
        let problem = Problem { size: problem.size.map(|side| side.min(18)), ..problem };
        prop_assume!(problem.config.padding.output_size(problem.size, problem.kernel).is_ok());
        run(|| check_convolution(&problem, &emulated(&["amx"])))?;
    }
}

/// The layers of the network, at their sizes in channels.
#[test]
fn layers_of_the_network() {
    for (channels, outputs) in [
        (vec![32], 32),
        (vec![48], 48),
        (vec![48, 32], 32),
        (vec![64, 48], 48),
    ] {
        let problem = |size, [channels, outputs]: [&[usize]; 2]| Problem {
            seed: 7,
            batch: 1,
            channels: channels.to_vec(),
            size,
            outputs: outputs[0],
            kernel: [3; 3],
            config: Conv3dConfig {
                padding: Padding::Same,
                activation: Activation::Relu,
            },
            has_bias: true,
        };
        check_convolution(&problem([3, 5, 67], [&channels, &[outputs]]), &Isa::available()).unwrap();
        check_convolution(&problem([3, 3, 21], [&channels, &[outputs]]), &emulated(&["amx"])).unwrap();
    }
    check_upsampling(7, 1, [48, 48], [2, 3, 17], 0, &emulated(&["amx"])).unwrap();
}

#[test]
fn vector_instructions() {
    let problem = Problem {
        seed: 7,
        batch: 1,
        channels: vec![10],
        size: [1, 2, 3],
        outputs: 20,
        kernel: [1, 2, 3],
        config: Conv3dConfig {
            padding: Padding::Same,
            activation: Activation::Relu,
        },
        has_bias: true,
    };
    check_convolution(&problem, &emulated(&["avx512bf16"])).unwrap();
}

/// The same bits whatever the number of threads, although blocks are cut by it.
#[test]
fn threads_change_nothing() {
    let size = [5, 40, 30];
    let shape = ConvShape::new(1, size, [48, 32], [3; 3], &Padding::Same).unwrap();
    let values = halves(&flat(&rounded(&[1, 32, 5, 40, 30], 3).unwrap()).unwrap());
    let weight: Vec<f64> = rounded(&[48, 32, 3, 3, 3], 4)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let weights =
        half_precision::ConvWeights::new(Isa::current(), [3; 3], 48, &[32], &singles(&weight)).unwrap();
    let sources = [Source {
        values: &values,
        channels: 32,
    }];
    let results = [1, 2, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut out = vec![f32::NAN; shape.output_len()];
        let mut gradient = vec![f32::NAN; shape.weight_len()];
        pool.install(|| {
            weights
                .forward(&shape, &sources, None, Activation::Identity, &mut out)
                .unwrap();
            let rounded: Vec<bf16> = out.iter().map(|value| bf16::from_f32(*value)).collect();
            half_precision::conv3d_weight_gradient(
                Isa::current(),
                &shape,
                &sources,
                &rounded,
                &mut gradient,
                None,
            )
            .unwrap();
        });
        (out, gradient)
    });
    assert!(results[0] == results[1] && results[0] == results[2]);
}
