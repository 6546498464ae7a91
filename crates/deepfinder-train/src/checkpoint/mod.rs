//! The files of a run. Nothing else in this crate touches the file system.

mod folder;
mod format;

pub use folder::RunFolder;
pub(crate) use format::{Checkpoint, State};
