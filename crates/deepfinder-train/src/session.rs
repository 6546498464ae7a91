//! The loop: iterations, epochs, and the state that a checkpoint keeps.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{Device, Tensor};
use deepfinder_core::Progress;
use deepfinder_net::{UNet, Weights};

use crate::average::MovingAverage;
use crate::batch::BatchSource;
use crate::checkpoint::{Checkpoint, State};
use crate::fingerprint::difference;
use crate::grading::{measured, read};
use crate::metrics::Running;
use crate::prefetch::BatchStream;
use crate::resident::Patches;
use crate::team::Others;
use crate::train::{Ended, PhaseTimes, TrainOutcome};
use crate::worker::Worker;
use crate::{
    Best, EpochMetrics, MetricsLine, Result, RunFolder, SplitMetrics, StepMetrics, TrainError, TrainParams,
};

/// A run at some iteration.
pub(crate) struct Session<'a> {
    params: &'a TrainParams,
    run: &'a RunFolder,
    settings: BTreeMap<String, String>,
    worker: Worker<'a>,
    /// Where the run began: for what its weights are for.
    initial: Weights,
    average: Option<MovingAverage>,
    state: State,
    unread: Unread,
    times: PhaseTimes,
    epoch_began: Instant,
}

/// What the last iterations came to, as long as nobody has waited for it.
#[derive(Debug, Default)]
struct Unread {
    rows: Vec<[Tensor; 3]>,
    learning_rates: Vec<f64>,
}

impl<'a> Session<'a> {
    /// A new run, with a first checkpoint: from here on it can be resumed.
    pub(crate) fn begin(
        initial: Weights,
        params: &'a TrainParams,
        run: &'a RunFolder,
        settings: BTreeMap<String, String>,
        device: &Device,
    ) -> Result<Self> {
        let mut session = Self::new(initial, params, run, settings, device)?;
        run.begin()?;
        session.save_checkpoint(&Others::none())?;
        Ok(session)
    }

    /// The run of the folder's checkpoint.
    pub(crate) fn resume(
        initial: Weights,
        params: &'a TrainParams,
        run: &'a RunFolder,
        settings: BTreeMap<String, String>,
        device: &Device,
    ) -> Result<Self> {
        let mut session = Self::new(initial, params, run, settings, device)?;
        let (checkpoint, path) = run.load_checkpoint()?;
        if let Some(what) = difference(&checkpoint.settings, &session.settings) {
            return Err(TrainError::ResumeMismatch { path, what });
        }
        let damaged = |what: String| TrainError::Checkpoint {
            path: path.clone(),
            what,
        };
        let worker = &mut session.worker;
        for (name, variable) in worker.learner.variables() {
            let stored = checkpoint.weights.get(name);
            let Some(stored) = stored.filter(|stored| stored.shape() == variable.shape()) else {
                return Err(damaged(format!(
                    "it lacks weights of the right shape for `{name}`"
                )));
            };
            variable.set(&stored.to_device(device)?)?;
        }
        worker.learner.refresh()?;
        worker
            .adam
            .restore(checkpoint.state.step, checkpoint.moments)
            .map_err(|error| damaged(error.to_string()))?;
        if let Some(average) = &mut session.average {
            average
                .restore(checkpoint.averages)
                .map_err(|error| damaged(error.to_string()))?;
        }
        session.state = checkpoint.state;
        session.state.metrics_bytes = run.truncate_metrics(session.state.metrics_bytes)?;
        Ok(session)
    }

    fn new(
        initial: Weights,
        params: &'a TrainParams,
        run: &'a RunFolder,
        settings: BTreeMap<String, String>,
        device: &Device,
    ) -> Result<Self> {
        let scores = initial.scores();
        let worker = Worker::new(&initial, params, device)?;
        let average = params
            .ema
            .map(|decay| MovingAverage::new(worker.learner.tensors(), decay))
            .transpose()?;
        Ok(Self {
            params,
            run,
            settings,
            worker,
            average,
            initial,
            state: State {
                step: 0,
                epoch: 0,
                best: None,
                running: Running::new(scores),
                metrics_bytes: 0,
            },
            unread: Unread::default(),
            times: PhaseTimes::default(),
            epoch_began: Instant::now(),
        })
    }

    pub(crate) fn steps_done(&self) -> u64 {
        self.state.step
    }

    /// A worker on another device that has learnt as much.
    pub(crate) fn worker_on(&self, device: &Device) -> Result<Worker<'a>> {
        self.worker.copied_to(&self.initial, device)
    }

    /// Learns with the others to the end, or until it is cancelled.
    pub(crate) fn run(
        &mut self,
        mut patches: Patches<'_>,
        validation: Option<&BatchSource<'_>>,
        others: &Others,
        progress: &dyn Progress,
    ) -> Result<Ended> {
        loop {
            if let Some(ended) = self.ended() {
                return Ok(ended);
            }
            let epoch_end = (self.state.epoch + 1) * self.params.steps_per_epoch as u64;
            while self.state.step < epoch_end {
                if progress.is_cancelled() {
                    self.save_checkpoint(others)?;
                    return Ok(Ended::Cancelled);
                }
                self.step(&mut patches, others)?;
                progress.note(&self.note());
                progress.advance(1);
            }
            self.read_metrics(others)?;
            let weights = self.weights()?;
            let validated = validation
                .map(|source| self.validate(&weights, source, progress))
                .transpose()?;
            if let Some(None) = validated {
                self.save_checkpoint(others)?;
                return Ok(Ended::Cancelled);
            }
            let validated = validated.flatten();
            self.end_epoch(&weights, validated, others)?;
        }
    }

    pub(crate) fn outcome(&self, ended: Ended) -> Result<TrainOutcome> {
        Ok(TrainOutcome {
            ended,
            epochs: self.state.epoch,
            steps: self.state.step,
            best: self.state.best,
            weights: self.weights()?,
            times: self.times,
        })
    }

    fn ended(&self) -> Option<Ended> {
        let idle = self.state.best.map(|best| self.state.epoch - best.epoch);
        if self.state.epoch >= self.params.epochs as u64 {
            Some(Ended::Completed)
        } else if let (Some(idle), Some(patience)) = (idle, self.params.patience)
            && idle >= patience as u64
        {
            Some(Ended::NoImprovement)
        } else {
            None
        }
    }

    fn step(&mut self, patches: &mut Patches<'_>, others: &Others) -> Result<()> {
        let step = self.state.step;
        others.begin_step();
        let row = self
            .worker
            .step(patches, step, others.exchange(), &mut self.times)?;
        self.state.step += 1;
        if let Some(average) = &mut self.average {
            PhaseTimes::measured(&mut self.times.update, || {
                average.update(self.worker.learner.tensors(), self.state.step)
            })?;
        }
        self.unread.rows.push(row);
        self.unread
            .learning_rates
            .push(self.params.learning_rate_at(step));
        // A GPU goes on meanwhile; the processor has done everything already.
        if self.worker.device.is_cpu() || self.state.step.is_multiple_of(self.params.log_every_steps as u64) {
            self.read_metrics(others)?;
        }
        Ok(())
    }

    /// Takes in what the iterations since the last time came to; a GPU is waited for.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] with the first iteration whose loss or gradient was no number: nothing has moved since.
    fn read_metrics(&mut self, others: &Others) -> Result<()> {
        let Unread { rows, learning_rates } = std::mem::take(&mut self.unread);
        let scores = self.initial.scores();
        let readings = PhaseTimes::measured(&mut self.times.update, || read(&rows, scores))?;
        others.exchange().check()?;
        let before = self.state.step - readings.len() as u64;
        for ((step, reading), learning_rate) in (before + 1..).zip(readings).zip(learning_rates) {
            let (loss, gradient_norm) = (reading.loss, reading.gradient_norm);
            if !(loss.is_finite() && gradient_norm.is_finite()) {
                return Err(TrainError::Diverged {
                    step,
                    loss,
                    gradient_norm,
                });
            }
            self.state.running.add(&reading);
            if step.is_multiple_of(self.params.log_every_steps as u64) {
                self.log(&MetricsLine::Step(StepMetrics {
                    step,
                    loss,
                    learning_rate,
                    gradient_norm,
                }))?;
            }
        }
        Ok(())
    }

    /// The network's metrics on the fixed patches; `None` where it was cancelled.
    fn validate(
        &mut self,
        weights: &Weights,
        source: &BatchSource<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<SplitMetrics>> {
        let net = UNet::new(weights, &self.worker.device)?.with_precision(self.params.precision);
        let batches = self.params.validation_patches.div_ceil(self.params.batch) as u64;
        let mut rows = Vec::new();
        let began = Instant::now();
        let finished = std::thread::scope(|scope| {
            let mut patches = BatchStream::start(scope, source, 0..batches, self.params.prefetch);
            for _ in 0..batches {
                if progress.is_cancelled() {
                    return Ok(false);
                }
                let examples = patches.next()?.into_tensors(&self.worker.transfers)?;
                let logits = net.forward(&examples.input)?;
                rows.push(measured(&logits, &examples, &self.params.loss)?);
            }
            Ok::<_, TrainError>(true)
        })?;
        let mut running = Running::new(self.initial.scores());
        for reading in read(&rows, self.initial.scores())? {
            running.add(&reading);
        }
        self.times.validation += began.elapsed();
        Ok(finished.then(|| running.metrics()))
    }

    fn end_epoch(
        &mut self,
        weights: &Weights,
        validation: Option<SplitMetrics>,
        others: &Others,
    ) -> Result<()> {
        self.state.epoch += 1;
        let mut metrics = EpochMetrics {
            epoch: self.state.epoch,
            step: self.state.step,
            seconds: self.epoch_began.elapsed().as_secs_f64(),
            training: self.state.running.metrics(),
            validation,
            best: false,
        };
        let decisive = metrics.decisive();
        metrics.best = self.state.best.is_none_or(|best| best.is_beaten_by(decisive));
        if metrics.best {
            self.state.best = Some(Best {
                epoch: self.state.epoch,
                mean_f1: metrics.decisive().mean_f1,
                loss: metrics.decisive().loss,
            });
        }
        self.state.running = Running::new(self.initial.scores());
        self.epoch_began = Instant::now();

        let began = Instant::now();
        let bytes = weights.to_safetensors()?;
        if metrics.best {
            RunFolder::save_weights(&self.run.best_weights(), &bytes)?;
        }
        RunFolder::save_weights(&self.run.last_weights(), &bytes)?;
        self.times.files += began.elapsed();
        self.log(&MetricsLine::Epoch(metrics))?;
        // Last: a run killed before this repeats the epoch's end.
        self.save_checkpoint(others)?;
        tracing::debug!(epoch = self.state.epoch, times = ?self.times, "epoch");
        Ok(())
    }

    fn log(&mut self, line: &MetricsLine) -> Result<()> {
        let run = self.run;
        self.state.metrics_bytes = PhaseTimes::measured(&mut self.times.files, || run.append_metrics(line))?;
        Ok(())
    }

    fn save_checkpoint(&mut self, others: &Others) -> Result<()> {
        // Of a training that diverged nothing is kept, nor of one whose workers did not add up the last gradients: their norm is
        // among the metrics.
        self.read_metrics(others)?;
        let began = Instant::now();
        let Worker { learner, adam, .. } = &self.worker;
        let weights = learner.variables().iter();
        let checkpoint = Checkpoint {
            state: self.state.clone(),
            settings: self.settings.clone(),
            weights: weights
                .map(|(name, variable)| (name.clone(), variable.as_detached_tensor()))
                .collect(),
            moments: adam
                .moments()
                .map(|(name, moments)| (name.to_owned(), moments))
                .collect(),
            averages: self.average.iter().flat_map(MovingAverage::means).collect(),
        };
        self.run.save_checkpoint(&checkpoint)?;
        self.times.files += began.elapsed();
        Ok(())
    }

    /// A copy of the weights as they are now, or of their average where one is kept.
    fn weights(&self) -> Result<Weights> {
        let named: Vec<(String, Tensor)> = match &self.average {
            Some(average) => average.means().collect(),
            None => self
                .worker
                .learner
                .tensors()
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.as_detached_tensor()))
                .collect(),
        };
        Ok(Weights::from_tensors(named, self.initial.metadata().clone())?)
    }

    fn note(&self) -> String {
        let best = self.state.best;
        format!(
            "epoch {}/{} · loss {:.3}{} · {:.3} Mvoxel/s",
            self.state.epoch + 1,
            self.params.epochs,
            self.state.running.mean_loss(),
            best.map_or_else(String::new, |best| format!(" · best F1 {:.3}", best.mean_f1)),
            self.times.megavoxels_per_second(),
        )
    }
}
