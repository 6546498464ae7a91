use std::path::Path;

use deepfinder_core::Region;
use ndarray::{Array3, s};

use super::codec::{Codec, decode};
use super::shard::{Indices, Shards};
use super::store::{Part, Store};
use crate::volume::element::{Decoded, NoLabel};
use crate::volume::raw::values;
use crate::volume::{ElementType, Source};
use crate::{IoError, Result};
/// Chunks beyond this are a damaged header: blosc itself holds no more.
const MAX_CHUNK_BYTES: usize = 1 << 31;

/// Voxels beyond this many bytes have to be there to some part: deflate and its like pack no more than 1100 to 1.
const MAX_UNPROVEN_BYTES: u128 = 4 << 30;
const MAX_PACKING: u128 = 1100;

/// A Zarr array of three axes, or of more of which the first have one entry.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) store: Store,
    /// `(z, y, x)`.
    pub(super) shape: [usize; 3],
    pub(super) element: ElementType,
    pub(super) is_big_endian: bool,
    /// What is unpacked at a time, `(z, y, x)`.
    pub(super) chunk: [usize; 3],
    /// Axes before z.
    pub(super) leading: usize,
    pub(super) codecs: Vec<Codec>,
    /// How chunks share files; a chunk has its own where there are none.
    pub(super) shards: Option<Shards>,
    pub(super) fill: f32,
    pub(super) key: Key,
}

/// How the file of a chunk is called.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) prefix: &'static str,
    pub(super) separator: char,
}

impl Array {
    pub(super) fn checked(self) -> std::result::Result<Self, String> {
        if !matches!(self.key.separator, '.' | '/') {
            return Err(format!("the separator of chunks is `{}`", self.key.separator));
        }
        let bytes = self
            .chunk
            .iter()
            .try_fold(self.element.bytes(), |product, &n| product.checked_mul(n));
        if bytes.is_none_or(|bytes| bytes > MAX_CHUNK_BYTES) {
            return Err(format!(
                "chunks of {:?} voxels (z, y, x) are too large",
                self.chunk
            ));
        }
        if self
            .shape
            .iter()
            .chain(&self.chunk)
            .any(|&n| n == 0 || n > i32::MAX as usize)
        {
            return Err(format!(
                "{:?} voxels (z, y, x) in chunks of {:?} cannot be",
                self.shape, self.chunk
            ));
        }
        let needed = self
            .shape
            .iter()
            .fold(self.element.bytes() as u128, |product, &n| product * n as u128);
        let is_too_much = |bytes: u64| needed > u128::from(bytes) * MAX_PACKING;
        if needed > MAX_UNPROVEN_BYTES && self.store.bytes().is_some_and(is_too_much) {
            return Err(format!(
                "{:?} voxels (z, y, x) are more than its chunks can hold: is the folder complete?",
                self.shape
            ));
        }
        Ok(self)
    }

    /// The name of a file of chunks, by its place in the grid.
    fn name(&self, at: [usize; 3]) -> String {
        let zeros = vec![0; self.leading];
        let mut parts: Vec<String> = zeros.iter().chain(&at).map(ToString::to_string).collect();
        if !self.key.prefix.is_empty() {
            parts.insert(0, self.key.prefix.to_owned());
        }
        parts.join(&self.key.separator.to_string())
    }

    /// The voxels of a chunk, all of it also where it reaches over the edge; none where it was never written.
    fn chunk(&self, at: [usize; 3], indices: &mut Indices) -> Result<Option<Array3<f32>>> {
        let (name, part) = match &self.shards {
            None => (self.name(at), Some(Part::Whole)),
            Some(shards) => {
                let name = self.name(shards.of(at));
                let part = shards.place(&self.store, &name, at, indices)?;
                (name, part)
            }
        };
        let bytes = part.map(|part| self.store.read(&name, part)).transpose()?;
        let Some(bytes) = bytes.flatten() else {
            return Ok(None);
        };
        let path = self.store.root().join(&name);
        let expected = self.chunk.iter().product::<usize>() * self.element.bytes();
        let bytes = decode(&self.codecs, bytes, expected)
            .map_err(|what| IoError::malformed(&path, "the chunk", what))?;
        let values = values(&bytes, self.element, self.is_big_endian);
        let chunk =
            Array3::from_shape_vec(self.chunk, values).map_err(IoError::format(&path, "Zarr chunk"))?;
        Ok(Some(chunk))
    }
}

impl Source for Array {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>> {
        let mut window = Array3::default(region.shape);
        if region.voxels() == 0 {
            return Ok(window);
        }
        let (start, end) = (region.start, region.end());
        let first: [usize; 3] = std::array::from_fn(|axis| start[axis] / self.chunk[axis]);
        let last: [usize; 3] = std::array::from_fn(|axis| (end[axis] - 1) / self.chunk[axis]);
        let mut indices = Indices::default();
        for z in first[0]..=last[0] {
            for y in first[1]..=last[1] {
                for x in first[2]..=last[2] {
                    let at = [z, y, x];
                    let chunk = self.chunk(at, &mut indices)?;
                    // The part of the window in this chunk, in voxels of the volume.
                    let low: [usize; 3] =
                        std::array::from_fn(|axis| start[axis].max(at[axis] * self.chunk[axis]));
                    let high: [usize; 3] =
                        std::array::from_fn(|axis| end[axis].min((at[axis] + 1) * self.chunk[axis]));
                    let inside = |axis: usize| {
                        low[axis] - at[axis] * self.chunk[axis]..high[axis] - at[axis] * self.chunk[axis]
                    };
                    let part = if let Some(chunk) = &chunk {
                        chunk.slice(s![inside(0), inside(1), inside(2)]).to_owned()
                    } else {
                        let shape: [usize; 3] = std::array::from_fn(|axis| high[axis] - low[axis]);
                        Array3::from_elem(shape, self.fill)
                    };
                    let shape = part.dim();
                    let values = T::collect(part.iter().copied()).map_err(|NoLabel { index, value }| {
                        IoError::NoLabel {
                            path: path.to_owned(),
                            at: [
                                low[0] + index / (shape.1 * shape.2),
                                low[1] + index / shape.2 % shape.1,
                                low[2] + index % shape.2,
                            ],
                            value,
                        }
                    })?;
                    let part =
                        Array3::from_shape_vec(shape, values).map_err(IoError::format(path, "volume"))?;
                    let place = |axis: usize| low[axis] - start[axis]..high[axis] - start[axis];
                    window.slice_mut(s![place(0), place(1), place(2)]).assign(&part);
                }
            }
        }
        Ok(window)
    }
}
