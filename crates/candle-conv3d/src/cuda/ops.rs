//! From candle's storages to programs and back.

use candle_core::{
    CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor,
    backend::BackendStorage,
    cuda_backend::{CudaDType, cudarc::driver::DeviceRepr},
    op::BackpropOp,
};

use super::{
    choice::run_fastest,
    convolution::{ConvolutionPlan, Direction},
    device::{Operand, change, read, run, run_into},
    program::{Element, Program},
};
use crate::error::Conv3dError;

/// A storage and how its values lie in it.
pub(crate) type Input<'a> = (&'a CudaStorage, &'a Layout);

type Planned = std::result::Result<Program, Conv3dError>;

pub(super) fn element_of(op: &'static str, dtype: DType) -> Result<Element> {
    match dtype {
        DType::F32 => Ok(Element::F32),
        DType::BF16 => Ok(Element::Bf16),
        found => Err(Conv3dError::GpuElementType { op, found }.into()),
    }
}

fn run_on<T: CudaDType + DeviceRepr>(
    op: &'static str,
    inputs: &[Input<'_>],
    program: &Program,
) -> Result<CudaStorage> {
    let operands: Vec<_> = inputs
        .iter()
        .map(|(storage, layout)| read(op, storage, layout))
        .collect::<Result<_>>()?;
    run::<T>(inputs[0].0.device(), program, &operands)
}

/// A new tensor of the first input's element type.
pub(crate) fn apply(
    op: &'static str,
    inputs: &[Input<'_>],
    shape: impl Into<Shape>,
    plan: impl FnOnce(Element) -> Planned,
) -> Result<(CudaStorage, Shape)> {
    let element = element_of(op, inputs[0].0.dtype())?;
    let program = plan(element)?;
    let storage = match element {
        Element::F32 => run_on::<f32>(op, inputs, &program)?,
        Element::Bf16 => run_on::<half::bf16>(op, inputs, &program)?,
    };
    Ok((storage, shape.into()))
}

/// A new tensor of element type `T`.
pub(crate) fn apply_to<T: CudaDType + DeviceRepr>(
    op: &'static str,
    inputs: &[Input<'_>],
    shape: impl Into<Shape>,
    plan: impl FnOnce(Element) -> Planned,
) -> Result<(CudaStorage, Shape)> {
    let program = plan(element_of(op, inputs[0].0.dtype())?)?;
    Ok((run_on::<T>(op, inputs, &program)?, shape.into()))
}

/// A new tensor of the first input's element type, by the fastest convolution.
pub(crate) fn convolve<'a>(
    op: &'static str,
    inputs: &[Input<'_>],
    shape: impl Into<Shape>,
    direction: Direction,
    plan: impl FnOnce(Element) -> ConvolutionPlan<'a>,
) -> Result<(CudaStorage, Shape)> {
    let element = element_of(op, inputs[0].0.dtype())?;
    let device = inputs[0].0.device();
    let storage = run_fastest(device, &plan(element), direction, |program| match element {
        Element::F32 => run_on::<f32>(op, inputs, program),
        Element::Bf16 => run_on::<half::bf16>(op, inputs, program),
    })?;
    Ok((storage, shape.into()))
}

/// Into a contiguous tensor that is there, of the first input's element type.
pub(crate) fn apply_into(
    op: &'static str,
    inputs: &[Input<'_>],
    output: (&mut CudaStorage, &Layout),
    plan: impl FnOnce(Element) -> Planned,
) -> Result<()> {
    let element = element_of(op, inputs[0].0.dtype())?;
    run_program_into(op, inputs, output, &plan(element)?)
}

/// The same by the fastest convolution.
pub(super) fn convolve_into<'a>(
    op: &'static str,
    inputs: &[Input<'_>],
    (output, layout): (&mut CudaStorage, &Layout),
    direction: Direction,
    plan: impl FnOnce(Element) -> ConvolutionPlan<'a>,
) -> Result<()> {
    let element = element_of(op, inputs[0].0.dtype())?;
    let device = inputs[0].0.device();
    run_fastest(device, &plan(element), direction, |program| {
        run_program_into(op, inputs, (&mut *output, layout), program)
    })
}

fn run_program_into(
    op: &'static str,
    inputs: &[Input<'_>],
    (output, layout): (&mut CudaStorage, &Layout),
    program: &Program,
) -> Result<()> {
    let operands: Vec<_> = inputs
        .iter()
        .map(|(storage, layout)| read(op, storage, layout))
        .collect::<Result<_>>()?;
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(Conv3dError::NotContiguous { op })?;
    let device = output.device().clone();
    match program.element {
        Element::F32 => {
            let output = output.as_cuda_slice_mut::<f32>()?;
            run_into(&device, program, &operands, output.slice_mut(start..end))
        }
        Element::Bf16 => {
            let output = output.as_cuda_slice_mut::<half::bf16>()?;
            run_into(&device, program, &operands, output.slice_mut(start..end))
        }
    }
}

/// A new tensor of element type `T` from tensors of any number and type, which are contiguous and of which the program may
/// change some where they are. Nothing is walked back through it.
pub(crate) fn from_tensors<T: CudaDType + DeviceRepr>(
    op: &'static str,
    inputs: &[&Tensor],
    shape: impl Into<Shape>,
    program: &Program,
) -> Result<Tensor> {
    let made = with_operands(op, inputs, |device, operands| run::<T>(device, program, operands))?;
    Ok(Tensor::from_storage(
        Storage::Cuda(made),
        shape,
        BackpropOp::none(),
        false,
    ))
}

/// Runs a program that has no result but what it changes of its inputs.
pub(crate) fn change_tensors(op: &'static str, inputs: &[&Tensor], program: &Program) -> Result<()> {
    with_operands(op, inputs, |device, operands| change(device, program, operands))
}

fn with_operands<R>(
    op: &'static str,
    inputs: &[&Tensor],
    run: impl FnOnce(&CudaDevice, &[Operand<'_>]) -> Result<R>,
) -> Result<R> {
    let held: Vec<_> = inputs.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let mut operands = Vec::with_capacity(held.len());
    let mut device = None;
    for (storage, layout) in &held {
        let Storage::Cuda(storage) = &**storage else {
            return Err(Conv3dError::GpuOnly { op }.into());
        };
        operands.push(read(op, storage, layout)?);
        device = Some(storage.device());
    }
    let device = device.ok_or(Conv3dError::GpuOnly { op })?;
    run(device, &operands)
}

/// Refuses a tensor of another type than a kernel reads.
pub(crate) fn check_type(op: &'static str, tensor: &Tensor, expected: DType) -> Result<()> {
    match tensor.dtype() {
        found if found == expected => Ok(()),
        found => Err(Conv3dError::GpuElementType { op, found }.into()),
    }
}
