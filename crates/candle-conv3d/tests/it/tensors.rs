//! The public functions on small tensors.

use candle_conv3d::{
    Activation, Conv3dConfig, Padding, add_softmax_channels, argmax_channels, channels_last_zeros, conv3d,
    conv3d_concat, max_pool2, reference, softmax_channels, upsample2_conv2,
};
use candle_core::{DType, Device, Result, Tensor};

use crate::problems::{channels_last, difference, random};

const F32_TOLERANCE: f64 = 2e-6;
const F64_TOLERANCE: f64 = 1e-14;
const RELU: Conv3dConfig = Conv3dConfig {
    padding: Padding::Same,
    activation: Activation::Relu,
};

fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 {
        F32_TOLERANCE
    } else {
        F64_TOLERANCE
    }
}

#[test]
fn convolutions_follow_the_reference_in_both_types_and_layouts() -> Result<()> {
    let paddings = [
        Padding::Same,
        Padding::Explicit([[0, 0]; 3]),
        Padding::Explicit([[2, 0], [0, 3], [1, 2]]),
    ];
    for dtype in [DType::F32, DType::F64] {
        for (seed, kernel) in [[3, 3, 3], [2, 2, 2], [1, 1, 1], [3, 1, 2], [5, 4, 1]]
            .iter()
            .enumerate()
        {
            for padding in paddings {
                let config = Conv3dConfig {
                    padding,
                    activation: Activation::Relu,
                };
                let input = random(&[2, 5, 6, 7, 9], seed as u64, dtype)?;
                let weight = random(&[&[17, 5], &kernel[..]].concat(), 10 + seed as u64, dtype)?;
                let bias = random(&[17], 20, dtype)?;
                let expected = reference::conv3d(&input, &weight, Some(&bias), &config)?;
                for input in [&input, &channels_last(&input)?] {
                    let found = conv3d(input, &weight, Some(&bias), &config)?;
                    assert!(difference(&found, &expected)? < tolerance(dtype));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_concatenation_is_read_from_its_parts() -> Result<()> {
    let (a, b) = (
        random(&[2, 7, 4, 6, 5], 1, DType::F32)?,
        random(&[2, 18, 4, 6, 5], 2, DType::F32)?,
    );
    let weight = random(&[3, 25, 3, 3, 3], 3, DType::F32)?;
    let found = conv3d_concat(&a, &channels_last(&b)?, &weight, None, &RELU)?;
    let expected = reference::conv3d_concat(&a, &b, &weight, None, &RELU)?;
    assert!(difference(&found, &expected)? < F32_TOLERANCE);
    let cat = conv3d(&Tensor::cat(&[&a, &b], 1)?, &weight, None, &RELU)?;
    assert!(difference(&found, &cat)? < F32_TOLERANCE);
    Ok(())
}

#[test]
fn an_up_convolution_is_upsampling_and_convolution() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let input = random(&[2, 19, 3, 1, 6], 1, dtype)?;
        let weight = random(&[9, 19, 2, 2, 2], 2, dtype)?;
        let bias = random(&[9], 3, dtype)?;
        for activation in [Activation::Identity, Activation::Relu] {
            let found = upsample2_conv2(&input, &weight, Some(&bias), activation)?;
            let expected = reference::upsample2_conv2(&input, &weight, Some(&bias), activation)?;
            assert!(difference(&found, &expected)? < tolerance(dtype));
        }
    }
    Ok(())
}

#[test]
fn pooling_and_channel_ops_follow_the_reference() -> Result<()> {
    let input = random(&[2, 13, 4, 2, 6], 1, DType::F32)?;
    assert_eq!(
        difference(&max_pool2(&input)?, &reference::max_pool2(&input)?)?,
        0.0
    );
    assert!(difference(&softmax_channels(&input)?, &reference::softmax_channels(&input)?)? < F32_TOLERANCE);
    let (found, expected) = (argmax_channels(&input)?, reference::argmax_channels(&input)?);
    assert_eq!(found.dtype(), DType::U8);
    assert_eq!(
        found.flatten_all()?.to_vec1::<u8>()?,
        expected.flatten_all()?.to_vec1::<u8>()?
    );
    Ok(())
}

#[test]
fn ties_go_to_the_lowest_channel() -> Result<()> {
    let input = Tensor::new(&[1f32, 3.0, 3.0, 2.0], &Device::Cpu)?.reshape((1, 4, 1, 1, 1))?;
    assert_eq!(argmax_channels(&input)?.flatten_all()?.to_vec1::<u8>()?, [1]);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let volume = random(&[1, 2, 4, 4, 4], 1, DType::F32)?;
    let weight = random(&[3, 2, 3, 3, 3], 1, DType::F32)?;
    let config = Conv3dConfig::default();
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    assert!(message(conv3d(&volume.narrow(1, 0, 1)?, &weight, None, &config)).contains("[O, 1, kd, kh, kw]"));
    assert!(
        message(conv3d(&volume, &weight, Some(&weight), &config)).contains("the bias should have shape [3]")
    );
    assert!(message(conv3d(&volume.to_dtype(DType::F64)?, &weight, None, &config)).contains("one type"));
    let unpadded = Conv3dConfig {
        padding: Padding::Explicit([[0, 0]; 3]),
        ..config
    };
    assert!(
        message(conv3d(&volume.narrow(3, 0, 2)?, &weight, None, &unpadded)).contains("larger than the input")
    );
    assert!(
        message(conv3d_concat(
            &volume,
            &volume.narrow(2, 0, 2)?,
            &weight,
            None,
            &config
        ))
        .contains("second")
    );
    assert!(message(max_pool2(&volume.narrow(2, 0, 3)?)).contains("even"));
    assert!(message(upsample2_conv2(&volume, &weight, None, Activation::Relu)).contains("2, 2, 2"));
    assert!(message(argmax_channels(&volume.to_dtype(DType::U8)?)).contains("f32 or f64"));
    Ok(())
}

#[test]
fn scores_of_a_box_are_added_straight_or_turned() -> Result<()> {
    let logits = channels_last(&random(&[1, 3, 5, 6, 7], 4, DType::F32)?)?;
    let part = [1..4, 2..6, 3..5];
    let sums = channels_last_zeros([1, 3, 6, 4, 2], DType::F32, &Device::Cpu)?;
    let scores = softmax_channels(&logits)?;
    let scores = scores.narrow(2, 1, 3)?.narrow(3, 2, 4)?.narrow(4, 3, 2)?;
    add_softmax_channels(&sums, &logits, &part, 0, false)?;
    add_softmax_channels(&sums, &logits, &part, 0, false)?;
    add_softmax_channels(&sums, &logits, &part, 2, true)?;
    let at = |tensor: &Tensor, [c, z, y, x]: [usize; 4]| -> Result<f32> {
        tensor.get(0)?.get(c)?.get(z)?.get(y)?.get(x)?.to_scalar()
    };
    for z in 0..6 {
        for (c, y, x) in (0..3).flat_map(|c| (0..4).flat_map(move |y| (0..2).map(move |x| (c, y, x)))) {
            let mut expected = 0.0;
            if z < 3 {
                let score = at(&scores, [c, z, y, x])?;
                expected += score + score;
            }
            if (2..5).contains(&z) {
                expected += at(&scores, [c, 4 - z, y, 1 - x])?;
            }
            assert_eq!(at(&sums, [c, z, y, x])?, expected, "{c} {z} {y} {x}");
        }
    }
    // Nothing is added where it does not fit.
    let refused = |part, to| add_softmax_channels(&sums, &logits, &part, to, false).is_err();
    assert!(refused([1..4, 2..6, 3..5], 4) && refused([1..4, 2..5, 3..5], 0));
    assert!(refused([3..6, 2..6, 3..5], 0) && refused([0..1, 2..6, 6..8], 0));
    let halves = logits.to_dtype(DType::BF16)?;
    assert!(add_softmax_channels(&sums, &halves, &part, 0, false).is_err());
    Ok(())
}
