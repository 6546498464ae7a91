//! What the fuzz targets do with their bytes: they are put into a file, read as a user's file is, and what comes out is
//! looked at. A panic, an answer that breaks the reader's promises, memory beyond what such a file may take, or no
//! answer within libFuzzer's time is a finding.
//!
//! `FUZZ_SEEDS` names a folder that a target fills with small valid files before it begins.

mod lists;
#[cfg(feature = "network")]
mod network;
mod volumes;
mod zarr;

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cap::Cap;
use tempfile::TempDir;

pub use lists::{Family, list, list_seeds};
#[cfg(feature = "network")]
pub use network::{project, project_seeds, weights, weights_seeds};
pub use volumes::{volume, volume_seeds};
pub use zarr::{zarr_chunk, zarr_chunk_seeds, zarr_metadata, zarr_metadata_seeds};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

static SCRATCH: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fn scratch() -> &'static Path {
    SCRATCH.path()
}

/// Runs a reader with so much memory and no more: the allocation that goes beyond ends the process.
fn within_bytes<T>(budget: usize, run: impl FnOnce() -> T) -> T {
    MEMORY.set_limit(MEMORY.allocated() + budget).unwrap();
    let result = run();
    MEMORY.set_limit(usize::MAX).unwrap();
    result
}

/// Fills the folder of seeds, where one is asked for.
fn seed(make: impl FnOnce(&Path)) {
    // A panic takes memory to tell of itself.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        MEMORY.set_limit(usize::MAX).unwrap();
        tell(panic);
    }));
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        make(Path::new(&folder));
    }
}

/// A path from the root of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// All files below a folder; none where there is no such folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
