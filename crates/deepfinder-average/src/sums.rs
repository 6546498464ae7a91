use deepfinder_core::{Progress, Rotation, Symmetry, TiltRange};
use deepfinder_density::{DensitySampler, Fft3, Interpolation, Spectrum, wedge};
use ndarray::{Array3, Zip};
use rayon::prelude::*;

use crate::Result;
use crate::subtomogram::{Pose, Source, extract};

/// Pieces that the particles of a half-set are added up in: always as many, so that sums are the same bits whatever
/// the number of threads.
const PIECES: usize = 16;

/// Times that a coefficient must have been measured to count.
const LEAST_MEASURED: f32 = 0.5;

/// Particles added up in their own frame.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    coefficients: Spectrum,
    /// How often each coefficient was measured.
    measured: Array3<f32>,
}

impl Sums {
    fn new(fft: &Fft3) -> Self {
        let coefficients = fft.spectrum();
        Self {
            measured: Array3::zeros(coefficients.dim()),
            coefficients,
        }
    }

    /// Of the poses of a half-set.
    pub(crate) fn of_half(
        half: usize,
        sources: &[Source<'_>],
        poses: &[Pose],
        fft: &Fft3,
        tilt: Option<TiltRange>,
        symmetry: Symmetry,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let poses: Vec<&Pose> = poses.iter().filter(|pose| pose.half == half).collect();
        let group = symmetry.rotations();
        let pieces = poses
            .par_chunks(poses.len().div_ceil(PIECES).max(1))
            .map(|poses| {
                let mut sums = Self::new(fft);
                for pose in poses {
                    progress.check()?;
                    sums.add_particle(sources, pose, fft, tilt, &group)?;
                    progress.advance(1);
                }
                Ok(sums)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut total = Self::new(fft);
        for piece in &pieces {
            total.add(piece);
        }
        Ok(total)
    }

    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.coefficients += &other.coefficients;
        self.measured += &other.measured;
    }

    fn add_particle(
        &mut self,
        sources: &[Source<'_>],
        pose: &Pose,
        fft: &Fft3,
        tilt: Option<TiltRange>,
        group: &[Rotation],
    ) -> Result<()> {
        let shape = fft.shape();
        let cube = extract(sources, pose, shape[0])?;
        let sampler = DensitySampler::new(&cube, Interpolation::Cubic);
        let (_, shift) = pose.centre();
        let mut spectrum = fft.spectrum();
        for turn in group {
            let tomogram_from_particle = turn.then(pose.rotation.unwrap_or(Rotation::IDENTITY));
            let turned = sampler.resampled(shape, |offset| {
                let place = tomogram_from_particle.apply(offset);
                std::array::from_fn(|axis| place[axis] + shift[axis])
            });
            fft.forward(&turned, &mut spectrum)?;
            match tilt {
                None => {
                    self.coefficients += &spectrum;
                    self.measured += 1.0;
                }
                Some(tilt) => {
                    let measured = wedge(shape, tilt, tomogram_from_particle);
                    Zip::from(&mut self.coefficients)
                        .and(&spectrum)
                        .and(&measured)
                        .for_each(|sum, coefficient, weight| *sum += coefficient * weight);
                    self.measured += &measured;
                }
            }
        }
        Ok(())
    }

    /// The average: each coefficient divided by how often it was measured, 0 where it never was.
    pub(crate) fn average(&self, fft: &Fft3) -> Result<Array3<f32>> {
        let mut spectrum = self.coefficients.clone();
        Zip::from(&mut spectrum)
            .and(&self.measured)
            .for_each(|coefficient, &measured| {
                *coefficient *= if measured >= LEAST_MEASURED {
                    1.0 / measured
                } else {
                    0.0
                };
            });
        let mut map = Array3::zeros(fft.shape());
        fft.inverse(&mut spectrum, map.view_mut())?;
        Ok(map)
    }
}
