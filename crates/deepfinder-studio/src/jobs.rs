//! Long work: one piece at a time, in a thread of its own, watched and stopped from the page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deepfinder_core::{CancelToken, Progress};
use deepfinder_pipeline::PipelineError;
use serde::Serialize;
use tokio::sync::watch;

use crate::error::ApiError;

/// How often the page hears of steps.
const NEWS: Duration = Duration::from_millis(150);

/// How a piece of work stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Running,
    Done,
    Stopped,
    Failed,
}

/// A piece of work, as the page sees it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobState {
    pub(crate) id: u64,
    /// `target`, `train`, `segment`, `pick` or `run`.
    pub(crate) stage: &'static str,
    /// The tomogram, where it is about one.
    pub(crate) tomogram: Option<String>,
    /// The command lines that do the same.
    pub(crate) commands: Vec<String>,
    pub(crate) status: Status,
    /// What is done at the moment, how far, and in what unit.
    pub(crate) what: String,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) unit: &'static str,
    pub(crate) note: String,
    pub(crate) seconds: f64,
    /// By the speed since the first step.
    pub(crate) seconds_left: Option<f64>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// What it made, and what was up to date already.
    pub(crate) products: Vec<Product>,
}

/// Something that a piece of work made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Product {
    pub(crate) stage: &'static str,
    pub(crate) subject: String,
    pub(crate) skipped: bool,
}

/// The piece of work at hand, or the last one.
#[derive(Debug)]
pub(crate) struct Jobs {
    state: Mutex<Option<JobState>>,
    /// Steps of the work at hand, counted without a lock.
    done: AtomicU64,
    cancel: Mutex<CancelToken>,
    thread: Mutex<Option<JoinHandle<()>>>,
    news: watch::Sender<u64>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            done: AtomicU64::default(),
            cancel: Mutex::default(),
            thread: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a state that can still be shown.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    /// How the work stands.
    pub(crate) fn state(&self) -> Option<JobState> {
        let mut state = lock(&self.state).clone()?;
        if state.status == Status::Running {
            state.done = self.done.load(Ordering::Relaxed);
        }
        Some(state)
    }

    /// Tells when there is news.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn tell(&self) {
        self.news.send_modify(|number| *number += 1);
    }

    /// Begins a piece of work.
    ///
    /// # Errors
    /// Where another is under way.
    pub(crate) fn begin(
        self: &Arc<Self>,
        stage: &'static str,
        tomogram: Option<String>,
        commands: Vec<String>,
        work: impl FnOnce(&dyn Progress) -> Result<Vec<Product>, PipelineError> + Send + 'static,
    ) -> Result<JobState, ApiError> {
        let mut state = lock(&self.state);
        if let Some(running) = state.as_ref().filter(|state| state.status == Status::Running) {
            return Err(ApiError::new(
                axum::http::StatusCode::CONFLICT,
                format!("{} is under way: wait for it, or stop it first", running.stage),
            ));
        }
        let begun = JobState {
            id: state.as_ref().map_or(1, |last| last.id + 1),
            stage,
            tomogram,
            commands,
            status: Status::Running,
            what: String::new(),
            done: 0,
            total: 0,
            unit: "",
            note: String::new(),
            seconds: 0.0,
            seconds_left: None,
            error: None,
            products: Vec::new(),
        };
        *state = Some(begun.clone());
        drop(state);
        let cancel = CancelToken::default();
        *lock(&self.cancel) = cancel.clone();
        self.done.store(0, Ordering::Relaxed);
        let jobs = self.clone();
        let thread = std::thread::spawn(move || {
            let watched = Watched {
                jobs: &jobs,
                cancel,
                begun: Instant::now(),
                speed: Mutex::new(Speed::default()),
            };
            let result = work(&watched);
            let mut state = lock(&jobs.state);
            if let Some(state) = state.as_mut() {
                state.done = jobs.done.load(Ordering::Relaxed);
                state.seconds = watched.begun.elapsed().as_secs_f64();
                state.seconds_left = None;
                match result {
                    Ok(products) => {
                        state.status = Status::Done;
                        state.products = products;
                    }
                    Err(PipelineError::Cancelled) => state.status = Status::Stopped,
                    Err(error) => {
                        state.status = Status::Failed;
                        state.error = Some(error.to_string());
                    }
                }
            }
            drop(state);
            jobs.tell();
        });
        *lock(&self.thread) = Some(thread);
        self.tell();
        Ok(begun)
    }

    /// Asks the work at hand to stop.
    pub(crate) fn stop(&self) {
        lock(&self.cancel).cancel();
    }

    /// Asks it to stop and waits until it has: a training writes a checkpoint first.
    pub(crate) fn stop_and_wait(&self) {
        self.stop();
        if let Some(thread) = lock(&self.thread).take() {
            // What it panicked with was printed; there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

/// Tells the page how far the work is.
struct Watched<'a> {
    jobs: &'a Jobs,
    cancel: CancelToken,
    begun: Instant,
    speed: Mutex<Speed>,
}

/// The first steps come at once where work goes on that was begun earlier: the speed is that of the others.
#[derive(Default)]
struct Speed {
    first: Option<(Instant, u64)>,
    told: Option<Instant>,
}

impl Progress for Watched<'_> {
    fn begin(&self, what: &str, total: u64, unit: &'static str) {
        self.jobs.done.store(0, Ordering::Relaxed);
        *lock(&self.speed) = Speed::default();
        if let Some(state) = lock(&self.jobs.state).as_mut() {
            what.clone_into(&mut state.what);
            state.total = total;
            state.unit = unit;
            state.seconds_left = None;
        }
        self.jobs.tell();
    }

    fn advance(&self, steps: u64) {
        let done = self.jobs.done.fetch_add(steps, Ordering::Relaxed) + steps;
        let now = Instant::now();
        let seconds_a_step = {
            let mut speed = lock(&self.speed);
            if speed.told.is_some_and(|told| now < told + NEWS) {
                return;
            }
            speed.told = Some(now);
            let (start, first) = *speed.first.get_or_insert((now, done));
            (done > first).then(|| (now - start).as_secs_f64() / (done - first) as f64)
        };
        if let Some(state) = lock(&self.jobs.state).as_mut() {
            state.seconds = self.begun.elapsed().as_secs_f64();
            state.seconds_left = seconds_a_step.map(|step| step * state.total.saturating_sub(done) as f64);
        }
        self.jobs.tell();
    }

    fn note(&self, text: &str) {
        if let Some(state) = lock(&self.jobs.state).as_mut() {
            text.clone_into(&mut state.note);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(jobs: &Jobs) -> JobState {
        if let Some(thread) = lock(&jobs.thread).take() {
            thread.join().unwrap();
        }
        jobs.state().unwrap()
    }

    #[test]
    fn work_is_watched_one_at_a_time_and_stopped() {
        let jobs = Arc::new(Jobs::default());
        let work = |progress: &dyn Progress| {
            progress.begin("waiting", 10, "steps");
            progress.note("soon");
            progress.advance(3);
            while !progress.is_cancelled() {
                std::thread::yield_now();
            }
            Err(PipelineError::Cancelled)
        };
        jobs.begin("train", None, vec!["deepfinder train .".to_owned()], work)
            .unwrap();
        let second = jobs.begin("pick", None, Vec::new(), |_| Ok(Vec::new()));
        assert_eq!(second.unwrap_err().status, axum::http::StatusCode::CONFLICT);
        jobs.stop_and_wait();
        let state = jobs.state().unwrap();
        assert_eq!((state.status, state.done, state.total), (Status::Stopped, 3, 10));
        assert_eq!((state.what.as_str(), state.note.as_str()), ("waiting", "soon"));
        jobs.begin("pick", Some("a".to_owned()), Vec::new(), |_| Ok(Vec::new()))
            .unwrap();
        let state = wait(&jobs);
        assert_eq!((state.id, state.status), (2, Status::Done));
        let fail = |_: &dyn Progress| {
            Err(PipelineError::Input {
                what: "why".to_owned(),
            })
        };
        jobs.begin("pick", None, Vec::new(), fail).unwrap();
        assert_eq!(wait(&jobs).error.as_deref(), Some("why"));
    }
}
