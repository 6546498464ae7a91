use deepfinder_core::{Particle, Progress, Volume, VoxelSize};
use deepfinder_density::{Fft3, soft_ball};
use ndarray::Array3;
use serde::Serialize;

use crate::align::{Round, align, in_box};
use crate::subtomogram::{Pose, Source, poses};
use crate::sums::Sums;
use crate::{AverageError, AverageParams, FSC_GOLD_STANDARD, Fsc, FscCurves, Result};

/// Part of a reference's power (the sum of squares) that must lie in the box: what is cut off is noise, or little.
const MOST_OF_A_REFERENCE: f64 = 0.9;

/// Relative difference of voxel sizes up to which tomograms and reference fit together: what headers round away.
const VOXEL_SIZE_TOLERANCE: f32 = 0.02;

/// The average of particles, and what it is worth.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Average {
    /// The average of all particles, a cube; the particle's centre is on voxel `side / 2`.
    pub map: Volume<f32>,
    /// The averages of the two half-sets.
    pub halves: [Volume<f32>; 2],
    /// Their Fourier shell correlation under the soft mask, and corrected for what the mask itself correlates.
    pub fsc: FscCurves,
    /// The particles of each source with their positions, rotations and scores as they came out; those whose box
    /// reaches outside their tomogram are left out.
    pub particles: Vec<Vec<Particle>>,
    /// Number of particles left out.
    pub outside: usize,
    /// The rounds of alignment.
    pub iterations: Vec<Iteration>,
}

/// A round of alignment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Iteration {
    /// Angle between neighbouring rotations.
    pub step_degrees: f64,
    /// Frequency in cycles per voxel to which the reference was filtered.
    pub frequency: f64,
    /// Mean correlation coefficient of particles and reference.
    pub mean_score: f64,
    /// Frequency up to which the half-sets agree after it ([`FSC_GOLD_STANDARD`]); `None`: up to ½.
    pub crossing: Option<f64>,
}

/// Aligns particles and averages them.
///
/// In each round a particle is compared with the reference in rotations about its own (or in all of them, where it has none)
/// and at all shifts, and takes the best. Both half-sets start from the same reference (the one given, or the
/// average of the half-set as its particles lie), filtered to [`AverageParams::initial_frequency`], and from then on
/// each has its own: they agree only in what the particles tell. Everything is the same bits whatever the number of
/// threads.
///
/// # Errors
/// As [`AverageParams::check`]; [`AverageError::TooFew`], [`AverageError::NoRotation`], [`AverageError::Reference`],
/// [`AverageError::VoxelSize`], [`AverageError::Subtomogram`]; where reading fails; `Cancelled`.
pub fn average(
    sources: &[Source<'_>],
    reference: Option<&Volume<f32>>,
    params: &AverageParams,
    progress: &dyn Progress,
) -> Result<Average> {
    params.check()?;
    let side = params.side_voxels;
    let voxel_size = common_voxel_size(sources, reference)?;
    let (mut poses, outside) = poses(sources, side);
    if poses.len() < 2 {
        return Err(AverageError::TooFew {
            found: poses.len(),
            outside,
            side,
        });
    }
    let unoriented = poses.iter().filter(|pose| pose.rotation.is_none()).count();
    if unoriented > 0 && (reference.is_none() || params.iterations == 0) {
        return Err(AverageError::NoRotation { found: unoriented });
    }
    let work = Work {
        sources,
        params,
        fft: Fft3::new([side; 3]),
        mask: soft_ball(side, params.mask_radius(), params.mask_edge_voxels),
    };
    let mut averaged = match reference {
        Some(map) if params.iterations > 0 => {
            let reference = in_box(&map.voxels, side);
            let power = |map: &Array3<f32>| map.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
            let inside = power(&reference) / power(&map.voxels);
            if inside.is_nan() || inside < MOST_OF_A_REFERENCE {
                let found = map.shape();
                return Err(AverageError::Reference { found, side, inside });
            }
            Averaged {
                map: reference.clone(),
                halves: [reference.clone(), reference],
                fsc: None,
            }
        }
        _ => work.average(&poses, progress)?,
    };
    let mut iterations = Vec::new();
    let mut frequency = params.initial_frequency;
    for number in 0..params.iterations {
        let round = Round {
            step_degrees: (params.step_degrees / f64::from(1_u32 << number)).max(0.5),
            global: params.global && number == 0,
            frequency,
        };
        align(sources, &mut poses, &averaged.halves, round, params, progress)?;
        averaged = work.average(&poses, progress)?;
        let crossing = averaged
            .fsc
            .as_ref()
            .and_then(|fsc| fsc.crossing(FSC_GOLD_STANDARD));
        let scores = poses.iter().filter_map(|pose| pose.score);
        iterations.push(Iteration {
            step_degrees: round.step_degrees,
            frequency,
            mean_score: scores.map(f64::from).sum::<f64>() / poses.len() as f64,
            crossing,
        });
        frequency = crossing.unwrap_or(0.5).max(params.initial_frequency);
    }
    let fsc = FscCurves::of(&averaged.halves[0], &averaged.halves[1], &work.mask)?;
    let volume = |voxels| Volume::new(voxels).with_voxel_size(voxel_size);
    Ok(Average {
        map: volume(averaged.map),
        halves: averaged.halves.map(volume),
        fsc,
        particles: refined(sources, &poses),
        outside,
        iterations,
    })
}

/// Averages under way.
struct Averaged {
    map: Array3<f32>,
    halves: [Array3<f32>; 2],
    /// `None` for a reference that was given.
    fsc: Option<Fsc>,
}

/// What all rounds share.
struct Work<'a> {
    sources: &'a [Source<'a>],
    params: &'a AverageParams,
    fft: Fft3,
    mask: Array3<f32>,
}

impl Work<'_> {
    fn average(&self, poses: &[Pose], progress: &dyn Progress) -> Result<Averaged> {
        progress.begin("averaging", poses.len() as u64, "particles");
        let half = |half| {
            Sums::of_half(
                half,
                self.sources,
                poses,
                &self.fft,
                self.params.tilt,
                self.params.symmetry,
                progress,
            )
        };
        let (mut first, second) = (half(0)?, half(1)?);
        progress.end();
        let halves = [first.average(&self.fft)?, second.average(&self.fft)?];
        first.add(&second);
        Ok(Averaged {
            map: first.average(&self.fft)?,
            fsc: Some(Fsc::of(&halves[0], &halves[1], &self.mask)?),
            halves,
        })
    }
}

fn refined(sources: &[Source<'_>], poses: &[Pose]) -> Vec<Vec<Particle>> {
    let mut particles = vec![Vec::new(); sources.len()];
    for pose in poses {
        let mut particle = sources[pose.source].particles[pose.index].clone();
        particle.position = pose.position;
        particle.rotation = pose.rotation;
        particle.score = pose.score;
        particles[pose.source].push(particle);
    }
    particles
}

fn common_voxel_size(sources: &[Source<'_>], reference: Option<&Volume<f32>>) -> Result<Option<VoxelSize>> {
    let of_tomograms = sources.iter().map(|source| source.tomogram.voxel_size());
    let of_reference = reference.map(|map| map.voxel_size);
    let mut common: Option<VoxelSize> = None;
    for size in of_tomograms.chain(of_reference).flatten() {
        match common {
            Some(known) if !known.agrees_with(size, VOXEL_SIZE_TOLERANCE) => {
                return Err(AverageError::VoxelSize { a: known, b: size });
            }
            _ => common = common.or(Some(size)),
        }
    }
    Ok(common)
}
