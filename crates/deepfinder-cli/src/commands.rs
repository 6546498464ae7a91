use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use deepfinder_core::{CancelToken, Class, ClassTable};
use deepfinder_pipeline::{
    AccuracyJob, AverageJob, BenchJob, ConsensusJob, ConvertJob, DemoJob, Device, Ended, EvaluateJob,
    InitJob, MatchJob, MatchMode, Model, ParticleFormat, PickJob, PipelineError, Plan, Precision, Project,
    ReadOptions, ReportJob, RunOptions, SegmentJob, ShapeSource, Start, TargetJob, Thresholds,
    TomogramOptions, TomogramTable, TrainPlan, TrainSettings, average_particles, average_parts, bench,
    bench_accuracy, bench_accuracy_over_seeds, bench_recipes, check_devices, check_writable,
    consensus_of_files, convert, demo, device, device_list, devices, evaluate_files, file_summary,
    init_project, keep_memory, make_target, match_tomogram, pick_particles, precision, remember_training,
    report_project, run_project, segment_jobs, segment_tomograms, simulate_project, voxel_size,
};
use deepfinder_studio::{Studio, StudioOptions};

use crate::arguments::{
    AverageArgs, BenchAccuracyArgs, BenchArgs, Cli, Command, ConsensusArgs, ConvertArgs, DemoArgs,
    EvaluateArgs, FormatsArgs, InfoArgs, InitArgs, Json, ListArgs, MatchArgs, ModeArg, PickArgs, PlanArg,
    RecipeArg, ReportArgs, RunArgs, SegmentArgs, StudioArgs, TargetArgs, TomogramArgs, TrainArgs,
};
use crate::browser;
use crate::progress::Bars;
use crate::report::Printer;
use crate::simulation::SimulateArgs;

/// Patch of the reference plan where none is given: what the published program takes.
const REFERENCE_PATCH: usize = 160;

/// Does what the command line says and prints what came of it.
pub(crate) fn run(cli: &Cli, cancel: &CancelToken) -> Result<()> {
    if let Some(Json::File(path)) = &cli.global.json {
        // Found before the long work, not after.
        check_writable(path).map_err(PipelineError::from)?;
    }
    let context = Context {
        device: &cli.global.device,
        precision: &cli.global.precision,
        cancel,
        bars: Bars::new(cancel.clone()),
        printer: Printer {
            json: cli.global.json.clone(),
        },
    };
    match &cli.command {
        Command::Demo(args) => context.demo(args),
        Command::Init(args) => context.init(args),
        Command::Target(args) => context.target(args),
        Command::Train(args) => context.train(args),
        Command::Segment(args) => context.segment(args),
        Command::Pick(args) => context.pick(args),
        Command::Evaluate(args) => context.evaluate(args),
        Command::Consensus(args) => context.consensus(args),
        Command::Convert(args) => context.convert(args),
        Command::Formats(args) => context.formats(args),
        Command::Info(args) => context.info(args),
        Command::Simulate(args) => context.simulate(args),
        Command::Match(args) => context.match_template(args),
        Command::Average(args) => context.average(args),
        Command::Run(args) => context.run(args),
        Command::Report(args) => context.report(args),
        Command::Studio(args) => context.studio(args),
        Command::Bench(args) => context.bench(args),
        Command::CheckDevice => context.check_device(),
        Command::BenchAccuracy(args) => context.bench_accuracy(args),
    }
}

struct Context<'a> {
    device: &'a str,
    precision: &'a str,
    cancel: &'a CancelToken,
    bars: Bars,
    printer: Printer,
}

impl Context<'_> {
    fn studio(&self, args: &StudioArgs) -> Result<()> {
        let options = StudioOptions {
            target: args.project.clone(),
            host: args.host.clone(),
            port: args.port,
            device: self.device.to_owned(),
            precision: self.precision.to_owned(),
        };
        let studio = Studio::bind(&options)?;
        self.printer.studio(&studio)?;
        if !args.no_open && studio.is_loopback() {
            browser::open(&studio.url());
        }
        Ok(studio.serve(self.cancel)?)
    }

    fn bench(&self, args: &BenchArgs) -> Result<()> {
        let job = BenchJob {
            device: self.device.to_owned(),
            precision: self.precision.to_owned(),
            cube: args.cube,
            batch: args.batch,
            patch: args.patch,
            scores: args.scores.into(),
            head: args.head,
            runs: args.runs,
        };
        keep_memory();
        self.printer.measured(&bench(&job, &self.bars)?)
    }

    /// Where networks run, and what they compute with.
    fn compute(&self) -> Result<(Device, Precision)> {
        keep_memory();
        let device = device(self.device)?;
        let precision = precision(self.precision, &device)?;
        Ok((device, precision))
    }

    /// The same for work that several devices can share.
    fn compute_shared(&self) -> Result<(Vec<Device>, Precision)> {
        keep_memory();
        let devices = device_list(self.device)?;
        let precision = precision(self.precision, &devices[0])?;
        Ok((devices, precision))
    }

    fn check_device(&self) -> Result<()> {
        let checks = check_devices(&device_list(self.device)?, &self.bars)?;
        self.printer.device_checks(&checks)?;
        match checks.iter().filter(|check| !check.holds()).count() {
            0 => Ok(()),
            failed => bail!(
                "{failed} of {} checks do not hold on {}",
                checks.len(),
                self.device
            ),
        }
    }

    fn bench_accuracy(&self, args: &BenchAccuracyArgs) -> Result<()> {
        let (device, precision) = self.compute()?;
        let job = AccuracyJob {
            folder: args.out.clone(),
            size: args.size.clone(),
            seed: args.seed.unwrap_or(1),
            published: args.published.clone(),
            precision,
        };
        if args.recipes {
            let seeds = if args.seeds.is_empty() {
                &[1, 2, 3]
            } else {
                args.seeds.as_slice()
            };
            let report = bench_recipes(&job, seeds, &args.only, &device, &self.bars)?;
            return self.printer.recipes(&args.out, &report);
        }
        if !args.seeds.is_empty() {
            if args.seed.is_some() {
                return Err(PipelineError::Input {
                    what: "--seed and --seeds cannot both be given without --recipes: use one of them"
                        .to_owned(),
                }
                .into());
            }
            let report = bench_accuracy_over_seeds(&job, &args.seeds, &device, &self.bars)?;
            return self.printer.accuracy_over_seeds(&args.out, &report);
        }
        let report = bench_accuracy(&job, &device, &self.bars)?;
        self.printer.accuracy(&args.out, &report)
    }

    fn demo(&self, args: &DemoArgs) -> Result<()> {
        let (device, precision) = self.compute()?;
        let job = DemoJob {
            folder: args.out.clone(),
            train: args.train,
            seed: args.seed,
            precision,
        };
        let summary = demo(&job, &device, &self.bars)?;
        self.printer.demo(&summary)
    }

    fn init(&self, args: &InitArgs) -> Result<()> {
        let job = InitJob {
            folder: args.folder.clone(),
            tomograms: args.tomograms.clone(),
            classes: args.classes.clone(),
            copick: args.copick.clone(),
            author: args.user.clone(),
        };
        let (path, project) = init_project(&job)?;
        self.printer.init(&path, &project)
    }

    fn target(&self, args: &TargetArgs) -> Result<()> {
        let shape = if args.points {
            ShapeSource::Point
        } else {
            ShapeSource::Sphere
        };
        let spheres = args
            .radius
            .iter()
            .map(|(class, radius)| (class.clone(), shape(*radius)));
        let masks = args
            .mask
            .iter()
            .map(|(class, mask)| (class.clone(), ShapeSource::Mask(mask.clone())));
        let job = TargetJob {
            picks: args.picks.clone(),
            read: read_options(&args.list, false)?,
            like: args.like.clone(),
            voxel_size: voxel_size(args.voxel_size)?,
            tomogram: args.tomogram.clone(),
            shapes: spheres.chain(masks).collect(),
            order: args.order.clone(),
            initial: args.initial.clone(),
            output: args.output.clone(),
        };
        self.printer.target(&make_target(&job, &self.bars)?)
    }

    fn train(&self, args: &TrainArgs) -> Result<()> {
        // Refused before files are read, where one is not there.
        let (devices, precision) = self.compute_shared()?;
        let project = Project::read(&args.project)?;
        let settings = TrainSettings {
            recipe: args.recipe.map(|recipe| match recipe {
                RecipeArg::Default => "default".to_owned(),
                RecipeArg::Paper => "paper".to_owned(),
            }),
            epochs: args.epochs,
            steps_per_epoch: args.steps_per_epoch,
            batch: args.batch,
            patch: args.patch,
            learning_rate: args.learning_rate,
            schedule: args.schedule.clone(),
            seed: args.seed,
            ..args.ingredients.settings()
        };
        let run = args
            .output
            .clone()
            .unwrap_or_else(|| project.output_path("train"));
        let mut plan = TrainPlan::of_project(&project, &run, &settings)?.on_devices(&devices)?;
        plan.params.precision = precision;
        if args.dry_run {
            return self.printer.train_plan(&plan);
        }
        // What was begun here as the project says, `run` shall go on with and not begin again.
        let of_project = settings == TrainSettings::default() && run == project.output_path("train");
        let outcome = plan.execute(if args.resume { Start::Resume } else { Start::Fresh }, &self.bars)?;
        if of_project {
            remember_training(&project, outcome.ended != Ended::Cancelled)?;
        }
        self.printer.trained(&run, &outcome)?;
        match outcome.ended {
            Ended::Cancelled => Err(PipelineError::Cancelled.into()),
            Ended::Completed | Ended::NoImprovement => Ok(()),
        }
    }

    fn segment(&self, args: &SegmentArgs) -> Result<()> {
        let (devices, precision) = self.compute_shared()?;
        let plan = match (args.plan, args.patch) {
            (PlanArg::Exact, patch) => Plan::Exact {
                tile: patch.map(|side| [side; 3]),
            },
            (PlanArg::Reference, patch) => Plan::Reference {
                patch: patch.unwrap_or(REFERENCE_PATCH),
            },
        };
        let like = SegmentJob {
            tomogram: PathBuf::new(),
            options: tomogram_options(&args.tomogram_options)?,
            labels: args.output.clone(),
            scores: args.scores.clone(),
            plan,
            half_turn: args.half_turn,
            precision,
            force: args.force,
        };
        let models = args.weights.iter().map(|path| Model::read(path));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let jobs = segment_jobs(&args.tomograms, &like)?;
        let summaries = segment_tomograms(&jobs, &models, &devices, &self.bars, |_, _| Ok(()))?;
        self.printer.segmented(&summaries)
    }

    fn pick(&self, args: &PickArgs) -> Result<()> {
        let mut job = PickJob {
            method: args.method,
            radius: args.radius,
            min_size: args.min_size,
            max_size: args.max_size,
            min_score: args.min_score,
            min_distance: args.min_distance,
            top: args.top,
            mask: args.mask.clone(),
            reference: args.reference,
            voxel_size: voxel_size(args.voxel_size)?,
            tomogram: args.tomogram.clone(),
            tomograms: tomograms(args.tomograms.as_deref())?,
            to: args.to,
            classes: class_table(&args.classes)?,
            ..PickJob::new(&args.labels, &args.output)
        };
        if let Some(path) = &args.thresholds {
            Thresholds::read(path)?.apply(&mut job)?;
        }
        self.printer
            .picked(&args.output, &pick_particles(&job, &self.bars)?)
    }

    fn evaluate(&self, args: &EvaluateArgs) -> Result<()> {
        let job = EvaluateJob {
            mode: match args.mode {
                ModeArg::OneToOne => MatchMode::OneToOne,
                ModeArg::Shrec => MatchMode::Shrec,
                ModeArg::Box => MatchMode::Box,
                ModeArg::Czii => MatchMode::Czii,
            },
            radius: args.radius,
            classes: class_table(&args.list.classes)?,
            voxel_size: voxel_size(args.voxel_size)?,
        };
        let evaluation = evaluate_files(
            &args.truth,
            &args.picks,
            &read_options(&args.list, args.zyx)?,
            &job,
        )?;
        self.printer.evaluated(&evaluation)
    }

    fn consensus(&self, args: &ConsensusArgs) -> Result<()> {
        let job = ConsensusJob {
            a: args.a.clone(),
            b: args.b.clone(),
            read: read_options(&args.list, false)?,
            radius: args.radius,
            any_class: args.any_class,
            voxel_size: voxel_size(args.voxel_size)?,
            output: args.output.clone(),
            tomogram: args.tomogram.clone(),
        };
        let mut found = consensus_of_files(&job)?;
        if let (true, Some(folder), Some(tomogram)) = (args.average_each, &args.output, &args.tomogram) {
            let defaults = AverageJob::new(&args.a, std::slice::from_ref(tomogram), folder);
            let settings = AverageJob {
                reference: args.reference.clone(),
                side: args.side,
                iterations: args.iterations.unwrap_or(defaults.iterations),
                tilt: args.tilt.or(defaults.tilt),
                ..defaults
            };
            found.averages = average_parts(&found, folder, &settings, &self.bars)?;
        }
        self.printer.consensus(&found)
    }

    fn convert(&self, args: &ConvertArgs) -> Result<()> {
        let options = tomogram_options(&args.tomogram_options)?;
        let read = read_options(&args.list, args.zyx)?;
        let job = ConvertJob {
            input: args.input.clone(),
            output: args.output.clone(),
            read: ReadOptions {
                format: args.from.or(read.format),
                class_map: args.class_map.iter().cloned().collect(),
                voxel_size: options.voxel_size,
                tomograms: tomograms(args.tomograms.as_deref())?,
                origin: args.origin,
                first_voxel: args.first_voxel,
                euler: args.euler,
                ..read
            },
            to: args.to,
            tomogram: args.tomogram.clone(),
            only_class: args.only_class,
            bin: args.bin,
            ome_zarr: args.ome_zarr,
            options,
            dry_run: args.dry_run,
        };
        self.printer.converted(&job, &convert(&job)?)
    }

    fn formats(&self, args: &FormatsArgs) -> Result<()> {
        self.printer.formats(args.markdown)
    }

    fn info(&self, args: &InfoArgs) -> Result<()> {
        if args.devices {
            return self.printer.devices(&devices());
        }
        let Some(file) = &args.file else { return Ok(()) };
        let tomograms = tomograms(args.tomograms.as_deref())?;
        self.printer
            .file(file, &file_summary(file, &tomograms, &self.bars)?)
    }

    fn simulate(&self, args: &SimulateArgs) -> Result<()> {
        let job = args.job()?;
        self.printer.simulated(&simulate_project(&job, &self.bars)?)
    }

    fn match_template(&self, args: &MatchArgs) -> Result<()> {
        let job = MatchJob {
            options: tomogram_options(&args.tomogram_options)?,
            label: args.label,
            step_degrees: args.step,
            symmetry: args.symmetry,
            tilt: Some(args.tilt),
            series: args.tilt_series.then(|| args.optics.params(args.tilt)),
            tilts: args.tilts.clone(),
            against: args.against.clone(),
            mask_radius: args.mask_radius,
            low_pass_angstrom: args.low_pass,
            tile_voxels: args.tile,
            min_distance: args.min_distance,
            false_alarms: args.false_alarms,
            min_score: args.min_score,
            top: args.top,
            mask: args.mask.clone(),
            scores: args.scores.clone(),
            rotations: args.rotations.clone(),
            ..MatchJob::new(&args.tomogram, &args.template, &args.output)
        };
        self.printer.matched(&match_tomogram(&job, &self.bars)?)
    }

    fn average(&self, args: &AverageArgs) -> Result<()> {
        let job = AverageJob {
            read: read_options(&args.list, false)?,
            options: tomogram_options(&args.tomogram_options)?,
            label: args.label,
            reference: args.reference.clone(),
            side: args.side,
            mask_radius: args.mask_radius,
            tilt: Some(args.tilt),
            symmetry: args.symmetry,
            iterations: args.iterations,
            global: args.global,
            step_degrees: args.step,
            max_shift: args.max_shift,
            initial_resolution_angstrom: args.initial_resolution,
            mask_deviations: args.mask_sigma,
            ..AverageJob::new(&args.picks, &args.tomograms, &args.output)
        };
        self.printer.averaged(&average_particles(&job, &self.bars)?)
    }

    fn report(&self, args: &ReportArgs) -> Result<()> {
        let project = Project::read(&args.project)?;
        let report = ReportJob {
            output: args.output.clone(),
            membranes: args.membrane.clone(),
        };
        self.printer.reported(&report_project(&project, &report)?)
    }

    fn run(&self, args: &RunArgs) -> Result<()> {
        let (devices, precision) = self.compute_shared()?;
        let project = Project::read(&args.project)?;
        let options = RunOptions {
            fresh: args.fresh,
            dry_run: args.dry_run,
            force: args.force,
            precision,
        };
        let summary = run_project(&project, options, &devices, &self.bars)?;
        self.printer.run(&summary, args.dry_run)
    }
}

fn tomogram_options(args: &TomogramArgs) -> Result<TomogramOptions, PipelineError> {
    Ok(TomogramOptions {
        invert: args.invert,
        voxel_size: voxel_size(args.voxel_size)?,
    })
}

fn read_options(args: &ListArgs, zyx: bool) -> Result<ReadOptions> {
    Ok(ReadOptions {
        format: zyx.then_some(ParticleFormat::ShrecTextZyx),
        swap_xz: args.swap_xz,
        classes: class_table(&args.classes)?,
        ..ReadOptions::default()
    })
}

/// Sizes of tomograms, where a file with them is named.
fn tomograms(path: Option<&Path>) -> Result<TomogramTable, PipelineError> {
    let table = path.map(TomogramTable::read).transpose()?;
    Ok(table.unwrap_or_default())
}

fn class_table(given: &[(String, u8)]) -> Result<ClassTable> {
    let classes = given.iter().map(|(name, label)| Class {
        label: *label,
        name: name.clone(),
        radius_voxels: None,
    });
    let classes = classes.collect();
    ClassTable::new(classes).map_err(|error| {
        PipelineError::Input {
            what: format!("--class: {error}"),
        }
        .into()
    })
}
