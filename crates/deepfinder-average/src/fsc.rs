use deepfinder_density::{Fft3, frequency};
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
        let spectrum = |map: &Array3<f32>| {
            let mut spectrum = fft.spectrum();
            fft.forward(&(map * mask), &mut spectrum).map(|()| spectrum)
        };
        let (a_spectrum, b_spectrum) = (spectrum(a)?, spectrum(b)?);
        let [depth, height, width] = fft.shape();
        let side = width as f64;
        let mut shells = vec![[0.0_f64; 3]; width / 2 + 1];
        for (((z, y, x), a), b) in a_spectrum.indexed_iter().zip(&b_spectrum) {
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
        Ok(Self {
            frequencies: (0..shells.len()).map(|shell| shell as f64 / side).collect(),
            correlations: shells
                .iter()
                .map(|[ab, aa, bb]| {
                    let norm = (aa * bb).sqrt();
                    if norm > 0.0 { ab / norm } else { 0.0 }
                })
                .collect(),
        })
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

    /// The resolution in Å at a threshold: that of the crossing, or twice the voxel size where there is none.
    pub fn resolution_angstrom(&self, threshold: f64, voxel_size_angstrom: f64) -> f64 {
        voxel_size_angstrom / self.crossing(threshold).unwrap_or(0.5)
    }
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
    fn crossings_lie_between_shells() {
        let fsc = curve(&[0.0, 0.9, 0.7, 0.3, 0.6, 0.1]);
        assert!((fsc.crossing(0.5).unwrap() - 0.25).abs() < 1e-12);
        assert!((fsc.resolution_angstrom(0.5, 10.0) - 40.0).abs() < 1e-9);
        assert_eq!(fsc.crossing(0.05), None);
        assert_eq!(fsc.resolution_angstrom(0.05, 10.0), 20.0);
        assert_eq!(curve(&[1.0, 0.1, 0.0]).crossing(0.5), Some(0.1));
    }
}
