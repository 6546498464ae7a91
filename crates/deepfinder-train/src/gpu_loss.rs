//! The loss on a GPU: its sums and its gradient by kernels, everything between them in `f64` on the processor.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Shape, Tensor, bail};

use crate::fused::{Slope, Sums};
use crate::params::wrong;
use crate::{Loss, LossParams, Result, VoxelCounts};

/// The loss of logits `[N, C, D, H, W]` against labels `[N, D, H, W]`.
pub(crate) fn loss(logits: &Tensor, labels: &Tensor, params: &LossParams) -> Result<Loss> {
    let rows = candle_conv3d::class_sums(&logits.detach(), labels)?.to_vec2::<f64>()?;
    let [mass, overlap, surprise, truth, predicted, agreed] = &rows[..] else {
        return Err(wrong("loss", format!("{} rows of sums", rows.len())));
    };
    let counted = |row: &[f64]| row.iter().map(|count| *count as u64).collect();
    let sums = Sums {
        overlap: overlap.clone(),
        mass: mass.clone(),
        surprise: surprise.clone(),
        // Smoothed labels take the other way.
        doubt: vec![0.0; mass.len()],
        counts: VoxelCounts {
            truth: counted(truth),
            predicted: counted(predicted),
            agreed: counted(agreed),
        },
    };
    let scores = mass.len();
    if sums.counts.truth.iter().sum::<u64>() != labels.elem_count() as u64 {
        return Err(wrong(
            "target",
            format!("a label has none of the {scores} scores"),
        ));
    }
    let value = sums.loss(params);
    let slopes = sums.slopes(params);
    let row = |of: fn(&Slope) -> f64| slopes.iter().map(move |slope| of(slope) as f32);
    let slopes: Vec<f32> = row(|slope| slope.everywhere)
        .chain(row(|slope| slope.at_truth))
        .chain(row(|slope| slope.surprise))
        .collect();
    let op = KnownLoss {
        value,
        labels: labels.clone(),
        slopes: Tensor::from_vec(slopes, (3, scores), logits.device())?,
    };
    Ok(Loss {
        tensor: logits.apply_op1(op)?,
        value,
        counts: sums.counts,
    })
}

/// A value that is known, with a gradient by the logits.
struct KnownLoss {
    value: f64,
    labels: Tensor,
    slopes: Tensor,
}

impl CustomOp1 for KnownLoss {
    fn name(&self) -> &'static str {
        "dice-cross-entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        bail!("the processor has a fused loss of its own")
    }

    fn cuda_fwd(&self, logits: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let value = logits
            .device()
            .storage_from_cpu_storage(&CpuStorage::F32(vec![self.value as f32]))?;
        Ok((
            value.to_dtype(&Layout::contiguous(()), logits.dtype())?,
            ().into(),
        ))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, outer: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let outer = outer.to_dtype(DType::F32)?.broadcast_as(self.slopes.shape())?;
        let slopes = (&self.slopes * outer)?;
        candle_conv3d::class_gradient(logits, &self.labels, &slopes).map(Some)
    }
}
