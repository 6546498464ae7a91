//! A step of Adam.

use super::program::{Element, Place, Program, over, whole, words};
use crate::error::Conv3dError;

/// Constants of a step of Adam (Kingma and Ba 2015).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    not(feature = "cuda"),
    expect(
        unreachable_pub,
        reason = "the functions that take it are there with the feature alone"
    )
)]
pub struct AdamStep {
    /// Decay rates of the gradient's mean and of the mean of its square.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Which step it is, from 1: the means began at 0.
    pub steps: u64,
}

/// (gradient, values, mean, mean square, f64 control) -> (values, mean, mean square), of that many values each, f32.
pub(crate) fn adam(values: usize, step: &AdamStep) -> Result<Program, Conv3dError> {
    whole(&[3 * values])?;
    let mut program = Program::new(Element::F32, &[values, values, values, values, 3], 3 * values);
    let [beta1, beta2] = step.betas;
    let correction = |beta: f64| 1.0 - beta.powf(step.steps as f64);
    // The bits of the kernel's struct.
    let single = |constant: f64| (constant as f32).to_bits().cast_signed();
    let mut sizes = whole(&[values])?;
    sizes.push(single(beta1));
    sizes.extend([1.0 - beta1, 1.0 - beta2].into_iter().flat_map(words));
    sizes.extend([
        single(beta2),
        single(1.0 / correction(beta2)),
        single(step.epsilon),
        single(step.learning_rate / correction(beta1)),
    ]);
    let places = (0..5).map(|index| Place::Input(index, 0));
    let places: Vec<Place> = places.chain([Place::Output]).collect();
    program.launch_typed("adam_f32".to_owned(), over(values), 256, &places, &sizes)?;
    Ok(program)
}

#[cfg(feature = "cuda")]
pub use op::{adam_step, step_control};

#[cfg(feature = "cuda")]
mod op {
    use candle_core::{DType, Result, Tensor};

    use super::{
        super::{
            loss,
            ops::{check_type, from_tensors},
        },
        AdamStep, adam,
    };
    use crate::error::Conv3dError;

    /// What a step needs to know of all gradients (f32) before any value moves, f64 `[3]`: their common norm; what they are to
    /// be multiplied by so that it is no larger than `clip`; and whether anything is to move at all (1 or 0), which needs that
    /// norm and the loss, f64 `[1]`, to be numbers. On a GPU alone, where nobody waits for it.
    ///
    /// # Errors
    /// Where types don't fit, or the tensors are not on a GPU.
    pub fn step_control(gradients: &[&Tensor], loss: &Tensor, clip: f64) -> Result<Tensor> {
        const NAME: &str = "step_control";
        check_type(NAME, loss, DType::F64)?;
        let mut inputs = Vec::with_capacity(gradients.len() + 1);
        for gradient in gradients {
            check_type(NAME, gradient, DType::F32)?;
            inputs.push(gradient.contiguous()?);
        }
        let lengths: Vec<usize> = inputs.iter().map(Tensor::elem_count).collect();
        let program = loss::step_control(&lengths, clip)?;
        inputs.push(loss.contiguous()?);
        from_tensors::<f64>(NAME, &inputs.iter().collect::<Vec<_>>(), 3, &program)
    }

    /// What a step of Adam makes of values, the running mean of their gradient and that of its square, all f32 of one shape.
    /// `control` is that of [`step_control`]. One kernel where candle would take a dozen. On a GPU alone.
    ///
    /// # Errors
    /// Where shapes or types don't fit, or the tensors are not on a GPU.
    pub fn adam_step(
        gradient: &Tensor,
        [values, first, second]: [&Tensor; 3],
        control: &Tensor,
        step: &AdamStep,
    ) -> Result<[Tensor; 3]> {
        const NAME: &str = "adam";
        check_type(NAME, control, DType::F64)?;
        let mut inputs = Vec::with_capacity(5);
        for tensor in [gradient, values, first, second] {
            check_type(NAME, tensor, DType::F32)?;
            if tensor.shape() != gradient.shape() {
                return Err(Conv3dError::Shape {
                    op: NAME,
                    what: "the values or a running mean",
                    expected: format!("{:?}", gradient.dims()),
                    found: tensor.dims().to_vec(),
                }
                .into());
            }
            inputs.push(tensor.detach().contiguous()?);
        }
        inputs.push(control.contiguous()?);
        let values = gradient.elem_count();
        let program = adam(values, step)?;
        let results = from_tensors::<f32>(NAME, &inputs.iter().collect::<Vec<_>>(), (3, values), &program)?;
        let row = |index: usize| results.get(index)?.reshape(gradient.shape());
        Ok([row(0)?, row(1)?, row(2)?])
    }
}
