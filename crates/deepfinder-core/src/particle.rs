use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::{Label, Result, Rotation, VoxelSize};

/// One macromolecule in a tomogram: annotated, picked or simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Particle {
    /// `(x, y, z)` in voxels; voxel 0's centre is 0.0.
    pub position: [f64; 3],
    /// Class, from 1.
    pub label: Label,
    /// Particle → tomogram, where it is known.
    pub rotation: Option<Rotation>,
    /// Confidence; larger is better. Its scale is the picker's.
    pub score: Option<f32>,
    /// Voxels of the cluster it came from.
    pub size_voxels: Option<u64>,
    /// Name or number of its tomogram, where a list spans several.
    pub tomogram: Option<Arc<str>>,
}

impl Particle {
    /// A particle of which nothing else is known.
    pub const fn new(position: [f64; 3], label: Label) -> Self {
        Self {
            position,
            label,
            rotation: None,
            score: None,
            size_voxels: None,
            tomogram: None,
        }
    }

    /// The same particle, so oriented.
    #[must_use]
    pub fn with_rotation(mut self, rotation: impl Into<Option<Rotation>>) -> Self {
        self.rotation = rotation.into();
        self
    }

    /// Distance of the centres in voxels.
    pub fn distance(&self, other: &Self) -> f64 {
        (0..3)
            .map(|axis| (self.position[axis] - other.position[axis]).powi(2))
            .sum::<f64>()
            .sqrt()
    }
}

/// Particles of one or several tomograms, in the order of their file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParticleList {
    /// The particles.
    pub particles: Vec<Particle>,
    /// Edge of the voxels that positions are counted in, where it is known.
    pub voxel_size: Option<VoxelSize>,
}

impl ParticleList {
    /// Number of particles by label.
    pub fn count_by_label(&self) -> BTreeMap<Label, usize> {
        let mut counts = BTreeMap::new();
        for particle in &self.particles {
            *counts.entry(particle.label).or_default() += 1;
        }
        counts
    }

    /// Counts in voxels that are `factor` times as large: positions shrink by it, and the voxel size grows.
    ///
    /// Voxel 0's centre stays at 0, as it does in RELION, Warp and Dynamo when they bin. Cluster sizes are counts of
    /// the voxels they were found in and stay what they are.
    ///
    /// # Errors
    /// [`crate::CoreError::VoxelSize`] where the factor is no positive number or takes the voxel size out of range.
    pub fn bin(&mut self, factor: f64) -> Result<()> {
        // The factor has to be a size itself: positive and finite.
        VoxelSize::new(factor as f32)?;
        if let Some(size) = self.voxel_size {
            self.voxel_size = Some(VoxelSize::new((f64::from(size.angstrom()) * factor) as f32)?);
        }
        for particle in &mut self.particles {
            particle.position = particle.position.map(|coordinate| coordinate / factor);
        }
        Ok(())
    }

    /// Exchanges x and z: for lists whose x is the slowest axis (DeepFinder before 2020).
    ///
    /// Rotations are conjugated by the exchange, which keeps them proper.
    pub fn swap_x_and_z(&mut self) {
        for particle in &mut self.particles {
            particle.position.swap(0, 2);
            particle.rotation = particle.rotation.map(Rotation::with_x_and_z_swapped);
        }
    }
}

impl From<Vec<Particle>> for ParticleList {
    fn from(particles: Vec<Particle>) -> Self {
        Self {
            particles,
            voxel_size: None,
        }
    }
}

impl Deref for ParticleList {
    type Target = [Particle];

    fn deref(&self) -> &[Particle] {
        &self.particles
    }
}

impl DerefMut for ParticleList {
    fn deref_mut(&mut self) -> &mut [Particle] {
        &mut self.particles
    }
}
