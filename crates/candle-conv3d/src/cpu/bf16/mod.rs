//! Layers in bf16: volumes, and weights as they are used, are rounded to bf16 (8 bits of precision); sums, biases and the
//! weights that come in or whose gradients go out are f32.
//!
//! With matrix instructions (AMX) this is several times as fast as f32; elsewhere it is there to give the same results.

mod conv;
mod correlate;
mod gather;
mod panel;
mod upsample;
mod weights;

use half::bf16;
use rayon::prelude::*;

pub use conv::{ConvWeights, conv3d_input_gradient, conv3d_weight_gradient};
pub use panel::Stored;
pub use upsample::{UpsampleWeights, upsample2_conv2_input_gradient, upsample2_conv2_weight_gradient};

use crate::kernels::{Isa, products};

/// What sums are rounded to: bf16, or f32 where they are the last.
#[expect(private_bounds, reason = "sealed: nobody else implements it")]
pub trait Rounded: products::Rounded {}

impl Rounded for bf16 {}
impl Rounded for f32 {}

/// Values that one thread converts at a time.
const CHUNK: usize = 64 << 10;

/// The same values in f32.
fn widened(values: &[bf16]) -> Vec<f32> {
    values
        .par_iter()
        .with_min_len(CHUNK)
        .map(|value| value.to_f32())
        .collect()
}

/// Rounds values.
fn round<O: Rounded>(isa: Isa, values: &[f32], out: &mut [O]) {
    let chunks = values.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK));
    chunks.for_each(|(values, out)| O::round(isa, values, out));
}
