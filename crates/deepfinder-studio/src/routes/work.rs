//! Long work, and news of it.

use std::convert::Infallible;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use deepfinder_core::Progress;
use deepfinder_pipeline::{
    MetricsLine, PipelineError, Project, RunOptions, RunSummary, Stage, all_weights, device_list, pick_job,
    precision, run_project, run_stage, segment_job, target_job, target_path, training_iterations,
    training_metrics,
};
use futures_util::stream::{Stream, unfold};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::on_thread;
use super::project::named;
use crate::commands;
use crate::error::ApiError;
use crate::jobs::{JobState, Product};
use crate::state::App;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Asked {
    /// The targets of all tomograms to train and validate with.
    Targets,
    /// Targets that are not up to date, then training; one that was stopped goes on.
    Train,
    Segment,
    Pick,
    /// All of a project.
    Run,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Work {
    stage: Asked,
    #[serde(default)]
    tomogram: Option<String>,
    /// Anew, although it is up to date.
    #[serde(default)]
    fresh: bool,
    /// Only say the command lines.
    #[serde(default)]
    dry_run: bool,
}

/// A kind of work with all that it needs.
struct Planned {
    name: &'static str,
    stages: Vec<Stage>,
    commands: Vec<String>,
}

/// How the work stands.
pub(super) async fn show(State(app): State<Arc<App>>) -> Json<Option<JobState>> {
    Json(app.jobs.state())
}

/// Asks the work to stop.
pub(super) async fn stop(State(app): State<Arc<App>>) -> Json<Value> {
    app.jobs.stop();
    Json(json!({}))
}

/// Begins work, or says the command lines for it.
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    Json(work): Json<Work>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let Some(file) = app.project_file() else {
            return Err(ApiError::bad(
                "this tomogram belongs to no project yet: save its classes first, which makes one",
            ));
        };
        let project = app.project();
        let planned = plan(app, &project, &file, &work)?;
        if work.dry_run {
            return Ok(Json(json!({ "commands": planned.commands })));
        }
        let options = RunOptions {
            fresh: work.fresh,
            ..RunOptions::default()
        };
        let compute = [app.device.clone(), app.precision.clone()];
        let stages = planned.stages;
        let state = app
            .jobs
            .begin(planned.name, work.tomogram, planned.commands, move |progress| {
                execute(&project, &stages, options, &compute, progress)
            })?;
        Ok(Json(json!(state)))
    })
    .await
}

/// No stage stands for all of them.
fn execute(
    project: &Project,
    stages: &[Stage],
    mut options: RunOptions,
    [device_name, precision_name]: &[String; 2],
    progress: &dyn Progress,
) -> Result<Vec<Product>, PipelineError> {
    let devices = device_list(device_name)?;
    options.precision = precision(precision_name, &devices[0])?;
    let mut products = Vec::new();
    let mut keep = |summary: RunSummary| {
        products.extend(summary.stages.into_iter().map(|stage| Product {
            stage: stage.stage,
            subject: stage.subject,
            skipped: stage.skipped,
        }));
    };
    if stages.is_empty() {
        keep(run_project(project, options, &devices, progress)?);
    }
    for stage in stages {
        // Targets are cheap to find up to date, and only what was asked for is done anew.
        let fresh = options.fresh && (stages.len() == 1 || *stage == Stage::Train);
        keep(run_stage(
            project,
            stage,
            RunOptions { fresh, ..options },
            &devices,
            progress,
        )?);
    }
    Ok(products)
}

fn plan(app: &App, project: &Project, file: &FilePath, work: &Work) -> Result<Planned, ApiError> {
    let tomogram = || {
        let name = work
            .tomogram
            .as_deref()
            .ok_or_else(|| ApiError::bad("which tomogram?"))?;
        named(project, name)
    };
    let targets = || -> Result<(Vec<Stage>, Vec<String>), ApiError> {
        let annotated = project
            .tomograms_for_training()
            .filter(|tomogram| tomogram.target.is_none());
        let mut stages = Vec::new();
        let mut lines = Vec::new();
        for tomogram in annotated {
            lines.push(commands::target(&target_job(project, tomogram)?).to_string());
            stages.push(Stage::Target(tomogram.name.clone()));
        }
        Ok((stages, lines))
    };
    match work.stage {
        Asked::Targets => {
            let (stages, commands) = targets()?;
            if stages.is_empty() {
                return Err(ApiError::bad(
                    "no target is to be made: tomograms to train or validate with have one of their own, or there is none such (say so in the \
                     table of tomograms)",
                ));
            }
            Ok(Planned {
                name: "target",
                stages,
                commands,
            })
        }
        Asked::Train => {
            let (mut stages, mut lines) = targets()?;
            let is_current = |stage: &Stage| match stage {
                Stage::Target(name) => project
                    .tomogram(name)
                    .is_ok_and(|tomogram| target_path(project, tomogram).is_file()),
                _ => false,
            };
            let mut current = stages.iter().map(is_current);
            lines.retain(|_| !current.next().unwrap_or_default());
            let goes_on = !work.fresh && project.output_path("train/checkpoint.safetensors").is_file();
            lines.push(commands::train(file, goes_on).to_string());
            stages.push(Stage::Train);
            Ok(Planned {
                name: "train",
                stages,
                commands: lines,
            })
        }
        Asked::Segment => {
            let tomogram = tomogram()?;
            let job = segment_job(project, tomogram)?;
            let line = commands::segment(&job, &all_weights(project), [&app.device, &app.precision]);
            Ok(Planned {
                name: "segment",
                stages: vec![Stage::Segment(tomogram.name.clone())],
                commands: vec![line.to_string()],
            })
        }
        Asked::Pick => {
            let tomogram = tomogram()?;
            let line = commands::pick(&pick_job(project, tomogram)?, file);
            Ok(Planned {
                name: "pick",
                stages: vec![Stage::Pick(tomogram.name.clone())],
                commands: vec![line.to_string()],
            })
        }
        Asked::Run => Ok(Planned {
            name: "run",
            stages: Vec::new(),
            commands: vec![commands::run(file).to_string()],
        }),
    }
}

/// News of the work, as it comes: an event each time.
pub(super) async fn events(
    State(app): State<Arc<App>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let news = app.jobs.news();
    let stream = unfold((app, news, true), async |(app, mut news, first)| {
        if !first {
            news.changed().await.ok()?;
            // What comes meanwhile comes together.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        news.mark_unchanged();
        let event = Event::default().event("job").json_data(app.jobs.state()).ok()?;
        Some((Ok(event), (app, news, false)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsQuery {
    /// Lines that the page has already.
    #[serde(default)]
    after: usize,
}

#[derive(Serialize)]
pub(super) struct Metrics {
    lines: Vec<MetricsLine>,
    /// Lines in all: fewer than the page has where training began anew.
    count: usize,
    /// Iterations that training shall do.
    iterations: Option<u64>,
    folder: PathBuf,
}

/// The metrics of the project's training.
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    Query(query): Query<MetricsQuery>,
) -> Result<Json<Metrics>, ApiError> {
    on_thread(app, move |app| {
        let project = app.project();
        let mut lines = training_metrics(&project)?;
        let count = lines.len();
        Ok(Json(Metrics {
            lines: lines.split_off(query.after.min(count)),
            count,
            iterations: training_iterations(&project).ok(),
            folder: app.folders().shown(&project.output_path("train")),
        }))
    })
    .await
}
