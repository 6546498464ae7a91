//! Tensors that several GPUs add up.

#![expect(unsafe_code, reason = "NCCL is given addresses on a GPU")]

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Error, Result, Storage, Tensor, WithDType,
    cuda_backend::{
        CudaDType, WrapErr,
        cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr},
    },
    op::BackpropOp,
};

use super::{
    super::{
        device::{Operand, read},
        ops::check_type,
    },
    group::{Member, Piece},
    library::library,
};
use crate::{error::Conv3dError, gpu::LibraryError};

const NAME: &str = "sums over GPUs";

/// A GPU of several that add up tensors among each other. Each is for a thread of its own.
#[derive(Debug)]
pub struct GpuSums {
    member: Member,
    device: CudaDevice,
}

/// Connects GPUs through NCCL.
///
/// # Errors
/// Where NCCL cannot be used or cannot connect them, with the reason.
pub fn gpu_sums(devices: &[Device]) -> std::result::Result<Vec<GpuSums>, LibraryError> {
    let library = library().as_ref().map_err(Clone::clone)?;
    let failed = |error: Error| LibraryError::Failed {
        function: "ncclCommInitAll",
        said: error.to_string(),
    };
    let devices: Vec<CudaDevice> = devices
        .iter()
        .map(|device| device.as_cuda_device().cloned().map_err(failed))
        .collect::<std::result::Result<_, _>>()?;
    let ordinals: Vec<usize> = devices
        .iter()
        .map(|device| device.cuda_stream().context().ordinal())
        .collect();
    let members = Member::all(library, &ordinals)?.into_iter().zip(devices);
    Ok(members
        .map(|(member, device)| GpuSums { member, device })
        .collect())
}

impl GpuSums {
    /// New tensors that are the sums of these, f32 or f64, and of those that the other GPUs give: as many, of the same shapes
    /// and types. The GPU is only asked for it. `ready` is called when all is prepared and only the call of NCCL is left, to
    /// learn whether the others have come as far.
    ///
    /// # Errors
    /// That of `ready`; where a tensor is of another type or elsewhere, memory is lacking, or NCCL refuses.
    pub fn sum<E: From<Error>>(
        &self,
        tensors: &[Tensor],
        ready: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<Tensor>, E> {
        let mut pieces = Vec::with_capacity(tensors.len());
        let mut summed = Vec::with_capacity(tensors.len());
        let mut kept = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let tensor = tensor.detach().contiguous()?;
            let (piece, sum) = match tensor.dtype() {
                DType::F64 => self.prepare::<f64>(&tensor)?,
                _ => self.prepare::<f32>(&tensor)?,
            };
            pieces.push(piece);
            summed.push(sum);
            kept.push(tensor);
        }
        let stream = self.device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        ready()?;
        // SAFETY: values of tensors that are kept until the stream has been asked, on this device, and of new memory as
        // large; memory that is given back is used again by later work of the same stream alone.
        unsafe { self.member.sum(&pieces, stream.cu_stream().cast()) }.map_err(Error::wrap)?;
        drop(kept);
        Ok(summed)
    }

    /// What is to be added up, and the tensor that the sum comes into.
    fn prepare<T: CudaDType + DeviceRepr + WithDType>(&self, tensor: &Tensor) -> Result<(Piece, Tensor)> {
        check_type(NAME, tensor, T::DTYPE)?;
        let stream = self.device.cuda_stream();
        let (storage, layout) = tensor.storage_and_layout();
        let from = match &*storage {
            Storage::Cuda(storage) if storage.device.id() == self.device.id() => {
                match read(NAME, storage, layout)? {
                    // The device's events are off (`gpu.rs`): nothing happens where what comes with an address is dropped.
                    Operand::F32(view) => view.device_ptr(&stream).0,
                    Operand::F64(view) => view.device_ptr(&stream).0,
                    Operand::Bf16(_) | Operand::U8(_) => return Err(Conv3dError::GpuOnly { op: NAME }.into()),
                }
            }
            _ => return Err(Conv3dError::OtherDevice { op: NAME }.into()),
        };
        let values = tensor.elem_count();
        // SAFETY: NCCL writes all of it.
        let mut sum: CudaSlice<T> = unsafe { self.device.alloc(values) }?;
        let to = sum.device_ptr_mut(&stream).0;
        let sum = Storage::Cuda(CudaStorage::wrap_cuda_slice(sum, self.device.clone()));
        let sum = Tensor::from_storage(sum, tensor.shape().clone(), BackpropOp::none(), false);
        let piece = Piece {
            from,
            to,
            values,
            double: T::DTYPE == DType::F64,
        };
        Ok((piece, sum))
    }

    /// Gives up all sums of all GPUs, those under way too, so that nobody waits for one that does not come. What such sums
    /// hold means nothing.
    pub fn abort(&self) {
        self.member.abort();
    }
}

impl Drop for GpuSums {
    fn drop(&mut self) {
        // What fails here fails whatever comes next on the device, too.
        let _ = self.device.cuda_stream().synchronize();
    }
}
