use std::time::{Duration, Instant};

use candle_core::Device;
use deepfinder_core::Progress;
use deepfinder_net::Weights;

use crate::batch::BatchSource;
use crate::sampler::Purpose;
use crate::session::Session;
use crate::team::{Followers, Work};
use crate::{Best, Result, RunFolder, TrainParams, TrainingTomogram, exchange, fingerprint};

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
    /// Gradients of the loss and the network, added up over the devices.
    pub backward: Duration,
    /// Clipping and the optimiser.
    pub update: Duration,
    /// Validation.
    pub validation: Duration,
    /// Metrics, weights and checkpoints.
    pub files: Duration,
    /// Voxels learnt from in all that, on all devices.
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
        &[Device::Cpu],
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
/// Several devices share each batch, of which each must have a patch. What a loss is made of (sums over the voxels of a batch)
/// and the gradients are added up over all of them, so that they learn what one device would from the same batches, but for
/// rounding: their number may change when a run is resumed. On GPUs that is done by NCCL, without waiting for any; each
/// holds all training tomograms, where they fit. Only the first validates and writes. Several processors are several threads:
/// slower than one, and what GPUs are held against.
///
/// Progress counts iterations. On cancellation the iteration at hand is finished, a checkpoint written, and the outcome
/// says [`Ended::Cancelled`].
///
/// # Errors
/// Where parameters, particles or targets make no sense or do not fit the network; where a voxel is not finite, a file
/// cannot be read or written, or training diverges; where there are more devices than patches in a batch, or GPUs without NCCL.
/// What fails on one device ends the training on all. Resuming fails where the checkpoint is missing, damaged, or of a run
/// with other parameters or data.
#[expect(
    clippy::too_many_arguments,
    reason = "what is learnt from, what is learnt and where: none has a default"
)]
pub fn train_on(
    devices: &[Device],
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
    params.check_devices(devices.len())?;
    let exchanges = exchange::among(devices)?;
    let first = devices.first().unwrap_or(&Device::Cpu);
    let mut session = match start {
        Start::Fresh => Session::begin(initial, params, run, settings, first)?,
        Start::Resume => Session::resume(initial, params, run, settings, first)?,
    };
    let followers = devices.iter().skip(1).map(|device| session.worker_on(device));
    let followers = followers.collect::<Result<Vec<_>>>()?;
    let sources: Vec<_> = (0..devices.len())
        .map(|rank| source.of_worker(rank, devices.len()))
        .collect();
    let work = Work {
        steps: [session.steps_done(), params.total_steps()],
        params,
        progress,
    };
    let ended = std::thread::scope(|scope| {
        let (followers, others) = Followers::start(scope, work, followers, exchanges, &sources);
        let led = work
            .patches(scope, &sources[0], first, progress)
            .and_then(|patches| {
                let [done, total] = work.steps;
                progress.begin("training", total, "iterations");
                progress.advance(done);
                let ended = session.run(patches, validation_source.as_ref(), &others, progress);
                progress.end();
                ended
            });
        followers.join(others.dismiss(led))
    });
    session.outcome(ended?)
}
