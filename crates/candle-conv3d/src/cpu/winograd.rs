//! 3³ convolutions with a third of the products: Winograd along z and x, direct along y.
//!
//! See [`crate::kernels`] for the tiles and their components. Tiles begin at output 0 of z and x; a result's last bits
//! depend on where in its tile it lies (see [`crate::GRID`]), and on nothing else.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    correlate::{Volume, chunks, unpack},
    gather::Lattice,
    packed::{Packed, column_blocks},
};
use crate::{
    config::Activation,
    kernels::{
        COMPONENTS, ColumnBlock, Element, Finish, INPUTS, Isa, MAX_CHANNELS, Outer, RowPair, TILE, TapRow,
        Tile, TileRow, Transforms,
    },
};

/// Taps on each axis.
const TAPS: usize = 3;
/// From so many channels on the transforms cost less than the products that they save.
const LEAST_CHANNELS: usize = 8;
/// Tiles that a job transforms at once, about: each weight that it fetches serves all of them, and they should stay in L2.
const TILES_AT_ONCE: usize = 56;
/// Most tiles along x.
const TILES_ALONG_X: usize = 16;

/// The transforms, where they can be used and pay.
pub(super) fn transforms<T: Element>(
    isa: Isa,
    kernel: [usize; 3],
    channels: impl IntoIterator<Item = usize>,
) -> Option<Transforms<T>> {
    let fits = LEAST_CHANNELS..=MAX_CHANNELS;
    let pays = kernel == [TAPS; 3] && channels.into_iter().all(|channels| fits.contains(&channels));
    T::winograd(isa).filter(|_| pays)
}

/// One volume that is read, and its transformed weights.
pub(super) struct Source<'a, T> {
    pub(super) values: &'a [T],
    /// A tap row for each component and tap along y, of one tap.
    pub(super) weights: &'a Packed<T>,
}

/// `G g Gᵀ`: weights `weight([z, y, x], channel, column)` to components.
pub(super) fn transform_weights<T: Element>(
    isa: Isa,
    channels: usize,
    columns: usize,
    weight: impl Fn([usize; 3], usize, usize) -> T + Sync,
) -> Packed<T> {
    // `[tap along y][component][channel][column]`
    let per_tap = COMPONENTS * channels * columns;
    let mut components = vec![T::zero(); TAPS * per_tap];
    components
        .par_chunks_mut(per_tap.max(1))
        .enumerate()
        .for_each(|(y, components)| {
            for channel in 0..channels {
                for column in 0..columns {
                    let taps = [0, 1, 2].map(|z| [0, 1, 2].map(|x| weight([z, y, x], channel, column)));
                    for (component, value) in components_of_taps(taps).into_iter().enumerate() {
                        components[(component * channels + channel) * columns + column] = value;
                    }
                }
            }
        });
    Packed::new(
        isa,
        COMPONENTS * TAPS,
        1,
        channels,
        columns,
        |row, _, channel, column| {
            let (component, y) = (row / TAPS, row % TAPS);
            components[y * per_tap + (component * channels + channel) * columns + column]
        },
    )
}

/// `G` of F(2, 3).
fn along_z<T: Element>([a, b, c]: [T; 3]) -> [T; INPUTS[0]] {
    let half = T::one() / (T::one() + T::one());
    [a, (a + c + b) * half, (a + c - b) * half, c]
}

/// `G` of F(4, 3).
fn along_x<T: Element>([a, b, c]: [T; 3]) -> [T; INPUTS[1]] {
    let two = T::one() + T::one();
    let (four, six) = (two * two, two * (two + T::one()));
    let near = (a + c) / six;
    let far = (a / four + c) / six;
    [
        a / four,
        -near - b / six,
        b / six - near,
        far + b / (two * six),
        far - b / (two * six),
        c,
    ]
}

fn components_of_taps<T: Element>(taps: [[T; 3]; 3]) -> [T; COMPONENTS] {
    let mut components = [T::zero(); COMPONENTS];
    let columns = [0, 1, 2].map(|x| along_z([taps[0][x], taps[1][x], taps[2][x]]));
    for z in 0..INPUTS[0] {
        let row = along_x([columns[0][z], columns[1][z], columns[2][z]]);
        components[z * INPUTS[1]..][..INPUTS[1]].copy_from_slice(&row);
    }
    components
}

/// Rows `y` of two planes (or of an image's last one), from plane `z` of image `n` on.
struct Job<'a, T> {
    n: usize,
    z: usize,
    y: Range<usize>,
    planes: [&'a mut [T]; 2],
}

/// Buffers of a job.
struct Buffers<T> {
    inputs: Vec<T>,
    sums: Vec<T>,
}

impl<T> Buffers<T> {
    fn new() -> Self {
        Self {
            inputs: Vec::new(),
            sums: Vec::new(),
        }
    }
}

/// How many rows and tiles along x a job takes at once.
fn extent(height: usize, width: usize) -> [usize; 2] {
    let tiles = width.div_ceil(TILE[1]);
    let parts = tiles.div_ceil(TILES_ALONG_X).max(1);
    let tiles = tiles.div_ceil(parts).max(1);
    [(TILES_AT_ONCE / tiles).clamp(1, height.max(1)), tiles]
}

/// `output = activation(bias + weight ⋆ sources)`, for a lattice of stride 1 with 3³ taps.
pub(super) fn convolve<T: Element>(
    isa: Isa,
    transforms: Transforms<T>,
    lattice: &Lattice,
    sources: &[Source<'_, T>],
    finish: Finish<'_, T>,
    channels: usize,
    output: &mut [T],
) {
    let [depth, height, width] = lattice.output;
    let [rows, tiles] = extent(height, width);
    let row_len = width * channels;
    let mut jobs = Vec::new();
    for (n, image) in output.chunks_mut((depth * height * row_len).max(1)).enumerate() {
        let pairs = image.chunks_mut((TILE[0] * height * row_len).max(1));
        for (pair, planes) in pairs.enumerate() {
            let (first, second) = planes.split_at_mut(height * row_len);
            let mut second = second.chunks_mut((rows * row_len).max(1));
            for (index, first) in first.chunks_mut((rows * row_len).max(1)).enumerate() {
                let y = index * rows;
                jobs.push(Job {
                    n,
                    z: pair * TILE[0],
                    y: y..(y + rows).min(height),
                    planes: [first, second.next().unwrap_or_default()],
                });
            }
        }
    }
    jobs.into_par_iter()
        .for_each_init(Buffers::new, |buffers, mut job| {
            let mut first = 0;
            while first * TILE[1] < width {
                let count = tiles.min(width.div_ceil(TILE[1]) - first);
                let block = Block {
                    isa,
                    transforms,
                    lattice,
                    channels,
                    tiles: first..first + count,
                };
                block.run(sources, finish, &mut job, buffers);
                first += count;
            }
        });
}

/// The input rows that some rows and tiles of outputs read.
struct InputRows<'a> {
    lattice: &'a Lattice,
    tiles: Range<usize>,
    n: usize,
    /// The first of two planes of outputs.
    z: usize,
    /// Rows of outputs.
    y: Range<usize>,
}

impl InputRows<'_> {
    /// How many they are.
    fn rows(&self) -> usize {
        self.y.len() + TAPS - 1
    }

    /// Their components, `[component][input row][tile][channel]`.
    fn transform<T: Element>(&self, transforms: Transforms<T>, volume: Volume<'_, T>, inputs: &mut Vec<T>) {
        let (tiles, channels) = (self.tiles.len(), volume.channels);
        let component = self.rows() * tiles * channels;
        reserve(inputs, COMPONENTS * component);
        let [depth, height, width] = self.lattice.input;
        let within =
            |index: isize, length: usize| usize::try_from(index).ok().filter(|index| *index < length);
        let first = self.lattice.first;
        for row in 0..self.rows() {
            let y = within((self.y.start + row) as isize + first[1], height);
            let planes = [0, 1, 2, 3].map(|plane| {
                let z = within((self.z + plane) as isize + first[0], depth)?;
                Some(self.lattice.input_row(self.n, z, y?) * channels)
            });
            let call = TileRow {
                rows: planes,
                first: (self.tiles.start * TILE[1]) as isize + first[2],
                width,
                channels,
                tiles,
                transformed: row * tiles * channels,
                component,
            };
            (transforms.inputs)(inputs, volume.values, &call);
        }
    }
}

/// Tiles along x of a job's rows.
struct Block<'a, T> {
    isa: Isa,
    transforms: Transforms<T>,
    lattice: &'a Lattice,
    /// Output channels.
    channels: usize,
    tiles: Range<usize>,
}

impl<T: Element> Block<'_, T> {
    fn run(
        &self,
        sources: &[Source<'_, T>],
        finish: Finish<'_, T>,
        job: &mut Job<'_, T>,
        buffers: &mut Buffers<T>,
    ) {
        let tiles = self.tiles.len();
        let positions = job.y.len() * tiles;
        let component = positions * self.channels;
        reserve(&mut buffers.sums, COMPONENTS * component);
        for (index, source) in sources.iter().enumerate() {
            let inputs = InputRows {
                lattice: self.lattice,
                tiles: self.tiles.clone(),
                n: job.n,
                z: job.z,
                y: job.y.clone(),
            };
            let volume = Volume {
                values: source.values,
                channels: source.weights.channels,
            };
            inputs.transform(self.transforms, volume, &mut buffers.inputs);
            self.multiply(
                source,
                positions,
                inputs.rows(),
                index == 0,
                &buffers.inputs,
                &mut buffers.sums,
            );
        }
        for line in 0..job.y.len() {
            let row = line * self.lattice.output[2] * self.channels;
            let [first, second] = &mut job.planes;
            let call = TileRow {
                rows: [Some(row), (!second.is_empty()).then_some(row)],
                first: (self.tiles.start * TILE[1]) as isize,
                width: self.lattice.output[2],
                channels: self.channels,
                tiles,
                transformed: line * tiles * self.channels,
                component,
            };
            (self.transforms.outputs)([first, second], &buffers.sums, finish, &call);
        }
    }

    /// Adds the products of one source: for each component a product of tiles with weights, over channels and taps
    /// along y.
    fn multiply(
        &self,
        source: &Source<'_, T>,
        positions: usize,
        rows: usize,
        fresh: bool,
        inputs: &[T],
        sums: &mut [T],
    ) {
        let (tiles, packed) = (self.tiles.len(), source.weights);
        let channels = packed.channels;
        for component in 0..COMPONENTS {
            for block in &packed.blocks {
                let row_weights = channels * packed.width(block);
                let taps = [0, 1, 2].map(|y| TapRow {
                    input: (component * rows + y) * tiles * channels,
                    weight: block.offset + (component * TAPS + y) * row_weights,
                });
                // As many taps at once as L1 has room for.
                let at_once = (T::tile_depth(self.isa, block.vectors) / channels.max(1)).clamp(1, TAPS);
                let parts = positions.div_ceil(T::max_positions(self.isa, block.vectors));
                for (index, taps) in taps.chunks(at_once).enumerate() {
                    for part in 0..parts {
                        let span = positions * part / parts..positions * (part + 1) / parts;
                        let call = Tile {
                            lines: 1,
                            positions: span.len(),
                            out: (component * positions + span.start) * self.channels + block.first,
                            out_line: 0,
                            out_step: self.channels,
                            columns: block.columns,
                            vectors: block.vectors,
                            input: span.start * channels,
                            input_line: 0,
                            input_step: channels,
                            depth: channels,
                            weight: 0,
                            rows: taps,
                            fresh: fresh && index == 0,
                        };
                        T::accumulate(self.isa, sums, inputs, packed.values(), &call);
                    }
                }
            }
        }
    }
}

/// Weight gradient `[tap row][tap][gathered channels][anchored channels]`, as [`correlate`](super::correlate) gives it.
pub(super) fn correlate<T: Element>(
    isa: Isa,
    transforms: Transforms<T>,
    lattice: &Lattice,
    gathered: Volume<'_, T>,
    anchored: Volume<'_, T>,
) -> Vec<T> {
    let products = Products {
        isa,
        transforms,
        lattice,
        gathered,
        anchored,
        blocks: column_blocks::<T>(isa, anchored.channels, COMPONENTS * TAPS * gathered.channels),
    };
    let pairs_of_image = lattice.output[0].div_ceil(TILE[0]);
    let pairs = lattice.batch * pairs_of_image;
    let positions = lattice.batch * lattice.output.iter().product::<usize>();
    let chunks = chunks(positions, pairs);
    let partial: Vec<Vec<T>> = (0..chunks)
        .into_par_iter()
        .map_init(Buffers::new, |buffers, chunk| {
            let mut sums = vec![T::zero(); products.length()];
            for pair in pairs * chunk / chunks..pairs * (chunk + 1) / chunks {
                let (n, z) = (pair / pairs_of_image, pair % pairs_of_image * TILE[0]);
                products.add_planes(n, z, buffers, &mut sums);
            }
            sums
        })
        .collect();
    let lanes = T::lanes(isa);
    let depth = COMPONENTS * TAPS * gathered.channels;
    taps_of_components(
        &unpack(&partial, &products.blocks, lanes, depth, anchored.channels),
        gathered.channels * anchored.channels,
    )
}

/// A weight gradient in the making.
struct Products<'a, T> {
    isa: Isa,
    transforms: Transforms<T>,
    lattice: &'a Lattice,
    gathered: Volume<'a, T>,
    anchored: Volume<'a, T>,
    blocks: Vec<ColumnBlock>,
}

impl<T: Element> Products<'_, T> {
    /// Values of a partial sum `[block][component][tap along y][gathered channel][column]`.
    fn length(&self) -> usize {
        let vectors: usize = self.blocks.iter().map(|block| block.vectors).sum();
        vectors * T::lanes(self.isa) * COMPONENTS * TAPS * self.gathered.channels
    }

    /// Adds the products of two planes of one image.
    fn add_planes(&self, n: usize, z: usize, buffers: &mut Buffers<T>, sums: &mut [T]) {
        let [_, height, width] = self.lattice.output;
        let [most_rows, most_tiles] = extent(height, width);
        let all_tiles = width.div_ceil(TILE[1]);
        for start in (0..height).step_by(most_rows) {
            let y = start..(start + most_rows).min(height);
            for first in (0..all_tiles).step_by(most_tiles) {
                let tiles = first..(first + most_tiles).min(all_tiles);
                let inputs = InputRows {
                    lattice: self.lattice,
                    tiles: tiles.clone(),
                    n,
                    z,
                    y: y.clone(),
                };
                inputs.transform(self.transforms, self.gathered, &mut buffers.inputs);
                self.transform_gradients(&inputs, &mut buffers.sums);
                self.multiply(&inputs, buffers, sums);
            }
        }
    }

    /// Components `[component][row][tile][channel]` of the gradients.
    fn transform_gradients(&self, block: &InputRows<'_>, gradients: &mut Vec<T>) {
        let [depth, height, width] = self.lattice.output;
        let (tiles, channels) = (block.tiles.len(), self.anchored.channels);
        let component = block.y.len() * tiles * channels;
        reserve(gradients, COMPONENTS * component);
        for (line, y) in block.y.clone().enumerate() {
            let rows = [block.z, block.z + 1].map(|z| {
                let row = ((block.n * depth + z) * height + y) * width * channels;
                (z < depth).then_some(row)
            });
            let call = TileRow {
                rows,
                first: (block.tiles.start * TILE[1]) as isize,
                width,
                channels,
                tiles,
                transformed: line * tiles * channels,
                component,
            };
            (self.transforms.gradients)(gradients, self.anchored.values, &call);
        }
    }

    fn multiply(&self, inputs: &InputRows<'_>, buffers: &Buffers<T>, sums: &mut [T]) {
        let (tiles, channels) = (inputs.tiles.len(), self.gathered.channels);
        let (rows, positions) = (inputs.rows(), inputs.y.len() * tiles);
        for component in 0..COMPONENTS {
            for block in &self.blocks {
                let width = block.vectors * T::lanes(self.isa);
                let most = T::max_depth(self.isa, block.vectors).min(channels);
                let parts = channels.div_ceil(most);
                for y in 0..TAPS {
                    let row = [RowPair {
                        gathered: (component * rows + y) * tiles * channels,
                        anchored: component * positions * self.anchored.channels,
                    }];
                    for part in 0..parts {
                        let span = channels * part / parts..channels * (part + 1) / parts;
                        let call = Outer {
                            positions,
                            sums: block.offset + ((component * TAPS + y) * channels + span.start) * width,
                            depth: span.len(),
                            columns: block.columns,
                            vectors: block.vectors,
                            gathered: span.start,
                            gathered_step: channels,
                            anchored: block.first,
                            anchored_step: self.anchored.channels,
                            rows: &row,
                        };
                        T::outer(self.isa, sums, &buffers.inputs, &buffers.sums, &call);
                    }
                }
            }
        }
    }
}

/// `Gᵀ u G`: gradients `[component][tap along y][…]` of components, to those `[z][y][x][…]` of taps.
fn taps_of_components<T: Element>(components: &[T], length: usize) -> Vec<T> {
    let mut taps = vec![T::zero(); TAPS * TAPS * TAPS * length];
    for y in 0..TAPS {
        for index in 0..length {
            let mut rows = [[T::zero(); TAPS]; INPUTS[0]];
            for (z, row) in rows.iter_mut().enumerate() {
                let mut along_x = [T::zero(); INPUTS[1]];
                for (x, value) in along_x.iter_mut().enumerate() {
                    *value = components[((z * INPUTS[1] + x) * TAPS + y) * length + index];
                }
                *row = back_along_x(along_x);
            }
            for x in 0..TAPS {
                let column = back_along_z([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
                for (z, value) in column.into_iter().enumerate() {
                    taps[((z * TAPS + y) * TAPS + x) * length + index] = value;
                }
            }
        }
    }
    taps
}

/// `Gᵀ` of F(2, 3).
fn back_along_z<T: Element>([a, b, c, d]: [T; INPUTS[0]]) -> [T; TAPS] {
    let two = T::one() + T::one();
    let half_sum = (b + c) / two;
    [a + half_sum, (b - c) / two, half_sum + d]
}

/// `Gᵀ` of F(4, 3).
fn back_along_x<T: Element>([a, b, c, d, e, f]: [T; INPUTS[1]]) -> [T; TAPS] {
    let two = T::one() + T::one();
    let (four, six) = (two * two, two * (two + T::one()));
    let (near, far) = ((b + c) / six, (d + e) / six);
    [
        (a + far) / four - near,
        (c - b) / six + (d - e) / (two * six),
        far - near + f,
    ]
}

/// Makes a buffer at least that long; what it holds doesn't matter.
fn reserve<T: Element>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::zero());
    }
}

/// What ends an output.
pub(super) fn finish<T>(bias: Option<&[T]>, activation: Activation) -> Finish<'_, T> {
    Finish {
        bias,
        relu: activation == Activation::Relu,
    }
}
