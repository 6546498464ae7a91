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
use deepfinder_match::{Candidate, MatchError, MatchParams, MatchReport, compete, match_template};
use deepfinder_sim::TiltSeriesParams;
use serde::Serialize;

use crate::error::OnFile;
use crate::segment::check_output;
use crate::tilt_angles::read_tilts;
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
    /// The tilt series image by image, with contrast transfer and radiation damage, where it is known.
    pub series: Option<TiltSeriesParams>,
    /// The tilts of `series`, as a file says them.
    pub tilts: Option<PathBuf>,
    /// Other densities that are in the tomogram: what one of them explains better is no particle.
    pub against: Vec<PathBuf>,
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
            series: None,
            tilts: None,
            against: Vec::new(),
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
    /// Places that reached the lowest score, and that another density explains better.
    pub rejected: usize,
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
    job.series
        .as_ref()
        .map_or(Ok(()), TiltSeriesParams::check)
        .map_err(|error| PipelineError::input(error.to_string()))?;
    let tomogram = open_tomogram(&job.tomogram, job.options)?;
    let tomogram = tomogram.as_ref();
    let template = read_template(&job.template)?;
    let others = read_others(job)?;
    let voxel_size = tomogram.voxel_size().or(template.voxel_size);
    let in_voxels = |length: Option<Length>| length.map(|length| length.in_voxels(voxel_size)).transpose();
    let min_distance = in_voxels(job.min_distance)?;
    let scheme = match (&job.series, &job.tilts) {
        (Some(series), Some(path)) => Some(read_tilts(path, series)?),
        (series, _) => series.as_ref().map(TiltSeriesParams::scheme),
    };
    let params = MatchParams {
        mask_radius_voxels: in_voxels(job.mask_radius)?,
        tilt: job.tilt,
        scheme,
        low_pass_angstrom: job.low_pass_angstrom,
        tile_voxels: job.tile_voxels,
        ..MatchParams::default()
    };
    let mut search = Search {
        tomogram,
        job,
        params,
        min_distance,
        seconds: 0.0,
        trials: 0,
    };
    let own_rotations = rotations(job, job.symmetry)?;

    // Maps that nobody asked for are needed all the same, and need not fit in memory.
    let unasked = tempfile::tempdir().map_err(|source| {
        PipelineError::file(&std::env::temp_dir(), "no temporary folder can be made", source)
    })?;
    let temporary = |name: &str| unasked.path().join(name);
    let path_of = |asked: &Option<PathBuf>, name: &str| asked.clone().unwrap_or_else(|| temporary(name));
    let maps = [
        path_of(&job.scores, "scores.mrc"),
        path_of(&job.rotations, "rotations.mrc"),
    ];
    let mut own = search.peaks(
        &template,
        &job.template,
        &own_rotations,
        &maps,
        job.min_score,
        progress,
    )?;
    if let Some(csv) = &csv {
        write_file_atomically(csv, rotations_csv(&own_rotations).as_bytes())?;
    }
    let rivals = search.rivals(&others, unasked.path(), progress)?;
    let mut is_own = compete(&own.candidates(), &rivals).into_iter();
    let before = own.particles.len();
    own.particles.particles.retain(|_| is_own.next().unwrap_or(true));
    let rejected = before - own.particles.len();

    let mut particles = own.particles;
    orient(&mut particles, &maps[1], &own_rotations)?;
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
        rejected,
        rotations: own.report.rotations,
        min_score: own.min_score,
        mean_score: own.report.mean,
        standard_deviation: own.report.standard_deviation,
        seconds: search.seconds,
        mscores_per_second: search.trials as f64 / search.seconds.max(1e-9) / 1e6,
    })
}

/// The densities that the template is set against, each with its file.
fn read_others(job: &MatchJob) -> Result<Vec<(&Path, Volume<f32>)>> {
    let others = job.against.iter();
    others
        .map(|path| Ok((path.as_path(), read_template(path)?)))
        .collect()
}

fn rotations(job: &MatchJob, symmetry: Symmetry) -> Result<Vec<Rotation>> {
    orientations(job.step_degrees, symmetry).map_err(|error| PipelineError::input(error.to_string()))
}

fn read_template(path: &Path) -> Result<Volume<f32>> {
    let mut template = read_volume(path)?;
    // Densities are positive, and particles in a tomogram dark.
    template.voxels.mapv_inplace(|voxel| -voxel);
    Ok(template)
}

/// What the searches of all densities share, and what they took together.
struct Search<'a> {
    tomogram: &'a dyn VolumeReader<f32>,
    job: &'a MatchJob,
    params: MatchParams,
    min_distance: Option<f64>,
    seconds: f64,
    trials: u64,
}

/// Where a density was found.
struct Peaks {
    particles: ParticleList,
    report: MatchReport,
    min_score: f64,
    /// Least distance of two of them in voxels.
    distance: f64,
}

impl Peaks {
    fn candidates(&self) -> Vec<Candidate> {
        let places = self.particles.iter().map(|particle| Candidate {
            position: particle.position,
            deviations: self
                .report
                .deviations(f64::from(particle.score.unwrap_or_default())),
            radius_voxels: self.distance,
        });
        places.collect()
    }
}

impl Search<'_> {
    /// The places of other densities.
    fn rivals(
        &mut self,
        others: &[(&Path, Volume<f32>)],
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Candidate>>> {
        // Their symmetry is not known.
        let all_rotations = rotations(self.job, Symmetry::C1)?;
        let maps = ["other_scores.mrc", "other_rotations.mrc"].map(|name| folder.join(name));
        let mut rivals = Vec::new();
        for (path, other) in others {
            let peaks = self.peaks(other, path, &all_rotations, &maps, None, progress)?;
            rivals.push(peaks.candidates());
        }
        Ok(rivals)
    }

    /// Writes the maps of the best scores and rotations, and finds the peaks that reach the lowest score: that asked for, or
    /// else that of the false alarms.
    fn peaks(
        &mut self,
        template: &Volume<f32>,
        path: &Path,
        rotations: &[Rotation],
        [scores, best]: &[PathBuf; 2],
        min_score: Option<f32>,
        progress: &dyn Progress,
    ) -> Result<Peaks> {
        let create = |path: &Path| {
            MrcWriter::create(
                path,
                self.tomogram.shape(),
                self.tomogram.voxel_size(),
                self.tomogram.origin_angstrom(),
            )
        };
        let (mut score_map, mut best_map) = (create(scores)?, create(best)?);
        let start = std::time::Instant::now();
        let report = match_template(
            self.tomogram,
            template,
            rotations,
            &self.params,
            &mut score_map,
            &mut best_map,
            progress,
        );
        // The template is to blame for what is wrong with it, the tomogram for the rest.
        let is_template = matches!(
            report,
            Err(MatchError::Template { .. } | MatchError::VoxelSize { .. })
        );
        let report = report.on(if is_template { path } else { &self.job.tomogram })?;
        score_map.finish()?;
        best_map.finish()?;
        self.seconds += start.elapsed().as_secs_f64();
        self.trials += report.trials;
        let min_score = min_score.map_or_else(|| report.threshold(self.job.false_alarms), f64::from);
        let mask_radius = self
            .params
            .mask_radius_voxels
            .unwrap_or((report.box_voxels as f64 - 1.0) / 2.0 - self.params.mask_edge_voxels)
            .max(1.0);
        let distance = self.min_distance.unwrap_or(mask_radius).max(1.0);
        let score_map = open_volume(scores)?;
        let particles = PeaksParams::new(distance, min_score as f32)
            .check()
            .and_then(|peaks| peaks.find(&score_map, self.job.label, progress))
            .on(scores)?;
        Ok(Peaks {
            particles,
            report,
            min_score,
            distance,
        })
    }
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
