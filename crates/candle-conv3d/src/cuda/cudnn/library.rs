//! cuDNN's functions, found by their names.

#![allow(
    unsafe_code,
    reason = "a library's functions are taken for what their names say"
)]

use std::{
    ffi::{OsStr, c_double, c_int},
    sync::Arc,
};

use super::super::opened::{Opened, SharedObject, functions, version_in_words};
pub(super) use super::super::opened::{Pointer, Status, Values};
use crate::gpu::LibraryError;

type Sizes = *const c_int;

/// What the file is called that has this interface.
#[cfg(feature = "cudnn")]
const NAME: &str = "libcudnn.so.9";

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

/// An opened cuDNN.
pub(crate) type Library = Opened<Functions>;

impl Library {
    /// Opens that file.
    ///
    /// # Errors
    /// Where it is not there or not cuDNN 9, or functions are missing.
    pub(crate) fn open(path: impl AsRef<OsStr>) -> Result<Arc<Self>, LibraryError> {
        let file = SharedObject::open(path.as_ref(), "cuDNN 9")?;
        // SAFETY: cudnn_graph.h: `size_t cudnnGetVersion(void)`; it touches nothing.
        let version = unsafe { file.function::<unsafe extern "C" fn() -> usize>("cudnnGetVersion")?() };
        let in_words = version_in_words(version, 90_000);
        if !(90_000..100_000).contains(&version) {
            return Err(LibraryError::Version {
                found: in_words,
                needed: "9",
            });
        }
        // SAFETY: each type is that of the function in the headers of cuDNN 9.
        let (describe, functions) = unsafe { (file.function("cudnnGetErrorString")?, Functions::of(&file)?) };
        Ok(Arc::new(Self {
            name: "cuDNN",
            version: in_words,
            describe,
            functions,
            _file: file,
        }))
    }

    /// cuDNN as the system finds it.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(feature = "cudnn")]
    pub(crate) fn of_system() -> Result<Arc<Self>, LibraryError> {
        Self::open(NAME)
    }
}
