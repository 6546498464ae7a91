//! cuDNN's functions, found by their names.

#![allow(
    unsafe_code,
    reason = "opening a library and taking its functions for what their names say is unsafe"
)]

use std::{
    error::Error,
    ffi::{CStr, OsStr, c_char, c_double, c_int, c_void},
    sync::Arc,
};

use crate::gpu::CudnnError;

pub(super) type Status = u32;
/// Of a handle, a descriptor, a stream or values.
pub(super) type Pointer = *mut c_void;
/// Of what is only read.
pub(super) type Values = *const c_void;
type Sizes = *const c_int;

/// What the file is called that has this interface.
#[cfg(feature = "cudnn")]
const NAME: &str = "libcudnn.so.9";

macro_rules! functions {
    ($($field:ident: $name:literal ($($argument:ty),*);)*) => {
        /// An opened cuDNN.
        pub(crate) struct Library {
            version: usize,
            describe: unsafe extern "C" fn(Status) -> *const c_char,
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> Status,)*
            /// What the functions are in.
            _file: libloading::Library,
        }

        impl Library {
            /// Opens that file.
            ///
            /// # Errors
            /// Where it is not there or not cuDNN 9, or functions are missing.
            pub(crate) fn open(path: impl AsRef<OsStr>) -> Result<Arc<Self>, CudnnError> {
                // SAFETY: what runs on opening is NVIDIA's.
                let file = unsafe { libloading::Library::new(path.as_ref()) }.map_err(|error| {
                    // Why is in what it comes from.
                    let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                    CudnnError::Missing { said }
                })?;
                // SAFETY: cudnn_graph.h: `size_t cudnnGetVersion(void)`.
                let version = unsafe { symbol::<unsafe extern "C" fn() -> usize>(&file, "cudnnGetVersion") }?;
                // SAFETY: it takes nothing and touches nothing.
                let version = unsafe { version() };
                if !(90_000..100_000).contains(&version) {
                    return Err(CudnnError::Version {
                        found: in_words(version),
                    });
                }
                // SAFETY: each type is that of the function in the headers of cuDNN 9.
                unsafe {
                    Ok(Arc::new(Self {
                        version,
                        describe: symbol(&file, "cudnnGetErrorString")?,
                        $($field: symbol(&file, $name)?,)*
                        _file: file,
                    }))
                }
            }
        }
    };
}

functions! {
    create: "cudnnCreate" (*mut Pointer);
    destroy: "cudnnDestroy" (Pointer);
    set_stream: "cudnnSetStream" (Pointer, Pointer);
    create_tensor: "cudnnCreateTensorDescriptor" (*mut Pointer);
    // Tensor, type, dimensions, sizes, strides.
    set_tensor: "cudnnSetTensorNdDescriptor" (Pointer, u32, c_int, Sizes, Sizes);
    destroy_tensor: "cudnnDestroyTensorDescriptor" (Pointer);
    create_filter: "cudnnCreateFilterDescriptor" (*mut Pointer);
    // Filter, type, format, dimensions, sizes.
    set_filter: "cudnnSetFilterNdDescriptor" (Pointer, u32, u32, c_int, Sizes);
    destroy_filter: "cudnnDestroyFilterDescriptor" (Pointer);
    create_convolution: "cudnnCreateConvolutionDescriptor" (*mut Pointer);
    // Convolution, dimensions, padding, stride, dilation, mode, type of sums.
    set_convolution: "cudnnSetConvolutionNdDescriptor" (Pointer, c_int, Sizes, Sizes, Sizes, u32, u32);
    set_math: "cudnnSetConvolutionMathType" (Pointer, u32);
    destroy_convolution: "cudnnDestroyConvolutionDescriptor" (Pointer);
    create_activation: "cudnnCreateActivationDescriptor" (*mut Pointer);
    // Activation, mode, what becomes of NaN, coefficient.
    set_activation: "cudnnSetActivationDescriptor" (Pointer, u32, u32, c_double);
    destroy_activation: "cudnnDestroyActivationDescriptor" (Pointer);
    // Handle, x, w, convolution, y, algorithm, bytes.
    forward_workspace: "cudnnGetConvolutionForwardWorkspaceSize"
        (Pointer, Pointer, Pointer, Pointer, Pointer, u32, *mut usize);
    // Handle, w, dy, convolution, dx, algorithm, bytes.
    input_gradient_workspace: "cudnnGetConvolutionBackwardDataWorkspaceSize"
        (Pointer, Pointer, Pointer, Pointer, Pointer, u32, *mut usize);
    // Handle, x, dy, convolution, dw, algorithm, bytes.
    weight_gradient_workspace: "cudnnGetConvolutionBackwardFilterWorkspaceSize"
        (Pointer, Pointer, Pointer, Pointer, Pointer, u32, *mut usize);
    // Handle, alpha, x and its values, w and its values, convolution, algorithm, workspace and its bytes, beta, y and its
    // values.
    forward: "cudnnConvolutionForward"
        (Pointer, Values, Pointer, Values, Pointer, Values, Pointer, u32, Pointer, usize, Values, Pointer, Pointer);
    // The same up to the workspace's bytes; alpha2, z and its values, bias and its values, activation, y and its values.
    fused: "cudnnConvolutionBiasActivationForward"
        (Pointer, Values, Pointer, Values, Pointer, Values, Pointer, u32, Pointer, usize, Values, Pointer, Values, Pointer,
         Values, Pointer, Pointer, Pointer);
    // Handle, alpha, w and its values, dy and its values, …, beta, dx and its values.
    input_gradient: "cudnnConvolutionBackwardData"
        (Pointer, Values, Pointer, Values, Pointer, Values, Pointer, u32, Pointer, usize, Values, Pointer, Pointer);
    // Handle, alpha, x and its values, dy and its values, …, beta, dw and its values.
    weight_gradient: "cudnnConvolutionBackwardFilter"
        (Pointer, Values, Pointer, Values, Pointer, Values, Pointer, u32, Pointer, usize, Values, Pointer, Pointer);
}

impl Library {
    /// cuDNN as the system finds it.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(feature = "cudnn")]
    pub(crate) fn of_system() -> Result<Arc<Self>, CudnnError> {
        Self::open(NAME)
    }

    /// As in 9.19.0.
    pub(crate) fn version(&self) -> String {
        in_words(self.version)
    }

    /// What a function gave back.
    pub(super) fn check(&self, function: &'static str, status: Status) -> Result<(), CudnnError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: gives a constant string of the library, which is open.
        let said = unsafe { CStr::from_ptr((self.describe)(status)) };
        Err(CudnnError::Failed {
            function,
            said: said.to_string_lossy().into_owned(),
        })
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cuDNN {}", self.version())
    }
}

/// # Safety
/// `F` is the type of the function of that name.
unsafe fn symbol<F: Copy>(file: &libloading::Library, name: &'static str) -> Result<F, CudnnError> {
    // SAFETY: as the caller says.
    let found = unsafe { file.get::<F>(name) };
    found
        .map(|function| *function)
        .map_err(|_| CudnnError::Function { name })
}

/// cuDNN counts 10 000 · major + 100 · minor + patch, before version 9 1 000 · major.
fn in_words(version: usize) -> String {
    let major = if version < 90_000 { 1_000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}
