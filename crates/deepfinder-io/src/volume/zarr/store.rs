use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

#[cfg(feature = "remote")]
use super::remote::Remote;
use crate::{IoError, Result};

/// What holds the files of an array or pyramid: a folder, or a place behind a URL.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
    #[cfg(feature = "remote")]
    remote: Option<Remote>,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// So many bytes from a place on.
    At(u64, usize),
    /// The last bytes.
    Last(usize),
}

/// Whether a path is the URL of a store: `https://…`, `s3://bucket/…`.
pub fn is_url(path: &Path) -> bool {
    let path = path.to_str().unwrap_or_default();
    ["http://", "https://", "s3://"]
        .iter()
        .any(|scheme| path.starts_with(scheme))
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self> {
        #[cfg(feature = "remote")]
        let store = Self {
            root: path.to_owned(),
            remote: is_url(path).then(|| Remote::new(path)).transpose()?,
        };
        #[cfg(not(feature = "remote"))]
        let store = if is_url(path) {
            let what = "this program was built without the feature `remote`: copy the volume to a disk";
            return Err(IoError::unsupported(path, what));
        } else {
            Self {
                root: path.to_owned(),
            }
        };
        Ok(store)
    }

    /// What lies below a name.
    pub(super) fn below(&self, name: &str) -> Self {
        Self {
            root: self.root.join(name),
            ..self.clone()
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes of all its files, where that can be told.
    pub(super) fn bytes(&self) -> Option<u64> {
        const DEPTH: usize = 8;
        (!is_url(&self.root)).then(|| bytes_below(&self.root, DEPTH))
    }

    /// A file or a part of it, of which there may be less than asked for; none where there is no such file.
    pub(super) fn read(&self, name: &str, part: Part) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(name);
        #[cfg(feature = "remote")]
        if let Some(remote) = &self.remote {
            return remote.read(&path, part);
        }
        match read_part(&path, part) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoError::file("read", &path)(error)),
        }
    }

    /// Puts a whole file there, with the folders it needs.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        #[cfg(feature = "remote")]
        if let Some(remote) = &self.remote {
            return remote.write(&path, bytes);
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(IoError::file("write", folder))?;
        }
        std::fs::write(&path, bytes).map_err(IoError::file("write", &path))
    }

    /// Whether anything can be written, before long work; what is wrong else.
    pub(super) fn check_writable(&self) -> Result<(), String> {
        #[cfg(feature = "remote")]
        if let Some(remote) = &self.remote {
            return remote.check_writable(&self.root);
        }
        Ok(())
    }

    /// A file of metadata; none where there is no such file.
    pub(super) fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.read(name, Part::Whole)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let place = format!("line {}", error.line());
            IoError::malformed(&self.root.join(name), place, format!("this is no JSON: {error}"))
        })
    }
}

fn read_part(path: &Path, part: Part) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    match part {
        Part::Whole => file.read_to_end(&mut bytes)?,
        Part::At(start, length) => {
            file.seek(SeekFrom::Start(start))?;
            file.take(length as u64).read_to_end(&mut bytes)?
        }
        Part::Last(length) => {
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(length as u64)))?;
            file.take(length as u64).read_to_end(&mut bytes)?
        }
    };
    Ok(bytes)
}

/// Bytes of the files in a folder, so many folders deep.
fn bytes_below(folder: &Path, depth: usize) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() && depth > 0 => bytes_below(&entry.path(), depth - 1),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    sizes.sum()
}
