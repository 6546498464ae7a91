use std::collections::BTreeMap;

use deepfinder_core::{Label, ParticleList, Progress, VolumeReader};

use crate::error::Result;
use crate::foreground::{Foreground, Run};
use crate::members::Members;

/// Connected components of a label map, each a particle at its centroid.
///
/// Two passes over the runs of foreground voxels with a union-find between them (Rosenfeld & Pfaltz 1966).
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentsParams {
    /// Which voxels touch. Default: those that share a face.
    pub connectivity: Connectivity,
    /// Smaller components are dropped. Default 1: none is.
    pub min_voxels: u64,
    /// Only voxels of one class connect (default); otherwise all do, and the commonest label is the particle's.
    pub per_class: bool,
}

/// Which voxels touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// Those that share a face: 6 neighbours.
    #[default]
    Faces,
    /// Those that share a face or an edge: 18 neighbours.
    Edges,
    /// Those that share a face, an edge or a corner: 26 neighbours.
    Corners,
}

impl Default for ComponentsParams {
    fn default() -> Self {
        Self {
            connectivity: Connectivity::default(),
            min_voxels: 1,
            per_class: true,
        }
    }
}

impl ComponentsParams {
    /// Every combination is valid.
    ///
    /// # Errors
    /// None yet; the other methods' `check` has them.
    pub fn check(self) -> Result<Components> {
        Ok(Components(self))
    }
}

/// Connected components with checked parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Components(ComponentsParams);

impl Components {
    /// The particles of a label map, in the order of their first voxels.
    ///
    /// # Errors
    /// Where reading fails, or on cancellation.
    pub fn cluster(&self, labels: &dyn VolumeReader<Label>, progress: &dyn Progress) -> Result<ParticleList> {
        let foreground = Foreground::read(labels, progress)?;
        let mut runs = Forest::new(foreground.runs().len());
        progress.begin("connected components", foreground.shape[0] as u64, "planes");
        for z in 0..foreground.shape[0] {
            progress.check()?;
            for y in 0..foreground.shape[1] {
                self.connect_row(&foreground, [z, y], &mut runs);
            }
            progress.advance(1);
        }
        progress.end();

        // The root of a component is its first run, so the order of roots is that of first voxels.
        let mut components: BTreeMap<usize, Members> = BTreeMap::new();
        for (z, y, row) in foreground.occupied_rows() {
            let first = foreground.row_range(z, y).start;
            for (i, run) in row.iter().enumerate() {
                let members = components.entry(runs.root(first + i)).or_default();
                members.add(z, y, run.start, run.end, run.label);
            }
        }
        let particles = components
            .values()
            .filter(|members| members.voxels >= self.0.min_voxels)
            .map(Members::particle)
            .collect();
        Ok(ParticleList {
            particles,
            voxel_size: labels.voxel_size(),
        })
    }

    /// Connects a row with itself and with the rows before it that it touches.
    fn connect_row(&self, foreground: &Foreground, [z, y]: [usize; 2], runs: &mut Forest) {
        let here = foreground.row_range(z, y);
        let same_class = |a: &Run, b: &Run| !self.0.per_class || a.label == b.label;
        for i in here.clone().skip(1) {
            let [a, b] = [&foreground.runs()[i - 1], &foreground.runs()[i]];
            if a.end == b.start && same_class(a, b) {
                runs.unite(i - 1, i);
            }
        }
        // Of each row before: how many axes lead to it, and so how many more a step along x may add.
        let axes = match self.0.connectivity {
            Connectivity::Faces => 1,
            Connectivity::Edges => 2,
            Connectivity::Corners => 3,
        };
        let before = [(0, -1, 1), (-1, 0, 1), (-1, -1, 2), (-1, 1, 2)];
        for (dz, dy, steps) in before {
            let (Some(z), Some(y)) = (z.checked_add_signed(dz), y.checked_add_signed(dy)) else {
                continue;
            };
            if steps > axes || y >= foreground.shape[1] {
                continue;
            }
            let slack = u32::from(steps < axes);
            let there = foreground.row_range(z, y);
            let mut first = there.start;
            for i in here.clone() {
                let a = foreground.runs()[i];
                while first < there.end && foreground.runs()[first].end + slack <= a.start {
                    first += 1;
                }
                for j in first..there.end {
                    let b = foreground.runs()[j];
                    if b.start >= a.end + slack {
                        break;
                    }
                    if same_class(&a, &b) {
                        runs.unite(i, j);
                    }
                }
            }
        }
    }
}

/// A union-find whose roots are the smallest members of their sets.
#[derive(Debug, Default)]
pub(crate) struct Forest(Vec<u32>);

impl Forest {
    pub(crate) fn new(len: usize) -> Self {
        Self((0..len as u32).collect())
    }

    /// A new set of one member, and its number.
    pub(crate) fn push(&mut self) -> usize {
        self.0.push(self.0.len() as u32);
        self.0.len() - 1
    }

    pub(crate) fn root(&mut self, mut member: usize) -> usize {
        while self.0[member] as usize != member {
            self.0[member] = self.0[self.0[member] as usize];
            member = self.0[member] as usize;
        }
        member
    }

    /// The root of both sets together.
    pub(crate) fn unite(&mut self, a: usize, b: usize) -> usize {
        let [a, b] = [self.root(a), self.root(b)];
        let root = a.min(b);
        self.0[a.max(b)] = root as u32;
        root
    }
}
