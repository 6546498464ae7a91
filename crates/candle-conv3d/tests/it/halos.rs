//! Volumes with a halo give what those without give, bit for bit, and their halos stay as they are.

use candle_conv3d::{
    Activation, Halos, Padding, PrepackedConv3d, PrepackedUpsample, channels_last_zeros,
    cpu::{
        ConvShape, Isa, PoolShape, UpsampleShape,
        bf16::{ConvWeights, Stored, UpsampleWeights},
        max_pool2_forward, max_pool2_forward_stored,
    },
    haloed_zeros, max_pool2_into, max_pool2_with_halos,
};
use candle_core::{DType, Device, IndexOp, Result, Tensor};
use half::bf16;
use proptest::prelude::*;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::emulation;
use crate::problems::random;

/// What stands in an output's halo.
const MARK: f32 = -77.0;

/// A volume `[N, D, H, W, C]`, and the same with a halo in a larger storage.
struct Volume {
    dense: Vec<bf16>,
    storage: Vec<bf16>,
    start: usize,
    channels: usize,
}

impl Volume {
    /// `front`: voxels of anything before the row of zeros that stands before the volume.
    fn new(seed: u64, batch: usize, size: [usize; 3], channels: usize, front: usize) -> Result<Self> {
        let [depth, height, width] = size;
        let values = random(&[batch * depth, height, width * channels], seed, DType::F32)?;
        let dense: Vec<bf16> = rounded(&values.flatten_all()?.to_vec1()?);
        let mut storage = vec![bf16::from_f32(3.0); front * channels];
        storage.resize(storage.len() + (width + 2) * channels, bf16::ZERO);
        let start = storage.len();
        for rows in dense.chunks(height * width * channels) {
            for row in rows.chunks(width * channels) {
                storage.extend_from_slice(row);
                storage.resize(storage.len() + channels, bf16::ZERO);
            }
            storage.resize(storage.len() + (width + 1) * channels, bf16::ZERO);
        }
        // What the next planes of a longer volume would be.
        storage.resize(storage.len() + 40 * channels, bf16::from_f32(5.0));
        Ok(Self {
            dense,
            storage,
            start,
            channels,
        })
    }

    fn stored(&self, halo: bool) -> Stored<'_> {
        Stored {
            values: if halo { &self.storage } else { &self.dense },
            start: if halo { self.start } else { 0 },
            channels: self.channels,
            halo,
        }
    }
}

fn rounded(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|value| bf16::from_f32(*value)).collect()
}

/// A place for planes of that size with a halo.
fn marked(planes: usize, [height, width]: [usize; 2], channels: usize) -> Vec<f32> {
    vec![MARK; planes * (height + 1) * (width + 1) * channels]
}

/// Those values with a halo of marks.
fn with_marks(dense: &[f32], [height, width]: [usize; 2], channels: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for plane in dense.chunks((height * width * channels).max(1)) {
        for row in plane.chunks(width * channels) {
            all.extend_from_slice(row);
            all.extend(vec![MARK; channels]);
        }
        all.extend(vec![MARK; (width + 1) * channels]);
    }
    all
}

/// Those of the machine, and AMX in software where it is not there.
fn sets() -> Vec<Isa> {
    let mut sets = Isa::available();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if !sets.iter().any(|set| set.name() == "amx") {
        sets.extend(emulation::sets().into_iter().filter(|set| set.name() == "amx"));
    }
    sets
}

fn axis() -> impl Strategy<Value = ([usize; 2], usize)> {
    // Zeros before and behind, and taps.
    prop_oneof![
        4 => Just(([1, 1], 3)),
        1 => Just(([0, 0], 1)),
        1 => Just(([0, 1], 2)),
        1 => Just(([2, 0], 3)),
    ]
}

fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(32), Just(48), 2usize..70]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_give_the_same(
        seed in any::<u64>(),
        batch in 1usize..3,
        (depth, height, width) in (1usize..8, 1usize..12, prop_oneof![4 => 1usize..40, 1 => 129usize..200]),
        sources in prop::collection::vec(channels(), 1..3),
        outputs in prop_oneof![Just(32usize), Just(48), Just(64), 1usize..40],
        (z, y, x) in (axis(), axis(), axis()),
        of_output in any::<bool>(),
        relu in any::<bool>(),
        front in 0usize..5,
    ) {
        let (size, kernel) = ([depth, height, width], [z.1, y.1, x.1]);
        let padding = Padding::Explicit([z.0, y.0, x.0]);
        let inputs: usize = sources.iter().sum();
        let Ok(shape) = ConvShape::new(batch, size, [outputs, inputs], kernel, &padding) else {
            return Ok(());
        };
        let volumes: Vec<Volume> = (seed..).zip(&sources)
            .map(|(seed, &channels)| Volume::new(seed, batch, size, channels, front))
            .collect::<Result<_>>()
            .expect("random values");
        let weight: Vec<f32> = random(&[shape.weight_len()], seed ^ 1, DType::F32)
            .and_then(|weight| weight.to_vec1())
            .expect("random values");
        let bias: Vec<f32> = (0..outputs).map(|output| output as f32 / 64.0).collect();
        let activation = if relu { Activation::Relu } else { Activation::Identity };
        let [planes, rows, columns] = shape.output;
        for isa in sets() {
            let weights = ConvWeights::new(isa, kernel, outputs, &sources, &weight).expect("weights");
            let forward = |halo: bool, output: &mut [f32], of_output: bool| {
                let volumes: Vec<Stored<'_>> = volumes.iter().map(|volume| volume.stored(halo)).collect();
                weights
                    .forward_stored(&shape, &volumes, Some(&bias), activation, output, of_output)
                    .expect("all fits");
            };
            let mut dense = vec![f32::NAN; shape.output_len()];
            forward(false, &mut dense, false);
            let mut found = if of_output {
                marked(batch * planes, [rows, columns], outputs)
            } else {
                vec![MARK; dense.len()]
            };
            forward(true, &mut found, of_output);
            if of_output {
                dense = with_marks(&dense, [rows, columns], outputs);
            }
            prop_assert!(found == dense, "{isa:?}");
        }
    }

    #[test]
    fn up_convolutions_give_the_same(
        seed in any::<u64>(),
        (depth, height, width) in (1usize..6, 1usize..7, 1usize..20),
        (outputs, inputs) in (prop_oneof![Just(48usize), 1usize..40], channels()),
        left in 0usize..2,
    ) {
        let size = [depth, height, width];
        let planes = depth - left.min(depth - 1);
        let shape = UpsampleShape { batch: 1, input: size, input_channels: inputs, output_channels: outputs };
        let volume = Volume::new(seed, 1, size, inputs, 1).expect("random values");
        let weight: Vec<f32> = random(&[8 * outputs * inputs], seed ^ 1, DType::F32)
            .and_then(|weight| weight.to_vec1())
            .expect("random values");
        for isa in sets() {
            let weights = UpsampleWeights::new(isa, outputs, inputs, &weight).expect("weights");
            let forward = |halo: bool, output: &mut [f32]| {
                weights
                    .forward_stored(&shape, planes, &volume.stored(halo), None, Activation::Relu, output)
                    .expect("all fits");
            };
            let mut dense = vec![f32::NAN; 8 * planes * height * width * outputs];
            forward(false, &mut dense);
            let mut found = marked(2 * planes, [2 * height, 2 * width], outputs);
            forward(true, &mut found);
            prop_assert!(found == with_marks(&dense, [2 * height, 2 * width], outputs), "{isa:?}");
        }
    }

    #[test]
    fn pooling_gives_the_same(
        seed in any::<u64>(),
        batch in 1usize..3,
        (depth, height, width) in (1usize..4, 1usize..5, 1usize..12),
        channels in 1usize..40,
    ) {
        let output = [depth, height, width];
        let volume = Volume::new(seed, batch, output.map(|side| 2 * side), channels, 0).expect("random values");
        let shape = PoolShape { batch, output, channels };
        let mut dense = vec![bf16::NAN; shape.output_len()];
        max_pool2_forward(&shape, &volume.dense, &mut dense).expect("all fits");
        let mut found = rounded(&marked(batch * depth, [height, width], channels));
        let length = batch * 2 * depth * (2 * height + 1) * (2 * width + 1) * channels;
        let input = &volume.storage[volume.start..][..length];
        max_pool2_forward_stored(&shape, input, &mut found, true).expect("all fits");
        let dense: Vec<f32> = dense.iter().map(|value| value.to_f32()).collect();
        prop_assert_eq!(found, rounded(&with_marks(&dense, [height, width], channels)));
    }
}

/// A random volume in bf16, channels-last, without and with a halo.
fn both(shape: [usize; 5], seed: u64) -> Result<[Tensor; 2]> {
    let [batch, channels, depth, height, width] = shape;
    let values = random(&[batch, depth, height, width, channels], seed, DType::BF16)?;
    let haloed = haloed_zeros(shape)?;
    let zeros = |shape: [usize; 5]| Tensor::zeros(&shape[..], DType::BF16, &Device::Cpu);
    let padded = Tensor::cat(&[&values, &zeros([batch, depth, height, 1, channels])?], 3)?;
    let padded = Tensor::cat(&[&padded, &zeros([batch, depth, 1, width + 1, channels])?], 2)?;
    haloed.permute((0, 2, 3, 4, 1))?.slice_set(&padded, 0, 0)?;
    Ok([values.permute((0, 4, 1, 2, 3))?, haloed])
}

fn inside(haloed: &Tensor) -> Result<Vec<Vec<f32>>> {
    let (.., height, width) = haloed.dims5()?;
    let inside = haloed.i((.., .., .., ..height - 1, ..width - 1))?;
    flat(&inside)
}

fn flat(tensor: &Tensor) -> Result<Vec<Vec<f32>>> {
    tensor.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2()
}

#[test]
fn layers_of_a_network_give_the_same_with_halos() -> Result<()> {
    let [dense, haloed] = both([1, 32, 6, 12, 20], 1)?;
    let weight = random(&[48, 32, 3, 3, 3], 2, DType::F32)?;
    let layer = || PrepackedConv3d::new(&weight, None, &[32], Activation::Relu, DType::BF16);
    // The first planes are padded, the last are not: both ways of reading are used.
    let padding = Padding::Explicit([[1, 0], [1, 1], [1, 1]]);
    let expected = channels_last_zeros([1, 48, 5, 12, 20], DType::BF16, &Device::Cpu)?;
    layer()?.write(&[&dense], &padding, &expected)?;
    let found = haloed_zeros([1, 48, 5, 12, 20])?;
    layer()?
        .with_halos(Halos::BOTH)?
        .write(&[&haloed], &padding, &found)?;
    assert_eq!(inside(&found)?, flat(&expected)?);

    let weight = random(&[16, 48, 2, 2, 2], 3, DType::F32)?;
    let layer = || PrepackedUpsample::new(&weight, None, Activation::Relu, DType::BF16);
    let up_expected = channels_last_zeros([1, 16, 8, 24, 40], DType::BF16, &Device::Cpu)?;
    layer()?.write(&expected, &up_expected)?;
    let up_found = haloed_zeros([1, 16, 8, 24, 40])?;
    layer()?.with_halo()?.write(&found, &up_found)?;
    assert_eq!(inside(&up_found)?, flat(&up_expected)?);

    let pooled_expected = channels_last_zeros([1, 16, 4, 12, 20], DType::BF16, &Device::Cpu)?;
    max_pool2_into(&up_expected, &pooled_expected)?;
    let pooled_found = haloed_zeros([1, 16, 4, 12, 20])?;
    max_pool2_with_halos(&up_found, &pooled_found)?;
    assert_eq!(inside(&pooled_found)?, flat(&pooled_expected)?);
    Ok(())
}

#[test]
fn what_has_no_halo_is_refused() -> Result<()> {
    let weight = random(&[4, 4, 3, 3, 3], 1, DType::F32)?;
    let in_f32 = PrepackedConv3d::new(&weight, None, &[4], Activation::Identity, DType::F32)?;
    let error = in_f32.with_halos(Halos::BOTH).expect_err("f32");
    assert!(error.to_string().contains("halo"), "{error}");
    let layer = PrepackedConv3d::new(&weight, None, &[4], Activation::Identity, DType::BF16)?;
    let layer = layer.with_halos(Halos::BOTH)?;
    let [dense, haloed] = both([1, 4, 4, 6, 8], 2)?;
    let place = channels_last_zeros([1, 4, 4, 6, 8], DType::BF16, &Device::Cpu)?;
    assert!(layer.write(&[&haloed], &Padding::Same, &place).is_err());
    let place = haloed_zeros([1, 4, 4, 6, 8])?;
    assert!(layer.write(&[&dense], &Padding::Same, &place).is_err());
    layer.write(&[&haloed], &Padding::Same, &place)
}
