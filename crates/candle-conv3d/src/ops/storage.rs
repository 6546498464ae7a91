//! From candle's storages to slices.

use std::any::Any;

use candle_core::{CpuStorage, Layout, Result, WithDType, backend::BackendStorage};

use half::bf16;

use crate::{cpu::bf16::Stored, error::Conv3dError};

/// The values of a contiguous tensor.
pub(super) fn read<'a, T: WithDType>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(Conv3dError::NotContiguous { op })?;
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// A contiguous tensor `[N, D, H, W, C]` in bf16; with a halo also what stands before and behind it.
pub(super) fn stored<'a>(
    op: &'static str,
    (storage, layout): (&'a CpuStorage, &Layout),
    channels: usize,
    halo: bool,
) -> Result<Stored<'a>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(Conv3dError::NotContiguous { op })?;
    let all = storage.as_slice::<bf16>()?;
    let (values, start) = if halo { (all, start) } else { (&all[start..end], 0) };
    Ok(Stored {
        values,
        start,
        channels,
        halo,
    })
}

/// The values of a contiguous tensor, to be written.
pub(super) fn write<'a, T: WithDType>(
    op: &'static str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [T]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(Conv3dError::NotContiguous { op })?;
    let found = storage.dtype();
    let values: Option<&mut Vec<T>> = match storage {
        CpuStorage::BF16(values) => (values as &mut dyn Any).downcast_mut(),
        CpuStorage::F32(values) => (values as &mut dyn Any).downcast_mut(),
        CpuStorage::F64(values) => (values as &mut dyn Any).downcast_mut(),
        _ => None,
    };
    let values = values.ok_or(Conv3dError::ElementType {
        op,
        found: vec![found],
    })?;
    Ok(&mut values[start..end])
}

/// Values as a storage.
pub(super) fn own<T: WithDType>(values: Vec<T>) -> CpuStorage {
    T::to_cpu_storage_owned(values)
}

/// Runs the body for the storage's element type.
macro_rules! dispatch {
    ($op:expr, $storage:expr, $t:ident => $body:block) => {
        match $storage {
            candle_core::CpuStorage::BF16(_) => {
                type $t = half::bf16;
                $body
            }
            candle_core::CpuStorage::F32(_) => {
                type $t = f32;
                $body
            }
            candle_core::CpuStorage::F64(_) => {
                type $t = f64;
                $body
            }
            other => {
                use candle_core::backend::BackendStorage;
                let found = vec![other.dtype()];
                return Err(crate::error::Conv3dError::ElementType { op: $op, found }.into());
            }
        }
    };
}
pub(super) use dispatch;

/// [`dispatch`] for what is not computed in bf16.
macro_rules! dispatch_wide {
    ($op:expr, $storage:expr, $t:ident => $body:block) => {
        match $storage {
            candle_core::CpuStorage::F32(_) => {
                type $t = f32;
                $body
            }
            candle_core::CpuStorage::F64(_) => {
                type $t = f64;
                $body
            }
            other => {
                use candle_core::backend::BackendStorage;
                let found = vec![other.dtype()];
                return Err(crate::error::Conv3dError::ElementType { op: $op, found }.into());
            }
        }
    };
}
pub(super) use dispatch_wide;
