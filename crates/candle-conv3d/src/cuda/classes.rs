//! The sums and the gradient of a loss over soft-max and labels.

use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{Input, apply, apply_to, channelwise};
use crate::{
    error::Conv3dError,
    layout::{from_channels_last, to_channels_last},
};

/// What a loss over soft-max and labels is made of: f64 `[6, C]` of logits `[N, C, D, H, W]` (f32 or bf16) and labels
/// `[N, D, H, W]` (u8), on a GPU alone.
///
/// With p the soft-max, its rows are for each class: Σp, Σp where it is the label, Σ −log p of the label, voxels of the
/// label, voxels where it is the highest (of equal ones the lowest), and those where it is both. Voxels whose label has no
/// channel are missing in the fourth.
///
/// # Errors
/// Where shapes or types don't fit, or the tensors are not on a GPU.
pub fn class_sums(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let channels = check("class_sums", logits, labels)?;
    to_channels_last(logits)?.apply_op2_no_bwd(&labels.contiguous()?, &Sums(channels))
}

/// The gradient by the logits of a loss with these slopes, f32 `[3, C]`: for each class its derivatives by p at every
/// voxel, by p where the class is the label, and by −log p there. On a GPU alone.
///
/// # Errors
/// As [`class_sums`].
pub fn class_gradient(logits: &Tensor, labels: &Tensor, slopes: &Tensor) -> Result<Tensor> {
    let channels = check("class_gradient", logits, labels)?;
    let (labels, slopes) = (labels.contiguous()?, slopes.contiguous()?);
    from_channels_last(&to_channels_last(logits)?.apply_op3_no_bwd(&labels, &slopes, &Gradient(channels))?)
}

fn check(op: &'static str, logits: &Tensor, labels: &Tensor) -> Result<usize> {
    let (n, channels, d, h, w) = logits.dims5()?;
    let shape = |what, expected: String, found: &Tensor| Conv3dError::Shape {
        op,
        what,
        expected,
        found: found.dims().to_vec(),
    };
    if !(1..=256).contains(&channels) {
        return Err(shape("the logits", "[N, 1 to 256, D, H, W]".to_owned(), logits).into());
    }
    if labels.dims() != [n, d, h, w] {
        return Err(shape("the labels", format!("[{n}, {d}, {h}, {w}]"), labels).into());
    }
    Ok(channels)
}

/// (logits, labels) -> sums.
struct Sums(usize);

impl CustomOp2 for Sums {
    fn name(&self) -> &'static str {
        "class_sums"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Err(Conv3dError::GpuOnly { op: self.name() }.into())
    }

    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        logits_layout: &Layout,
        labels: &CudaStorage,
        labels_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs: [Input<'_>; 2] = [(logits, logits_layout), (labels, labels_layout)];
        let voxels = labels_layout.shape().elem_count();
        apply_to::<f64>(self.name(), &inputs, (6, self.0), |element| {
            channelwise::class_sums(element, voxels, self.0)
        })
    }
}

/// (logits, labels, slopes) -> gradient.
struct Gradient(usize);

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        "class_gradient"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Err(Conv3dError::GpuOnly { op: self.name() }.into())
    }

    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        logits_layout: &Layout,
        labels: &CudaStorage,
        labels_layout: &Layout,
        slopes: &CudaStorage,
        slopes_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs: [Input<'_>; 3] = [
            (logits, logits_layout),
            (labels, labels_layout),
            (slopes, slopes_layout),
        ];
        let (shape, voxels) = (logits_layout.shape(), labels_layout.shape().elem_count());
        apply(self.name(), &inputs, shape.clone(), |element| {
            channelwise::class_gradient(element, voxels, self.0)
        })
    }
}
