use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use deepfinder_core::{ParticleList, Progress, VolumeReader};
use deepfinder_io::{ReadOptions, check_writable, open_volume, write_file_atomically};
use deepfinder_net::{ClassName, Head, Metadata, Parametrisation, Weights};
use deepfinder_train::{
    EpochMetrics, MetricsLine, Recipe, RunFolder, Schedule, Start, TrainOutcome, TrainParams,
    TrainingTomogram, train_on,
};

use crate::curves::training_curves_svg;
use crate::device::check_shared_training;
use crate::error::OnFile;
use crate::lists::read_particles_in;
use crate::model::learning_points;
use crate::reader::voxel_size;
use crate::{
    Model, PipelineError, Project, ProjectTomogram, Result, Split, TomogramOptions, TrainSettings,
    open_label_map, open_tomogram,
};

/// What a training works on: checked and opened, nothing done yet.
#[derive(Debug)]
pub struct TrainPlan {
    /// Folder of the run.
    pub run: PathBuf,
    /// The parameters.
    pub params: TrainParams,
    /// What is learned from.
    pub training: Vec<TrainingTomogram>,
    /// What training is judged by.
    pub validation: Vec<TrainingTomogram>,
    /// The weights it starts from.
    pub initial: Weights,
    /// Where it learns, on all of these at once; [`of_project`](Self::of_project) says the processor.
    pub devices: Vec<Device>,
}

impl TrainPlan {
    /// Opens the tomograms, targets and picks of a project for training into a folder.
    ///
    /// `overrides` come before the project's own settings, and those before the recipe's.
    ///
    /// # Errors
    /// Where files are missing or unreadable, tomograms differ in voxel size, or a setting makes no sense.
    pub fn of_project(project: &Project, run: &Path, overrides: &TrainSettings) -> Result<Self> {
        // The run's folder is made when training begins; until then its nearest ancestor must do.
        let ancestor = run
            .ancestors()
            .find(|folder| folder.is_dir())
            .unwrap_or(Path::new("."));
        check_writable(&ancestor.join("metrics.jsonl"))?;
        let settings = project.train.overridden_by(overrides);
        let params = train_params(&settings)?;
        params.check().on(&project.folder)?;
        let open = |split| {
            project
                .tomograms_for(split)
                .map(|tomogram| open_annotated(project, tomogram))
                .collect()
        };
        let (training, validation): (Vec<_>, Vec<_>) = match (open(Split::Train), open(Split::Validate)) {
            (Ok(training), Ok(validation)) => (training, validation),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let Some(first) = training.first() else {
            return Err(nothing_to_train_on());
        };
        let voxel_size = first.tomogram.voxel_size();
        for other in training.iter().chain(&validation) {
            if let (Some(a), Some(b)) = (voxel_size, other.tomogram.voxel_size())
                && !a.agrees_with(b, 0.02)
            {
                return Err(PipelineError::input(format!(
                    "the tomograms `{}` ({a}) and `{}` ({b}) have different voxel sizes: a network learns at one scale. \
                     Rescale one of them, or set its `voxel_size` where its file is wrong",
                    first.name, other.name
                )));
            }
        }
        warn_of_missing_voxel_sizes(&training, &validation);
        warn_of_targets_that_are_no_points(project);
        let metadata = Metadata {
            classes: project
                .classes
                .iter()
                .map(|class| ClassName {
                    label: class.label,
                    name: class.name.clone(),
                })
                .collect(),
            voxel_size_angstrom: voxel_size.map(deepfinder_core::VoxelSize::angstrom),
            head: settings.head.unwrap_or_default(),
            ..Metadata::default()
        };
        let scores = project.class_table(voxel_size)?.scores();
        let initial = match &settings.start_from {
            None => params
                .parametrisation
                .initial(scores, params.seed, metadata)
                .on(&project.folder)?,
            Some(path) => started_from(&project.resolve(path), scores, settings.head)?,
        };
        let initial = learning_points(initial, project.target.points).on(&project.folder)?;
        Ok(Self {
            run: run.to_owned(),
            params,
            training,
            validation,
            initial,
            devices: vec![Device::Cpu],
        })
    }

    /// The same on one device, or on several that share each batch.
    ///
    /// # Errors
    /// Where there are more devices than patches in a batch, or several GPUs that cannot work together, with the reason.
    pub fn on_devices(mut self, devices: &[Device]) -> Result<Self> {
        check_devices(devices, &self.params)?;
        self.devices = devices.to_vec();
        Ok(self)
    }

    /// Trains. The run's folder then holds weights, checkpoints, metrics, and the curves as `curves.svg`.
    ///
    /// # Errors
    /// Where the run's folder holds another run (or none, to resume), or training fails.
    pub fn execute(self, start: Start, progress: &dyn Progress) -> Result<TrainOutcome> {
        let run = RunFolder::new(&self.run);
        let outcome = train_on(
            &self.devices,
            &self.training,
            &self.validation,
            self.initial,
            &self.params,
            &run,
            start,
            progress,
        );
        let outcome = outcome.on(&self.run)?;
        let epochs = epochs_of_run(&run)?;
        if !epochs.is_empty() {
            write_file_atomically(
                &self.run.join("curves.svg"),
                training_curves_svg(&epochs)?.as_bytes(),
            )?;
        }
        Ok(outcome)
    }
}

/// That devices can share the batches of a training.
pub(crate) fn check_devices(devices: &[Device], params: &TrainParams) -> Result<()> {
    check_shared_training(devices)?;
    params
        .check_devices(devices.len())
        .map_err(|error| PipelineError::input(error.to_string()))
}

pub(crate) fn nothing_to_train_on() -> PipelineError {
    PipelineError::input(
        "the project has no tomogram to train on: give one `split = \"train\"` and its picks, or name trained weights as \
         `weights` of [segment]",
    )
}

/// Says once for all tomograms what the network will not know of them.
fn warn_of_missing_voxel_sizes(training: &[TrainingTomogram], validation: &[TrainingTomogram]) {
    let all = || training.iter().chain(validation);
    let missing: Vec<_> = all()
        .filter(|tomogram| tomogram.tomogram.voxel_size().is_none())
        .map(|tomogram| tomogram.name.as_str())
        .collect();
    if !missing.is_empty() {
        tracing::warn!(
            "{} of {} tomograms to train on do not say their voxel size ({}): give them `voxel_size = ` in the project \
             file, so that the network is not used at another scale by mistake",
            missing.len(),
            all().count(),
            missing.join(", ")
        );
    }
}

/// Says once for all tomograms that `points` changes nothing of targets that are there.
fn warn_of_targets_that_are_no_points(project: &Project) {
    let own: Vec<_> = project
        .tomograms_for_training()
        .filter(|tomogram| tomogram.target.is_some())
        .map(|tomogram| tomogram.name.as_str())
        .collect();
    if project.target.points && !own.is_empty() {
        tracing::warn!(
            "{} to train on have a `target` of their own, which is taken as it is, though [target] asks for points \
             and particles are looked for as such: have the same drawn in it, or leave out `target` or `points`",
            own.join(", ")
        );
    }
}

/// The epochs that a run has done.
///
/// # Errors
/// Where its metrics cannot be read.
pub fn epochs_of_run(run: &RunFolder) -> Result<Vec<EpochMetrics>> {
    let lines = run.read_metrics().on(run.path())?;
    let epochs = lines.into_iter().filter_map(|line| match line {
        MetricsLine::Epoch(epoch) => Some(epoch),
        MetricsLine::Step(_) => None,
    });
    Ok(epochs.collect())
}

/// The losses of the iterations that a run has written down.
pub(crate) fn losses_of_run(run: &RunFolder) -> Result<Vec<f64>> {
    let lines = run.read_metrics().on(run.path())?;
    let losses = lines.into_iter().filter_map(|line| match line {
        MetricsLine::Step(step) => Some(step.loss),
        MetricsLine::Epoch(_) => None,
    });
    Ok(losses.collect())
}

/// The metrics of a project's training so far; none where there is no training yet.
///
/// # Errors
/// Where its metrics cannot be read.
pub fn training_metrics(project: &Project) -> Result<Vec<MetricsLine>> {
    let run = RunFolder::new(project.output_path("train"));
    run.read_metrics().on(run.path())
}

/// Iterations that a project's training shall do in all.
///
/// # Errors
/// Where a setting makes no sense.
pub fn training_iterations(project: &Project) -> Result<u64> {
    train_params(&project.train).map(|params| (params.epochs * params.steps_per_epoch) as u64)
}

/// Where the target of a tomogram lies: its own, or the one made from its picks.
pub fn target_path(project: &Project, tomogram: &ProjectTomogram) -> PathBuf {
    match &tomogram.target {
        Some(target) => project.resolve(target),
        None => project.output_path(format!("targets/{}.mrc", tomogram.name)),
    }
}

/// How to read the picks of a tomogram.
pub(crate) fn read_options(project: &Project, tomogram: &ProjectTomogram) -> Result<ReadOptions> {
    let voxel_size = voxel_size(tomogram.voxel_size)?;
    let classes = project.class_table(voxel_size).or_else(|_| {
        // Radii do not matter for names.
        project.class_table(deepfinder_core::VoxelSize::new(1.0).ok())
    })?;
    Ok(ReadOptions {
        swap_xz: tomogram.swap_xz,
        classes,
        ..ReadOptions::default()
    })
}

/// How to read a tomogram's file.
///
/// # Errors
/// Where the project gives it a voxel size that is none.
pub fn tomogram_options(tomogram: &ProjectTomogram) -> Result<TomogramOptions> {
    Ok(TomogramOptions {
        invert: tomogram.invert,
        voxel_size: voxel_size(tomogram.voxel_size)?,
    })
}

/// The annotated particles of a tomogram: of a list that spans several, those that name it.
pub(crate) fn annotated_particles(project: &Project, tomogram: &ProjectTomogram) -> Result<ParticleList> {
    let Some(picks) = &tomogram.picks else {
        return Err(no_picks(tomogram));
    };
    let file = open_volume(&project.resolve(&tomogram.file))?;
    let size = voxel_size(tomogram.voxel_size)?.or(file.voxel_size());
    read_particles_in(
        &project.resolve(picks),
        &read_options(project, tomogram)?,
        Some(&tomogram.name),
        &file,
        size,
    )
}

pub(crate) fn no_picks(tomogram: &ProjectTomogram) -> PipelineError {
    PipelineError::input(format!(
        "the tomogram `{}` has no picks: annotate it and name the list as `picks`, or give it `split = \"test\"`",
        tomogram.name
    ))
}

fn open_annotated(project: &Project, tomogram: &ProjectTomogram) -> Result<TrainingTomogram> {
    let target = target_path(project, tomogram);
    if !target.exists() {
        return Err(PipelineError::input(format!(
            "{}: the target of `{}` is not there: make it with `deepfinder target`, or let `deepfinder run` do all",
            target.display(),
            tomogram.name
        )));
    }
    let voxels: Arc<dyn VolumeReader<f32>> =
        open_tomogram(&project.resolve(&tomogram.file), tomogram_options(tomogram)?)?;
    Ok(TrainingTomogram {
        name: tomogram.name.clone(),
        tomogram: voxels,
        target: open_label_map(&target)?,
        particles: annotated_particles(project, tomogram)?,
    })
}

fn started_from(path: &Path, scores: usize, head: Option<Head>) -> Result<Weights> {
    let model = Model::read(path)?;
    if model.weights.scores() != scores {
        return Err(PipelineError::input(format!(
            "{}: these weights score {} classes with background, the project has {scores}: training cannot start from them",
            path.display(),
            model.weights.scores()
        )));
    }
    let own = model.weights.head();
    if let Some(asked) = head.filter(|asked| *asked != own) {
        return Err(PipelineError::input(format!(
            "{}: the network of these weights ends on the {own} level, and `head` asks for the {asked} level: training from them \
             keeps theirs, so leave `head` out, or start from none",
            path.display()
        )));
    }
    Ok(model.weights)
}

pub(crate) fn train_params(settings: &TrainSettings) -> Result<TrainParams> {
    let recipe = match settings.recipe.as_deref() {
        None | Some("default") => Recipe::Default,
        Some("paper") => Recipe::Paper,
        Some(other) => {
            return Err(PipelineError::input(format!(
                "`{other}` is no recipe: use \"default\" or \"paper\""
            )));
        }
    };
    let mut params = TrainParams::recipe(recipe);
    let set = |value: &mut usize, given: Option<usize>| *value = given.unwrap_or(*value);
    set(&mut params.epochs, settings.epochs);
    set(&mut params.steps_per_epoch, settings.steps_per_epoch);
    set(&mut params.batch, settings.batch);
    set(&mut params.patch, settings.patch);
    params.learning_rate = settings.learning_rate.unwrap_or(params.learning_rate);
    params.schedule = match settings.schedule.as_deref() {
        None => params.schedule,
        Some("constant") => Schedule::Constant,
        Some("cosine") => Schedule::Cosine,
        Some(other) => {
            return Err(PipelineError::input(format!(
                "`{other}` is no schedule: use \"constant\" or \"cosine\""
            )));
        }
    };
    let loss = &mut params.loss;
    loss.cross_entropy_weight = settings.cross_entropy.unwrap_or(loss.cross_entropy_weight);
    loss.label_smoothing = settings.label_smoothing.unwrap_or(loss.label_smoothing);
    loss.focal = settings.focal.unwrap_or(loss.focal);
    params.ema = match settings.ema {
        None => params.ema,
        Some(decay) => (decay != 0.0).then_some(decay),
    };
    params.parametrisation = match settings.residual {
        None => params.parametrisation,
        Some(false) => Parametrisation::Plain,
        Some(true) => Parametrisation::Residual,
    };
    params.mixup = settings.mixup.unwrap_or(params.mixup);
    params.negatives = settings.negatives.unwrap_or(params.negatives);
    let augmentation = &mut params.augmentation;
    augmentation.contrast = settings.contrast.unwrap_or(augmentation.contrast);
    augmentation.brightness = settings.brightness.unwrap_or(augmentation.brightness);
    augmentation.noise = settings.noise.unwrap_or(augmentation.noise);
    augmentation.blur = settings.blur.unwrap_or(augmentation.blur);
    params.patience = settings.patience.or(params.patience);
    params.seed = settings.seed.unwrap_or(params.seed);
    Ok(params)
}
