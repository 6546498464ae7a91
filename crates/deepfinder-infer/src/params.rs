use deepfinder_net::SIDE_MULTIPLE;

use crate::{InferError, Result};

/// How a tomogram is cut for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Tiles with margins as wide as the network looks: the same result as one pass over the whole tomogram (padded
    /// at its end to multiples of 4), whatever the tile.
    Exact {
        /// What a tile adds to the result, `(z, y, x)`, in multiples of 4; `None`: the cheapest that fits in
        /// [`SegmentParams::workspace_bytes`].
        tile: Option<[usize; 3]>,
    },
    /// Overlapping patches with too narrow margins, averaged: as the published implementation does, to reproduce its
    /// numbers.
    Reference {
        /// Side of a patch in voxels: a multiple of 4 above 54.
        patch: usize,
    },
}

impl Default for Plan {
    fn default() -> Self {
        Self::Exact { tile: None }
    }
}

/// How to segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentParams {
    /// How the tomogram is cut; default exact.
    pub plan: Plan,
    /// Memory that the network may need for a tile, in bytes; default 1.375 GiB, so that the program with all else
    /// stays below 1.5 GiB. The exact plan chooses its tile by it. A network on a GPU takes of the GPU's memory instead.
    pub workspace_bytes: usize,
    /// Average the scores with those of the tomogram turned by 180° about the tilt axis y, which leaves the missing wedge
    /// where it is. Twice the work; default no. Only with the exact plan.
    pub half_turn: bool,
}

impl Default for SegmentParams {
    fn default() -> Self {
        Self {
            plan: Plan::default(),
            workspace_bytes: 11 << 27,
            half_turn: false,
        }
    }
}

impl SegmentParams {
    /// # Errors
    /// Where the tile or patch is none that the plan can use.
    pub(crate) fn check(&self) -> Result<()> {
        let fits = |side: usize| side > 0 && side.is_multiple_of(SIDE_MULTIPLE);
        match self.plan {
            Plan::Exact { tile: Some(tile) } if !tile.into_iter().all(fits) => Err(InferError::Tile { tile }),
            Plan::Reference { patch } if !(fits(patch) && patch > crate::reference::SMALLEST_PATCH) => {
                Err(InferError::Patch { patch })
            }
            _ => Ok(()),
        }
    }
}
