use deepfinder_core::{Label, Progress};
use ndarray::{Array3, Axis, Zip};
use rayon::prelude::*;

use crate::template::Pose;
use crate::{Contrast, Result};

/// Planes that a thread draws at a time.
const SLAB_PLANES: usize = 8;

/// What a pose leaves in the phantom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure<'a> {
    pub(crate) pose: Pose<'a>,
    /// 0 for what has no label.
    pub(crate) label: Label,
    /// Number in the map of particle numbers, from 1; 0 for what has none.
    pub(crate) id: u16,
}

/// A specimen before the microscope, and what is where in it; all `(z, y, x)`.
#[derive(Debug, Clone)]
pub(crate) struct Phantom {
    pub(crate) signal: Array3<f32>,
    pub(crate) labels: Array3<Label>,
    pub(crate) ids: Array3<u16>,
}

/// Draws the figures in their order: densities add up, labels of later ones lie on top.
///
/// Each thread owns slabs of planes and goes through the figures in order, so that sums come out the same bits.
pub(crate) fn draw(
    shape: [usize; 3],
    figures: &[Figure<'_>],
    contrast: Contrast,
    progress: &dyn Progress,
) -> Result<Phantom> {
    let mut phantom = Phantom {
        signal: Array3::zeros(shape),
        labels: Array3::zeros(shape),
        ids: Array3::zeros(shape),
    };
    let sign = match contrast {
        Contrast::Dark => -1.0,
        Contrast::Light => 1.0,
    };
    progress.begin("drawing particles", shape[0] as u64, "planes");
    let slabs: Vec<_> = phantom
        .signal
        .axis_chunks_iter_mut(Axis(0), SLAB_PLANES)
        .zip(phantom.labels.axis_chunks_iter_mut(Axis(0), SLAB_PLANES))
        .zip(phantom.ids.axis_chunks_iter_mut(Axis(0), SLAB_PLANES))
        .collect();
    let drawn: Result<()> =
        slabs
            .into_par_iter()
            .enumerate()
            .try_for_each(|(i, ((mut signal, mut labels), mut ids))| {
                progress.check()?;
                let first = [(i * SLAB_PLANES) as i64, 0, 0];
                let planes = signal.len_of(Axis(0)) as i64;
                let end = [first[0] + planes, shape[1] as i64, shape[2] as i64];
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
            });
    progress.end();
    drawn?;
    Ok(phantom)
}

/// Voxels of each particle number, from 1 to `last`.
pub(crate) fn count_ids(ids: &Array3<u16>, last: usize) -> Vec<u64> {
    let mut counts = vec![0; last + 1];
    Zip::from(ids).for_each(|&id| counts[usize::from(id)] += 1);
    counts.split_off(1)
}
