use std::path::{Path, PathBuf};
use std::sync::Arc;

use deepfinder_cluster::{FilterParams, PeaksParams, filter};
use deepfinder_core::{
    Label, ParticleList, Progress, Region, Rotation, Symmetry, TiltRange, Volume, VolumeReader, orientations,
};
use deepfinder_io::{
    MrcWriter, check_writable, open_volume, read_label_map, read_volume, write_file_atomically,
    write_particles,
};
use deepfinder_match::{MatchParams, MatchReport, match_template};
use serde::Serialize;

use crate::error::OnFile;
use crate::segment::check_output;
use crate::{Length, PipelineError, Result, TomogramOptions, open_tomogram};

/// A template matching to do.
#[derive(Debug, Clone)]
pub struct MatchJob {
    /// The tomogram; its particles are dark, or its options say that they are not.
    pub tomogram: PathBuf,
    /// How to read it.
    pub options: TomogramOptions,
    /// The density that is looked for, positive in the particle, with its centre at `side / 2`.
    pub template: PathBuf,
    /// The list to write.
    pub output: PathBuf,
    /// Class of its particles.
    pub label: Label,
    /// Angle between neighbouring rotations.
    pub step_degrees: f64,
    /// Symmetry of the template.
    pub symmetry: Symmetry,
    /// Tilts of the series; `None` for a tomogram without a missing wedge.
    pub tilt: Option<TiltRange>,
    /// Radius of the mask; from the template where none is given.
    pub mask_radius: Option<Length>,
    /// Resolution in Å to which the template is filtered.
    pub low_pass_angstrom: Option<f64>,
    /// Longest side of a Fourier transform in voxels.
    pub tile_voxels: usize,
    /// Two particles are at least so far apart; the mask's radius where none is given.
    pub min_distance: Option<Length>,
    /// Particles that noise may give; the lowest score follows from it.
    pub false_alarms: f64,
    /// The lowest score of a particle, instead.
    pub min_score: Option<f32>,
    /// At most so many particles are kept, the best.
    pub top: Option<usize>,
    /// Only particles inside this mask are kept.
    pub mask: Option<PathBuf>,
    /// Where to write the score map.
    pub scores: Option<PathBuf>,
    /// Where to write the number of each voxel's best rotation; the rotations stand beside it, as `.csv`.
    pub rotations: Option<PathBuf>,
}

impl MatchJob {
    /// With the defaults of the program: a step of 15°, tilts to ±60°, one false alarm.
    pub fn new(tomogram: &Path, template: &Path, output: &Path) -> Self {
        let params = MatchParams::default();
        Self {
            tomogram: tomogram.to_owned(),
            options: TomogramOptions::default(),
            template: template.to_owned(),
            output: output.to_owned(),
            label: 1,
            step_degrees: 15.0,
            symmetry: Symmetry::C1,
            tilt: params.tilt,
            mask_radius: None,
            low_pass_angstrom: None,
            tile_voxels: params.tile_voxels,
            min_distance: None,
            false_alarms: 1.0,
            min_score: None,
            top: None,
            mask: None,
            scores: None,
            rotations: None,
        }
    }
}

/// What was matched.
#[derive(Debug, Clone, Serialize)]
pub struct Matched {
    /// The list written.
    pub picks: PathBuf,
    /// The particles, best first.
    #[serde(skip)]
    pub particles: ParticleList,
    /// Number of particles.
    pub count: usize,
    /// Rotations tried.
    pub rotations: usize,
    /// The lowest score that was asked for.
    pub min_score: f64,
    /// Mean of all scores, of every voxel and rotation.
    pub mean_score: f64,
    /// Standard deviation of all scores.
    pub standard_deviation: f64,
    /// Seconds that correlation took.
    pub seconds: f64,
    /// Million scores (voxels times rotations) a second.
    pub mscores_per_second: f64,
}

/// Looks for a template in a tomogram and writes the list of what it found, with rotations and scores.
///
/// # Errors
/// For files that cannot be read or written (found before the long work), a template of another voxel size, a tomogram
/// that is constant or not finite, or a setting that makes no sense.
pub fn match_tomogram(job: &MatchJob, progress: &dyn Progress) -> Result<Matched> {
    check_output(&job.output, &job.tomogram)?;
    if !(job.false_alarms.is_finite() && job.false_alarms > 0.0) {
        return Err(PipelineError::input(format!(
            "{} false alarms: it must be a number above 0",
            job.false_alarms
        )));
    }
    let csv = job.rotations.as_ref().map(|path| path.with_extension("csv"));
    for path in [&job.scores, &job.rotations, &csv].into_iter().flatten() {
        check_writable(path)?;
    }
    let tomogram = open_tomogram(&job.tomogram, job.options)?;
    let tomogram = tomogram.as_ref();
    let mut template = read_volume(&job.template)?;
    // Densities are positive, and particles in a tomogram dark.
    template.voxels.mapv_inplace(|voxel| -voxel);
    let voxel_size = tomogram.voxel_size().or(template.voxel_size);
    let in_voxels = |length: Option<Length>| length.map(|length| length.in_voxels(voxel_size)).transpose();
    let mask_radius_voxels = in_voxels(job.mask_radius)?;
    let min_distance = in_voxels(job.min_distance)?;
    let params = MatchParams {
        mask_radius_voxels,
        tilt: job.tilt,
        low_pass_angstrom: job.low_pass_angstrom,
        tile_voxels: job.tile_voxels,
        ..MatchParams::default()
    };
    let rotations = orientations(job.step_degrees, job.symmetry)
        .map_err(|error| PipelineError::input(error.to_string()))?;

    // Maps that nobody asked for are needed all the same, and need not fit in memory.
    let unasked = tempfile::tempdir().map_err(|source| {
        PipelineError::file(&std::env::temp_dir(), "no temporary folder can be made", source)
    })?;
    let path_of =
        |asked: &Option<PathBuf>, name: &str| asked.clone().unwrap_or_else(|| unasked.path().join(name));
    let (scores, best) = (
        path_of(&job.scores, "scores.mrc"),
        path_of(&job.rotations, "rotations.mrc"),
    );
    let (report, seconds) = search(
        tomogram,
        &template,
        &rotations,
        &params,
        [&scores, &best],
        job,
        progress,
    )?;
    if let Some(csv) = &csv {
        write_file_atomically(csv, rotations_csv(&rotations).as_bytes())?;
    }

    let min_score = job
        .min_score
        .map_or_else(|| report.threshold(job.false_alarms), f64::from);
    let distance = min_distance
        .or(mask_radius_voxels)
        .unwrap_or((report.box_voxels as f64 - 1.0) / 2.0 - params.mask_edge_voxels);
    let score_map = open_volume(&scores)?;
    let mut particles = PeaksParams::new(distance.max(1.0), min_score as f32)
        .check()
        .and_then(|peaks| peaks.find(&score_map, job.label, progress))
        .on(&scores)?;
    orient(&mut particles, &best, &rotations)?;
    let mask = job.mask.as_deref().map(read_label_map).transpose()?;
    let kept = FilterParams {
        mask: mask.as_ref(),
        top_n: job.top,
        ..FilterParams::default()
    };
    particles = filter(particles, &kept).on(&job.tomogram)?;
    particles.voxel_size = voxel_size;
    let name: Option<Arc<str>> = job.tomogram.file_stem().map(|stem| stem.to_string_lossy().into());
    particles
        .particles
        .iter_mut()
        .for_each(|particle| particle.tomogram.clone_from(&name));
    write_particles(&job.output, &particles)?;
    Ok(Matched {
        picks: job.output.clone(),
        count: particles.len(),
        particles,
        rotations: report.rotations,
        min_score,
        mean_score: report.mean,
        standard_deviation: report.standard_deviation,
        seconds,
        mscores_per_second: report.trials as f64 / seconds.max(1e-9) / 1e6,
    })
}

/// Writes the maps of the best scores and rotations.
fn search(
    tomogram: &dyn VolumeReader<f32>,
    template: &Volume<f32>,
    rotations: &[Rotation],
    params: &MatchParams,
    [scores, best]: [&Path; 2],
    job: &MatchJob,
    progress: &dyn Progress,
) -> Result<(MatchReport, f64)> {
    let create = |path: &Path| {
        MrcWriter::create(
            path,
            tomogram.shape(),
            tomogram.voxel_size(),
            tomogram.origin_angstrom(),
        )
    };
    let (mut scores, mut best) = (create(scores)?, create(best)?);
    let start = std::time::Instant::now();
    let report = match_template(
        tomogram,
        template,
        rotations,
        params,
        &mut scores,
        &mut best,
        progress,
    )
    .on(&job.tomogram)?;
    scores.finish()?;
    best.finish()?;
    Ok((report, start.elapsed().as_secs_f64()))
}

/// Gives each particle the rotation that scored best in its voxel.
fn orient(particles: &mut ParticleList, best: &Path, rotations: &[Rotation]) -> Result<()> {
    let numbers = open_volume(best)?;
    let shape = numbers.shape();
    for particle in &mut particles.particles {
        let [x, y, z] = particle
            .position
            .map(|coordinate| coordinate.round().max(0.0) as usize);
        let voxel = [z.min(shape[0] - 1), y.min(shape[1] - 1), x.min(shape[2] - 1)];
        let number: ndarray::Array3<f32> = numbers.read_window(Region::new(voxel, [1; 3])).on(best)?;
        particle.rotation = rotations.get(number[[0, 0, 0]] as usize).copied();
    }
    Ok(())
}

fn rotations_csv(rotations: &[Rotation]) -> String {
    let mut csv = "rotation,phi,psi,theta\n".to_owned();
    let line = |(number, rotation): (usize, &Rotation)| {
        let [phi, psi, the] = rotation.to_zxz_degrees();
        format!("{number},{phi:.4},{psi:.4},{the:.4}\n")
    };
    csv.extend(rotations.iter().enumerate().map(line));
    csv
}
