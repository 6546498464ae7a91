//! NVIDIA's libraries that are opened at run time, and their functions, found by their names.

#![allow(
    unsafe_code,
    reason = "a library is opened, and its functions taken for what their names say"
)]

use std::{
    error::Error,
    ffi::{CStr, OsStr, c_char, c_void},
};

use crate::gpu::LibraryError;

/// What a function gives back: 0 where all went well.
pub(crate) type Status = u32;
/// Of a handle, a descriptor, a stream or values.
pub(crate) type Pointer = *mut c_void;
/// Of what is only read.
pub(crate) type Values = *const c_void;
/// A function that says in words, which are constant, what a status means.
pub(crate) type Describe = unsafe extern "C" fn(Status) -> *const c_char;

/// A struct `Functions` with a function in each field, of these arguments and with a [`Status`].
macro_rules! functions {
    ($($field:ident: $name:literal ($($argument:ty),*);)*) => {
        /// Functions of the library.
        pub(crate) struct Functions {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> $crate::cuda::opened::Status,)*
        }

        impl Functions {
            /// # Safety
            /// The file is the library whose headers have these types.
            unsafe fn of(file: &$crate::cuda::opened::SharedObject) -> Result<Self, $crate::gpu::LibraryError> {
                // SAFETY: as the caller says.
                unsafe {
                    Ok(Self {
                        $($field: file.function($name)?,)*
                    })
                }
            }
        }
    };
}
pub(crate) use functions;

/// A library's file, open.
pub(crate) struct SharedObject(libloading::Library);

impl SharedObject {
    /// Opens a file; `name` is what is to be installed where it is not there.
    pub(crate) fn open(path: &OsStr, name: &'static str) -> Result<Self, LibraryError> {
        // SAFETY: what runs on opening is NVIDIA's.
        let file = unsafe { libloading::Library::new(path) }.map_err(|error| {
            // Why is in what it comes from.
            let said = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            LibraryError::Missing { said, name }
        })?;
        Ok(Self(file))
    }

    /// # Safety
    /// `F` is the type of the function of that name.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &'static str) -> Result<F, LibraryError> {
        // SAFETY: as the caller says.
        let found = unsafe { self.0.get::<F>(name) };
        found
            .map(|function| *function)
            .map_err(|_| LibraryError::Function { name })
    }
}

/// A library that is open, with functions as the macro makes them.
pub(crate) struct Opened<F> {
    /// Its name and version, as in cuDNN 9.19.0.
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) describe: Describe,
    pub(super) functions: F,
    /// What the functions are in.
    pub(super) _file: SharedObject,
}

impl<F> Opened<F> {
    /// As in 9.19.0.
    pub(crate) fn version(&self) -> String {
        self.version.clone()
    }

    /// What a function gave back, in the library's own words where it failed.
    pub(super) fn check(&self, function: &'static str, status: Status) -> Result<(), LibraryError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: gives a constant string of the library, which is open.
        let said = unsafe { CStr::from_ptr((self.describe)(status)) };
        Err(LibraryError::Failed {
            function,
            said: said.to_string_lossy().into_owned(),
        })
    }
}

impl<F> std::ops::Deref for Opened<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.functions
    }
}

impl<F> std::fmt::Debug for Opened<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Versions are 10 000 · major + 100 · minor + patch, and 1 000 · major where they are below `since`.
pub(crate) fn version_in_words(version: usize, since: usize) -> String {
    let major = if version < since { 1_000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}
