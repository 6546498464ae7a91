//! Runs programs on a GPU.

#![expect(
    unsafe_code,
    reason = "a kernel's launch and memory that nothing is in yet are unsafe in cudarc"
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, Layout, Result,
    cuda_backend::{
        CudaDType, DeviceId, WrapErr,
        cudarc::{
            driver::{CudaModule, CudaSlice, CudaView, CudaViewMut, DeviceRepr, LaunchConfig, PushKernelArg},
            nvrtc::Ptx,
        },
    },
};

use super::program::{Launch, Place, Program, Step};
use crate::error::{Conv3dError, check_length};

/// The kernels for each kind of GPU, and as PTX for those to come (`build.rs`).
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/conv3d.fatbin"));

/// The kernels as a device has them, loaded once.
fn module(device: &CudaDevice) -> Result<Arc<CudaModule>> {
    static MODULES: OnceLock<Mutex<HashMap<DeviceId, Arc<CudaModule>>>> = OnceLock::new();
    let mut modules = MODULES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&device.id()) {
        return Ok(Arc::clone(module));
    }
    let stream = device.cuda_stream();
    let module = stream
        .context()
        .load_module(Ptx::from_binary(KERNELS.to_vec()))
        .w()?;
    modules.insert(device.id(), Arc::clone(&module));
    Ok(module)
}

/// An input of a program, contiguous.
pub(crate) enum Operand<'a> {
    F32(CudaView<'a, f32>),
    F64(CudaView<'a, f64>),
    Bf16(CudaView<'a, half::bf16>),
    U8(CudaView<'a, u8>),
}

impl Operand<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(view) => view.len(),
            Self::F64(view) => view.len(),
            Self::Bf16(view) => view.len(),
            Self::U8(view) => view.len(),
        }
    }

    /// From that value on.
    pub(super) fn from(&self, value: usize) -> Option<Operand<'_>> {
        Some(match self {
            Self::F32(view) => Operand::F32(view.try_slice(value..)?),
            Self::F64(view) => Operand::F64(view.try_slice(value..)?),
            Self::Bf16(view) => Operand::Bf16(view.try_slice(value..)?),
            Self::U8(view) => Operand::U8(view.try_slice(value..)?),
        })
    }
}

/// The values of a contiguous tensor.
pub(crate) fn read<'a>(op: &'static str, storage: &'a CudaStorage, layout: &Layout) -> Result<Operand<'a>> {
    use candle_core::{DType, backend::BackendStorage};

    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(Conv3dError::NotContiguous { op })?;
    match storage.dtype() {
        DType::F32 => Ok(Operand::F32(storage.as_cuda_slice::<f32>()?.slice(start..end))),
        DType::F64 => Ok(Operand::F64(storage.as_cuda_slice::<f64>()?.slice(start..end))),
        DType::BF16 => Ok(Operand::Bf16(
            storage.as_cuda_slice::<half::bf16>()?.slice(start..end),
        )),
        DType::U8 => Ok(Operand::U8(storage.as_cuda_slice::<u8>()?.slice(start..end))),
        found => Err(Conv3dError::GpuElementType { op, found }.into()),
    }
}

/// More sizes than any kernel takes.
const SIZES: usize = 32;

/// What a kernel takes by value. It reads as many as its struct has.
#[repr(C)]
struct Sizes([i32; SIZES]);

// SAFETY: an array of plain integers, laid out as in C.
unsafe impl DeviceRepr for Sizes {}

/// Runs a program into new memory.
pub(crate) fn run<T: CudaDType + DeviceRepr>(
    device: &CudaDevice,
    program: &Program,
    inputs: &[Operand<'_>],
) -> Result<CudaStorage> {
    // SAFETY: a program writes all of its result (the emulator's tests begin with NaN).
    let mut output: CudaSlice<T> = unsafe { device.alloc(program.output.max(1)) }?;
    run_into(device, program, inputs, output.slice_mut(..))?;
    Ok(CudaStorage::wrap_cuda_slice(output, device.clone()))
}

/// Runs a program into memory that is there.
pub(crate) fn run_into<T: DeviceRepr>(
    device: &CudaDevice,
    program: &Program,
    inputs: &[Operand<'_>],
    mut output: CudaViewMut<'_, T>,
) -> Result<()> {
    check_length("the output", program.output, output.len().min(program.output))?;
    check_length("the inputs", program.inputs.len(), inputs.len())?;
    for (&length, input) in program.inputs.iter().zip(inputs) {
        check_length("an input", length, input.len().min(length))?;
    }
    let mut scratch = Vec::with_capacity(program.scratch.len());
    for &bytes in &program.scratch {
        // SAFETY: what a step reads of it another has written (the emulator's tests begin with NaN).
        scratch.push(unsafe { device.alloc::<u8>(bytes) }?);
    }
    for step in &program.steps {
        match step {
            Step::Launch(step) => launch(device, step, inputs, &scratch, output.slice_mut(..))?,
            #[cfg(feature = "cudnn")]
            Step::Call(step) => {
                super::choice::call(device, step, inputs, &mut scratch, output.slice_mut(..))?;
            }
            #[cfg(all(test, not(feature = "cudnn")))]
            Step::Call(_) => return Err(Conv3dError::GpuOnly { op: "cuDNN" }.into()),
        }
    }
    Ok(())
}

fn launch<T>(
    device: &CudaDevice,
    launch: &Launch,
    inputs: &[Operand<'_>],
    scratch: &[CudaSlice<u8>],
    output: CudaViewMut<'_, T>,
) -> Result<()> {
    let function = module(device)?.load_function(&launch.kernel).w()?;
    let mut sizes = Sizes([0; SIZES]);
    for (to, &size) in sizes.0.iter_mut().zip(&launch.sizes) {
        *to = size;
    }
    let mut operands = Vec::with_capacity(launch.places.len());
    for place in &launch.places {
        operands.push(match *place {
            Place::Input(index, value) => inputs.get(index).and_then(|input| input.from(value)),
            _ => None,
        });
    }
    let nowhere = 0_u64;
    // Of a kernel's pointers one at most is the result's.
    let mut results = [output];
    let mut results = results.iter_mut();
    let stream = device.cuda_stream();
    let mut arguments = stream.launch_builder(&function);
    for (place, operand) in launch.places.iter().zip(&operands) {
        match (place, operand) {
            // Written by one launch and read by the next, on the one stream of the device.
            (Place::Scratch(index), _) => arguments.arg(&scratch[*index]),
            (Place::Output, _) => match results.next() {
                Some(output) => arguments.arg(output),
                None => arguments.arg(&nowhere),
            },
            (_, Some(Operand::F32(view))) => arguments.arg(view),
            (_, Some(Operand::F64(view))) => arguments.arg(view),
            (_, Some(Operand::Bf16(view))) => arguments.arg(view),
            (_, Some(Operand::U8(view))) => arguments.arg(view),
            (_, None) => arguments.arg(&nowhere),
        };
    }
    arguments.arg(&sizes);
    let [x, y, z] = launch.grid;
    let config = LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (launch.threads, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: pointers and sizes are those that `kernels.inc` lists for the kernel, and stay within the buffers whose
    // lengths the ops have checked; the emulator's tests hold both, with pages behind buffers that may not be touched.
    unsafe { arguments.launch(config) }.w()?;
    Ok(())
}
