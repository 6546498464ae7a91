//! The workers of a training and their threads: one leads, the others follow.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};

use candle_core::Device;
use deepfinder_core::Progress;

use crate::batch::BatchSource;
use crate::exchange::{Alone, Exchange, Seat};
use crate::prefetch::BatchStream;
use crate::resident::{Patches, Resident};
use crate::worker::Worker;
use crate::{Result, TrainError, TrainParams};

/// What the worker that leads has of the others: it validates, writes and decides, they only learn when it does.
#[derive(Debug)]
pub(crate) struct Others {
    /// Dropped, they end the others.
    turns: Vec<Sender<()>>,
    seat: Seat,
}

impl Others {
    /// Of a worker that is alone.
    pub(crate) fn none() -> Self {
        Self {
            turns: Vec::new(),
            seat: Seat::new(Box::new(Alone)),
        }
    }

    /// The way to them.
    pub(crate) fn exchange(&self) -> &dyn Exchange {
        &*self.seat
    }

    /// Lets all take part in the next iteration.
    pub(crate) fn begin_step(&self) {
        for turn in &self.turns {
            // One that has ended has failed, which the next exchange tells.
            let _ = turn.send(());
        }
    }

    /// The leader's result, told to the others where it failed. They end.
    pub(crate) fn dismiss<T>(self, result: Result<T>) -> Result<T> {
        self.seat.settle(result)
    }
}

/// What a worker needs to begin with.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    /// Iterations done and in all.
    pub(crate) steps: [u64; 2],
    pub(crate) params: &'a TrainParams,
    pub(crate) progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Where a worker's patches come from: the memory of its GPU, or threads that read them.
    pub(crate) fn patches<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        source: &'scope BatchSource<'_>,
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Patches<'scope>> {
        let [done, total] = self.steps;
        let resident = Resident::where_it_fits(source, device, done, progress)?;
        Ok(match resident {
            Some(resident) => Patches::Resident(Box::new(resident)),
            None => Patches::Read(BatchStream::start(
                scope,
                source,
                done..total,
                self.params.prefetch,
            )),
        })
    }
}

/// Workers that follow, in threads of their own.
pub(crate) struct Followers<'scope>(Vec<ScopedJoinHandle<'scope, Result<()>>>);

impl<'scope> Followers<'scope> {
    /// Starts a thread for each, and gives what the one that leads has of them. `exchanges` and `sources` are those of all
    /// workers, the leader first.
    pub(crate) fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        work: Work<'env>,
        workers: Vec<Worker<'env>>,
        exchanges: Vec<Box<dyn Exchange>>,
        sources: &'scope [BatchSource<'_>],
    ) -> (Self, Others) {
        let mut seats = exchanges.into_iter().map(Seat::new);
        let mut others = Others::none();
        if let Some(seat) = seats.next() {
            others.seat = seat;
        }
        let followers = workers.into_iter().zip(seats).zip(sources.iter().skip(1));
        let threads = followers.map(|((worker, seat), source)| {
            let (turn, turns) = channel();
            others.turns.push(turn);
            scope.spawn(move || {
                let patches = work.patches(scope, source, &worker.device, &Quiet(work.progress));
                let followed =
                    patches.and_then(|patches| worker.follow(patches, work.steps[0], &turns, &*seat));
                seat.settle(followed)
            })
        });
        let threads = threads.collect();
        (Self(threads), others)
    }

    /// What all came to, the leader's result among them: where some failed, the first that failed by itself.
    pub(crate) fn join<T>(self, led: Result<T>) -> Result<T> {
        let mut first = None;
        for thread in self.0 {
            // A panic is none of ours: the scope hands it on.
            if let Ok(Err(error)) = thread.join()
                && !matches!(error, TrainError::Stopped)
            {
                first.get_or_insert(error);
            }
        }
        match (led, first) {
            (Err(TrainError::Stopped) | Ok(_), Some(error)) => Err(error),
            (led, _) => led,
        }
    }
}

/// The progress of work that another worker tells of.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn begin(&self, _what: &str, _total: u64, _unit: &'static str) {}

    fn advance(&self, _steps: u64) {}

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
