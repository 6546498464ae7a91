//! The loss on the processor, of the sums of all workers.

use candle_conv3d::to_channels_last;
use candle_core::Tensor;

use crate::exchange::Exchange;
use crate::fused::{FusedLoss, Sums};
use crate::loss::{check_target, labels_of};
use crate::params::wrong;
use crate::{LossParams, Result, VoxelCounts};

/// The weighted sum of the losses against several targets.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) value: f64,
    /// Those of the first target.
    pub(crate) counts: VoxelCounts,
    parts: Vec<(FusedLoss, Sums, f64)>,
}

/// The loss of the logits `[N, C, D, H, W]` of all workers against their labels `[N, D, H, W]`.
pub(crate) fn find(
    logits: &Tensor,
    targets: &[(Tensor, f64)],
    params: &LossParams,
    exchange: &dyn Exchange,
) -> Result<Found> {
    let scores = logits.dim(1)?;
    let logits = to_channels_last(logits)?;
    let mut parts = Vec::with_capacity(targets.len());
    let mut sums = Vec::with_capacity(targets.len());
    for (target, weight) in targets {
        check_target(&logits, target, params)?;
        let loss = FusedLoss::new(labels_of(target, scores)?, params.clone());
        sums.push(loss.sums_of(&logits)?.to_tensor()?);
        parts.push((loss, *weight));
    }
    let sums = exchange.sum(sums)?;
    let parts = parts.into_iter().zip(&sums).map(|((loss, weight), sums)| {
        let sums = Sums::of_tensor(sums)?;
        Ok((loss, sums, weight))
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let (_, first, _) = parts
        .first()
        .ok_or_else(|| wrong("batch", "has no target".to_owned()))?;
    Ok(Found {
        value: parts
            .iter()
            .map(|(_, sums, weight)| weight * sums.loss(params))
            .sum(),
        counts: first.counts.clone(),
        parts,
    })
}

impl Found {
    /// Its gradient by this worker's logits, of their shape.
    pub(crate) fn gradient(&self, logits: &Tensor) -> Result<Tensor> {
        let logits = to_channels_last(logits)?;
        let mut all: Option<Tensor> = None;
        for (loss, sums, weight) in &self.parts {
            let gradient = loss.gradient(&logits, sums, *weight)?;
            all = Some(match all {
                None => gradient,
                Some(all) => (all + gradient)?,
            });
        }
        let all = all.ok_or_else(|| wrong("batch", "has no target".to_owned()))?;
        Ok(all.permute((0, 4, 1, 2, 3))?)
    }
}
