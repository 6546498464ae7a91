use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::{PipelineError, Project, Result};

/// The folders that a front-end may read and write for whoever sits before it: the project's own, and that of its
/// results.
#[derive(Debug, Clone)]
pub struct Folders {
    base: PathBuf,
    roots: Vec<PathBuf>,
}

impl Folders {
    /// The folders of a project.
    pub fn of_project(project: &Project) -> Self {
        let base = if project.folder.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            project.folder.clone()
        };
        let roots = vec![base.clone(), project.output_path("")];
        Self { base, roots }
    }

    /// A file that is there, by its path from the project's folder. Links are followed first: what they lead to must lie
    /// inside too.
    ///
    /// # Errors
    /// [`PipelineError::Input`] where there is no such file, or it lies outside.
    pub fn existing(&self, path: &Path) -> Result<PathBuf> {
        let missing = || {
            PipelineError::input(format!(
                "{}: there is no such file in the project's folders",
                path.display()
            ))
        };
        let found = self.base.join(path).canonicalize().map_err(|_| missing())?;
        // The same words for what is outside and what is not there: nobody learns which files a machine has.
        if self.holds(&found) && found.is_file() {
            Ok(found)
        } else {
            Err(missing())
        }
    }

    /// A file to be written, by its path from the project's folder; the folder it goes into is made.
    ///
    /// # Errors
    /// [`PipelineError::Input`] where it would lie outside, or is no plain path; [`PipelineError::File`] where its folder
    /// cannot be made.
    pub fn to_write(&self, path: &Path) -> Result<PathBuf> {
        let outside = || {
            PipelineError::input(format!(
                "{}: files are only written inside the project's folders",
                path.display()
            ))
        };
        let is_plain = !path.components().any(|part| matches!(part, Component::ParentDir));
        let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), is_plain) else {
            return Err(outside());
        };
        let folder = self.base.join(parent);
        // What is there already of the way must be inside before anything is made on it.
        let there = folder.ancestors().find_map(|folder| folder.canonicalize().ok());
        if !there.is_some_and(|folder| self.holds(&folder)) {
            return Err(outside());
        }
        std::fs::create_dir_all(&folder)
            .map_err(|source| PipelineError::file(&folder, "the folder cannot be made", source))?;
        let target = folder.canonicalize().map_err(|_| outside())?.join(name);
        match target.canonicalize() {
            Ok(existing) if !self.holds(&existing) => Err(outside()),
            _ => Ok(target),
        }
    }

    /// A path from the project's folder where it lies below it, else as it is.
    pub fn shown(&self, path: &Path) -> PathBuf {
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (base, path) = (whole(&self.base), whole(path));
        path.strip_prefix(&base).map_or(path.clone(), Path::to_owned)
    }

    /// The particle lists in the folders, by their path from the project's folder: four levels down and in
    /// five hundred folders at most, hidden ones left out.
    pub fn particle_lists(&self) -> Vec<PathBuf> {
        const ENDINGS: [&str; 9] = [
            "xml", "csv", "tsv", "star", "tbl", "mod", "coords", "cbox", "ndjson",
        ];
        // A tomogram alone may lie in a folder of everything.
        const MOST_FOLDERS: usize = 500;
        let mut lists = Vec::new();
        let mut waiting = vec![(self.base.clone(), 0)];
        for _ in 0..MOST_FOLDERS {
            let Some((folder, depth)) = waiting.pop() else {
                break;
            };
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                let hidden = path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with('.'));
                let ending = path
                    .extension()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .to_lowercase();
                if hidden || path.is_symlink() {
                } else if path.is_dir() {
                    if depth < 3 {
                        waiting.push((path, depth + 1));
                    }
                } else if ENDINGS.contains(&ending.as_str())
                    && let Ok(inside) = path.strip_prefix(&self.base)
                {
                    lists.push(inside.to_owned());
                }
            }
        }
        lists.sort();
        lists
    }

    fn holds(&self, path: &Path) -> bool {
        let mut roots = self.roots.iter().filter_map(|root| root.canonicalize().ok());
        roots.any(|root| path.starts_with(root))
    }
}

/// Length and time of a file: tells whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl FileStamp {
    /// Of the file at that path; `None` where there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            length: found.len(),
            modified: found.modified().ok(),
        })
    }
}

impl std::fmt::Display for FileStamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self
            .modified
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        write!(f, "{:x}-{:x}", self.length, since.unwrap_or_default().as_nanos())
    }
}

/// A file's bytes, for a front-end to hand out.
///
/// # Errors
/// [`PipelineError::File`] where it cannot be read, or is larger than that many bytes.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    let read = std::fs::metadata(path).and_then(|found| {
        if found.len() > most {
            return Err(std::io::Error::other(format!("it has {} bytes", found.len())));
        }
        std::fs::read(path)
    });
    read.map_err(|source| PipelineError::file(path, "the file cannot be handed out", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_found_or_written() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("project");
        std::fs::create_dir_all(folder.join("inner")).unwrap();
        std::fs::write(folder.join("inner/a.xml"), "a").unwrap();
        std::fs::write(around.path().join("secret.xml"), "s").unwrap();
        let folders = Folders::of_project(&Project::new(&folder));
        assert!(folders.existing(Path::new("inner/a.xml")).is_ok());
        assert!(folders.existing(Path::new("inner/../inner/a.xml")).is_ok());
        for path in [
            "../secret.xml",
            "inner/../../secret.xml",
            "none.xml",
            "/etc/passwd",
        ] {
            assert!(folders.existing(Path::new(path)).is_err(), "{path}");
            let is_inside = ["none.xml", "inner"].contains(&path);
            assert_eq!(folders.to_write(Path::new(path)).is_ok(), is_inside, "{path}");
        }
        assert!(folders.to_write(Path::new("new/list.xml")).is_ok());
        assert!(folder.join("new").is_dir());
        assert_eq!(folders.particle_lists(), [Path::new("inner/a.xml")]);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(around.path(), folder.join("way-out")).unwrap();
            for path in ["way-out/secret.xml", "way-out/new.xml"] {
                assert!(folders.existing(Path::new(path)).is_err(), "{path}");
                assert!(folders.to_write(Path::new(path)).is_err(), "{path}");
            }
            assert!(!around.path().join("new.xml").exists());
        }
    }
}
