//! What convolutions and up-convolutions launch: sums over the taps of a lattice, and weights on their way to the kernels
//! and back.

use super::program::{Element, Place, Program, parts, whole};
use crate::{config::Activation, error::Conv3dError};

/// The struct `Gather` of `gather.cuh`.
pub(super) struct Gather {
    pub(super) batch: usize,
    pub(super) input: [usize; 3],
    pub(super) output: [usize; 3],
    pub(super) stride: usize,
    pub(super) first: [isize; 3],
    pub(super) taps: [usize; 3],
    pub(super) place: [usize; 3],
    pub(super) step: usize,
    pub(super) offset: [usize; 3],
    pub(super) channels: [usize; 2],
    pub(super) outputs: usize,
    pub(super) activation: Activation,
}

impl Gather {
    pub(super) fn sizes(&self) -> Result<Vec<i32>, Conv3dError> {
        // Voxels are counted in 32 bits, their values in 64.
        whole(&[
            self.batch * self.output.iter().product::<usize>(),
            self.batch * self.input.iter().product::<usize>(),
        ])?;
        let relu = usize::from(self.activation == Activation::Relu);
        let first = self.first.map(|first| first as i32);
        Ok([
            whole(&[self.batch])?,
            whole(&self.input)?,
            whole(&self.output)?,
            whole(&[self.stride])?,
            first.to_vec(),
            whole(&self.taps)?,
            whole(&self.place)?,
            whole(&[self.step])?,
            whole(&self.offset)?,
            whole(&self.channels)?,
            whole(&[self.outputs, relu])?,
        ]
        .concat())
    }

    pub(super) fn voxels(&self) -> usize {
        self.batch * self.output.iter().product::<usize>()
    }

    pub(super) fn taps(&self) -> usize {
        self.taps.iter().product()
    }

    /// `sources`, `weights` and `bias` into the result.
    pub(super) fn launch(
        &self,
        program: &mut Program,
        sources: [Place; 2],
        weights: Place,
        bias: Place,
    ) -> Result<(), Conv3dError> {
        let fits = self.channels.iter().all(|channels| channels.is_multiple_of(16));
        let places = [sources[0], sources[1], weights, bias, Place::Output];
        let (name, grid) = if program.element == Element::Bf16 && fits {
            let columns = columns(self.outputs);
            let grid = [self.voxels().div_ceil(128), self.outputs.div_ceil(columns), 1];
            (format!("gather_mma{columns}_bf16"), grid)
        } else {
            let suffix = if program.element == Element::F32 {
                "f32"
            } else {
                "bf16"
            };
            let grid = [self.voxels().div_ceil(64), self.outputs.div_ceil(32), 1];
            (format!("gather_{suffix}"), grid)
        };
        program.launch_typed(name, grid, 128, &places, &self.sizes()?)
    }

    /// Sums of what `gathered` and `anchored` have in common, in parts; gives where, and how many parts.
    pub(super) fn correlate(
        &self,
        program: &mut Program,
        gathered: Place,
        anchored: Place,
    ) -> Result<(Place, usize), Conv3dError> {
        let channels = self.channels[0];
        let rows = self.taps() * channels;
        let bytes = rows * self.outputs * size_of::<f32>();
        let on_tensor_cores =
            program.element == Element::Bf16 && channels.is_multiple_of(16) && self.outputs.is_multiple_of(8);
        let (kernel, threads, [x, y]) = if on_tensor_cores {
            let columns = columns(self.outputs);
            let blocks = [rows.div_ceil(128), self.outputs.div_ceil(columns)];
            (format!("correlate_mma{columns}_bf16"), 128, blocks)
        } else {
            let suffix = if program.element == Element::F32 {
                "f32"
            } else {
                "bf16"
            };
            let blocks = [rows.div_ceil(32), self.outputs.div_ceil(32)];
            (format!("correlate_{suffix}"), 64, blocks)
        };
        let (part, count) = parts(self.voxels(), x * y, bytes);
        let sums = program.scratch(bytes * count);
        let sizes = [self.sizes()?, whole(&[part])?].concat();
        program.launch_typed(
            kernel,
            [x, y, count],
            threads,
            &[gathered, anchored, sums],
            &sizes,
        )?;
        Ok((sums, count))
    }
}

/// Columns of a block on tensor cores: those of 16, 32, 48 and 64 that leave the fewest idle, of equal ones the most.
fn columns(outputs: usize) -> usize {
    let mut best = 64;
    for columns in [48, 32, 16] {
        if outputs.next_multiple_of(columns) < outputs.next_multiple_of(best) {
            best = columns;
        }
    }
    best
}

/// The struct `Weights` of `weights.cuh`.
pub(super) struct Weights {
    pub(super) outputs: usize,
    pub(super) total: usize,
    pub(super) first: usize,
    pub(super) channels: usize,
    pub(super) taps: [usize; 3],
    pub(super) offset: usize,
    pub(super) parts: usize,
}

impl Weights {
    pub(super) fn values(&self) -> usize {
        self.outputs * self.channels * self.taps.iter().product::<usize>()
    }

    pub(super) fn launch(
        &self,
        program: &mut Program,
        kernel: &str,
        values: usize,
        places: [Place; 2],
    ) -> Result<(), Conv3dError> {
        let [kd, kh, kw] = self.taps;
        let sizes = [
            self.outputs,
            self.total,
            self.first,
            self.channels,
            kd,
            kh,
            kw,
            self.offset,
            self.parts,
        ];
        program.launch_over(kernel, values, &places, &sizes)
    }
}

/// Sums of the gradient's channels, behind the gradient of the weights.
pub(super) fn bias_gradient(
    program: &mut Program,
    gradient: Place,
    voxels: usize,
    channels: usize,
    offset: usize,
) -> Result<(), Conv3dError> {
    const PART: usize = 4096;
    let count = voxels.div_ceil(PART);
    let sums = program.scratch(count * channels * size_of::<f32>());
    let sizes = [voxels, channels, PART, count, offset];
    let grid = [count, channels.div_ceil(32), 1];
    program.launch("channel_sums", grid, 256, &[gradient, sums], &sizes)?;
    program.launch_over("add_channel_sums", channels, &[sums, Place::Output], &sizes)
}
