use std::fs::File;
use std::io::Read;
use std::path::Path;

use deepfinder_core::Volume;

use super::{OmeZarr, VolumeFile, Voxel, em, hdf5, mrc, npy, tiff, tiff_write, zarr};
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
    /// The EM format of TOM, AV3 and PyTom.
    Em,
    /// An array of NumPy.
    Npy,
    /// OME-Zarr 0.4 or 0.5, or a plain Zarr array.
    OmeZarr,
}

/// A line of the table of formats; a new one is a module and a line.
#[derive(Debug, Clone, Copy)]
pub struct VolumeFormatEntry {
    /// The format.
    pub format: VolumeFormat,
    /// What people call it.
    pub name: &'static str,
    /// Extensions it is told by where the content says nothing, and written under.
    pub extensions: &'static [&'static str],
    /// Whether a window is read without the rest of the file.
    pub is_windowed: bool,
    /// Whether such files are written.
    pub is_written: bool,
    /// Whether a file that begins like this is of this format.
    recognises: fn(&[u8]) -> bool,
    open: fn(&Path) -> Result<VolumeFile>,
}

/// In the order in which content is looked at: MRC and EM last, since their marks are the weakest.
const FORMATS: &[VolumeFormatEntry] = &[
    VolumeFormatEntry {
        format: VolumeFormat::Hdf5,
        name: "HDF5",
        extensions: &["h5", "hdf5", "hdf"],
        is_windowed: true,
        is_written: true,
        recognises: |head| head.starts_with(b"\x89HDF\r\n\x1a\n"),
        open: hdf5::open,
    },
    VolumeFormatEntry {
        format: VolumeFormat::Tiff,
        name: "TIFF",
        extensions: &["tif", "tiff"],
        is_windowed: true,
        is_written: true,
        recognises: |head| {
            [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
                .iter()
                .any(|&magic| head.starts_with(magic))
        },
        open: tiff::open,
    },
    VolumeFormatEntry {
        format: VolumeFormat::Mrc,
        name: "MRC",
        extensions: &["mrc", "rec", "map", "st", "mrcs", "ali", "ccp4"],
        is_windowed: true,
        is_written: true,
        recognises: |head| {
            let is_compressed = head.starts_with(b"\x1f\x8b") || head.starts_with(b"BZh");
            is_compressed || head.get(208..211) == Some(b"MAP")
        },
        open: mrc::open,
    },
    VolumeFormatEntry {
        format: VolumeFormat::Em,
        name: "EM",
        extensions: &["em"],
        is_windowed: true,
        is_written: true,
        recognises: em::recognises,
        open: em::open,
    },
    VolumeFormatEntry {
        format: VolumeFormat::Npy,
        name: "NPY",
        extensions: &["npy"],
        is_windowed: true,
        is_written: true,
        recognises: |head| head.starts_with(npy::MAGIC),
        open: npy::open,
    },
    VolumeFormatEntry {
        format: VolumeFormat::OmeZarr,
        name: "OME-Zarr 0.4 and 0.5",
        extensions: &["zarr"],
        is_windowed: true,
        is_written: true,
        recognises: |_| false,
        open: zarr::open,
    },
];

/// The table of formats of volumes.
pub fn volume_formats() -> &'static [VolumeFormatEntry] {
    FORMATS
}

/// Whether a folder is a volume: Zarr is one.
pub fn is_volume_folder(path: &Path) -> bool {
    zarr::is_zarr(path)
}

impl VolumeFormat {
    /// The format of a file that begins with these bytes; none where they tell nothing.
    pub(crate) fn of_content(head: &[u8]) -> Option<Self> {
        let found = FORMATS.iter().find(|format| (format.recognises)(head));
        found.map(|format| format.format)
    }
}

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
    if zarr::is_zarr(path) {
        return zarr::open(path);
    }
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

/// Writes a volume in the format of the path's extension: `.mrc`, `.rec`, `.map`, also with `.gz` or `.bz2`, `.h5` with
/// the volume as `/dataset`, `.tif`, `.em`, `.npy`, or `.zarr` (OME-Zarr 0.4); and OME-Zarr 0.4 at `s3://BUCKET/PATH`.
///
/// EM and NPY have no place for the voxel size, TIFF, EM and NPY none for the origin.
///
/// # Errors
/// [`IoError`] where the extension is no format that is written, or where writing fails; an existing file is
/// then as it was.
pub fn write_volume<T: Voxel>(path: &Path, volume: &Volume<T>) -> Result<()> {
    if zarr::is_url(path) {
        return zarr::write_ome_zarr(path, volume, OmeZarr::default());
    }
    match by_extension(path).map(|format| format.format) {
        Some(VolumeFormat::Mrc) => mrc::write_mrc(path, volume),
        Some(VolumeFormat::Hdf5) => hdf5::write_hdf5(path, volume, hdf5::DEFAULT_DATASET),
        Some(VolumeFormat::Tiff) => tiff_write::write(path, volume),
        Some(VolumeFormat::Em) => em::write(path, volume),
        Some(VolumeFormat::Npy) => npy::write(path, volume),
        Some(VolumeFormat::OmeZarr) => zarr::write_ome_zarr(path, volume, OmeZarr::default()),
        None => match packing(path) {
            Some(packing) => mrc::write_packed(path, volume, packing),
            None => Err(IoError::Unwritable {
                path: path.to_owned(),
                what: format!(
                    "volumes are written as {}: give the file one of these extensions",
                    known_formats()
                ),
            }),
        },
    }
}

/// How `name.mrc.gz` and `name.rec.bz2` are packed.
fn packing(path: &Path) -> Option<mrc::Packing> {
    let inner = by_extension(Path::new(path.file_stem()?))?;
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match (inner.format, ending.as_str()) {
        (VolumeFormat::Mrc, "gz") => Some(mrc::Packing::Gzip),
        (VolumeFormat::Mrc, "bz2") => Some(mrc::Packing::Bzip2),
        _ => None,
    }
}

/// The first bytes of a file, as many as an MRC header has.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut head));
    read.map_err(IoError::file("read", path))?;
    Ok(head)
}

fn by_extension(path: &Path) -> Option<&'static VolumeFormatEntry> {
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
