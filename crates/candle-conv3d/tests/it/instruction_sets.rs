//! Random problems on every instruction set of the machine: forward against the naive reference, gradients against the
//! portable kernels in f64, which the finite differences vouch for.

use candle_conv3d::{
    Activation, Conv3dConfig, GRID, Padding, conv3d, conv3d_concat,
    cpu::{self, ConvShape, Isa, Source, UpsampleShape},
    max_pool2, reference, softmax_channels, upsample2, upsample2_conv2,
};
use candle_core::{DType, Device, Result, Tensor};
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::problems::{self, channels_last, difference, random};

/// Rounding of f32 sums of up to 27 × 80 products, relative to the greatest value.
const TOLERANCE: f64 = 5e-6;

#[derive(Debug, Clone)]
struct Problem {
    seed: u64,
    batch: usize,
    channels: Vec<usize>,
    size: [usize; 3],
    outputs: usize,
    kernel: [usize; 3],
    config: Conv3dConfig,
    channels_last: bool,
    has_bias: bool,
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![Just(Activation::Identity), Just(Activation::Relu)]
}

fn paddings() -> impl Strategy<Value = Padding> {
    prop_oneof![
        Just(Padding::Same),
        prop::array::uniform3(prop::array::uniform2(0usize..4)).prop_map(Padding::Explicit)
    ]
}

fn problems() -> impl Strategy<Value = Problem> {
    let sizes = prop::array::uniform3(1usize..10);
    let kernels = prop::array::uniform3(1usize..4);
    let channels = prop::collection::vec(1usize..40, 1..3);
    let shape = (1usize..3, channels, sizes, 1usize..70, kernels);
    (
        any::<u64>(),
        shape,
        paddings(),
        activations(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(
                seed,
                (batch, channels, size, outputs, kernel),
                padding,
                activation,
                channels_last,
                has_bias,
            )| {
                let config = Conv3dConfig { padding, activation };
                Problem {
                    seed,
                    batch,
                    channels,
                    size,
                    outputs,
                    kernel,
                    config,
                    channels_last,
                    has_bias,
                }
            },
        )
        .prop_filter("the kernel fits", |p| {
            p.config.padding.output_size(p.size, p.kernel).is_ok()
        })
}

/// Values of `[N, C, D, H, W]` in channels-last order.
fn flat<T: candle_core::WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor.permute((0, 2, 3, 4, 1))?.flatten_all()?.to_vec1()
}

/// `[N, C, D, H, W]` from channels-last values.
fn volume(values: Vec<f32>, batch: usize, [d, h, w]: [usize; 3], channels: usize) -> Result<Tensor> {
    Tensor::from_vec(values, (batch, d, h, w, channels), &Device::Cpu)?.permute((0, 4, 1, 2, 3))
}

fn close(found: &[f32], expected: &[f64]) -> bool {
    problems::close(found, expected, TOLERANCE)
}

/// Runs a test on tensors inside proptest.
fn run(test: impl FnOnce() -> Result<()>) -> TestCaseResult {
    test().map_err(|error| TestCaseError::fail(error.to_string()))
}

fn check_convolution(problem: &Problem) -> Result<()> {
    let Problem {
        seed,
        batch,
        size,
        outputs,
        kernel,
        config,
        ..
    } = *problem;
    let sources = problem.channels.iter().zip(seed..);
    let sources: Vec<Tensor> = sources
        .map(|(&channels, seed)| random(&[&[batch, channels], &size[..]].concat(), seed, DType::F32))
        .collect::<Result<_>>()?;
    let inputs = problem.channels.iter().sum();
    let weight = random(&[&[outputs, inputs], &kernel[..]].concat(), seed ^ 1, DType::F32)?;
    let bias = problem
        .has_bias
        .then(|| random(&[outputs], seed ^ 2, DType::F32))
        .transpose()?;
    let all = Tensor::cat(&sources, 1)?;
    let expected = reference::conv3d(&all, &weight, bias.as_ref(), &config)?;

    let laid = |tensor: &Tensor| {
        if problem.channels_last {
            channels_last(tensor)
        } else {
            Ok(tensor.clone())
        }
    };
    let found = match &sources[..] {
        [a, b] => conv3d_concat(&laid(a)?, &laid(b)?, &weight, bias.as_ref(), &config)?,
        _ => conv3d(&laid(&all)?, &weight, bias.as_ref(), &config)?,
    };
    assert!(difference(&found, &expected)? < TOLERANCE);

    let shape = ConvShape::new(batch, size, [outputs, inputs], kernel, &config.padding)?;
    let values: Vec<Vec<f32>> = sources.iter().map(flat).collect::<Result<_>>()?;
    let exact: Vec<Vec<f64>> = values
        .iter()
        .map(|values| values.iter().map(|&v| f64::from(v)).collect())
        .collect();
    let sources: Vec<Source<f32>> = values
        .iter()
        .zip(&problem.channels)
        .map(|(values, &channels)| Source { values, channels })
        .collect();
    let exact_sources: Vec<Source<f64>> = exact
        .iter()
        .zip(&problem.channels)
        .map(|(values, &channels)| Source { values, channels })
        .collect();
    let weight: Vec<f32> = weight.flatten_all()?.to_vec1()?;
    let exact_weight: Vec<f64> = weight.iter().map(|&value| f64::from(value)).collect();
    let bias: Option<Vec<f32>> = bias.map(|bias| bias.to_vec1()).transpose()?;
    let gradient = random(expected.dims(), seed ^ 3, DType::F32)?;
    let exact_gradient: Vec<f64> = flat(&gradient.to_dtype(DType::F64)?)?;
    let gradient: Vec<f32> = flat(&gradient)?;
    let mut expected_weight = vec![0.0; weight.len()];
    let mut expected_bias = vec![0.0; outputs];
    cpu::conv3d_weight_gradient(
        Isa::SCALAR,
        &shape,
        &exact_sources,
        &exact_gradient,
        &mut expected_weight,
        Some(&mut expected_bias),
    )?;
    for isa in Isa::available() {
        let mut result = vec![f32::NAN; shape.output_len()];
        cpu::conv3d_forward(
            isa,
            &shape,
            &sources,
            &weight,
            bias.as_deref(),
            config.activation,
            &mut result,
        )?;
        let result = volume(result, batch, shape.output, outputs)?;
        assert!(difference(&result, &expected)? < TOLERANCE, "forward on {isa:?}");

        let mut first = 0;
        for &channels in &problem.channels {
            let length = batch * size.iter().product::<usize>() * channels;
            let mut found = vec![f32::NAN; length];
            cpu::conv3d_input_gradient(isa, &shape, &gradient, &weight, first, channels, &mut found)?;
            let mut expected = vec![f64::NAN; length];
            let scalar = Isa::SCALAR;
            let (gradient, weight) = (&exact_gradient, &exact_weight);
            cpu::conv3d_input_gradient(scalar, &shape, gradient, weight, first, channels, &mut expected)?;
            assert!(close(&found, &expected), "input gradient on {isa:?}");
            first += channels;
        }

        let (mut found_weight, mut found_bias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; outputs]);
        let bias = Some(&mut found_bias[..]);
        cpu::conv3d_weight_gradient(isa, &shape, &sources, &gradient, &mut found_weight, bias)?;
        assert!(
            close(&found_weight, &expected_weight),
            "weight gradient on {isa:?}"
        );
        assert!(close(&found_bias, &expected_bias), "bias gradient on {isa:?}");
    }
    Ok(())
}

fn check_up_convolution(
    seed: u64,
    shape: UpsampleShape,
    activation: Activation,
    in_channels_last: bool,
) -> Result<()> {
    let UpsampleShape {
        batch,
        input: [d, h, w],
        input_channels,
        output_channels,
    } = shape;
    let input = random(&[batch, input_channels, d, h, w], seed, DType::F32)?;
    let weight = random(&[output_channels, input_channels, 2, 2, 2], seed ^ 1, DType::F32)?;
    let bias = random(&[output_channels], seed ^ 2, DType::F32)?;
    let expected = reference::upsample2_conv2(&input, &weight, Some(&bias), activation)?;
    let laid = if in_channels_last {
        channels_last(&input)?
    } else {
        input.clone()
    };
    let found = upsample2_conv2(&laid, &weight, Some(&bias), activation)?;
    assert!(difference(&found, &expected)? < TOLERANCE);

    let gradient = random(expected.dims(), seed ^ 3, DType::F32)?;
    let exact = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| f64::from(value)).collect() };
    let (input, gradient): (Vec<f32>, Vec<f32>) = (flat(&input)?, flat(&gradient)?);
    let (weight, bias): (Vec<f32>, Vec<f32>) = (weight.flatten_all()?.to_vec1()?, bias.to_vec1()?);
    let (mut expected_input, mut expected_weight) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
    let mut expected_bias = vec![0.0; output_channels];
    let (exact_gradient, exact_weight) = (exact(&gradient), exact(&weight));
    let scalar = Isa::SCALAR;
    cpu::upsample2_conv2_input_gradient(
        scalar,
        &shape,
        &exact_gradient,
        &exact_weight,
        &mut expected_input,
    )?;
    let bias_gradient = Some(&mut expected_bias[..]);
    let exact_input = exact(&input);
    cpu::upsample2_conv2_weight_gradient(
        scalar,
        &shape,
        &exact_input,
        &exact_gradient,
        &mut expected_weight,
        bias_gradient,
    )?;
    for isa in Isa::available() {
        let mut result = vec![f32::NAN; shape.output_len()];
        cpu::upsample2_conv2_forward(isa, &shape, &input, &weight, Some(&bias), activation, &mut result)?;
        let result = volume(result, batch, [2 * d, 2 * h, 2 * w], output_channels)?;
        assert!(difference(&result, &expected)? < TOLERANCE, "forward on {isa:?}");
        let mut found = vec![f32::NAN; input.len()];
        cpu::upsample2_conv2_input_gradient(isa, &shape, &gradient, &weight, &mut found)?;
        assert!(close(&found, &expected_input), "input gradient on {isa:?}");
        let mut found = vec![f32::NAN; weight.len()];
        let mut found_bias = vec![f32::NAN; output_channels];
        let bias = Some(&mut found_bias[..]);
        cpu::upsample2_conv2_weight_gradient(isa, &shape, &input, &gradient, &mut found, bias)?;
        assert!(close(&found, &expected_weight), "weight gradient on {isa:?}");
        assert!(close(&found_bias, &expected_bias), "bias gradient on {isa:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree(problem in problems()) {
        run(|| check_convolution(&problem))?;
    }

    #[test]
    fn up_convolutions_agree(
        seed in any::<u64>(),
        batch in 1usize..3,
        input in prop::array::uniform3(1usize..8),
        input_channels in 1usize..40,
        output_channels in 1usize..70,
        activation in activations(),
        in_channels_last in any::<bool>(),
    ) {
        let shape = UpsampleShape { batch, input, input_channels, output_channels };
        run(|| check_up_convolution(seed, shape, activation, in_channels_last))?;
    }

    #[test]
    fn pooling_doubling_and_soft_max_agree(
        seed in any::<u64>(),
        shape in (1usize..3, 1usize..40, 1usize..5, 1usize..5, 1usize..5),
        in_channels_last in any::<bool>(),
    ) {
        run(|| {
            let (batch, channels, d, h, w) = shape;
            let input = random(&[batch, channels, 2 * d, 2 * h, 2 * w], seed, DType::F32)?;
            let laid = if in_channels_last { channels_last(&input)? } else { input.clone() };
            assert_eq!(difference(&max_pool2(&laid)?, &reference::max_pool2(&input)?)?, 0.0);
            assert_eq!(difference(&upsample2(&laid)?, &reference::upsample2(&input)?)?, 0.0);
            assert!(difference(&softmax_channels(&laid)?, &reference::softmax_channels(&input)?)? < TOLERANCE);
            Ok(())
        })?;
    }
}

#[test]
fn wide_rows_and_many_channels_agree() -> Result<()> {
    // Several tiles to a row, several rows to a band, several parts of the depth, several partial sums.
    for (channels, outputs, size) in [
        (vec![32], 32, [3, 12, 50]),
        (vec![64, 48], 48, [2, 5, 30]),
        (vec![1], 33, [9, 17, 29]),
        (vec![70], 96, [2, 3, 13]),
    ] {
        let config = Conv3dConfig {
            activation: Activation::Relu,
            ..Default::default()
        };
        check_convolution(&Problem {
            seed: 7,
            batch: 2,
            channels,
            size,
            outputs,
            kernel: [3, 3, 3],
            config,
            channels_last: true,
            has_bias: true,
        })?;
    }
    Ok(())
}

#[test]
fn an_output_has_the_same_bits_wherever_the_volume_ends() -> Result<()> {
    // What lets a volume be computed in tiles: far enough from the end, where the end lies must not show.
    let config = Conv3dConfig::default();
    for (inputs, outputs) in [(1, 32), (5, 20), (32, 32), (48, 64), (64, 13)] {
        let whole = random(&[1, inputs, 9, 7, 41], 1, DType::F32)?;
        let weight = random(&[outputs, inputs, 3, 3, 3], 2, DType::F32)?;
        let up_weight = random(&[outputs, inputs, 2, 2, 2], 3, DType::F32)?;
        let bias = random(&[outputs], 4, DType::F32)?;
        let bits = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let convolved = conv3d(&whole, &weight, Some(&bias), &config)?;
        let upsampled = upsample2_conv2(&whole, &up_weight, Some(&bias), Activation::Relu)?;
        // Windows on the grid; of a window's outputs those of whole groups that see nothing of its ends.
        let kept = |length: usize, grid: usize| grid..(length - 1) / grid * grid;
        for (first, width) in [(4, 9), (8, 17), (0, 38), (20, 12)] {
            let part = whole
                .narrow(2, GRID[0], 5)?
                .narrow(3, 1, 6)?
                .narrow(4, first, width)?;
            let found = conv3d(&part, &weight, Some(&bias), &config)?;
            let (z, y, x) = (kept(5, GRID[0]), kept(6, GRID[1]), kept(width, GRID[2]));
            let inside = |tensor: &Tensor, [dz, dy, dx]: [usize; 3]| {
                let tensor = tensor.narrow(2, z.start + dz, z.len())?;
                tensor
                    .narrow(3, y.start + dy, y.len())?
                    .narrow(4, x.start + dx, x.len())
            };
            let found = bits(&inside(&found, [0; 3])?)?;
            assert!(!found.is_empty());
            assert!(
                found == bits(&inside(&convolved, [GRID[0], 1, first])?)?,
                "{inputs} -> {outputs} channels, {width} voxels from {first}"
            );
            let found = upsample2_conv2(&part, &up_weight, Some(&bias), Activation::Relu)?;
            let inside = |tensor: &Tensor, [z, y, x]: [usize; 3]| {
                let tensor = tensor.narrow(2, z, 8)?.narrow(3, y, 10)?;
                tensor.narrow(4, x, 2 * width - 2)
            };
            let expected = bits(&inside(&upsampled, [2 * GRID[0], 2, 2 * first])?)?;
            assert!(bits(&inside(&found, [0; 3])?)? == expected, "up");
        }
    }
    Ok(())
}
