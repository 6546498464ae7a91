use std::io;
use std::path::{Path, PathBuf};

use deepfinder_core::{BoxError, CoreError};

/// The result of reading or writing a file.
pub type Result<T, E = IoError> = std::result::Result<T, E>;

/// What can be wrong with a file. Every message names the file, what is wrong with it, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    File {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Nothing can be written at that path.
    #[error("cannot write {}: {what}", path.display())]
    Unwritable {
        /// The output file.
        path: PathBuf,
        /// What stands in the way, and what to do.
        what: String,
    },
    /// Neither content nor name tells a format that is read.
    #[error("{}: cannot tell what kind of {kind} this is: {hint}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// `volume` or `particle list`.
        kind: &'static str,
        /// What was looked at, and what is known.
        hint: String,
    },
    /// The file ends before its data do.
    #[error(
        "{}: the file is cut short: {promised}, which needs {needed} bytes, but it holds {found}. Copy it again from where it came from",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What the header says, with the place it says it.
        promised: String,
        /// Bytes that this takes.
        needed: u128,
        /// Bytes that are there.
        found: u64,
    },
    /// The content contradicts the format.
    #[error("{}: {place}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, record, header word, data set or page.
        place: String,
        /// What is wrong there, and what to do.
        what: String,
    },
    /// A valid file of a kind that is not read or written here.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A voxel of what should be a label map is no label.
    #[error(
        "{}: voxel {at:?} (z, y, x) holds {value}: a label map holds whole numbers from 0 to 255. Is this a tomogram or a score map?",
        path.display()
    )]
    NoLabel {
        /// The file.
        path: PathBuf,
        /// Voxel `(z, y, x)`.
        at: [usize; 3],
        /// What it holds.
        value: f32,
    },
    /// A class name in a particle list that nobody has heard of.
    #[error("{}: {place}: unknown class `{name}`: {hint}", path.display())]
    UnknownClass {
        /// The file.
        path: PathBuf,
        /// Line or record.
        place: String,
        /// The name.
        name: String,
        /// The classes there are.
        hint: String,
    },
    /// A slab of planes that does not fit the volume being written.
    #[error(
        "{}: got planes {got:?} (z, y, x) after {written} of the {shape:?} volume's planes were written",
        path.display()
    )]
    Planes {
        /// The output file.
        path: PathBuf,
        /// Shape of the slab, `(z, y, x)`.
        got: [usize; 3],
        /// Planes written before.
        written: usize,
        /// Shape of the volume, `(z, y, x)`.
        shape: [usize; 3],
    },
    /// A window that does not fit the volume being written, or voxels that were written before.
    #[error(
        "{}: got a window of {got:?} voxels at {start:?} (z, y, x), which does not fit what is missing of the {shape:?} volume",
        path.display()
    )]
    Window {
        /// The output file.
        path: PathBuf,
        /// First voxel of the window, `(z, y, x)`.
        start: [usize; 3],
        /// Shape of the window, `(z, y, x)`.
        got: [usize; 3],
        /// Shape of the volume, `(z, y, x)`.
        shape: [usize; 3],
    },
    /// The end was declared before all planes came.
    #[error("{}: only {written} of {depth} planes were written: the output is not kept", path.display())]
    Unfinished {
        /// The output file.
        path: PathBuf,
        /// Planes written.
        written: usize,
        /// Planes of the volume.
        depth: usize,
    },
    /// A library that reads the format gave up.
    #[error("{}: not readable as {format}: {source}. The file may be damaged: make it again or copy it again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// What the library said.
        #[source]
        source: BoxError,
    },
    /// A window outside the volume, or a value that core refuses.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl IoError {
    /// The file that is wrong.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. }
            | Self::Unwritable { path, .. }
            | Self::UnknownFormat { path, .. }
            | Self::Truncated { path, .. }
            | Self::Malformed { path, .. }
            | Self::Unsupported { path, .. }
            | Self::NoLabel { path, .. }
            | Self::UnknownClass { path, .. }
            | Self::Planes { path, .. }
            | Self::Window { path, .. }
            | Self::Unfinished { path, .. }
            | Self::Format { path, .. } => Some(path),
            Self::Core(_) => None,
        }
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn malformed(path: &Path, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            place: place.into(),
            what: what.into(),
        }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn format<E: Into<BoxError>>(path: &Path, format: &'static str) -> impl Fn(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Format {
            path: path.clone(),
            format,
            source: source.into(),
        }
    }
}

impl From<IoError> for CoreError {
    fn from(error: IoError) -> Self {
        if let IoError::Core(core) = error {
            return core;
        }
        let path = error.path().unwrap_or(Path::new("")).display();
        Self::Stream {
            what: format!("cannot read or write the voxels of {path}"),
            source: Box::new(error),
        }
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => ". Check the path's spelling",
        io::ErrorKind::PermissionDenied => ". Check who may read and write there",
        io::ErrorKind::StorageFull => ". Free some space or write elsewhere",
        io::ErrorKind::IsADirectory => ". Name a file, not a folder",
        _ => "",
    }
}
