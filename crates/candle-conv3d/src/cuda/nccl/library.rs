//! NCCL's functions, found by their names.

#![allow(
    unsafe_code,
    reason = "a library's functions are taken for what their names say"
)]

use std::{
    ffi::{OsStr, c_int},
    sync::Arc,
};

use super::super::opened::{Opened, Pointer, SharedObject, Status, Values, functions, version_in_words};
use crate::gpu::LibraryError;

/// What the file is called that has this interface.
#[cfg(feature = "nccl")]
const NAME: &str = "libnccl.so.2";

functions! {
    // Communicators, how many, numbers of their GPUs.
    create_all: "ncclCommInitAll" (*mut Pointer, c_int, *const c_int);
    destroy: "ncclCommDestroy" (Pointer);
    abort: "ncclCommAbort" (Pointer);
    begin_group: "ncclGroupStart" ();
    end_group: "ncclGroupEnd" ();
    // Values, where their sum goes, how many, their type, the operation, communicator, stream.
    all_reduce: "ncclAllReduce" (Values, Pointer, usize, u32, u32, Pointer, Pointer);
}

/// An opened NCCL.
pub(crate) type Library = Opened<Functions>;

impl Library {
    /// Opens that file.
    ///
    /// # Errors
    /// Where it is not there or not NCCL 2, or functions are missing.
    pub(crate) fn open(path: impl AsRef<OsStr>) -> Result<Arc<Self>, LibraryError> {
        let name = "NCCL 2 (the package libnccl2, or nvidia-nccl-cu13 of PyPI)";
        let file = SharedObject::open(path.as_ref(), name)?;
        let mut version: c_int = 0;
        // SAFETY: nccl.h: `ncclResult_t ncclGetVersion(int *)`; it writes one integer, and fails where that is nowhere.
        unsafe {
            let get = file.function::<unsafe extern "C" fn(*mut c_int) -> Status>("ncclGetVersion")?;
            get(&raw mut version);
        }
        let version = usize::try_from(version).unwrap_or_default();
        let in_words = version_in_words(version, 10_000);
        if !(2_000..30_000).contains(&version) {
            return Err(LibraryError::Version {
                found: in_words,
                needed: "2",
            });
        }
        // SAFETY: each type is that of the function in the header of NCCL 2.
        let (describe, functions) = unsafe { (file.function("ncclGetErrorString")?, Functions::of(&file)?) };
        Ok(Arc::new(Self {
            name: "NCCL",
            version: in_words,
            describe,
            functions,
            _file: file,
        }))
    }
}

/// NCCL as this machine has it, or why not; looked for once.
#[cfg(feature = "nccl")]
pub(crate) fn library() -> &'static Result<Arc<Library>, LibraryError> {
    static FOUND: std::sync::OnceLock<Result<Arc<Library>, LibraryError>> = std::sync::OnceLock::new();
    FOUND.get_or_init(|| Library::open(NAME))
}
