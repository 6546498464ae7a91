use std::collections::HashMap;

use deepfinder_core::Progress;
use kiddo::{ImmutableKdTree, SquaredEuclidean};
use rayon::prelude::*;

use crate::Result;
use crate::foreground::{Foreground, Run};
use crate::members::Members;
use crate::point_grid::squared_distance;

/// Gives every voxel to its nearest mode `(z, y, x)`, the first of them on a tie.
///
/// Modes are sought once for a block of voxels: the few that can be the nearest of any of them.
pub(super) fn to_nearest(
    foreground: &Foreground,
    modes: &[[f64; 3]],
    radius: f64,
    progress: &dyn Progress,
) -> Result<Vec<Members>> {
    let mut clusters = vec![Members::default(); modes.len()];
    let Some(search) = Search::new(modes) else {
        return Ok(clusters);
    };
    let side = (radius.round() as usize).clamp(4, 64);
    let [depth, height, _] = foreground.shape;
    let blocks_of_rows: Vec<[usize; 2]> = (0..depth)
        .step_by(side)
        .flat_map(|z| (0..height).step_by(side).map(move |y| [z, y]))
        .collect();
    let parts: Vec<HashMap<usize, Members>> = blocks_of_rows
        .into_par_iter()
        .map(|corner| {
            progress.check()?;
            Ok(assign_rows(foreground, &search, corner, side))
        })
        .collect::<Result<_>>()?;
    for part in parts {
        for (mode, members) in part {
            clusters[mode].merge(&members);
        }
    }
    Ok(clusters)
}

/// Assigns the voxels of the `side` × `side` rows from a corner `[z, y]`.
fn assign_rows(
    foreground: &Foreground,
    search: &Search<'_>,
    [z0, y0]: [usize; 2],
    side: usize,
) -> HashMap<usize, Members> {
    let mut parts: HashMap<usize, Members> = HashMap::new();
    let mut candidates: HashMap<usize, Vec<usize>> = HashMap::new();
    for z in z0..(z0 + side).min(foreground.shape[0]) {
        for y in y0..(y0 + side).min(foreground.shape[1]) {
            for &Run { start, end, label } in foreground.row(z, y) {
                let mut x = start;
                while x < end {
                    let block = x as usize / side;
                    let block_end = end.min(((block + 1) * side) as u32);
                    let candidates = candidates
                        .entry(block)
                        .or_insert_with(|| search.candidates([z0, y0, block * side], side));
                    // Neighbours on a row mostly share their mode: they are added together.
                    let mut mode = search.nearest(candidates, [z, y, x as usize]);
                    let mut first = x;
                    for next in x + 1..block_end {
                        let other = search.nearest(candidates, [z, y, next as usize]);
                        if other != mode {
                            parts.entry(mode).or_default().add(z, y, first, next, label);
                            (mode, first) = (other, next);
                        }
                    }
                    parts.entry(mode).or_default().add(z, y, first, block_end, label);
                    x = block_end;
                }
            }
        }
    }
    parts
}

struct Search<'a> {
    modes: &'a [[f64; 3]],
    tree: ImmutableKdTree<f64, 3>,
}

impl<'a> Search<'a> {
    /// `None` where there are no modes.
    fn new(modes: &'a [[f64; 3]]) -> Option<Self> {
        if modes.is_empty() {
            return None;
        }
        let tree = ImmutableKdTree::new_from_slice(modes).ok()?;
        Some(Self { modes, tree })
    }

    /// The modes that are the nearest of any voxel in a block, and perhaps some more; ascending.
    fn candidates(&self, corner: [usize; 3], side: usize) -> Vec<usize> {
        let half = (side - 1) as f64 / 2.0;
        let centre = corner.map(|first| first as f64 + half);
        let nearest = self
            .tree
            .query(&centre)
            .nearest_one::<SquaredEuclidean<f64>>()
            .execute();
        // A voxel is at most this far from the centre, so its mode is at most twice that farther than the centre's.
        let spread = half * 3f64.sqrt();
        let reach = (nearest.distance.sqrt() + 2.0 * spread) * (1.0 + 1e-9) + 1e-9;
        let mut found: Vec<usize> = self
            .tree
            .query(&centre)
            .within::<SquaredEuclidean<f64>>(reach * reach)
            .unsorted()
            .execute()
            .into_iter()
            .map(|mode| mode.item as usize)
            .collect();
        found.sort_unstable();
        found
    }

    fn nearest(&self, candidates: &[usize], voxel: [usize; 3]) -> usize {
        let voxel = voxel.map(|index| index as f64);
        let mut best = (f64::INFINITY, 0);
        for &mode in candidates {
            let squared = squared_distance(voxel, self.modes[mode]);
            if squared < best.0 {
                best = (squared, mode);
            }
        }
        best.1
    }
}
