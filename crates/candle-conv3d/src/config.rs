//! What a convolution can be told.

use crate::error::Conv3dError;

/// How far the input is extended by zeros on each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// The output has the input's size: `(k - 1) / 2` zeros before and `k / 2` after (the convention of Keras).
    #[default]
    Same,
    /// `[before, after]` for each of the axes D, H, W.
    Explicit([[usize; 2]; 3]),
}

impl Padding {
    /// Zeros `[before, after]` on each axis for a kernel of this size.
    pub fn amounts(&self, kernel: [usize; 3]) -> [[usize; 2]; 3] {
        match self {
            Self::Same => kernel.map(|k| [k.saturating_sub(1) / 2, k / 2]),
            Self::Explicit(amounts) => *amounts,
        }
    }

    /// Output size for an input and a kernel of these sizes (axes D, H, W).
    ///
    /// # Errors
    /// [`Conv3dError::KernelTooLarge`] where the padded input is smaller than the kernel.
    pub fn output_size(&self, input: [usize; 3], kernel: [usize; 3]) -> Result<[usize; 3], Conv3dError> {
        let amounts = self.amounts(kernel);
        let mut output = [0; 3];
        for axis in 0..3 {
            let padded = input[axis] + amounts[axis][0] + amounts[axis][1];
            if kernel[axis] == 0 || padded < kernel[axis] {
                return Err(Conv3dError::KernelTooLarge {
                    kernel,
                    input,
                    padding: amounts,
                });
            }
            output[axis] = padded + 1 - kernel[axis];
        }
        Ok(output)
    }
}

/// What is applied to each output value after the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
}

/// Options of [`conv3d`](crate::conv3d): "same" padding and no activation by default; stride and dilation are 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conv3dConfig {
    /// Zeros around the input.
    pub padding: Padding,
    /// Fused into the convolution.
    pub activation: Activation,
}
