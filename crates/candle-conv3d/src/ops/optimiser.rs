//! `adam_step` and `update_averages`.

use candle_core::{CpuStorage, Device, InplaceOp2, InplaceOp3, Layout, Result, Tensor};

use super::{
    check_f32, shape_error,
    storage::{read, write},
};
use crate::cpu::{self, AdamStep};
#[cfg(feature = "cuda")]
use crate::cuda;

/// What a step of Adam reads and moves: contiguous f32 tensors of one shape.
#[derive(Debug, Clone, Copy)]
pub struct AdamTensors<'a> {
    /// The gradient, in any layout.
    pub gradient: &'a Tensor,
    /// What is learnt.
    pub values: &'a Tensor,
    /// The running mean of the gradient.
    pub first: &'a Tensor,
    /// That of its square.
    pub second: &'a Tensor,
}

/// Refuses tensors of another type or shape than the first.
fn check(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    check_f32(op, tensors)?;
    for tensor in tensors {
        if tensor.shape() != tensors[0].shape() {
            let expected = format!("{:?}", tensors[0].dims());
            return Err(shape_error(op, "a tensor beside another", expected, tensor));
        }
    }
    Ok(())
}

/// A step of Adam (Kingma and Ba 2015), which moves the values and their running means where they are. Gives the norm of all
/// gradients together, f64 `[1]`; nothing moves unless that and the loss, f64 `[1]`, are finite. On a GPU these are three kernels
/// for some sixty tensors, and nobody waits for them.
///
/// # Errors
/// Where shapes or types don't fit, what is moved is not contiguous, or tensors share memory.
pub fn adam_step(tensors: &[AdamTensors<'_>], loss: &Tensor, step: &AdamStep) -> Result<Tensor> {
    const NAME: &str = "adam";
    let mut gradients = Vec::with_capacity(tensors.len());
    for of in tensors {
        check(NAME, &[of.gradient, of.values, of.first, of.second])?;
        gradients.push(of.gradient.detach().contiguous()?);
    }
    #[cfg(feature = "cuda")]
    if loss.device().is_cuda() {
        let lengths: Vec<usize> = gradients.iter().map(Tensor::elem_count).collect();
        let program = cuda::adam(&lengths, step)?;
        let pairs = tensors.iter().zip(&gradients);
        let inputs = pairs.flat_map(|(of, gradient)| [gradient, of.values, of.first, of.second]);
        let inputs: Vec<&Tensor> = inputs.chain([loss]).collect();
        cuda::check_type(NAME, loss, candle_core::DType::F64)?;
        return cuda::from_tensors::<f64>(NAME, &inputs, 3, &program)?.narrow(0, 0, 1);
    }
    let mut squares = 0.0;
    for gradient in &gradients {
        squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let norm = squares.sqrt();
    let losses = loss.to_vec1::<f64>()?;
    if norm.is_finite() && losses.iter().all(|loss| loss.is_finite()) {
        let scale = if norm > step.clip { step.clip / norm } else { 1.0 };
        let [beta1, beta2] = step.betas;
        let first = RunningMean {
            shares: [beta1 as f32, ((1.0 - beta1) * scale) as f32],
            made: |gradient| gradient,
        };
        let second = RunningMean {
            shares: [beta2 as f32, ((1.0 - beta2) * scale * scale) as f32],
            made: |gradient| gradient * gradient,
        };
        for (of, gradient) in tensors.iter().zip(&gradients) {
            of.first.inplace_op2(gradient, &first)?;
            of.second.inplace_op2(gradient, &second)?;
            of.values.inplace_op3(of.first, of.second, &AdamValues(*step))?;
        }
    }
    Tensor::from_vec(vec![norm], 1, &Device::Cpu)
}

/// Makes each mean (the first of a pair, f32) `decay` of itself and the rest of the values (the second, of the same shape),
/// where it is. On a GPU this is one kernel for some sixty tensors.
///
/// # Errors
/// Where shapes or types don't fit, tensors are not contiguous, or they share memory.
pub fn update_averages(pairs: &[[&Tensor; 2]], decay: f64) -> Result<()> {
    const NAME: &str = "update_averages";
    for pair in pairs {
        check(NAME, pair)?;
    }
    #[cfg(feature = "cuda")]
    if pairs.iter().any(|[mean, _]| mean.device().is_cuda()) {
        let lengths: Vec<usize> = pairs.iter().map(|[mean, _]| mean.elem_count()).collect();
        let inputs: Vec<&Tensor> = pairs.iter().flatten().copied().collect();
        return cuda::change_tensors(NAME, &inputs, &cuda::average(&lengths, decay)?);
    }
    let op = RunningMean {
        shares: [decay as f32, (1.0 - decay) as f32],
        made: |value| value,
    };
    pairs
        .iter()
        .try_for_each(|[mean, values]| mean.inplace_op2(values, &op))
}

/// (mean, values) -> mean.
struct RunningMean {
    /// What it keeps of itself, and what it takes of a value.
    shares: [f32; 2],
    /// What is made of a value first.
    made: fn(f32) -> f32,
}

impl InplaceOp2 for RunningMean {
    fn name(&self) -> &'static str {
        "running-mean"
    }

    fn cpu_fwd(
        &self,
        mean: &mut CpuStorage,
        layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<()> {
        let mean = write::<f32>(self.name(), mean, layout)?;
        let values = read::<f32>(self.name(), values, values_layout)?;
        Ok(cpu::running_mean(mean, values, self.shares, self.made)?)
    }
}

/// (values, mean of the gradient, mean of its square) -> values.
struct AdamValues(AdamStep);

impl InplaceOp3 for AdamValues {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<()> {
        let values = write::<f32>(self.name(), values, layout)?;
        let first = read::<f32>(self.name(), first, first_layout)?;
        let second = read::<f32>(self.name(), second, second_layout)?;
        Ok(cpu::adam_values(values, first, second, &self.0)?)
    }
}
