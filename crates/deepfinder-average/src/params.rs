use deepfinder_core::{Symmetry, TiltRange};

use crate::{AverageError, Result};

/// How to average.
#[derive(Debug, Clone, PartialEq)]
pub struct AverageParams {
    /// Side of a particle's box in voxels, even: the particle's centre is on voxel `side / 2` of each axis. About twice
    /// the particle's diameter leaves room to rotate and shift.
    pub side_voxels: usize,
    /// Radius of the ball in which the average is compared, in voxels; `None` (default) for what the box holds with its
    /// edge.
    pub mask_radius_voxels: Option<f64>,
    /// Width of the ball's rim, over which its weight falls from 1 to 0, in voxels. Default 3.
    pub mask_edge_voxels: f64,
    /// What the tilt series cover, ±60° by default; `None` for tomograms without a missing wedge.
    pub tilt: Option<TiltRange>,
    /// Symmetry that the average is given; none by default.
    pub symmetry: Symmetry,
    /// Rounds of alignment; 0 averages the particles as their list has them. Default 3.
    pub iterations: usize,
    /// Search all orientations in the first round, also of particles that have one. Those without are searched so
    /// anyway. Default false.
    pub global: bool,
    /// Angle between neighbouring rotations in the first round; half of that in each further one. A search about known
    /// orientations reaches two steps far. Default 16°.
    pub step_degrees: f64,
    /// A round shifts a particle by no more than that, in voxels. Default 4.
    pub max_shift_voxels: f64,
    /// Frequency in cycles per voxel to which the reference is filtered in the first round; later ones go as far as the
    /// half-sets agree. Default 0.1: a tenth of a voxel's reciprocal, or 10 voxels.
    pub initial_frequency: f64,
}

impl AverageParams {
    /// The defaults for a box of that side in voxels.
    pub fn new(side_voxels: usize) -> Self {
        Self {
            side_voxels,
            mask_radius_voxels: None,
            mask_edge_voxels: 3.0,
            tilt: Some(TiltRange::symmetric(60.0)),
            symmetry: Symmetry::C1,
            iterations: 3,
            global: false,
            step_degrees: 16.0,
            max_shift_voxels: 4.0,
            initial_frequency: 0.1,
        }
    }

    pub(crate) fn mask_radius(&self) -> f64 {
        self.mask_radius_voxels
            .unwrap_or((self.side_voxels as f64 / 2.0 - 1.0 - self.mask_edge_voxels).max(1.0))
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// [`AverageError::Parameter`] that names the field, or the core's error of a tilt range.
    pub fn check(&self) -> Result<()> {
        let require = |holds: bool, name, found: String, expected| {
            if holds {
                Ok(())
            } else {
                Err(AverageError::Parameter {
                    name,
                    found,
                    expected,
                })
            }
        };
        let side = self.side_voxels;
        require(
            (8..=512).contains(&side) && side.is_multiple_of(2),
            "side_voxels",
            side.to_string(),
            "an even number of voxels from 8 to 512",
        )?;
        let half = side as f64 / 2.0;
        if let Some(radius) = self.mask_radius_voxels {
            require(
                (1.0..=half).contains(&radius),
                "mask_radius_voxels",
                radius.to_string(),
                "from 1 voxel to half the box",
            )?;
        }
        require(
            (0.0..=half).contains(&self.mask_edge_voxels),
            "mask_edge_voxels",
            self.mask_edge_voxels.to_string(),
            "from 0 voxels to half the box",
        )?;
        require(
            self.iterations <= 20,
            "iterations",
            self.iterations.to_string(),
            "20 at most: the angular step is halved each time",
        )?;
        require(
            (0.5..=90.0).contains(&self.step_degrees),
            "step_degrees",
            self.step_degrees.to_string(),
            "from 0.5° to 90°",
        )?;
        require(
            (0.0..=half - 2.0).contains(&self.max_shift_voxels),
            "max_shift_voxels",
            self.max_shift_voxels.to_string(),
            "from 0 voxels to 2 less than half the box",
        )?;
        require(
            self.initial_frequency > 0.0 && self.initial_frequency <= 0.5,
            "initial_frequency",
            self.initial_frequency.to_string(),
            "above 0 and at most ½ a cycle per voxel",
        )?;
        if let Some(tilt) = self.tilt {
            tilt.check()?;
        }
        Ok(())
    }
}
