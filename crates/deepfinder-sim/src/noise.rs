use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Generators for one seed that don't overlap: one to place particles, one for every row of noise.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Stream of the generator that places particles; rows of noise follow.
pub(crate) const PLACEMENT_STREAM: u64 = 0;

/// Fills a row with white noise of variance 1; the same for the same seed and row, whoever asks when.
pub(crate) fn fill_row(seed: u64, row: u64, voxels: &mut [f32]) {
    let mut rng = generator(seed, PLACEMENT_STREAM + 1 + row);
    for pair in voxels.chunks_mut(2) {
        // Box and Muller; 1 − u is never 0.
        let [u, v]: [f32; 2] = [rng.random(), rng.random()];
        let length = (-2.0 * (1.0 - u).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * v).sin_cos();
        for (voxel, part) in pair.iter_mut().zip([cosine, sine]) {
            *voxel = length * part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_normal_and_differs_from_row_to_row() {
        let rows: Vec<f32> = (0..100)
            .flat_map(|row| {
                let mut voxels = [0.0; 501];
                fill_row(3, row, &mut voxels);
                voxels
            })
            .collect();
        let n = rows.len() as f64;
        let moment = |power| rows.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.02, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.03, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.2, "fourth moment {}", moment(4));
        let neighbours: f64 = rows
            .chunks(501)
            .zip(rows.chunks(501).skip(1))
            .flat_map(|(a, b)| a.iter().zip(b))
            .map(|(&a, &b)| f64::from(a * b))
            .sum();
        assert!((neighbours / n).abs() < 0.02);
    }
}
