//! What can be asked for. Handlers that read, compute or write do so on a thread for that.

mod checks;
mod export;
mod lists;
mod project;
mod slices;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::assets::asset;
use crate::error::ApiError;
use crate::state::App;

/// The largest request: a list of a hundred thousand particles.
const MOST_BYTES: usize = 16 << 20;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(async || asset("index.html")))
        .route("/{file}", get(async |Path(file): Path<String>| asset(&file)))
        .route("/api/project", get(project::show).put(project::change))
        .route("/api/tomograms/{name}", get(project::tomogram))
        .route("/api/tomograms/{name}/slice", get(slices::slice))
        .route("/api/tomograms/{name}/block", get(slices::block))
        .route("/api/tomograms/{name}/crops", post(slices::crops))
        .route("/api/tomograms/{name}/list", get(lists::any))
        .route(
            "/api/tomograms/{name}/lists/{which}",
            get(lists::show).put(lists::change),
        )
        .route("/api/tomograms/{name}/find", post(checks::find))
        .route("/api/tomograms/{name}/evaluate", post(checks::evaluate))
        .route("/api/tomograms/{name}/consensus", post(checks::consensus))
        .route("/api/tomograms/{name}/export", post(export::export))
        .route("/api/lists", get(lists::all))
        .route("/api/formats", get(export::formats))
        .route("/api/file", get(export::file))
        .route("/api/job", get(work::show).post(work::begin).delete(work::stop))
        .route("/api/events", get(work::events))
        .route("/api/metrics", get(work::metrics))
        .fallback(async || ApiError::missing("there is no such page"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "that cannot be done here")
        })
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(app)
}

/// Does work that reads or computes on a thread for that; a few at a time, the others wait.
async fn on_thread<T: Send + 'static>(
    app: Arc<App>,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |what: &str| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, what);
    let _permit = app
        .at_work
        .acquire()
        .await
        .map_err(|_| failed("the server is ending"))?;
    let working = app.clone();
    let done = tokio::task::spawn_blocking(move || work(&working)).await;
    done.unwrap_or_else(|_| {
        Err(failed(
            "this request met a mistake in the program; please report it",
        ))
    })
}

/// Bytes with some facts about them as headers.
fn bytes(bytes: Vec<u8>, facts: &[(&'static str, String)]) -> Response {
    let mut response = ([("content-type", "application/octet-stream")], bytes).into_response();
    for (name, value) in facts {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
