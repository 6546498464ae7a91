//! What can be wrong with an op's arguments.

use candle_core::DType;

/// Arguments that don't fit together; wrapped in [`candle_core::Error`] by the tensor functions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conv3dError {
    /// A tensor has the wrong number of dimensions or channels.
    #[error("{op}: {what} should have shape {expected}, it has {found:?}")]
    Shape {
        /// The op that refused.
        op: &'static str,
        /// Which of its arguments.
        what: &'static str,
        /// The shape it should have, in words.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// The kernel doesn't fit into the padded input.
    #[error(
        "the kernel {kernel:?} is empty or larger than the input {input:?} with padding {padding:?} (axes D, H, W)"
    )]
    KernelTooLarge {
        /// Kernel size.
        kernel: [usize; 3],
        /// Input size.
        input: [usize; 3],
        /// Zeros before and after.
        padding: [[usize; 2]; 3],
    },
    /// Arguments of different or unsupported element types.
    #[error("{op} takes f32 or f64 tensors of one type (or bf16, its weights in f32), it got {found:?}")]
    ElementType {
        /// The op that refused.
        op: &'static str,
        /// The types found.
        found: Vec<DType>,
    },
    /// An element type that the GPU's kernels don't know.
    #[error("{op} takes f32 or bf16 tensors on a GPU, it got {found:?}")]
    GpuElementType {
        /// The op that refused.
        op: &'static str,
        /// The type found.
        found: DType,
    },
    /// Weights that were prepared for another device than the tensors are on.
    #[error("{op}: the weights were prepared on another device than the input's")]
    OtherDevice {
        /// The op that refused.
        op: &'static str,
    },
    /// An op that the CPU does otherwise.
    #[error("{op} runs on a GPU alone")]
    GpuOnly {
        /// The op that refused.
        op: &'static str,
    },
    /// A volume with a halo where none is known.
    #[error("{op}: volumes with a halo are for bf16 on the CPU")]
    Halo {
        /// The op that refused.
        op: &'static str,
    },
    /// A slice is shorter or longer than its shape says.
    #[error("{what} should hold {expected} values, it holds {found}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Values the shape asks for.
        expected: usize,
        /// Values there.
        found: usize,
    },
    /// More than a GPU's kernels count to.
    #[error("{size} voxels or channels are more than a GPU can take at once (2³¹): take smaller pieces")]
    TooLarge {
        /// How many.
        size: usize,
    },
    /// A tensor that should be contiguous isn't (an internal slip: the tensor functions see to it).
    #[error("{op}: the tensor is not contiguous")]
    NotContiguous {
        /// The op that refused.
        op: &'static str,
    },
}

impl From<Conv3dError> for candle_core::Error {
    fn from(error: Conv3dError) -> Self {
        Self::wrap(error)
    }
}

pub(crate) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), Conv3dError> {
    if expected == found {
        Ok(())
    } else {
        Err(Conv3dError::Length {
            what,
            expected,
            found,
        })
    }
}
