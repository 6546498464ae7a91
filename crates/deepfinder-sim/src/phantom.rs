use deepfinder_core::{Label, Progress};
use ndarray::{Array3, Axis, Zip};
use rayon::prelude::*;

use crate::Result;
use crate::template::Pose;

/// Planes that a thread draws at a time.
pub(crate) const SLAB_PLANES: usize = 8;

/// What a pose leaves in the phantom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure<'a> {
    pub(crate) pose: Pose<'a>,
    /// 0 for what has no label.
    pub(crate) label: Label,
    /// Number in the map of particle numbers, from 1; 0 for what has none.
    pub(crate) id: u16,
}

/// Some planes of a specimen before the microscope, and what is where in it; all `(z, y, x)`.
#[derive(Debug, Clone)]
pub(crate) struct Phantom {
    pub(crate) signal: Array3<f32>,
    pub(crate) labels: Array3<Label>,
    pub(crate) ids: Array3<u16>,
}

impl Phantom {
    /// Nothing yet.
    pub(crate) fn empty(shape: [usize; 3]) -> Self {
        Self {
            signal: Array3::zeros(shape),
            labels: Array3::zeros(shape),
            ids: Array3::zeros(shape),
        }
    }

    /// Draws the figures in their order: densities add up, labels of later ones lie on top. The first plane is plane
    /// `first` of the specimen; densities count `sign` times.
    ///
    /// Each thread owns slabs of planes and goes through the figures in order, so that sums come out the same bits.
    pub(crate) fn draw(
        &mut self,
        first: usize,
        figures: &[Figure<'_>],
        sign: f32,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (_, height, width) = self.signal.dim();
        let slabs: Vec<_> = self
            .signal
            .axis_chunks_iter_mut(Axis(0), SLAB_PLANES)
            .zip(self.labels.axis_chunks_iter_mut(Axis(0), SLAB_PLANES))
            .zip(self.ids.axis_chunks_iter_mut(Axis(0), SLAB_PLANES))
            .collect();
        slabs
            .into_par_iter()
            .enumerate()
            .try_for_each(|(i, ((mut signal, mut labels), mut ids))| {
                progress.check()?;
                let first = [(first + i * SLAB_PLANES) as i64, 0, 0];
                let planes = signal.len_of(Axis(0)) as i64;
                let end = [first[0] + planes, height as i64, width as i64];
                for figure in figures {
                    let threshold = figure.pose.sampler.threshold;
                    figure.pose.draw(first, end, |[z, y, x], density| {
                        let voxel = [(z - first[0]) as usize, y as usize, x as usize];
                        signal[voxel] += sign * density;
                        if figure.label != 0 && density >= threshold {
                            labels[voxel] = figure.label;
                            ids[voxel] = figure.id;
                        }
                    });
                }
                progress.advance(planes as u64);
                Ok(())
            })
    }
}

/// Adds the voxels of each particle number to `counts`, which begins with number 0.
pub(crate) fn count_ids(ids: &Array3<u16>, counts: &mut [u64]) {
    Zip::from(ids).for_each(|&id| counts[usize::from(id)] += 1);
}
