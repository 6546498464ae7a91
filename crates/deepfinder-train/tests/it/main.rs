//! Whole runs on tiny problems.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deepfinder_core::{NoProgress, Particle, ParticleList, Progress, Volume};
use deepfinder_net::{Metadata, Parametrisation, Precision, Weights};
use deepfinder_train::{
    Augmentation, Ended, EpochMetrics, LossParams, MetricsLine, RunFolder, Schedule, Start, TrainError,
    TrainOutcome, TrainParams, TrainingTomogram, train,
};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod workers;

/// Noise with bright balls of radius 3 (class 1) and dark ones (class 2).
fn balls(seed: u64) -> TrainingTomogram {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let side = 32;
    let mut voxels = Array3::from_shape_fn((side, side, side), |_| rng.random_range(-1.0..1.0f32));
    let mut target = Array3::zeros((side, side, side));
    let mut particles = Vec::new();
    for i in 0..8 {
        // One ball in each octant.
        let [z, y, x] = [4, 2, 1].map(|bit| 8 + 16 * usize::from(i & bit > 0) + rng.random_range(0..5) - 2);
        let label = 1 + (i % 2) as u8;
        particles.push(Particle::new([x as f64, y as f64, z as f64], label));
        for ((k, j, i), class) in target.indexed_iter_mut() {
            if k.abs_diff(z).pow(2) + j.abs_diff(y).pow(2) + i.abs_diff(x).pow(2) <= 9 {
                *class = label;
                voxels[[k, j, i]] += if label == 1 { 3.0 } else { -3.0 };
            }
        }
    }
    TrainingTomogram {
        name: format!("balls {seed}"),
        tomogram: Arc::new(Volume::new(voxels)),
        target: Arc::new(Volume::new(target)),
        particles: ParticleList::from(particles),
    }
}

fn tiny() -> TrainParams {
    TrainParams {
        seed: 5,
        epochs: 4,
        steps_per_epoch: 3,
        batch: 2,
        patch: 8,
        shift: 4,
        warm_up_steps: 4,
        validation_patches: 3,
        log_every_steps: 2,
        // So that a run can be made longer.
        schedule: Schedule::Constant,
        ..TrainParams::default()
    }
}

fn run(
    params: &TrainParams,
    folder: &Path,
    start: Start,
    progress: &dyn Progress,
) -> Result<TrainOutcome, TrainError> {
    let metadata = Metadata::for_classes(["bright", "dark"]);
    let initial = params.parametrisation.initial(3, 1, metadata).unwrap();
    train(
        &[balls(1), balls(2)],
        &[balls(3)],
        initial,
        params,
        &RunFolder::new(folder),
        start,
        progress,
    )
}

/// Cancels once so many iterations are done in all.
struct CancelAfter {
    steps: u64,
    done: AtomicU64,
}

impl CancelAfter {
    fn new(steps: u64) -> Self {
        Self {
            steps,
            done: AtomicU64::new(0),
        }
    }
}

impl Progress for CancelAfter {
    fn begin(&self, _what: &str, _total: u64, _unit: &'static str) {}

    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.steps
    }
}

/// The files of a run: weights, and metrics without the seconds.
fn results(folder: &Path) -> (Vec<u8>, Vec<u8>, Vec<MetricsLine>) {
    let run = RunFolder::new(folder);
    let mut metrics = run.read_metrics().unwrap();
    for line in &mut metrics {
        if let MetricsLine::Epoch(epoch) = line {
            epoch.seconds = 0.0;
        }
    }
    (
        fs::read(run.last_weights()).unwrap(),
        fs::read(run.best_weights()).unwrap(),
        metrics,
    )
}

fn epochs(folder: &Path) -> Vec<EpochMetrics> {
    let lines = RunFolder::new(folder).read_metrics().unwrap();
    let epoch = |line| match line {
        MetricsLine::Epoch(epoch) => Some(epoch),
        MetricsLine::Step(_) => None,
    };
    lines.into_iter().filter_map(epoch).collect()
}

#[test]
fn the_default_recipe_learns() {
    let folder = tempfile::tempdir().unwrap();
    let params = TrainParams {
        epochs: 4,
        steps_per_epoch: 10,
        batch: 2,
        patch: 16,
        shift: 6,
        warm_up_steps: 10,
        validation_patches: 4,
        ..TrainParams::default()
    };
    let outcome = run(&params, &folder.path().join("run"), Start::Fresh, &NoProgress).unwrap();
    assert_eq!(
        (outcome.ended, outcome.epochs, outcome.steps),
        (Ended::Completed, 4, 40)
    );
    let epochs = epochs(&folder.path().join("run"));
    let first = epochs[0].validation.as_ref().unwrap();
    let last = epochs[3].validation.as_ref().unwrap();
    // All background costs about 2, and 0.2 to 0.3 more of cross-entropy.
    assert!(
        last.loss < 1.5 && last.loss < first.loss - 0.5,
        "{first:?} {last:?}"
    );
    assert!(last.mean_f1 > 0.4, "{last:?}");
    assert!(last.accuracy > 0.95, "{last:?}");
}

#[test]
fn in_bf16_the_loss_goes_the_same_way() {
    // Residual kernels learn so fast here that at the default rate the loss jumps, wherever rounding leads it.
    for (parametrisation, learning_rate) in
        [(Parametrisation::Plain, 1e-3), (Parametrisation::Residual, 2e-4)]
    {
        let folder = tempfile::tempdir().unwrap();
        let losses = [Precision::F32, Precision::Bf16].map(|precision| {
            let path = folder.path().join(precision.name());
            let params = TrainParams {
                epochs: 3,
                steps_per_epoch: 10,
                batch: 2,
                patch: 16,
                shift: 6,
                warm_up_steps: 10,
                validation_patches: 4,
                log_every_steps: 1,
                learning_rate,
                parametrisation,
                precision,
                ..TrainParams::default()
            };
            run(&params, &path, Start::Fresh, &NoProgress).unwrap();
            let lines = RunFolder::new(&path).read_metrics().unwrap();
            let of_steps = lines.into_iter().filter_map(|line| match line {
                MetricsLine::Step(step) => Some(step.loss),
                MetricsLine::Epoch(_) => None,
            });
            let steps: Vec<f64> = of_steps.collect();
            (steps, epochs(&path)[2].validation.as_ref().unwrap().loss)
        });
        let [(single, of_single), (half, of_half)] = losses;
        assert!(single.len() == 30 && half.len() == 30);
        assert_ne!(single, half, "another precision");
        for (epoch, (single, half)) in single.chunks(10).zip(half.chunks(10)).enumerate() {
            let [single, half] = [single, half].map(|losses| losses.iter().sum::<f64>() / 10.0);
            assert!(
                (single - half).abs() < 0.05 * single,
                "{parametrisation:?}, epoch {epoch}: {single} and {half}"
            );
        }
        assert!(half[29] < 0.8 * half[0], "it learns: {half:?}");
        assert!(
            (of_single - of_half).abs() < 0.1 * of_single,
            "{parametrisation:?}: {of_single} {of_half}"
        );
    }
}

#[test]
fn a_resumed_run_is_the_straight_one_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let straight = run(&tiny(), &at("straight"), Start::Fresh, &NoProgress).unwrap();
    let expected = results(&at("straight"));
    assert_eq!(
        expected
            .2
            .iter()
            .filter(|line| matches!(line, MetricsLine::Step(_)))
            .count(),
        6
    );

    // Two epochs, then two more, with other threads.
    let mut params = TrainParams { epochs: 2, ..tiny() };
    run(&params, &at("longer"), Start::Fresh, &NoProgress).unwrap();
    params.epochs = 4;
    params.prefetch.workers = 2;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let longer = pool
        .install(|| run(&params, &at("longer"), Start::Resume, &NoProgress))
        .unwrap();
    assert_eq!(results(&at("longer")), expected);
    assert_eq!((longer.epochs, longer.steps, longer.best), (4, 12, straight.best));

    // Cancelled within an epoch, before its validation, and before the first iteration.
    for steps in [4, 6, 0] {
        let path = at(&format!("cancelled {steps}"));
        let cancelled = run(&tiny(), &path, Start::Fresh, &CancelAfter::new(steps)).unwrap();
        assert_eq!((cancelled.ended, cancelled.steps), (Ended::Cancelled, steps));
        let resumed = run(&tiny(), &path, Start::Resume, &NoProgress).unwrap();
        assert_eq!(resumed.ended, Ended::Completed);
        assert_eq!(results(&path), expected);
    }
}

/// Everything that can be switched on, at once.
fn with_all_ingredients() -> TrainParams {
    TrainParams {
        negatives: 0.3,
        mixup: 0.4,
        ema: Some(0.9),
        parametrisation: Parametrisation::Residual,
        augmentation: Augmentation {
            contrast: 0.2,
            brightness: 0.2,
            noise: 0.2,
            blur: 0.7,
            ..Augmentation::default()
        },
        loss: LossParams {
            label_smoothing: 0.1,
            focal: 0.75,
            ..LossParams::default()
        },
        ..tiny()
    }
}

#[test]
fn every_ingredient_resumes_bit_for_bit_and_not_with_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let params = with_all_ingredients();
    run(&params, &at("straight"), Start::Fresh, &NoProgress).unwrap();
    let path = at("cancelled");
    run(&params, &path, Start::Fresh, &CancelAfter::new(4)).unwrap();
    let refused = |change: fn(&mut TrainParams), what: &str| {
        let mut other = with_all_ingredients();
        change(&mut other);
        let error = run(&other, &path, Start::Resume, &NoProgress).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(|p| p.ema = None, "ema was 0.9 and is now null");
    refused(
        |p| p.parametrisation = Parametrisation::Plain,
        "parametrisation was \"Residual\" and is now not there",
    );
    refused(|p| p.mixup = 0.0, "mixup was 0.4 and is now 0");
    refused(|p| p.negatives = 0.0, "negatives was 0.3");
    refused(|p| p.augmentation.blur = 0.0, "augmentation was");
    refused(|p| p.loss.label_smoothing = 0.0, "loss was");
    run(&params, &path, Start::Resume, &NoProgress).unwrap();
    assert_eq!(results(&path), results(&at("straight")));
}

#[test]
fn every_ingredient_alone_changes_what_is_learnt_and_still_learns() {
    let folder = tempfile::tempdir().unwrap();
    let base = TrainParams {
        epochs: 3,
        steps_per_epoch: 10,
        batch: 2,
        patch: 16,
        shift: 6,
        warm_up_steps: 10,
        validation_patches: 4,
        schedule: Schedule::Constant,
        parametrisation: Parametrisation::Plain,
        ..TrainParams::default()
    };
    let all = with_all_ingredients();
    let with = |change: &dyn Fn(&mut TrainParams)| {
        let mut params = base.clone();
        change(&mut params);
        params
    };
    let cases = [
        ("none", base.clone()),
        ("negatives", with(&|p| p.negatives = all.negatives)),
        ("mixup", with(&|p| p.mixup = all.mixup)),
        ("ema", with(&|p| p.ema = all.ema)),
        ("cosine", with(&|p| p.schedule = Schedule::Cosine)),
        ("residual", with(&|p| p.parametrisation = all.parametrisation)),
        ("intensity", with(&|p| p.augmentation = all.augmentation)),
        ("smoothing", with(&|p| p.loss.label_smoothing = 0.1)),
        ("focal", with(&|p| p.loss.focal = 0.75)),
    ];
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for (name, params) in cases {
        let path = folder.path().join(name);
        run(&params, &path, Start::Fresh, &NoProgress).unwrap();
        let epochs = epochs(&path);
        let losses = |of: fn(&EpochMetrics) -> f64| -> [f64; 3] {
            let losses: Vec<f64> = epochs.iter().map(of).collect();
            losses.try_into().unwrap()
        };
        let [first, _, last] = losses(|epoch| epoch.training.loss);
        assert!(last < 0.9 * first, "{name}: {first} {last}");
        // Of four patches, which goes up and down.
        let [first, second, last] = losses(|epoch| epoch.validation.as_ref().unwrap().loss);
        assert!(second.min(last) < 0.9 * first, "{name}: {first} {second} {last}");
        let weights = fs::read(RunFolder::new(&path).last_weights()).unwrap();
        assert!(!seen.contains(&weights), "{name} changes nothing");
        seen.push(weights);
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let files = RunFolder::new(&path);
    run(&tiny(), &path, Start::Fresh, &NoProgress).unwrap();
    let expected = results(&path);

    // Killed while it wrote the checkpoint of the last epoch.
    let checkpoint = fs::read(files.checkpoint()).unwrap();
    fs::write(files.checkpoint(), &checkpoint[..checkpoint.len() / 2]).unwrap();
    run(&tiny(), &path, Start::Resume, &NoProgress).unwrap();
    assert_eq!(results(&path), expected);

    // Killed between the two renamings, while it wrote a line.
    fs::remove_file(files.checkpoint()).unwrap();
    let mut metrics = fs::read(files.metrics()).unwrap();
    metrics.extend(b"{\"kind\":\"st");
    fs::write(files.metrics(), metrics).unwrap();
    assert_eq!(results(&path).2, expected.2);
    run(&tiny(), &path, Start::Resume, &NoProgress).unwrap();
    assert_eq!(results(&path), expected);

    fs::write(files.checkpoint(), b"garbage").unwrap();
    fs::write(files.previous_checkpoint(), b"garbage").unwrap();
    let message = run(&tiny(), &path, Start::Resume, &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("is damaged") && message.contains("checkpoint.safetensors"),
        "{message}"
    );
}

#[test]
fn runs_are_neither_overwritten_nor_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let params = TrainParams { epochs: 1, ..tiny() };

    let nothing = run(&params, &path, Start::Resume, &NoProgress).unwrap_err();
    assert!(nothing.to_string().contains("no checkpoint"), "{nothing}");
    assert!(!path.exists());

    run(&params, &path, Start::Fresh, &NoProgress).unwrap();
    let before = results(&path);
    let again = run(&params, &path, Start::Fresh, &NoProgress).unwrap_err();
    assert!(matches!(again, TrainError::RunExists { .. }), "{again}");

    let other = TrainParams { batch: 3, ..params };
    let mixed = run(&other, &path, Start::Resume, &NoProgress).unwrap_err();
    assert!(mixed.to_string().contains("batch was 2 and is now 3"), "{mixed}");
    assert_eq!(results(&path), before);
}

#[test]
fn it_stops_when_nothing_improves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let params = TrainParams {
        // Far below the last bit of the weights.
        learning_rate: 1e-30,
        patience: Some(2),
        epochs: 9,
        steps_per_epoch: 1,
        ..tiny()
    };
    let outcome = run(&params, &path, Start::Fresh, &NoProgress).unwrap();
    assert_eq!((outcome.ended, outcome.epochs), (Ended::NoImprovement, 3));
    let best: Vec<bool> = epochs(&path).iter().map(|epoch| epoch.best).collect();
    assert_eq!(best, [true, false, false]);
    assert_eq!(outcome.best.unwrap().epoch, 1);

    let resumed = run(&params, &path, Start::Resume, &NoProgress).unwrap();
    assert_eq!((resumed.ended, resumed.epochs), (Ended::NoImprovement, 3));
}

#[test]
fn divergence_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let params = TrainParams {
        learning_rate: 1e30,
        warm_up_steps: 0,
        ..tiny()
    };
    let error = run(&params, &folder.path().join("run"), Start::Fresh, &NoProgress).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert!(error.to_string().contains("lower learning rate"));
}

#[test]
fn bad_data_stop_the_run_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut voxels = Array3::zeros((8, 8, 8));
    voxels[[1, 2, 3]] = f32::NAN;
    let tomogram = TrainingTomogram {
        name: "broken".to_owned(),
        tomogram: Arc::new(Volume::new(voxels)),
        target: Arc::new(Volume::new(Array3::zeros((8, 8, 8)))),
        particles: ParticleList::from(vec![Particle::new([4.0; 3], 1)]),
    };
    let initial = Weights::initial(2, 1, Metadata::default()).unwrap();
    let run = RunFolder::new(folder.path().join("run"));
    let error = train(
        &[tomogram],
        &[],
        initial,
        &tiny(),
        &run,
        Start::Fresh,
        &NoProgress,
    )
    .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("`broken`") && message.contains("[3, 2, 1]"),
        "{message}"
    );
}
