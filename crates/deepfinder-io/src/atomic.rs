use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{IoError, Result};

/// Writes a whole file so that a reader, or a run that was killed, sees the old content or the new one and
/// never a part of it: a temporary file beside the target is renamed over it.
///
/// # Errors
/// [`IoError::Unwritable`] and [`IoError::File`]; an existing file is then as it was.
pub fn write_file_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    let mut partial = PartialFile::create(path)?;
    partial.append(contents)?;
    partial.persist()
}

/// Finds out before long work whether its output can be written after it. Leaves nothing behind.
///
/// # Errors
/// [`IoError::Unwritable`] where the folder is missing, is not a folder or may not be written to, or where the
/// path is a folder itself.
pub fn check_writable(path: &Path) -> Result<()> {
    PartialFile::create(path).map(drop)
}

/// A file in the making beside its target: removed when dropped, renamed by [`PartialFile::persist`].
#[derive(Debug)]
pub(crate) struct PartialFile {
    file: NamedTempFile,
    target: PathBuf,
}

impl PartialFile {
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let unwritable = |what: String| IoError::Unwritable {
            path: target.to_owned(),
            what,
        };
        if crate::is_volume_url(target) {
            let what = "only OME-Zarr is written to a store, by `deepfinder convert`: write to a disk first";
            return Err(unwritable(what.to_owned()));
        }
        let Some(name) = target.file_name() else {
            return Err(unwritable("the path names no file: add a file name".to_owned()));
        };
        if target.is_dir() {
            return Err(unwritable(
                "there is a folder of that name: add a file name".to_owned(),
            ));
        }
        let folder = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        match fs::metadata(folder) {
            Err(_) => {
                return Err(unwritable(format!(
                    "there is no folder {}: create it first",
                    folder.display()
                )));
            }
            Ok(found) if !found.is_dir() => {
                return Err(unwritable(format!("{} is not a folder", folder.display())));
            }
            Ok(_) => {}
        }

        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        // Without this a temporary file is private to its owner, and so would the result be.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|error| {
            unwritable(format!(
                "no file can be made in {}: {error}. Check who may write there and whether the disk is full",
                folder.display()
            ))
        })?;
        Ok(Self {
            file,
            target: target.to_owned(),
        })
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(IoError::file("write", &self.target))
    }

    /// The temporary file alone, for something that is made into the target later. It goes with the value.
    pub(crate) fn into_path(self) -> tempfile::TempPath {
        self.file.into_temp_path()
    }

    /// The file itself, for reading back and for going over the header again.
    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives the file its name once its bytes are on the disk.
    pub(crate) fn persist(self) -> Result<()> {
        let Self { file, target } = self;
        let done = file
            .as_file()
            .sync_data()
            .and_then(|()| match file.persist(&target) {
                Ok(_) => Ok(()),
                Err(error) => Err(io::Error::from(error)),
            });
        done.map_err(IoError::file("write", &target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn writes_whole_files_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        write_file_atomically(&path, b"one").unwrap();
        write_file_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["out.txt"]);
    }

    #[test]
    fn a_dropped_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        fs::write(&path, b"old").unwrap();
        let mut partial = PartialFile::create(&path).unwrap();
        partial.append(b"half").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(partial);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["out.txt"]);
    }

    #[test]
    fn unwritable_paths_are_found_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        check_writable(&folder.path().join("new.mrc")).unwrap();
        check_writable(&file).unwrap();
        for (path, remedy) in [
            (folder.path().to_owned(), "add a file name"),
            (folder.path().join("no/new.mrc"), "create it first"),
            (file.join("new.mrc"), "not a folder"),
            (PathBuf::from("/"), "add a file name"),
        ] {
            let message = check_writable(&path).unwrap_err().to_string();
            assert!(message.contains(remedy), "{message}");
        }
        assert_eq!(names(folder.path()), ["file"]);
    }

    /// The superuser writes where it likes, so there the check has to say yes.
    #[cfg(unix)]
    #[test]
    fn read_only_folders_are_found_beforehand() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
        let found = check_writable(&inner.join("new.mrc")).is_ok();
        assert_eq!(found, File::create(inner.join("probe")).is_ok());
    }
}
