//! How fast a 3-D U-Net's layers run on this machine, forward and with gradients.
//!
//! `cargo run --release -p candle-conv3d --example throughput -- [side] [batch] [f32|bf16]` (56, 1 and f32 unless told;
//! the side a multiple of 8). Each figure is the best of several runs; the last column is the share of the processor's
//! peak on as many threads, measured beside it. `RAYON_NUM_THREADS` and `DEEPFINDER_ISA` apply.
#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::time::Instant;

use candle_conv3d::{
    Activation, Conv3dConfig, Padding, add_max_pool2_gradient, conv3d, conv3d_concat, conv3d_gradients,
    convert, cpu::Isa, max_pool2, softmax_channels, upsample2_conv2, upsample2_conv2_gradients,
};
use candle_core::{DType, Device, Result, Tensor};

const RELU: Conv3dConfig = Conv3dConfig {
    padding: Padding::Same,
    activation: Activation::Relu,
};
const LINEAR: Conv3dConfig = Conv3dConfig {
    padding: Padding::Same,
    activation: Activation::Identity,
};
const SCORES: usize = 13;
/// Runs of which the best counts.
const RUNS: usize = 5;

enum Kind {
    Convolution,
    Concatenation(usize),
    UpConvolution,
    Pool,
    SoftMax,
}

struct Layer {
    name: &'static str,
    kind: Kind,
    /// How much smaller than the volume its input is.
    scale: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
}

fn layers() -> Vec<Layer> {
    use Kind::{Concatenation, Convolution, Pool, SoftMax, UpConvolution};
    let layer = |name, kind, scale, inputs, outputs, kernel| Layer {
        name,
        kind,
        scale,
        inputs,
        outputs,
        kernel,
    };
    vec![
        layer("conv3 1->32", Convolution, 1, 1, 32, 3),
        layer("conv3 32->32", Convolution, 1, 32, 32, 3),
        layer("pool 32", Pool, 1, 32, 32, 0),
        layer("conv3 32->48", Convolution, 2, 32, 48, 3),
        layer("conv3 48->48", Convolution, 2, 48, 48, 3),
        layer("conv3 48->64", Convolution, 4, 48, 64, 3),
        layer("conv3 64->64", Convolution, 4, 64, 64, 3),
        layer("up2 64->64", UpConvolution, 4, 64, 64, 2),
        layer("conv3 64+48->48", Concatenation(48), 2, 64, 48, 3),
        layer("up2 48->48", UpConvolution, 2, 48, 48, 2),
        layer("conv3 48+32->32", Concatenation(32), 1, 48, 32, 3),
        layer("conv1 32->13", Convolution, 1, 32, SCORES, 1),
        layer("soft-max 13", SoftMax, 1, SCORES, SCORES, 0),
    ]
}

fn random(shape: &[usize], scale: f32) -> Result<Tensor> {
    Tensor::randn(0f32, scale, shape, &Device::Cpu)
}

/// Best time of a few runs, in seconds.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn time_layer(layer: &Layer, side: usize, batch: usize, dtype: DType) -> Result<()> {
    let size = side / layer.scale;
    let dtype = match layer.kind {
        Kind::SoftMax => DType::F32,
        _ => dtype,
    };
    // Channels-last, as between the layers of a network.
    let volume = |channels: usize| -> Result<Tensor> {
        let shape = [batch, size, size, size, channels];
        random(&shape, 1.0)?.to_dtype(dtype)?.permute((0, 4, 1, 2, 3))
    };
    let input = volume(layer.inputs)?;
    let extra = match layer.kind {
        Kind::Concatenation(channels) => channels,
        _ => 0,
    };
    let second = volume(extra.max(1))?;
    let k = layer.kernel.max(1);
    let weight = random(&[layer.outputs, layer.inputs + extra, k, k, k], 0.05)?;
    let bias = random(&[layer.outputs], 0.05)?;
    let forward = || match layer.kind {
        Kind::Convolution if layer.kernel == 1 => conv3d(&input, &weight, Some(&bias), &LINEAR),
        Kind::Convolution => conv3d(&input, &weight, Some(&bias), &RELU),
        Kind::Concatenation(_) => conv3d_concat(&input, &second, &weight, Some(&bias), &RELU),
        Kind::UpConvolution => upsample2_conv2(&input, &weight, Some(&bias), Activation::Relu),
        Kind::Pool => max_pool2(&input),
        Kind::SoftMax => softmax_channels(&input),
    };
    // Any gradient does, the result itself for one; the first layer's input needs none.
    let backward = |result: &Tensor| match layer.kind {
        Kind::Convolution => {
            conv3d_gradients(&[&input], &weight, result, Padding::Same, layer.inputs > 1).map(drop)
        }
        Kind::Concatenation(_) => {
            conv3d_gradients(&[&input, &second], &weight, result, Padding::Same, true).map(drop)
        }
        Kind::UpConvolution => upsample2_conv2_gradients(&input, &weight, result).map(drop),
        Kind::Pool => add_max_pool2_gradient(&input, result, result, input.copy()?).map(drop),
        Kind::SoftMax => Ok(()),
    };
    let inference = best(|| forward().map(drop))?;
    let training = best(|| backward(&forward()?))?;
    let products = match layer.kind {
        Kind::UpConvolution => 27,
        Kind::Pool | Kind::SoftMax => 0,
        _ => k * k * k,
    };
    let voxels = (batch * size * size * size) as f64;
    let operations = 2.0 * voxels * (products * (layer.inputs + extra) * layer.outputs) as f64;
    let with_gradients = if layer.inputs == 1 { 2.0 } else { 3.0 };
    let peak = peak(dtype);
    let report = |seconds: f64, operations: f64| {
        let rate = operations / seconds / 1e9;
        format!(
            "{:9.2} ms {:8.2} Mvoxel/s {rate:7.1} GFLOP/s {:4.0} %",
            seconds * 1e3,
            voxels / seconds / 1e6,
            100.0 * rate / peak
        )
    };
    println!(
        "{:16} {:15}{}",
        layer.name,
        "forward",
        report(inference, operations)
    );
    println!(
        "{:16} {:15}{}",
        "",
        "with gradients",
        report(training, with_gradients * operations)
    );
    Ok(())
}

/// GFLOP/s that products from registers reach on all threads together: fused multiply-adds of f32, or AMX's of bf16. NaN
/// where there are none.
fn peak(dtype: DType) -> f64 {
    let once = match dtype {
        DType::BF16 => matrix_products,
        _ => multiply_add,
    };
    (0..5)
        .map(|_| rayon::broadcast(|_| once()).into_iter().sum())
        .fold(f64::NAN, f64::max)
}

fn matrix_products() -> f64 {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if Isa::current().name() == "amx" {
        const REPEATS: usize = 100_000;
        /// Eight registers of 16 rows of 64 bytes, whatever is in them.
        #[repr(align(64))]
        struct Configuration([u8; 64]);
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1;
        for register in 0..8 {
            configuration.0[16 + 2 * register] = 64;
            configuration.0[48 + register] = 16;
        }
        let start = Instant::now();
        #[expect(unsafe_code, reason = "instructions that the machine is known to have")]
        // SAFETY: the machine has AMX and the system allows it, or `Isa` wouldn't name it; no memory is touched but the
        // configuration.
        unsafe {
            std::arch::asm!(
                "ldtilecfg [{configuration}]",
                "2:",
                "tdpbf16ps tmm0, tmm6, tmm7",
                "tdpbf16ps tmm1, tmm6, tmm7",
                "tdpbf16ps tmm2, tmm6, tmm7",
                "tdpbf16ps tmm3, tmm6, tmm7",
                "tdpbf16ps tmm4, tmm6, tmm7",
                "tdpbf16ps tmm5, tmm6, tmm7",
                "dec {repeats}",
                "jnz 2b",
                "tilerelease",
                configuration = in(reg) configuration.0.as_ptr(),
                repeats = inout(reg) REPEATS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
        let seconds = start.elapsed().as_secs_f64();
        return (REPEATS * 6 * 16 * 16 * 32 * 2) as f64 / seconds / 1e9;
    }
    f64::NAN
}

fn multiply_add() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        const REPEATS: usize = 200_000;
        #[target_feature(enable = "avx512f")]
        fn avx512() -> f64 {
            use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
            let mut sums = [_mm512_set1_ps(1.0); 16];
            let (a, b) = (_mm512_set1_ps(0.999), _mm512_set1_ps(std::hint::black_box(0.5)));
            let start = Instant::now();
            for _ in 0..REPEATS {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, a, b);
                }
            }
            let seconds = start.elapsed().as_secs_f64();
            std::hint::black_box(sums.map(|sum| _mm512_reduce_add_ps(sum)));
            (REPEATS * 16 * 32) as f64 / seconds / 1e9
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2() -> f64 {
            use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
            let mut sums = [_mm256_set1_ps(1.0); 12];
            let (a, b) = (_mm256_set1_ps(0.999), _mm256_set1_ps(std::hint::black_box(0.5)));
            let start = Instant::now();
            for _ in 0..REPEATS {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, a, b);
                }
            }
            let seconds = start.elapsed().as_secs_f64();
            std::hint::black_box(sums);
            (REPEATS * 12 * 16) as f64 / seconds / 1e9
        }
        #[expect(unsafe_code, reason = "instructions that the machine is known to have")]
        match Isa::current().name() {
            // SAFETY: the machine has the instruction set, or `Isa` wouldn't name it; here and below.
            "avx512" | "avx512bf16" | "amx" => return unsafe { avx512() },
            // SAFETY: as above.
            "avx2" => return unsafe { avx2() },
            _ => {}
        }
    }
    f64::NAN
}

/// A U-Net of these layers; `parameters` are weight and bias of each convolution in turn.
fn network(input: &Tensor, parameters: &[Tensor]) -> Result<Tensor> {
    let mut parameters = parameters.chunks_exact(2);
    let mut next = || {
        parameters
            .next()
            .map(|pair| (&pair[0], &pair[1]))
            .ok_or(candle_core::Error::msg("parameters"))
    };
    let mut layer =
        |input: &Tensor| next().and_then(|(weight, bias)| conv3d(input, weight, Some(bias), &RELU));
    let first = layer(input)?;
    let high = layer(&first)?;
    let half = layer(&max_pool2(&high)?)?;
    let mid = layer(&half)?;
    let mut low = max_pool2(&mid)?;
    for _ in 0..4 {
        low = layer(&low)?;
    }
    let (weight, bias) = next()?;
    let up = upsample2_conv2(&low, weight, Some(bias), Activation::Relu)?;
    let (weight, bias) = next()?;
    let joined = conv3d_concat(&up, &mid, weight, Some(bias), &RELU)?;
    let (weight, bias) = next()?;
    let joined = conv3d(&joined, weight, Some(bias), &RELU)?;
    let (weight, bias) = next()?;
    let up = upsample2_conv2(&joined, weight, Some(bias), Activation::Relu)?;
    let (weight, bias) = next()?;
    let joined = conv3d_concat(&up, &high, weight, Some(bias), &RELU)?;
    let (weight, bias) = next()?;
    let joined = conv3d(&joined, weight, Some(bias), &RELU)?;
    let (weight, bias) = next()?;
    convert(&conv3d(&joined, weight, Some(bias), &LINEAR)?, DType::F32)
}

fn time_network(side: usize, batch: usize, dtype: DType) -> Result<()> {
    let shapes = [
        (32, 1, 3),
        (32, 32, 3),
        (48, 32, 3),
        (48, 48, 3),
        (64, 48, 3),
        (64, 64, 3),
        (64, 64, 3),
        (64, 64, 3),
        (64, 64, 2),
        (48, 112, 3),
        (48, 48, 3),
        (48, 48, 2),
        (32, 80, 3),
        (32, 32, 3),
        (SCORES, 32, 1),
    ];
    let mut parameters = Vec::new();
    for (outputs, inputs, k) in shapes {
        parameters.push(random(&[outputs, inputs, k, k, k], 0.05)?);
        parameters.push(random(&[outputs], 0.05)?);
    }
    let input = random(&[batch, 1, side, side, side], 1.0)?.to_dtype(dtype)?;
    let voxels = (batch * side * side * side) as f64;
    let seconds = best(|| softmax_channels(&network(&input, &parameters)?).map(drop))?;
    // 193.6 thousand multiply-adds a voxel.
    let rate = voxels * 387.2e3 / seconds / 1e9;
    println!(
        "U-Net {:8.3} Mvoxel/s {rate:7.1} GFLOP/s {:4.0} %",
        voxels / seconds / 1e6,
        100.0 * rate / peak(dtype)
    );
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut sizes = arguments
        .iter()
        .filter_map(|argument| argument.parse::<usize>().ok());
    let side = sizes.next().map_or(56, |side| side.next_multiple_of(8));
    let batch = sizes.next().unwrap_or(1);
    let dtype = if arguments.iter().any(|argument| argument == "bf16") {
        DType::BF16
    } else {
        DType::F32
    };
    let (isa, threads) = (Isa::current(), rayon::current_num_threads());
    println!(
        "{batch} x {side}³ voxels, {dtype:?}, {isa:?}, {threads} threads, peak {:.0} GFLOP/s",
        peak(dtype)
    );
    for layer in layers() {
        time_layer(&layer, side, batch, dtype)?;
    }
    time_network(side, batch, dtype)
}
