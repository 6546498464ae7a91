//! Slices, small copies and crops of volumes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use deepfinder_core::Region;
use ndarray::s;
use serde::Deserialize;

use super::project::named;
use super::{bytes, on_thread};
use crate::error::ApiError;
use crate::sections::{Across, Kind, SliceRequest};
use crate::state::{App, Layer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SliceQuery {
    layer: String,
    /// `z`, `y` or `x`.
    axis: String,
    index: usize,
    #[serde(default)]
    slab: usize,
    #[serde(default)]
    bin: usize,
    #[serde(default)]
    low: f32,
    #[serde(default)]
    high: f32,
    /// Asked anew where it changes.
    #[serde(default, rename = "version")]
    _version: String,
}

/// Slices on either side that are averaged at most.
const MOST_SLAB: usize = 50;
/// Voxels squared that become one at most.
const MOST_BIN: usize = 16;

/// A slice in bytes, row by row; its size stands in headers.
pub(super) async fn slice(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<SliceQuery>,
) -> Result<Response, ApiError> {
    let across = match query.axis.as_str() {
        "z" => Across::Z,
        "y" => Across::Y,
        "x" => Across::X,
        other => return Err(ApiError::bad(format!("`{other}` is no axis: z, y or x"))),
    };
    let layer = Layer::parse(&query.layer)?;
    if layer.kind() == Kind::Grey
        && !(query.high > query.low && query.low.is_finite() && query.high.is_finite())
    {
        return Err(ApiError::bad(
            "low and high are no window: high must be above low",
        ));
    }
    let request = SliceRequest {
        across,
        index: query.index,
        slab: query.slab.min(MOST_SLAB),
        bin: query.bin.clamp(1, MOST_BIN),
        window: (query.low, query.high),
    };
    let slice = on_thread(app, move |app| {
        let project = app.project();
        let sections = app.sections(&project, named(&project, &name)?, layer)?;
        Ok(sections.slice(request)?)
    })
    .await?;
    Ok(bytes(
        slice.bytes,
        &[
            ("x-width", slice.width.to_string()),
            ("x-height", slice.height.to_string()),
            ("x-preview", u8::from(slice.is_preview).to_string()),
        ],
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockQuery {
    layer: String,
    #[serde(default, rename = "version")]
    _version: String,
}

/// The longest side of a small copy.
const BLOCK_SIDE: usize = 160;

/// A label map thinned until it is small, for surfaces: bytes `(z, y, x)`.
pub(super) async fn block(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<BlockQuery>,
) -> Result<Response, ApiError> {
    let layer = Layer::parse(&query.layer)?;
    if layer.kind() != Kind::Labels {
        return Err(ApiError::bad("surfaces are made of label maps"));
    }
    let (voxels, shape, step) = on_thread(app, move |app| {
        let project = app.project();
        let sections = app.sections(&project, named(&project, &name)?, layer)?;
        let [depth, height, width] = sections.shape();
        let step = depth.max(height).max(width).div_ceil(BLOCK_SIDE).max(1);
        let mut voxels = Vec::new();
        for z in (0..depth).step_by(step) {
            let plane = sections
                .reader()
                .read_window(Region::new([z, 0, 0], [1, height, width]))?;
            voxels.extend(
                plane
                    .slice(s![0, ..;step, ..;step])
                    .iter()
                    .map(|label| *label as u8),
            );
        }
        Ok((voxels, [depth, height, width].map(|n| n.div_ceil(step)), step))
    })
    .await?;
    let [depth, height, width] = shape.map(|n| n.to_string());
    let facts = [
        ("x-depth", depth),
        ("x-height", height),
        ("x-width", width),
        ("x-step", step.to_string()),
    ];
    Ok(bytes(voxels, &facts))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CropsRequest {
    /// `(x, y, z)` in voxels.
    positions: Vec<[f64; 3]>,
    /// Side of a square in voxels.
    side: usize,
    low: f32,
    high: f32,
}

const MOST_CROPS: usize = 200;
const MOST_SIDE: usize = 128;

/// Squares of the slices through positions across z, one after the other; what lies outside is black.
pub(super) async fn crops(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(request): Json<CropsRequest>,
) -> Result<Response, ApiError> {
    let side = request.side.clamp(8, MOST_SIDE);
    if request.positions.len() > MOST_CROPS {
        return Err(ApiError::bad(format!("at most {MOST_CROPS} crops at a time")));
    }
    let crops = on_thread(app, move |app| {
        let project = app.project();
        let sections = app.sections(&project, named(&project, &name)?, Layer::Tomogram)?;
        let shape = sections.shape();
        let scale = 255.0 / (request.high - request.low).max(1e-30);
        let mut squares = vec![0_u8; request.positions.len() * side * side];
        for (position, square) in request
            .positions
            .iter()
            .zip(squares.chunks_exact_mut(side * side))
        {
            let centre = [2, 1, 0].map(|axis| position[axis].round() as i64);
            let first = [
                centre[0] - 1,
                centre[1] - side as i64 / 2,
                centre[2] - side as i64 / 2,
            ];
            let sizes = [3, side as i64, side as i64];
            let start: [usize; 3] =
                std::array::from_fn(|axis| first[axis].clamp(0, shape[axis] as i64) as usize);
            let end: [usize; 3] =
                std::array::from_fn(|axis| (first[axis] + sizes[axis]).clamp(0, shape[axis] as i64) as usize);
            let region = Region::new(
                start,
                std::array::from_fn(|axis| end[axis].saturating_sub(start[axis])),
            );
            if region.voxels() == 0 {
                continue;
            }
            let window = sections.reader().read_window(region)?;
            let planes = region.shape[0] as f32;
            for y in 0..region.shape[1] {
                for x in 0..region.shape[2] {
                    let mean = window.slice(s![.., y, x]).sum() / planes;
                    let row = (start[1] + y) as i64 - first[1];
                    let column = (start[2] + x) as i64 - first[2];
                    square[row as usize * side + column as usize] = ((mean - request.low) * scale) as u8;
                }
            }
        }
        Ok(squares)
    })
    .await?;
    Ok(bytes(crops, &[("x-side", side.to_string())]))
}
