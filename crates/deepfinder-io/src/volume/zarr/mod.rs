//! OME-Zarr 0.4 (Zarr 2) and 0.5 (Zarr 3): a folder with a pyramid of volumes (<https://ngff.openmicroscopy.org>).
//!
//! Axes are z, y, x; further ones (time, channel) may stand before them if they have one entry. The finest level is
//! read. Its scale is the voxel size in the unit of the axes, Å, nm or µm, times that of the whole pyramid; its
//! translation is the origin. A plain Zarr array of three axes is read too, without a voxel size. Chunks may share files
//! (`sharding_indexed`), and the folder may be a URL: `https://…`, or `s3://bucket/…`, which is written to as well.

mod array;
mod blosclz;
#[cfg(feature = "remote")]
mod bucket;
mod codec;
mod metadata;
#[cfg(feature = "remote")]
mod remote;
mod shard;
mod store;
mod write;

use std::path::Path;

use deepfinder_core::VoxelSize;
use serde_json::Value;

use self::array::Array;
use self::store::Store;
use super::{VolumeFile, VolumeFormat, VolumeInfo};
use crate::{IoError, Result};

pub use store::is_url;
pub use write::{OmeZarr, check_ome_zarr_writable, write_ome_zarr};

/// Whether a path is a folder of Zarr, or a URL: nothing else is read from there.
pub(super) fn is_zarr(path: &Path) -> bool {
    is_url(path) || is_folder(path)
}

/// Whether a path is a folder of Zarr on a disk.
fn is_folder(path: &Path) -> bool {
    [".zattrs", ".zgroup", ".zarray", "zarr.json"]
        .iter()
        .any(|name| path.join(name).is_file())
}

pub(super) fn open(path: &Path) -> Result<VolumeFile> {
    let mut warnings = Vec::new();
    let store = Store::open(path)?;
    let attributes = attributes(&store)?;
    let ome = attributes.get("ome").unwrap_or(&attributes);
    let pyramid = ome.get("multiscales").and_then(|scales| scales.get(0));
    let (array, scale, translation) = match pyramid {
        Some(pyramid) => {
            let wrong = |what: String| IoError::malformed(path, "multiscales[0]", what);
            let level = pyramid.get("datasets").and_then(|levels| levels.get(0));
            let name = level.and_then(|level| level.get("path")?.as_str());
            let (Some(level), Some(name)) = (level, name) else {
                return Err(wrong(
                    "no `datasets[0].path`: the finest level is not named".to_owned(),
                ));
            };
            if name.split(['/', '\\']).any(|part| part == "..") || Path::new(name).is_absolute() {
                return Err(wrong(format!("the level `{name}` lies outside the folder")));
            }
            let array = Array::open(store.below(name))?;
            let unit = check_axes(pyramid, &mut warnings).map_err(wrong)?;
            let edge = |axis: usize| {
                let own = transform(level, "scale", axis).unwrap_or(1.0);
                own * transform(pyramid, "scale", axis).unwrap_or(1.0) * unit
            };
            let place = |axis: usize| {
                let own = transform(level, "translation", axis).unwrap_or(0.0);
                let scale = transform(pyramid, "scale", axis).unwrap_or(1.0);
                (own * scale + transform(pyramid, "translation", axis).unwrap_or(0.0)) * unit
            };
            let has_scale =
                transform(level, "scale", 0).is_some() || transform(pyramid, "scale", 0).is_some();
            let scale = has_scale.then(|| [edge(0), edge(1), edge(2)]);
            (array, scale, [place(0), place(1), place(2)])
        }
        None => (Array::open(store)?, None, [0.0; 3]),
    };
    // Counted from the last axis: x, y, z.
    let voxel_size = scale.and_then(|[x, ..]| VoxelSize::new(x as f32).ok());
    match (voxel_size, scale) {
        (None, _) => warnings.push("no voxel size in the file. Give it by hand where it matters".to_owned()),
        (Some(size), Some(scale)) => {
            let agrees =
                |edge: &f64| VoxelSize::new(*edge as f32).is_ok_and(|edge| edge.agrees_with(size, 0.01));
            if !scale.iter().all(agrees) {
                warnings.push(format!(
                    "voxels are not cubes: {scale:?} Å along x, y, z. {size} is used for all three"
                ));
            }
            if size.angstrom() == 1.0 {
                warnings.push("the scale says 1 Å a voxel, as many programs write when they do not know: check the voxel size".to_owned());
            }
        }
        _ => {}
    }
    Ok(VolumeFile {
        path: path.to_owned(),
        info: VolumeInfo {
            format: VolumeFormat::OmeZarr,
            shape: array.shape,
            element_type: array.element,
            voxel_size,
            origin_angstrom: translation.map(|value| value as f32),
            warnings,
        },
        voxels: Box::new(array),
    })
}

/// The attributes of a group: Zarr 3 keeps them in `zarr.json`, Zarr 2 in `.zattrs`.
fn attributes(store: &Store) -> Result<Value> {
    if let Some(group) = store.json("zarr.json")? {
        return Ok(group.get("attributes").cloned().unwrap_or(Value::Null));
    }
    Ok(store.json(".zattrs")?.unwrap_or(Value::Null))
}

/// The unit of the axes in Å; an error where they are not … z, y, x.
fn check_axes(pyramid: &Value, warnings: &mut Vec<String>) -> std::result::Result<f64, String> {
    let Some(axes) = pyramid.get("axes").and_then(Value::as_array) else {
        warnings.push("the axes are not named: taken as z, y, x in Å".to_owned());
        return Ok(1.0);
    };
    let name = |axis: &Value| {
        axis.get("name")
            .or(Some(axis))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let names: Vec<String> = axes.iter().filter_map(name).collect();
    if !names.ends_with(&["z", "y", "x"].map(str::to_owned)) {
        return Err(format!(
            "the axes are {}, and a volume's are z, y, x",
            names.join(", ")
        ));
    }
    let unit = axes.last().and_then(|axis| axis.get("unit")?.as_str());
    Ok(match unit {
        Some("angstrom" | "Angstrom" | "ångström" | "Å") => 1.0,
        Some("nanometer" | "nm") => 10.0,
        Some("micrometer" | "um" | "µm") => 1e4,
        other => {
            let other = other.map_or("no unit".to_owned(), |unit| format!("the unit `{unit}`"));
            warnings.push(format!("the axes have {other}: the scale is taken to be in Å"));
            1.0
        }
    })
}

/// A scale or translation, by axis counted from the last.
fn transform(of: &Value, kind: &str, axis: usize) -> Option<f64> {
    let transforms = of.get("coordinateTransformations")?.as_array()?;
    let found = transforms
        .iter()
        .find(|one| one.get("type").and_then(Value::as_str) == Some(kind))?;
    let values = found.get(kind)?.as_array()?;
    let value = values.get(values.len().checked_sub(axis + 1)?)?.as_f64()?;
    value.is_finite().then_some(value)
}
