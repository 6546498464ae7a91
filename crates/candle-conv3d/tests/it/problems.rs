//! Random tensors and comparisons.

use candle_core::{DType, Device, Result, Tensor};

/// Deterministic values of unit size, different for each seed.
pub(crate) fn random(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    let length = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f64> = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// The same values with the channels last in memory.
pub(crate) fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    tensor
        .permute((0, 2, 3, 4, 1))?
        .contiguous()?
        .permute((0, 4, 1, 2, 3))
}

/// Greatest difference, relative to the greatest expected value (or 1 where that is smaller).
pub(crate) fn difference(found: &Tensor, expected: &Tensor) -> Result<f64> {
    assert_eq!(found.dims(), expected.dims());
    assert_eq!(found.dtype(), expected.dtype());
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (found, expected) = (flat(found)?, flat(expected)?);
    assert!(found.iter().all(|value| value.is_finite()));
    let scale = expected
        .iter()
        .fold(1.0, |scale: f64, value| scale.max(value.abs()));
    Ok(found
        .iter()
        .zip(&expected)
        .fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()))
        / scale)
}

/// Whether values are within that of what is expected, relative to the greatest (or 1 where that is smaller).
pub(crate) fn close(found: &[f32], expected: &[f64], tolerance: f64) -> bool {
    let scale = expected
        .iter()
        .fold(1.0, |scale: f64, value| scale.max(value.abs()));
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(&a, &b)| (f64::from(a) - b).abs() <= tolerance * scale)
}
