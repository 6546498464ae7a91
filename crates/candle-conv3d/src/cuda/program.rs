//! What is launched and called, and the memory between.

#[cfg(any(test, feature = "cudnn"))]
use super::cudnn::Call;
use crate::error::Conv3dError;

/// Element types that the kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    F32,
    Bf16,
}

impl Element {
    /// What the names of its kernels end in.
    fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Where a kernel's pointer points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: there is no bias, say.
    Nowhere,
    /// An input from that value on.
    Input(usize, usize),
    /// Memory between launches.
    Scratch(usize),
    /// The result.
    Output,
}

/// One run of a kernel of `kernels.inc`.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub kernel: String,
    /// Blocks on each axis.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Its pointers, in order.
    pub places: Vec<Place>,
    /// Those of the `Table` that follows them, where the kernel takes one.
    pub table: Vec<Place>,
    /// The members of the struct of sizes that comes last.
    pub sizes: Vec<i32>,
}

/// What is done in turn.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Launch(Launch),
    #[cfg(any(test, feature = "cudnn"))]
    Call(Call),
}

/// What an op does.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub element: Element,
    /// Values that each input has at least.
    pub inputs: Vec<usize>,
    /// Inputs that it changes where they are, in ascending order; the others are only read.
    pub changed: Vec<usize>,
    /// Bytes of each piece of memory between launches. Nothing is in them at first.
    pub scratch: Vec<usize>,
    /// Values of the result, none for a program that only changes inputs. All are written.
    pub output: usize,
    pub steps: Vec<Step>,
}

/// Threads of a block where each walks over values.
const THREADS: usize = 256;
/// Blocks that more values do not need more of.
const BLOCKS: usize = 1 << 20;

impl Program {
    pub(super) fn new(element: Element, inputs: &[usize], output: usize) -> Self {
        Self {
            element,
            inputs: inputs.to_vec(),
            changed: Vec::new(),
            scratch: Vec::new(),
            output,
            steps: Vec::new(),
        }
    }

    pub(super) fn scratch(&mut self, bytes: usize) -> Place {
        // Nothing cannot be allocated.
        self.scratch.push(bytes.max(1));
        Place::Scratch(self.scratch.len() - 1)
    }

    /// Adds a kernel of the program's element type. Nothing is launched without blocks: an empty volume has no result.
    pub(super) fn launch(
        &mut self,
        kernel: &str,
        grid: [usize; 3],
        threads: u32,
        places: &[Place],
        sizes: &[usize],
    ) -> Result<(), Conv3dError> {
        let name = format!("{kernel}_{}", self.element.suffix());
        self.launch_typed(name, grid, threads, places, &whole(sizes)?)
    }

    pub(super) fn launch_typed(
        &mut self,
        kernel: String,
        grid: [usize; 3],
        threads: u32,
        places: &[Place],
        sizes: &[i32],
    ) -> Result<(), Conv3dError> {
        self.push(
            grid,
            Launch {
                kernel,
                grid: [0; 3],
                threads,
                places: places.to_vec(),
                table: Vec::new(),
                sizes: sizes.to_vec(),
            },
        )
    }

    /// Adds a kernel whose blocks along y are for a tensor each, whose pointers stand behind each other in the table.
    pub(super) fn launch_tensors(
        &mut self,
        kernel: &str,
        grid: [usize; 2],
        places: &[Place],
        table: Vec<Place>,
        sizes: Vec<i32>,
    ) -> Result<(), Conv3dError> {
        let launch = Launch {
            kernel: kernel.to_owned(),
            grid: [0; 3],
            threads: THREADS as u32,
            places: places.to_vec(),
            table,
            sizes,
        };
        self.push([grid[0], grid[1], 1], launch)
    }

    fn push(&mut self, grid: [usize; 3], launch: Launch) -> Result<(), Conv3dError> {
        // Limits of CUDA: 2³¹ blocks along x, 2¹⁶ along y and z.
        if grid[1].max(grid[2]) >= 1 << 16 || grid[0] >= 1 << 31 {
            return Err(too_large(grid[0].max(grid[1]).max(grid[2])));
        }
        if !grid.contains(&0) {
            self.steps.push(Step::Launch(Launch {
                grid: grid.map(|blocks| blocks as u32),
                ..launch
            }));
        }
        Ok(())
    }

    #[cfg(any(test, feature = "cudnn"))]
    pub(super) fn call(&mut self, call: Call) {
        self.steps.push(Step::Call(call));
    }

    /// Adds a kernel whose threads walk over that many values.
    pub(super) fn launch_over(
        &mut self,
        kernel: &str,
        values: usize,
        places: &[Place],
        sizes: &[usize],
    ) -> Result<(), Conv3dError> {
        self.launch(kernel, over(values), THREADS as u32, places, sizes)
    }
}

/// Blocks for threads that walk over that many values.
pub(super) fn over(values: usize) -> [usize; 3] {
    [values.div_ceil(THREADS).min(BLOCKS), 1, 1]
}

/// Sizes as the kernels have them.
///
/// # Errors
/// [`Conv3dError::TooLarge`] from 2³¹ on.
pub(super) fn whole(sizes: &[usize]) -> Result<Vec<i32>, Conv3dError> {
    let one = |&size: &usize| i32::try_from(size).map_err(|_| too_large(size));
    sizes.iter().map(one).collect()
}

/// A number as two words of a kernel's struct.
pub(super) fn words(number: f64) -> [i32; 2] {
    let bits = number.to_bits();
    [bits as u32, (bits >> 32) as u32].map(u32::cast_signed)
}

fn too_large(size: usize) -> Conv3dError {
    Conv3dError::TooLarge { size }
}

/// Voxels of a part, and how many parts, so that each of `blocks` blocks per part has enough to do and the parts' sums
/// take no more than some 256 MiB.
pub(super) fn parts(voxels: usize, blocks: usize, bytes_per_part: usize) -> (usize, usize) {
    /// Blocks that keep a large GPU busy.
    const ENOUGH: usize = 1024;
    let most = ((256 << 20) / bytes_per_part.max(1)).max(1);
    let wanted = (ENOUGH / blocks.max(1)).clamp(1, voxels.div_ceil(512).max(1));
    let part = voxels.div_ceil(wanted.min(most)).next_multiple_of(32).max(32);
    (part, voxels.div_ceil(part))
}
