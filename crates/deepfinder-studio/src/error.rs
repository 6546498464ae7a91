use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use deepfinder_pipeline::PipelineError;

/// The result of serving.
pub type Result<T, E = StudioError> = std::result::Result<T, E>;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudioError {
    /// What was to be opened cannot be.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The address cannot be listened on.
    #[error(
        "{host}:{port} cannot be listened on: {source}. Is another studio running? Choose another --port, or 0 for any"
    )]
    Listen {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The server itself failed.
    #[error("the server failed: {0}")]
    Server(#[source] std::io::Error),
    /// The system gave no random numbers for a token.
    #[error("the system gives no random numbers for a token: {0}")]
    Random(String),
}

/// An answer that is no success; the page shows its text.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) what: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, what: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
        }
    }

    pub(crate) fn bad(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what)
    }

    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, what)
    }
}

impl From<PipelineError> for ApiError {
    fn from(error: PipelineError) -> Self {
        let status = match &error {
            PipelineError::Changed { .. } => StatusCode::CONFLICT,
            PipelineError::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

impl From<deepfinder_core::CoreError> for ApiError {
    fn from(error: deepfinder_core::CoreError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.what }))).into_response()
    }
}
