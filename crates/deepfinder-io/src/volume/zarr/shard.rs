//! Chunks that share files: the codec `sharding_indexed` of Zarr 3. At the end of a shard, or at its start, stands a table
//! of the place and length of each chunk, in C order; both are 2⁶⁴ − 1 for one that was never written.

use std::collections::HashMap;

use super::codec::without_checksum;
use super::store::{Part, Store};
use crate::{IoError, Result};

const ENTRY_BYTES: usize = 16;

/// Chunks of a shard beyond this are a damaged header.
const MOST_CHUNKS: usize = 1 << 24;

/// How chunks share files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shards {
    /// Chunks of a shard along z, y, x.
    grid: [usize; 3],
    is_index_first: bool,
    /// A checksum stands behind the table.
    is_checked: bool,
    is_big_endian: bool,
}

/// The tables of the shards that were met, by their names; none of a shard that was never written.
pub(super) type Indices = HashMap<String, Option<Vec<u8>>>;

impl Shards {
    pub(super) fn new(
        shard: [usize; 3],
        chunk: [usize; 3],
        is_index_first: bool,
        is_checked: bool,
        is_big_endian: bool,
    ) -> std::result::Result<Self, String> {
        let fits =
            (0..3).all(|axis| chunk[axis] > 0 && shard[axis] > 0 && shard[axis].is_multiple_of(chunk[axis]));
        if !fits {
            return Err(format!(
                "shards of {shard:?} voxels (z, y, x) are no whole chunks of {chunk:?}"
            ));
        }
        let grid: [usize; 3] = std::array::from_fn(|axis| shard[axis] / chunk[axis]);
        let chunks = grid
            .iter()
            .try_fold(1_usize, |product, &n| product.checked_mul(n));
        if chunks.is_none_or(|chunks| chunks > MOST_CHUNKS) {
            return Err(format!("{grid:?} chunks (z, y, x) in a shard are too many"));
        }
        Ok(Self {
            grid,
            is_index_first,
            is_checked,
            is_big_endian,
        })
    }

    /// The shard of a chunk.
    pub(super) fn of(&self, chunk: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|axis| chunk[axis] / self.grid[axis])
    }

    /// Where a chunk stands in the file of its shard; none where it was never written.
    pub(super) fn place(
        &self,
        store: &Store,
        name: &str,
        chunk: [usize; 3],
        indices: &mut Indices,
    ) -> Result<Option<Part>> {
        if !indices.contains_key(name) {
            indices.insert(name.to_owned(), self.index(store, name)?);
        }
        let Some(Some(index)) = indices.get(name) else {
            return Ok(None);
        };
        let [z, y, x]: [usize; 3] = std::array::from_fn(|axis| chunk[axis] % self.grid[axis]);
        let entry = ((z * self.grid[1]) + y) * self.grid[2] + x;
        let (words, _) = index.as_chunks::<8>();
        let word = |at: usize| {
            let word = words.get(at).copied().unwrap_or_default();
            if self.is_big_endian {
                u64::from_be_bytes(word)
            } else {
                u64::from_le_bytes(word)
            }
        };
        let (start, length) = (word(2 * entry), word(2 * entry + 1));
        if (start, length) == (u64::MAX, u64::MAX) {
            return Ok(None);
        }
        let length = usize::try_from(length).ok().filter(|&length| length <= 1 << 31);
        let length = length.ok_or_else(|| {
            let what = format!(
                "its table of chunks is damaged: one of {} bytes",
                word(2 * entry + 1)
            );
            IoError::malformed(&store.root().join(name), "the shard", what)
        })?;
        Ok(Some(Part::At(start, length)))
    }

    /// The table of a shard.
    fn index(&self, store: &Store, name: &str) -> Result<Option<Vec<u8>>> {
        let length = self.grid.iter().product::<usize>() * ENTRY_BYTES;
        let stored = length + if self.is_checked { 4 } else { 0 };
        let part = if self.is_index_first {
            Part::At(0, stored)
        } else {
            Part::Last(stored)
        };
        let Some(bytes) = store.read(name, part)? else {
            return Ok(None);
        };
        let damaged = |what: String| IoError::malformed(&store.root().join(name), "the shard", what);
        if bytes.len() != stored {
            return Err(damaged(format!(
                "{} bytes, where its table of chunks alone needs {stored}: the file is cut short",
                bytes.len()
            )));
        }
        if self.is_checked {
            return without_checksum(bytes).map(Some).map_err(damaged);
        }
        Ok(Some(bytes))
    }
}
