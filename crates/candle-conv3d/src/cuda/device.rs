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
            driver::{
                CudaModule, CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut,
                DeviceRepr, LaunchConfig, PushKernelArg,
            },
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

    fn address(&self, stream: &CudaStream) -> u64 {
        match self {
            Self::F32(view) => view.device_ptr(stream).0,
            Self::F64(view) => view.device_ptr(stream).0,
            Self::Bf16(view) => view.device_ptr(stream).0,
            Self::U8(view) => view.device_ptr(stream).0,
        }
    }

    /// From that value on.
    fn from(&self, value: usize) -> Option<Operand<'_>> {
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

/// What a kernel takes by value, padded with zeros: it reads as many as its struct has.
#[repr(C)]
struct ByValue<T, const N: usize>([T; N]);

impl<T: Copy + Default, const N: usize> ByValue<T, N> {
    fn of(values: impl IntoIterator<Item = T>) -> Self {
        let mut all = [T::default(); N];
        for (to, value) in all.iter_mut().zip(values) {
            *to = value;
        }
        Self(all)
    }
}

// SAFETY: arrays of plain integers, laid out as in C.
unsafe impl<const N: usize> DeviceRepr for ByValue<i32, N> {}
// SAFETY: likewise.
unsafe impl<const N: usize> DeviceRepr for ByValue<u64, N> {}

/// As many sizes as the largest struct of a kernel has, and more.
type Sizes = ByValue<i32, 160>;
/// The struct `Table` of `tensors.cuh`.
type Table = ByValue<u64, 256>;

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
    let stream = device.cuda_stream();
    let address = output.device_ptr_mut(&stream).0;
    run_steps(device, program, inputs, address)
}

/// Runs a program that has no result but what it changes of its inputs.
pub(super) fn change(device: &CudaDevice, program: &Program, inputs: &[Operand<'_>]) -> Result<()> {
    check_length("the output", program.output, 0)?;
    run_steps(device, program, inputs, 0)
}

/// The memory of a program while it is run.
pub(super) struct Memory<'a> {
    stream: &'a CudaStream,
    inputs: &'a [Operand<'a>],
    scratch: Vec<CudaSlice<u8>>,
    output: u64,
}

impl Memory<'_> {
    /// Where a place is on the device, 0 for none. All work of a device goes through its one stream, in order, and its
    /// events are off (`gpu.rs`): nothing happens where what comes with an address is dropped.
    pub(super) fn address(&self, place: Place) -> u64 {
        match place {
            Place::Nowhere => 0,
            Place::Input(index, value) => self
                .inputs
                .get(index)
                .and_then(|input| input.from(value))
                .map_or(0, |view| view.address(self.stream)),
            Place::Scratch(index) => self
                .scratch
                .get(index)
                .map_or(0, |bytes| bytes.device_ptr(self.stream).0),
            Place::Output => self.output,
        }
    }
}

fn run_steps(device: &CudaDevice, program: &Program, inputs: &[Operand<'_>], output: u64) -> Result<()> {
    check_length("the inputs", program.inputs.len(), inputs.len())?;
    for (&length, input) in program.inputs.iter().zip(inputs) {
        check_length("an input", length, input.len().min(length))?;
    }
    let mut scratch = Vec::with_capacity(program.scratch.len());
    for &bytes in &program.scratch {
        // SAFETY: what a step reads of it another has written (the emulator's tests begin with NaN).
        scratch.push(unsafe { device.alloc::<u8>(bytes) }?);
    }
    let stream = device.cuda_stream();
    let memory = Memory {
        stream: &stream,
        inputs,
        scratch,
        output,
    };
    for step in &program.steps {
        match step {
            Step::Launch(step) => launch(device, step, &memory)?,
            #[cfg(feature = "cudnn")]
            Step::Call(step) => super::choice::call(device, step, &memory)?,
            #[cfg(all(test, not(feature = "cudnn")))]
            Step::Call(_) => return Err(Conv3dError::GpuOnly { op: "cuDNN" }.into()),
        }
    }
    Ok(())
}

fn launch(device: &CudaDevice, launch: &Launch, memory: &Memory<'_>) -> Result<()> {
    let function = module(device)?.load_function(&launch.kernel).w()?;
    let addresses = |places: &[Place]| places.iter().map(|place| memory.address(*place)).collect();
    let pointers: Vec<u64> = addresses(&launch.places);
    let in_table: Vec<u64> = addresses(&launch.table);
    check_length("a table", in_table.len(), in_table.len().min(256))?;
    let (table, sizes) = (Table::of(in_table), Sizes::of(launch.sizes.iter().copied()));
    let mut arguments = memory.stream.launch_builder(&function);
    for pointer in &pointers {
        arguments.arg(pointer);
    }
    if !launch.table.is_empty() {
        arguments.arg(&table);
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
    // Inputs that a program changes are read and written on the one stream of the device, in order.
    unsafe { arguments.launch(config) }.w()?;
    Ok(())
}
