//! Accuracy by one command: simulate, train, segment, pick, score, beside template matching.

mod figures;
mod matching;
mod methods;
mod recipe_report;
mod recipes;
mod report;
mod seeds;
mod size;

use std::path::{Path, PathBuf};

use candle_core::Device;
use deepfinder_core::Progress;
use deepfinder_io::write_file_atomically;
use deepfinder_sim::SimParams;

use crate::simulate::{SimulateJob, simulate_project};
use crate::stamps::Stamps;
use crate::{PROJECT_FILE, PipelineError, Precision, Project, Result, Split};

pub use recipe_report::{RecipeRow, RecipeRun, RecipesReport};
pub use recipes::{Looking, Recipe, bench_recipes};
pub use report::{AccuracyReport, ClassScores, CurvePoint, MethodScores, ParticleClass, SizeGroup};
pub use seeds::{AccuracyOverSeeds, bench_accuracy_over_seeds};
pub use size::AccuracySize;

/// An accuracy benchmark.
#[derive(Debug, Clone)]
pub struct AccuracyJob {
    /// Folder of everything it makes; what is there already and made from the same is not made again.
    pub folder: PathBuf,
    /// How large.
    pub size: AccuracySize,
    /// Seed of everything random.
    pub seed: u64,
    /// Published weights to set beside; their classes are those of SHREC'19.
    pub published: Option<PathBuf>,
    /// What networks compute with. What was made with another is not made anew.
    pub precision: Precision,
}

/// Measures how well particles are found in simulated tomograms: by networks that learnt from the particles' shapes, from
/// spheres, from points, and one class at a time, by template matching, and by published weights where they are given.
///
/// All methods look for the same particles in the same tomogram, which none has seen. What each needs to choose is chosen
/// on the validation tomogram: the best epoch of a network, the threshold of each template. The folder then holds
/// `accuracy.json`, `accuracy.md` and three figures, written after each method, so that a benchmark that is cut short says what
/// it has measured; it goes on where it stopped. Each method's project stands in a folder of its own.
///
/// # Errors
/// Where the folder holds something else or cannot be written, and as the stages.
pub fn bench_accuracy(job: &AccuracyJob, device: &Device, progress: &dyn Progress) -> Result<AccuracyReport> {
    let mut bench = Bench::begin(job, device, progress)?;
    bench.measure(|report| write_report(&job.folder, report))
}

fn write_report(folder: &Path, report: &AccuracyReport) -> Result<()> {
    let write = |name: &str, text: &str| write_file_atomically(&folder.join(name), text.as_bytes());
    let json =
        serde_json::to_string_pretty(report).map_err(|error| PipelineError::input(error.to_string()))?;
    write("accuracy.json", &json)?;
    write("accuracy.md", &report.to_markdown())?;
    write(
        "accuracy.svg",
        &figures::classes_svg(std::slice::from_ref(report))?,
    )?;
    if !report.training_size.is_empty() {
        let points = report.training_size.iter().map(|point| (point.at, point.mean_f1));
        let svg = figures::curve_svg("particles to learn from", "mean F1 of the classes", points)?;
        write("training-size.svg", &svg)?;
    }
    if !report.iterations.is_empty() {
        let points = report.iterations.iter().map(|point| (point.at, point.mean_f1));
        let svg = figures::curve_svg(
            "iterations",
            "mean F1 of the classes (voxels, validation)",
            points,
        )?;
        write("iterations.svg", &svg)?;
    }
    Ok(())
}

/// A benchmark under way.
struct Bench<'a> {
    job: &'a AccuracyJob,
    /// The simulated tomograms, with the true shapes as targets.
    data: Project,
    stamps: Stamps,
    device: &'a Device,
    progress: &'a dyn Progress,
}

/// The simulated tomograms: those of the folder, where they are what is asked for.
fn simulated(job: &AccuracyJob, progress: &dyn Progress) -> Result<Project> {
    const REQUEST: &str = "simulated.txt";
    let folder = job.folder.join("data");
    let params = SimParams {
        shape: job.size.shape,
        particles_per_class: job.size.particles_per_class,
        crowders: job.size.crowders,
        membranes: job.size.membranes,
        gold_beads: job.size.gold_beads,
        seed: job.seed,
        ..SimParams::default()
    };
    let simulate = SimulateJob {
        training: job.size.training,
        validation: 1,
        // Far from the seed of any tomogram that is looked into.
        training_seed: job.seed.wrapping_add(1 << 32),
        classes: job.size.classes.clone(),
        microscope: Some(job.size.microscope.clone()),
        ..SimulateJob::new(&folder, params)
    };
    let request = format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n",
        simulate.params, simulate.classes, simulate.microscope, simulate.training
    );
    let mark = folder.join(REQUEST);
    match std::fs::read_to_string(&mark) {
        Ok(made) if made == request => return Project::read(&folder),
        Ok(_) => {
            return Err(PipelineError::input(format!(
                "{}: it holds a benchmark of another size or seed; choose another folder, nothing was changed",
                job.folder.display()
            )));
        }
        // Cut short before all was there: what it made is made again.
        Err(_) if folder.join(PROJECT_FILE).exists() => remove(&folder.join(PROJECT_FILE))?,
        Err(_) => {}
    }
    simulate_project(&simulate, progress)?;
    write_file_atomically(&mark, request.as_bytes())?;
    Project::read(&folder)
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path)
        .map_err(|source| PipelineError::file(path, "the file cannot be removed", source))
}

impl<'a> Bench<'a> {
    /// With the simulated tomograms: those of the folder, or new ones.
    fn begin(job: &'a AccuracyJob, device: &'a Device, progress: &'a dyn Progress) -> Result<Self> {
        Ok(Self {
            job,
            data: simulated(job, progress)?,
            stamps: Stamps::read(&job.folder, &job.folder),
            device,
            progress,
        })
    }

    /// The one tomogram of a split.
    fn tomogram(&self, split: Split) -> Result<&crate::ProjectTomogram> {
        self.data.tomograms_for(split).next().ok_or_else(|| {
            PipelineError::input("the benchmark's project lacks a tomogram: remove its folder")
        })
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0_f64), |(sum, count), value| (sum + value, count + 1.0));
    sum / count.max(1.0)
}

/// Mean and standard deviation (of a sample) as a cell of a table.
fn spread(values: &[f64], decimals: usize, signed: bool) -> String {
    if values.is_empty() {
        return "–".to_owned();
    }
    let centre = mean(values.iter().copied());
    let shown = if signed {
        format!("{centre:+.decimals$}")
    } else {
        format!("{centre:.decimals$}")
    };
    if values.len() == 1 {
        return shown;
    }
    format!("{shown} ± {:.decimals$}", deviation(values))
}

/// Standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values.iter().copied());
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::TemplateSource;
    use deepfinder_core::NoProgress;

    /// A benchmark that ends in seconds and learns nothing.
    pub(crate) fn tiny(folder: &Path) -> AccuracyJob {
        let small = AccuracySize::small();
        AccuracyJob {
            folder: folder.to_owned(),
            size: AccuracySize {
                name: "tiny".to_owned(),
                shape: [20, 24, 28],
                classes: vec![TemplateSource::built_in("3h84")],
                particles_per_class: 1,
                crowders: 0,
                training: 1,
                fewer: Vec::new(),
                train: crate::TrainSettings {
                    epochs: Some(1),
                    steps_per_epoch: Some(2),
                    batch: Some(1),
                    patch: Some(8),
                    ..small.train
                },
                single_class_epochs: 1,
                match_step_degrees: 90.0,
                ..small
            },
            seed: 5,
            published: None,
            precision: Precision::default(),
        }
    }

    #[test]
    fn a_benchmark_scores_every_method_and_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let job = tiny(folder.path());
        let run = |job: &AccuracyJob| bench_accuracy(job, &Device::Cpu, &NoProgress);
        let report = run(&job).unwrap();
        let names: Vec<&str> = report.methods.iter().map(|method| method.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "multi-class, shapes",
                "multi-class, spheres",
                "multi-class, points",
                "template matching",
                "templates in competition",
                "one class at a time"
            ]
        );
        for method in &report.methods {
            assert!(method.classes.len() == 1 && method.classes.iter().all(Option::is_some));
        }
        // One tomogram of one particle.
        let sizes: Vec<f64> = report.training_size.iter().map(|point| point.at).collect();
        assert_eq!((sizes, report.iterations.len()), (vec![1.0], 1));
        let modified = |name: &str| {
            let file = folder.path().join(name);
            std::fs::metadata(&file).unwrap().modified().unwrap()
        };
        let products = [
            "data/tomo1.mrc",
            "shapes/output/train/best.safetensors",
            "spheres/output/targets/tomo1.mrc",
            "only-3h84/output/labels/tomo3.mrc",
            "matching/3h84_test.xml",
        ];
        let before = products.map(modified);
        let again = run(&job).unwrap();
        assert_eq!(products.map(modified), before, "nothing was made again");
        let json = |report: &AccuracyReport| serde_json::to_value(report).unwrap();
        assert_eq!(json(&again), json(&report));
        for name in [
            "accuracy.json",
            "accuracy.md",
            "accuracy.svg",
            "training-size.svg",
            "iterations.svg",
        ] {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        let other = AccuracyJob { seed: 6, ..job };
        let error = run(&other).unwrap_err().to_string();
        assert!(error.contains("another size or seed"), "{error}");
    }
}
