use std::path::{Path, PathBuf};

use deepfinder_core::CoreError;

/// The result of a use-case.
pub type Result<T, E = PipelineError> = std::result::Result<T, E>;

/// Why a use-case did not end well. The messages are for the user: what is wrong, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The user asked for something that cannot be done.
    #[error("{what}")]
    Input {
        /// What is wrong and what to do.
        what: String,
    },
    /// A project file that does not say what is needed.
    #[error("{path}: {what}")]
    Project {
        /// The project file.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// Something went wrong with that file.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was done with it.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A model and a tomogram of different scale.
    #[error(
        "{tomogram}: its voxels are {tomogram_angstrom} Å, but the model {model} learned from voxels of {model_angstrom} Å: \
         it would look for particles of the wrong size. Rescale the tomogram, use another model, or pass --force"
    )]
    VoxelSizeMismatch {
        /// The tomogram.
        tomogram: PathBuf,
        /// Its voxel size.
        tomogram_angstrom: f32,
        /// The model.
        model: PathBuf,
        /// The voxel size it was trained at.
        model_angstrom: f32,
    },
    /// A stage failed on that file.
    #[error("{path}: {source}")]
    Stage {
        /// The file it worked on.
        path: PathBuf,
        /// What the stage said.
        #[source]
        source: deepfinder_core::BoxError,
    },
    /// Reading or writing of a volume or list.
    #[error(transparent)]
    Io(#[from] deepfinder_io::IoError),
    /// A list that someone else changed since it was read.
    #[error(
        "{path}: the file was changed by another program or window since it was read; read it again first"
    )]
    Changed {
        /// The list.
        path: PathBuf,
    },
    /// The work was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl PipelineError {
    /// Something the user can mend.
    pub(crate) fn input(what: impl Into<String>) -> Self {
        Self::Input { what: what.into() }
    }

    /// An error of the operating system on that file.
    pub(crate) fn file(path: &Path, what: &str, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            what: what.to_owned(),
            source,
        }
    }
}

/// Names the file on which a stage failed; cancellation stays cancellation.
pub(crate) trait OnFile<T> {
    fn on(self, path: &Path) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> OnFile<T> for std::result::Result<T, E> {
    fn on(self, path: &Path) -> Result<T> {
        self.map_err(|error| {
            if is_cancellation(&error) {
                PipelineError::Cancelled
            } else {
                PipelineError::Stage {
                    path: path.to_owned(),
                    source: error.into(),
                }
            }
        })
    }
}

/// Whether somewhere down the causes the work was cancelled.
fn is_cancellation(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(CoreError::Cancelled)))
}
