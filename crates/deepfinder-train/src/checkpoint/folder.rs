use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::format::Checkpoint;
use crate::metrics::MetricsLine;
use crate::{Result, TrainError};

/// The folder of a training run:
///
/// | file | what |
/// |---|---|
/// | `checkpoint.safetensors` | weights, optimiser and counters, to resume from; written at the start, after every epoch and when the run is cancelled |
/// | `checkpoint.previous.safetensors` | the one before, should the last be damaged |
/// | `best.safetensors` | the weights of the epoch with the best validation |
/// | `last.safetensors` | the weights of the last epoch |
/// | `metrics.jsonl` | a [`MetricsLine`] per epoch, and one per so many iterations |
///
/// Files other than the metrics are written beside their place under the name `….partial` and then renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A folder that need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// The checkpoint before the last.
    pub fn previous_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.previous.safetensors")
    }

    /// Weights of the best epoch.
    pub fn best_weights(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Weights of the last epoch.
    pub fn last_weights(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// Metrics, one JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Whether a run was begun here.
    pub fn holds_a_run(&self) -> bool {
        [
            self.checkpoint(),
            self.previous_checkpoint(),
            self.best_weights(),
            self.last_weights(),
            self.metrics(),
        ]
        .iter()
        .any(|file| file.exists())
    }

    /// The metrics so far; none where there is no file yet. A last line that is still being written is left out.
    ///
    /// # Errors
    /// [`TrainError::File`] where the file cannot be read, [`TrainError::Metrics`] where a line is none.
    pub fn read_metrics(&self) -> Result<Vec<MetricsLine>> {
        let path = self.metrics();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("reading", &path, source)),
        };
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .enumerate()
            .map(|(index, line)| {
                serde_json::from_str(line).map_err(|source| TrainError::Metrics {
                    path: path.clone(),
                    line: index + 1,
                    source,
                })
            })
            .collect()
    }

    /// Makes the folder, where nothing of a run may be.
    pub(crate) fn begin(&self) -> Result<()> {
        if self.holds_a_run() {
            return Err(TrainError::RunExists {
                path: self.path.clone(),
            });
        }
        fs::create_dir_all(&self.path).map_err(|source| failed("creating the run folder", &self.path, source))
    }

    /// The last checkpoint that can be read, and its file.
    pub(crate) fn load_checkpoint(&self) -> Result<(Checkpoint, PathBuf)> {
        let mut damage = None;
        for path in [self.checkpoint(), self.previous_checkpoint()] {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(failed("reading", &path, source)),
            };
            match Checkpoint::from_bytes(&bytes) {
                Ok(checkpoint) => return Ok((checkpoint, path)),
                Err(what) => {
                    tracing::warn!(checkpoint = %path.display(), what, "damaged checkpoint: trying the one before");
                    damage.get_or_insert(TrainError::Checkpoint { path, what });
                }
            }
        }
        Err(damage.unwrap_or_else(|| TrainError::NoCheckpoint {
            path: self.path.clone(),
        }))
    }

    /// Writes a checkpoint; the last one becomes the previous one.
    pub(crate) fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.checkpoint();
        let bytes = checkpoint.to_bytes().map_err(|what| TrainError::Checkpoint {
            path: path.clone(),
            what,
        })?;
        let partial = write_partial(&path, &bytes)?;
        // A damaged checkpoint must not replace the good one that the run was resumed from.
        let last_is_good = fs::read(&path).is_ok_and(|bytes| Checkpoint::from_bytes(&bytes).is_ok());
        if last_is_good {
            let previous = self.previous_checkpoint();
            fs::rename(&path, &previous).map_err(|source| failed("renaming", &path, source))?;
        }
        fs::rename(&partial, &path).map_err(|source| failed("writing", &path, source))
    }

    pub(crate) fn save_weights(path: &Path, bytes: &[u8]) -> Result<()> {
        let partial = write_partial(path, bytes)?;
        fs::rename(&partial, path).map_err(|source| failed("writing", path, source))
    }

    /// Appends a line; gives the length of the file then.
    pub(crate) fn append_metrics(&self, line: &MetricsLine) -> Result<u64> {
        let path = self.metrics();
        let append = || {
            let mut text = serde_json::to_string(line)?;
            text.push('\n');
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.metadata().map(|metadata| metadata.len())
        };
        append().map_err(|source| failed("writing", &path, source))
    }

    /// Cuts off what was written after a checkpoint; gives the length of the file then.
    pub(crate) fn truncate_metrics(&self, bytes: u64) -> Result<u64> {
        let path = self.metrics();
        let truncate = || {
            let file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&path)?;
            let length = file.metadata()?.len().min(bytes);
            file.set_len(length)?;
            Ok(length)
        };
        truncate().map_err(|source| failed("writing", &path, source))
    }
}

/// Writes the file under another name beside its place, down to the disk.
fn write_partial(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let partial = path.with_added_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| failed("writing", &partial, source))?;
    Ok(partial)
}

fn failed(doing: &'static str, path: &Path, source: std::io::Error) -> TrainError {
    TrainError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}
