use deepfinder_core::Rotation;
use deepfinder_density::{Fft3, Spectrum};
use ndarray::{Array3, Zip};

use crate::Result;
use crate::template::{Template, Workspace};

/// Spread under the mask below which a place has nothing to compare, as a part of the whole tomogram's.
const FLAT: f64 = 1e-3;

/// A piece of the tomogram, transformed, with what its correlation is divided by.
pub(crate) struct Tile {
    spectrum: Spectrum,
    /// 1 / spread of the tomogram under the mask around each voxel of the tile; 0 where there is none.
    inverse_spread: Array3<f32>,
}

impl Tile {
    /// Of voxels `(z, y, x)` with mean 0 and spread 1 in the whole tomogram: the tile and half a box before and behind it.
    pub(crate) fn new(
        fft: &Fft3,
        template: &Template,
        voxels: &Array3<f32>,
        shape: [usize; 3],
    ) -> Result<Self> {
        let mut mask = fft.spectrum();
        fft.forward(&template.mask, &mut mask)?;
        let mut spectrum = fft.spectrum();
        fft.forward(&voxels.mapv(|voxel| voxel * voxel), &mut spectrum)?;
        let mut squares = Array3::zeros(shape);
        correlate(fft, &mut spectrum, &mask, &mut squares)?;

        fft.forward(voxels, &mut spectrum)?;
        let mut sums = Array3::zeros(shape);
        correlate(fft, &mut spectrum.clone(), &mask, &mut sums)?;
        let flat = FLAT.powi(2) * template.mask_sum;
        Zip::from(&mut squares).and(&sums).for_each(|square, &sum| {
            let variance = f64::from(*square) - f64::from(sum).powi(2) / template.mask_sum;
            *square = if variance > flat {
                (1.0 / variance.sqrt()) as f32
            } else {
                0.0
            };
        });
        Ok(Self {
            spectrum,
            inverse_spread: squares,
        })
    }

    pub(crate) fn shape(&self) -> [usize; 3] {
        self.inverse_spread.dim().into()
    }
}

/// Of each voxel of a tile the best score so far, and the number of the rotation that gave it.
pub(crate) struct Best {
    pub(crate) scores: Array3<f32>,
    pub(crate) rotations: Array3<u32>,
}

impl Best {
    pub(crate) fn new(shape: [usize; 3]) -> Self {
        Self {
            scores: Array3::from_elem(shape, f32::NEG_INFINITY),
            rotations: Array3::from_elem(shape, u32::MAX),
        }
    }

    /// The better of both at each voxel; of equals the lower rotation, so that no order of merging matters.
    pub(crate) fn merge(&mut self, other: &Self) {
        Zip::from(&mut self.scores)
            .and(&mut self.rotations)
            .and(&other.scores)
            .and(&other.rotations)
            .for_each(|score, rotation, &other_score, &other_rotation| {
                if other_score > *score || (other_score == *score && other_rotation < *rotation) {
                    (*score, *rotation) = (other_score, other_rotation);
                }
            });
    }
}

/// Sum and sum of squares of a rotation's scores, where there is something to compare.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) squares: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

/// A thread's buffers.
pub(crate) struct Worker<'a> {
    fft: &'a Fft3,
    template: &'a Template,
    workspace: Workspace,
    prepared: Array3<f32>,
    spectrum: Spectrum,
    correlation: Array3<f32>,
    pub(crate) best: Best,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(fft: &'a Fft3, template: &'a Template, shape: [usize; 3]) -> Self {
        Self {
            fft,
            template,
            workspace: template.workspace(),
            prepared: Array3::zeros([template.side(); 3]),
            spectrum: fft.spectrum(),
            correlation: Array3::zeros(shape),
            best: Best::new(shape),
        }
    }

    /// Scores a tile for one rotation and keeps what is better than before.
    pub(crate) fn score(&mut self, tile: &Tile, number: u32, rotation: Rotation) -> Result<Sums> {
        let mut sums = Sums::default();
        if !self
            .template
            .prepare(rotation, &mut self.workspace, &mut self.prepared)?
        {
            return Ok(sums);
        }
        self.fft.forward(&self.prepared, &mut self.spectrum)?;
        // The template's spectrum is conjugated and the tomogram's is not: this is the correlation.
        Zip::from(&mut self.spectrum)
            .and(&tile.spectrum)
            .for_each(|template, tomogram| *template = tomogram * template.conj());
        self.fft
            .inverse(&mut self.spectrum, self.correlation.view_mut())?;
        Zip::from(&self.correlation)
            .and(&tile.inverse_spread)
            .and(&mut self.best.scores)
            .and(&mut self.best.rotations)
            .for_each(|&correlation, &inverse_spread, best, best_rotation| {
                if inverse_spread == 0.0 {
                    return;
                }
                let score = correlation * inverse_spread;
                sums.count += 1;
                sums.sum += f64::from(score);
                sums.squares += f64::from(score) * f64::from(score);
                // A thread takes its rotations in ascending order, so that the first of equals stays.
                if score > *best {
                    (*best, *best_rotation) = (score, number);
                }
            });
        Ok(sums)
    }
}

/// At each place the sum of a volume's voxels from there on, weighed by a box; the volume's spectrum is used up.
fn correlate(fft: &Fft3, volume: &mut Spectrum, weights: &Spectrum, sums: &mut Array3<f32>) -> Result<()> {
    Zip::from(&mut *volume)
        .and(weights)
        .for_each(|volume, weight| *volume *= weight.conj());
    Ok(fft.inverse(volume, sums.view_mut())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MatchParams;
    use crate::tiling::Axis;
    use deepfinder_core::{TiltRange, Volume};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    /// The definition: the correlation coefficient of template and tomogram under the mask's weights.
    fn coefficient(template: &Array3<f32>, mask: &Array3<f32>, voxels: &Array3<f32>, at: [usize; 3]) -> f64 {
        let pairs: Vec<[f64; 3]> = mask
            .indexed_iter()
            .filter(|(_, weight)| **weight > 0.0)
            .map(|((z, y, x), &weight)| {
                // A prepared template is weighed by the mask already.
                let weight = f64::from(weight);
                let voxel = voxels[[at[0] + z, at[1] + y, at[2] + x]];
                [weight, f64::from(template[[z, y, x]]) / weight, f64::from(voxel)]
            })
            .collect();
        let total: f64 = pairs.iter().map(|pair| pair[0]).sum();
        let mean = |of: usize| pairs.iter().map(|pair| pair[0] * pair[of]).sum::<f64>() / total;
        let means = [0.0, mean(1), mean(2)];
        let product = |a: usize, b: usize| -> f64 {
            pairs
                .iter()
                .map(|pair| pair[0] * (pair[a] - means[a]) * (pair[b] - means[b]))
                .sum()
        };
        product(1, 2) / (product(1, 1) * product(2, 2)).sqrt()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn the_fast_correlation_is_the_correlation(
            seed in 0..1000_u64,
            shape in prop::array::uniform3(1..9_usize),
            edge in 0.0..2.5_f64,
            radius in 1.0..3.0_f64,
            has_wedge: bool,
        ) {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let params = MatchParams {
                mask_radius_voxels: Some(radius),
                mask_edge_voxels: edge,
                tilt: has_wedge.then(|| TiltRange::symmetric(57.0)),
                low_pass_angstrom: Some(10.0),
                ..MatchParams::default()
            };
            let density = Array3::from_shape_simple_fn((6, 7, 6), || rng.random::<f32>());
            let template = Template::new(&Volume::new(density), 3.0, &params).unwrap();
            let fft = Fft3::new(shape.map(|length| Axis::new(length, template.side(), 16).transform));
            let voxels = Array3::from_shape_simple_fn(
                shape.map(|length| length + template.side() - 1),
                || 2.0 * rng.random::<f32>() - 1.0,
            );
            let tile = Tile::new(&fft, &template, &voxels, shape).unwrap();
            let mut worker = Worker::new(&fft, &template, shape);
            let rotation = Rotation::random(&mut rng);
            let sums = worker.score(&tile, 7, rotation).unwrap();
            prop_assert_eq!(sums.count, shape.iter().product::<usize>() as u64);
            for ((z, y, x), &found) in worker.best.scores.indexed_iter() {
                let expected = coefficient(&worker.prepared, &template.mask, &voxels, [z, y, x]);
                prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{found} for {expected}");
                prop_assert_eq!(worker.best.rotations[[z, y, x]], 7);
            }
        }
    }

    #[test]
    fn the_better_rotation_wins_and_of_equals_the_lower() {
        let best = |scores: [f32; 3], rotation: u32| Best {
            scores: Array3::from_shape_vec((1, 1, 3), scores.to_vec()).unwrap(),
            rotations: Array3::from_elem((1, 1, 3), rotation),
        };
        for swapped in [false, true] {
            let (mut a, mut b) = (best([0.1, 0.5, 0.3], 4), best([0.2, 0.4, 0.3], 2));
            if swapped {
                std::mem::swap(&mut a, &mut b);
            }
            a.merge(&b);
            assert_eq!(a.scores.into_raw_vec_and_offset().0, [0.2, 0.5, 0.3]);
            assert_eq!(a.rotations.into_raw_vec_and_offset().0, [2, 4, 2]);
        }
    }
}
