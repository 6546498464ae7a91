//! The loss as one operation on the CPU: soft-max, sums, value and gradient without any tensor between.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_conv3d::cpu::{Element, Isa, softmax_of_voxels};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

use crate::{LossParams, VoxelCounts};

/// Voxels that one task sums up. Fixed, so that the order of summation is.
const CHUNK: usize = 4096;

/// Sums of each class.
const ROWS: usize = 7;

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

    /// f64 `[7, C]`, in the order of the rows that a GPU gives.
    pub(crate) fn to_tensor(&self) -> candle_core::Result<Tensor> {
        let sums = [&self.mass, &self.overlap, &self.surprise];
        let mut values: Vec<f64> = sums.into_iter().flatten().copied().collect();
        values.extend(self.counts.to_row());
        values.extend(&self.doubt);
        Tensor::from_vec(values, (ROWS, self.scores()), &Device::Cpu)
    }

    /// From what [`to_tensor`](Self::to_tensor) gives.
    pub(crate) fn of_tensor(tensor: &Tensor) -> candle_core::Result<Self> {
        let scores = tensor.dim(1)?;
        let values = tensor.flatten_all()?.to_vec1::<f64>()?;
        let [mass, overlap, surprise, doubt] =
            [0, 1, 2, ROWS - 1].map(|row| values[row * scores..][..scores].to_vec());
        Ok(Self {
            overlap,
            mass,
            surprise,
            doubt,
            counts: VoxelCounts::of_row(&values[3 * scores..(ROWS - 1) * scores], scores),
        })
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
    /// Of the forward pass: the gradient is made in their place.
    probabilities: Mutex<Option<CpuStorage>>,
}

impl FusedLoss {
    /// The labels must all be below the number of scores, and as many as voxels.
    pub(crate) fn new(labels: Vec<u8>, params: LossParams) -> Self {
        Self {
            labels,
            params,
            sums: Arc::default(),
            probabilities: Mutex::default(),
        }
    }

    /// Where the forward pass leaves its sums.
    pub(crate) fn sums(&self) -> Arc<OnceLock<Sums>> {
        Arc::clone(&self.sums)
    }

    /// The probabilities of all scores at all voxels, and their sums.
    fn gather<T: WithDType + Element>(&self, logits: &[T], scores: usize) -> (Vec<T>, Sums) {
        let smoothed = self.params.label_smoothing > 0.0;
        let isa = Isa::current();
        let mut probabilities = vec![T::zero(); self.labels.len() * scores];
        let parts: Vec<Sums> = probabilities
            .par_chunks_mut((CHUNK * scores).max(1))
            .zip(logits.par_chunks((CHUNK * scores).max(1)))
            .zip(self.labels.par_chunks(CHUNK))
            .map(|((probabilities, logits), labels)| {
                softmax_of_voxels(isa, scores, logits, probabilities);
                let mut sums = Sums::new(scores);
                let voxels = probabilities
                    .chunks_exact(scores)
                    .zip(logits.chunks_exact(scores));
                for ((p, logits), &label) in voxels.zip(labels) {
                    let class = usize::from(label);
                    let highest = highest(logits);
                    // −log p; that of the highest score is never 0.
                    let log_highest = p[highest].ln();
                    let surprise = |logit: T| WithDType::to_f64(logits[highest] - logit - log_highest);
                    for (mass, p) in sums.mass.iter_mut().zip(p) {
                        *mass += WithDType::to_f64(*p);
                    }
                    sums.overlap[class] += WithDType::to_f64(p[class]);
                    sums.surprise[class] += surprise(logits[class]);
                    if smoothed {
                        for (doubt, logit) in sums.doubt.iter_mut().zip(logits) {
                            *doubt += surprise(*logit);
                        }
                    }
                    sums.counts.truth[class] += 1;
                    sums.counts.predicted[highest] += 1;
                    sums.counts.agreed[class] += u64::from(highest == class);
                }
                sums
            })
            .collect();
        let sums = parts.iter().fold(Sums::new(scores), |mut all, part| {
            all.add(part);
            all
        });
        (probabilities, sums)
    }

    /// Makes of probabilities, `[N, D, H, W, C]`, the gradient by the logits.
    fn differentiate<T: WithDType + Element>(&self, probabilities: &mut [T], sums: &Sums, outer: f64) {
        let scores = sums.scores();
        let slopes = sums.slopes(&self.params);
        let slope = |of: fn(&Slope) -> f64| -> Vec<T> {
            slopes
                .iter()
                .map(|slope| <T as WithDType>::from_f64(outer * of(slope)))
                .collect()
        };
        let everywhere = slope(|slope| slope.everywhere);
        let at_truth = slope(|slope| slope.at_truth);
        let surprise = slope(|slope| slope.surprise);
        let doubt = slope(|slope| slope.doubt);
        let all_doubt = doubt.iter().fold(T::zero(), |sum, slope| sum + *slope);
        probabilities
            .par_chunks_mut((CHUNK * scores).max(1))
            .zip(self.labels.par_chunks(CHUNK))
            .for_each(|(probabilities, labels)| {
                for (p, &label) in probabilities.chunks_exact_mut(scores).zip(labels) {
                    let class = usize::from(label);
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
    }

    /// The sums over logits `[N, D, H, W, C]`, f32 or f64. Their probabilities are kept for the gradient.
    pub(crate) fn sums_of(&self, logits: &Tensor) -> candle_core::Result<Sums> {
        let (storage, layout) = logits.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("the fused loss runs on the CPU alone");
        };
        let sums = match storage {
            CpuStorage::F32(_) => self.keep::<f32>(storage, layout)?,
            CpuStorage::F64(_) => self.keep::<f64>(storage, layout)?,
            _ => bail!("logits must be f32 or f64"),
        };
        Ok(sums)
    }

    fn keep<T: WithDType + Element>(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<Sums> {
        let (logits, scores) = contiguous::<T>(storage, layout)?;
        let (probabilities, sums) = self.gather(logits, scores);
        let mut kept = self.probabilities.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(T::to_cpu_storage_owned(probabilities));
        Ok(sums)
    }

    /// The gradient by the logits of the loss that has these sums, times `outer`; of the shape of the logits that
    /// [`sums_of`](Self::sums_of) was given.
    pub(crate) fn gradient(&self, logits: &Tensor, sums: &Sums, outer: f64) -> candle_core::Result<Tensor> {
        let take = || {
            let mut kept = self.probabilities.lock().unwrap_or_else(PoisonError::into_inner);
            kept.take()
        };
        let kept = match take() {
            Some(kept) => Some(kept),
            // A second walk back: the first has used them.
            None => self.sums_of(logits).map(|_| take())?,
        };
        match kept {
            Some(CpuStorage::F32(mut values)) => {
                self.differentiate(&mut values, sums, outer);
                Tensor::from_vec(values, logits.shape(), logits.device())
            }
            Some(CpuStorage::F64(mut values)) => {
                self.differentiate(&mut values, sums, outer);
                Tensor::from_vec(values, logits.shape(), logits.device())
            }
            _ => bail!("the fused loss goes forward before it goes back"),
        }
    }

    fn forward<T: WithDType + Element>(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<CpuStorage> {
        let sums = self.keep::<T>(storage, layout)?;
        let value = <T as WithDType>::from_f64(sums.loss(&self.params));
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
            CpuStorage::F32(_) => self.forward::<f32>(storage, layout)?,
            CpuStorage::F64(_) => self.forward::<f64>(storage, layout)?,
            _ => bail!("logits must be f32 or f64"),
        };
        Ok((value, Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, outer: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let Some(sums) = self.sums.get() else {
            bail!("the fused loss goes forward before it goes back");
        };
        let outer = outer.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        self.gradient(logits, sums, outer).map(Some)
    }
}

/// Logits `[N, D, H, W, C]`, which must be contiguous, and C.
fn contiguous<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
) -> candle_core::Result<(&'a [T], usize)> {
    match (layout.dims(), layout.contiguous_offsets()) {
        (&[.., scores], Some((start, end))) => Ok((&T::cpu_storage_as_slice(storage)?[start..end], scores)),
        _ => bail!("logits must be contiguous, not {layout:?}"),
    }
}

/// The class of the highest score; of equal ones, the lowest.
fn highest<T: PartialOrd>(logits: &[T]) -> usize {
    let mut highest = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[highest] {
            highest = class;
        }
    }
    highest
}
