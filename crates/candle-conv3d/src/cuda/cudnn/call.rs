//! One convolution by cuDNN: what it is told, and the call.

#![allow(unsafe_code, reason = "cuDNN's functions are C, and take addresses on a GPU")]

use std::{collections::HashMap, ffi::c_int, ptr, sync::Arc};

use super::library::{Library, Pointer, Status, Values};
use crate::{
    cuda::program::{Element, Place},
    gpu::LibraryError,
};

/// Which of cuDNN's convolutions, and what it does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// (x, w) -> y, or added to y.
    Forward { add: bool },
    /// (x, w, bias) -> y, with what is in y added before the activation.
    Fused { add: bool, relu: bool },
    /// (w, gradient of y) -> gradient of x.
    InputGradient,
    /// (x, gradient of y) -> gradient of w.
    WeightGradient,
}

/// A convolution of stride 1 and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    pub kind: Kind,
    pub algorithm: u32,
    pub element: Element,
    pub batch: i32,
    /// Of x and of y, axes D, H, W.
    pub input: [i32; 3],
    pub output: [i32; 3],
    pub kernel: [i32; 3],
    /// Zeros on both sides.
    pub padding: [i32; 3],
    /// Of x and of y.
    pub channels: i32,
    pub outputs: i32,
}

/// A step of a program.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub problem: Problem,
    /// In the order in which its kind names them, the result last.
    pub places: Vec<Place>,
    /// Memory that the algorithm needs, and its bytes.
    pub workspace: Option<(Place, usize)>,
}

// Values of the enumerations.
const FLOAT: u32 = 0;
const BFLOAT16: u32 = 9;
const NHWC: u32 = 1;
const CROSS_CORRELATION: u32 = 1;
/// Products of bf16 on tensor cores.
const TENSOR_OP_MATH: u32 = 1;
/// Products of f32 as they are: the default may round them to TF32.
const FMA_MATH: u32 = 3;
const RELU: u32 = 1;
const IDENTITY: u32 = 5;
const PROPAGATE_NAN: u32 = 1;

/// A descriptor of cuDNN's.
struct Descriptor {
    raw: Pointer,
    library: Arc<Library>,
    destroy: unsafe extern "C" fn(Pointer) -> Status,
}

impl Descriptor {
    fn new(
        library: &Arc<Library>,
        create: unsafe extern "C" fn(*mut Pointer) -> Status,
        destroy: unsafe extern "C" fn(Pointer) -> Status,
    ) -> Result<Self, LibraryError> {
        let mut raw = ptr::null_mut();
        // SAFETY: writes one pointer.
        library.check("cudnnCreate…Descriptor", unsafe { create(&raw mut raw) })?;
        Ok(Self {
            raw,
            library: Arc::clone(library),
            destroy,
        })
    }

    /// A volume `[N, C, D, H, W]`, channels-last in memory.
    fn volume(
        library: &Arc<Library>,
        element: u32,
        [batch, channels, depth, height, width]: [i32; 5],
    ) -> Result<Self, LibraryError> {
        let new = Self::new(library, library.create_tensor, library.destroy_tensor)?;
        let sizes = [batch, channels, depth, height, width];
        let row = width * channels;
        let strides = [depth * height * row, 1, height * row, row, channels];
        // SAFETY: reads as many sizes and strides as it is told, 5.
        let status = unsafe { (library.set_tensor)(new.raw, element, 5, sizes.as_ptr(), strides.as_ptr()) };
        library.check("cudnnSetTensorNdDescriptor", status)?;
        Ok(new)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was made by this library, and nobody else has it.
        unsafe { (self.destroy)(self.raw) };
        let _ = &self.library;
    }
}

/// What cuDNN is told of a problem.
struct Prepared {
    input: Descriptor,
    weights: Descriptor,
    output: Descriptor,
    bias: Descriptor,
    convolution: Descriptor,
    activation: Descriptor,
}

impl Prepared {
    fn new(library: &Arc<Library>, problem: &Problem) -> Result<Self, LibraryError> {
        let (element, math) = match problem.element {
            Element::F32 => (FLOAT, FMA_MATH),
            Element::Bf16 => (BFLOAT16, TENSOR_OP_MATH),
        };
        let volume = |channels, [depth, height, width]: [i32; 3]| {
            let sizes = [problem.batch, channels, depth, height, width];
            Descriptor::volume(library, element, sizes)
        };
        let weights = Descriptor::new(library, library.create_filter, library.destroy_filter)?;
        let [kd, kh, kw] = problem.kernel;
        let sizes = [problem.outputs, problem.channels, kd, kh, kw];
        // SAFETY: reads as many sizes as it is told, 5.
        let status = unsafe { (library.set_filter)(weights.raw, element, NHWC, 5, sizes.as_ptr()) };
        library.check("cudnnSetFilterNdDescriptor", status)?;
        let convolution = Descriptor::new(library, library.create_convolution, library.destroy_convolution)?;
        let (padding, one): ([c_int; 3], [c_int; 3]) = (problem.padding, [1; 3]);
        // SAFETY: reads as many numbers as it is told, 3.
        let status = unsafe {
            (library.set_convolution)(
                convolution.raw,
                3,
                padding.as_ptr(),
                one.as_ptr(),
                one.as_ptr(),
                CROSS_CORRELATION,
                FLOAT,
            )
        };
        library.check("cudnnSetConvolutionNdDescriptor", status)?;
        // SAFETY: a descriptor that is set.
        let status = unsafe { (library.set_math)(convolution.raw, math) };
        library.check("cudnnSetConvolutionMathType", status)?;
        let activation = Descriptor::new(library, library.create_activation, library.destroy_activation)?;
        let relu = matches!(problem.kind, Kind::Fused { relu: true, .. });
        let mode = if relu { RELU } else { IDENTITY };
        // SAFETY: a descriptor that was just made.
        let status = unsafe { (library.set_activation)(activation.raw, mode, PROPAGATE_NAN, 0.0) };
        library.check("cudnnSetActivationDescriptor", status)?;
        Ok(Self {
            input: volume(problem.channels, problem.input)?,
            weights,
            output: volume(problem.outputs, problem.output)?,
            bias: Descriptor::volume(library, element, [1, problem.outputs, 1, 1, 1])?,
            convolution,
            activation,
        })
    }
}

/// cuDNN on one stream of a GPU.
pub(crate) struct Handle {
    library: Arc<Library>,
    raw: Pointer,
    prepared: HashMap<Problem, (Prepared, usize)>,
}

// SAFETY: cuDNN's handles and descriptors belong to no thread; they may not be used by two at once, and whoever calls has
// the handle for itself.
unsafe impl Send for Handle {}

impl Handle {
    /// On that stream (`CUstream`) of the context that is current.
    ///
    /// # Errors
    /// Where the library cannot start, with its reason.
    pub(crate) fn new(library: Arc<Library>, stream: Pointer) -> Result<Self, LibraryError> {
        let mut raw = ptr::null_mut();
        // SAFETY: writes one pointer.
        library.check("cudnnCreate", unsafe { (library.create)(&raw mut raw) })?;
        let new = Self {
            raw,
            prepared: HashMap::new(),
            library,
        };
        // SAFETY: a stream of the current context.
        let status = unsafe { (new.library.set_stream)(raw, stream) };
        new.library.check("cudnnSetStream", status)?;
        Ok(new)
    }

    /// Bytes that the problem's algorithm needs.
    ///
    /// # Errors
    /// Where cuDNN does not have that algorithm for it.
    pub(crate) fn workspace(&mut self, problem: &Problem) -> Result<usize, LibraryError> {
        if let Some((_, bytes)) = self.prepared.get(problem) {
            return Ok(*bytes);
        }
        let (library, handle) = (&self.library, self.raw);
        let prepared = Prepared::new(library, problem)?;
        let [x, w, y] = [&prepared.input, &prepared.weights, &prepared.output].map(|one| one.raw);
        let (convolution, algorithm) = (prepared.convolution.raw, problem.algorithm);
        let mut bytes = 0;
        let to = &raw mut bytes;
        // SAFETY: descriptors that are set; one number is written.
        let status = unsafe {
            match problem.kind {
                Kind::Forward { .. } | Kind::Fused { .. } => {
                    (library.forward_workspace)(handle, x, w, convolution, y, algorithm, to)
                }
                Kind::InputGradient => {
                    (library.input_gradient_workspace)(handle, w, y, convolution, x, algorithm, to)
                }
                Kind::WeightGradient => {
                    (library.weight_gradient_workspace)(handle, x, y, convolution, w, algorithm, to)
                }
            }
        };
        library.check("cudnnGetConvolution…WorkspaceSize", status)?;
        self.prepared.insert(*problem, (prepared, bytes));
        Ok(bytes)
    }

    /// Launches the convolution.
    ///
    /// # Safety
    /// The addresses are those of values on the stream's GPU, as many as the problem has, and of as many bytes as
    /// [`Self::workspace`] asks for; the result shares memory with nothing else.
    ///
    /// # Errors
    /// Where cuDNN refuses, with its reason.
    pub(crate) unsafe fn run(
        &mut self,
        problem: &Problem,
        addresses: &[u64],
        workspace: u64,
    ) -> Result<(), LibraryError> {
        let bytes = self.workspace(problem)?;
        let Some((prepared, _)) = self.prepared.get(problem) else {
            return Ok(());
        };
        let (library, handle) = (&self.library, self.raw);
        let value = |index: usize| addresses.get(index).copied().unwrap_or_default() as Values;
        let result = value(addresses.len().saturating_sub(1)).cast_mut();
        let [x, w, y] = [&prepared.input, &prepared.weights, &prepared.output].map(|one| one.raw);
        let (convolution, algorithm) = (prepared.convolution.raw, problem.algorithm);
        let space = workspace as Pointer;
        // What is kept of what is there: read before the calls return, as `one` is.
        let kept = match problem.kind {
            Kind::Forward { add } | Kind::Fused { add, .. } => f32::from(u8::from(add)),
            Kind::InputGradient | Kind::WeightGradient => 0.0,
        };
        let kept: Values = (&raw const kept).cast();
        let one = 1_f32;
        let one: Values = (&raw const one).cast();
        // All but one take the same, each in its own order.
        let (name, function, [first, second, last]) = match problem.kind {
            Kind::Forward { .. } | Kind::Fused { .. } => {
                ("cudnnConvolutionForward", library.forward, [x, w, y])
            }
            Kind::InputGradient => ("cudnnConvolutionBackwardData", library.input_gradient, [w, y, x]),
            Kind::WeightGradient => (
                "cudnnConvolutionBackwardFilter",
                library.weight_gradient,
                [x, y, w],
            ),
        };
        if let Kind::Fused { .. } = problem.kind {
            // SAFETY: descriptors that are set, and memory as the caller says.
            let status = unsafe {
                (library.fused)(
                    handle,
                    one,
                    x,
                    value(0),
                    w,
                    value(1),
                    convolution,
                    algorithm,
                    space,
                    bytes,
                    kept,
                    y,
                    result,
                    prepared.bias.raw,
                    value(2),
                    prepared.activation.raw,
                    y,
                    result,
                )
            };
            return library.check("cudnnConvolutionBiasActivationForward", status);
        }
        // SAFETY: as above.
        let status = unsafe {
            function(
                handle,
                one,
                first,
                value(0),
                second,
                value(1),
                convolution,
                algorithm,
                space,
                bytes,
                kept,
                last,
                result,
            )
        };
        library.check(name, status)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.prepared.clear();
        // SAFETY: it was made by this library, and nobody else has it.
        unsafe { (self.library.destroy)(self.raw) };
    }
}
