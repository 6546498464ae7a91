#![allow(missing_docs, clippy::all, clippy::pedantic)]
use candle_conv3d::*;
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let v: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}
fn cl(t: &Tensor) -> Tensor {
    t.permute((0, 2, 3, 4, 1))
        .unwrap()
        .force_contiguous()
        .unwrap()
        .permute((0, 4, 1, 2, 3))
        .unwrap()
}
fn differs(
    whole: &Tensor,
    part: &Tensor,
    axis: usize,
    w0: usize,
    scale: (usize, usize),
    margin: usize,
) -> usize {
    // whole and part outputs; part begins at w0 of the input
    let off = w0 * scale.0 / scale.1;
    let len = part.dim(axis).unwrap();
    let m0 = if w0 == 0 { 0 } else { margin };
    let n = len - m0 - margin;
    let a = whole.narrow(axis, off + m0, n).unwrap().flatten_all().unwrap();
    let b = part.narrow(axis, m0, n).unwrap().flatten_all().unwrap();
    let (a, b) = (a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
    a.iter()
        .zip(&b)
        .filter(|(a, b)| a.to_bits() != b.to_bits())
        .count()
}
#[test]
fn scratch() {
    for axis in 2..5 {
        for (i, o, k) in [
            (1, 32, 3),
            (32, 32, 3),
            (32, 48, 3),
            (48, 48, 3),
            (48, 64, 3),
            (64, 64, 3),
            (32, 3, 1),
            (32, 13, 1),
        ] {
            let mut s = vec![1, i, 6, 6, 6];
            s[axis] = 92;
            let x = cl(&noise(1, &s));
            let w = noise(2, &[o, i, k, k, k]);
            let b = noise(3, &[o]);
            let c = Conv3dConfig::default();
            let whole = conv3d(&x, &w, Some(&b), &c).unwrap();
            let mut bad = Vec::new();
            for w0 in [0, 4, 8, 20, 32, 48] {
                for n in [12, 16, 20, 24, 36, 40, 44] {
                    let part = conv3d(&cl(&x.narrow(axis, w0, n).unwrap()), &w, Some(&b), &c).unwrap();
                    let d = differs(&whole, &part, axis, w0, (1, 1), 1);
                    if d > 0 {
                        bad.push((w0, n, d));
                    }
                }
            }
            println!("axis {axis} conv {i}->{o} k{k}: {bad:?}");
        }
        for (i, o) in [(64, 64), (48, 48)] {
            let mut s = vec![1, i, 6, 6, 6];
            s[axis] = 46;
            let x = cl(&noise(1, &s));
            let w = noise(2, &[o, i, 2, 2, 2]);
            let b = noise(3, &[o]);
            let whole = upsample2_conv2(&x, &w, Some(&b), Activation::Relu).unwrap();
            let mut bad = Vec::new();
            for w0 in [0, 4, 8, 20] {
                for n in [6, 8, 10, 16, 20, 22] {
                    let part = upsample2_conv2(
                        &cl(&x.narrow(axis, w0, n).unwrap()),
                        &w,
                        Some(&b),
                        Activation::Relu,
                    )
                    .unwrap();
                    let d = differs(&whole, &part, axis, w0, (2, 1), 1);
                    if d > 0 {
                        bad.push((w0, n, d));
                    }
                }
            }
            println!("axis {axis} up {i}->{o}: {bad:?}");
        }
        for (i, j, o) in [(64, 48, 48), (48, 32, 32)] {
            let mut s = vec![1, i, 6, 6, 6];
            s[axis] = 92;
            let x = cl(&noise(1, &s));
            s[1] = j;
            let y = cl(&noise(5, &s));
            let w = noise(2, &[o, i + j, 3, 3, 3]);
            let b = noise(3, &[o]);
            let c = Conv3dConfig::default();
            let whole = conv3d_concat(&x, &y, &w, Some(&b), &c).unwrap();
            let mut bad = Vec::new();
            for w0 in [0, 4, 8, 20, 32, 48] {
                for n in [12, 16, 20, 24, 36, 40, 44] {
                    let part = conv3d_concat(
                        &cl(&x.narrow(axis, w0, n).unwrap()),
                        &cl(&y.narrow(axis, w0, n).unwrap()),
                        &w,
                        Some(&b),
                        &c,
                    )
                    .unwrap();
                    let d = differs(&whole, &part, axis, w0, (1, 1), 1);
                    if d > 0 {
                        bad.push((w0, n, d));
                    }
                }
            }
            println!("axis {axis} concat {i}+{j}->{o}: {bad:?}");
        }
        let mut s = vec![1, 3, 6, 6, 6];
        s[axis] = 92;
        let x = cl(&noise(1, &s));
        let whole = softmax_channels(&x).unwrap();
        let mut bad = Vec::new();
        for w0 in [0, 4, 8, 20, 32, 48] {
            for n in [12, 16, 20, 24, 36, 40, 43] {
                let view = x.narrow(axis, w0, n).unwrap();
                for part in [
                    softmax_channels(&view).unwrap(),
                    softmax_channels(&cl(&view)).unwrap(),
                ] {
                    let d = differs(&whole, &part, axis, w0, (1, 1), 0);
                    if d > 0 {
                        bad.push((w0, n, d));
                    }
                }
            }
        }
        println!("axis {axis} softmax: {bad:?}");
    }
}
