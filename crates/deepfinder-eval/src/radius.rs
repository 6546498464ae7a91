use std::collections::BTreeMap;

use deepfinder_core::{Label, Particle};

use crate::{EvalError, Result};

/// How far a pick may be from a true particle, in voxels: one number, or one for each class of the truth.
#[derive(Debug, Clone, PartialEq)]
pub enum Radius {
    /// The same for all classes.
    Same(f64),
    /// By the true particle's class.
    PerClass(BTreeMap<Label, f64>),
}

impl From<f64> for Radius {
    fn from(radius_voxels: f64) -> Self {
        Self::Same(radius_voxels)
    }
}

impl Radius {
    /// The radius for a true particle of a class.
    ///
    /// # Errors
    /// [`EvalError::NoRadius`] where that class has none.
    pub fn of(&self, label: Label) -> Result<f64> {
        match self {
            Self::Same(radius) => Ok(*radius),
            Self::PerClass(radii) => radii.get(&label).copied().ok_or(EvalError::NoRadius { label }),
        }
    }

    /// The radii of particles, times a factor.
    pub(crate) fn of_each(&self, truth: &[Particle], factor: f64) -> Result<Vec<f64>> {
        truth
            .iter()
            .map(|particle| Ok(self.of(particle.label)? * factor))
            .collect()
    }

    /// # Errors
    /// [`EvalError::Parameter`] unless every radius is positive and finite.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |radius: &&f64| !(radius.is_finite() && **radius > 0.0);
        let found = match self {
            Self::Same(radius) => Some(radius).filter(wrong),
            Self::PerClass(radii) => radii.values().find(wrong),
        };
        found.map_or(Ok(()), |&found| {
            Err(EvalError::Parameter {
                name: "a radius",
                expected: "a positive number of voxels",
                found,
            })
        })
    }
}
