//! Lists of particles: those that people edit, and any other of the project.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use deepfinder_pipeline::{
    EditedList, ListState, Project, ProjectEdit, ProjectTomogram, TomogramEdit, picks_path, read_edited_list,
    read_list, write_edited_list,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::on_thread;
use super::project::{apply, named};
use crate::error::ApiError;
use crate::state::App;
use crate::wire::{WireParticle, from_wire, to_wire};

fn edited(which: &str) -> Result<EditedList, ApiError> {
    match which {
        "annotations" => Ok(EditedList::Annotations),
        "accepted" => Ok(EditedList::Accepted),
        "rejected" => Ok(EditedList::Rejected),
        _ => Err(ApiError::missing(format!(
            "there is no list `{which}`: annotations, accepted or rejected"
        ))),
    }
}

/// A list that people edit.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path((name, which)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let which = edited(&which)?;
    on_thread(app, move |app| {
        let project = app.project();
        let state = read_edited_list(&project, named(&project, &name)?, which)?;
        Ok(Json(json!({
            "file": app.folders().shown(&state.path),
            "revision": state.revision,
            "particles": to_wire(&state.particles),
        })))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// What the page read.
    revision: String,
    particles: Vec<WireParticle>,
}

/// Writes such a list, unless another program has written it meanwhile. What is answered is on the disk.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Path((name, which)): Path<(String, String)>,
    Json(change): Json<Change>,
) -> Result<Json<Value>, ApiError> {
    let which = edited(&which)?;
    let particles = from_wire(change.particles)?;
    on_thread(app, move |app| {
        let _changing = app.change();
        let project = app.project();
        let tomogram = named(&project, &name)?;
        let state = write_edited_list(&project, tomogram, which, particles, &change.revision)?;
        name_in_project(app, &project, tomogram, &state)?;
        Ok(Json(json!({
            "file": app.folders().shown(&state.path),
            "revision": state.revision,
        })))
    })
    .await
}

/// Annotations that were begun here become the tomogram's picks.
fn name_in_project(
    app: &App,
    project: &Project,
    tomogram: &ProjectTomogram,
    state: &ListState,
) -> Result<(), ApiError> {
    if state.is_named || app.project_file().is_none() {
        return Ok(());
    }
    let picks = state
        .path
        .strip_prefix(&project.folder)
        .unwrap_or(&state.path)
        .to_owned();
    let edit = ProjectEdit {
        tomograms: vec![TomogramEdit {
            name: tomogram.name.clone(),
            split: None,
            picks: Some(picks),
        }],
        ..ProjectEdit::default()
    };
    apply(app, &edit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    list: String,
}

/// Any list of the project's folders, or one of its own by name.
pub(super) async fn any(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let project = app.project();
        let tomogram = named(&project, &name)?;
        let path = list_path(app, &project, tomogram, &query.list)?;
        let list = read_list(&project, tomogram, &path)?;
        Ok(Json(
            json!({ "file": app.folders().shown(&path), "particles": to_wire(&list) }),
        ))
    })
    .await
}

/// The lists in the project's folders.
pub(super) async fn all(State(app): State<Arc<App>>) -> Result<Json<Vec<PathBuf>>, ApiError> {
    on_thread(app, |app| Ok(Json(app.folders().particle_lists()))).await
}

/// Where a list lies that is called by its name in the project (`annotations`, `accepted`, `rejected`, `picks`), or by its
/// path from the project's folder.
pub(super) fn list_path(
    app: &App,
    project: &Project,
    tomogram: &ProjectTomogram,
    list: &str,
) -> Result<PathBuf, ApiError> {
    if list == "picks" {
        return Ok(picks_path(project, tomogram));
    }
    if let Ok(which) = edited(list) {
        let state = read_edited_list(project, tomogram, which)?;
        let begun_elsewhere = !state.path.is_file() && !state.particles.is_empty();
        return Ok(match &tomogram.picks {
            Some(picks) if begun_elsewhere => project.resolve(picks),
            _ => state.path,
        });
    }
    let found = app.folders().existing(FilePath::new(list));
    found.map_err(|error| ApiError::missing(error.to_string()))
}
