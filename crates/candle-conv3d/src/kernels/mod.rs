//! The inner loops that everything else is made of, for each instruction set.
//!
//! - [`Element::accumulate`]: a few output positions × a block of output channels, added up over taps and input channels.
//! - [`Element::outer`]: a few input channels × a block of output channels, added up over positions (weight gradients).
//! - [`Transforms`]: volumes to the components of the Winograd convolution and back, where there are vectors.
//!
//! The first two work on channels-last slices and on weights packed by column block (see [`ColumnBlock`]).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exponential;
mod isa;
pub(crate) mod products;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sizes;
#[cfg(target_arch = "x86_64")]
mod transform;
mod value;
#[cfg(target_arch = "x86_64")]
mod vector;
mod winograd;

pub use isa::Isa;
pub(crate) use isa::PlainLoop;
pub use value::Value;
pub(crate) use winograd::{COMPONENTS, Finish, INPUTS, MAX_CHANNELS, TILE, TileRow, Transforms};

/// Output channels that one kernel call handles: `vectors` vectors, of which the first `columns` lanes exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnBlock {
    /// First output channel.
    pub first: usize,
    /// Output channels.
    pub columns: usize,
    /// Vectors that hold them.
    pub vectors: usize,
    /// Where the block begins in the packed weights.
    pub offset: usize,
}

/// One row of taps: the input row that it reads and its place among the packed weights.
#[derive(Debug, Clone, Copy)]
pub struct TapRow {
    /// Offset of the input row's first voxel.
    pub input: usize,
    /// Offset of the row of taps in its column block.
    pub weight: usize,
}

/// A call of [`Element::accumulate`]: for each `line`, position `x`, tap row, depth `k` and column `o`
/// `out[out + line·out_line + x·out_step + o] += input[row.input + input + line·input_line + x·input_step + k] · w`
/// with `w = weights[row.weight + weight + k·width + o]`, `width` = vectors × lanes.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    pub lines: usize,
    pub positions: usize,
    pub out: usize,
    pub out_line: usize,
    pub out_step: usize,
    pub columns: usize,
    pub vectors: usize,
    pub input: usize,
    pub input_line: usize,
    pub input_step: usize,
    /// Taps × channels: they are contiguous in the input and in the packed weights.
    pub depth: usize,
    pub weight: usize,
    pub rows: &'a [TapRow],
    /// Whether the sums begin at zero, not at what `out` holds.
    pub fresh: bool,
}

/// One row of positions of a weight gradient.
#[derive(Debug, Clone, Copy)]
pub struct RowPair {
    /// Offset of the gathered row.
    pub gathered: usize,
    /// Offset of the anchored row.
    pub anchored: usize,
}

/// A call of [`Element::outer`]: for each row pair, position `x`, `j` and column `o`
/// `sums[sums + j·width + o] += gathered[pair.gathered + gathered + x·gathered_step + j] · anchored[pair.anchored + anchored + x·anchored_step + o]`.
#[derive(Debug, Clone, Copy)]
pub struct Outer<'a> {
    pub positions: usize,
    pub sums: usize,
    pub depth: usize,
    pub columns: usize,
    pub vectors: usize,
    pub gathered: usize,
    pub gathered_step: usize,
    pub anchored: usize,
    pub anchored_step: usize,
    pub rows: &'a [RowPair],
}

/// An element type with kernels: `f32` (vectorised) and `f64` (portable, for gradient checks).
pub trait Element:
    Value + num_traits::Float + num_traits::FromPrimitive + std::iter::Sum + sealed::Kernels
{
}

impl Element for f32 {}
impl Element for f64 {}

#[allow(
    unsafe_code,
    reason = "calls of functions for an instruction set that the `Isa` stands for"
)]
mod sealed {
    use super::{Isa, Outer, Tile, Transforms, exponential::Exponentials, isa::InstructionSet, scalar};
    #[cfg(target_arch = "x86_64")]
    use super::{avx2, avx512};

    /// The kernels, out of reach of callers: they can't be implemented for other types.
    pub trait Kernels: Copy + Sized {
        /// Values in a vector.
        fn lanes(isa: Isa) -> usize;
        /// Most vectors in a column block.
        fn max_vectors(isa: Isa) -> usize;
        /// Most positions of a tile with this many vectors.
        fn max_positions(isa: Isa, vectors: usize) -> usize;
        /// Greatest depth of a tile with this many vectors, all tap rows together: so much weight stays in L1.
        fn tile_depth(isa: Isa, vectors: usize) -> usize {
            // Half of a 32 KiB cache.
            (16 << 10) / (vectors * Self::lanes(isa) * size_of::<Self>())
        }
        /// Greatest depth of an outer product with this many vectors.
        fn max_depth(isa: Isa, vectors: usize) -> usize;
        /// See [`Tile`].
        fn accumulate(isa: Isa, out: &mut [Self], input: &[Self], weights: &[Self], tile: &Tile<'_>);
        /// See [`Outer`].
        fn outer(isa: Isa, sums: &mut [Self], gathered: &[Self], anchored: &[Self], outer: &Outer<'_>);
        /// Where the instruction set has a Winograd convolution: its transforms.
        fn winograd(isa: Isa) -> Option<Transforms<Self>>;
        /// `max(x, 0)` in place.
        fn relu(isa: Isa, values: &mut [Self]);
        /// e to the power of each value, none above 0, in place.
        fn exponentials(isa: Isa, values: &mut [Self]);
    }

    impl Kernels for f64 {
        fn lanes(_: Isa) -> usize {
            scalar::LANES
        }

        fn max_vectors(_: Isa) -> usize {
            1
        }

        fn max_positions(_: Isa, _: usize) -> usize {
            usize::MAX
        }

        fn max_depth(_: Isa, _: usize) -> usize {
            usize::MAX
        }

        fn accumulate(_: Isa, out: &mut [Self], input: &[Self], weights: &[Self], tile: &Tile<'_>) {
            scalar::accumulate(out, input, weights, tile);
        }

        fn outer(_: Isa, sums: &mut [Self], gathered: &[Self], anchored: &[Self], outer: &Outer<'_>) {
            scalar::outer(sums, gathered, anchored, outer);
        }

        fn winograd(_: Isa) -> Option<Transforms<Self>> {
            None
        }

        fn relu(_: Isa, values: &mut [Self]) {
            scalar::relu(values);
        }

        fn exponentials(_: Isa, values: &mut [Self]) {
            for value in values {
                *value = value.exp();
            }
        }
    }

    impl Kernels for f32 {
        fn lanes(isa: Isa) -> usize {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512::LANES,
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2::LANES,
                _ => scalar::LANES,
            }
        }

        fn max_vectors(isa: Isa) -> usize {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512::MAX_VECTORS,
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2::MAX_VECTORS,
                _ => 1,
            }
        }

        fn max_positions(isa: Isa, vectors: usize) -> usize {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512::MAX_POSITIONS[vectors],
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2::MAX_POSITIONS[vectors],
                _ => usize::MAX,
            }
        }

        fn max_depth(isa: Isa, vectors: usize) -> usize {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512::MAX_DEPTH[vectors],
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2::MAX_DEPTH[vectors],
                _ => usize::MAX,
            }
        }

        fn accumulate(isa: Isa, out: &mut [Self], input: &[Self], weights: &[Self], tile: &Tile<'_>) {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` is only made where the machine has it.
                InstructionSet::Avx512 => unsafe { avx512::accumulate(out, input, weights, tile) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                InstructionSet::Avx2 => unsafe { avx2::accumulate(out, input, weights, tile) },
                _ => scalar::accumulate(out, input, weights, tile),
            }
        }

        fn outer(isa: Isa, sums: &mut [Self], gathered: &[Self], anchored: &[Self], outer: &Outer<'_>) {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                InstructionSet::Avx512 => unsafe { avx512::outer(sums, gathered, anchored, outer) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                InstructionSet::Avx2 => unsafe { avx2::outer(sums, gathered, anchored, outer) },
                _ => scalar::outer(sums, gathered, anchored, outer),
            }
        }

        fn winograd(isa: Isa) -> Option<Transforms<Self>> {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => Some(Transforms {
                    // SAFETY: an `Isa` is only made where the machine has it.
                    inputs: |to, from, call| unsafe { avx512::transform_inputs(to, from, call) },
                    // SAFETY: as above.
                    gradients: |to, from, call| unsafe { avx512::transform_gradients(to, from, call) },
                    // SAFETY: as above.
                    outputs: |to, from, finish, call| unsafe {
                        avx512::transform_outputs(to, from, finish, call);
                    },
                }),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => Some(Transforms {
                    // SAFETY: as above.
                    inputs: |to, from, call| unsafe { avx2::transform_inputs(to, from, call) },
                    // SAFETY: as above.
                    gradients: |to, from, call| unsafe { avx2::transform_gradients(to, from, call) },
                    // SAFETY: as above.
                    outputs: |to, from, finish, call| unsafe {
                        avx2::transform_outputs(to, from, finish, call);
                    },
                }),
                _ => None,
            }
        }

        fn relu(isa: Isa, values: &mut [Self]) {
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                InstructionSet::Avx512 => unsafe { avx512::relu(values) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                InstructionSet::Avx2 => unsafe { avx2::relu(values) },
                _ => scalar::relu(values),
            }
        }

        fn exponentials(isa: Isa, values: &mut [Self]) {
            isa.run(Exponentials(values));
        }
    }
}
