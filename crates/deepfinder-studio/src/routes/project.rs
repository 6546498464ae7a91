//! The project and its tomograms.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use deepfinder_pipeline::{
    EditedList, FileStamp, PROJECT_FILE, Project, ProjectEdit, ProjectTomogram, edit_project, pick_radius,
    picks_path, read_edited_list, target_path, weights_path, write_new_project,
};
use serde_json::{Value, json};

use super::on_thread;
use crate::error::ApiError;
use crate::state::{App, Layer};

/// The project as the page needs it.
pub(super) async fn show(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    on_thread(app, |app| Ok(Json(shown(app)))).await
}

fn shown(app: &App) -> Value {
    let project = app.project();
    let tomograms: Vec<Value> = project
        .tomograms
        .iter()
        .map(|tomogram| {
            json!({
                "name": tomogram.name,
                "split": tomogram.split,
                "has_picks": tomogram.picks.as_ref().is_some_and(|picks| project.resolve(picks).is_file()),
                "has_target": target_path(&project, tomogram).is_file(),
                "has_labels": Layer::Labels.path(&project, tomogram).is_file(),
                "has_found": picks_path(&project, tomogram).is_file(),
            })
        })
        .collect();
    let classes: Vec<Value> = project
        .classes
        .iter()
        .map(|class| json!({ "label": class.label, "name": class.name, "radius": class.radius }))
        .collect();
    let weights = weights_path(&project);
    json!({
        "folder": project.folder.canonicalize().unwrap_or_else(|_| project.folder.clone()),
        "file": app.project_file(),
        "first": app.first,
        "classes": classes,
        "tomograms": tomograms,
        "target": project.target,
        "train": project.train,
        "pick": project.pick,
        "weights": weights.is_file().then(|| app.folders().shown(&weights)),
        "device": app.device,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// Changes classes, what tomograms are for, or settings; a tomogram alone becomes a project by that.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Json(edit): Json<ProjectEdit>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let _changing = app.change();
        apply(app, &edit)?;
        Ok(Json(shown(app)))
    })
    .await
}

/// Changes the project's file, which is made first where there is none.
pub(super) fn apply(app: &App, edit: &ProjectEdit) -> Result<(), ApiError> {
    let file = if let Some(file) = app.project_file() {
        file
    } else {
        let project = write_new_project(&app.project())?;
        let file = project.folder.join(PROJECT_FILE);
        app.set_project(project, file.clone());
        file
    };
    let project = edit_project(&file, edit)?;
    app.set_project(project, file);
    Ok(())
}

/// The tomogram of that name.
pub(super) fn named<'a>(project: &'a Project, name: &str) -> Result<&'a ProjectTomogram, ApiError> {
    let tomogram = project.tomogram(name);
    tomogram.map_err(|error| ApiError::missing(error.to_string()))
}

/// A tomogram: its size, how its voxels spread, its other volumes and its lists.
pub(super) async fn tomogram(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let project = app.project();
        let tomogram = named(&project, &name)?;
        let sections = app.sections(&project, tomogram, Layer::Tomogram)?;
        let voxel_size = sections.reader().voxel_size();
        let classes = project.class_table(voxel_size)?;
        let radii: serde_json::Map<String, Value> = classes
            .classes()
            .iter()
            .map(|class| (class.label.to_string(), json!(class.radius_voxels)))
            .collect();
        let annotations = read_edited_list(&project, tomogram, EditedList::Annotations)?;
        let mut layers = vec![layer(app, &project, tomogram, "tomogram")?];
        for name in ["labels", "target"] {
            layers.extend(layer(app, &project, tomogram, name).ok());
        }
        for class in &project.classes {
            layers.extend(layer(app, &project, tomogram, &format!("score-{}", class.label)).ok());
        }
        let listed = |path: PathBuf| path.is_file().then(|| app.folders().shown(&path));
        Ok(Json(json!({
            "name": tomogram.name,
            "file": app.folders().shown(&project.resolve(&tomogram.file)),
            "split": tomogram.split,
            "shape_zyx": sections.shape(),
            "voxel_size_angstrom": voxel_size.map(deepfinder_core::VoxelSize::angstrom),
            "radii_voxels": radii,
            "pick_radius_voxels": pick_radius(&project, voxel_size)?.in_voxels(voxel_size)?,
            "layers": layers,
            "annotations": app.folders().shown(&annotations.path),
            "picks": listed(picks_path(&project, tomogram)),
        })))
    })
    .await
}

fn layer(app: &App, project: &Project, tomogram: &ProjectTomogram, name: &str) -> Result<Value, ApiError> {
    let layer = Layer::parse(name)?;
    let sections = app.sections(project, tomogram, layer)?;
    let path = layer.path(project, tomogram);
    Ok(json!({
        "name": name,
        "file": app.folders().shown(&path),
        // Changes with the file, so that the page asks anew.
        "version": version(&path),
        "statistics": sections.statistics()?,
    }))
}

fn version(path: &FilePath) -> String {
    FileStamp::of(path).map_or_else(String::new, |stamp| stamp.to_string())
}
