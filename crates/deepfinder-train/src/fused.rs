//! The loss as one operation on the CPU: soft-max, sums, value and gradient without any tensor between.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Storage, Tensor, WithDType, bail};
use num_traits::Float;
use rayon::prelude::*;

use crate::{LossParams, VoxelCounts};

/// Voxels that one task sums up. Fixed, so that the order of summation is.
const CHUNK: usize = 4096;

/// What the loss and its gradient are made of.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    /// Σpg of every class.
    pub(crate) overlap: Vec<f64>,
    /// Σp of every class.
    pub(crate) mass: Vec<f64>,
    /// Σ −log p of the true class, over the voxels of every class.
    pub(crate) surprise: Vec<f64>,
    /// Σ −log p of every class over all voxels; 0 where labels are not smoothed.
    pub(crate) doubt: Vec<f64>,
    /// Σg of every class is its `truth`.
    pub(crate) counts: VoxelCounts,
}

impl Sums {
    pub(crate) fn new(scores: usize) -> Self {
        let zeros = || vec![0.0; scores];
        Self {
            overlap: zeros(),
            mass: zeros(),
            surprise: zeros(),
            doubt: zeros(),
            counts: VoxelCounts::new(scores),
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.overlap, &other.overlap),
            (&mut self.mass, &other.mass),
            (&mut self.surprise, &other.surprise),
            (&mut self.doubt, &other.doubt),
        ];
        for (ours, theirs) in pairs {
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours += theirs;
            }
        }
        self.counts.add(&other.counts);
    }

    fn scores(&self) -> usize {
        self.mass.len()
    }

    /// Numerator and denominator of the Tversky index.
    fn tversky(&self, class: usize, params: &LossParams) -> (f64, f64) {
        let LossParams {
            alpha,
            beta,
            smoothing,
            ..
        } = *params;
        let (overlap, mass) = (self.overlap[class], self.mass[class]);
        let truth = self.counts.truth[class] as f64;
        let denominator = overlap + alpha * (mass - overlap) + beta * (truth - overlap) + smoothing;
        (overlap + smoothing, denominator)
    }

    /// Σ over the voxels of their class's weight.
    fn total_weight(&self, params: &LossParams) -> f64 {
        let truth = self.counts.truth.iter().enumerate();
        truth
            .map(|(class, voxels)| params.class_weight(class) * *voxels as f64)
            .sum()
    }

    pub(crate) fn loss(&self, params: &LossParams) -> f64 {
        let dice: f64 = (0..self.scores())
            .map(|class| match self.tversky(class, params) {
                // 0/0: no mass, no truth, no smoothing.
                (_, 0.0) => 1.0,
                (numerator, denominator) => focused(1.0 - numerator / denominator, params.focal),
            })
            .sum();
        let surprise: f64 = (0..self.scores())
            .map(|class| {
                let (sure, spread) = params.shares(self.scores());
                params.class_weight(class) * (sure * self.surprise[class] + spread * self.doubt[class])
            })
            .sum();
        let weight = self.total_weight(params);
        let cross_entropy = if weight > 0.0 { surprise / weight } else { 0.0 };
        params.dice_weight * dice + params.cross_entropy_weight * cross_entropy
    }

    /// The derivatives by p of every class: at all voxels, what is added at those of the class, and by log p there.
    pub(crate) fn slopes(&self, params: &LossParams) -> Vec<Slope> {
        let weight = self.total_weight(params);
        let (sure, spread) = params.shares(self.scores());
        (0..self.scores())
            .map(|class| {
                let (numerator, denominator) = self.tversky(class, params);
                let (everywhere, at_truth) = if denominator > 0.0 {
                    let steepness = numerator / denominator.powi(2);
                    let rest = 1.0 - params.alpha - params.beta;
                    let focus = focus(1.0 - numerator / denominator, params.focal);
                    (
                        -params.alpha * steepness * focus,
                        (1.0 / denominator - rest * steepness) * focus,
                    )
                } else {
                    (0.0, 0.0)
                };
                let log = if weight > 0.0 {
                    params.cross_entropy_weight * params.class_weight(class) / weight
                } else {
                    0.0
                };
                Slope {
                    everywhere: -params.dice_weight * everywhere,
                    at_truth: -params.dice_weight * at_truth,
                    surprise: sure * log,
                    doubt: spread * log,
                }
            })
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Slope {
    pub(crate) everywhere: f64,
    pub(crate) at_truth: f64,
    pub(crate) surprise: f64,
    /// By −log p of the class at every voxel.
    pub(crate) doubt: f64,
}

/// Where a class is as good as right, (1 − T)^γ with γ below 1 is infinitely steep.
const RIGHT: f64 = 1e-6;

/// (1 − T)^γ.
fn focused(missing: f64, focal: f64) -> f64 {
    missing.max(if focal < 1.0 { RIGHT } else { 0.0 }).powf(focal)
}

/// Its derivative by 1 − T.
fn focus(missing: f64, focal: f64) -> f64 {
    if focal < 1.0 && missing <= RIGHT {
        0.0
    } else {
        focal * missing.max(0.0).powf(focal - 1.0)
    }
}

/// The loss of logits against labels it holds.
#[derive(Debug)]
pub(crate) struct FusedLoss {
    labels: Vec<u8>,
    params: LossParams,
    sums: Arc<OnceLock<Sums>>,
}

impl FusedLoss {
    /// The labels must all be below the number of scores, and as many as voxels.
    pub(crate) fn new(labels: Vec<u8>, params: LossParams) -> Self {
        Self {
            labels,
            params,
            sums: Arc::default(),
        }
    }

    /// Where the forward pass leaves its sums.
    pub(crate) fn sums(&self) -> Arc<OnceLock<Sums>> {
        Arc::clone(&self.sums)
    }

    fn gather<T: WithDType + Float>(&self, logits: &[T], voxels: Voxels) -> Sums {
        let smoothed = self.params.label_smoothing > 0.0;
        let parts: Vec<Sums> = self
            .labels
            .par_chunks(CHUNK)
            .enumerate()
            .map(|(chunk, labels)| {
                let mut sums = Sums::new(voxels.scores);
                let mut p = vec![T::zero(); voxels.scores];
                for (i, &label) in labels.iter().enumerate() {
                    let class = usize::from(label);
                    let (highest, surprise) = softmax(logits, voxels, chunk * CHUNK + i, class, &mut p);
                    for (mass, p) in sums.mass.iter_mut().zip(&p) {
                        *mass += WithDType::to_f64(*p);
                    }
                    sums.overlap[class] += WithDType::to_f64(p[class]);
                    sums.surprise[class] += WithDType::to_f64(surprise);
                    if smoothed {
                        // −log p of each class from that of the true one: p itself may be 0.
                        let first = voxels.first_score(chunk * CHUNK + i);
                        let logit = |class| logits[first + class];
                        let log_sum = surprise + logit(class);
                        for (other, doubt) in sums.doubt.iter_mut().enumerate() {
                            *doubt += WithDType::to_f64(log_sum - logit(other));
                        }
                    }
                    sums.counts.truth[class] += 1;
                    sums.counts.predicted[highest] += 1;
                    sums.counts.agreed[class] += u64::from(highest == class);
                }
                sums
            })
            .collect();
        parts.iter().fold(Sums::new(voxels.scores), |mut all, part| {
            all.add(part);
            all
        })
    }

    /// The gradient by the logits, `[N, D, H, W, C]`.
    fn gradient<T: WithDType + Float>(
        &self,
        logits: &[T],
        voxels: Voxels,
        sums: &Sums,
        outer: f64,
    ) -> Vec<T> {
        let scores = voxels.scores;
        let slopes = sums.slopes(&self.params);
        let slope = |of: fn(&Slope) -> f64| -> Vec<T> {
            slopes
                .iter()
                .map(|slope| T::from_f64(outer * of(slope)))
                .collect()
        };
        let everywhere = slope(|slope| slope.everywhere);
        let at_truth = slope(|slope| slope.at_truth);
        let surprise = slope(|slope| slope.surprise);
        let doubt = slope(|slope| slope.doubt);
        let all_doubt = doubt.iter().fold(T::zero(), |sum, slope| sum + *slope);
        let mut gradient = vec![T::zero(); self.labels.len() * scores];
        gradient
            .par_chunks_mut(CHUNK * scores)
            .zip(self.labels.par_chunks(CHUNK))
            .enumerate()
            .for_each(|(chunk, (gradient, labels))| {
                for (i, (p, &label)) in gradient.chunks_exact_mut(scores).zip(labels).enumerate() {
                    let class = usize::from(label);
                    softmax(logits, voxels, chunk * CHUNK + i, class, p);
                    let mut mean = p[class] * at_truth[class];
                    for (p, slope) in p.iter().zip(&everywhere) {
                        mean += *p * *slope;
                    }
                    // Through the soft-max: ∂L/∂z = p·(∂L/∂p − Σ p·∂L/∂p); of −log p it is p − g.
                    let truth = p[class] * at_truth[class] - surprise[class];
                    let pull = surprise[class] + all_doubt;
                    for ((p, slope), doubt) in p.iter_mut().zip(&everywhere).zip(&doubt) {
                        *p = *p * (*slope - mean + pull) - *doubt;
                    }
                    p[class] += truth;
                }
            });
        gradient
    }

    fn backward<T: WithDType + Float>(&self, logits: &Tensor, outer: &Tensor) -> candle_core::Result<Tensor> {
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("the fused loss runs on the CPU alone");
        };
        let (slice, voxels) = (T::cpu_storage_as_slice(storage)?, Voxels::of(layout)?);
        let sums = self.sums.get_or_init(|| self.gather(slice, voxels));
        let outer = outer.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let gradient = self.gradient(slice, voxels, sums, outer);
        Tensor::from_vec(gradient, logits.shape(), logits.device())
    }

    fn forward<T: WithDType + Float>(
        &self,
        logits: &[T],
        layout: &Layout,
    ) -> candle_core::Result<CpuStorage> {
        let sums = self.gather(logits, Voxels::of(layout)?);
        let value = T::from_f64(sums.loss(&self.params));
        // A second forward pass of the same op would give the same sums.
        let _ = self.sums.set(sums);
        Ok(T::to_cpu_storage_owned(vec![value]))
    }
}

impl CustomOp1 for FusedLoss {
    fn name(&self) -> &'static str {
        "dice-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let value = match storage {
            CpuStorage::F32(logits) => self.forward(logits, layout)?,
            CpuStorage::F64(logits) => self.forward(logits, layout)?,
            _ => bail!("logits must be f32 or f64"),
        };
        Ok((value, Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, outer: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gradient = match logits.dtype() {
            DType::F32 => self.backward::<f32>(logits, outer)?,
            DType::F64 => self.backward::<f64>(logits, outer)?,
            other => bail!("logits must be f32 or f64, not {other:?}"),
        };
        Ok(Some(gradient))
    }
}

/// Where the scores of the voxels of contiguous `[N, D, H, W, C]` logits are.
#[derive(Debug, Clone, Copy)]
struct Voxels {
    scores: usize,
    start: usize,
}

impl Voxels {
    fn of(layout: &Layout) -> candle_core::Result<Self> {
        match (layout.dims(), layout.contiguous_offsets()) {
            (&[.., scores], Some((start, _))) => Ok(Self { scores, start }),
            _ => bail!("logits must be contiguous, not {layout:?}"),
        }
    }

    fn first_score(self, voxel: usize) -> usize {
        self.start + voxel * self.scores
    }
}

/// The probabilities at a voxel into `p`; gives the class of the highest (the lowest such) and −log p of the true one.
fn softmax<T: Float>(logits: &[T], voxels: Voxels, voxel: usize, class: usize, p: &mut [T]) -> (usize, T) {
    let first = voxels.first_score(voxel);
    p.copy_from_slice(&logits[first..first + voxels.scores]);
    let mut highest = 0;
    for (i, logit) in p.iter().enumerate() {
        if *logit > p[highest] {
            highest = i;
        }
    }
    let (top, of_class) = (p[highest], p[class]);
    let mut sum = T::zero();
    for p in p.iter_mut() {
        *p = (*p - top).exp();
        sum = sum + *p;
    }
    let scale = sum.recip();
    for p in p.iter_mut() {
        *p = *p * scale;
    }
    (highest, sum.ln() + top - of_class)
}
