//! Lists and volumes in other formats, and files of the project's folders to take away.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use deepfinder_core::{Label, NoProgress};
use deepfinder_pipeline::{
    ConvertJob, Converted, FileSummary, OmeZarr, PipelineError, Project, ProjectTomogram, ReadOptions,
    TomogramOptions, TomogramTable, VolumeFormatEntry, convert, file_summary, particle_formats, read_file,
    tomogram_options, volume_formats,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lists::list_path;
use super::on_thread;
use super::project::named;
use crate::commands;
use crate::error::ApiError;
use crate::state::{App, Layer};

/// The formats that are written: what `convert` knows.
pub(super) async fn formats() -> Json<Value> {
    let particles: Vec<Value> = particle_formats()
        .iter()
        .filter(|format| format.is_written())
        .map(|format| {
            json!({
                "id": format.id,
                "name": format.name,
                "positions": format.positions,
                "angles": format.angles,
            })
        })
        .collect();
    let volumes: Vec<Value> = volume_formats()
        .iter()
        .filter(|format| format.is_written)
        .map(|format| json!({ "id": format.extensions.first(), "name": format.name }))
        .collect();
    Json(json!({ "particles": particles, "volumes": volumes }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum What {
    /// A list, by its name or path.
    List(String),
    /// A volume of the tomogram.
    Layer(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    what: What,
    /// Id of a format of lists, or ending of one of volumes.
    format: String,
    /// Of a list, only particles of this class.
    #[serde(default)]
    label: Option<Label>,
}

/// Writes a list or volume in another format into `export` of the project's output.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(export): Json<Export>,
) -> Result<Json<Value>, ApiError> {
    on_thread(app, move |app| {
        let _changing = app.change();
        let project = app.project();
        let tomogram = named(&project, &name)?;
        let job = match &export.what {
            What::List(list) => list_job(app, &project, tomogram, list, &export)?,
            What::Layer(layer) => volume_job(app, &project, tomogram, layer, &export)?,
        };
        let output = job.output.clone();
        let is_list = matches!(export.what, What::List(_));
        let beside = is_list.then(|| project.resolve(&tomogram.file));
        let command = commands::convert(&job, is_list.then_some(export.format.as_str()), beside.as_deref());
        let notes = match convert(&job)? {
            Converted::Volume { notes, .. } | Converted::Particles { notes, .. } => notes,
        };
        Ok(Json(json!({
            "file": app.folders().shown(&output),
            "is_folder": output.is_dir(),
            "notes": notes,
            "command": command.to_string(),
        })))
    })
    .await
}

fn output(app: &App, project: &Project, file: &str) -> Result<PathBuf, ApiError> {
    Ok(app
        .folders()
        .to_write(&project.output.join("export").join(file))?)
}

fn list_job(
    app: &App,
    project: &Project,
    tomogram: &ProjectTomogram,
    list: &str,
    export: &Export,
) -> Result<ConvertJob, ApiError> {
    let format = export.format.as_str();
    let mut formats = particle_formats().iter().filter(|entry| entry.is_written());
    let entry = formats.find(|entry| entry.id == format);
    let entry = entry.ok_or_else(|| ApiError::bad(format!("`{format}` is no format of lists")))?;
    let input = list_path(app, project, tomogram, list)?;
    let ending = entry.extensions.first().copied().unwrap_or(match format {
        "pytom" => "xml",
        "eman2" => "json",
        "shrec" | "shrec-zyx" => "txt",
        _ => "star",
    });
    let stem = input.file_stem().unwrap_or_default().to_string_lossy();
    let output = output(
        app,
        project,
        &format!("{stem}.{}.{ending}", format.replace('.', "")),
    )?;
    let sections = app.sections(project, tomogram, Layer::Tomogram)?;
    let own_size = sections.reader().voxel_size();
    let frame = TomogramTable::read(&project.resolve(&tomogram.file)).map_err(PipelineError::from)?;
    // What the list does not say, the tomogram it lies in does.
    let (size, name) = match file_summary(&input, &frame, &NoProgress)? {
        FileSummary::Particles(known) => {
            let is_of_it = known.by_tomogram.is_empty() || known.by_tomogram.contains_key(&tomogram.name);
            (
                own_size.filter(|_| known.voxel_size_angstrom.is_none()),
                is_of_it.then(|| tomogram.name.clone()),
            )
        }
        _ => (None, None),
    };
    Ok(ConvertJob {
        input,
        output,
        read: ReadOptions {
            classes: project.class_table(own_size)?,
            voxel_size: size,
            tomograms: frame,
            ..ReadOptions::default()
        },
        to: Some(entry.format),
        tomogram: name,
        only_class: export.label,
        bin: None,
        options: TomogramOptions::default(),
        ome_zarr: OmeZarr::default(),
        dry_run: false,
    })
}

fn volume_job(
    app: &App,
    project: &Project,
    tomogram: &ProjectTomogram,
    layer: &str,
    export: &Export,
) -> Result<ConvertJob, ApiError> {
    let format = export.format.as_str();
    let is_known = |entry: &VolumeFormatEntry| entry.is_written && entry.extensions.contains(&format);
    if !volume_formats().iter().any(is_known) {
        return Err(ApiError::bad(format!("`{format}` is no format of volumes")));
    }
    Ok(ConvertJob {
        input: Layer::parse(layer)?.path(project, tomogram),
        output: output(app, project, &format!("{}.{layer}.{format}", tomogram.name))?,
        read: ReadOptions::default(),
        to: None,
        tomogram: None,
        only_class: None,
        bin: None,
        options: if layer == "tomogram" {
            tomogram_options(tomogram)?
        } else {
            TomogramOptions::default()
        },
        ome_zarr: OmeZarr::default(),
        dry_run: false,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileQuery {
    path: PathBuf,
}

/// The largest file that is handed out.
const MOST_BYTES: u64 = 1 << 30;

/// A file of the project's folders, to be kept by the browser.
pub(super) async fn file(
    State(app): State<Arc<App>>,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    on_thread(app, move |app| {
        let found = app.folders().existing(&query.path);
        let path = found.map_err(|error| ApiError::missing(error.to_string()))?;
        let bytes = read_file(&path, MOST_BYTES)?;
        let kept = format!("attachment; filename=\"{}\"", plain_name(&path));
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_DISPOSITION, kept),
        ];
        Ok((headers, bytes).into_response())
    })
    .await
}

/// A file's name as a header can hold it.
fn plain_name(path: &FilePath) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
    name.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}
