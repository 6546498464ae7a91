use std::time::{Duration, Instant};

use candle_core::Device;
use deepfinder_core::Progress;
use deepfinder_net::Weights;

use crate::batch::BatchSource;
use crate::prefetch::BatchStream;
use crate::resident::{Patches, Resident};
use crate::sampler::Purpose;
use crate::session::Session;
use crate::{Best, Result, RunFolder, TrainParams, TrainingTomogram, fingerprint};

/// Whether to begin a run or to go on with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// A new run; the folder must not hold another.
    #[default]
    Fresh,
    /// Go on from the folder's checkpoint: the result is the same bit for bit as if the run had not stopped.
    Resume,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All epochs are done.
    Completed,
    /// The validation did not improve for `patience` epochs.
    NoImprovement,
    /// It was cancelled; the run can be resumed.
    Cancelled,
}

/// What a run came to. The best weights are in the run folder.
#[derive(Debug, Clone)]
pub struct TrainOutcome {
    /// Why it ended.
    pub ended: Ended,
    /// Epochs done, those before a resumption among them.
    pub epochs: u64,
    /// Iterations done, likewise.
    pub steps: u64,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// The weights as they are now.
    pub weights: Weights,
    /// Where the time went since the start or resumption.
    pub times: PhaseTimes,
}

/// Time of the parts of training. A GPU is not waited for: its parts are the time that it takes to ask for them, and
/// `update` has the time until it was done, when metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PhaseTimes {
    /// Waiting for patches to be read.
    pub waiting: Duration,
    /// The network's forward pass.
    pub forward: Duration,
    /// The loss.
    pub loss: Duration,
    /// Gradients of the loss and the network.
    pub backward: Duration,
    /// Clipping and the optimiser.
    pub update: Duration,
    /// Validation.
    pub validation: Duration,
    /// Metrics, weights and checkpoints.
    pub files: Duration,
    /// Voxels learnt from in all that.
    pub voxels: u64,
}

impl PhaseTimes {
    /// Time of the iterations: everything but validation and files.
    pub fn iterations(&self) -> Duration {
        self.waiting + self.forward + self.loss + self.backward + self.update
    }

    /// Voxels learnt from per second of iterations, in millions.
    pub fn megavoxels_per_second(&self) -> f64 {
        self.voxels as f64 / self.iterations().as_secs_f64().max(1e-9) / 1e6
    }

    /// The result of some work, and its duration added to a phase.
    pub(crate) fn measured<T>(phase: &mut Duration, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        *phase += start.elapsed();
        result
    }
}

/// Trains a network on annotated tomograms, on the processor: see [`train_on`].
///
/// # Errors
/// As [`train_on`].
pub fn train(
    training: &[TrainingTomogram],
    validation: &[TrainingTomogram],
    initial: Weights,
    params: &TrainParams,
    run: &RunFolder,
    start: Start,
    progress: &dyn Progress,
) -> Result<TrainOutcome> {
    train_on(
        &Device::Cpu,
        training,
        validation,
        initial,
        params,
        run,
        start,
        progress,
    )
}

/// Trains a network on annotated tomograms.
///
/// Patches are drawn around particles, read by other threads while the network learns. Every epoch ends with the metrics
/// of a fixed set of validation patches, drawn once from `validation` by the same rules and never augmented; without
/// validation tomograms the patches learnt from decide which epoch is best. The best epoch is that of the highest mean F1
/// (Dice) over the classes that occur. What is written where: [`RunFolder`].
///
/// On a GPU patches are cut out of training tomograms that lie in its memory, where these fit into half of what is free, all of
/// their voxels are finite, and patches get neither noise nor blur; else they are read as on the processor, and a warning
/// says why. The same seed gives the same patches either way, but for the last place of a value here and there.
///
/// Progress counts iterations. On cancellation the iteration at hand is finished, a checkpoint written, and the outcome
/// says [`Ended::Cancelled`].
///
/// # Errors
/// Where parameters, particles or targets make no sense or do not fit the network; where a voxel is not finite, a file
/// cannot be read or written, or training diverges. Resuming fails where the checkpoint is missing, damaged, or of a run
/// with other parameters or data.
#[expect(
    clippy::too_many_arguments,
    reason = "what is learnt from, what is learnt and where: none has a default"
)]
pub fn train_on(
    device: &Device,
    training: &[TrainingTomogram],
    validation: &[TrainingTomogram],
    initial: Weights,
    params: &TrainParams,
    run: &RunFolder,
    start: Start,
    progress: &dyn Progress,
) -> Result<TrainOutcome> {
    params.check()?;
    let scores = initial.scores();
    params.loss.check_classes(scores)?;
    let source = BatchSource::new(training, Purpose::Training, params, scores)?;
    let validation_source = if validation.is_empty() || params.validation_patches == 0 {
        None
    } else {
        Some(BatchSource::new(validation, Purpose::Validation, params, scores)?)
    };
    let settings = fingerprint::settings(params, &initial, training, validation)?;
    let mut session = match start {
        Start::Fresh => Session::begin(initial, params, run, settings, device)?,
        Start::Resume => Session::resume(initial, params, run, settings, device)?,
    };
    let (done, total) = (session.steps_done(), params.total_steps());
    let resident = Resident::where_it_fits(&source, device, done, progress)?;
    progress.begin("training", total, "iterations");
    progress.advance(done);
    let ended = std::thread::scope(|scope| {
        let patches = match resident {
            Some(resident) => Patches::Resident(Box::new(resident)),
            None => Patches::Read(BatchStream::start(scope, &source, done..total, params.prefetch)),
        };
        session.run(patches, validation_source.as_ref(), progress)
    });
    progress.end();
    session.outcome(ended?)
}
