use deepfinder_core::TiltRange;

use crate::{MatchError, Result};

/// How to match a template.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchParams {
    /// Radius in voxels of the ball within which template and tomogram are compared; `None` (default) takes the
    /// furthest voxel of the template that reaches 5 % of its largest magnitude.
    pub mask_radius_voxels: Option<f64>,
    /// Width of the ball's rim, in voxels, over which its weight falls from 1 to 0 along a cosine; it lies outside the
    /// radius. Default 2.
    pub mask_edge_voxels: f64,
    /// What the tilt series covers, ±60° by default; `None` for a tomogram without a missing wedge.
    pub tilt: Option<TiltRange>,
    /// Resolution in Å at which a Gaussian low-pass filter of the template has come down to ½; `None` (default) for none.
    pub low_pass_angstrom: Option<f64>,
    /// Longest side of a Fourier transform, in voxels. A tile is that less the template's box; larger tiles waste less
    /// on their margins and take more memory: some 12 bytes a voxel of the tile for each thread. It changes scores only
    /// by rounding. Default 192.
    pub tile_voxels: usize,
}

impl Default for MatchParams {
    fn default() -> Self {
        Self {
            mask_radius_voxels: None,
            mask_edge_voxels: 2.0,
            tilt: Some(TiltRange::symmetric(60.0)),
            low_pass_angstrom: None,
            tile_voxels: 192,
        }
    }
}

impl MatchParams {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// [`MatchError::Parameter`] that names the field, or the core's error of a tilt range.
    pub fn check(&self) -> Result<()> {
        let require = |holds: bool, name, found: f64, expected| {
            if holds {
                Ok(())
            } else {
                Err(MatchError::Parameter {
                    name,
                    found: found.to_string(),
                    expected,
                })
            }
        };
        let positive = |number: f64| number.is_finite() && number > 0.0;
        if let Some(radius) = self.mask_radius_voxels {
            require(
                (1.0..=256.0).contains(&radius),
                "mask_radius_voxels",
                radius,
                "from 1 to 256 voxels",
            )?;
        }
        require(
            (0.0..=64.0).contains(&self.mask_edge_voxels),
            "mask_edge_voxels",
            self.mask_edge_voxels,
            "from 0 to 64 voxels",
        )?;
        if let Some(resolution) = self.low_pass_angstrom {
            require(
                positive(resolution),
                "low_pass_angstrom",
                resolution,
                "a positive number of Å",
            )?;
        }
        require(
            (16..=1024).contains(&self.tile_voxels),
            "tile_voxels",
            self.tile_voxels as f64,
            "from 16 to 1024 voxels",
        )?;
        if let Some(tilt) = self.tilt {
            tilt.check()?;
        }
        Ok(())
    }
}
