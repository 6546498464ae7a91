//! Weights of layers that nobody learns, in the kernels' order.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Storage, Tensor};

use super::{ConvolutionPlan, Direction, Element, Input, Program, apply, apply_into, ops::convolve_into};
use crate::error::Conv3dError;

type Planned = std::result::Result<Program, Conv3dError>;

/// Weight and bias on a GPU, packed once for each element type that the layer is used with.
#[derive(Debug)]
pub(crate) struct PackedOnGpu {
    weight: Tensor,
    bias: Option<Tensor>,
    f32: OnceLock<Tensor>,
    bf16: OnceLock<Tensor>,
}

impl PackedOnGpu {
    /// Nothing where the weight is not on a GPU.
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>) -> Option<Self> {
        weight.device().is_cuda().then(|| Self {
            weight: weight.detach(),
            bias: bias.map(Tensor::detach),
            f32: OnceLock::new(),
            bf16: OnceLock::new(),
        })
    }

    pub(crate) fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Runs a program over the inputs and, behind them, the packed weight and the bias.
    pub(crate) fn run(
        &self,
        op: &'static str,
        inputs: &[Input<'_>],
        output: (&mut CudaStorage, &Layout),
        pack: impl Fn(Element) -> Planned,
        plan: impl FnOnce(Element) -> Planned,
    ) -> Result<()> {
        self.with_packed(op, inputs, &pack, |inputs| apply_into(op, inputs, output, plan))
    }

    /// The same for a convolution, by the fastest program of [`Direction::Packed`].
    pub(crate) fn convolve<'a>(
        &self,
        op: &'static str,
        inputs: &[Input<'_>],
        output: (&mut CudaStorage, &Layout),
        pack: impl Fn(Element) -> Planned,
        plan: impl FnOnce(Element) -> ConvolutionPlan<'a>,
    ) -> Result<()> {
        self.with_packed(op, inputs, &pack, |inputs| {
            convolve_into(op, inputs, output, Direction::Packed, plan)
        })
    }

    fn with_packed(
        &self,
        op: &'static str,
        inputs: &[Input<'_>],
        pack: &dyn Fn(Element) -> Planned,
        run: impl FnOnce(&[Input<'_>]) -> Result<()>,
    ) -> Result<()> {
        use candle_core::backend::BackendStorage;

        let dtype = inputs[0].0.dtype();
        let place = if dtype == DType::BF16 {
            &self.bf16
        } else {
            &self.f32
        };
        let packed = if let Some(packed) = place.get() {
            packed.clone()
        } else {
            let weight = self.weight.to_dtype(dtype)?.flatten_all()?.contiguous()?;
            let packed = weight.apply_op1_no_bwd(&Pack(pack))?;
            let packed = match &self.bias {
                Some(bias) => Tensor::cat(&[&packed, &bias.to_dtype(dtype)?], 0)?,
                None => packed,
            };
            place.get_or_init(|| packed).clone()
        };
        let (storage, layout) = packed.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Conv3dError::GpuOnly { op }.into());
        };
        run(&[inputs, &[(storage, layout)]].concat())
    }
}

/// weight -> packed weight.
struct Pack<'a>(&'a dyn Fn(Element) -> Planned);

impl CustomOp1 for Pack<'_> {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Err(Conv3dError::GpuOnly { op: self.name() }.into())
    }

    fn cuda_fwd(&self, weight: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;

        let element = super::ops::element_of(self.name(), weight.dtype())?;
        let length = (self.0)(element)?.output;
        apply(self.name(), &[(weight, layout)], length, self.0)
    }
}
