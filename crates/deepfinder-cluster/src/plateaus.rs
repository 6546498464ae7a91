use deepfinder_core::{Progress, Region, VolumeReader};
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;

use crate::Result;
use crate::components::Forest;

/// Voxels of one score that touch each other and nothing higher: a local maximum, mostly of one voxel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plateau {
    pub(crate) score: f32,
    /// Mean of the coordinates, `(z, y, x)`.
    pub(crate) centroid: [f64; 3],
    pub(crate) voxels: u64,
}

const NOBODY: u32 = u32::MAX;

/// The neighbours among the 26 that come earlier in C order, `(dz, dy, dx)`.
const EARLIER: [[isize; 3]; 13] = [
    [-1, -1, -1],
    [-1, -1, 0],
    [-1, -1, 1],
    [-1, 0, -1],
    [-1, 0, 0],
    [-1, 0, 1],
    [-1, 1, -1],
    [-1, 1, 0],
    [-1, 1, 1],
    [0, -1, -1],
    [0, -1, 0],
    [0, -1, 1],
    [0, 0, -1],
];

/// All local maxima of at least `min_score`, in the order of their first voxels.
///
/// The volume is read as slabs of `planes` planes with one more on each side; what comes out does not depend on it.
pub(crate) fn find(
    scores: &dyn VolumeReader<f32>,
    min_score: f32,
    planes: usize,
    progress: &dyn Progress,
) -> Result<Vec<Plateau>> {
    let [depth, height, width] = scores.shape();
    let mut linked = Linked {
        width,
        before: vec![NOBODY; height * width],
        here: vec![NOBODY; height * width],
        forest: Forest::default(),
        nodes: Vec::new(),
    };
    for z in (0..depth).step_by(planes) {
        progress.check()?;
        let (first, end) = (z.saturating_sub(1), (z + planes + 1).min(depth));
        let slab = scores.read_window(Region::new([first, 0, 0], [end - first, height, width]))?;
        let own = z - first..(z + planes).min(depth) - first;
        let tops: Vec<Vec<bool>> = own
            .clone()
            .into_par_iter()
            .map(|plane| tops_of_plane(&slab.view(), plane, min_score))
            .collect();
        for (plane, tops) in own.clone().zip(tops) {
            linked.take_plane(&slab.view(), plane, first + plane, min_score, &tops);
        }
        progress.advance(own.len() as u64);
    }
    Ok(linked.plateaus())
}

/// Which voxels of a plane have no higher neighbour.
fn tops_of_plane(slab: &ArrayView3<'_, f32>, plane: usize, min_score: f32) -> Vec<bool> {
    let (depth, height, width) = slab.dim();
    let mut tops = Vec::with_capacity(height * width);
    for ((y, x), &score) in slab.index_axis(Axis(0), plane).indexed_iter() {
        let around = |at: usize, len: usize| at.saturating_sub(1)..(at + 2).min(len);
        let top = score.is_finite()
            && score >= min_score
            && !around(plane, depth)
                .any(|z| around(y, height).any(|y| around(x, width).any(|x| slab[[z, y, x]] > score)));
        tops.push(top);
    }
    tops
}

/// The tops seen so far, those of one plateau united.
struct Linked {
    width: usize,
    /// Number of the node of each voxel of the last plane and of this one.
    before: Vec<u32>,
    here: Vec<u32>,
    forest: Forest,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    score: f32,
    /// A voxel of the plateau has a higher neighbour, so it is none.
    on_a_slope: bool,
    voxels: u64,
    sum: [u64; 3],
}

impl Linked {
    /// Takes plane `plane` of a slab, which is plane `z` of the volume.
    fn take_plane(
        &mut self,
        slab: &ArrayView3<'_, f32>,
        plane: usize,
        z: usize,
        min_score: f32,
        tops: &[bool],
    ) {
        std::mem::swap(&mut self.before, &mut self.here);
        self.here.fill(NOBODY);
        for ((y, x), &score) in slab.index_axis(Axis(0), plane).indexed_iter() {
            if score.is_nan() || score < min_score {
                continue;
            }
            let voxel = y * self.width + x;
            let mut node = None;
            let mut on_a_slope = false;
            for step in EARLIER {
                let Some(neighbour) = self.equal_neighbour(slab, [plane, y, x], step) else {
                    continue;
                };
                match (tops[voxel], neighbour, node) {
                    (true, NOBODY, _) => on_a_slope = true,
                    (true, other, None) => node = Some(self.forest.root(other as usize)),
                    (true, other, Some(known)) => node = Some(self.unite(known, other as usize)),
                    (false, NOBODY, _) => {}
                    (false, other, _) => {
                        let root = self.forest.root(other as usize);
                        self.nodes[root].on_a_slope = true;
                    }
                }
            }
            if tops[voxel] {
                let node = node.unwrap_or_else(|| self.push(score));
                let plateau = &mut self.nodes[node];
                plateau.on_a_slope |= on_a_slope;
                plateau.voxels += 1;
                for (sum, index) in plateau.sum.iter_mut().zip([z, y, x]) {
                    *sum += index as u64;
                }
                self.here[voxel] = node as u32;
            }
        }
    }

    /// The node of the neighbour a step away, where that has the same score; [`NOBODY`] where it is no top.
    fn equal_neighbour(
        &self,
        slab: &ArrayView3<'_, f32>,
        at: [usize; 3],
        [dz, dy, dx]: [isize; 3],
    ) -> Option<u32> {
        let z = at[0].checked_add_signed(dz)?;
        let y = at[1].checked_add_signed(dy)?;
        let x = at[2].checked_add_signed(dx)?;
        let equal = slab.get([z, y, x]) == Some(&slab[at]);
        let nodes = if dz < 0 { &self.before } else { &self.here };
        equal.then(|| nodes[y * self.width + x])
    }

    fn push(&mut self, score: f32) -> usize {
        self.nodes.push(Node {
            score,
            on_a_slope: false,
            voxels: 0,
            sum: [0; 3],
        });
        self.forest.push()
    }

    fn unite(&mut self, a: usize, b: usize) -> usize {
        let [a, b] = [self.forest.root(a), self.forest.root(b)];
        let root = self.forest.unite(a, b);
        if a != b {
            let other = self.nodes[a.max(b)];
            let node = &mut self.nodes[root];
            node.on_a_slope |= other.on_a_slope;
            node.voxels += other.voxels;
            for (sum, more) in node.sum.iter_mut().zip(other.sum) {
                *sum += more;
            }
        }
        root
    }

    fn plateaus(mut self) -> Vec<Plateau> {
        (0..self.nodes.len())
            .filter(|&node| self.forest.root(node) == node)
            .map(|node| self.nodes[node])
            .filter(|node| !node.on_a_slope)
            .map(|node| Plateau {
                score: node.score,
                centroid: node.sum.map(|sum| sum as f64 / node.voxels as f64),
                voxels: node.voxels,
            })
            .collect()
    }
}
