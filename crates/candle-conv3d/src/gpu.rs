//! Which GPUs there are, and why one cannot be used.
//!
//! NVIDIA's driver and libraries are opened at run time, so that one program serves machines with and without them;
//! they are asked for before anything is called, as cudarc panics where one is missing.

use candle_core::Device;

/// A GPU that the ops run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its number, from 0.
    pub ordinal: usize,
    /// What its maker calls it.
    pub name: String,
    /// Its compute capability, 8.0 or higher.
    pub compute_capability: (i32, i32),
    /// Its memory, in bytes.
    pub memory_bytes: usize,
}

/// Why no GPU can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// Without the feature `cuda`.
    #[error("this program was built without CUDA support")]
    NotBuilt,
    /// No libcuda.
    #[error("NVIDIA's driver is missing (libcuda.so.1 is not found)")]
    NoDriver,
    /// A library that candle needs.
    #[error(
        "a library of CUDA is missing (lib{library}.so is not found): install CUDA {version}'s runtime libraries, or set LD_LIBRARY_PATH to where they are"
    )]
    NoLibrary {
        /// Its name.
        library: &'static str,
        /// The CUDA version that this program was built with.
        version: String,
    },
    /// A driver that does not know this program's kernels.
    #[error("NVIDIA's driver is too old: it knows CUDA {found}, and this program needs {needed}")]
    OldDriver {
        /// The newest CUDA version that it knows.
        found: String,
        /// That of this program.
        needed: String,
    },
    /// A driver, but nothing to drive.
    #[error("there is no NVIDIA GPU, or none that this process may use")]
    NoGpu,
    /// A number that no GPU has.
    #[error("there is no GPU {ordinal}: this machine has {count}, counted from 0")]
    NoSuchGpu {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A GPU from before 2020.
    #[error("the GPU {name} is too old: its compute capability is {major}.{minor}, and 8.0 is needed")]
    OldGpu {
        /// What its maker calls it.
        name: String,
        /// Its compute capability.
        major: i32,
        /// Behind the point.
        minor: i32,
    },
    /// What the driver said.
    #[error("the GPU cannot be used: {said}")]
    Failed {
        /// Its words.
        said: String,
    },
}

/// Why one of NVIDIA's libraries that are opened at run time is not used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// Without the feature for it.
    #[error("this program was built without {name} support")]
    NotBuilt {
        /// The library.
        name: &'static str,
    },
    /// cuDNN, by `DEEPFINDER_CUDNN`.
    #[error("it is switched off (DEEPFINDER_CUDNN=0)")]
    Off,
    /// No such file, or none that can be opened.
    #[error("it is missing ({said}): install {name}, or set LD_LIBRARY_PATH to where it is")]
    Missing {
        /// What the system said.
        said: String,
        /// The library, and where to have it from.
        name: &'static str,
    },
    /// Another version.
    #[error("version {found} is found, and version {needed} is needed")]
    Version {
        /// That of the file.
        found: String,
        /// What this program knows.
        needed: &'static str,
    },
    /// A function that is not there.
    #[error("it lacks the function {name}")]
    Function {
        /// Its name.
        name: &'static str,
    },
    /// Values that it could not take.
    #[error("values do not begin where it needs them")]
    Address,
    /// What it said.
    #[error("{function} fails: {said}")]
    Failed {
        /// What was called.
        function: &'static str,
        /// Its words.
        said: String,
    },
}

/// The version of cuDNN, which computes convolutions on a GPU where it is there and faster than this crate's own kernels;
/// `DEEPFINDER_CUDNN=0` never takes it, `1` wherever it can.
///
/// # Errors
/// Where it cannot be used, with the reason.
pub fn cudnn_version() -> Result<String, LibraryError> {
    #[cfg(feature = "cudnn")]
    return match crate::cuda::cudnn_library() {
        Ok(library) => Ok(library.version()),
        Err(reason) => Err(reason.clone()),
    };
    #[cfg(not(feature = "cudnn"))]
    Err(LibraryError::NotBuilt { name: "cuDNN" })
}

/// The version of NCCL, by which several GPUs add up what they have learnt.
///
/// # Errors
/// Where it cannot be used, with the reason.
pub fn nccl_version() -> Result<String, LibraryError> {
    #[cfg(feature = "nccl")]
    return match crate::cuda::nccl_library() {
        Ok(library) => Ok(library.version()),
        Err(reason) => Err(reason.clone()),
    };
    #[cfg(not(feature = "nccl"))]
    Err(LibraryError::NotBuilt { name: "NCCL" })
}

/// The GPUs of this machine, old ones too.
///
/// # Errors
/// Where there is none, or the driver or a library is missing or too old.
pub fn gpus() -> Result<Vec<Gpu>, GpuError> {
    found::gpus()
}

/// A GPU as a device for tensors.
///
/// # Errors
/// As [`gpus`], and where there is no GPU of that number or it is too old.
pub fn gpu(ordinal: usize) -> Result<Device, GpuError> {
    let all = gpus()?;
    let Some(wanted) = all.get(ordinal) else {
        let count = all.len();
        return Err(GpuError::NoSuchGpu { ordinal, count });
    };
    let (major, minor) = wanted.compute_capability;
    if major < 8 {
        let name = wanted.name.clone();
        return Err(GpuError::OldGpu { name, major, minor });
    }
    found::open(ordinal)
}

/// Memory that a GPU has free, in bytes; nothing for the processor.
pub fn free_gpu_memory(device: &Device) -> Option<usize> {
    found::free_memory(device)
}

#[cfg(not(feature = "cuda"))]
mod found {
    use super::{Device, Gpu, GpuError};

    pub(super) fn gpus() -> Result<Vec<Gpu>, GpuError> {
        Err(GpuError::NotBuilt)
    }

    pub(super) fn open(_: usize) -> Result<Device, GpuError> {
        Err(GpuError::NotBuilt)
    }

    pub(super) fn free_memory(_: &Device) -> Option<usize> {
        None
    }
}

#[cfg(feature = "cuda")]
mod found {
    #![expect(
        unsafe_code,
        reason = "cudarc calls opening a library, asking the driver and settings unsafe"
    )]

    use candle_core::cuda_backend::cudarc::{
        cublas, curand,
        driver::{CudaContext, DriverError, result, sys},
    };

    use super::{Device, Gpu, GpuError};

    /// CUDA version that the kernels were compiled with, 1000 · major + 10 · minor (`build.rs`).
    const CUDA: &str = env!("CONV3D_CUDA_VERSION");

    fn in_words(version: i32) -> String {
        format!("{}.{}", version / 1000, version % 1000 / 10)
    }

    fn failed(error: impl std::fmt::Display) -> GpuError {
        let said = error.to_string();
        GpuError::Failed {
            said: said.lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// That everything is there which will be called.
    fn check_libraries() -> Result<(), GpuError> {
        let built_with: i32 = CUDA.parse().map_err(failed)?;
        // SAFETY: libraries are opened and closed again; what runs on opening is NVIDIA's.
        let [driver, cublas, curand] = unsafe {
            [
                sys::is_culib_present(),
                cublas::sys::is_culib_present(),
                curand::sys::is_culib_present(),
            ]
        };
        if !driver {
            return Err(GpuError::NoDriver);
        }
        for (there, library) in [(cublas, "cublas"), (curand, "curand")] {
            if !there {
                let version = in_words(built_with);
                return Err(GpuError::NoLibrary { library, version });
            }
        }
        let mut version = 0;
        // SAFETY: writes one integer; every driver has this function.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }
            .result()
            .map_err(failed)?;
        if version < built_with {
            return Err(GpuError::OldDriver {
                found: in_words(version),
                needed: in_words(built_with),
            });
        }
        Ok(())
    }

    pub(super) fn gpus() -> Result<Vec<Gpu>, GpuError> {
        check_libraries()?;
        let count = match CudaContext::device_count() {
            Ok(count) if count > 0 => count as usize,
            Ok(_) | Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => return Err(GpuError::NoGpu),
            Err(error) => return Err(failed(error)),
        };
        (0..count)
            .map(|ordinal| {
                let context = CudaContext::new(ordinal).map_err(failed)?;
                Ok(Gpu {
                    ordinal,
                    name: context.name().map_err(failed)?,
                    compute_capability: context.compute_capability().map_err(failed)?,
                    memory_bytes: context.total_mem().map_err(failed)?,
                })
            })
            .collect()
    }

    pub(super) fn open(ordinal: usize) -> Result<Device, GpuError> {
        let device = Device::new_cuda_with_stream(ordinal).map_err(failed)?;
        let cuda = device.as_cuda_device().map_err(failed)?;
        let stream = cuda.cuda_stream();
        let context = stream.context();
        if context.has_async_alloc() {
            let mut keep = u64::MAX;
            // SAFETY: the attribute takes a pointer to 64 bits. Freed memory is kept for the next tensor; else each
            // synchronisation would give it back to the system.
            unsafe {
                let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(failed)?;
                let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                result::mem_pool::set_attribute(pool, attribute, (&raw mut keep).cast()).map_err(failed)?;
            }
        }
        // SAFETY: all work of a device goes through its one stream, in order; events would only keep streams apart.
        unsafe { cuda.disable_event_tracking() };
        Ok(device)
    }

    pub(super) fn free_memory(device: &Device) -> Option<usize> {
        let stream = device.as_cuda_device().ok()?.cuda_stream();
        let context = stream.context();
        stream.synchronize().ok()?;
        if context.has_async_alloc() {
            // What is kept for the next tensor is free as well: given back, so that the driver counts it.
            // SAFETY: the device's own pool; nothing in use is given back.
            unsafe {
                let pool = result::device::get_default_mem_pool(context.cu_device()).ok()?;
                result::mem_pool::trim_to(pool, 0).ok()?;
            }
        }
        context.mem_get_info().ok().map(|(free, _)| free)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn without_cuda_the_reason_is_given() {
        assert!(matches!(gpus(), Err(GpuError::NotBuilt)) && matches!(gpu(0), Err(GpuError::NotBuilt)));
        assert_eq!(free_gpu_memory(&Device::Cpu), None);
    }
}
