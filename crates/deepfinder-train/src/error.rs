use std::path::PathBuf;

use deepfinder_core::CoreError;

/// The result of training.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// What can stop a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A parameter that makes no sense.
    #[error("training parameter `{name}`: {what}")]
    Parameter {
        /// The field of `TrainParams`.
        name: &'static str,
        /// What was expected, and what was found.
        what: String,
    },
    /// There is nothing to draw patches around.
    #[error(
        "none of the {purpose} tomograms ({tomograms}) has an annotated particle: patches are drawn around particles, so add a particle list"
    )]
    NoParticles {
        /// `training` or `validation`.
        purpose: &'static str,
        /// Names of the tomograms.
        tomograms: String,
    },
    /// A particle that does not lie in its tomogram.
    #[error(
        "particle {number} of tomogram `{tomogram}` lies at (x, y, z) = {position:?}, outside its {shape:?} voxels (z, y, x): remove it, or check the list's axis order and binning"
    )]
    ParticleOutside {
        /// Name of the tomogram.
        tomogram: String,
        /// Place in the list, from 1.
        number: usize,
        /// `(x, y, z)` in voxels.
        position: [f64; 3],
        /// Size of the tomogram, `(z, y, x)`.
        shape: [usize; 3],
    },
    /// A label for which the network has no score.
    #[error(
        "{place} of tomogram `{tomogram}` has class label {label}, but the network tells {classes} classes apart (labels 1 to {classes})"
    )]
    Label {
        /// Name of the tomogram.
        tomogram: String,
        /// The particle, or the target's voxel.
        place: String,
        /// The label found.
        label: u8,
        /// Classes of the network without background.
        classes: usize,
    },
    /// A target that is no label map of its tomogram.
    #[error(
        "the target of tomogram `{tomogram}` has {target:?} voxels (z, y, x), the tomogram {shape:?}: draw the target anew for this tomogram"
    )]
    TargetShape {
        /// Name of the tomogram.
        tomogram: String,
        /// Size of the tomogram, `(z, y, x)`.
        shape: [usize; 3],
        /// Size of its target, `(z, y, x)`.
        target: [usize; 3],
    },
    /// A voxel that is NaN or infinite.
    #[error(
        "tomogram `{tomogram}` holds the value {value} at voxel (x, y, z) = {voxel:?}: repair the tomogram (NaN and infinite voxels cannot be learnt from)"
    )]
    NotFinite {
        /// Name of the tomogram.
        tomogram: String,
        /// `(x, y, z)`.
        voxel: [usize; 3],
        /// NaN or an infinity.
        value: f32,
    },
    /// Reading a window of a training volume failed.
    #[error("reading {what} of tomogram `{tomogram}`")]
    Read {
        /// `the voxels` or `the target`.
        what: &'static str,
        /// Name of the tomogram.
        tomogram: String,
        /// Why it failed.
        #[source]
        source: CoreError,
    },
    /// The thread that reads patches ended early.
    #[error("the thread that reads patches ended without a word")]
    Worker,
    /// Another worker of the same training has failed; its own error is what the training ends with.
    #[error("another device of this training has failed")]
    Stopped,
    /// Several GPUs that cannot work together.
    #[error("the GPUs cannot share a training, which NVIDIA's NCCL does: {0}")]
    Exchange(candle_conv3d::LibraryError),
    /// The loss or its gradient became NaN or infinite.
    #[error(
        "training diverged at iteration {step}: loss {loss}, norm of the gradient {gradient_norm}; try a lower learning rate, a longer warm-up or a smaller clipping norm"
    )]
    Diverged {
        /// Iteration, from 1.
        step: u64,
        /// The loss.
        loss: f64,
        /// Global norm of the gradient.
        gradient_norm: f64,
    },
    /// The run folder holds a run already.
    #[error("`{}` holds a training run already: resume it, or choose another folder", path.display())]
    RunExists {
        /// The run folder.
        path: PathBuf,
    },
    /// There is nothing to resume.
    #[error("`{}` holds no checkpoint to resume from: start a fresh run", path.display())]
    NoCheckpoint {
        /// The run folder.
        path: PathBuf,
    },
    /// A checkpoint that cannot be read, and none before it that can.
    #[error(
        "the checkpoint `{}` is damaged ({what}), and there is no earlier one that can be read: start a fresh run in another folder",
        path.display()
    )]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A run that is resumed with other settings than it was begun with.
    #[error("cannot resume `{}`: {what}; resume with what the run was begun with, or start a fresh one in another folder, from this one's weights if they are to go on learning", path.display())]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Reading or writing a file of the run folder failed.
    #[error("{doing} `{}`", path.display())]
    File {
        /// `writing`, `reading`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A line of the metrics file that is none.
    #[error("line {line} of `{}` is no line of metrics", path.display())]
    Metrics {
        /// The metrics file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An error of the vocabulary, `CoreError::Cancelled` among them.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The network or its weights do not fit.
    #[error(transparent)]
    Net(Box<deepfinder_net::NetError>),
    /// A tensor operation failed.
    #[error("a tensor operation of the training step failed")]
    Tensor(#[source] Box<candle_core::Error>),
}

impl From<deepfinder_net::NetError> for TrainError {
    fn from(error: deepfinder_net::NetError) -> Self {
        Self::Net(Box::new(error))
    }
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(Box::new(error))
    }
}
