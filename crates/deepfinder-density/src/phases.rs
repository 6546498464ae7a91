use ndarray::{Array3, Zip};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fft::{Fft3, FourierError, Spectrum, frequency};

/// Draws the phases of a spectrum anew from a frequency on, in cycles per voxel, and keeps the amplitudes: what two maps
/// have in common there is lost, and how strong they are is not.
///
/// The phases are those of white noise, so that the volume stays real; they follow from the seed.
///
/// # Errors
/// [`FourierError`] where the spectrum is not of this transform.
pub fn randomise_phases(
    fft: &Fft3,
    spectrum: &mut Spectrum,
    from_frequency: f64,
    seed: u64,
) -> Result<(), FourierError> {
    let shape @ [depth, height, width] = fft.shape();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let noise = Array3::from_shape_simple_fn(shape, || rng.random_range(-0.5..0.5_f32));
    let mut phases = fft.spectrum();
    fft.forward(&noise, &mut phases)?;
    Zip::indexed(spectrum)
        .and(&phases)
        .for_each(|(z, y, x), coefficient, phase| {
            let k = [frequency(z, depth), frequency(y, height), frequency(x, width)];
            let strength = phase.norm();
            if strength > 0.0 && k.iter().map(|k| k * k).sum::<f64>().sqrt() >= from_frequency {
                *coefficient = phase * (coefficient.norm() / strength);
            }
        });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplitudes_stay_and_phases_go() {
        for shape in [[8, 9, 10], [6, 6, 7]] {
            let fft = Fft3::new(shape);
            let volume =
                Array3::from_shape_fn(shape, |(z, y, x)| ((z * 37 + y * 101 + x * 13) % 17) as f32 - 8.0);
            let mut before = fft.spectrum();
            fft.forward(&volume, &mut before).unwrap();
            let mut after = before.clone();
            randomise_phases(&fft, &mut after, 0.2, 5).unwrap();

            // A real volume has the same spectrum again: the conjugates still are conjugates.
            let mut back = Array3::zeros(shape);
            fft.inverse(&mut after.clone(), back.view_mut()).unwrap();
            let mut again = fft.spectrum();
            fft.forward(&back, &mut again).unwrap();
            let (mut kept, mut turned) = (0, 0);
            for (((z, y, x), old), new) in before.indexed_iter().zip(&again) {
                assert!(
                    (old.norm() - new.norm()).abs() < 1e-3 * (1.0 + old.norm()),
                    "{z} {y} {x}"
                );
                let k = [
                    frequency(z, shape[0]),
                    frequency(y, shape[1]),
                    frequency(x, shape[2]),
                ];
                if k.iter().map(|k| k * k).sum::<f64>().sqrt() < 0.2 {
                    assert!((old - new).norm() < 1e-3 * (1.0 + old.norm()));
                    kept += 1;
                } else if (old - new).norm() > 0.1 * old.norm() {
                    turned += 1;
                }
            }
            assert!(kept > 3 && turned > before.len() / 2, "{kept} {turned}");
            let mut other = before.clone();
            randomise_phases(&fft, &mut other, 0.2, 6).unwrap();
            assert_ne!(other, after);
        }
    }
}
