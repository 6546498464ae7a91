//! Weights in the order in which the kernels read them.

use crate::kernels::{ColumnBlock, Element, Isa};

/// Bytes that the cache moves at once.
const CACHE_LINE: usize = 64;

/// Weights as `[column block][tap row][tap][channel][column]`, columns padded with zeros to whole vectors.
pub(super) struct Packed<T> {
    values: Vec<T>,
    /// Values before the first that lies on a cache line: vectors across two lines would cost twice.
    start: usize,
    pub(super) blocks: Vec<ColumnBlock>,
    /// Taps along x.
    pub(super) taps: usize,
    /// Input channels.
    pub(super) channels: usize,
    lanes: usize,
}

impl<T: Element> Packed<T> {
    /// `weight(tap_row, tap, channel, column)` for `rows` rows of `taps` taps.
    pub(super) fn new(
        isa: Isa,
        rows: usize,
        taps: usize,
        channels: usize,
        columns: usize,
        weight: impl Fn(usize, usize, usize, usize) -> T,
    ) -> Self {
        let blocks = column_blocks::<T>(isa, columns, rows * taps * channels);
        let lanes = T::lanes(isa);
        let length = blocks
            .iter()
            .map(|block| block.vectors * lanes * rows * taps * channels)
            .sum::<usize>();
        let line = CACHE_LINE / size_of::<T>();
        let mut values: Vec<T> = Vec::with_capacity(length + line);
        let start = values.as_ptr().align_offset(CACHE_LINE).min(line);
        values.resize(start, T::zero());
        for block in &blocks {
            let padding = block.vectors * lanes - block.columns;
            for row in 0..rows {
                for tap in 0..taps {
                    for channel in 0..channels {
                        let columns = block.first..block.first + block.columns;
                        values.extend(columns.map(|column| weight(row, tap, channel, column)));
                        values.extend(std::iter::repeat_n(T::zero(), padding));
                    }
                }
            }
        }
        Self {
            values,
            start,
            blocks,
            taps,
            channels,
            lanes,
        }
    }

    /// The weights of all blocks.
    pub(super) fn values(&self) -> &[T] {
        &self.values[self.start..]
    }

    /// Values of one (tap, channel) in this block.
    pub(super) fn width(&self, block: &ColumnBlock) -> usize {
        block.vectors * self.lanes
    }
}

/// Splits output channels into blocks of as equal numbers of vectors as can be; `depth` rows of weights in each.
pub(super) fn column_blocks<T: Element>(isa: Isa, columns: usize, depth: usize) -> Vec<ColumnBlock> {
    let lanes = T::lanes(isa);
    let vectors = columns.div_ceil(lanes);
    let count = vectors.div_ceil(T::max_vectors(isa)).max(1);
    let mut blocks = Vec::with_capacity(count);
    let mut first_vector = 0;
    for index in 0..count {
        let last_vector = vectors * (index + 1) / count;
        let (first, end) = (first_vector * lanes, (last_vector * lanes).min(columns));
        if end > first {
            let vectors = last_vector - first_vector;
            blocks.push(ColumnBlock {
                first,
                columns: end - first,
                vectors,
                offset: first * depth,
            });
        }
        first_vector = last_vector;
    }
    blocks
}
