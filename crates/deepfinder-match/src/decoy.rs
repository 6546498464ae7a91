use deepfinder_core::Volume;
use deepfinder_density::{Fft3, randomise_phases};
use ndarray::Array3;

use crate::Result;

/// A template with the amplitudes of another one and random phases: as dense and as coarse as that particle, and no particle.
///
/// What scores as high with it as with the template itself, is found for its density and not for its shape. The phase of
/// the mean stays as it is; the others follow from the seed.
///
/// # Errors
/// `Fourier`.
pub fn decoy(template: &Volume<f32>, seed: u64) -> Result<Volume<f32>> {
    let shape = template.shape();
    let fft = Fft3::new(shape);
    let mut spectrum = fft.spectrum();
    fft.forward(&template.voxels, &mut spectrum)?;
    let mean_alone = 0.5 / shape.into_iter().max().unwrap_or(1) as f64;
    randomise_phases(&fft, &mut spectrum, mean_alone, seed)?;
    let mut voxels = Array3::zeros(shape);
    fft.inverse(&mut spectrum, voxels.view_mut())?;
    Ok(template.like(voxels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoy_weighs_as_much_and_looks_different() {
        let template = Volume::new(Array3::from_shape_fn((12, 12, 12), |(z, y, x)| {
            f32::from(u8::from(
                (4..8).contains(&z) && (3..9).contains(&y) && (5..8).contains(&x),
            ))
        }));
        let other = decoy(&template, 3).unwrap();
        let power = |volume: &Volume<f32>| volume.voxels.mapv(|voxel| voxel * voxel).sum();
        assert!((other.voxels.sum() - template.voxels.sum()).abs() < 1e-2);
        assert!((power(&other) / power(&template) - 1.0).abs() < 1e-3);
        let product = (&other.voxels * &template.voxels).sum();
        assert!(product < 0.6 * power(&template), "{product}");
        assert_eq!(decoy(&template, 3).unwrap(), other);
    }
}
