use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::fused::{FusedLoss, Sums};
use crate::params::wrong;
use crate::{Result, VoxelCounts, plain};

/// What is minimised: a weighted sum of the Dice (Tversky) loss and the cross-entropy.
///
/// With probabilities p and the one-hot target g, summed over the batch and its voxels, the Tversky index of class c is
/// T = (Σpg + s) / (Σpg + α·Σp(1−g) + β·Σ(1−p)g + s), and the Dice loss the sum of (1 − T)^γ over all classes, background
/// included (paper, Methods: loss; γ as in the focal Tversky loss of Abraham and Khan 2019).
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
    /// γ: below 1 it weighs classes that are nearly right more, above 1 those that are not. Default 1.
    pub focal: f64,
    /// Label smoothing ε of the cross-entropy, in [0, 1): the target is 1 − ε of the true class and ε of all classes alike.
    /// Default 0.
    pub label_smoothing: f64,
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
            focal: 1.0,
            label_smoothing: 0.0,
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
        if !(self.focal.is_finite() && self.focal > 0.0) {
            return Err(wrong(
                "loss.focal",
                format!("must be a positive number, found {}", self.focal),
            ));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(wrong(
                "loss.label_smoothing",
                format!("must lie in [0, 1), found {}", self.label_smoothing),
            ));
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

    /// What the true class, and what each class, has of the target of the cross-entropy.
    pub(crate) fn shares(&self, scores: usize) -> (f64, f64) {
        (1.0 - self.label_smoothing, self.label_smoothing / scores as f64)
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
    let scores = logits.dim(1)?;
    check_target(&logits.permute((0, 2, 3, 4, 1))?, target, params)?;
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        return crate::gpu_loss::loss(logits, target, params);
    }
    let labels = labels_of(target, scores)?;
    if !matches!(logits.device(), Device::Cpu) {
        // Sums of thousands of voxels: never in bf16.
        let precise = match logits.dtype() {
            DType::F64 => logits.clone(),
            _ => logits.to_dtype(DType::F32)?,
        };
        return plain::loss(&precise, &labels, params);
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

/// That a target fits logits `[N, D, H, W, C]`, and weights of classes too.
pub(crate) fn check_target(logits: &Tensor, target: &Tensor, params: &LossParams) -> Result<()> {
    let (n, d, h, w, scores) = logits.dims5()?;
    params.check_classes(scores)?;
    if target.dims() != [n, d, h, w] || target.dtype() != DType::U8 {
        let (expected, found) = ([n, d, h, w], (target.dtype(), target.dims()));
        return Err(wrong(
            "target",
            format!("must be u8 of shape {expected:?}, found {found:?}"),
        ));
    }
    Ok(())
}

/// The labels of a target on the processor, in C order, each of which has a score.
pub(crate) fn labels_of(target: &Tensor, scores: usize) -> Result<Vec<u8>> {
    let labels = target.flatten_all()?.to_vec1::<u8>()?;
    match labels.iter().find(|label| usize::from(**label) >= scores) {
        Some(label) => Err(wrong(
            "target",
            format!("label {label} has none of the {scores} scores"),
        )),
        None => Ok(labels),
    }
}
