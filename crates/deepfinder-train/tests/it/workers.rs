//! Trainings that several workers share, threads of the processor here: what one alone learns, but for rounding.

use candle_core::Device;
use deepfinder_core::{CoreError, Region, VolumeReader, VoxelSize};
use deepfinder_train::train_on;
use proptest::prelude::*;

use super::*;

fn processors(workers: usize) -> Vec<Device> {
    vec![Device::Cpu; workers]
}

fn initial(params: &TrainParams) -> Weights {
    let metadata = Metadata::for_classes(["bright", "dark"]);
    params.parametrisation.initial(3, 1, metadata).unwrap()
}

fn shared(
    workers: usize,
    params: &TrainParams,
    folder: &Path,
    start: Start,
    progress: &dyn Progress,
) -> Result<TrainOutcome, TrainError> {
    train_on(
        &processors(workers),
        &[balls(1), balls(2)],
        &[balls(3)],
        initial(params),
        params,
        &RunFolder::new(folder),
        start,
        progress,
    )
}

/// Five patches, which two or three cannot share alike; losses and gradients of every iteration.
fn short() -> TrainParams {
    TrainParams {
        epochs: 1,
        batch: 5,
        log_every_steps: 1,
        ..tiny()
    }
}

/// Loss and norm of the gradient of each iteration, then loss and F1 of each validation.
fn course(folder: &Path) -> Vec<f64> {
    let lines = RunFolder::new(folder).read_metrics().unwrap();
    let numbers = lines.into_iter().flat_map(|line| match line {
        MetricsLine::Step(step) => [step.loss, step.gradient_norm],
        MetricsLine::Epoch(epoch) => {
            let validation = epoch.validation.unwrap();
            [validation.loss, epoch.training.loss]
        }
    });
    numbers.collect()
}

/// How far weights have gone apart, as a part of how far they have moved.
fn apart(one: &TrainOutcome, other: &TrainOutcome, params: &TrainParams) -> f64 {
    let square = |a: &Weights, b: &Weights| -> f64 {
        let pairs = a.tensors().iter().map(|(name, tensor)| {
            let difference = (tensor - &b.tensors()[name])
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap();
            f64::from(difference.to_scalar::<f32>().unwrap())
        });
        pairs.sum()
    };
    let moved = square(&one.weights, &initial(params));
    assert!(moved > 0.0);
    (square(&one.weights, &other.weights) / moved).sqrt()
}

/// Of the first iteration, before any weight has moved: sums of f32 in another order.
const FIRST_TOLERANCE: f64 = 2e-5;
/// Of what follows: where a gradient is all but 0, Adam makes as long a step of what is left of rounding, to either side.
const LATER_TOLERANCE: f64 = 1e-2;
/// Of weights, likewise.
const WEIGHT_TOLERANCE: f64 = 5e-2;

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Loss and gradient of an iteration.
        let tolerance = if index < 2 {
            FIRST_TOLERANCE
        } else {
            LATER_TOLERANCE
        };
        assert!(
            (found - expected).abs() <= tolerance * expected.abs().max(1.0),
            "{what}, {index}: {found} {expected}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn workers_learn_together_what_one_learns_alone(
        seed in 0u64..1000,
        workers in 2usize..4,
        batch in 3usize..6,
        all: bool,
        clip in prop_oneof![Just(None), Just(Some(0.3))],
        dice: bool,
    ) {
        let base = if all { with_all_ingredients() } else { tiny() };
        let mut params = TrainParams { seed, batch, clip, ..base };
        (params.epochs, params.log_every_steps) = (1, 1);
        if dice {
            params.loss.cross_entropy_weight = 0.0;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let alone = shared(1, &params, &at("alone"), Start::Fresh, &NoProgress).unwrap();
        let together = shared(workers, &params, &at("together"), Start::Fresh, &NoProgress).unwrap();
        prop_assert_eq!((together.ended, together.steps), (alone.ended, alone.steps));
        assert_close(&course(&at("together")), &course(&at("alone")), "losses");
        let apart = apart(&alone, &together, &params);
        prop_assert!(apart < WEIGHT_TOLERANCE, "{apart}");
        prop_assert!(apart > 0.0, "other sums, other bits");
    }
}

#[test]
fn what_is_shared_is_the_same_bit_for_bit_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let params = TrainParams {
        epochs: 1,
        batch: 5,
        ..with_all_ingredients()
    };
    shared(3, &params, &at("first"), Start::Fresh, &NoProgress).unwrap();
    let expected = results(&at("first"));
    // With other threads, and cancelled on the way.
    let path = at("second");
    let mut other = params.clone();
    other.prefetch.workers = 2;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let cancelled = pool.install(|| shared(3, &other, &path, Start::Fresh, &CancelAfter::new(2)));
    let cancelled = cancelled.unwrap();
    assert_eq!((cancelled.ended, cancelled.steps), (Ended::Cancelled, 2));
    shared(3, &params, &path, Start::Resume, &NoProgress).unwrap();
    assert_eq!(results(&path), expected);
}

#[test]
fn a_run_goes_on_with_another_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let params = short();
    let straight = folder.path().join("straight");
    let expected = shared(1, &params, &straight, Start::Fresh, &NoProgress).unwrap();
    for (first, then, steps) in [(1, 3, 1), (3, 2, 2), (2, 1, 0)] {
        let path = folder.path().join(format!("{first} {then}"));
        let cancelled = shared(first, &params, &path, Start::Fresh, &CancelAfter::new(steps)).unwrap();
        assert_eq!((cancelled.ended, cancelled.steps), (Ended::Cancelled, steps));
        let resumed = shared(then, &params, &path, Start::Resume, &NoProgress).unwrap();
        assert_eq!((resumed.ended, resumed.steps), (Ended::Completed, 3));
        assert_close(&course(&path), &course(&straight), "resumed");
        assert!(apart(&expected, &resumed, &params) < WEIGHT_TOLERANCE);
    }
}

#[test]
fn a_batch_must_have_a_patch_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let message = shared(3, &tiny(), &path, Start::Fresh, &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`batch`: has 2 patches, and 3 devices share it"),
        "{message}"
    );
    let none = shared(0, &tiny(), &path, Start::Fresh, &NoProgress).unwrap_err();
    assert!(none.to_string().contains("at least one"), "{none}");
    assert!(!path.exists());
    // One patch for each is enough.
    let two = shared(
        2,
        &TrainParams { epochs: 1, ..tiny() },
        &path,
        Start::Fresh,
        &NoProgress,
    );
    assert_eq!(two.unwrap().steps, 3);
}

/// Voxels that cannot be read from some time on.
struct Torn<T>(Arc<dyn VolumeReader<T>>, AtomicU64);

impl<T: Send + Sync> VolumeReader<T> for Torn<T> {
    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        self.0.voxel_size()
    }

    fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<T>> {
        match self
            .1
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            Ok(_) => self.0.read_window(region),
            Err(_) => Err(CoreError::Stream {
                what: "the file".to_owned(),
                source: "it is cut off".into(),
            }),
        }
    }
}

#[test]
fn whoever_fails_ends_the_training_with_its_error() {
    // Whose patch it is that cannot be read, the leader's or another's, differs from number to number.
    for reads in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let whole = balls(1);
        let tomogram = TrainingTomogram {
            name: "torn".to_owned(),
            tomogram: Arc::new(Torn(Arc::clone(&whole.tomogram), AtomicU64::new(reads))),
            ..whole
        };
        let params = short();
        let error = train_on(
            &processors(3),
            &[tomogram],
            &[],
            initial(&params),
            &params,
            &RunFolder::new(&path),
            Start::Fresh,
            &NoProgress,
        )
        .unwrap_err();
        assert!(
            matches!(&error, TrainError::Read { tomogram, .. } if tomogram == "torn"),
            "{reads}: {error}"
        );
        // The checkpoint is still that of the start, or of an epoch.
        let resumed = shared(1, &short(), &path, Start::Resume, &NoProgress).unwrap_err();
        assert!(matches!(resumed, TrainError::ResumeMismatch { .. }), "{resumed}");
    }
}

#[test]
fn divergence_ends_all_workers() {
    let folder = tempfile::tempdir().unwrap();
    let params = TrainParams {
        learning_rate: 1e30,
        warm_up_steps: 0,
        ..short()
    };
    let step = |workers: usize| {
        let path = folder.path().join(workers.to_string());
        match shared(workers, &params, &path, Start::Fresh, &NoProgress).unwrap_err() {
            TrainError::Diverged { step, .. } => step,
            other => panic!("{other}"),
        }
    };
    assert_eq!(step(3), step(1));
}
