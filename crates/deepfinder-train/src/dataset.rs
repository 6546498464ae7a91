use std::sync::Arc;

use deepfinder_core::{BACKGROUND, ParticleList, VolumeReader};

use crate::{Result, TrainError};

/// A tomogram to learn from, read window by window: the data set may be larger than memory.
#[derive(Clone)]
pub struct TrainingTomogram {
    /// What to call it in messages.
    pub name: String,
    /// The voxels; each patch is normalised by itself.
    pub tomogram: Arc<dyn VolumeReader<f32>>,
    /// The class label of every voxel.
    pub target: Arc<dyn VolumeReader<u8>>,
    /// The annotated particles, around which patches are drawn.
    pub particles: ParticleList,
}

impl std::fmt::Debug for TrainingTomogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingTomogram")
            .field("name", &self.name)
            .field("shape", &self.tomogram.shape())
            .field("particles", &self.particles.len())
            .finish_non_exhaustive()
    }
}

impl TrainingTomogram {
    /// That the target fits the tomogram, and that every particle lies in it and has a class of the network.
    pub(crate) fn check(&self, scores: usize) -> Result<()> {
        let (shape, target) = (self.tomogram.shape(), self.target.shape());
        if shape != target {
            return Err(TrainError::TargetShape {
                tomogram: self.name.clone(),
                shape,
                target,
            });
        }
        for (index, particle) in self.particles.iter().enumerate() {
            if particle.label == BACKGROUND || usize::from(particle.label) >= scores {
                return Err(TrainError::Label {
                    tomogram: self.name.clone(),
                    place: format!("particle {}", index + 1),
                    label: particle.label,
                    classes: scores - 1,
                });
            }
            let inside = (0..3).all(|axis| {
                let nearest = particle.position[axis].round();
                nearest >= 0.0 && nearest < shape[2 - axis] as f64
            });
            if !inside {
                return Err(TrainError::ParticleOutside {
                    tomogram: self.name.clone(),
                    number: index + 1,
                    position: particle.position,
                    shape,
                });
            }
        }
        Ok(())
    }
}
