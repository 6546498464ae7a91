use std::fs::File;
use std::io::Read;
use std::path::Path;

use deepfinder_core::Volume;

use super::{VolumeFile, Voxel, hdf5, mrc, tiff};
use crate::{IoError, Result};

/// A format of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VolumeFormat {
    /// MRC2014 and its forerunners, also under gzip or bzip2.
    Mrc,
    /// HDF5 with the volume as a data set.
    Hdf5,
    /// A TIFF stack, a page a plane.
    Tiff,
}

/// What there is to know about a format; a new one is a module and a line of [`FORMATS`].
struct Entry {
    format: VolumeFormat,
    name: &'static str,
    extensions: &'static [&'static str],
    /// Whether a file that begins like this is of this format.
    recognises: fn(&[u8]) -> bool,
    open: fn(&Path) -> Result<VolumeFile>,
}

/// In the order in which content is looked at: MRC last, since its mark is the weakest.
const FORMATS: [Entry; 3] = [
    Entry {
        format: VolumeFormat::Hdf5,
        name: "HDF5",
        extensions: &["h5", "hdf5", "hdf"],
        recognises: |head| head.starts_with(b"\x89HDF\r\n\x1a\n"),
        open: hdf5::open,
    },
    Entry {
        format: VolumeFormat::Tiff,
        name: "TIFF",
        extensions: &["tif", "tiff"],
        recognises: |head| {
            [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
                .iter()
                .any(|&magic| head.starts_with(magic))
        },
        open: tiff::open,
    },
    Entry {
        format: VolumeFormat::Mrc,
        name: "MRC",
        extensions: &["mrc", "rec", "map", "st", "mrcs", "ali", "ccp4"],
        recognises: |head| {
            let is_compressed = head.starts_with(b"\x1f\x8b") || head.starts_with(b"BZh");
            is_compressed || head.get(208..211) == Some(b"MAP")
        },
        open: mrc::open,
    },
];

impl std::fmt::Display for VolumeFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = FORMATS.iter().find(|format| format.format == *self);
        f.pad(name.map_or("volume", |format| format.name))
    }
}

/// Opens a volume of any format: by what it begins with, and where that says nothing by its extension.
///
/// # Errors
/// [`IoError`] where the file is missing, empty, cut short, damaged or of an unknown kind. No more is allocated
/// than the file itself can fill.
pub fn open_volume(path: &Path) -> Result<VolumeFile> {
    let head = head(path)?;
    if head.is_empty() {
        return Err(IoError::malformed(
            path,
            "byte 0",
            "the file is empty. Was the program that made it stopped? Make it again",
        ));
    }
    let by_content = FORMATS.iter().find(|format| (format.recognises)(&head));
    match by_content.or_else(|| by_extension(path)) {
        Some(format) => (format.open)(path),
        None => Err(IoError::UnknownFormat {
            path: path.to_owned(),
            kind: "volume",
            hint: format!(
                "neither its beginning nor its extension is that of {}",
                known_formats()
            ),
        }),
    }
}

/// Writes a volume in the format of the path's extension: `.mrc`, `.rec`, `.map`, or `.h5` with the volume as
/// `/dataset`.
///
/// # Errors
/// [`IoError`] where the extension is no format that is written, or where writing fails; an existing file is
/// then as it was.
pub fn write_volume<T: Voxel>(path: &Path, volume: &Volume<T>) -> Result<()> {
    match by_extension(path).map(|format| format.format) {
        Some(VolumeFormat::Mrc) => mrc::write_mrc(path, volume),
        Some(VolumeFormat::Hdf5) => hdf5::write_hdf5(path, volume, hdf5::DEFAULT_DATASET),
        _ => Err(IoError::Unwritable {
            path: path.to_owned(),
            what: "volumes are written as .mrc, .rec, .map or .h5: give the file one of these extensions"
                .to_owned(),
        }),
    }
}

/// The first bytes of a file, as many as an MRC header has.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut head));
    read.map_err(IoError::file("read", path))?;
    Ok(head)
}

fn by_extension(path: &Path) -> Option<&'static Entry> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    FORMATS
        .iter()
        .find(|format| format.extensions.contains(&extension.as_str()))
}

fn known_formats() -> String {
    let names: Vec<String> = FORMATS
        .iter()
        .map(|format| format!("{} (.{})", format.name, format.extensions.join(", .")))
        .collect();
    names.join(", ")
}
