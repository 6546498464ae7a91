//! What the workers of one training tell each other: sums of tensors, over threads of this program.
//!
//! Each worker is a thread with a device. All come to each sum, or none does: one that fails says so ([`Seat`]), and whoever
//! waits or comes later fails too.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};

use crate::params::wrong;
use crate::{Result, TrainError};

/// A worker's way to the others.
pub(crate) trait Exchange: Send + std::fmt::Debug {
    /// The sums over all workers of tensors that are as many, and of the same shapes and types, at each. All get the same
    /// bits.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] where another worker has failed.
    fn sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>>;

    /// That no worker had failed when all was done that the device was asked for until now. Else sums mean nothing, nor does
    /// what came of them: to be asked between reading a result and keeping it.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] where one has.
    fn check(&self) -> Result<()>;

    /// Makes all others fail who wait for this worker, now or later.
    fn fail(&self);
}

/// The ways between workers on these devices, in their order: processors, or GPUs through NCCL.
///
/// # Errors
/// Where there is no device, or they cannot work together, with the reason.
pub(crate) fn among(devices: &[Device]) -> Result<Vec<Box<dyn Exchange>>> {
    let meeting = || Arc::new(Meeting::of(devices.len()));
    match devices {
        [] => Err(wrong("devices", "must be at least one".to_owned())),
        [_] => Ok(vec![Box::new(Alone)]),
        _ if devices.iter().all(Device::is_cpu) => Ok(Threads::of(&meeting())),
        _ if devices.iter().all(Device::is_cuda) => gpus::of(devices, &meeting()),
        _ => Err(wrong(
            "devices",
            "must all be GPUs, where there are several".to_owned(),
        )),
    }
}

/// A worker's place in the exchange: the others hear of it where its work fails.
#[derive(Debug)]
pub(crate) struct Seat(Box<dyn Exchange>);

impl Seat {
    pub(crate) fn new(exchange: Box<dyn Exchange>) -> Self {
        Self(exchange)
    }

    /// The result of work, told to the others where it failed.
    pub(crate) fn settle<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.0.fail();
        }
        result
    }
}

impl std::ops::Deref for Seat {
    type Target = dyn Exchange;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

/// Of one worker: there is nobody to tell.
#[derive(Debug)]
pub(crate) struct Alone;

impl Exchange for Alone {
    fn sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        Ok(tensors)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn fail(&self) {}
}

/// Where threads wait for each other.
#[derive(Debug)]
struct Meeting {
    workers: usize,
    state: Mutex<Round>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Round {
    number: u64,
    here: usize,
    failed: bool,
}

impl Meeting {
    fn of(workers: usize) -> Self {
        Self {
            workers,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Round> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all workers are here.
    fn meet(&self) -> Result<()> {
        let mut state = self.state();
        state.here += 1;
        let number = state.number;
        if state.here == self.workers && !state.failed {
            (state.number, state.here) = (number + 1, 0);
            self.changed.notify_all();
            return Ok(());
        }
        let waits = |state: &mut Round| state.number == number && !state.failed;
        let state = self.changed.wait_while(state, waits);
        // A round that all came to counts, whatever happened since.
        if state.unwrap_or_else(PoisonError::into_inner).number == number {
            return Err(TrainError::Stopped);
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.state().failed {
            return Err(TrainError::Stopped);
        }
        Ok(())
    }

    fn fail(&self) {
        self.state().failed = true;
        self.changed.notify_all();
    }
}

/// A worker on the processor. Sums are added up in the order of the workers, which is what other exchanges are held against.
#[derive(Debug)]
struct Threads {
    meeting: Arc<Meeting>,
    /// What each worker brings.
    brought: Arc<Vec<Mutex<Vec<Tensor>>>>,
    rank: usize,
}

impl Threads {
    fn of(meeting: &Arc<Meeting>) -> Vec<Box<dyn Exchange>> {
        let brought: Arc<Vec<_>> = Arc::new((0..meeting.workers).map(|_| Mutex::default()).collect());
        let of_rank = |rank| -> Box<dyn Exchange> {
            Box::new(Self {
                meeting: Arc::clone(meeting),
                brought: Arc::clone(&brought),
                rank,
            })
        };
        (0..meeting.workers).map(of_rank).collect()
    }

    fn of_worker(&self, rank: usize) -> MutexGuard<'_, Vec<Tensor>> {
        self.brought[rank].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange for Threads {
    fn sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        *self.of_worker(self.rank) = tensors;
        self.meeting.meet()?;
        let mut sums = self.of_worker(0).clone();
        for rank in 1..self.meeting.workers {
            let others = self.of_worker(rank).clone();
            if others.len() != sums.len() {
                let what = format!("{} tensors of one and {} of another", sums.len(), others.len());
                return Err(wrong("exchange", what));
            }
            for (sum, other) in sums.iter_mut().zip(&others) {
                *sum = (&*sum + other)?;
            }
        }
        // Nobody brings the next ones before all have seen these.
        self.meeting.meet()?;
        Ok(sums)
    }

    fn check(&self) -> Result<()> {
        self.meeting.check()
    }

    fn fail(&self) {
        self.meeting.fail();
    }
}

#[cfg(feature = "nccl")]
mod gpus {
    use std::sync::Arc;

    use candle_conv3d::{GpuSums, gpu_sums};
    use candle_core::{Device, Tensor};

    use super::{Exchange, Meeting};
    use crate::{Result, TrainError};

    /// A worker on a GPU. Threads meet before a GPU is asked for a sum, which they do without waiting for any: a GPU has a sum
    /// before it only where all others will have it too, so that none waits for one that does not come.
    #[derive(Debug)]
    struct Gpus {
        sums: GpuSums,
        meeting: Arc<Meeting>,
    }

    pub(super) fn of(devices: &[Device], meeting: &Arc<Meeting>) -> Result<Vec<Box<dyn Exchange>>> {
        let sums = gpu_sums(devices).map_err(TrainError::Exchange)?;
        let of_one = |sums| -> Box<dyn Exchange> {
            let meeting = Arc::clone(meeting);
            Box::new(Gpus { sums, meeting })
        };
        Ok(sums.into_iter().map(of_one).collect())
    }

    impl Exchange for Gpus {
        fn sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
            self.sums.sum(&tensors, || self.meeting.meet())
        }

        fn check(&self) -> Result<()> {
            self.meeting.check()
        }

        fn fail(&self) {
            // In this order: who sees sums that were given up sees that, too.
            self.meeting.fail();
            self.sums.abort();
        }
    }
}

#[cfg(not(feature = "nccl"))]
mod gpus {
    use std::sync::Arc;

    use candle_conv3d::LibraryError;
    use candle_core::Device;

    use super::{Exchange, Meeting};
    use crate::{Result, TrainError};

    pub(super) fn of(_: &[Device], _: &Arc<Meeting>) -> Result<Vec<Box<dyn Exchange>>> {
        Err(TrainError::Exchange(LibraryError::NotBuilt { name: "NCCL" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processors(workers: usize) -> Vec<Seat> {
        let ways = among(&vec![Device::Cpu; workers]).unwrap();
        ways.into_iter().map(Seat::new).collect()
    }

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    /// What each worker's thread gives.
    fn each<T: Send>(seats: Vec<Seat>, work: impl Fn(usize, Seat) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let seats = seats.into_iter().enumerate();
            let threads: Vec<_> = seats
                .map(|(rank, seat)| scope.spawn(move || work(rank, seat)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_get_the_same_sums_in_the_order_of_the_workers() {
        for workers in [1, 2, 3, 5] {
            let sums = each(processors(workers), |rank, seat| {
                let rounds = (0..50).map(|round| {
                    // Bits that depend on the order.
                    let own = [
                        0.1 * (rank + 1) as f64,
                        1e16 * (rank % 2) as f64 + f64::from(round),
                    ];
                    let sums = seat.sum(vec![tensor(&own), tensor(&[1.0])]).unwrap();
                    sums.iter()
                        .flat_map(|sum| sum.to_vec1::<f64>().unwrap())
                        .collect::<Vec<_>>()
                });
                let rounds: Vec<_> = rounds.collect();
                seat.check().unwrap();
                rounds
            });
            for (round, found) in sums[0].iter().enumerate() {
                let ranks = 0..workers;
                let add = |of: &dyn Fn(usize) -> f64| ranks.clone().map(of).reduce(|a, b| a + b).unwrap();
                let expected = [
                    add(&|rank| 0.1 * (rank + 1) as f64),
                    add(&|rank| 1e16 * (rank % 2) as f64 + round as f64),
                    workers as f64,
                ];
                assert_eq!(found, &expected);
            }
            assert!(sums.iter().all(|of_one| of_one == &sums[0]));
        }
    }

    #[test]
    fn one_that_fails_ends_all() {
        for panics in [false, true] {
            let ended = each(processors(3), |rank, seat| {
                seat.sum(vec![tensor(&[1.0])]).unwrap();
                if rank == 1 && panics {
                    let panicked = std::thread::scope(|scope| {
                        let own = scope.spawn(move || {
                            let _seat = seat;
                            std::panic::resume_unwind(Box::new("a slip"));
                        });
                        own.join()
                    });
                    return panicked.map_err(|_| "its own".to_owned());
                }
                let work = || match rank {
                    1 => Err(wrong("batch", "its own".to_owned())),
                    _ => (0..).try_for_each(|_| seat.sum(vec![tensor(&[1.0])]).map(drop)),
                };
                let ended = seat.settle(work()).map_err(|error| error.to_string());
                assert!(matches!(seat.check(), Err(TrainError::Stopped)));
                ended
            });
            let said = |rank: usize| ended[rank].clone().unwrap_err();
            assert!(said(1).contains("its own"));
            assert_eq!(said(0), TrainError::Stopped.to_string());
            assert_eq!(said(2), said(0));
        }
    }

    #[test]
    fn devices_that_cannot_work_together_are_refused() {
        assert!(among(&[]).unwrap_err().to_string().contains("at least one"));
        let ways = each(processors(2), |rank, seat| {
            seat.settle(seat.sum(vec![tensor(&[1.0]); rank + 1])).map(drop)
        });
        assert!(ways.iter().any(|way| {
            way.as_ref()
                .is_err_and(|error| error.to_string().contains("tensors of one"))
        }));
    }
}
