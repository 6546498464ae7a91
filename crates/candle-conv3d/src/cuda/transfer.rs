//! Copies between a GPU and memory that the system keeps in its place.
//!
//! The device's events are off (`gpu.rs`), so cudarc's own pinned slices would not know when a copy is over: each copy
//! is followed by an event of ours, which is waited for before the memory is touched.

#![expect(
    unsafe_code,
    reason = "memory that nothing is in yet, and knowing when a copy is over, are unsafe in cudarc"
)]

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CudaDevice, Device, Result, Shape, Storage, Tensor,
    cuda_backend::{
        CudaDType, CudaStorage, WrapErr,
        cudarc::driver::{CudaEvent, CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits},
    },
    op::BackpropOp,
};

use crate::error::{Conv3dError, check_length};

/// What can be copied as it lies in memory.
pub(crate) trait Plain: CudaDType + DeviceRepr + ValidAsZeroBits + Clone {}

impl Plain for f32 {}
impl Plain for u8 {}

/// Memory for copies, used again once they are over.
#[derive(Debug)]
pub(crate) struct Pinned {
    device: CudaDevice,
    up: Arc<Pool<f32>>,
    up_u8: Arc<Pool<u8>>,
    down_u8: Arc<Pool<u8>>,
    down_f32: Arc<Pool<f32>>,
}

/// Memory that is not in use, that of the oldest copy first.
#[derive(Debug)]
struct Pool<T: Plain>(Mutex<Vec<Memory<T>>>);

/// Pinned memory, and the end of the copy that it takes part in.
#[derive(Debug)]
struct Memory<T: Plain> {
    values: PinnedHostSlice<T>,
    copied: Option<CudaEvent>,
}

impl<T: Plain> Memory<T> {
    /// Waits for the copy.
    fn settle(&mut self) -> Result<()> {
        if let Some(copied) = &self.copied {
            copied.synchronize().w()?;
        }
        self.copied = None;
        Ok(())
    }
}

impl<T: Plain> Drop for Memory<T> {
    /// It must not go while a copy is under way.
    fn drop(&mut self) {
        if self.settle().is_err() {
            // The device is lost, and with it the copy.
            self.copied = None;
        }
    }
}

impl<T: Plain> Pool<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Memory for that many values at least, with no copy under way.
    fn take(&self, stream: &CudaStream, length: usize) -> Result<Memory<T>> {
        let free = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What has become too small goes.
            free.retain(|memory| memory.values.len() >= length);
            (!free.is_empty()).then(|| free.remove(0))
        };
        if let Some(mut memory) = free {
            memory.settle()?;
            return Ok(memory);
        }
        let length = length.max(1);
        // Not write-combined, as `alloc_pinned` has it: the processor reads there too.
        // SAFETY: it is filled with zeros before anybody reads it.
        let mut values = unsafe { stream.context().alloc_pinned_with_flags::<T>(length, 0) }.w()?;
        let start = values.as_mut_ptr().w()?;
        // SAFETY: as many values as were just allocated, for which zero bits are valid; no copy is under way.
        unsafe { start.write_bytes(0, length) };
        Ok(Memory { values, copied: None })
    }

    fn give_back(&self, memory: Memory<T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    /// Begins to copy a contiguous tensor into memory of this pool.
    fn download(self: &Arc<Self>, tensor: &Tensor) -> Result<Coming<T>> {
        const OP: &str = "download";
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Conv3dError::GpuOnly { op: OP }.into());
        };
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or(Conv3dError::NotContiguous { op: OP })?;
        let from = storage.as_cuda_slice::<T>()?.slice(start..end);
        let length = end - start;
        let stream = storage.device.cuda_stream();
        let mut memory = self.take(&stream, length)?;
        let to = memory.values.as_mut_slice().w()?;
        stream.memcpy_dtoh(&from, &mut to[..length]).w()?;
        memory.copied = Some(stream.record_event(None).w()?);
        Ok(Coming {
            memory,
            length,
            pool: Arc::clone(self),
        })
    }
}

/// Values on their way from a GPU.
#[derive(Debug)]
pub(crate) struct Coming<T: Plain> {
    memory: Memory<T>,
    length: usize,
    pool: Arc<Pool<T>>,
}

impl<T: Plain> Coming<T> {
    pub(crate) fn wait(mut self) -> Result<Vec<T>> {
        self.memory.settle()?;
        let values = self.memory.values.as_slice().w()?[..self.length].to_vec();
        self.pool.give_back(self.memory);
        Ok(values)
    }
}

impl Pinned {
    /// Nothing where the device is no GPU.
    pub(crate) fn new(device: &Device) -> Option<Self> {
        device.as_cuda_device().ok().map(|device| Self {
            device: device.clone(),
            up: Pool::new(),
            up_u8: Pool::new(),
            down_u8: Pool::new(),
            down_f32: Pool::new(),
        })
    }

    pub(crate) fn upload<E: From<candle_core::Error>>(
        &self,
        shape: Shape,
        fill: impl FnOnce(&mut [f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Tensor, E> {
        send(&self.device, &self.up, shape, |values| {
            values.fill(0.0);
            fill(values)
        })
    }

    pub(crate) fn send_f32(&self, values: &[f32], shape: Shape) -> Result<Tensor> {
        send(&self.device, &self.up, shape, |to| copy(to, values))
    }

    pub(crate) fn send_u8(&self, values: &[u8], shape: Shape) -> Result<Tensor> {
        send(&self.device, &self.up_u8, shape, |to| copy(to, values))
    }

    pub(crate) fn download_u8(&self, tensor: &Tensor) -> Result<Coming<u8>> {
        self.down_u8.download(tensor)
    }

    pub(crate) fn download_f32(&self, tensor: &Tensor) -> Result<Coming<f32>> {
        self.down_f32.download(tensor)
    }
}

fn copy<T: Plain>(to: &mut [T], values: &[T]) -> Result<()> {
    check_length("a tensor", to.len(), values.len())?;
    to.clone_from_slice(values);
    Ok(())
}

/// A new tensor of what `fill`, which writes all of it, puts into memory of a pool.
fn send<T: Plain, E: From<candle_core::Error>>(
    device: &CudaDevice,
    pool: &Pool<T>,
    shape: Shape,
    fill: impl FnOnce(&mut [T]) -> std::result::Result<(), E>,
) -> std::result::Result<Tensor, E> {
    let length = shape.elem_count();
    let stream = device.cuda_stream();
    let mut memory = pool.take(&stream, length)?;
    let values = &mut memory.values.as_mut_slice().w()?[..length];
    fill(values)?;
    // SAFETY: all of it is copied into before anything else on the stream can read it.
    let mut there = unsafe { device.alloc::<T>(length.max(1)) }?;
    stream.memcpy_htod(&*values, &mut there).w()?;
    memory.copied = Some(stream.record_event(None).w()?);
    pool.give_back(memory);
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(there, device.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}
