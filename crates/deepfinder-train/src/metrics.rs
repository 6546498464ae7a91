use serde::{Deserialize, Serialize};

use crate::grading::Reading;
use crate::{ClassMetrics, VoxelCounts};

/// A line of `metrics.jsonl`; its `kind` is `step` or `epoch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MetricsLine {
    /// An iteration, of which every tenth or so is written.
    Step(StepMetrics),
    /// An epoch.
    Epoch(EpochMetrics),
}

/// One iteration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Iteration, from 1.
    pub step: u64,
    /// Loss of its batch, before the weights moved.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Epoch, from 1.
    pub epoch: u64,
    /// Iterations so far.
    pub step: u64,
    /// Wall-clock time of the epoch with its validation (since the last resumption). The one number here that two equal
    /// runs do not share.
    pub seconds: f64,
    /// On the patches learnt from, each seen before the weights moved by it.
    pub training: SplitMetrics,
    /// On the fixed validation patches; `None` without validation tomograms.
    pub validation: Option<SplitMetrics>,
    /// Whether this is the best epoch so far.
    pub best: bool,
}

impl EpochMetrics {
    /// By which epochs are compared: the validation, or the training where there is none.
    pub fn decisive(&self) -> &SplitMetrics {
        self.validation.as_ref().unwrap_or(&self.training)
    }
}

/// How good the network is on a set of patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// Mean loss of the batches.
    pub loss: f64,
    /// Part of the voxels whose class is right.
    pub accuracy: f64,
    /// Mean F1 (Dice) of the classes that occur, without background.
    pub mean_f1: f64,
    /// Every class but background.
    pub classes: Vec<ClassMetrics>,
}

/// Losses and voxels gathered batch by batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Running {
    #[serde(with = "exact")]
    loss: f64,
    batches: u64,
    counts: VoxelCounts,
}

impl Running {
    pub(crate) fn new(scores: usize) -> Self {
        Self {
            loss: 0.0,
            batches: 0,
            counts: VoxelCounts::new(scores),
        }
    }

    pub(crate) fn add(&mut self, reading: &Reading) {
        self.loss += reading.loss;
        self.batches += 1;
        self.counts.add(&reading.counts);
    }

    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.batches.max(1) as f64
    }

    pub(crate) fn metrics(&self) -> SplitMetrics {
        SplitMetrics {
            loss: self.mean_loss(),
            accuracy: self.counts.accuracy(),
            mean_f1: self.counts.mean_f1(),
            classes: self.counts.classes(),
        }
    }
}

/// The epoch that is kept as the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Epoch, from 1.
    pub epoch: u64,
    /// Its mean F1.
    #[serde(with = "exact")]
    pub mean_f1: f64,
    /// Its loss, which decides between equal F1 (0 on the first plateau, say).
    #[serde(with = "exact")]
    pub loss: f64,
}

impl Best {
    pub(crate) fn is_beaten_by(&self, found: &SplitMetrics) -> bool {
        found.mean_f1 > self.mean_f1 || (found.mean_f1 == self.mean_f1 && found.loss < self.loss)
    }
}

/// An f64 as its bits: JSON's decimal form may come back one bit off.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_flat_and_come_back() {
        let line = MetricsLine::Step(StepMetrics {
            step: 10,
            loss: 1.5,
            learning_rate: 1e-3,
            gradient_norm: 0.25,
        });
        let text = serde_json::to_string(&line).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"step","step":10,"loss":1.5"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<MetricsLine>(&text).unwrap(), line);
    }

    #[test]
    fn a_lower_loss_decides_between_equal_scores() {
        let split = |mean_f1, loss| SplitMetrics {
            loss,
            accuracy: 0.9,
            mean_f1,
            classes: vec![],
        };
        let best = Best {
            epoch: 1,
            mean_f1: 0.5,
            loss: 2.0,
        };
        assert!(best.is_beaten_by(&split(0.6, 3.0)) && best.is_beaten_by(&split(0.5, 1.9)));
        assert!(!best.is_beaten_by(&split(0.5, 2.0)) && !best.is_beaten_by(&split(0.4, 1.0)));
        assert!(!best.is_beaten_by(&split(f64::NAN, f64::NAN)));
    }

    #[test]
    fn running_sums_come_back_bit_for_bit() {
        let mut running = Running::new(2);
        running.loss = 0.1 + 0.2;
        let text = serde_json::to_string(&running).unwrap();
        assert_eq!(serde_json::from_str::<Running>(&text).unwrap(), running);
    }
}
