//! What is tried out and compared, and written nowhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use deepfinder_core::NoProgress;
use deepfinder_pipeline::{
    ConsensusJob, EvaluateJob, EvaluatedPair, FoundBy, Length, PickSettings, Project, ReadOptions,
    consensus_of_files, evaluate_lists, find_particles, pick_job, read_list,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::lists::list_path;
use super::on_thread;
use super::project::named;
use crate::commands;
use crate::error::ApiError;
use crate::state::{App, Layer};
use crate::wire::{WireParticle, to_wire};

/// Particles that are sent at most, the largest ones.
const MOST_FOUND: usize = 10_000;

/// The particles that picking with these settings finds, of all sizes: the page leaves out what is too small.
pub(super) async fn find(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(settings): Json<PickSettings>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let project = Project {
            pick: settings,
            ..app.project().as_ref().clone()
        };
        let tomogram = named(&project, &name)?;
        let mut job = pick_job(&project, tomogram)?;
        let file = app.project_file().unwrap_or_else(|| project.folder.clone());
        let command = commands::pick(&job, &file).to_string();
        let smallest = std::mem::take(&mut job.min_size_of_class);
        job.min_size = 0;
        let mut picked = find_particles(&job, &NoProgress)?;
        // Specks of a network that has hardly learned come by the ten thousand: no page can show them.
        let particles = &mut picked.particles.particles;
        particles.sort_by_key(|particle| std::cmp::Reverse(particle.size_voxels));
        particles.truncate(MOST_FOUND);
        Ok(Json(json!({
            "found": picked.found,
            "particles": to_wire(particles),
            "seconds": picked.seconds,
            "smallest_by_class": smallest,
            "command": command,
        })))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compare {
    a: String,
    b: String,
    /// Each class's own radius where none is given.
    #[serde(default)]
    radius: Option<Length>,
    #[serde(default)]
    any_class: bool,
}

/// Scores of list `b` against the annotations in list `a`.
pub(super) async fn evaluate(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(compare): Json<Compare>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let project = app.project();
        let tomogram = named(&project, &name)?;
        let sections = app.sections(&project, tomogram, Layer::Tomogram)?;
        let voxel_size = sections.reader().voxel_size();
        let paths = [
            list_path(app, &project, tomogram, &compare.a)?,
            list_path(app, &project, tomogram, &compare.b)?,
        ];
        let pair = EvaluatedPair {
            name: name.clone(),
            truth: read_list(&project, tomogram, &paths[0])?,
            picks: read_list(&project, tomogram, &paths[1])?,
        };
        let job = EvaluateJob {
            radius: compare.radius.or(project.evaluate.radius),
            classes: project.class_table(voxel_size)?,
            voxel_size,
            ..EvaluateJob::default()
        };
        let command = job
            .radius
            .map(|radius| commands::evaluate(&paths[0], &paths[1], radius, &project).to_string());
        let file = app.project_file();
        let whole = || file.map(|file| commands::run(&file).to_string());
        let evaluation = evaluate_lists(&[pair], &job)?;
        Ok(Json(
            json!({ "evaluation": evaluation, "command": command.or_else(whole) }),
        ))
    })
    .await
}

/// A particle and who found it.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    particle: WireParticle,
    found_by: FoundBy,
}

/// What both lists found and each alone.
pub(super) async fn consensus(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(compare): Json<Compare>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let project = app.project();
        let tomogram = named(&project, &name)?;
        let sections = app.sections(&project, tomogram, Layer::Tomogram)?;
        let voxel_size = sections.reader().voxel_size();
        let classes = project.class_table(voxel_size)?;
        let largest = classes
            .classes()
            .iter()
            .filter_map(|class| class.radius_voxels)
            .fold(1.0, f32::max);
        let radius = compare.radius.unwrap_or(Length::Voxels(f64::from(largest)));
        let (a, b) = (
            list_path(app, &project, tomogram, &compare.a)?,
            list_path(app, &project, tomogram, &compare.b)?,
        );
        let command = commands::consensus(&a, &b, radius, compare.any_class).to_string();
        let job = ConsensusJob {
            a,
            b,
            read: ReadOptions {
                classes,
                ..ReadOptions::default()
            },
            radius,
            any_class: compare.any_class,
            voxel_size,
            output: None,
            tomogram: None,
        };
        let found = consensus_of_files(&job)?;
        let picks = found.picks.iter().map(|pick| Found {
            particle: WireParticle::from(&pick.particle),
            found_by: pick.found_by,
        });
        let picks: Vec<Found> = picks.collect();
        Ok(Json(
            json!({ "particles": picks, "classes": found.classes, "all": found.all, "command": command }),
        ))
    })
    .await
}
