use deepfinder_core::{Label, Particle};

/// The voxels of one cluster, summed up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    pub(crate) voxels: u64,
    /// Of their coordinates, `(z, y, x)`.
    sum: [u64; 3],
    by_label: Vec<(Label, u64)>,
}

impl Members {
    /// Takes the voxels `start..end` of a row.
    pub(crate) fn add(&mut self, z: usize, y: usize, start: u32, end: u32, label: Label) {
        let voxels = u64::from(end - start);
        self.voxels += voxels;
        self.sum[0] += voxels * z as u64;
        self.sum[1] += voxels * y as u64;
        self.sum[2] += (u64::from(start) + u64::from(end) - 1) * voxels / 2;
        self.count(label, voxels);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.voxels += other.voxels;
        for axis in 0..3 {
            self.sum[axis] += other.sum[axis];
        }
        for &(label, voxels) in &other.by_label {
            self.count(label, voxels);
        }
    }

    fn count(&mut self, label: Label, voxels: u64) {
        match self.by_label.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += voxels,
            None => self.by_label.push((label, voxels)),
        }
    }

    /// Mean of the coordinates, `(x, y, z)`.
    pub(crate) fn centroid(&self) -> [f64; 3] {
        let [z, y, x] = self.sum.map(|sum| sum as f64 / self.voxels as f64);
        [x, y, z]
    }

    /// The particle they are: at `position` `(x, y, z)`, of the commonest class, of the lowest label on a tie.
    pub(crate) fn particle_at(&self, position: [f64; 3]) -> Particle {
        let commonest = self
            .by_label
            .iter()
            .max_by_key(|&&(label, voxels)| (voxels, std::cmp::Reverse(label)));
        let mut particle = Particle::new(position, commonest.map_or(0, |&(label, _)| label));
        particle.size_voxels = Some(self.voxels);
        particle
    }

    /// The particle at their centroid.
    pub(crate) fn particle(&self) -> Particle {
        self.particle_at(self.centroid())
    }
}
