//! A step of Adam.

use super::program::{Element, Place, Program, over, whole};
use crate::error::Conv3dError;

/// Constants of a step, as the kernel has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    /// Decay rate of the gradient's mean, and what a new gradient has of it.
    pub first: [f32; 2],
    /// The same for the mean of its square.
    pub second: [f32; 2],
    /// Makes up for a mean square that began at 0.
    pub second_correction: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// Learning rate, with what makes up for a mean that began at 0.
    pub rate: f32,
}

/// (gradient, mean, mean square) -> (change, mean, mean square), of that many values each, f32.
pub(crate) fn adam(values: usize, step: &AdamStep) -> Result<Program, Conv3dError> {
    whole(&[3 * values])?;
    let mut program = Program::new(Element::F32, &[values; 3], 3 * values);
    let places = [
        Place::Input(0, 0),
        Place::Input(1, 0),
        Place::Input(2, 0),
        Place::Output,
    ];
    let AdamStep {
        first,
        second,
        second_correction,
        epsilon,
        rate,
    } = *step;
    let [first_kept, first_new] = first;
    let [second_kept, second_new] = second;
    let constants = [
        first_kept,
        first_new,
        second_kept,
        second_new,
        second_correction,
        epsilon,
        rate,
    ];
    // The bits of the floats in the kernel's struct.
    let mut sizes = whole(&[values])?;
    sizes.extend(constants.map(|constant| constant.to_bits().cast_signed()));
    program.launch_typed("adam_f32".to_owned(), over(values), 256, &places, &sizes)?;
    Ok(program)
}

#[cfg(feature = "cuda")]
pub use op::adam_step;

#[cfg(feature = "cuda")]
mod op {
    use candle_core::{CpuStorage, CudaStorage, CustomOp3, Layout, Result, Shape, Tensor};

    use super::{super::apply, AdamStep, adam};
    use crate::error::Conv3dError;

    /// What a step of Adam makes of a gradient, its running mean and the running mean of its square, all f32 of one shape:
    /// by how much the values are to fall, and both means after it. `betas` are the decay rates, `scale` is what the gradient
    /// is multiplied by, `steps` counts from 1 with this one. One kernel where candle would take a dozen. On a GPU alone.
    ///
    /// # Errors
    /// Where shapes or types don't fit, or the tensors are not on a GPU.
    pub fn adam_step(
        [gradient, first, second]: [&Tensor; 3],
        betas: [f64; 2],
        epsilon: f64,
        learning_rate: f64,
        scale: f64,
        steps: u64,
    ) -> Result<[Tensor; 3]> {
        for other in [first, second] {
            if other.shape() != gradient.shape() {
                return Err(Conv3dError::Shape {
                    op: "adam",
                    what: "a running mean",
                    expected: format!("{:?}", gradient.dims()),
                    found: other.dims().to_vec(),
                }
                .into());
            }
        }
        let [beta1, beta2] = betas;
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        let op = Step(AdamStep {
            first: [beta1 as f32, ((1.0 - beta1) * scale) as f32],
            second: [beta2 as f32, ((1.0 - beta2) * scale * scale) as f32],
            second_correction: (1.0 / correction(beta2)) as f32,
            epsilon: epsilon as f32,
            rate: (learning_rate / correction(beta1)) as f32,
        });
        let contiguous = |tensor: &Tensor| tensor.detach().contiguous();
        let results =
            contiguous(gradient)?.apply_op3_no_bwd(&contiguous(first)?, &contiguous(second)?, &op)?;
        let row = |index: usize| results.get(index)?.reshape(gradient.shape());
        Ok([row(0)?, row(1)?, row(2)?])
    }

    /// (gradient, mean, mean square) -> all three results.
    struct Step(AdamStep);

    impl CustomOp3 for Step {
        fn name(&self) -> &'static str {
            "adam"
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
            gradient: &CudaStorage,
            gradient_layout: &Layout,
            first: &CudaStorage,
            first_layout: &Layout,
            second: &CudaStorage,
            second_layout: &Layout,
        ) -> Result<(CudaStorage, Shape)> {
            use candle_core::{DType, backend::BackendStorage};

            for storage in [gradient, first, second] {
                let found = storage.dtype();
                if found != DType::F32 {
                    return Err(Conv3dError::GpuElementType {
                        op: self.name(),
                        found,
                    }
                    .into());
                }
            }
            let values = gradient_layout.shape().elem_count();
            let inputs = [
                (gradient, gradient_layout),
                (first, first_layout),
                (second, second_layout),
            ];
            apply(self.name(), &inputs, (3, values), |_| adam(values, &self.0))
        }
    }
}
