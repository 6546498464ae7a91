//! EM volumes (TOM, AV3, PyTom): the header of `crate::em`, then the voxels, x fastest. No voxel size, no origin.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use deepfinder_core::Volume;

use super::raw::{Raw, info};
use super::{ElementType, VolumeFile, VolumeFormat, Voxel};
use crate::em::{EmHeader, HEADER_BYTES};
use crate::{IoError, Result, write_file_atomically};

/// Whether a file that begins like this is an EM volume, and no motif list.
pub(super) fn recognises(head: &[u8]) -> bool {
    EmHeader::parse(head).is_some_and(|header| {
        let is_list = header.shape[0] == 1 && header.shape[2] == 20;
        let is_mrc = head.get(208..211) == Some(b"MAP");
        // Sizes that no volume has: the mark of a header is weak, and text or MRC must not pass for EM.
        !is_list && !is_mrc && header.shape.iter().all(|&n| n < 1 << 16)
    })
}

pub(super) fn open(path: &Path) -> Result<VolumeFile> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut start));
    read.map_err(IoError::file("read", path))?;
    let header = EmHeader::parse(&start).ok_or_else(|| {
        let what = "this is no header of an EM file (machine, type of numbers, three sizes)";
        IoError::malformed(path, "EM header", what)
    })?;
    let Some(element) = header.element else {
        let what = "EM type 8 holds complex numbers, a Fourier transform: give the real-space volume";
        return Err(IoError::unsupported(path, what));
    };
    let raw = Raw {
        offset: HEADER_BYTES as u64,
        shape: header.shape,
        element,
        is_big_endian: header.is_big_endian,
    };
    let mut warnings = Vec::new();
    let promised = format!(
        "its EM header promises {:?} voxels (z, y, x) of {element}",
        header.shape
    );
    raw.check_length(path, promised, &mut warnings)?;
    Ok(VolumeFile {
        path: path.to_owned(),
        info: info(VolumeFormat::Em, &raw, warnings),
        voxels: Box::new(raw),
    })
}

/// Writes an EM file: `f32` as type 5, `u8` 1, `i16` and `i8` 2, `u16` 4.
pub(super) fn write<T: Voxel>(path: &Path, volume: &Volume<T>) -> Result<()> {
    let element = match T::ELEMENT {
        ElementType::I8 => ElementType::I16,
        ElementType::U16 => ElementType::I32,
        other => other,
    };
    let header = EmHeader::encode(volume.shape(), element).ok_or_else(|| IoError::Unwritable {
        path: path.to_owned(),
        what: format!(
            "an EM file cannot hold a volume of {:?} voxels (z, y, x)",
            volume.shape()
        ),
    })?;
    let mut bytes = header.to_vec();
    for &voxel in &volume.voxels {
        let value = voxel.to_f32();
        match element {
            ElementType::U8 => bytes.push(value as u8),
            ElementType::I16 => bytes.extend((value as i16).to_le_bytes()),
            ElementType::I32 => bytes.extend((value as i32).to_le_bytes()),
            _ => bytes.extend(value.to_le_bytes()),
        }
    }
    write_file_atomically(path, &bytes)
}
