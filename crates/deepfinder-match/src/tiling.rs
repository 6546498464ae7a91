use deepfinder_density::fast_length;

/// How an axis is cut into tiles, all of one length but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Voxels of the volume.
    pub(crate) length: usize,
    /// Voxels of a tile.
    pub(crate) tile: usize,
    /// Length of the transform: the tile and its margins.
    pub(crate) transform: usize,
}

impl Axis {
    /// Cuts an axis into as few tiles as the longest transform allows for a template's box of `side` voxels.
    pub(crate) fn new(length: usize, side: usize, longest: usize) -> Self {
        // A tile of at least a box: below that margins would be nearly all.
        let most = longest.saturating_sub(side - 1).max(side);
        let tile = length.div_ceil(length.div_ceil(most).max(1)).max(1);
        Self {
            length,
            tile,
            transform: fast_length(tile + side - 1),
        }
    }

    /// First voxel of each tile.
    pub(crate) fn starts(self) -> impl Iterator<Item = usize> {
        (0..self.length).step_by(self.tile)
    }

    /// Voxels of the tile that begins there.
    pub(crate) fn tile_at(self, start: usize) -> usize {
        self.tile.min(self.length - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_an_axis_once() {
        for (length, side, longest) in [
            (464, 47, 192),
            (1, 9, 16),
            (100, 41, 16),
            (146, 47, 192),
            (147, 47, 192),
        ] {
            let axis = Axis::new(length, side, longest);
            let covered: usize = axis.starts().map(|start| axis.tile_at(start)).sum();
            assert_eq!(covered, length);
            assert!(axis.transform >= axis.tile + side - 1);
        }
        assert_eq!(Axis::new(146, 47, 192).tile, 146);
        assert_eq!(Axis::new(147, 47, 192).tile, 74);
    }
}
