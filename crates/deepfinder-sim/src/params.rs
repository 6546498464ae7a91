use deepfinder_core::{TiltRange, VoxelSize};
use deepfinder_density::Interpolation;

use crate::{Result, SimError};

/// The classes of [`SimParams::demo`], as the file names of `fixtures/templates` begin.
///
/// Five of the larger particles of SHREC'19, different in size or shape, so that a network tells them apart
/// after minutes of training: 26S proteasome, CCT, Rubisco, p97, Cand1–Cul1–Roc1.
pub const DEMO_CLASSES: [&str; 5] = ["4b4t", "4d8q", "1bxn", "3cf3", "1u6g"];

/// Whether particles are darker or lighter than what is around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Contrast {
    /// Density is subtracted, as a reconstructed tomogram shows it.
    #[default]
    Dark,
    /// Density is added.
    Light,
}

/// Gaussian noise in the tomogram.
///
/// In both cases the signal-to-noise ratio is the variance of the noise-free tomogram divided by the variance of
/// the noise as it is in the tomogram, each over all voxels and after all filters that apply to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// No noise.
    None,
    /// White noise is added before the missing wedge and the low-pass filter and so passes both, as the noise of
    /// the projections does in a real reconstruction.
    Filtered {
        /// Signal-to-noise ratio, above 0.
        snr: f64,
    },
    /// White noise is added to the finished tomogram and passes no filter.
    White {
        /// Signal-to-noise ratio, above 0.
        snr: f64,
    },
}

/// What to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct SimParams {
    /// Size of the tomogram, `(z, y, x)`; any numbers. Default 100³.
    pub shape: [usize; 3],
    /// Edge of a voxel; `None` (default) takes the templates'. Templates are not resampled.
    pub voxel_size: Option<VoxelSize>,
    /// Particles of each class to place; default 5. Fewer are placed where there is no more room.
    pub particles_per_class: usize,
    /// Blobs of 2 to 3½ voxels radius that belong to no class and have no label, as small proteins between the
    /// particles; default 0.
    pub crowders: usize,
    /// Vesicles of lipid bilayer, of 120 to 250 Å radius as far as they fit, without label; default 0.
    pub membranes: usize,
    /// Gold beads of 10 nm, without label; default 0.
    pub gold_beads: usize,
    /// Standard deviation of the solvent's density from voxel to voxel, in parts of the densest template's maximum;
    /// default 0. Only tilt series have it: the quick way adds its noise to the tomogram.
    pub grain: f64,
    /// Voxels that stay free between the masks of two particles; default 1.
    pub gap_voxels: f64,
    /// Places and orientations tried before a particle is given up; default 500.
    pub attempts: usize,
    /// A voxel belongs to a particle where the rotated template reaches this fraction of the template's maximum;
    /// default 0.15, which at 10 Å takes in the blurred rim.
    pub mask_fraction: f32,
    /// How templates are sampled; [`Interpolation::Cubic`] by default.
    pub interpolation: Interpolation,
    /// Dark or light particles; [`Contrast::Dark`] by default.
    pub contrast: Contrast,
    /// What the tilt series covers, ±60° by default; `None` leaves no missing wedge.
    pub tilt: Option<TiltRange>,
    /// Resolution in Å at which a Gaussian low-pass filter has come down to ½; `None` (default) for no filter.
    pub low_pass_angstrom: Option<f64>,
    /// Noise; [`Noise::Filtered`] at 0.3 by default.
    pub noise: Noise,
    /// Voxels by which every axis is at least extended for the Fourier filters, so that what leaves a volume at
    /// one face does not come back at the opposite one; default 16. 0 makes the tomogram periodic and exactly
    /// zero in the wedge.
    pub padding_voxels: usize,
    /// Everything random follows from it; default 0. Placement and noise are drawn independently.
    pub seed: u64,
}

impl Default for SimParams {
    fn default() -> Self {
        Self {
            shape: [100; 3],
            voxel_size: None,
            particles_per_class: 5,
            crowders: 0,
            membranes: 0,
            gold_beads: 0,
            grain: 0.0,
            gap_voxels: 1.0,
            attempts: 500,
            mask_fraction: 0.15,
            interpolation: Interpolation::default(),
            contrast: Contrast::default(),
            tilt: Some(TiltRange::symmetric(60.0)),
            low_pass_angstrom: None,
            noise: Noise::Filtered { snr: 0.3 },
            padding_voxels: 16,
            seed: 0,
        }
    }
}

impl SimParams {
    /// A small tomogram for a demonstration: 100³ voxels, eight particles of each of [`DEMO_CLASSES`], with noise
    /// enough to look like a tomogram and little enough for a small network.
    pub fn demo(seed: u64) -> Self {
        Self {
            particles_per_class: 8,
            seed,
            ..Self::default()
        }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// [`SimError::Parameter`] that names the field, [`SimError::TooLarge`].
    pub fn check(&self) -> Result<()> {
        let require = |holds: bool, name, found: String, expected| {
            if holds {
                Ok(())
            } else {
                Err(SimError::Parameter {
                    name,
                    found,
                    expected,
                })
            }
        };
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let shape = self.shape;
        require(
            !shape.contains(&0),
            "shape",
            format!("{shape:?}"),
            "at least 1 voxel on every axis",
        )?;
        require(
            self.gap_voxels.is_finite() && (0.0..=64.0).contains(&self.gap_voxels),
            "gap_voxels",
            self.gap_voxels.to_string(),
            "from 0 to 64",
        )?;
        require(
            (0.0..=100.0).contains(&self.grain),
            "grain",
            self.grain.to_string(),
            "from 0 to 100",
        )?;
        require(
            self.attempts > 0,
            "attempts",
            self.attempts.to_string(),
            "at least 1",
        )?;
        require(
            self.mask_fraction > 0.0 && self.mask_fraction < 1.0,
            "mask_fraction",
            self.mask_fraction.to_string(),
            "between 0 and 1",
        )?;
        if let Some(TiltRange {
            min_degrees,
            max_degrees,
        }) = self.tilt
        {
            require(
                -90.0 <= min_degrees && min_degrees < max_degrees && max_degrees <= 90.0,
                "tilt",
                format!("{min_degrees}° to {max_degrees}°"),
                "an ascending range between −90° and 90°",
            )?;
        }
        if let Some(resolution) = self.low_pass_angstrom {
            require(
                positive(resolution),
                "low_pass_angstrom",
                resolution.to_string(),
                "a positive number of Å",
            )?;
        }
        if let Noise::Filtered { snr } | Noise::White { snr } = self.noise {
            require(positive(snr), "snr", snr.to_string(), "positive and finite")?;
        }
        // Eight bytes a voxel is what the Fourier filter takes, padding included.
        let voxels = shape.iter().try_fold(8_usize, |product, &side| {
            product.checked_mul(side.checked_add(self.padding_voxels)?.checked_mul(2)?)
        });
        voxels
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .map(|_| ())
            .ok_or(SimError::TooLarge { shape })
    }
}
