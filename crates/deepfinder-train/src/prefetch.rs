//! Threads that read batches ahead, each into a bounded channel of its own: the order is fixed, the memory bounded.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use crate::batch::{Batch, BatchSource};
use crate::{Prefetch, Result, TrainError};

/// Batches of consecutive iterations. Dropping it ends the threads.
#[derive(Debug)]
pub(crate) struct BatchStream {
    /// Worker `w` makes every `workers`-th batch from the `w`-th on.
    workers: Vec<Receiver<Result<Batch>>>,
    taken: usize,
}

impl BatchStream {
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        source: &'scope BatchSource<'_>,
        steps: Range<u64>,
        prefetch: Prefetch,
    ) -> Self {
        let workers = (0..prefetch.workers)
            .map(|worker| {
                let steps = steps.clone().skip(worker).step_by(prefetch.workers);
                let (sender, receiver) = sync_channel(prefetch.batches);
                scope.spawn(move || {
                    for step in steps {
                        let batch = source.batch(step);
                        let failed = batch.is_err();
                        // An error on sending: nobody listens any more.
                        if sender.send(batch).is_err() || failed {
                            break;
                        }
                    }
                });
                receiver
            })
            .collect();
        Self { workers, taken: 0 }
    }

    /// The batch of the next iteration.
    pub(crate) fn next(&mut self) -> Result<Batch> {
        let worker = self.taken % self.workers.len();
        self.taken += 1;
        self.workers[worker].recv().map_err(|_| TrainError::Worker)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deepfinder_core::{Particle, ParticleList, Volume};
    use ndarray::Array3;

    use super::*;
    use crate::sampler::Purpose;
    use crate::{TrainParams, TrainingTomogram};

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads() {
        let voxels = Array3::from_shape_fn((16, 16, 16), |(z, y, x)| (z * y + 3 * x) as f32);
        let tomograms = [TrainingTomogram {
            name: "t1".to_owned(),
            tomogram: Arc::new(Volume::new(voxels)),
            target: Arc::new(Volume::new(Array3::zeros((16, 16, 16)))),
            particles: ParticleList::from(vec![Particle::new([8.0; 3], 1)]),
        }];
        let params = TrainParams {
            patch: 8,
            batch: 2,
            ..TrainParams::default()
        };
        let source = BatchSource::new(&tomograms, Purpose::Training, &params, 2).unwrap();
        for (workers, batches) in [(1, 1), (3, 2)] {
            std::thread::scope(|scope| {
                let prefetch = Prefetch { workers, batches };
                let mut stream = BatchStream::start(scope, &source, 5..12, prefetch);
                for step in 5..12 {
                    assert_eq!(stream.next().unwrap(), source.batch(step).unwrap());
                }
                assert!(stream.next().is_err());
                // Left before its end: the threads stop.
                BatchStream::start(scope, &source, 0..u64::MAX, prefetch)
                    .next()
                    .unwrap();
            });
        }
    }
}
