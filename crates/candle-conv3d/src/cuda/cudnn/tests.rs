#![cfg(test)]
#![allow(
    unsafe_code,
    reason = "a library is given addresses, here of the processor's memory"
)]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use super::{
    Call, Handle,
    call::{Kind, Problem},
    library::Library,
};
use crate::{
    cuda::{Element, compiled},
    gpu::LibraryError,
};

/// `fake.c`, compiled with those definitions.
fn compiled(name: &str, definitions: &[&str]) -> Option<PathBuf> {
    compiled::library("src/cuda/cudnn/fake.c", definitions, name)
}

/// A cuDNN that works on the processor's memory.
pub(crate) fn library_of() -> Option<Arc<Mutex<Handle>>> {
    static HANDLE: OnceLock<Option<Arc<Mutex<Handle>>>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let file = compiled("cudnn", &[])?;
        let library = Library::open(&file).unwrap();
        assert_eq!(library.version(), "9.19.0");
        std::fs::remove_file(file).unwrap();
        let stream = std::ptr::dangling_mut();
        Some(Arc::new(Mutex::new(Handle::new(library, stream).unwrap())))
    });
    handle.clone()
}

/// Runs a call, if there is a library.
pub(crate) fn run_here(call: &Call, addresses: &[u64], workspace: u64) -> Option<()> {
    let handle = library_of()?;
    let mut handle = handle.lock().unwrap();
    let (_, bytes) = call.workspace.unzip();
    assert_eq!(handle.workspace(&call.problem).unwrap(), bytes.unwrap_or(0));
    // SAFETY: addresses of a program's buffers, which the library reads and writes as the problem says.
    unsafe { handle.run(&call.problem, addresses, workspace) }.unwrap();
    Some(())
}

fn problem() -> Problem {
    Problem {
        kind: Kind::Forward { add: false },
        algorithm: 1,
        element: Element::F32,
        batch: 1,
        input: [4, 5, 6],
        output: [4, 5, 6],
        kernel: [3; 3],
        padding: [1; 3],
        channels: 8,
        outputs: 16,
    }
}

#[test]
fn why_cudnn_cannot_be_used_is_said() {
    let said = |found: Result<Arc<Library>, LibraryError>| found.unwrap_err().to_string();
    let missing = said(Library::open("/nowhere/libcudnn.so.9"));
    assert!(
        missing.starts_with("it is missing (/nowhere/libcudnn.so.9: cannot open")
            && missing.ends_with("set LD_LIBRARY_PATH to where it is"),
        "{missing}"
    );
    let Some(old) = compiled("cudnn8", &["-DVERSION=8907"]) else {
        return;
    };
    assert_eq!(
        said(Library::open(&old)),
        "version 8.9.7 is found, and version 9 is needed"
    );
    let Some(torn) = compiled("cudnn-torn", &["-DWITHOUT_FORWARD"]) else {
        return;
    };
    assert_eq!(
        said(Library::open(&torn)),
        "it lacks the function cudnnConvolutionForward"
    );
    let text = std::env::temp_dir().join(format!("conv3d-text-{}", std::process::id()));
    std::fs::write(&text, "no library").unwrap();
    assert!(said(Library::open(&text)).starts_with("it is missing ("));
    for file in [old, torn, text] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn what_cudnn_does_not_have_is_refused_with_its_words() {
    let Some(handle) = library_of() else { return };
    let mut handle = handle.lock().unwrap();
    assert_eq!(handle.workspace(&problem()).unwrap(), 64 + 4 * 16);
    let refused = [
        (
            Problem {
                algorithm: 7,
                ..problem()
            },
            "CUDNN_STATUS_NOT_SUPPORTED",
        ),
        (
            Problem {
                kind: Kind::WeightGradient,
                algorithm: 0,
                ..problem()
            },
            "CUDNN_STATUS_NOT_SUPPORTED",
        ),
        (
            Problem {
                output: [4, 5, 7],
                ..problem()
            },
            "CUDNN_STATUS_BAD_PARAM",
        ),
        (
            Problem {
                batch: 0,
                ..problem()
            },
            "cudnnSetTensorNdDescriptor",
        ),
    ];
    for (problem, words) in refused {
        let said = handle.workspace(&problem).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
        // SAFETY: it is refused before an address is looked at.
        assert!(unsafe { handle.run(&problem, &[], 0) }.is_err());
    }
    // SAFETY: the library looks at addresses and refuses those that are none.
    let said = unsafe { handle.run(&problem(), &[0, 0, 0], 0) }.unwrap_err();
    assert_eq!(
        said.to_string(),
        "cudnnConvolutionForward fails: CUDNN_STATUS_BAD_PARAM"
    );
}
