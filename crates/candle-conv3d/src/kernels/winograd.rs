//! The Winograd convolution F(2, 3) along z × F(4, 3) along x (Lavin and Gray 2016, arXiv:1509.09308).
//!
//! A tile is two planes × four voxels of outputs, which 3 × 3 taps reach from four planes × six voxels of inputs. In
//! the transformed domain it has 4 × 6 components; there a product takes the place of three taps along z and three
//! along x, so a tile costs 24 products where the direct way takes 72.

/// Outputs of a tile (planes, voxels along x).
pub(crate) const TILE: [usize; 2] = [2, 4];
/// Inputs that a tile reads (planes, voxels along x).
pub(crate) const INPUTS: [usize; 2] = [4, 6];
/// Components of a transformed tile.
pub(crate) const COMPONENTS: usize = INPUTS[0] * INPUTS[1];

/// Most channels of a volume that is transformed.
pub(crate) const MAX_CHANNELS: usize = 1024;

/// A row of neighbouring tiles along x: where it lies in a channels-last volume of `P` planes, and where in a buffer
/// `[component][…][tile][channel]`.
#[derive(Debug, Clone, Copy)]
pub struct TileRow<const P: usize> {
    /// Offsets of the row's first voxel in each plane; `None` where the plane lies outside the volume.
    pub rows: [Option<usize>; P],
    /// Voxel at which the first tile begins; below 0 in the padding before the row.
    pub first: isize,
    /// Voxels of the row; what lies beyond is zeros.
    pub width: usize,
    pub channels: usize,
    pub tiles: usize,
    /// Offset of the first tile's first component.
    pub transformed: usize,
    /// From one component to the next.
    pub component: usize,
}

/// What ends an output: its bias, and the `ReLU`.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a, T> {
    /// One value a channel.
    pub bias: Option<&'a [T]>,
    pub relu: bool,
}

/// The transforms between volumes and components.
#[derive(Clone, Copy)]
pub struct Transforms<T> {
    /// Inputs to components: `(components, volume, call)`.
    pub inputs: fn(&mut [T], &[T], &TileRow<{ INPUTS[0] }>),
    /// Gradients of outputs to gradients of components: `(components, volume, call)`.
    pub gradients: fn(&mut [T], &[T], &TileRow<{ TILE[0] }>),
    /// Components to outputs of two planes: `(planes, components, finish, call)`.
    pub outputs: ToOutputs<T>,
}

/// Components to outputs.
pub(crate) type ToOutputs<T> = fn([&mut [T]; 2], &[T], Finish<'_, T>, &TileRow<{ TILE[0] }>);
