use std::fs;
use std::io::Write;
use std::path::Path;

use deepfinder_core::Volume;
use ndarray::{Array3, s};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::store::{Part, Store, is_url};
use crate::volume::npy::dtype;
use crate::volume::{ElementType, Voxel};
use crate::{IoError, Result};

/// Which version of OME-Zarr to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OmeZarr {
    /// 0.4 on Zarr 2, which copick and the `CryoET` Data Portal have.
    #[default]
    V04,
    /// 0.5 on Zarr 3.
    V05,
}

/// Voxels of a chunk along an axis.
const CHUNK: usize = 128;

/// Levels of the pyramid; each halves the one before.
const LEVELS: usize = 3;

/// Writes a pyramid of three levels, axes z, y, x in Å. Labels (integers) are thinned out, other voxels averaged.
///
/// The folder is made beside its target and renamed when it is complete; a target that is Zarr itself is replaced. In a
/// store (`s3://BUCKET/PATH`) nothing can be renamed: metadata come after all voxels and those of the whole last, so that
/// what was cut off is no volume, and a volume that is there is left alone.
///
/// # Errors
/// [`IoError`] where writing fails, where there is something else of that name, or, in a store, a volume already.
pub fn write_ome_zarr<T: Voxel>(path: &Path, volume: &Volume<T>, version: OmeZarr) -> Result<()> {
    let store = check_ome_zarr(path, version)?;
    if is_url(path) {
        return write_pyramid(&store, volume, version).map_err(|error| {
            let what = format!(
                "{error}. What has arrived has no metadata and is read as no volume: do it again, under the same name if you like"
            );
            unwritable(path, what)
        });
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let scratch = tempfile::Builder::new()
        .prefix(".zarr.")
        .suffix(".partial")
        .tempdir_in(parent);
    let scratch = scratch.map_err(IoError::file("write", path))?;
    let fresh = scratch.path().join("new");
    write_pyramid(&Store::open(&fresh)?, volume, version)?;
    if path.exists() {
        fs::rename(path, scratch.path().join("old")).map_err(IoError::file("replace", path))?;
    }
    fs::rename(&fresh, path).map_err(IoError::file("write", path))
}

/// Finds out before long work whether [`write_ome_zarr`] can write there.
///
/// # Errors
/// [`IoError::Unwritable`] where there is something else of that name; in a store, a volume already, or no key to write with.
pub fn check_ome_zarr_writable(path: &Path, version: OmeZarr) -> Result<()> {
    check_ome_zarr(path, version).map(drop)
}

/// As [`check_ome_zarr_writable`]; gives the place.
fn check_ome_zarr(path: &Path, version: OmeZarr) -> Result<Store> {
    let store = Store::open(path)?;
    if !is_url(path) {
        if path.exists() && !super::is_folder(path) {
            return Err(unwritable(
                path,
                "there is something else of that name: choose another",
            ));
        }
        return Ok(store);
    }
    store.check_writable().map_err(|what| unwritable(path, what))?;
    let whole = [".zattrs", ".zarray", "zarr.json"].map(str::to_owned);
    // Readers take these before those of 0.4: what a write of 0.5 left behind would be read in its stead.
    let of_levels = (0..LEVELS).map(|level| format!("{level}/zarr.json"));
    let of_levels = of_levels.filter(|_| version == OmeZarr::V04);
    for name in whole.into_iter().chain(of_levels) {
        if store.read(&name, Part::Whole)?.is_some() {
            let what = "there is a volume of that name, or what is left of one, and a store cannot exchange it for another in \
                one step: choose another name, or delete it first";
            return Err(unwritable(path, what));
        }
    }
    Ok(store)
}

fn unwritable(path: &Path, what: impl Into<String>) -> IoError {
    IoError::Unwritable {
        path: path.to_owned(),
        what: what.into(),
    }
}

fn write_pyramid<T: Voxel>(store: &Store, volume: &Volume<T>, version: OmeZarr) -> Result<()> {
    let is_averaged = T::ELEMENT == ElementType::F32;
    let edge = volume.voxel_size.map_or(1.0, |size| f64::from(size.angstrom()));
    let [x, y, z] = volume.origin_angstrom.map(f64::from);
    let mut level = volume.voxels.clone();
    let mut levels = Vec::new();
    let mut metadata = Vec::new();
    for index in 0..LEVELS {
        let factor = f64::from(1 << index);
        // An averaged voxel lies between those it was made of; a thinned one where the first of them was.
        let shift = if is_averaged {
            edge * (factor - 1.0) / 2.0
        } else {
            0.0
        };
        let name = index.to_string();
        metadata.push(write_array(store, &name, &level, version)?);
        levels.push(json!({"path": name, "coordinateTransformations": [
            {"type": "scale", "scale": [edge * factor, edge * factor, edge * factor]},
            {"type": "translation", "translation": [z + shift, y + shift, x + shift]},
        ]}));
        if index + 1 < LEVELS {
            level = halved(&level, is_averaged);
        }
    }
    let mut axes = vec![];
    for name in ["z", "y", "x"] {
        let mut axis = json!({"name": name, "type": "space"});
        if let (Some(axis), true) = (axis.as_object_mut(), volume.voxel_size.is_some()) {
            axis.insert("unit".to_owned(), json!("angstrom"));
        }
        axes.push(axis);
    }
    let mut pyramid = json!({"axes": axes, "datasets": levels, "name": "/"});
    match version {
        OmeZarr::V04 => {
            if let Some(pyramid) = pyramid.as_object_mut() {
                pyramid.insert("version".to_owned(), json!("0.4"));
            }
            metadata.push((".zgroup".to_owned(), json!({"zarr_format": 2})));
            metadata.push((".zattrs".to_owned(), json!({"multiscales": [pyramid]})));
        }
        OmeZarr::V05 => {
            let attributes = json!({"ome": {"version": "0.5", "multiscales": [pyramid]}});
            let group = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
            metadata.push(("zarr.json".to_owned(), group));
        }
    }
    metadata
        .iter()
        .try_for_each(|(name, value)| store.write(name, format!("{value:#}\n").as_bytes()))
}

/// Writes the chunks of a level; gives the name and content of its metadata, to be written after all chunks.
fn write_array<T: Voxel>(
    store: &Store,
    name: &str,
    voxels: &Array3<T>,
    version: OmeZarr,
) -> Result<(String, Value)> {
    let shape: [usize; 3] = voxels.dim().into();
    let chunk = shape.map(|n| n.clamp(1, CHUNK));
    let grid: [usize; 3] = std::array::from_fn(|axis| shape[axis].div_ceil(chunk[axis]));
    let root = match version {
        OmeZarr::V04 => name.to_owned(),
        OmeZarr::V05 => format!("{name}/c"),
    };
    let count = grid[0] * grid[1] * grid[2];
    (0..count).into_par_iter().try_for_each(|index| {
        let at = [
            index / (grid[1] * grid[2]),
            index / grid[2] % grid[1],
            index % grid[2],
        ];
        let [z, y, x] = at;
        let path = format!("{root}/{z}/{y}/{x}");
        let packed =
            packed_chunk(voxels, chunk, at).map_err(IoError::file("write", &store.root().join(&path)))?;
        store.write(&path, &packed)
    })?;
    Ok(match version {
        OmeZarr::V04 => (
            format!("{name}/.zarray"),
            json!({
                "zarr_format": 2, "shape": shape, "chunks": chunk, "dtype": dtype(T::ELEMENT), "order": "C",
                "compressor": {"id": "gzip", "level": 1}, "fill_value": 0, "filters": null, "dimension_separator": "/",
            }),
        ),
        OmeZarr::V05 => (
            format!("{name}/zarr.json"),
            json!({
                "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": type_name(T::ELEMENT),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": 0,
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "gzip", "configuration": {"level": 1}},
                ],
                "dimension_names": ["z", "y", "x"],
            }),
        ),
    })
}

/// A chunk is whole also where the volume ends within it: the rest is 0.
fn packed_chunk<T: Voxel>(voxels: &Array3<T>, chunk: [usize; 3], at: [usize; 3]) -> std::io::Result<Vec<u8>> {
    let shape: [usize; 3] = voxels.dim().into();
    let low: [usize; 3] = std::array::from_fn(|axis| at[axis] * chunk[axis]);
    let high: [usize; 3] = std::array::from_fn(|axis| (low[axis] + chunk[axis]).min(shape[axis]));
    let part = voxels.slice(s![low[0]..high[0], low[1]..high[1], low[2]..high[2]]);
    let mut whole = Array3::from_elem(chunk, T::default());
    let (depth, height, width) = part.dim();
    whole.slice_mut(s![..depth, ..height, ..width]).assign(&part);
    let mut bytes = Vec::new();
    for &voxel in &whole {
        voxel.put_little_endian(&mut bytes);
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&bytes)?;
    packer.finish()
}

/// Half as many voxels along each axis; an odd last one is kept.
fn halved<T: Voxel>(voxels: &Array3<T>, is_averaged: bool) -> Array3<T> {
    let shape: [usize; 3] = voxels.dim().into();
    Array3::from_shape_fn(shape.map(|n| n.div_ceil(2)), |(z, y, x)| {
        if !is_averaged {
            return voxels[[2 * z, 2 * y, 2 * x]];
        }
        let end = |at: usize, axis: usize| (2 * at + 2).min(shape[axis]);
        let cube = voxels.slice(s![2 * z..end(z, 0), 2 * y..end(y, 1), 2 * x..end(x, 2)]);
        let sum: f64 = cube.iter().map(|voxel| f64::from(voxel.to_f32())).sum();
        T::from_f32((sum / cube.len() as f64) as f32)
    })
}

const fn type_name(element: ElementType) -> &'static str {
    match element {
        ElementType::U8 => "uint8",
        ElementType::I8 => "int8",
        ElementType::U16 => "uint16",
        ElementType::I16 => "int16",
        ElementType::U32 => "uint32",
        ElementType::I32 => "int32",
        ElementType::U64 => "uint64",
        ElementType::I64 => "int64",
        ElementType::F16 => "float16",
        ElementType::F32 => "float32",
        ElementType::F64 => "float64",
    }
}
