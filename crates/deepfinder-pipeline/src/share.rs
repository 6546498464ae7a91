//! Jobs that several devices share: each takes the next one as soon as it is free.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use deepfinder_core::Progress;

use crate::{PipelineError, Result};

/// A job, and how much of the work it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<J> {
    pub job: J,
    /// Its voxels.
    pub voxels: u64,
}

/// Does each job on the next free device and gives the results in the order of the jobs. `done` hears of a job as soon
/// as it is over, of one at a time.
///
/// One device tells of its jobs itself, one after the other; where there are several, one bar under the name `what`
/// counts the voxels of them all. After a failure no job is begun, and those under way are asked to stop.
///
/// # Errors
/// That of the first job in the list which failed by itself; cancellation; where there are jobs and no device.
pub(crate) fn share<J: Sync, D: Sync, T: Send>(
    what: &str,
    jobs: &[Share<J>],
    devices: &[D],
    progress: &dyn Progress,
    work: impl Fn(&J, &D, &dyn Progress) -> Result<T> + Sync,
    mut done: impl FnMut(usize, &T) -> Result<()> + Send,
) -> Result<Vec<T>> {
    let devices = &devices[..devices.len().min(jobs.len())];
    match devices {
        [] if jobs.is_empty() => Ok(Vec::new()),
        [] => Err(PipelineError::input("there is no device to compute on")),
        [device] => {
            let one = |(index, share): (usize, &Share<J>)| {
                let result = work(&share.job, device, progress)?;
                done(index, &result)?;
                Ok(result)
            };
            jobs.iter().enumerate().map(one).collect()
        }
        _ => {
            let all = All {
                progress,
                stopped: AtomicBool::new(false),
            };
            progress.begin(what, jobs.iter().map(|share| share.voxels).sum(), "voxels");
            let (next, done) = (AtomicUsize::new(0), Mutex::new(done));
            let results: Vec<Mutex<Option<Result<T>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
            let one_after_the_other = |device: &D| {
                while !all.is_cancelled() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(share), Some(place)) = (jobs.get(index), results.get(index)) else {
                        return;
                    };
                    let part = Part::new(&all, share.voxels);
                    let result = work(&share.job, device, &part).and_then(|result| {
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done(index, &result).map(|()| result)
                    });
                    if result.is_err() {
                        all.stopped.store(true, Ordering::Relaxed);
                    }
                    part.end();
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            };
            std::thread::scope(|scope| {
                for device in devices {
                    scope.spawn(|| one_after_the_other(device));
                }
            });
            progress.end();
            in_order(results)
        }
    }
}

/// The results, or what went wrong first: jobs that were stopped because another failed are none of the reasons.
fn in_order<T>(results: Vec<Mutex<Option<Result<T>>>>) -> Result<Vec<T>> {
    let mut given = Vec::with_capacity(results.len());
    let mut cancelled = false;
    for result in results {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(result)) => given.push(result),
            None | Some(Err(PipelineError::Cancelled)) => cancelled = true,
            Some(Err(error)) => return Err(error),
        }
    }
    if cancelled {
        Err(PipelineError::Cancelled)
    } else {
        Ok(given)
    }
}

/// The work of all devices.
struct All<'a> {
    progress: &'a dyn Progress,
    /// Whether a job failed.
    stopped: AtomicBool,
}

impl All<'_> {
    fn is_cancelled(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.progress.is_cancelled()
    }
}

/// The progress of one job, told as voxels of all, whatever it counts itself.
struct Part<'a> {
    all: &'a All<'a>,
    voxels: u64,
    /// Steps of the job, those done, and the voxels told for them.
    steps: AtomicU64,
    told: Mutex<(u64, u64)>,
}

impl<'a> Part<'a> {
    fn new(all: &'a All<'a>, voxels: u64) -> Self {
        Self {
            all,
            voxels,
            steps: AtomicU64::new(0),
            told: Mutex::new((0, 0)),
        }
    }
}

impl Progress for Part<'_> {
    fn begin(&self, _what: &str, total: u64, _unit: &'static str) {
        self.steps.store(total, Ordering::Relaxed);
    }

    fn advance(&self, steps: u64) {
        let total = u128::from(self.steps.load(Ordering::Relaxed).max(1));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, voxels) = &mut *told;
        *done += steps;
        // No more than all, so it fits.
        let due = (u128::from(*done) * u128::from(self.voxels) / total).min(self.voxels.into()) as u64;
        self.all.progress.advance(due.saturating_sub(*voxels));
        *voxels = due;
    }

    fn is_cancelled(&self) -> bool {
        self.all.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use deepfinder_core::{CancelToken, NoProgress};

    use super::*;

    fn jobs(count: u64) -> Vec<Share<u64>> {
        (0..count)
            .map(|job| Share {
                job,
                voxels: 10 + job,
            })
            .collect()
    }

    /// Voxels that were told of, and what they were said to be.
    #[derive(Default)]
    struct Told(Mutex<(Vec<(String, u64)>, u64)>);

    impl Progress for Told {
        fn begin(&self, what: &str, total: u64, _unit: &'static str) {
            self.0.lock().unwrap().0.push((what.to_owned(), total));
        }

        fn advance(&self, steps: u64) {
            self.0.lock().unwrap().1 += steps;
        }
    }

    #[test]
    fn results_come_in_order_whoever_computed_them() {
        for devices in [1, 2, 3, 9] {
            let devices: Vec<usize> = (0..devices).collect();
            let (mut heard, told) = (Vec::new(), Told::default());
            let work = |job: &u64, _: &usize, progress: &dyn Progress| {
                progress.begin("one", 7, "steps");
                (0..7).for_each(|_| progress.advance(1));
                Ok(job * job)
            };
            let results = share("all", &jobs(8), &devices, &told, work, |index, result| {
                heard.push((index, *result));
                Ok(())
            });
            let expected: Vec<u64> = (0..8).map(|job| job * job).collect();
            assert_eq!(results.unwrap(), expected);
            heard.sort_unstable();
            assert_eq!(heard, (0..8).zip(expected).collect::<Vec<_>>());
            let (begun, voxels) = told.0.into_inner().unwrap();
            if devices.len() > 1 {
                assert_eq!((begun.as_slice(), voxels), (&[("all".to_owned(), 108)][..], 108));
            } else {
                assert_eq!((begun.len(), voxels), (8, 56));
            }
        }
    }

    #[test]
    fn all_devices_work_at_once() {
        // Each job waits until there are three of them.
        let together = Barrier::new(3);
        let devices = ["a", "b", "c"];
        let work = |_: &u64, device: &&str, _: &dyn Progress| {
            together.wait();
            Ok((*device).to_owned())
        };
        let mut used = share("", &jobs(3), &devices, &NoProgress, work, |_, _| Ok(())).unwrap();
        used.sort();
        assert_eq!(used, devices);
    }

    #[test]
    fn after_a_failure_nothing_is_begun_and_the_rest_stops() {
        let (failed, begun) = (Barrier::new(2), AtomicUsize::new(0));
        let work = |job: &u64, _: &usize, progress: &dyn Progress| {
            begun.fetch_add(1, Ordering::Relaxed);
            failed.wait();
            if *job == 1 {
                return Err(PipelineError::input("broken"));
            }
            while !progress.is_cancelled() {
                std::thread::yield_now();
            }
            Err(PipelineError::Cancelled)
        };
        let result: Result<Vec<()>> = share("", &jobs(20), &[0, 1], &NoProgress, work, |_, ()| Ok(()));
        assert_eq!(result.unwrap_err().to_string(), "broken");
        assert_eq!(begun.into_inner(), 2);
    }

    #[test]
    fn cancelled_work_and_work_without_a_device_are_no_results() {
        let cancel = CancelToken::default();
        let work = |_: &u64, _: &usize, progress: &dyn Progress| {
            cancel.cancel();
            progress.check().map_err(|_| PipelineError::Cancelled)
        };
        for devices in [&[0][..], &[0, 1]] {
            let result = share("", &jobs(5), devices, &cancel, work, |_, ()| Ok(()));
            assert!(matches!(result, Err(PipelineError::Cancelled)));
        }
        let none: [usize; 0] = [];
        let result = share("", &jobs(1), &none, &NoProgress, work, |_, ()| Ok(()));
        assert!(result.unwrap_err().to_string().contains("no device"));
        assert!(
            share("", &jobs(0), &none, &NoProgress, work, |_, ()| Ok(()))
                .unwrap()
                .is_empty()
        );
    }
}
