//! How a batch went: what to learn from it, and what to tell of it. The second is read when it is wanted, because a GPU must
//! not be waited for in every iteration.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use deepfinder_net::Trace;

use crate::batch::Examples;
use crate::exchange::{Alone, Exchange};
use crate::{LossParams, Result, VoxelCounts, cpu_loss};

/// The loss of a batch, for an iteration.
#[derive(Debug)]
pub(crate) struct Graded {
    /// By the logits of this worker's share of the batch.
    gradient: Tensor,
    /// The loss of the whole batch, f64 `[1]`, where the network is.
    pub(crate) loss: Tensor,
    /// Voxels of each class, called so, and both, f64 `[3 · C]`, likewise.
    counts: Tensor,
}

impl Graded {
    /// The loss against all targets of a batch that workers share: each brings the logits of its own patches.
    pub(crate) fn of(
        logits: &Tensor,
        examples: &Examples,
        params: &LossParams,
        exchange: &dyn Exchange,
    ) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if logits.device().is_cuda() {
            let (found, gradient) = crate::gpu_loss::graded(logits, &examples.targets, params, exchange)?;
            return Ok(Self {
                gradient,
                loss: found.value,
                counts: found.counts,
            });
        }
        let found = cpu_loss::find(logits, &examples.targets, params, exchange)?;
        let [loss, counts] = on_processor(found.value, &found.counts)?;
        Ok(Self {
            gradient: found.gradient(logits)?,
            loss,
            counts,
        })
    }

    /// Walks back through the network.
    pub(crate) fn backward(&self, trace: Trace) -> Result<GradStore> {
        Ok(trace.backward(&self.gradient)?)
    }

    /// What there is to tell, with the norm of the gradient, f64 `[1]`.
    pub(crate) fn row(&self, norm: &Tensor) -> [Tensor; 3] {
        [self.loss.clone(), norm.clone(), self.counts.clone()]
    }
}

fn on_processor(value: f64, counts: &VoxelCounts) -> Result<[Tensor; 2]> {
    let device = &Device::Cpu;
    Ok([
        Tensor::new(&[value], device)?,
        Tensor::new(counts.to_row(), device)?,
    ])
}

/// The same for a batch that nothing is learnt from.
pub(crate) fn measured(logits: &Tensor, examples: &Examples, params: &LossParams) -> Result<[Tensor; 3]> {
    #[cfg(feature = "cuda")]
    if let (true, [(labels, _)]) = (logits.device().is_cuda(), &examples.targets[..]) {
        let found = crate::gpu_loss::find(logits, labels, params)?;
        return Ok([found.value.clone(), found.value, found.counts]);
    }
    let found = cpu_loss::find(logits, &examples.targets, params, &Alone)?;
    let [loss, counts] = on_processor(found.value, &found.counts)?;
    Ok([loss.clone(), loss, counts])
}

/// What a batch came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) loss: f64,
    /// Global norm of the gradient before clipping.
    pub(crate) gradient_norm: f64,
    pub(crate) counts: VoxelCounts,
}

/// What batches came to, in their order, of rows as [`Graded::row`] gives them. On a GPU it is waited for, once for all.
pub(crate) fn read(rows: &[[Tensor; 3]], scores: usize) -> Result<Vec<Reading>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let pieces: Vec<&Tensor> = rows.iter().flatten().collect();
    let values = Tensor::cat(&pieces, 0)?.to_vec1::<f64>()?;
    let readings = values.chunks_exact(2 + 3 * scores).map(|row| Reading {
        loss: row[0],
        gradient_norm: row[1],
        counts: VoxelCounts::of_row(&row[2..], scores),
    });
    Ok(readings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss;

    #[test]
    fn readings_are_what_was_graded() {
        let device = &Device::Cpu;
        let logits = Tensor::randn(0f32, 1.0, (2, 3, 4, 4, 4), device).unwrap();
        let labels = |rest: usize| {
            let labels = (0..128).map(|i| u8::from(i % 5 == rest)).collect::<Vec<_>>();
            Tensor::from_vec(labels, (2, 4, 4, 4), device).unwrap()
        };
        let params = LossParams::default();
        let examples = |targets| Examples {
            input: logits.clone(),
            targets,
        };
        let one = examples(vec![(labels(0), 1.0)]);
        let two = examples(vec![(labels(0), 0.75), (labels(1), 0.25)]);
        let norm = Tensor::new(&[0.5f64], device).unwrap();
        let rows =
            [&one, &two].map(|examples| Graded::of(&logits, examples, &params, &Alone).unwrap().row(&norm));
        let found = read(&rows, 3).unwrap();
        let [first, second] = [0, 1].map(|rest| loss(&logits, &labels(rest), &params).unwrap());
        let expected = |loss| Reading {
            loss,
            gradient_norm: 0.5,
            counts: first.counts.clone(),
        };
        let both = first.value * 0.75 + second.value * 0.25;
        assert_eq!(found, [expected(first.value), expected(both)]);
        let unlearnt = read(&[measured(&logits, &two, &params).unwrap()], 3).unwrap();
        assert_eq!((unlearnt[0].loss, &unlearnt[0].counts), (both, &first.counts));
        assert!(read(&[], 3).unwrap().is_empty());
    }
}
