use std::path::{Path, PathBuf};

use candle_core::Device;
use deepfinder_core::Progress;
use deepfinder_io::write_file_atomically;
use deepfinder_net::Precision;
use deepfinder_train::{Ended, RunFolder, Start};
use serde::Serialize;

use crate::evaluate::{EvaluateJob, EvaluatedPair, Evaluation, evaluate_lists, params, pooled};
use crate::project_jobs::{
    all_weights, evaluated_pairs, labels_path, pick_job, picks_path, segment_job, slices_path, target_job,
    thresholds_path, untuned_pick_job, weights_path,
};
use crate::slices::SlicesPicture;
use crate::stamps::{Stamp, Stamps};
use crate::thresholds::{Thresholds, without_thresholds};
use crate::train::{
    annotated_particles, check_devices, nothing_to_train_on, target_path, tomogram_options, train_params,
};
use crate::{
    Model, PipelineError, Project, ProjectTomogram, Result, SegmentJob, Split, TrainPlan, TrainSettings,
    find_particles, make_target, open_label_map, open_tomogram, pick_particles, segment_tomograms,
};

/// How to run a project.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Do everything anew.
    pub fresh: bool,
    /// Do nothing, only say what would be done.
    pub dry_run: bool,
    /// Go on although a model learned from another voxel size.
    pub force: bool,
    /// What networks compute with. What was made with another is not made anew.
    pub precision: Precision,
}

/// A stage of a run.
#[derive(Debug, Clone, Serialize)]
pub struct StageReport {
    /// `target`, `train`, `segment`, `tune`, `pick` or `evaluate`.
    pub stage: &'static str,
    /// What it worked on: a tomogram's name, or the project.
    pub subject: String,
    /// What it made.
    pub product: PathBuf,
    /// Whether it was up to date already.
    pub skipped: bool,
}

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    /// Its stages, in order.
    pub stages: Vec<StageReport>,
    /// The scores of the test tomograms that have annotations.
    pub evaluation: Option<Evaluation>,
}

/// Does all stages of a project: targets, training, segmentation, picking (with thresholds tuned before, where the project
/// says so), evaluation. What is up to date is skipped;
/// an interrupted training goes on where it stopped. Several devices share each batch of the training; tomograms are segmented on
/// all of them, each on the next that is free.
///
/// # Errors
/// As the stages. What was done until then stays, and is skipped the next time.
pub fn run_project(
    project: &Project,
    options: RunOptions,
    devices: &[Device],
    progress: &dyn Progress,
) -> Result<RunSummary> {
    let mut run = Run::begin(project, options)?;
    if project.segment.weights.is_none() {
        let annotated = project.tomograms_for_training();
        for tomogram in annotated.filter(|tomogram| tomogram.target.is_none()) {
            run.target(tomogram, progress)?;
        }
        run.train(devices, progress)?;
    }
    if project.pick.tuned {
        run.tune(devices, progress)?;
    }
    let mut evaluated = Vec::new();
    let tomograms: Vec<_> = project.tomograms_for(Split::Test).collect();
    run.segment(&tomograms, devices, progress)?;
    for tomogram in tomograms {
        let labels = labels_path(project, tomogram);
        let picks = run.pick(tomogram, &labels, progress)?;
        if tomogram.picks.is_some() {
            evaluated.push((tomogram, picks));
        }
    }
    let evaluation = if evaluated.is_empty() {
        None
    } else {
        run.evaluate(&evaluated)?
    };
    Ok(RunSummary {
        stages: run.stages,
        evaluation,
    })
}

/// A stage of a project that can be asked for by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The target of the tomogram of that name.
    Target(String),
    /// Training: begun, or gone on with where it was stopped.
    Train,
    /// Segmentation of the tomogram of that name.
    Segment(String),
    /// Picking in the label or score maps of the tomogram of that name.
    Pick(String),
}

/// Does one stage of a project; what a whole run does with it later is skipped where nothing has changed.
///
/// # Errors
/// As the stage; where the project has no such tomogram, or what the stage works on is not there.
pub fn run_stage(
    project: &Project,
    stage: &Stage,
    options: RunOptions,
    devices: &[Device],
    progress: &dyn Progress,
) -> Result<RunSummary> {
    let mut run = Run::begin(project, options)?;
    match stage {
        Stage::Target(name) => run.target(project.tomogram(name)?, progress)?,
        Stage::Train => run.train(devices, progress)?,
        Stage::Segment(name) => {
            let weights = weights_path(project);
            if !weights.is_file() {
                return Err(PipelineError::input(format!(
                    "{}: there are no weights to segment with: train first, or name some as `weights` of [segment]",
                    weights.display()
                )));
            }
            run.segment(&[project.tomogram(name)?], devices, progress)?;
        }
        Stage::Pick(name) => {
            let tomogram = project.tomogram(name)?;
            let labels = labels_path(project, tomogram);
            if !labels.is_file() {
                return Err(PipelineError::input(format!(
                    "{}: there is no label map to pick from: segment `{name}` first",
                    labels.display()
                )));
            }
            run.pick(tomogram, &labels, progress)?;
        }
    }
    Ok(RunSummary {
        stages: run.stages,
        evaluation: None,
    })
}

/// A run under way.
struct Run<'a> {
    project: &'a Project,
    options: RunOptions,
    stamps: Stamps,
    stages: Vec<StageReport>,
}

impl<'a> Run<'a> {
    fn begin(project: &'a Project, options: RunOptions) -> Result<Self> {
        let output = project.output_path("");
        if !options.dry_run {
            std::fs::create_dir_all(&output)
                .map_err(|source| PipelineError::file(&output, "the output folder cannot be made", source))?;
        }
        Ok(Self {
            project,
            options,
            stamps: Stamps::read(&output, &project.folder),
            stages: Vec::new(),
        })
    }

    /// Does a stage unless its product is up to date.
    fn stage(
        &mut self,
        stage: &'static str,
        subject: &str,
        product: &Path,
        stamp: &Stamp,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if self.is_due(stage, subject, product, stamp) {
            make_folder_of(product)?;
            work()?;
            self.stamps.record(product, stamp)?;
        }
        Ok(())
    }

    /// Reports a stage; whether it is to be done now.
    fn is_due(&mut self, stage: &'static str, subject: &str, product: &Path, stamp: &Stamp) -> bool {
        let skipped = !self.options.fresh && self.stamps.is_current(product, stamp);
        self.stages.push(StageReport {
            stage,
            subject: subject.to_owned(),
            product: product.to_owned(),
            skipped,
        });
        let is_due = !skipped && !self.options.dry_run;
        if is_due {
            tracing::info!("{stage}: {subject}");
        }
        is_due
    }

    fn target(&mut self, tomogram: &ProjectTomogram, progress: &dyn Progress) -> Result<()> {
        let project = self.project;
        let job = target_job(project, tomogram)?;
        let masks = project
            .classes
            .iter()
            .filter_map(|class| class.mask.as_ref())
            .map(|mask| project.resolve(mask));
        let inputs: Vec<PathBuf> = masks
            .chain([job.picks.clone(), job.like.clone()])
            .chain(job.initial.clone())
            .collect();
        let stamp = Stamp::new((&job.shapes, &job.order, &job.read, job.voxel_size))
            .files(inputs.iter().map(PathBuf::as_path));
        let output = job.output.clone();
        self.stage("target", &tomogram.name, &output, &stamp, || {
            make_target(&job, progress).map(|_| ())
        })
    }

    /// The weights that the project's training gives.
    fn train(&mut self, devices: &[Device], progress: &dyn Progress) -> Result<()> {
        let project = self.project;
        if project.tomograms_for(Split::Train).next().is_none() {
            return Err(nothing_to_train_on());
        }
        let folder = project.output_path("train");
        let run = RunFolder::new(&folder);
        let weights = run.best_weights();
        let stamp = training_stamp(project);
        // While training is under way its stamp stands beside the checkpoint: only the same training may go on.
        let begun = folder.join("begun");
        let goes_on = !self.options.fresh && self.stamps.is_current(&begun, &stamp) && run.holds_a_run();
        let skipped = !self.options.fresh && self.stamps.is_current(&weights, &stamp);
        if !skipped {
            check_devices(devices, &train_params(&project.train)?)?;
        }
        if !skipped && !self.options.dry_run {
            let mut plan =
                TrainPlan::of_project(project, &folder, &TrainSettings::default())?.on_devices(devices)?;
            plan.params.precision = self.options.precision;
            if !goes_on {
                put_aside(&folder)?;
                record_begun(&mut self.stamps, &begun, &stamp)?;
            }
            let outcome = plan.execute(if goes_on { Start::Resume } else { Start::Fresh }, progress)?;
            if outcome.ended == Ended::Cancelled {
                return Err(PipelineError::Cancelled);
            }
            self.stamps.record(&weights, &stamp)?;
        }
        let report = StageReport {
            stage: "train",
            subject: "project".to_owned(),
            product: weights,
            skipped,
        };
        self.stages.push(report);
        Ok(())
    }

    /// Segments tomograms, those that are not up to date on all devices at once.
    fn segment(
        &mut self,
        tomograms: &[&ProjectTomogram],
        devices: &[Device],
        progress: &dyn Progress,
    ) -> Result<()> {
        let weights = all_weights(self.project);
        let (mut jobs, mut stamps) = (Vec::new(), Vec::new());
        for tomogram in tomograms {
            let job = SegmentJob {
                precision: self.options.precision,
                force: self.options.force,
                ..segment_job(self.project, tomogram)?
            };
            let stamp = Stamp::new((job.options, job.plan, &job.scores, job.half_turn))
                .file(&job.tomogram)
                .files(weights.iter().map(PathBuf::as_path));
            let is_due = self.is_due("segment", &tomogram.name, &job.labels, &stamp);
            if is_due {
                make_folder_of(&job.labels)?;
                jobs.push(job);
                stamps.push(stamp);
            }
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let models = weights.iter().map(|path| Model::read(path));
        let models = models.collect::<Result<Vec<_>>>()?;
        segment_tomograms(&jobs, &models, devices, progress, |index, summary| {
            self.stamps.record(&summary.labels, &stamps[index])
        })?;
        Ok(())
    }

    /// Finds the thresholds that are best on the validation tomograms.
    fn tune(&mut self, devices: &[Device], progress: &dyn Progress) -> Result<()> {
        let project = self.project;
        let path = thresholds_path(project);
        let mut stamp = Stamp::new((&project.pick, &project.classes, &project.evaluate.radius));
        if project.target.points {
            stamp = stamp.and(&project.target);
        }
        let tomograms: Vec<_> = project
            .tomograms_for(Split::Validate)
            .filter(|tomogram| tomogram.picks.is_some())
            .collect();
        self.segment(&tomograms, devices, progress)?;
        for tomogram in &tomograms {
            stamp = stamp.file(&labels_path(project, tomogram));
            let annotations = tomogram.picks.as_ref().map(|path| project.resolve(path));
            stamp = stamp.files(annotations.as_deref());
        }
        if tomograms.is_empty() {
            return Err(PipelineError::input(
                "`tuned = true` of [pick] needs a tomogram with `split = \"validate\"` and picks to tune thresholds on",
            ));
        }
        self.stage("tune", "project", &path, &stamp, || {
            let mut pairs = Vec::new();
            let mut voxel_size = None;
            for tomogram in tomograms {
                let job = without_thresholds(untuned_pick_job(project, tomogram)?);
                voxel_size = voxel_size.or(job.voxel_size);
                pairs.push(EvaluatedPair {
                    name: tomogram.name.clone(),
                    truth: annotated_particles(project, tomogram)?,
                    picks: find_particles(&job, progress)?.particles,
                });
            }
            let (truth, picks) = pooled(&pairs);
            let params = params(&EvaluateJob {
                radius: project.evaluate.radius,
                classes: project.class_table(voxel_size)?,
                voxel_size,
                ..EvaluateJob::default()
            })?;
            Thresholds::tune(project.pick.method, &truth, &picks, &params)?.write(&path)
        })
    }

    fn pick(
        &mut self,
        tomogram: &ProjectTomogram,
        labels: &Path,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let project = self.project;
        let settings = &project.pick;
        let picks = picks_path(project, tomogram);
        let mut stamp = Stamp::new((settings, &project.classes)).file(labels);
        if project.target.points {
            stamp = stamp.and(&project.target);
        }
        if settings.tuned {
            stamp = stamp.file(&thresholds_path(project));
        }
        self.stage("pick", &tomogram.name, &picks, &stamp, || {
            let job = pick_job(project, tomogram)?;
            let (options, voxel_size) = (tomogram_options(tomogram)?, job.voxel_size);
            let picked = pick_particles(&job, progress)?;
            let reader = open_tomogram(&project.resolve(&tomogram.file), options)?;
            let label_map = open_label_map(labels)?;
            let truth = tomogram
                .picks
                .as_ref()
                .map(|_| annotated_particles(project, tomogram))
                .transpose()?;
            let picture = SlicesPicture {
                tomogram: reader.as_ref(),
                labels: Some(label_map.as_ref()),
                picks: &picked.particles,
                truth: truth.as_deref().unwrap_or_default(),
                classes: &project.class_table(voxel_size)?,
            };
            let path = slices_path(project, tomogram);
            make_folder_of(&path)?;
            Ok(write_file_atomically(&path, &picture.to_png()?)?)
        })?;
        Ok(picks)
    }

    fn evaluate(&mut self, evaluated: &[(&ProjectTomogram, PathBuf)]) -> Result<Option<Evaluation>> {
        let project = self.project;
        let path = project.output_path("evaluation.json");
        self.stages.push(StageReport {
            stage: "evaluate",
            subject: "project".to_owned(),
            product: path.clone(),
            // It takes no time, and its table is what one runs the project for.
            skipped: false,
        });
        if self.options.dry_run {
            return Ok(None);
        }
        let (pairs, job) = evaluated_pairs(project, evaluated)?;
        let evaluation = evaluate_lists(&pairs, &job)?;
        let text = serde_json::to_vec_pretty(&evaluation)
            .map_err(|error| PipelineError::input(error.to_string()))?;
        write_file_atomically(&path, &text)?;
        Ok(Some(evaluation))
    }
}

/// What a project's training is made from.
fn training_stamp(project: &Project) -> Stamp {
    // What the settings come to: the recipe that gives the rest may be another one day.
    let params = train_params(&project.train).ok();
    let mut stamp = Stamp::new((params, &project.train.start_from, &project.classes));
    if let Some(head) = project.train.head.filter(|head| !head.is_full()) {
        stamp = stamp.and(head);
    }
    for tomogram in project.tomograms_for_training() {
        stamp = stamp
            .file(&project.resolve(&tomogram.file))
            .file(&target_path(project, tomogram));
        stamp = tomogram
            .picks
            .iter()
            .fold(stamp, |stamp, picks| stamp.file(&project.resolve(picks)));
    }
    stamp
}

/// Remembers a training of the project with its own settings in its own folder, so that [`run_project`] goes on with it
/// or, where it is `finished`, takes its weights.
///
/// # Errors
/// Where the project's output folder can't be written.
pub fn remember_training(project: &Project, finished: bool) -> Result<()> {
    let folder = project.output_path("train");
    let mut stamps = Stamps::read(&project.output_path(""), &project.folder);
    let stamp = training_stamp(project);
    if finished {
        stamps.record(&RunFolder::new(&folder).best_weights(), &stamp)
    } else {
        record_begun(&mut stamps, &folder.join("begun"), &stamp)
    }
}

/// Marks a training as under way: only the same may go on in its folder.
fn record_begun(stamps: &mut Stamps, begun: &Path, stamp: &Stamp) -> Result<()> {
    make_folder_of(begun)?;
    write_file_atomically(begun, b"")?;
    stamps.record(begun, stamp)
}

fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .map_err(|source| PipelineError::file(folder, "the folder cannot be made", source))
}

/// Puts a run aside that was made from something else: hours of training are never deleted.
fn put_aside(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let free = (1..=u32::MAX)
        .map(|i| folder.with_file_name(format!("{name}.outdated-{i}")))
        .find(|path| !path.exists());
    let Some(free) = free else { return Ok(()) };
    tracing::warn!(
        "{}: made from other files or settings; now {}",
        folder.display(),
        free.display()
    );
    std::fs::rename(folder, free)
        .map_err(|source| PipelineError::file(folder, "the outdated training cannot be put aside", source))
}
