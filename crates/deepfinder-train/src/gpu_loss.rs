//! The loss on a GPU, by kernels from the sums to the gradient: nobody waits for it but who asks for its value.

use candle_conv3d::{ClassLoss, FoundLoss, class_gradient, class_loss, class_sums};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Shape, Storage, Tensor, bail};

use crate::exchange::Exchange;
use crate::params::wrong;
use crate::{Loss, LossParams, Result, VoxelCounts};

/// What the loss of logits `[N, C, D, H, W]` against labels `[N, D, H, W]` is made of, f64 `[7, C]` on the GPU still.
fn sums(logits: &Tensor, labels: &Tensor, params: &LossParams) -> Result<Tensor> {
    Ok(class_sums(logits, labels, params.label_smoothing > 0.0)?)
}

/// The loss that has these sums.
fn of_sums(sums: &Tensor, params: &LossParams) -> Result<FoundLoss> {
    let kind = ClassLoss {
        dice_weight: params.dice_weight,
        cross_entropy_weight: params.cross_entropy_weight,
        alpha: params.alpha,
        beta: params.beta,
        smoothing: params.smoothing,
        focal: params.focal,
        label_smoothing: params.label_smoothing,
    };
    let weights = params
        .class_weights
        .as_ref()
        .map(|weights| Tensor::new(&weights[..], sums.device()))
        .transpose()?;
    Ok(class_loss(sums, weights.as_ref(), &kind)?)
}

/// The loss of logits against labels.
pub(crate) fn find(logits: &Tensor, labels: &Tensor, params: &LossParams) -> Result<FoundLoss> {
    of_sums(&sums(logits, labels, params)?, params)
}

/// The weighted sum of the losses of all workers' logits against several targets, and its gradient by those of this one.
/// The counts are those of the first target.
pub(crate) fn graded(
    logits: &Tensor,
    targets: &[(Tensor, f64)],
    params: &LossParams,
    exchange: &dyn Exchange,
) -> Result<(FoundLoss, Tensor)> {
    let own = targets
        .iter()
        .map(|(labels, _)| sums(logits, labels, params))
        .collect::<Result<Vec<_>>>()?;
    let mut sum: Option<(FoundLoss, Tensor)> = None;
    for ((labels, weight), sums) in targets.iter().zip(exchange.sum(own)?) {
        let mut found = of_sums(&sums, params)?;
        if weight.to_bits() != 1f64.to_bits() {
            found.value = (found.value * *weight)?;
            found.slopes = (found.slopes * *weight)?;
        }
        let gradient = class_gradient(logits, labels, &found.slopes)?;
        sum = Some(match sum {
            None => (found, gradient),
            Some((mut all, of_all)) => {
                all.value = (all.value + found.value)?;
                (all, (of_all + gradient)?)
            }
        });
    }
    sum.ok_or_else(|| wrong("batch", "has no target".to_owned()))
}

/// The loss, waited for.
pub(crate) fn loss(logits: &Tensor, labels: &Tensor, params: &LossParams) -> Result<Loss> {
    let found = find(logits, labels, params)?;
    let row = Tensor::cat(&[&found.value, &found.counts], 0)?.to_vec1::<f64>()?;
    let scores = logits.dim(1)?;
    let counts = VoxelCounts::of_row(row.get(1..).unwrap_or_default(), scores);
    if counts.truth.iter().sum::<u64>() != labels.elem_count() as u64 {
        return Err(wrong(
            "target",
            format!("a label has none of the {scores} scores"),
        ));
    }
    let op = KnownLoss {
        value: found.value,
        labels: labels.clone(),
        slopes: found.slopes,
    };
    Ok(Loss {
        tensor: logits.apply_op1(op)?,
        value: row[0],
        counts,
    })
}

/// A value that is known, with a gradient by the logits.
struct KnownLoss {
    value: Tensor,
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
        use candle_core::backend::BackendStorage;

        let (value, layout) = self.value.storage_and_layout();
        let Storage::Cuda(value) = &*value else {
            bail!("the loss left the GPU");
        };
        Ok((value.to_dtype(layout, logits.dtype())?, ().into()))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, outer: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let outer = outer.to_dtype(DType::F32)?.broadcast_as(self.slopes.shape())?;
        let slopes = (&self.slopes * outer)?;
        class_gradient(logits, &self.labels, &slopes).map(Some)
    }
}
