use std::fs;
use std::io::Write;
use std::path::Path;

use deepfinder_core::Volume;
use ndarray::{Array3, s};
use serde_json::{Value, json};

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
/// The folder is made beside its target and renamed when it is complete; a target that is Zarr itself is replaced.
///
/// # Errors
/// [`IoError`] where writing fails, or where there is something else of that name.
pub fn write_ome_zarr<T: Voxel>(path: &Path, volume: &Volume<T>, version: OmeZarr) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if super::is_url(path) {
        return Err(IoError::Unwritable {
            path: path.to_owned(),
            what: "nothing is written to stores: write to a disk and upload the folder".to_owned(),
        });
    }
    if path.exists() && !super::is_folder(path) {
        return Err(IoError::Unwritable {
            path: path.to_owned(),
            what: "there is something else of that name: choose another".to_owned(),
        });
    }
    let scratch = tempfile::Builder::new()
        .prefix(".zarr.")
        .suffix(".partial")
        .tempdir_in(parent);
    let scratch = scratch.map_err(IoError::file("write", path))?;
    let fresh = scratch.path().join("new");
    write_pyramid(&fresh, volume, version)?;
    if path.exists() {
        fs::rename(path, scratch.path().join("old")).map_err(IoError::file("replace", path))?;
    }
    fs::rename(&fresh, path).map_err(IoError::file("write", path))
}

fn write_pyramid<T: Voxel>(folder: &Path, volume: &Volume<T>, version: OmeZarr) -> Result<()> {
    let is_averaged = T::ELEMENT == ElementType::F32;
    let edge = volume.voxel_size.map_or(1.0, |size| f64::from(size.angstrom()));
    let [x, y, z] = volume.origin_angstrom.map(f64::from);
    let mut level = volume.voxels.clone();
    let mut levels = Vec::new();
    for index in 0..LEVELS {
        let factor = f64::from(1 << index);
        // An averaged voxel lies between those it was made of; a thinned one where the first of them was.
        let shift = if is_averaged {
            edge * (factor - 1.0) / 2.0
        } else {
            0.0
        };
        write_array(&folder.join(index.to_string()), &level, version)?;
        levels.push(json!({"path": index.to_string(), "coordinateTransformations": [
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
            put(&folder.join(".zgroup"), &json!({"zarr_format": 2}))?;
            put(&folder.join(".zattrs"), &json!({"multiscales": [pyramid]}))
        }
        OmeZarr::V05 => {
            let attributes = json!({"ome": {"version": "0.5", "multiscales": [pyramid]}});
            let group = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
            put(&folder.join("zarr.json"), &group)
        }
    }
}

fn write_array<T: Voxel>(folder: &Path, voxels: &Array3<T>, version: OmeZarr) -> Result<()> {
    fs::create_dir_all(folder).map_err(IoError::file("write", folder))?;
    let shape: [usize; 3] = voxels.dim().into();
    let chunk = shape.map(|n| n.clamp(1, CHUNK));
    match version {
        OmeZarr::V04 => put(
            &folder.join(".zarray"),
            &json!({
                "zarr_format": 2, "shape": shape, "chunks": chunk, "dtype": dtype(T::ELEMENT), "order": "C",
                "compressor": {"id": "gzip", "level": 1}, "fill_value": 0, "filters": null, "dimension_separator": "/",
            }),
        )?,
        OmeZarr::V05 => put(
            &folder.join("zarr.json"),
            &json!({
                "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": type_name(T::ELEMENT),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": 0,
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "gzip", "configuration": {"level": 1}},
                ],
                "dimension_names": ["z", "y", "x"],
            }),
        )?,
    }
    let root = match version {
        OmeZarr::V04 => folder.to_owned(),
        OmeZarr::V05 => folder.join("c"),
    };
    let grid: [usize; 3] = std::array::from_fn(|axis| shape[axis].div_ceil(chunk[axis]));
    for z in 0..grid[0] {
        for y in 0..grid[1] {
            let folder = root.join(z.to_string()).join(y.to_string());
            fs::create_dir_all(&folder).map_err(IoError::file("write", &folder))?;
            for x in 0..grid[2] {
                write_chunk(&folder.join(x.to_string()), voxels, chunk, [z, y, x])?;
            }
        }
    }
    Ok(())
}

/// A chunk is whole also where the volume ends within it: the rest is 0.
fn write_chunk<T: Voxel>(path: &Path, voxels: &Array3<T>, chunk: [usize; 3], at: [usize; 3]) -> Result<()> {
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
    let packed = packer.write_all(&bytes).and_then(|()| packer.finish());
    let packed = packed.map_err(IoError::file("write", path))?;
    fs::write(path, packed).map_err(IoError::file("write", path))
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

fn put(path: &Path, value: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(IoError::file("write", folder))?;
    }
    fs::write(path, format!("{value:#}\n")).map_err(IoError::file("write", path))
}
