//! Density maps between their voxels and in Fourier space: what simulation, template matching and averaging share.
//!
//! * [`DensitySampler`] gives a density between its voxels, so that it can be rotated and shifted;
//! * [`Fft3`] transforms a volume, whole or plane by plane, to the half of its spectrum that a real volume needs;
//! * [`wedge`] and [`low_pass`] weigh the spectrum as a tilt series and a finite resolution do, [`soft_ball`] the voxels;
//! * [`Optics`] and [`exposure_filter`] are what microscope and dose do to an image, [`TiltScheme::transfer`] what all
//!   images of a tilt series together do to a reconstruction;
//! * [`randomise_phases`] leaves nothing of a map but its amplitudes.
//!
//! Frequencies are in cycles per voxel; a spectrum is `(k_z, k_y, k_x)` with `k_x` from 0 to ½.
//!
//! ```
//! use deepfinder_core::{Rotation, TiltRange};
//! use deepfinder_density::{DensitySampler, Fft3, Interpolation, wedge};
//! use ndarray::Array3;
//!
//! // A rod along x, turned to lie along y.
//! let mut rod = Array3::zeros((16, 16, 16));
//! rod.slice_mut(ndarray::s![8, 8, 4..13]).fill(1.0_f32);
//! let sampler = DensitySampler::new(&rod, Interpolation::Cubic);
//! let back = Rotation::about_z(90.0).inverse();
//! let mut turned = sampler.resampled([16; 3], |offset| back.apply(offset));
//! assert!((turned[[8, 11, 8]] - 1.0).abs() < 1e-5 && turned[[8, 8, 11]].abs() < 1e-5);
//!
//! // As a tilt series to ±60° sees it.
//! let fft = Fft3::new([16; 3]);
//! let mut spectrum = fft.spectrum();
//! fft.forward(&turned, &mut spectrum)?;
//! let measured = wedge([16; 3], TiltRange::symmetric(60.0), Rotation::IDENTITY);
//! spectrum.zip_mut_with(&measured, |coefficient, weight| *coefficient *= *weight);
//! fft.inverse(&mut spectrum, turned.view_mut())?;
//! assert!(turned[[8, 11, 8]] > 0.5);
//! # Ok::<(), deepfinder_density::FourierError>(())
//! ```

mod fft;
mod optics;
mod phases;
mod sampler;
mod tilts;
mod weights;

pub use fft::{Fft3, FourierError, Spectrum, fast_length, frequency};
pub use optics::{Optics, exposure_filter};
pub use phases::randomise_phases;
pub use sampler::{DensitySampler, Interpolation, cubic_weights};
pub use tilts::{Tilt, TiltScheme};
pub use weights::{low_pass, low_pass_factor, soft_ball, wedge};
