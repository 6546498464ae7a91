use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of the page, built from `web` and kept in the program.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// Vite names them so, without hashes, as set in `web/vite.config.ts`.
const ASSETS: [Asset; 3] = [
    Asset {
        path: "index.html",
        media_type: "text/html; charset=utf-8",
        bytes: include_bytes!("../web/dist/index.html"),
    },
    Asset {
        path: "studio.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../web/dist/studio.js"),
    },
    Asset {
        path: "studio.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../web/dist/studio.css"),
    },
];

/// The file of that name.
pub(crate) fn asset(path: &str) -> Response {
    match ASSETS.iter().find(|asset| asset.path == path) {
        Some(asset) => ([(header::CONTENT_TYPE, asset.media_type)], asset.bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
