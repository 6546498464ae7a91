//! Layers prepared once, writing into a part of a larger tensor, against the same layers called as they are.

use candle_conv3d::{
    Activation, Conv3dConfig, Padding, PrepackedConv3d, PrepackedUpsample, channels_last_zeros, conv3d,
    conv3d_concat, max_pool2, max_pool2_into, upsample2_conv2,
};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use crate::problems;

/// Writes through `fill` into planes 1 to the last but one of a tensor of that shape and two planes more; gives those
/// planes, and checks that the others have not been touched.
fn within(shape: &[usize], dtype: DType, fill: impl FnOnce(&Tensor)) -> Tensor {
    let [n, c, d, h, w] = <[usize; 5]>::try_from(shape).expect("five axes");
    let whole = channels_last_zeros([n, c, d + 2, h, w], dtype, &Device::Cpu).expect("zeros");
    let part = whole.narrow(2, 1, d).expect("planes");
    fill(&part);
    for plane in [0, d + 1] {
        let values = values(&whole.narrow(2, plane, 1).expect("a plane"));
        assert!(values.iter().all(|value| *value == 0.0), "plane {plane} of {d}");
    }
    part
}

fn random(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    problems::random(shape, seed, dtype).expect("a tensor")
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_dtype(DType::F64).expect("f64").to_vec1().expect("values")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_prepacked_convolution_is_the_convolution(
        seed in any::<u64>(),
        channels in prop::collection::vec(1usize..20, 1..3),
        outputs in 1usize..40,
        size in prop::array::uniform3(3usize..9),
        pad in prop::array::uniform2(0usize..2),
        relu in any::<bool>(),
        has_bias in any::<bool>(),
        double in any::<bool>(),
    ) {
        let dtype = if double { DType::F64 } else { DType::F32 };
        let sources: Vec<Tensor> = channels
            .iter()
            .zip(0..)
            .map(|(&c, i)| random(seed ^ i, &[1, c, size[0], size[1], size[2]], dtype))
            .collect();
        let weight = random(seed ^ 7, &[outputs, channels.iter().sum(), 3, 3, 3], dtype);
        let bias = has_bias.then(|| random(seed ^ 8, &[outputs], dtype));
        let activation = if relu { Activation::Relu } else { Activation::Identity };
        let padding = Padding::Explicit([pad, [1, 1], [1, 1]]);
        let config = Conv3dConfig { padding, activation };
        let expected = match &sources[..] {
            [a] => conv3d(a, &weight, bias.as_ref(), &config),
            [a, b] => conv3d_concat(a, b, &weight, bias.as_ref(), &config),
            _ => unreachable!("one or two"),
        }.unwrap();
        let layer = PrepackedConv3d::new(&weight, bias.as_ref(), &channels, activation, dtype).unwrap();
        // Twice: a layer is not used up.
        for _ in 0..2 {
            let found = within(expected.dims(), dtype, |part| {
                layer.write(&sources.iter().collect::<Vec<_>>(), &padding, part).unwrap();
            });
            prop_assert!(values(&found) == values(&expected));
        }
    }

    #[test]
    fn the_first_planes_of_an_upsampling_look_at_the_one_behind(
        seed in any::<u64>(),
        channels in prop::array::uniform2(1usize..20),
        size in prop::array::uniform3(1usize..6),
        left in 0usize..3,
        double in any::<bool>(),
    ) {
        let dtype = if double { DType::F64 } else { DType::F32 };
        let [inputs, outputs] = channels;
        let input = random(seed, &[1, inputs, size[0], size[1], size[2]], dtype);
        let weight = random(seed ^ 1, &[outputs, inputs, 2, 2, 2], dtype);
        let bias = random(seed ^ 2, &[outputs], dtype);
        let whole = upsample2_conv2(&input, &weight, Some(&bias), Activation::Relu).unwrap();
        let planes = size[0].saturating_sub(left).max(1);
        let expected = whole.narrow(2, 0, 2 * planes).unwrap();
        let layer = PrepackedUpsample::new(&weight, Some(&bias), Activation::Relu, dtype).unwrap();
        let found = within(expected.dims(), dtype, |part| layer.write(&input, part).unwrap());
        prop_assert!(values(&found) == values(&expected));
    }

    #[test]
    fn pooling_into_memory_is_pooling(
        seed in any::<u64>(),
        channels in 1usize..20,
        half in prop::array::uniform3(1usize..5),
    ) {
        let [d, h, w] = half.map(|side| 2 * side);
        let input = random(seed, &[1, channels, d, h, w], DType::F32);
        let expected = max_pool2(&input).unwrap();
        let found = within(expected.dims(), DType::F32, |part| max_pool2_into(&input, part).unwrap());
        prop_assert!(values(&found) == values(&expected));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let weight = random(1, &[4, 3, 3, 3, 3], DType::F32);
    let layer = PrepackedConv3d::new(&weight, None, &[3], Activation::Identity, DType::F32).unwrap();
    let input = random(2, &[1, 3, 5, 5, 5], DType::F32);
    let place = |shape: [usize; 5], dtype| channels_last_zeros(shape, dtype, &Device::Cpu).unwrap();
    let write = |sources: &[&Tensor], output: &Tensor| layer.write(sources, &Padding::Same, output);
    assert!(write(&[&input], &place([1, 4, 5, 5, 5], DType::F32)).is_ok());
    for (what, output) in [
        ("too few channels", place([1, 3, 5, 5, 5], DType::F32)),
        ("too few planes", place([1, 4, 4, 5, 5], DType::F32)),
        ("another type", place([1, 4, 5, 5, 5], DType::F64)),
        (
            "another order in memory",
            Tensor::zeros((1, 4, 5, 5, 5), DType::F32, &Device::Cpu).unwrap(),
        ),
    ] {
        assert!(write(&[&input], &output).is_err(), "{what}");
    }
    let output = place([1, 4, 5, 5, 5], DType::F32);
    assert!(write(&[], &output).is_err(), "no source");
    assert!(write(&[&input, &input], &output).is_err(), "a source too many");
    assert!(
        PrepackedConv3d::new(&weight, None, &[2], Activation::Identity, DType::F32).is_err(),
        "channels"
    );
    assert!(
        PrepackedUpsample::new(&weight, None, Activation::Identity, DType::F32).is_err(),
        "a 3³ kernel"
    );
}
