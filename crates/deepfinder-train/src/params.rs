use deepfinder_net::{Parametrisation, Precision};
use serde::Serialize;

use crate::{AdamParams, LossParams, Result, TrainError};

/// A set of training parameters that goes by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recipe {
    /// Dice + cross-entropy, learning rate 1e-3 with warm-up, a cosine schedule and gradient clipping, standardised kernels
    /// with residual branches, batch 8 of 40³: leaves the all-background plateau at once.
    #[default]
    Default,
    /// The paper's: Dice alone, learning rate 1e-4, batch 25 of 56³, 100 epochs of 100 iterations (Moebel et
    /// al. 2021, Methods).
    Paper,
}

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to 0 at the end of the last epoch, along half a cosine.
    Cosine,
}

/// Random changes of a training patch that keep its meaning. Never a mirror image (that would change the
/// hand of the molecules) and never a free rotation (that would move the missing wedge).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Augmentation {
    /// With probability ½ turn the patch by 180° about the tilt axis y. Default: yes.
    pub half_turn: bool,
    /// The patch is multiplied by 1 ± up to this, uniformly. Default 0.
    pub contrast: f32,
    /// Up to ± this many standard deviations are added to the whole patch, uniformly. Default 0.
    pub brightness: f32,
    /// White noise of up to this standard deviation, in those of the patch, uniformly. Default 0.
    pub noise: f32,
    /// Gaussian blur of up to this standard deviation in voxels, uniformly. Default 0.
    pub blur: f32,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            half_turn: true,
            contrast: 0.0,
            brightness: 0.0,
            noise: 0.0,
            blur: 0.0,
        }
    }
}

/// Threads that read patches ahead of the training. They do not change what is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Number of threads. Default 1.
    pub workers: usize,
    /// Batches that each holds ready. Default 2.
    pub batches: usize,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self {
            workers: 1,
            batches: 2,
        }
    }
}

/// Everything that decides how training goes, besides the tomograms and the initial weights.
///
/// The same parameters, tomograms and weights give the same network bit for bit, whatever the number of
/// threads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainParams {
    /// Seed of the patches and their augmentation. Default 0.
    pub seed: u64,
    /// Epochs: validation and a checkpoint follow each. Default 20.
    pub epochs: usize,
    /// Iterations of an epoch. Default 100.
    pub steps_per_epoch: usize,
    /// Patches of an iteration. Default 8.
    pub batch: usize,
    /// Side of a patch in voxels, a multiple of 4. Default 40.
    pub patch: usize,
    /// Largest shift of a patch's centre off its particle in voxels, on each axis. Default 13.
    pub shift: usize,
    /// Draw the class first, uniformly, then a particle of it, so that rare classes are seen as often as
    /// others. Default: yes. Otherwise all particles are equally likely.
    pub bootstrap: bool,
    /// Share of the patches, in [0, 1), that are drawn away from particles: of some random places, one whose patch has no
    /// particle's centre in it, or the one that lies farthest from any. Default 0.
    pub negatives: f64,
    /// Random changes of the patches.
    pub augmentation: Augmentation,
    /// Mixup (Zhang et al. 2018): each patch of a batch is mixed with the next one, and so is the loss by their targets.
    /// The larger part is drawn from a beta distribution with both parameters equal to this; 0 leaves it out. Default 0.
    pub mixup: f64,
    /// What is minimised. Default: Dice + cross-entropy.
    pub loss: LossParams,
    /// Learning rate after the warm-up. Default 1e-3.
    pub learning_rate: f64,
    /// Iterations over which the learning rate rises linearly. Default 100.
    pub warm_up_steps: usize,
    /// What follows the warm-up.
    pub schedule: Schedule,
    /// Largest global norm of the gradient: a larger one is scaled down to it. Default 1.
    pub clip: Option<f64>,
    /// Decay rates and ε of the optimiser.
    pub adam: AdamParams,
    /// Decay rate of the moving average of the weights (Polyak), in (0, 1): where there is one, the average is what is
    /// validated and kept, and the weights themselves only learn. Default none.
    pub ema: Option<f64>,
    /// Patches of the fixed validation set, the same after every epoch. Default 64.
    pub validation_patches: usize,
    /// Stop after this many epochs in a row without a better validation score. Default: never.
    pub patience: Option<usize>,
    /// A line of metrics every so many iterations. Default 10.
    pub log_every_steps: usize,
    /// How the kernels are made of what is learnt: themselves, or standardised and residual. Default
    /// residual.
    #[serde(skip_serializing_if = "Parametrisation::is_plain")]
    pub parametrisation: Parametrisation,
    /// What the network computes with; its weights, their gradients and the loss are f32 in any case. Default f32. A run
    /// may be resumed with another.
    #[serde(skip)]
    pub precision: Precision,
    /// Reading ahead.
    #[serde(skip)]
    pub prefetch: Prefetch,
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 20,
            steps_per_epoch: 100,
            batch: 8,
            patch: 40,
            shift: 13,
            bootstrap: true,
            negatives: 0.0,
            augmentation: Augmentation::default(),
            mixup: 0.0,
            loss: LossParams::default(),
            learning_rate: 1e-3,
            warm_up_steps: 100,
            schedule: Schedule::Cosine,
            clip: Some(1.0),
            adam: AdamParams::default(),
            ema: None,
            validation_patches: 64,
            patience: None,
            log_every_steps: 10,
            parametrisation: Parametrisation::Residual,
            precision: Precision::default(),
            prefetch: Prefetch::default(),
        }
    }
}

impl TrainParams {
    /// The parameters of a recipe.
    pub fn recipe(recipe: Recipe) -> Self {
        match recipe {
            Recipe::Default => Self::default(),
            Recipe::Paper => Self {
                epochs: 100,
                batch: 25,
                patch: 56,
                loss: LossParams::dice(),
                learning_rate: 1e-4,
                warm_up_steps: 0,
                schedule: Schedule::Constant,
                clip: None,
                validation_patches: 250,
                parametrisation: Parametrisation::Plain,
                ..Self::default()
            },
        }
    }

    /// That a batch has patches for so many devices.
    ///
    /// # Errors
    /// [`TrainError::Parameter`] where it has fewer.
    pub fn check_devices(&self, devices: usize) -> Result<()> {
        if devices > self.batch {
            let what = format!(
                "has {} patches, and {devices} devices share it: it must have at least one for each, or train on fewer devices",
                self.batch
            );
            return Err(wrong("batch", what));
        }
        Ok(())
    }

    /// # Errors
    /// [`TrainError::Parameter`] that names the first field that makes no sense.
    pub fn check(&self) -> Result<()> {
        let at_least_one = [
            ("epochs", self.epochs),
            ("steps_per_epoch", self.steps_per_epoch),
            ("batch", self.batch),
            ("log_every_steps", self.log_every_steps),
            ("prefetch.workers", self.prefetch.workers),
            ("prefetch.batches", self.prefetch.batches),
        ];
        for (name, found) in at_least_one {
            if found == 0 {
                return Err(wrong(name, "must be at least 1, found 0".to_owned()));
            }
        }
        let multiple = deepfinder_net::SIDE_MULTIPLE;
        if self.patch == 0 || !self.patch.is_multiple_of(multiple) {
            let what = format!("must be a multiple of {multiple} voxels, found {}", self.patch);
            return Err(wrong("patch", what));
        }
        let positive = [
            ("learning_rate", self.learning_rate),
            ("clip", self.clip.unwrap_or(1.0)),
            ("adam.epsilon", self.adam.epsilon),
        ];
        for (name, found) in positive {
            if !(found.is_finite() && found > 0.0) {
                return Err(wrong(name, format!("must be a positive number, found {found}")));
            }
        }
        for (name, found) in [("adam.beta1", self.adam.beta1), ("adam.beta2", self.adam.beta2)] {
            if !(0.0..1.0).contains(&found) {
                return Err(wrong(name, format!("must lie in [0, 1), found {found}")));
            }
        }
        if !(0.0..1.0).contains(&self.negatives) {
            let what = format!("must lie in [0, 1), found {}", self.negatives);
            return Err(wrong("negatives", what));
        }
        if let Some(decay) = self.ema
            && !(decay > 0.0 && decay < 1.0)
        {
            return Err(wrong("ema", format!("must lie between 0 and 1, found {decay}")));
        }
        let jitter = [
            ("augmentation.contrast", f64::from(self.augmentation.contrast)),
            ("augmentation.brightness", f64::from(self.augmentation.brightness)),
            ("augmentation.noise", f64::from(self.augmentation.noise)),
            ("augmentation.blur", f64::from(self.augmentation.blur)),
            ("mixup", self.mixup),
        ];
        for (name, found) in jitter {
            if !(found.is_finite() && found >= 0.0) {
                return Err(wrong(
                    name,
                    format!("must be 0 or a positive number, found {found}"),
                ));
            }
        }
        self.loss.check()
    }

    /// Iterations of all epochs.
    pub(crate) fn total_steps(&self) -> u64 {
        self.epochs as u64 * self.steps_per_epoch as u64
    }

    /// Learning rate of the iteration that follows `step` others.
    pub(crate) fn learning_rate_at(&self, step: u64) -> f64 {
        let warm_up = self.warm_up_steps as u64;
        if step < warm_up {
            return self.learning_rate * (step + 1) as f64 / warm_up as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let rest = self.total_steps().saturating_sub(warm_up).max(1);
                let done = ((step - warm_up) as f64 / rest as f64).min(1.0);
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

pub(crate) fn wrong(name: &'static str, what: String) -> TrainError {
    TrainError::Parameter { name, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_make_sense() {
        for recipe in [Recipe::Default, Recipe::Paper] {
            TrainParams::recipe(recipe).check().unwrap();
        }
        let paper = TrainParams::recipe(Recipe::Paper);
        assert_eq!((paper.total_steps(), paper.clip), (10_000, None));
        assert_eq!(paper.learning_rate_at(0), 1e-4);
    }

    #[test]
    fn nonsense_is_named() {
        let check = |change: fn(&mut TrainParams), name: &str| {
            let mut params = TrainParams::default();
            change(&mut params);
            let message = params.check().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        };
        check(|p| p.patch = 42, "multiple of 4 voxels, found 42");
        check(|p| p.patch = 0, "`patch`");
        check(|p| p.batch = 0, "`batch`");
        check(|p| p.learning_rate = f64::NAN, "`learning_rate`");
        check(|p| p.clip = Some(0.0), "`clip`");
        check(|p| p.adam.beta2 = 1.0, "`adam.beta2`");
        check(|p| p.augmentation.noise = -1.0, "`augmentation.noise`");
        check(|p| p.mixup = f64::NAN, "`mixup`");
        check(|p| p.negatives = 1.0, "`negatives`");
        check(|p| p.ema = Some(1.0), "`ema`");
        check(|p| p.loss.label_smoothing = 1.0, "`loss.label_smoothing`");
        check(|p| p.loss.focal = 0.0, "`loss.focal`");
        check(|p| p.loss.dice_weight = -1.0, "`loss.dice_weight`");
    }

    #[test]
    fn the_learning_rate_rises_stays_or_falls() {
        let mut params = TrainParams {
            epochs: 3,
            schedule: Schedule::Constant,
            ..TrainParams::default()
        };
        assert_eq!(params.learning_rate_at(0), 1e-5);
        assert_eq!(params.learning_rate_at(99), 1e-3);
        assert_eq!(params.learning_rate_at(250), 1e-3);
        params.schedule = Schedule::Cosine;
        assert_eq!(params.learning_rate_at(100), 1e-3);
        assert!((params.learning_rate_at(200) - 5e-4).abs() < 1e-12);
        assert!(params.learning_rate_at(299) < 1e-6);
    }
}
