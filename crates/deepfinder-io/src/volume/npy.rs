//! NumPy's NPY (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>): a volume as an array with axes
//! `(z, y, x)` in C order. No voxel size, no origin.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use deepfinder_core::Volume;

use super::raw::{Raw, info};
use super::{ElementType, VolumeFile, VolumeFormat, Voxel};
use crate::{IoError, Result, write_file_atomically};

/// What an NPY file begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Headers are a line of text; one longer than this is none.
const MAX_HEADER_BYTES: usize = 1 << 16;

pub(super) fn open(path: &Path) -> Result<VolumeFile> {
    let wrong = |what: String| IoError::malformed(path, "NPY header", what);
    let mut file = File::open(path).map_err(IoError::file("read", path))?;
    let mut start = [0; 12];
    let mut read = |buffer: &mut [u8]| file.read_exact(buffer).map_err(IoError::file("read", path));
    read(&mut start[..10])?;
    if !start.starts_with(MAGIC) {
        return Err(wrong("this is no NPY file".to_owned()));
    }
    let (offset, length) = if start[6] == 1 {
        (10, usize::from(u16::from_le_bytes([start[8], start[9]])))
    } else {
        read(&mut start[10..])?;
        (
            12,
            u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize,
        )
    };
    if length > MAX_HEADER_BYTES {
        return Err(wrong(format!("a header of {length} bytes cannot be")));
    }
    let mut header = vec![0; length];
    read(&mut header)?;
    let header = String::from_utf8_lossy(&header).into_owned();

    let value = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let descr = value("descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next());
    let descr = descr.ok_or_else(|| wrong("no type of numbers (`descr`)".to_owned()))?;
    let (element, is_big_endian) = element(descr).ok_or_else(|| {
        IoError::unsupported(
            path,
            format!("numbers of type `{descr}` are no voxels: save integers or floats"),
        )
    })?;
    if value("fortran_order").is_some_and(|rest| rest.starts_with("True")) {
        let what = "the array is in Fortran order: save it with np.save(name, np.ascontiguousarray(volume))";
        return Err(IoError::unsupported(path, what));
    }
    let sizes = value("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
    let sizes: Option<Vec<usize>> = sizes.and_then(|sizes| {
        let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    });
    let sizes = sizes.ok_or_else(|| wrong("no `shape`".to_owned()))?;
    let shape: [usize; 3] = sizes.as_slice().try_into().map_err(|_| {
        wrong(format!(
            "a volume has three axes (z, y, x), this array has {}: {sizes:?}",
            sizes.len()
        ))
    })?;
    if shape.contains(&0) {
        return Err(wrong(format!("{shape:?} voxels are none")));
    }
    let raw = Raw {
        offset: (offset + length) as u64,
        shape,
        element,
        is_big_endian,
    };
    let mut warnings = Vec::new();
    let promised = format!("its NPY header promises {shape:?} voxels (z, y, x) of {element}");
    raw.check_length(path, promised, &mut warnings)?;
    Ok(VolumeFile {
        path: path.to_owned(),
        info: info(VolumeFormat::Npy, &raw, warnings),
        voxels: Box::new(raw),
    })
}

/// Writes an NPY file of version 1.
pub(super) fn write<T: Voxel>(path: &Path, volume: &Volume<T>) -> Result<()> {
    let descr = dtype(T::ELEMENT);
    let [depth, height, width] = volume.shape();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({depth}, {height}, {width}), }}");
    // Voxels begin at a multiple of 64 bytes, behind a line end.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    for &voxel in &volume.voxels {
        voxel.put_little_endian(&mut bytes);
    }
    write_file_atomically(path, &bytes)
}

/// NumPy's name of a type, as NPY and Zarr 2 use it.
pub(super) const fn dtype(element: ElementType) -> &'static str {
    match element {
        ElementType::U8 => "|u1",
        ElementType::I8 => "|i1",
        ElementType::U16 => "<u2",
        ElementType::I16 => "<i2",
        ElementType::U32 => "<u4",
        ElementType::I32 => "<i4",
        ElementType::U64 => "<u8",
        ElementType::I64 => "<i8",
        ElementType::F16 => "<f2",
        ElementType::F32 => "<f4",
        ElementType::F64 => "<f8",
    }
}

/// The type that NumPy calls that, and whether it is big-endian.
pub(super) fn element(dtype: &str) -> Option<(ElementType, bool)> {
    let (order, kind) = dtype.split_at_checked(1)?;
    let is_big_endian = match order {
        "<" | "|" | "=" => false,
        ">" => true,
        _ => return None,
    };
    let element = match kind {
        "u1" | "b1" => ElementType::U8,
        "i1" => ElementType::I8,
        "u2" => ElementType::U16,
        "i2" => ElementType::I16,
        "u4" => ElementType::U32,
        "i4" => ElementType::I32,
        "u8" => ElementType::U64,
        "i8" => ElementType::I64,
        "f2" => ElementType::F16,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        _ => return None,
    };
    Some((element, is_big_endian))
}
