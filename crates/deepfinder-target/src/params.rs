use std::cmp::Reverse;
use std::collections::BTreeMap;

use deepfinder_core::{BACKGROUND, Label, ParticleList, Volume};

use crate::{Result, TargetError};

/// What a particle of a class looks like in the target.
#[derive(Debug, Clone, PartialEq)]
pub enum ParticleShape {
    /// All voxels whose centre is at most that far from the particle's position.
    Sphere {
        /// Radius in voxels; need not be whole.
        radius_voxels: f64,
    },
    /// A cubic binary mask (0 is outside, anything else inside) in the particle's frame.
    ///
    /// It is rotated about `side / 2` on every axis (20.0 for a side of 40), sampled linearly with zeros around
    /// it, cut at ½ (a voxel that is half inside belongs to it), and its voxel `side / 2` (rounded down) comes
    /// to lie on the voxel nearest to the particle's position. What the rotation turns out of the cube is lost,
    /// as in the published implementation: leave an empty rim around the shape.
    Mask(Volume<u8>),
}

/// Radius in voxels of the ball that stands for the centre of a particle of that radius: half as large, so that balls of
/// neighbours do not touch, and no less than 2, so that a network whose scores are those of blocks of 2³ voxels sees it.
pub fn point_radius(particle_radius_voxels: f64) -> f64 {
    (0.5 * particle_radius_voxels).max(2.0)
}

impl ParticleShape {
    /// A ball at the centre of a particle of that radius: see [`point_radius`].
    pub fn point(particle_radius_voxels: f64) -> Self {
        Self::Sphere {
            radius_voxels: point_radius(particle_radius_voxels),
        }
    }

    /// Volume in voxels: of the ball, or of the mask.
    pub fn size_voxels(&self) -> f64 {
        match self {
            Self::Sphere { radius_voxels } => 4.0 / 3.0 * std::f64::consts::PI * radius_voxels.powi(3),
            Self::Mask(mask) => mask.voxels.iter().filter(|&&voxel| voxel != 0).count() as f64,
        }
    }
}

/// Which particles lie on top where shapes overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClassOrder {
    /// Later particles of the list over earlier ones.
    #[default]
    AsListed,
    /// Classes with smaller shapes over those with larger ones, so that small particles stay visible;
    /// as listed among shapes of the same size.
    BySizeDescending,
    /// Later classes over earlier ones, and those that are not named beneath them all; as listed within a class and
    /// among those not named.
    Classes(Vec<Label>),
}

/// Where the centre of a sphere lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SphereCentre {
    /// At the particle's position, between voxels if need be.
    #[default]
    SubVoxel,
    /// At the position with its fraction cut off, as the published implementation has it.
    Truncated,
}

/// How to draw a target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TargetParams {
    /// The shape of each class that occurs; none by default.
    pub shapes: BTreeMap<Label, ParticleShape>,
    /// Which particles lie on top; [`ClassOrder::AsListed`] by default.
    pub order: ClassOrder,
    /// Where spheres are centred; [`SphereCentre::SubVoxel`] by default.
    pub centre: SphereCentre,
}

impl TargetParams {
    /// These shapes, and the default for everything else.
    pub fn new(shapes: impl IntoIterator<Item = (Label, ParticleShape)>) -> Self {
        Self {
            shapes: shapes.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether every shape can be drawn.
    ///
    /// # Errors
    /// [`TargetError::BackgroundShape`], [`TargetError::Radius`], [`TargetError::MaskShape`],
    /// [`TargetError::EmptyMask`], [`TargetError::OrderTwice`] and [`TargetError::OrderShape`].
    pub fn check(&self) -> Result<()> {
        for (&label, shape) in &self.shapes {
            if label == BACKGROUND {
                return Err(TargetError::BackgroundShape);
            }
            match shape {
                &ParticleShape::Sphere { radius_voxels: found } => {
                    if !(found.is_finite() && found > 0.0) {
                        return Err(TargetError::Radius { label, found });
                    }
                }
                ParticleShape::Mask(mask) => {
                    let found @ [depth, height, width] = mask.shape();
                    if depth != height || height != width {
                        return Err(TargetError::MaskShape { label, found });
                    }
                    if mask.voxels.iter().all(|&voxel| voxel == 0) {
                        return Err(TargetError::EmptyMask { label });
                    }
                }
            }
        }
        if let ClassOrder::Classes(order) = &self.order {
            for (i, &label) in order.iter().enumerate() {
                if order[..i].contains(&label) {
                    return Err(TargetError::OrderTwice { label });
                }
                if !self.shapes.contains_key(&label) {
                    return Err(TargetError::OrderShape { label });
                }
            }
        }
        Ok(())
    }

    /// Whether every particle has a place and a shape.
    pub(crate) fn check_particles(&self, particles: &ParticleList) -> Result<()> {
        let mut classes = particles.count_by_label();
        classes.retain(|label, _| !self.shapes.contains_key(label));
        if !classes.is_empty() {
            let classes = classes.into_iter().collect();
            return Err(TargetError::NoShape { classes });
        }
        for (index, particle) in particles.iter().enumerate() {
            let position = particle.position;
            if position.iter().any(|coordinate| !coordinate.is_finite()) {
                return Err(TargetError::Position { index, position });
            }
        }
        Ok(())
    }

    /// Indices of the particles in the order in which they are drawn.
    pub(crate) fn drawing_order(&self, particles: &ParticleList) -> Vec<usize> {
        let mut order: Vec<usize> = (0..particles.len()).collect();
        let label = |index: usize| usize::from(particles[index].label);
        let mut rank = [0_usize; 256];
        match &self.order {
            ClassOrder::AsListed => {}
            ClassOrder::BySizeDescending => {
                let mut sizes: Vec<(Label, f64)> = self
                    .shapes
                    .iter()
                    .map(|(&label, shape)| (label, shape.size_voxels()))
                    .collect();
                sizes.sort_by(|(_, a), (_, b)| a.total_cmp(b));
                for i in 1..sizes.len() {
                    let larger = sizes[i].1 > sizes[i - 1].1;
                    rank[usize::from(sizes[i].0)] = rank[usize::from(sizes[i - 1].0)] + usize::from(larger);
                }
                order.sort_by_key(|&index| Reverse(rank[label(index)]));
            }
            ClassOrder::Classes(classes) => {
                for (place, &class) in (1..).zip(classes) {
                    rank[usize::from(class)] = place;
                }
                order.sort_by_key(|&index| rank[label(index)]);
            }
        }
        order
    }
}
