//! One of those that share the batches of a training: a network that learns on a device, from its part of each batch.

use std::sync::mpsc::Receiver;

use candle_conv3d::Transfers;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use deepfinder_net::{Learner, Weights};

use crate::exchange::Exchange;
use crate::grading::Graded;
use crate::params::wrong;
use crate::resident::Patches;
use crate::train::PhaseTimes;
use crate::{Adam, AdamMoments, Result, TrainError, TrainParams};

/// A network that learns. All workers' networks are the same after every iteration.
pub(crate) struct Worker<'a> {
    params: &'a TrainParams,
    pub(crate) device: Device,
    pub(crate) transfers: Transfers,
    pub(crate) learner: Learner,
    pub(crate) adam: Adam,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(initial: &Weights, params: &'a TrainParams, device: &Device) -> Result<Self> {
        let learner = Learner::new(initial, params.parametrisation, device)?.with_precision(params.precision);
        Ok(Self {
            params,
            device: device.clone(),
            transfers: Transfers::new(device),
            adam: Adam::new(learner.variables().to_vec(), params.adam)?,
            learner,
        })
    }

    /// The same on another device, with all that it has learnt so far.
    pub(crate) fn copied_to(&self, initial: &Weights, device: &Device) -> Result<Self> {
        // Through the processor's memory, which every pair of devices knows.
        let here = |tensor: &Tensor| tensor.to_device(&Device::Cpu);
        let mut other = Self::new(initial, self.params, device)?;
        for ((_, to), (_, from)) in other.learner.variables().iter().zip(self.learner.variables()) {
            to.set(&here(&from.as_detached_tensor())?.to_device(device)?)?;
        }
        other.learner.refresh()?;
        let moments = self.adam.moments().map(|(name, moments)| {
            let moments = AdamMoments {
                first: here(&moments.first)?,
                second: here(&moments.second)?,
            };
            Ok((name.to_owned(), moments))
        });
        let moments = moments.collect::<Result<_>>()?;
        other.adam.restore(self.adam.steps(), moments)?;
        Ok(other)
    }

    /// An iteration of this number, from 0, on the next patches. Gives what there is to tell of the whole batch, as
    /// [`Graded::row`] does.
    pub(crate) fn step(
        &mut self,
        patches: &mut Patches<'_>,
        step: u64,
        exchange: &dyn Exchange,
        times: &mut PhaseTimes,
    ) -> Result<[Tensor; 3]> {
        let transfers = &self.transfers;
        let examples = PhaseTimes::measured(&mut times.waiting, || patches.next(transfers))?;
        let trace = PhaseTimes::measured(&mut times.forward, || self.learner.net().trace(&examples.input))?;
        let graded = PhaseTimes::measured(&mut times.loss, || {
            Graded::of(trace.logits(), &examples, &self.params.loss, exchange)
        })?;
        let learner = &self.learner;
        let gradients = PhaseTimes::measured(&mut times.backward, || {
            let mut gradients = graded.backward(trace)?;
            add_up(&mut gradients, learner.tensors(), exchange)?;
            learner.chain(&mut gradients)?;
            Ok::<_, TrainError>(gradients)
        })?;
        let learning_rate = self.params.learning_rate_at(step);
        let clip = self.params.clip.unwrap_or(f64::INFINITY);
        let adam = &mut self.adam;
        let norm = PhaseTimes::measured(&mut times.update, || {
            let norm = adam.clipped_step(&gradients, &graded.loss, learning_rate, clip)?;
            learner.refresh()?;
            Ok::<_, TrainError>(norm)
        })?;
        times.voxels += (self.params.batch * self.params.patch.pow(3)) as u64;
        Ok(graded.row(&norm))
    }

    /// Learns for as long as it gets turns, from that iteration on.
    pub(crate) fn follow(
        mut self,
        mut patches: Patches<'_>,
        first: u64,
        turns: &Receiver<()>,
        exchange: &dyn Exchange,
    ) -> Result<()> {
        let mut times = PhaseTimes::default();
        for (step, ()) in (first..).zip(turns) {
            self.step(&mut patches, step, exchange, &mut times)?;
        }
        Ok(())
    }
}

/// Makes of each tensor's gradient by a worker's share the one by the whole batch.
fn add_up(gradients: &mut GradStore, tensors: &[(String, Var)], exchange: &dyn Exchange) -> Result<()> {
    let own = tensors.iter().map(|(name, tensor)| {
        let gradient = gradients.remove(tensor.as_tensor());
        gradient.ok_or_else(|| wrong("loss", format!("does not depend on `{name}`")))
    });
    let own = own.collect::<Result<Vec<_>>>()?;
    for ((_, tensor), sum) in tensors.iter().zip(exchange.sum(own)?) {
        gradients.insert(tensor.as_tensor(), sum);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use deepfinder_core::{Particle, ParticleList, Volume};
    use deepfinder_net::Metadata;
    use ndarray::Array3;

    use super::*;
    use crate::TrainingTomogram;
    use crate::batch::BatchSource;
    use crate::exchange::{Seat, among};
    use crate::prefetch::BatchStream;
    use crate::sampler::Purpose;

    fn bits(worker: &Worker<'_>) -> Vec<Vec<u32>> {
        let moments = worker.adam.moments().map(|(_, moments)| moments.second);
        let tensors = worker.learner.tensors().iter();
        let tensors = tensors.map(|(_, tensor)| tensor.as_detached_tensor());
        let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        tensors
            .chain(moments)
            .map(|tensor| values(tensor).into_iter().map(f32::to_bits).collect())
            .collect()
    }

    /// What workers come to that all begin as that one, in some iterations.
    fn learn<'a>(
        from: &Worker<'a>,
        initial: &Weights,
        source: &BatchSource<'_>,
        workers: usize,
        steps: &Range<u64>,
    ) -> Vec<Worker<'a>> {
        let sources: Vec<_> = (0..workers).map(|rank| source.of_worker(rank, workers)).collect();
        let exchanges = among(&vec![Device::Cpu; workers]).unwrap();
        let prefetch = from.params.prefetch;
        std::thread::scope(|scope| {
            let threads: Vec<_> = sources
                .iter()
                .zip(exchanges)
                .map(|(source, exchange)| {
                    let mut worker = from.copied_to(initial, &Device::Cpu).unwrap();
                    assert_eq!(bits(&worker), bits(from));
                    scope.spawn(move || {
                        let seat = Seat::new(exchange);
                        let stream = BatchStream::start(scope, source, steps.clone(), prefetch);
                        let mut patches = Patches::Read(stream);
                        for step in steps.clone() {
                            let mut times = PhaseTimes::default();
                            let row = worker.step(&mut patches, step, &*seat, &mut times);
                            seat.settle(row).unwrap();
                        }
                        worker
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn workers_stay_the_same_bit_for_bit() {
        let voxels = Array3::from_shape_fn((16, 16, 16), |(z, y, x)| ((z * 7 + y * 5 + x * 3) % 11) as f32);
        let tomograms = [TrainingTomogram {
            name: "t1".to_owned(),
            target: Arc::new(Volume::new(voxels.mapv(|voxel| voxel as u8 % 3))),
            tomogram: Arc::new(Volume::new(voxels)),
            particles: ParticleList::from(vec![Particle::new([8.0; 3], 1)]),
        }];
        let params = TrainParams {
            patch: 8,
            batch: 5,
            mixup: 0.4,
            ..TrainParams::default()
        };
        let initial = params.parametrisation.initial(3, 2, Metadata::default()).unwrap();
        let source = BatchSource::new(&tomograms, Purpose::Training, &params, 3).unwrap();
        let first = Worker::new(&initial, &params, &Device::Cpu).unwrap();
        let three = learn(&first, &initial, &source, 3, &(0..3));
        assert_ne!(bits(&three[0]), bits(&first));
        assert!(three.iter().all(|worker| bits(worker) == bits(&three[0])));
        assert_eq!(three[2].adam.steps(), 3);
        // A copy of what has learnt goes on as that does.
        let on = learn(&three[1], &initial, &source, 2, &(3..4));
        assert!(on[1].adam.steps() == 4 && bits(&on[0]) == bits(&on[1]));
    }
}
