//! What goes over the wire: structs of their own, so that the core types need not be JSON.

use deepfinder_core::{Label, Particle, ParticleList, Rotation};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// A particle; positions in voxels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireParticle {
    x: f64,
    y: f64,
    z: f64,
    label: Label,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// ZXZ angles `(phi, psi, the)` in degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    angles: Option<[f64; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tomogram: Option<String>,
}

impl From<&Particle> for WireParticle {
    fn from(particle: &Particle) -> Self {
        let [x, y, z] = particle.position;
        Self {
            x,
            y,
            z,
            label: particle.label,
            score: particle.score,
            size: particle.size_voxels,
            angles: particle.rotation.map(Rotation::to_zxz_degrees),
            tomogram: particle.tomogram.as_deref().map(str::to_owned),
        }
    }
}

/// The particles of a list.
pub(crate) fn to_wire(list: &[Particle]) -> Vec<WireParticle> {
    list.iter().map(WireParticle::from).collect()
}

/// The list that a page sent.
pub(crate) fn from_wire(particles: Vec<WireParticle>) -> Result<ParticleList, ApiError> {
    let particles = particles.into_iter().enumerate().map(|(index, particle)| {
        let position = [particle.x, particle.y, particle.z];
        if particle.label == 0
            || !position
                .iter()
                .all(|value| value.is_finite() && value.abs() < 1e7)
        {
            return Err(ApiError::bad(format!(
                "particle {} has no class or no place: label {} at {position:?}",
                index + 1,
                particle.label
            )));
        }
        let rotation = particle
            .angles
            .map(|[phi, psi, the]| Rotation::from_zxz_degrees(phi, psi, the));
        Ok(Particle {
            score: particle.score,
            size_voxels: particle.size,
            tomogram: particle.tomogram.map(Into::into),
            ..Particle::new(position, particle.label).with_rotation(rotation)
        })
    });
    Ok(ParticleList::from(particles.collect::<Result<Vec<_>, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn particles_come_back_and_senseless_ones_do_not() {
        let particle = Particle {
            score: Some(0.5),
            size_voxels: Some(7),
            tomogram: Some("a".into()),
            ..Particle::new([1.5, 2.0, 3.25], 4)
        };
        let wire = to_wire(std::slice::from_ref(&particle));
        assert_eq!(from_wire(wire.clone()).unwrap().particles, [particle]);
        assert!(
            from_wire(vec![WireParticle {
                label: 0,
                ..wire[0].clone()
            }])
            .is_err()
        );
        assert!(
            from_wire(vec![WireParticle {
                x: f64::NAN,
                ..wire[0].clone()
            }])
            .is_err()
        );
    }
}
