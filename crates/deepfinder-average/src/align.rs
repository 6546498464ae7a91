use deepfinder_core::{Progress, Rotation, orientations, orientations_within};
use deepfinder_density::{DensitySampler, Fft3, Interpolation, Spectrum, low_pass, soft_ball, wedge};
use ndarray::{Array3, Zip, s};
use rayon::prelude::*;

use crate::subtomogram::{Pose, Source, extract};
use crate::{AverageParams, Result};

/// Particles and rotated references that are held as spectra at a time in a search of all orientations.
const PARTICLES_AT_A_TIME: usize = 256;
const ROTATIONS_AT_A_TIME: usize = 64;

/// A search about a known orientation reaches so many steps far.
const STEPS_OF_A_NEIGHBOURHOOD: f64 = 2.0;

/// How a round looks for orientations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Round {
    pub(crate) step_degrees: f64,
    /// All orientations for every particle, not just for those that have none.
    pub(crate) global: bool,
    /// Frequency in cycles per voxel to which the references are filtered.
    pub(crate) frequency: f64,
}

/// Aligns each pose to the reference of its half-set: changes its position, rotation and score.
pub(crate) fn align(
    sources: &[Source<'_>],
    poses: &mut [Pose],
    references: &[Array3<f32>; 2],
    round: Round,
    params: &AverageParams,
    progress: &dyn Progress,
) -> Result<()> {
    let aligner = Aligner::new(references, round.frequency, params);
    progress.begin("aligning", poses.len() as u64, "particles");
    let is_global = |pose: &Pose| round.global || pose.rotation.is_none();
    let (mut everywhere, mut nearby): (Vec<_>, Vec<_>) = poses.iter_mut().partition(|pose| is_global(pose));
    let near = orientations_within(round.step_degrees, STEPS_OF_A_NEIGHBOURHOOD * round.step_degrees)?;
    nearby
        .par_iter_mut()
        .try_for_each(|pose| aligner.refine(sources, pose, &near, progress))?;
    if !everywhere.is_empty() {
        let all = orientations(round.step_degrees, params.symmetry)?;
        for chunk in everywhere.chunks_mut(PARTICLES_AT_A_TIME) {
            aligner.search(sources, chunk, &all, progress)?;
        }
    }
    progress.end();
    Ok(())
}

/// A rotated reference as the tilt series shows it, conjugated and weighed; and the root of its power.
struct Rotated {
    spectrum: Spectrum,
    norm: f64,
}

/// A particle's spectrum, rolled so that the lowest shift comes first; and the root of its power under the weights.
struct Cube {
    spectrum: Spectrum,
    norm: f64,
}

/// What is best so far for a particle.
#[derive(Debug, Clone, Copy)]
struct Found {
    score: f64,
    rotation: Rotation,
    /// `(x, y, z)` from the middle voxel of the box.
    shift: [f64; 3],
}

struct Aligner {
    fft: Fft3,
    /// Of each half-set.
    references: [DensitySampler; 2],
    mask: Array3<f32>,
    /// Wedge and low-pass filter; 0 at frequency 0.
    weights: Array3<f32>,
    max_shift: f64,
    /// Voxels that the correlation is computed for on each side, one more than shifts may go.
    reach: usize,
}

impl Aligner {
    fn new(references: &[Array3<f32>; 2], frequency: f64, params: &AverageParams) -> Self {
        let shape = [params.side_voxels; 3];
        let mut weights = low_pass(shape, frequency);
        if let Some(tilt) = params.tilt {
            weights *= &wedge(shape, tilt, Rotation::IDENTITY);
        }
        weights[[0, 0, 0]] = 0.0;
        Self {
            fft: Fft3::new(shape),
            references: references
                .each_ref()
                .map(|reference| DensitySampler::new(reference, Interpolation::Cubic)),
            mask: soft_ball(params.side_voxels, params.mask_radius(), params.mask_edge_voxels),
            weights,
            max_shift: params.max_shift_voxels,
            reach: params.max_shift_voxels.ceil() as usize + 1,
        }
    }

    /// Tries the rotations near the one that a pose has.
    fn refine(
        &self,
        sources: &[Source<'_>],
        pose: &mut Pose,
        near: &[Rotation],
        progress: &dyn Progress,
    ) -> Result<()> {
        progress.check()?;
        let cube = self.cube(sources, pose)?;
        let known = pose.rotation.unwrap_or(Rotation::IDENTITY);
        let mut best = None;
        let mut product = self.fft.spectrum();
        for turn in near {
            let rotation = known.then(*turn);
            let rotated = self.rotated(pose.half, rotation)?;
            self.compare(&cube, &rotated, rotation, &mut product, &mut best)?;
        }
        take(pose, best);
        progress.advance(1);
        Ok(())
    }

    /// Tries all these rotations for all these poses; each rotated reference serves every particle of its half-set.
    fn search(
        &self,
        sources: &[Source<'_>],
        poses: &mut [&mut Pose],
        all: &[Rotation],
        progress: &dyn Progress,
    ) -> Result<()> {
        let cubes: Vec<Cube> = poses
            .par_iter()
            .map(|pose| self.cube(sources, pose))
            .collect::<Result<_>>()?;
        let mut found: Vec<Option<Found>> = vec![None; poses.len()];
        for rotations in all.chunks(ROTATIONS_AT_A_TIME) {
            for half in 0..2 {
                let rotated: Vec<Rotated> = rotations
                    .par_iter()
                    .map(|rotation| self.rotated(half, *rotation))
                    .collect::<Result<_>>()?;
                let of_half: Vec<_> = found
                    .iter_mut()
                    .zip(&cubes)
                    .zip(poses.iter())
                    .filter(|(_, pose)| pose.half == half)
                    .map(|(work, _)| work)
                    .collect();
                of_half
                    .into_par_iter()
                    .try_for_each(|(best, cube)| -> Result<()> {
                        progress.check()?;
                        let mut product = self.fft.spectrum();
                        for (rotated, rotation) in rotated.iter().zip(rotations) {
                            self.compare(cube, rotated, *rotation, &mut product, best)?;
                        }
                        Ok(())
                    })?;
            }
        }
        for (pose, best) in poses.iter_mut().zip(found) {
            take(pose, best);
        }
        progress.advance(poses.len() as u64);
        Ok(())
    }

    fn cube(&self, sources: &[Source<'_>], pose: &Pose) -> Result<Cube> {
        let side = self.fft.shape()[0];
        let voxels = extract(sources, pose, side)?;
        // The correlation is periodic: rolled by the reach, shifts of −reach to +reach are its first voxels.
        let rolled = Array3::from_shape_fn(voxels.dim(), |(z, y, x)| {
            let [z, y, x] = [z, y, x].map(|i| (i + side - self.reach) % side);
            voxels[[z, y, x]]
        });
        let mut spectrum = self.fft.spectrum();
        self.fft.forward(&rolled, &mut spectrum)?;
        let norm = self.power(&spectrum).sqrt();
        Ok(Cube { spectrum, norm })
    }

    fn rotated(&self, half: usize, rotation: Rotation) -> Result<Rotated> {
        let back = rotation.inverse();
        let mut turned = self.references[half].resampled(self.fft.shape(), |offset| back.apply(offset));
        turned *= &self.mask;
        let mut spectrum = self.fft.spectrum();
        self.fft.forward(&turned, &mut spectrum)?;
        let norm = self.power(&spectrum).sqrt();
        Zip::from(&mut spectrum)
            .and(&self.weights)
            .for_each(|coefficient, &weight| *coefficient = coefficient.conj() * weight);
        Ok(Rotated { spectrum, norm })
    }

    /// Sum of the squares of all coefficients under the weights.
    fn power(&self, spectrum: &Spectrum) -> f64 {
        let width = self.fft.shape()[2];
        let terms = spectrum.indexed_iter().zip(&self.weights);
        terms
            .map(|(((_, _, x), coefficient), &weight)| {
                let twice = if x == 0 || 2 * x == width { 1.0 } else { 2.0 };
                twice * f64::from(weight) * f64::from(coefficient.norm_sqr())
            })
            .sum()
    }

    /// Keeps the best shift for a rotation where it is better than what was found before. The score is the correlation
    /// coefficient of reference and particle over what the tilt series measured (Förster et al. 2005, PNAS 102:4729).
    fn compare(
        &self,
        cube: &Cube,
        rotated: &Rotated,
        rotation: Rotation,
        product: &mut Spectrum,
        best: &mut Option<Found>,
    ) -> Result<()> {
        let norm = cube.norm * rotated.norm;
        if norm.is_nan() || norm <= 0.0 {
            return Ok(());
        }
        Zip::from(&mut *product)
            .and(&cube.spectrum)
            .and(&rotated.spectrum)
            .for_each(|product, cube, reference| *product = cube * reference);
        let mut correlation = Array3::zeros([2 * self.reach + 1; 3]);
        self.fft.inverse(product, correlation.view_mut())?;
        // The transform's own scale: Parseval's sum is over all voxels' coefficients.
        let voxels: usize = self.fft.shape().iter().product();
        let Some((voxel, peak)) = self.peak(&correlation) else {
            return Ok(());
        };
        let score = f64::from(peak) * voxels as f64 / norm;
        if best.is_none_or(|best| score > best.score) {
            *best = Some(Found {
                score,
                rotation,
                shift: self.refined(&correlation, voxel),
            });
        }
        Ok(())
    }

    /// The highest voxel within the largest shift.
    fn peak(&self, correlation: &Array3<f32>) -> Option<([usize; 3], f32)> {
        let reach = self.reach as f64;
        let inside = correlation.indexed_iter().filter(|((z, y, x), _)| {
            let squared: f64 = [*z, *y, *x].iter().map(|i| (*i as f64 - reach).powi(2)).sum();
            squared <= self.max_shift.powi(2)
        });
        inside.fold(
            None,
            |best: Option<([usize; 3], f32)>, ((z, y, x), &value)| match best {
                Some((_, highest)) if highest >= value => best,
                _ => Some(([z, y, x], value)),
            },
        )
    }

    /// The top of the parabola through a voxel and its neighbours on each axis, as a shift `(x, y, z)`.
    fn refined(&self, correlation: &Array3<f32>, voxel: [usize; 3]) -> [f64; 3] {
        std::array::from_fn(|place| {
            let axis = 2 - place;
            // The reach leaves a voxel on each side.
            let along: Vec<f64> = (0..3)
                .map(|step| {
                    let mut at = voxel;
                    at[axis] = (at[axis] + step).saturating_sub(1);
                    correlation.get(at).map_or(f64::NAN, |&value| f64::from(value))
                })
                .collect();
            let top = 0.5 * (along[0] - along[2]) / (along[0] - 2.0 * along[1] + along[2]);
            let top = if top.is_finite() {
                top.clamp(-0.5, 0.5)
            } else {
                0.0
            };
            voxel[axis] as f64 - self.reach as f64 + top
        })
    }
}

fn take(pose: &mut Pose, best: Option<Found>) {
    if let Some(best) = best {
        let (centre, _) = pose.centre();
        pose.position = std::array::from_fn(|axis| centre[axis] as f64 + best.shift[axis]);
        pose.rotation = Some(best.rotation);
        pose.score = Some(best.score as f32);
    }
}

/// A reference for both half-sets, in the middle of a box of that side: padded with zeros, or cut, on each axis.
pub(crate) fn in_box(map: &Array3<f32>, side: usize) -> Array3<f32> {
    let shape: [usize; 3] = map.dim().into();
    let mut boxed = Array3::zeros([side; 3]);
    // Centres are at `side / 2` and `length / 2`.
    let [to_z, to_y, to_x] = shape.map(|length| (side / 2).saturating_sub(length / 2));
    let [z, y, x] = shape.map(|length| (length / 2).saturating_sub(side / 2));
    let [depth, height, width] = shape.map(|length| length.min(side));
    boxed
        .slice_mut(s![to_z..to_z + depth, to_y..to_y + height, to_x..to_x + width])
        .assign(&map.slice(s![z..z + depth, y..y + height, x..x + width]));
    boxed
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::{NoProgress, Particle, Volume};

    /// An irregular map of four balls in a box of 24³.
    fn map() -> Array3<f32> {
        let balls = [
            ([-5.0, 0.0, -2.0], 3.5_f32),
            ([4.0, -1.0, -1.0], 2.5),
            ([4.5, 6.0, 1.0], 2.0),
            ([1.0, 0.0, 6.0], 2.0),
        ];
        Array3::from_shape_fn((24, 24, 24), |(z, y, x)| {
            let soft = |(centre, radius): &([f32; 3], f32)| {
                let offset = [x as f32 - 12.0, y as f32 - 12.0, z as f32 - 12.0];
                let squared: f32 = (0..3).map(|axis| (offset[axis] - centre[axis]).powi(2)).sum();
                (radius + 0.5 - squared.sqrt()).clamp(0.0, 1.0)
            };
            balls.iter().map(soft).sum()
        })
    }

    #[test]
    fn a_shift_and_a_rotation_come_back() {
        let (rotation, shift) = (Rotation::from_zxz_degrees(40.0, -70.0, 65.0), [1.6, -2.3, 0.7]);
        let back = rotation.inverse();
        let sampler = DensitySampler::new(&map(), Interpolation::Cubic);
        // A particle at (20, 18, 19) and a bit, in a tomogram of 40³.
        let tomogram = Volume::new(sampler.resampled([40; 3], |offset| {
            let from_particle = [
                offset[0] + 20.0 - 20.0 - shift[0],
                offset[1] + 20.0 - 18.0 - shift[1],
                offset[2] + 20.0 - 19.0 - shift[2],
            ];
            back.apply(from_particle)
        }));
        let params = AverageParams {
            tilt: None,
            ..AverageParams::new(24)
        };
        let check = |start: Option<Rotation>, step_degrees: f64, most_degrees: f64| {
            let particles = [Particle::new([20.0, 18.0, 19.0], 1).with_rotation(start)];
            let sources = [Source {
                tomogram: &tomogram,
                particles: &particles,
            }];
            let (mut poses, _) = crate::subtomogram::poses(&sources, 24);
            let round = Round {
                step_degrees,
                global: false,
                frequency: 0.25,
            };
            align(&sources, &mut poses, &[map(), map()], round, &params, &NoProgress).unwrap();
            let angle = poses[0].rotation.unwrap().angle_to(rotation);
            assert!(angle <= most_degrees, "{angle}°");
            for axis in 0..3 {
                let moved = poses[0].position[axis] - [20.0, 18.0, 19.0][axis];
                assert!((moved - shift[axis]).abs() < 0.35, "{:?}", poses[0].position);
            }
            poses[0].score.unwrap()
        };
        // Known exactly, near by, and not at all.
        let exact = check(Some(rotation), 5.0, 0.01);
        assert!(exact > 0.95 && exact <= 1.0 + 1e-4, "{exact}");
        check(
            Some(rotation.then(Rotation::from_rotation_vector([6.0, -4.0, 3.0]))),
            4.0,
            4.0,
        );
        check(None, 25.0, 25.0);
    }

    #[test]
    fn a_smaller_or_larger_reference_keeps_its_centre() {
        for (shape, side) in [
            ([7; 3], 12),
            ([8; 3], 12),
            ([17; 3], 12),
            ([18, 5, 12], 12),
            ([9; 3], 8),
        ] {
            let map = Array3::from_shape_fn(shape, |(z, y, x)| (1 + (z * 31 + y) * 37 + x) as f32);
            let boxed = in_box(&map, side);
            assert_eq!(boxed.dim(), (side, side, side));
            for ((z, y, x), &value) in boxed.indexed_iter() {
                let at = |i: usize, length: usize| (i + length / 2).checked_sub(side / 2);
                let from = (at(z, shape[0]), at(y, shape[1]), at(x, shape[2]));
                let expected = match from {
                    (Some(z), Some(y), Some(x)) => map.get([z, y, x]).copied().unwrap_or(0.0),
                    _ => 0.0,
                };
                assert_eq!(value, expected, "{shape:?} {z} {y} {x}");
            }
        }
    }
}
