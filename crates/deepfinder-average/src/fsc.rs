use deepfinder_density::{Fft3, Spectrum, frequency, randomise_phases};
use ndarray::Array3;
use serde::Serialize;

use crate::Result;

/// The correlation of two half-sets at which their common average has an expected phase error of 60°: the resolution of
/// independently refined halves (Rosenthal and Henderson 2003, J. Mol. Biol. 333:721).
pub const FSC_GOLD_STANDARD: f64 = 0.143;

/// The correlation at which each half-set's average holds as much noise as signal: the stricter, older measure.
pub const FSC_HALF: f64 = 0.5;

/// Fourier shell correlation of two maps: how well they agree at each frequency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fsc {
    /// Frequency of each shell in cycles per voxel, from 0 to ½.
    pub frequencies: Vec<f64>,
    /// Correlation of each shell, from −1 to 1.
    pub correlations: Vec<f64>,
}

impl Fsc {
    /// Of two cubes of one shape, each weighed by the mask first.
    ///
    /// # Errors
    /// `Fourier` where the maps have different shapes.
    pub fn of(a: &Array3<f32>, b: &Array3<f32>, mask: &Array3<f32>) -> Result<Self> {
        let fft = Fft3::new(a.dim().into());
        Ok(Self::of_spectra(
            &spectrum(&fft, &(a * mask))?,
            &spectrum(&fft, &(b * mask))?,
            fft.shape(),
        ))
    }

    /// Of the spectra of two cubes of that shape.
    fn of_spectra(a: &Spectrum, b: &Spectrum, [depth, height, width]: [usize; 3]) -> Self {
        let side = width as f64;
        let mut shells = vec![[0.0_f64; 3]; width / 2 + 1];
        for (((z, y, x), a), b) in a.indexed_iter().zip(b) {
            let k = [frequency(z, depth), frequency(y, height), frequency(x, width)];
            let radius = k.iter().map(|k| k * k).sum::<f64>().sqrt();
            let Some(shell) = shells.get_mut((side * radius).round() as usize) else {
                continue;
            };
            // All but those at 0 and at the Nyquist frequency stand for their conjugates too.
            let weight = if x == 0 || 2 * x == width { 1.0 } else { 2.0 };
            shell[0] += weight * f64::from((a * b.conj()).re);
            shell[1] += weight * f64::from(a.norm_sqr());
            shell[2] += weight * f64::from(b.norm_sqr());
        }
        Self {
            frequencies: (0..shells.len()).map(|shell| shell as f64 / side).collect(),
            correlations: shells
                .iter()
                .map(|[ab, aa, bb]| {
                    let norm = (aa * bb).sqrt();
                    if norm > 0.0 { ab / norm } else { 0.0 }
                })
                .collect(),
        }
    }

    /// The frequency in cycles per voxel at which the curve first falls below a threshold, interpolated between shells;
    /// `None` where it stays above up to ½. The shell at 0 does not count.
    pub fn crossing(&self, threshold: f64) -> Option<f64> {
        let points: Vec<(f64, f64)> = self
            .frequencies
            .iter()
            .copied()
            .zip(self.correlations.iter().copied())
            .skip(1)
            .collect();
        let first = points.iter().position(|point| point.1 < threshold)?;
        let Some(&before) = first.checked_sub(1).and_then(|before| points.get(before)) else {
            return points.first().map(|point| point.0);
        };
        let after = points[first];
        let part = (before.1 - threshold) / (before.1 - after.1);
        Some(before.0 + part * (after.0 - before.0))
    }

    /// The curve that so many times as many particles would give, if they were as these: with a spectral signal-to-noise
    /// ratio R of a half-set in a shell, the correlation is R / (R + 1), and R grows with the number of particles
    /// (Rosenthal and Henderson 2003). Shells that correlate by nothing stay as they are.
    #[must_use]
    pub fn with_times_as_many(&self, factor: f64) -> Self {
        let correlations = self.correlations.iter().map(|&correlation| {
            if correlation <= 0.0 {
                correlation
            } else {
                factor * correlation / (1.0 + (factor - 1.0) * correlation)
            }
        });
        Self {
            frequencies: self.frequencies.clone(),
            correlations: correlations.collect(),
        }
    }

    /// The resolution in Å at a threshold: that of the crossing, or twice the voxel size where there is none.
    pub fn resolution_angstrom(&self, threshold: f64, voxel_size_angstrom: f64) -> f64 {
        voxel_size_angstrom / self.crossing(threshold).unwrap_or(0.5)
    }
}

/// The correlation of the unmasked maps below which phases are drawn anew to find what a mask correlates.
const RANDOMISED_BELOW: f64 = 0.8;

/// Shells beyond that frequency in which the mask still mixes in true phases: the masked curve stands for them.
const SHELLS_OF_TRANSITION: usize = 2;

/// Seeds of the two half-sets' phases.
const PHASE_SEEDS: [u64; 2] = [0x5048_4153, 0x4553_3032];

/// Fourier shell correlations of two half-sets, with what the mask itself correlates taken away.
///
/// A mask weighs both halves alike, and that alone makes them agree, the more so the tighter it is. How much, two maps
/// show that have nothing else in common: the half-sets with their phases drawn anew from the frequency on at which the
/// unmasked curve falls below 0.8. From the masked curve m and that of such maps r follows the corrected one,
/// (m − r) / (1 − r) (Chen et al. 2013, Ultramicroscopy 135:24).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FscCurves {
    /// Of the whole boxes.
    pub unmasked: Fsc,
    /// Under the mask.
    pub masked: Fsc,
    /// Under the mask, with phases drawn anew; the masked curve below [`FscCurves::randomised_from`].
    pub randomised: Fsc,
    /// What the particle alone correlates: the curve to read a resolution from.
    pub corrected: Fsc,
    /// Frequency in cycles per voxel from which on phases were drawn anew; `None` where the unmasked curve stays above
    /// 0.8, so that there is nothing to correct.
    pub randomised_from: Option<f64>,
}

impl FscCurves {
    /// Of two cubes of one shape and a mask of theirs. The same bits each time.
    ///
    /// # Errors
    /// `Fourier` where the shapes differ.
    pub fn of(a: &Array3<f32>, b: &Array3<f32>, mask: &Array3<f32>) -> Result<Self> {
        let fft = Fft3::new(a.dim().into());
        let spectra = [spectrum(&fft, a)?, spectrum(&fft, b)?];
        let unmasked = Fsc::of_spectra(&spectra[0], &spectra[1], fft.shape());
        let masked = Fsc::of(a, b, mask)?;
        let shells = unmasked.correlations.iter().skip(1);
        let Some(first) = shells
            .take_while(|&&correlation| correlation >= RANDOMISED_BELOW)
            .count()
            .checked_add(1)
            .filter(|&first| first < unmasked.correlations.len())
        else {
            return Ok(Self {
                randomised: masked.clone(),
                corrected: masked.clone(),
                unmasked,
                masked,
                randomised_from: None,
            });
        };
        let from = unmasked.frequencies[first];
        // Half a shell earlier: a shell is what rounds to its number.
        let border = from - 0.5 / fft.shape()[2] as f64;
        let mut maps = Vec::new();
        for (mut spectrum, seed) in spectra.into_iter().zip(PHASE_SEEDS) {
            randomise_phases(&fft, &mut spectrum, border, seed)?;
            let mut map = Array3::zeros(fft.shape());
            fft.inverse(&mut spectrum, map.view_mut())?;
            maps.push(map);
        }
        let randomised = Fsc::of(&maps[0], &maps[1], mask)?;
        let mut corrected = masked.clone();
        let beyond = first + SHELLS_OF_TRANSITION;
        for (correlation, &random) in corrected
            .correlations
            .iter_mut()
            .zip(&randomised.correlations)
            .skip(beyond)
        {
            *correlation = if random < 1.0 - 1e-6 {
                ((*correlation - random) / (1.0 - random)).clamp(-1.0, 1.0)
            } else {
                0.0
            };
        }
        Ok(Self {
            unmasked,
            masked,
            randomised,
            corrected,
            randomised_from: Some(from),
        })
    }
}

fn spectrum(fft: &Fft3, map: &Array3<f32>) -> Result<Spectrum> {
    let mut spectrum = fft.spectrum();
    fft.forward(map, &mut spectrum)?;
    Ok(spectrum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_density::soft_ball;

    fn curve(correlations: &[f64]) -> Fsc {
        Fsc {
            frequencies: (0..correlations.len()).map(|i| i as f64 / 10.0).collect(),
            correlations: correlations.to_vec(),
        }
    }

    #[test]
    fn a_map_agrees_with_itself_whatever_its_scale() {
        let map = Array3::from_shape_fn((12, 12, 12), |(z, y, x)| {
            ((z * 37 + y * 101 + x * 13) % 17) as f32
        });
        let whole = Array3::ones((12, 12, 12));
        let fsc = Fsc::of(&map, &map.mapv(|voxel| 3.0 * voxel), &whole).unwrap();
        assert_eq!((fsc.frequencies.len(), fsc.frequencies[6]), (7, 0.5));
        assert!(fsc.correlations.iter().all(|c| (c - 1.0).abs() < 1e-6));
        assert_eq!(fsc.crossing(0.5), None);
        let opposite = Fsc::of(&map, &map.mapv(|voxel| -voxel), &whole).unwrap();
        assert!(opposite.correlations.iter().all(|c| (c + 1.0).abs() < 1e-6));
    }

    #[test]
    fn a_mask_takes_away_what_differs_outside() {
        let map = Array3::from_shape_fn((16, 16, 16), |(z, y, x)| {
            ((z * 37 + y * 101 + x * 13) % 17) as f32
        });
        let mut other = map.clone();
        other[[0, 0, 0]] += 500.0;
        let mask = soft_ball(16, 4.0, 2.0);
        let least = |mask: &Array3<f32>| {
            let fsc = Fsc::of(&map, &other, mask).unwrap();
            fsc.correlations.into_iter().fold(1.0, f64::min)
        };
        assert!(least(&mask) > 0.999 && least(&Array3::ones((16, 16, 16))) < 0.9);
    }

    #[test]
    fn what_a_mask_correlates_is_taken_away() {
        use rand::{RngExt, SeedableRng};

        // Two halves that share much that is coarse, and nothing of the little that is fine.
        const SIDE: usize = 32;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let mut white = || Array3::from_shape_simple_fn([SIDE; 3], || rng.random_range(-1.0..1.0_f32));
        let (shared, noise) = (white(), [white(), white()]);
        let fft = Fft3::new([SIDE; 3]);
        let half = |noise: &Array3<f32>| {
            let mut spectrum = spectrum(&fft, &shared).unwrap();
            let other = super::spectrum(&fft, noise).unwrap();
            for ((z, y, x), coefficient) in spectrum.indexed_iter_mut() {
                let k = [z, y, x].map(|i| frequency(i, SIDE));
                if k.iter().map(|k| k * k).sum::<f64>().sqrt() > 0.2 {
                    *coefficient = other[[z, y, x]] * 0.05;
                }
            }
            let mut map = Array3::zeros([SIDE; 3]);
            fft.inverse(&mut spectrum, map.view_mut()).unwrap();
            map
        };
        let [a, b] = noise.each_ref().map(half);
        // A mask with a sharp edge spreads the coarse over all shells.
        let curves = FscCurves::of(&a, &b, &soft_ball(SIDE, 8.0, 0.0)).unwrap();
        assert!((curves.randomised_from.unwrap() - 0.2).abs() < 0.05, "{curves:?}");
        let mean = |fsc: &Fsc, from: f64| {
            let beyond = fsc.frequencies.iter().zip(&fsc.correlations);
            let beyond: Vec<f64> = beyond.filter(|(k, _)| **k > from).map(|(_, c)| *c).collect();
            beyond.iter().sum::<f64>() / beyond.len() as f64
        };
        assert!(mean(&curves.masked, 0.3) > 0.5, "{curves:?}");
        assert!(mean(&curves.corrected, 0.3).abs() < 0.15, "{curves:?}");
        assert_eq!(
            curves.corrected.correlations[..6],
            curves.masked.correlations[..6]
        );

        // The whole box correlates nothing, and maps that agree need no correction.
        let whole = FscCurves::of(&a, &b, &Array3::ones([SIDE; 3])).unwrap();
        assert!((mean(&whole.corrected, 0.3) - mean(&whole.unmasked, 0.3)).abs() < 0.05);
        let same = FscCurves::of(&a, &a, &soft_ball(SIDE, 8.0, 3.0)).unwrap();
        assert_eq!((same.randomised_from, &same.corrected), (None, &same.masked));
    }

    #[test]
    fn more_particles_raise_a_curve() {
        let fsc = curve(&[1.0, 0.5, 0.2, -0.1, 0.0]);
        let found = fsc.with_times_as_many(4.0).correlations;
        for (found, expected) in found.iter().zip([1.0, 0.8, 0.5, -0.1, 0.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        let back = fsc.with_times_as_many(4.0).with_times_as_many(0.25);
        assert!((back.correlations[2] - 0.2).abs() < 1e-12);
    }

    #[test]
    fn crossings_lie_between_shells() {
        let fsc = curve(&[0.0, 0.9, 0.7, 0.3, 0.6, 0.1]);
        assert!((fsc.crossing(0.5).unwrap() - 0.25).abs() < 1e-12);
        assert!((fsc.resolution_angstrom(0.5, 10.0) - 40.0).abs() < 1e-9);
        assert_eq!(fsc.crossing(0.05), None);
        assert_eq!(fsc.resolution_angstrom(0.05, 10.0), 20.0);
        assert_eq!(curve(&[1.0, 0.1, 0.0]).crossing(0.5), Some(0.1));
    }
}
