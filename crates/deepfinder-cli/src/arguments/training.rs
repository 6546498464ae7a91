use std::path::PathBuf;

use clap::{Args, ValueEnum};
use deepfinder_pipeline::{Head, TrainSettings};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RecipeArg {
    /// What learns fastest: Dice + cross-entropy, warm-up, cosine schedule, gradient clipping, residual kernels
    Default,
    /// The published schedule: Dice alone, learning rate 1e-4, batch 25 of 56³
    Paper,
}

#[derive(Args)]
pub(crate) struct TrainArgs {
    /// The project file, or its folder
    pub(crate) project: PathBuf,
    /// Folder of the run: weights, checkpoints, metrics and curves [default: the project's output/train]
    #[arg(long, short, value_name = "RUNDIR")]
    pub(crate) output: Option<PathBuf>,
    /// Go on with the run in that folder, bit by bit as if it had never stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// How to train
    #[arg(long)]
    pub(crate) recipe: Option<RecipeArg>,
    /// Number of epochs
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Iterations an epoch
    #[arg(long, value_name = "N")]
    pub(crate) steps_per_epoch: Option<usize>,
    /// Patches a batch
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Side of a patch in voxels, a multiple of 4
    #[arg(long, value_name = "P")]
    pub(crate) patch: Option<usize>,
    /// Learning rate
    #[arg(long, value_name = "RATE")]
    pub(crate) learning_rate: Option<f64>,
    /// How the learning rate goes on after the warm-up: constant or cosine
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) schedule: Option<String>,
    #[command(flatten)]
    pub(crate) ingredients: IngredientArgs,
    /// Seed of everything random
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Check project and data and say what would be done, without training
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Parts of a recipe that can be switched on and off one by one.
#[derive(Args)]
#[command(next_help_heading = "Ingredients of the recipe (0 leaves one out)")]
pub(crate) struct IngredientArgs {
    /// Weight of the cross-entropy beside the Dice loss
    #[arg(long, value_name = "WEIGHT")]
    cross_entropy: Option<f64>,
    /// Label smoothing of the cross-entropy, from 0 to below 1
    #[arg(long, value_name = "E")]
    label_smoothing: Option<f64>,
    /// Exponent of the focal Tversky loss; 1 is the Dice loss
    #[arg(long, value_name = "G")]
    focal: Option<f64>,
    /// Decay of a moving average of the weights, which is then what is validated and kept
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Learn kernels that are standardised and have residual branches; `--residual=false` leaves it out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    residual: Option<bool>,
    /// Where the network ends: full, or half, where 2³ voxels share their scores in less than half of the work (suits targets
    /// of points)
    #[arg(long, value_name = "LEVEL")]
    head: Option<Head>,
    /// Mix each patch with another; parameter of the beta distribution that the parts are drawn from
    #[arg(long, value_name = "ALPHA")]
    mixup: Option<f64>,
    /// Share of the patches that lie away from particles, from 0 to below 1
    #[arg(long, value_name = "SHARE")]
    negatives: Option<f64>,
    /// Change the contrast of patches by a factor of 1 ± up to this
    #[arg(long, value_name = "PART")]
    contrast: Option<f32>,
    /// Change the brightness of patches by up to ± this many standard deviations
    #[arg(long, value_name = "SIGMA")]
    brightness: Option<f32>,
    /// Add white noise of up to this many standard deviations to patches
    #[arg(long, value_name = "SIGMA")]
    noise: Option<f32>,
    /// Blur patches by up to this many voxels
    #[arg(long, value_name = "VOXELS")]
    blur: Option<f32>,
}

impl IngredientArgs {
    /// The settings that they are.
    pub(crate) fn settings(&self) -> TrainSettings {
        TrainSettings {
            cross_entropy: self.cross_entropy,
            label_smoothing: self.label_smoothing,
            focal: self.focal,
            ema: self.ema,
            residual: self.residual,
            head: self.head,
            mixup: self.mixup,
            negatives: self.negatives,
            contrast: self.contrast,
            brightness: self.brightness,
            noise: self.noise,
            blur: self.blur,
            ..TrainSettings::default()
        }
    }
}
