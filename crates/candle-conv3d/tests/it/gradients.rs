//! Gradients against central differences, in f64.

use candle_conv3d::{
    Activation, Conv3dConfig, Padding, add_max_pool2_gradient, conv3d, conv3d_concat, conv3d_gradients,
    max_pool2, relu_gradient, softmax_channels, upsample2, upsample2_conv2, upsample2_conv2_gradients,
    upsample2_gradient,
};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::problems::{channels_last, difference, random};

/// Step of the differences, and how far they may be from the gradient: h² and rounding leave 1e-8 at most.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-7;

/// Compares the gradients of `sum(weights · op(arguments))` with central differences in every value.
fn check(shapes: &[&[usize]], op: impl Fn(&[&Tensor]) -> Result<Tensor>) -> Result<()> {
    let arguments = shapes
        .iter()
        .zip(1..)
        .map(|(shape, seed)| Var::from_tensor(&random(shape, seed, DType::F64)?));
    let arguments: Vec<Var> = arguments.collect::<Result<_>>()?;
    let tensors: Vec<&Tensor> = arguments.iter().map(Var::as_tensor).collect();
    let weights = random(op(&tensors)?.dims(), 99, DType::F64)?;
    let loss = |tensors: &[&Tensor]| (op(tensors)? * &weights)?.sum_all();
    let gradients = loss(&tensors)?.backward()?;
    for (index, argument) in arguments.iter().enumerate() {
        let gradient = gradients
            .get(argument)
            .expect("a gradient")
            .flatten_all()?
            .to_vec1::<f64>()?;
        let values = argument.flatten_all()?.to_vec1::<f64>()?;
        for (at, &gradient) in gradient.iter().enumerate() {
            let moved = |by: f64| -> Result<f64> {
                let mut values = values.clone();
                values[at] += by;
                let moved = Tensor::from_vec(values, argument.dims(), &Device::Cpu)?;
                let mut tensors: Vec<Tensor> = tensors.iter().map(|tensor| tensor.detach()).collect();
                tensors[index] = moved;
                loss(&tensors.iter().collect::<Vec<_>>())?.to_scalar()
            };
            let expected = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
            let off = (gradient - expected).abs();
            assert!(
                off < TOLERANCE,
                "argument {index}, value {at}: {gradient}, differences say {expected}"
            );
        }
    }
    Ok(())
}

#[test]
fn of_conv3d() -> Result<()> {
    for activation in [Activation::Identity, Activation::Relu] {
        for padding in [Padding::Same, Padding::Explicit([[2, 0], [0, 1], [1, 3]])] {
            let config = Conv3dConfig { padding, activation };
            for kernel in [[3, 3, 3], [2, 2, 2], [1, 3, 2]] {
                let weight = [3, 2, kernel[0], kernel[1], kernel[2]];
                check(&[&[2, 2, 3, 4, 3], &weight, &[3]], |arguments| {
                    conv3d(arguments[0], arguments[1], Some(arguments[2]), &config)
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn of_conv3d_without_bias() -> Result<()> {
    check(&[&[1, 1, 3, 3, 2], &[2, 1, 3, 3, 3]], |arguments| {
        conv3d(arguments[0], arguments[1], None, &Conv3dConfig::default())
    })
}

#[test]
fn of_conv3d_concat() -> Result<()> {
    let config = Conv3dConfig {
        activation: Activation::Relu,
        ..Default::default()
    };
    check(
        &[&[2, 2, 3, 2, 3], &[2, 1, 3, 2, 3], &[2, 3, 3, 3, 3], &[2]],
        |arguments| {
            conv3d_concat(
                arguments[0],
                arguments[1],
                arguments[2],
                Some(arguments[3]),
                &config,
            )
        },
    )
}

#[test]
fn of_upsample2_conv2() -> Result<()> {
    for activation in [Activation::Identity, Activation::Relu] {
        check(&[&[2, 2, 2, 3, 1], &[3, 2, 2, 2, 2], &[3]], |arguments| {
            upsample2_conv2(arguments[0], arguments[1], Some(arguments[2]), activation)
        })?;
    }
    Ok(())
}

#[test]
fn of_upsample2() -> Result<()> {
    check(&[&[2, 3, 2, 1, 3]], |arguments| upsample2(arguments[0]))?;
    // By hand: the sums over what came of each voxel.
    let gradient = random(&[2, 3, 4, 2, 6], 5, DType::F32)?;
    let input = Var::from_tensor(&random(&[2, 3, 2, 1, 3], 6, DType::F32)?)?;
    let by_candle = (upsample2(&input)? * &gradient)?.sum_all()?.backward()?;
    let expected = by_candle.get(&input).expect("a gradient");
    let found = upsample2_gradient(&channels_last(&gradient)?)?;
    assert_eq!(difference(&found, expected)?, 0.0);
    assert!(upsample2_gradient(&random(&[1, 1, 2, 3, 2], 1, DType::F32)?).is_err());
    Ok(())
}

#[test]
fn of_max_pool2_and_softmax_channels() -> Result<()> {
    check(&[&[2, 3, 4, 2, 4]], |arguments| max_pool2(arguments[0]))?;
    check(&[&[2, 3, 2, 1, 3]], |arguments| softmax_channels(arguments[0]))
}

#[test]
fn of_layers_one_after_another() -> Result<()> {
    // Skip connection, pooling and up-convolution: tensors with several uses, and layers that hang on each other.
    let config = Conv3dConfig {
        activation: Activation::Relu,
        ..Default::default()
    };
    let shapes: [&[usize]; 4] = [
        &[1, 1, 4, 2, 4],
        &[2, 1, 3, 3, 3],
        &[2, 2, 2, 2, 2],
        &[3, 4, 3, 3, 3],
    ];
    check(&shapes, |arguments| {
        let high = conv3d(arguments[0], arguments[1], None, &config)?;
        let up = upsample2_conv2(&max_pool2(&high)?, arguments[2], None, Activation::Relu)?;
        softmax_channels(&conv3d_concat(&up, &high, arguments[3], None, &config)?)
    })
}

#[test]
fn of_equal_values_go_to_the_first() -> Result<()> {
    let input = Var::ones((1, 1, 2, 2, 2), DType::F32, &Device::Cpu)?;
    let gradients = max_pool2(&input)?.sum_all()?.backward()?;
    let gradient = gradients
        .get(&input)
        .expect("a gradient")
        .flatten_all()?
        .to_vec1::<f32>()?;
    assert_eq!(gradient, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    Ok(())
}

/// The gradients that layers give one by one, and those of candle's walk back.
#[test]
fn one_by_one_are_those_of_the_walk_back() -> Result<()> {
    let relu = |padding| Conv3dConfig {
        padding,
        activation: Activation::Relu,
    };
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let of_parameters = if dtype == DType::F64 { dtype } else { DType::F32 };
        let variable = |shape: &[usize], seed, dtype| Var::from_tensor(&random(shape, seed, dtype)?);
        let volume = |shape: &[usize], seed| -> Result<Var> {
            let [n, c, d, h, w] = *shape else {
                candle_core::bail!("five axes")
            };
            // Tracked where it lies: channels-last.
            variable(&[n, d, h, w, c], seed, dtype)
        };
        let view = |variable: &Var| variable.permute((0, 4, 1, 2, 3));
        let padding = Padding::Explicit([[1, 0], [2, 1], [1, 1]]);
        let (a, b) = (volume(&[2, 17, 3, 4, 5], 1)?, volume(&[2, 9, 3, 4, 5], 2)?);
        let (weight, bias) = (
            variable(&[20, 26, 3, 3, 3], 3, of_parameters)?,
            variable(&[20], 4, of_parameters)?,
        );
        let result = conv3d_concat(&view(&a)?, &view(&b)?, &weight, Some(&bias), &relu(padding))?;
        let outer = channels_last(&random(result.dims(), 5, dtype)?)?;
        let walk = (&result * &outer)?.to_dtype(DType::F32)?.sum_all()?.backward()?;
        let gradient = relu_gradient(&result.detach(), outer.copy()?)?;
        let sources = [view(&a)?.detach(), view(&b)?.detach()];
        let sources: Vec<&Tensor> = sources.iter().collect();
        let fixed = weight.as_detached_tensor();
        let found = conv3d_gradients(&sources, &fixed, &gradient, padding, true)?;
        equal(&walk, &weight, &found.weight)?;
        equal(&walk, &bias, &found.bias)?;
        for (variable, found) in [&a, &b].into_iter().zip(&found.sources) {
            equal(&walk, variable, &found.permute((0, 2, 3, 4, 1))?)?;
        }
        assert!(
            conv3d_gradients(&sources, &fixed, &gradient, padding, false)?
                .sources
                .is_empty()
        );
        assert!(conv3d_gradients(&sources, &fixed, &gradient, Padding::Same, true).is_err());
        assert!(conv3d_gradients(&[], &fixed, &gradient, padding, true).is_err());

        let input = volume(&[1, 18, 2, 4, 2], 6)?;
        let (weight, bias) = (
            variable(&[21, 18, 2, 2, 2], 7, of_parameters)?,
            variable(&[21], 8, of_parameters)?,
        );
        let result = upsample2_conv2(&view(&input)?, &weight, Some(&bias), Activation::Relu)?;
        let pooled = max_pool2(&result)?;
        let (of_result, of_pooled) = (
            channels_last(&random(result.dims(), 9, dtype)?)?,
            channels_last(&random(pooled.dims(), 10, dtype)?)?,
        );
        let sum = |a: &Tensor, b: &Tensor| (a * b)?.to_dtype(DType::F32)?.sum_all();
        let walk = (sum(&result, &of_result)? + sum(&pooled, &of_pooled)?)?.backward()?;
        let result = result.detach();
        let gradient = add_max_pool2_gradient(&result, &pooled.detach(), &of_pooled, of_result.copy()?)?;
        let gradient = relu_gradient(&result, gradient)?;
        let found =
            upsample2_conv2_gradients(&view(&input)?.detach(), &weight.as_detached_tensor(), &gradient)?;
        equal(&walk, &weight, &found.weight)?;
        equal(&walk, &bias, &found.bias)?;
        equal(&walk, &input, &found.sources[0].permute((0, 2, 3, 4, 1))?)?;
    }
    Ok(())
}

fn equal(walk: &candle_core::backprop::GradStore, variable: &Var, found: &Tensor) -> Result<()> {
    let expected = walk.get(variable).expect("a gradient");
    assert_eq!(difference(found, expected)?, 0.0, "{:?}", variable.dims());
    Ok(())
}
