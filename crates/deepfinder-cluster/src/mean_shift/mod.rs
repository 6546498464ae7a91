mod assign;
mod modes;

use deepfinder_core::{Label, ParticleList, Progress, VolumeReader};

use crate::error::{ClusterError, Result, check_positive};
use crate::foreground::Foreground;

/// Mean-shift with a flat kernel: what the reference implementation lists particles with.
///
/// The result is that of scikit-learn's `MeanShift(bandwidth=radius_voxels, bin_seeding=True)` on the coordinates
/// `(z, y, x)` of the foreground voxels: Comaniciu & Meer 2002, seeds on a grid of the radius's spacing. Voxels lie on
/// a lattice, so the mean over a ball comes from whole rows at a time; the time is linear in the number of particles.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanShiftParams {
    /// Radius of the kernel in voxels: about that of a particle.
    pub radius_voxels: f64,
    /// Steps after which a seed rests where it is. Default 300.
    pub max_iterations: usize,
    /// A seed has arrived when it moves by at most this part of the radius. Default 1e-3.
    pub tolerance: f64,
    /// Where in its cluster a particle is put. Default: the centroid.
    pub position: ParticlePosition,
    /// Cluster each class by itself. Default: all together, and the commonest label is the particle's.
    pub per_class: bool,
}

/// Where in its cluster a particle is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParticlePosition {
    /// The mean of the member voxels' coordinates (DeepFinder paper, Methods).
    #[default]
    Centroid,
    /// The place where the mean-shift came to rest (what the reference implementation writes).
    Mode,
}

impl MeanShiftParams {
    /// The defaults for a radius in voxels.
    pub fn new(radius_voxels: f64) -> Self {
        Self {
            radius_voxels,
            max_iterations: 300,
            tolerance: 1e-3,
            position: ParticlePosition::default(),
            per_class: false,
        }
    }

    /// What the reference implementation does: all classes together, particles at the modes.
    pub fn reference(radius_voxels: f64) -> Self {
        Self {
            position: ParticlePosition::Mode,
            ..Self::new(radius_voxels)
        }
    }

    /// # Errors
    /// [`ClusterError::Parameter`] unless the radius is positive and the tolerance not negative.
    pub fn check(self) -> Result<MeanShift> {
        check_positive("radius_voxels", self.radius_voxels)?;
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(ClusterError::Parameter {
                name: "tolerance",
                expected: "a finite number, not negative",
                found: self.tolerance.to_string(),
            });
        }
        Ok(MeanShift(self))
    }
}

/// Mean-shift with checked parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanShift(MeanShiftParams);

impl MeanShift {
    /// The particles of a label map: those whose mode has most neighbours first; by class, where classes are apart.
    ///
    /// A mode to which no voxel is nearest gives no particle. An empty map gives an empty list.
    ///
    /// # Errors
    /// Where reading fails, or on cancellation.
    pub fn cluster(&self, labels: &dyn VolumeReader<Label>, progress: &dyn Progress) -> Result<ParticleList> {
        let foreground = Foreground::read(labels, progress)?;
        let mut list = ParticleList {
            particles: Vec::new(),
            voxel_size: labels.voxel_size(),
        };
        if self.0.per_class {
            for label in foreground.labels() {
                list.particles
                    .extend(self.particles(&foreground.only(label), progress)?);
            }
        } else {
            list.particles = self.particles(&foreground, progress)?;
        }
        Ok(list)
    }

    fn particles(
        &self,
        foreground: &Foreground,
        progress: &dyn Progress,
    ) -> Result<Vec<deepfinder_core::Particle>> {
        let modes = modes::find(foreground, &self.0, progress)?;
        let clusters = assign::to_nearest(foreground, &modes, self.0.radius_voxels, progress)?;
        let particles = modes
            .iter()
            .zip(&clusters)
            .filter(|(_, members)| members.voxels > 0);
        Ok(particles
            .map(|(&[z, y, x], members)| match self.0.position {
                ParticlePosition::Centroid => members.particle(),
                ParticlePosition::Mode => members.particle_at([x, y, z]),
            })
            .collect())
    }
}
