use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::fused::{FusedLoss, Sums};
use crate::params::wrong;
use crate::{Result, VoxelCounts, plain};

/// What is minimised: a weighted sum of the Dice (Tversky) loss and the cross-entropy.
///
/// With probabilities p and the one-hot target g, summed over the batch and its voxels, the Tversky index of class c is
/// T = (Σpg + s) / (Σpg + α·Σp(1−g) + β·Σ(1−p)g + s), and the Dice loss the sum of 1 − T over all classes, background
/// included (paper, Methods: loss).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossParams {
    /// Weight of the Dice loss, 0 to leave it out. Default 1.
    pub dice_weight: f64,
    /// Weight of the cross-entropy (its mean over the voxels), 0 to leave it out. Default 1.
    pub cross_entropy_weight: f64,
    /// α, what a voxel found wrongly costs. Default 0.5 (Dice).
    pub alpha: f64,
    /// β, what a voxel missed costs. Default 0.5 (Dice).
    pub beta: f64,
    /// s, in voxels. Default 1. With 0 a class that the batch lacks adds a constant 1 and teaches nothing.
    pub smoothing: f64,
    /// Weights of the classes in the cross-entropy, background first; the mean is then the weighted one. Default: all
    /// the same.
    pub class_weights: Option<Vec<f64>>,
}

impl Default for LossParams {
    fn default() -> Self {
        Self {
            dice_weight: 1.0,
            cross_entropy_weight: 1.0,
            alpha: 0.5,
            beta: 0.5,
            smoothing: 1.0,
            class_weights: None,
        }
    }
}

/// The loss of a batch, and what else was learnt on the way.
#[derive(Debug, Clone)]
pub struct Loss {
    /// The loss as a scalar to go [`backward`](Tensor::backward) from, of the type of the logits.
    pub tensor: Tensor,
    /// The loss, not rounded to that type.
    pub value: f64,
    /// How the highest scores agree with the target.
    pub counts: VoxelCounts,
}

impl LossParams {
    /// The paper's loss: Dice alone, without smoothing.
    pub fn dice() -> Self {
        Self {
            cross_entropy_weight: 0.0,
            smoothing: 0.0,
            ..Self::default()
        }
    }

    /// # Errors
    /// [`TrainError::Parameter`](crate::TrainError::Parameter) where a weight is negative or all are 0.
    pub fn check(&self) -> Result<()> {
        let numbers = [
            ("loss.dice_weight", self.dice_weight),
            ("loss.cross_entropy_weight", self.cross_entropy_weight),
            ("loss.alpha", self.alpha),
            ("loss.beta", self.beta),
            ("loss.smoothing", self.smoothing),
        ];
        let class_weights = self.class_weights.iter().flatten();
        for (name, found) in numbers
            .into_iter()
            .chain(class_weights.map(|weight| ("loss.class_weights", *weight)))
        {
            if !(found.is_finite() && found >= 0.0) {
                return Err(wrong(
                    name,
                    format!("must be 0 or a positive number, found {found}"),
                ));
            }
        }
        if self.dice_weight + self.cross_entropy_weight == 0.0 {
            return Err(wrong(
                "loss",
                "the weights of both parts are 0: nothing is left to minimise".to_owned(),
            ));
        }
        Ok(())
    }

    /// That there is a weight for every class.
    pub(crate) fn check_classes(&self, scores: usize) -> Result<()> {
        match &self.class_weights {
            Some(weights) if weights.len() != scores => Err(wrong(
                "loss.class_weights",
                format!(
                    "must be {scores} numbers, one for background and one for each class; found {}",
                    weights.len()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The weight of a class in the cross-entropy.
    pub(crate) fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class])
    }
}

/// The loss of logits `[N, C, D, H, W]` (f32 or f64; on a GPU f32 or bf16) against a target `[N, D, H, W]` of class labels (u8).
///
/// On the CPU this is one fused operation with an analytic gradient; channels-last memory is the fast layout. The result
/// does not depend on the number of threads.
///
/// # Errors
/// Where the shapes or types do not fit or a label has no score.
pub fn loss(logits: &Tensor, target: &Tensor, params: &LossParams) -> Result<Loss> {
    params.check()?;
    let (n, scores, d, h, w) = logits.dims5()?;
    params.check_classes(scores)?;
    if target.dims() != [n, d, h, w] || target.dtype() != DType::U8 {
        let (expected, found) = ([n, d, h, w], (target.dtype(), target.dims()));
        return Err(wrong(
            "target",
            format!("must be u8 of shape {expected:?}, found {found:?}"),
        ));
    }
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        return crate::gpu_loss::loss(logits, target, params);
    }
    let labels = target.flatten_all()?.to_vec1::<u8>()?;
    if let Some(label) = labels.iter().find(|label| usize::from(**label) >= scores) {
        return Err(wrong(
            "target",
            format!("label {label} has none of the {scores} scores"),
        ));
    }
    if !matches!(logits.device(), Device::Cpu) {
        return plain::loss(logits, &labels, params);
    }
    let op = FusedLoss::new(labels, params.clone());
    let sums = op.sums();
    // On the tensor that the logits are a view of: candle would add up gradients on the view too.
    let tensor = candle_conv3d::to_channels_last(logits)?.apply_op1(op)?;
    let sums = sums.get().cloned().unwrap_or_else(|| Sums::new(scores));
    Ok(Loss {
        tensor,
        value: sums.loss(params),
        counts: sums.counts,
    })
}
