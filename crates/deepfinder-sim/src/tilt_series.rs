use deepfinder_core::{CoreError, Progress, TiltRange, VoxelSize};
use deepfinder_density::{Fft3, Optics, Tilt, TiltScheme, exposure_filter, fast_length, frequency};
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::filter::fourier_error;
use crate::{Result, SimError, noise};

/// Pixels around an image for its Fourier filters: further than the contrast transfer function spreads at the voxel
/// sizes of tomograms.
const PADDING: usize = 32;
/// Finest step between tilts in degrees.
const FINEST_STEP: f64 = 0.1;

/// How a tilt series is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct TiltSeriesParams {
    /// Lowest and highest tilt; ±60° by default.
    pub tilt: TiltRange,
    /// Degrees from one tilt to the next; default 3.
    pub step_degrees: f64,
    /// The microscope; `None` for a transfer function of 1 everywhere, in which matter keeps its sign.
    pub optics: Option<Optics>,
    /// Electrons per Å² over all tilts, from which radiation damage follows; default 100, 0 for no damage. The tilts are
    /// taken from the one nearest 0° outwards, to both sides in turn (dose-symmetric).
    pub exposure: f64,
    /// Signal-to-noise ratio of the images: the variance of the noise-free images, its mean over all tilts, divided by that
    /// of the white noise, which is the same for all tilts. Default 0.1; `None` for no noise.
    pub snr: Option<f64>,
    /// Turn the phases that the transfer function has reversed back before reconstruction; default yes.
    pub flip_phases: bool,
}

impl Default for TiltSeriesParams {
    fn default() -> Self {
        Self {
            tilt: TiltRange::symmetric(60.0),
            step_degrees: 3.0,
            optics: Some(Optics::default()),
            exposure: 100.0,
            snr: Some(0.1),
            flip_phases: true,
        }
    }
}

impl TiltSeriesParams {
    /// The tilts in degrees, ascending.
    pub fn tilts_degrees(&self) -> Vec<f64> {
        let TiltRange {
            min_degrees,
            max_degrees,
        } = self.tilt;
        let steps = ((max_degrees - min_degrees) / self.step_degrees + 1e-6).floor() as usize;
        (0..=steps)
            .map(|i| min_degrees + i as f64 * self.step_degrees)
            .collect()
    }

    /// The images of the series, and what they do to a reconstruction.
    pub fn scheme(&self) -> TiltScheme {
        TiltScheme {
            tilts: Tilt::dose_symmetric(&self.tilts_degrees(), self.exposure),
            optics: self.optics,
            phases_flipped: self.flip_phases,
        }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// [`SimError::Parameter`] that names the field; `TiltRange`.
    pub fn check(&self) -> Result<()> {
        self.tilt.check()?;
        let optics = self.optics.unwrap_or_default();
        let range = self.tilt.max_degrees - self.tilt.min_degrees;
        let checks = [
            (
                "step_degrees",
                self.step_degrees,
                FINEST_STEP..=range,
                "at least 0.1°, and not more than the range of tilts",
            ),
            ("exposure", self.exposure, 0.0..=1e4, "from 0 to 10 000 e/Å²"),
            ("snr", self.snr.unwrap_or(1.0), 1e-6..=1e6, "positive and finite"),
            (
                "voltage_kv",
                optics.voltage_kv,
                10.0..=3000.0,
                "from 10 to 3000 kV",
            ),
            (
                "spherical_aberration_mm",
                optics.spherical_aberration_mm,
                0.0..=20.0,
                "from 0 to 20 mm",
            ),
            (
                "amplitude_contrast",
                optics.amplitude_contrast,
                0.0..=1.0,
                "from 0 to 1",
            ),
            (
                "defocus_um",
                optics.defocus_um,
                -50.0..=50.0,
                "from −50 to 50 µm, positive for underfocus",
            ),
        ];
        for (name, found, allowed, expected) in checks {
            if !allowed.contains(&found) {
                return Err(SimError::Parameter {
                    name,
                    found: found.to_string(),
                    expected,
                });
            }
        }
        Ok(())
    }
}

/// The images of a tilt series, aligned: the tilt axis is y, through the middle of each image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TiltSeries {
    /// The images `(tilt, y, x)`, wide enough for all of the specimen at every tilt.
    pub images: Array3<f32>,
    /// The tilts in degrees, ascending.
    pub tilts_degrees: Vec<f64>,
    /// Edge of a pixel, where it is known.
    pub voxel_size: Option<VoxelSize>,
}

impl TiltSeries {
    /// Projections of an empty specimen of that shape `(z, y, x)`.
    pub(crate) fn empty(shape: [usize; 3], params: &TiltSeriesParams, voxel_size: Option<VoxelSize>) -> Self {
        let tilts_degrees = params.tilts_degrees();
        let width = tilts_degrees.iter().fold(0.0, |width: f64, tilt| {
            let (sine, cosine) = tilt.to_radians().sin_cos();
            width.max(shape[2] as f64 * cosine + shape[0] as f64 * sine.abs())
        });
        // Two taps to each side, and as even as the specimen, so that their middles lie on pixels alike.
        let margin = (width.ceil() as usize + 4).saturating_sub(shape[2]).div_ceil(2);
        let width = shape[2] + 2 * margin;
        Self {
            images: Array3::zeros((tilts_degrees.len(), shape[1], width)),
            tilts_degrees,
            voxel_size,
        }
    }

    /// What the microscope makes of the projections: contrast transfer, radiation damage, noise.
    ///
    /// `width` is the specimen's, in which the signal is measured.
    pub(crate) fn expose(
        &mut self,
        params: &TiltSeriesParams,
        width: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (_, height, all) = self.images.dim();
        if params.optics.is_some() || params.exposure > 0.0 {
            let Some(size) = self.voxel_size else {
                return Err(SimError::UnknownVoxelSize);
            };
            let per_angstrom = 1.0 / f64::from(size.angstrom());
            let tilts = params.scheme().tilts;
            let voltage = params.optics.unwrap_or_default().voltage_kv;
            let filter = ImageFilter::new([height, all], [PADDING; 2]);
            progress.begin("exposing", tilts.len() as u64, "tilts");
            self.images
                .axis_iter_mut(Axis(0))
                .into_par_iter()
                .zip(tilts)
                .try_for_each(|(mut image, tilt)| {
                    filter.apply(&mut image, |k_y, k_x| {
                        let k = k_y.hypot(k_x) * per_angstrom;
                        let transfer = params.optics.map_or(1.0, |optics| optics.transfer(k));
                        transfer * exposure_filter(k, tilt.exposure, voltage)
                    })?;
                    progress.advance(1);
                    Ok::<_, SimError>(progress.check()?)
                })?;
            progress.end();
        }
        let Some(snr) = params.snr else { return Ok(()) };
        let margin = (all - width) / 2;
        let variances: Vec<f64> = self
            .images
            .axis_iter(Axis(0))
            .into_par_iter()
            .map(|image| {
                let middle = image.slice(s![.., margin..margin + width]);
                deepfinder_core::Moments::of(middle.iter())
                    .standard_deviation()
                    .powi(2)
            })
            .collect();
        let signal = variances.iter().sum::<f64>() / variances.len() as f64;
        if signal <= 0.0 {
            return Err(SimError::NoSignal);
        }
        let scale = (signal / snr).sqrt() as f32;
        self.images
            .axis_iter_mut(Axis(0))
            .into_par_iter()
            .enumerate()
            .for_each(|(tilt, mut image)| {
                let mut row = vec![0.0; all];
                for (y, mut pixels) in image.outer_iter_mut().enumerate() {
                    noise::fill_row(seed, (tilt * height + y) as u64, &mut row);
                    pixels
                        .iter_mut()
                        .zip(&row)
                        .for_each(|(pixel, noise)| *pixel += scale * noise);
                }
            });
        Ok(())
    }

    /// The images as back-projection needs them: weighted by a ramp along x, with phases turned back where asked.
    pub(crate) fn weighted(&self, params: &TiltSeriesParams) -> Result<Self> {
        let (_, height, width) = self.images.dim();
        // Twice as wide, so that the ramp's long tails don't come back at the other side.
        let filter = ImageFilter::new([height, width], [PADDING, width]);
        let ramp = ramp(filter.fft.shape()[2])?;
        let optics = params.optics.filter(|_| params.flip_phases);
        let per_angstrom = self
            .voxel_size
            .map_or(1.0, |size| 1.0 / f64::from(size.angstrom()));
        let length = filter.fft.shape()[2] as f64;
        let mut weighted = self.clone();
        weighted
            .images
            .axis_iter_mut(Axis(0))
            .into_par_iter()
            .try_for_each(|mut image| {
                filter.apply(&mut image, |k_y, k_x| {
                    let sign = optics.map_or(1.0, |optics| {
                        // Dark stays dark.
                        -optics.transfer(k_y.hypot(k_x) * per_angstrom).signum()
                    });
                    sign * ramp[(k_x.abs() * length).round() as usize]
                })
            })?;
        Ok(weighted)
    }
}

/// The ramp |k| up to the Nyquist frequency, as the transform of its impulse response at each pixel (Ramachandran &
/// Lakshminarayanan, PNAS 68, 1971): sampling |k| itself would lose the mean.
fn ramp(length: usize) -> Result<Vec<f64>> {
    let fft = Fft3::new([1, 1, length]);
    let response = Array3::from_shape_fn((1, 1, length), |(_, _, i)| match i.min(length - i) {
        0 => 0.25,
        n if n % 2 == 1 => -1.0 / (std::f64::consts::PI * n as f64).powi(2) as f32,
        _ => 0.0,
    });
    let mut spectrum = fft.spectrum();
    fft.forward(&response, &mut spectrum).map_err(fourier_error)?;
    Ok(spectrum
        .iter()
        .map(|coefficient| f64::from(coefficient.re))
        .collect())
}

/// Filters images of one size.
struct ImageFilter {
    fft: Fft3,
}

impl ImageFilter {
    /// For images `[y, x]`, with at least so many pixels of padding.
    fn new(shape: [usize; 2], padding: [usize; 2]) -> Self {
        let [height, width] = [0, 1].map(|axis| fast_length(shape[axis] + padding[axis]));
        Self {
            fft: Fft3::new([1, height, width]),
        }
    }

    /// Multiplies an image's coefficients by weights of their frequencies `(k_y, k_x)` in cycles per pixel.
    fn apply(&self, image: &mut ArrayViewMut2<'_, f32>, weight: impl Fn(f64, f64) -> f64) -> Result<()> {
        let [_, height, width] = self.fft.shape();
        let mut spectrum = self.fft.spectrum();
        let mut plane = spectrum.index_axis_mut(Axis(0), 0);
        self.fft
            .forward_plane(&mut plane, image.nrows(), |y, row| {
                row.iter_mut()
                    .zip(image.row(y))
                    .for_each(|(to, from)| *to = *from);
            })
            .map_err(fourier_error)?;
        let scale = 1.0 / (height as f64 * width as f64);
        for ((y, x), coefficient) in plane.indexed_iter_mut() {
            *coefficient *= (scale * weight(frequency(y, height), frequency(x, width))) as f32;
        }
        self.fft.inverse_plane(&mut plane, image).map_err(fourier_error)
    }
}

/// Adds the projections of some planes of a specimen of that depth, the first of which is plane `first`.
///
/// A voxel goes to the four pixels around its place with the weights of cubic convolution, which add up to 1: projections
/// keep the mass.
pub(crate) fn project(
    series: &mut TiltSeries,
    planes: &ArrayView3<'_, f32>,
    first: usize,
    depth: usize,
    progress: &dyn Progress,
) -> Result<(), CoreError> {
    let width = planes.dim().2;
    let TiltSeries {
        images,
        tilts_degrees,
        ..
    } = series;
    images
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(tilts_degrees)
        .try_for_each(|(mut image, tilt)| {
            progress.check()?;
            for (z, plane) in planes.outer_iter().enumerate() {
                let taps = Taps::of(*tilt, first + z, depth, width, image.ncols());
                for (row, mut pixels) in plane.outer_iter().zip(image.outer_iter_mut()) {
                    let Some(pixels) = pixels.as_slice_mut() else {
                        continue;
                    };
                    for (&voxel, (start, weights)) in row.iter().zip(&taps.0) {
                        if voxel != 0.0 {
                            let taps = &mut pixels[*start..*start + 4];
                            taps.iter_mut()
                                .zip(weights)
                                .for_each(|(pixel, weight)| *pixel += voxel * weight);
                        }
                    }
                }
            }
            Ok(())
        })
}

/// Where the voxels of a row along x lie in a tilt's image: the first of four pixels, and their weights.
pub(crate) struct Taps(pub(crate) Vec<(usize, [f32; 4])>);

impl Taps {
    pub(crate) fn of(tilt_degrees: f64, z: usize, depth: usize, width: usize, image_width: usize) -> Self {
        let (sine, cosine) = tilt_degrees.to_radians().sin_cos();
        let middle = |side: usize| (side as f64 - 1.0) / 2.0;
        let from_z = (z as f64 - middle(depth)) * sine + middle(image_width);
        Self(
            (0..width)
                .map(|x| {
                    let at = (x as f64 - middle(width)) * cosine + from_z;
                    let pixel = at.floor();
                    let weights = deepfinder_density::cubic_weights((at - pixel) as f32);
                    // Inside by the choice of the width; bounded all the same.
                    let start = (pixel as usize)
                        .saturating_sub(1)
                        .min(image_width.saturating_sub(4));
                    (start, weights)
                })
                .collect(),
        )
    }

    /// Adds what an image's row says of a row of voxels, times a factor.
    pub(crate) fn gather(&self, pixels: &ArrayView2<'_, f32>, factor: f32, mut rows: ArrayViewMut2<'_, f32>) {
        for (pixels, mut row) in pixels.outer_iter().zip(rows.outer_iter_mut()) {
            let (Some(pixels), Some(row)) = (pixels.as_slice(), row.as_slice_mut()) else {
                continue;
            };
            for (voxel, (start, weights)) in row.iter_mut().zip(&self.0) {
                let taps = &pixels[*start..*start + 4];
                let sum: f32 = taps
                    .iter()
                    .zip(weights)
                    .map(|(pixel, weight)| pixel * weight)
                    .sum();
                *voxel += factor * sum;
            }
        }
    }
}
