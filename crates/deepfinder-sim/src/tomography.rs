use std::collections::BTreeMap;

use deepfinder_core::{ClassTable, Label, ParticleList, Progress, VolumeWriter};

use crate::noise;
use crate::phantom::{self, Phantom, SLAB_PLANES};
use crate::simulate::{Scene, sign};
use crate::tilt_series::project;
use crate::{Contrast, Result, SimError, SimParams, Template, TiltSeries, TiltSeriesParams};

/// Where the truth about a specimen goes, slab by slab.
pub struct TruthWriters<'a> {
    /// The label of each voxel.
    pub labels: &'a mut dyn VolumeWriter<Label>,
    /// The number of the particle that a voxel belongs to: 1 for the first of the list, 0 for none.
    pub particle_ids: &'a mut dyn VolumeWriter<u16>,
}

/// What is in a specimen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Truth {
    /// The particles with their rotations and the number of voxels that they have in the label map.
    pub particles: ParticleList,
    /// The templates' names by label, with the radius of the ball that has as many voxels as the mask.
    pub classes: ClassTable,
    /// Particles of each class that found no room; empty where all were placed.
    pub shortfall: BTreeMap<Label, usize>,
}

/// Simulates the tilt series of a specimen, whose truth goes to `truth`; [`TiltSeries::reconstruct`] makes its tomogram.
///
/// The specimen is drawn a few planes at a time, projected, and forgotten: beside the tilt series nothing large is held but
/// a bit of room for each voxel while particles are placed. Particles are placed at random as [`crate::simulate()`] does,
/// or are those of the list, as [`crate::simulate_particles`] does. Of `params`, what belongs to the quick way (`tilt`,
/// `low_pass_angstrom`, `noise`, `padding_voxels`) is not used; `contrast` decides only where there are no optics, whose
/// transfer function otherwise makes matter dark.
///
/// # Errors
/// As [`crate::simulate()`], and as [`TiltSeriesParams::check`]; where the truth cannot be written.
pub fn simulate_tilt_series(
    templates: &[Template],
    particles: Option<&ParticleList>,
    params: &SimParams,
    microscope: &TiltSeriesParams,
    truth: &mut TruthWriters<'_>,
    progress: &dyn Progress,
) -> Result<(TiltSeries, Truth)> {
    microscope.check()?;
    let scene = Scene::new(templates, params)?;
    if scene.voxel_size.is_none() && (microscope.optics.is_some() || microscope.exposure > 0.0) {
        return Err(SimError::UnknownVoxelSize);
    }
    let placement = match particles {
        None => scene.place_at_random(params, progress)?,
        Some(particles) => scene.place_as_told(particles)?,
    };
    let figures = scene.figures(&placement);
    // Images are of density; the transfer function, or the contrast asked for, makes it dark.
    let sign = match microscope.optics {
        Some(_) => sign(Contrast::Light),
        None => sign(params.contrast),
    };
    let [depth, height, width] = params.shape;
    let mut series = TiltSeries::empty(params.shape, microscope, scene.voxel_size);
    let mut counts = vec![0; placement.particles.len() + 1];
    let grain = (params.grain * f64::from(scene.densest)) as f32;
    // As many planes as all threads draw at once.
    let slab = SLAB_PLANES * rayon::current_num_threads().max(1);
    progress.begin("projecting", depth as u64, "planes");
    for first in (0..depth).step_by(slab) {
        let planes = slab.min(depth - first);
        let mut phantom = Phantom::empty([planes, height, width]);
        phantom.draw(first, &figures, sign, progress)?;
        phantom::count_ids(&phantom.ids, &mut counts);
        truth.labels.write_slab(phantom.labels.view())?;
        truth.particle_ids.write_slab(phantom.ids.view())?;
        if grain > 0.0 {
            add_grain(&mut phantom, first, grain, params.seed);
        }
        project(&mut series, &phantom.signal.view(), first, depth, progress)?;
    }
    progress.end();
    series.expose(microscope, width, params.seed, progress)?;
    let mut particles = ParticleList::from(placement.particles);
    particles.voxel_size = scene.voxel_size;
    for (particle, &voxels) in particles.iter_mut().zip(&counts[1..]) {
        particle.size_voxels = Some(voxels);
    }
    let truth = Truth {
        particles,
        classes: scene.classes,
        shortfall: placement.shortfall,
    };
    Ok((series, truth))
}

/// Random density of the solvent, drawn by rows from a seed of its own.
fn add_grain(phantom: &mut Phantom, first: usize, grain: f32, seed: u64) {
    use ndarray::Axis;
    use rayon::prelude::*;

    let (_, height, width) = phantom.signal.dim();
    phantom
        .signal
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .for_each(|(z, mut plane)| {
            let mut row = vec![0.0; width];
            for (y, mut voxels) in plane.outer_iter_mut().enumerate() {
                noise::fill_row(!seed, ((first + z) * height + y) as u64, &mut row);
                voxels
                    .iter_mut()
                    .zip(&row)
                    .for_each(|(voxel, noise)| *voxel += grain * noise);
            }
        });
}
