use deepfinder_core::TiltRange;
use deepfinder_density::TiltScheme;

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
    /// The tilt series image by image, with contrast transfer and radiation damage, where it is known: the template is
    /// weighed by [`TiltScheme::transfer`], and `tilt` is not used. `None` by default.
    pub scheme: Option<TiltScheme>,
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
            scheme: None,
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
        if let Some(scheme) = &self.scheme {
            require(
                scheme.tilts.len() >= 2,
                "scheme.tilts",
                scheme.tilts.len() as f64,
                "two tilts at least",
            )?;
            for tilt in &scheme.tilts {
                require(
                    (-90.0..=90.0).contains(&tilt.degrees),
                    "tilt",
                    tilt.degrees,
                    "from −90° to 90°",
                )?;
                require(
                    (0.0..=1e4).contains(&tilt.exposure),
                    "exposure",
                    tilt.exposure,
                    "from 0 to 10 000 e/Å²",
                )?;
                require(
                    tilt.defocus_um.is_none_or(|defocus| defocus.abs() <= 50.0),
                    "defocus_um",
                    tilt.defocus_um.unwrap_or_default(),
                    "from −50 to 50 µm, positive for underfocus",
                )?;
            }
        }
        Ok(())
    }

    /// Whether a length in Å enters.
    pub(crate) fn needs_voxel_size(&self) -> bool {
        let by_scheme = self.scheme.as_ref().is_some_and(|scheme| {
            scheme.optics.is_some() || scheme.tilts.iter().any(|tilt| tilt.exposure > 0.0)
        });
        self.low_pass_angstrom.is_some() || by_scheme
    }
}
