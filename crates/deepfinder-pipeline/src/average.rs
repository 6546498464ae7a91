use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deepfinder_average::{
    AverageParams, FSC_GOLD_STANDARD, FSC_HALF, Fsc, Iteration, MaskThreshold, Source, average,
    threshold_mask,
};
use deepfinder_core::{
    Label, Particle, ParticleList, Progress, Symmetry, TiltRange, VolumeReader, VoxelSize,
};
use deepfinder_io::{
    ReadOptions, check_writable, read_particles, read_volume, write_file_atomically, write_mrc,
    write_particles,
};
use serde::Serialize;

use crate::error::OnFile;
use crate::fsc_curves::{curves, fsc_csv, fsc_svg};
use crate::{Length, PipelineError, Result, TomogramOptions, open_tomogram};

/// An averaging to do.
#[derive(Debug, Clone)]
pub struct AverageJob {
    /// The particles; of several tomograms, each names its own by its file's name without the ending.
    pub picks: PathBuf,
    /// How to read them.
    pub read: ReadOptions,
    /// The tomograms; their particles are dark, or the options say that they are not.
    pub tomograms: Vec<PathBuf>,
    /// How to read the tomograms.
    pub options: TomogramOptions,
    /// The map to write, bright in the particle. Beside it stand, under its name: `_half1.mrc`, `_half2.mrc`, `_mask.mrc`,
    /// `_fsc.csv`, `_fsc.svg` and `_particles.xml`.
    pub output: PathBuf,
    /// Only particles of this class.
    pub label: Option<Label>,
    /// A map to align to, bright in the particle.
    pub reference: Option<PathBuf>,
    /// Side of a particle's box; the reference's where none is given.
    pub side: Option<Length>,
    /// Radius of the mask.
    pub mask_radius: Option<Length>,
    /// Tilts of the series; `None` for tomograms without a missing wedge.
    pub tilt: Option<TiltRange>,
    /// Symmetry that the average is given.
    pub symmetry: Symmetry,
    /// Rounds of alignment.
    pub iterations: usize,
    /// Search all orientations in the first round.
    pub global: bool,
    /// Angle between neighbouring rotations in the first round.
    pub step_degrees: f64,
    /// Largest shift of a round.
    pub max_shift: Option<Length>,
    /// Resolution in Å to which the reference is filtered in the first round.
    pub initial_resolution_angstrom: Option<f64>,
    /// From how many standard deviations on a voxel belongs to the mask; found from the map where none is given.
    pub mask_deviations: Option<f64>,
}

impl AverageJob {
    /// With the defaults of the program.
    pub fn new(picks: &Path, tomograms: &[PathBuf], output: &Path) -> Self {
        let params = AverageParams::new(8);
        Self {
            picks: picks.to_owned(),
            read: ReadOptions::default(),
            tomograms: tomograms.to_vec(),
            options: TomogramOptions::default(),
            output: output.to_owned(),
            label: None,
            reference: None,
            side: None,
            mask_radius: None,
            tilt: params.tilt,
            symmetry: params.symmetry,
            iterations: params.iterations,
            global: params.global,
            step_degrees: params.step_degrees,
            max_shift: None,
            initial_resolution_angstrom: None,
            mask_deviations: None,
        }
    }

    /// A file beside the map.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.output.file_stem().unwrap_or_default().to_owned();
        name.push(ending);
        self.output.with_file_name(name)
    }
}

/// What was averaged.
#[derive(Debug, Clone, Serialize)]
pub struct Averaged {
    /// The map.
    pub map: PathBuf,
    /// The maps of the half-sets.
    pub halves: [PathBuf; 2],
    /// The shape of the particle, for targets.
    pub mask: PathBuf,
    /// Voxels of that shape.
    pub mask_voxels: u64,
    /// The Fourier shell correlation, as a table and as a picture.
    pub fsc: [PathBuf; 2],
    /// The particles as they came out.
    pub picks: PathBuf,
    /// Particles averaged.
    pub particles: usize,
    /// Particles left out because their box reaches outside.
    pub outside: usize,
    /// Side of the box in voxels.
    pub box_voxels: usize,
    /// Resolution in voxels at a Fourier shell correlation of 0.143 and of 0.5, corrected for the mask; 2 where the curve stays
    /// above.
    pub resolution_voxels: [f64; 2],
    /// The same in Å, where the voxel size is known.
    pub resolution_angstrom: Option<[f64; 2]>,
    /// The resolutions of each curve, the corrected one last.
    pub curves: Vec<CurveResolution>,
    /// What two and four times as many particles would give, if they were as these.
    pub with_more_particles: Vec<MoreParticles>,
    /// The rounds of alignment.
    pub iterations: Vec<Iteration>,
}

/// The resolution that a curve gives, in Å or else in voxels.
#[derive(Debug, Clone, Serialize)]
pub struct CurveResolution {
    /// The curve: unmasked, masked, randomised (masked, with random phases) or corrected.
    pub curve: &'static str,
    /// At 0.143.
    pub at_gold_standard: f64,
    /// At 0.5.
    pub at_half: f64,
}

/// The resolution to expect of more particles, in Å or else in voxels.
#[derive(Debug, Clone, Serialize)]
pub struct MoreParticles {
    /// So many times as many.
    pub times: u32,
    /// At a corrected Fourier shell correlation of 0.143.
    pub at_gold_standard: f64,
    /// At 0.5.
    pub at_half: f64,
}

/// Averages the particles of a list, and writes the map with all that belongs to it.
///
/// # Errors
/// For files that cannot be read or written (found before the long work), particles of tomograms that are not given,
/// and as `deepfinder_average`.
pub fn average_particles(job: &AverageJob, progress: &dyn Progress) -> Result<Averaged> {
    let halves = [job.beside("_half1.mrc"), job.beside("_half2.mrc")];
    let (mask, picks) = (job.beside("_mask.mrc"), job.beside("_particles.xml"));
    let fsc = [job.beside("_fsc.csv"), job.beside("_fsc.svg")];
    for path in [&job.output, &mask, &picks]
        .into_iter()
        .chain(&halves)
        .chain(&fsc)
    {
        check_writable(path)?;
        let inputs = job.tomograms.iter().chain([&job.picks]).chain(&job.reference);
        if inputs.into_iter().any(|input| same_file(input, path)) {
            return Err(PipelineError::input(format!(
                "{}: this would overwrite the input of that name; choose another name for the map",
                path.display()
            )));
        }
    }
    let mut list = read_particles(&job.picks, &job.read)?;
    if let Some(label) = job.label {
        list.particles.retain(|particle| particle.label == label);
    }
    let shared = share_out(&list, &job.tomograms, &job.picks)?;
    // Tomograms show particles dark, and maps show them bright.
    let options = TomogramOptions {
        invert: !job.options.invert,
        ..job.options
    };
    let readers: Vec<Arc<dyn VolumeReader<f32>>> = job
        .tomograms
        .iter()
        .map(|path| open_tomogram(path, options))
        .collect::<Result<_>>()?;
    let sources: Vec<Source<'_>> = readers
        .iter()
        .zip(&shared)
        .map(|(reader, particles)| Source {
            tomogram: reader.as_ref(),
            particles,
        })
        .collect();
    let reference = job.reference.as_deref().map(read_volume).transpose()?;
    let voxel_size = readers.iter().find_map(|reader| reader.voxel_size());
    let params = params(
        job,
        reference.as_ref().map(deepfinder_core::Volume::shape),
        voxel_size,
    )?;
    let result = average(&sources, reference.as_ref(), &params, progress).on(&job.picks)?;

    let threshold = job
        .mask_deviations
        .map_or(MaskThreshold::Automatic, MaskThreshold::Deviations);
    let shape = threshold_mask(&result.map, threshold).on(&job.output)?;
    write_mrc(&job.output, &result.map)?;
    for (path, half) in halves.iter().zip(&result.halves) {
        write_mrc(path, half)?;
    }
    write_mrc(&mask, &shape)?;
    let angstrom = voxel_size.map(VoxelSize::angstrom).map(f64::from);
    write_file_atomically(&fsc[0], fsc_csv(&result.fsc, angstrom).as_bytes())?;
    write_file_atomically(&fsc[1], fsc_svg(&result.fsc, angstrom)?.as_bytes())?;
    let refined = ParticleList {
        particles: result.particles.into_iter().flatten().collect(),
        voxel_size,
    };
    write_particles(&picks, &refined)?;
    let corrected = &result.fsc.corrected;
    let unit = angstrom.unwrap_or(1.0);
    let of_curves = curves(&result.fsc).map(|(curve, fsc)| {
        let [at_gold_standard, at_half] = both(fsc, unit);
        CurveResolution {
            curve,
            at_gold_standard,
            at_half,
        }
    });
    let more = [2, 4].map(|times| {
        let [at_gold_standard, at_half] = both(&corrected.with_times_as_many(f64::from(times)), unit);
        MoreParticles {
            times,
            at_gold_standard,
            at_half,
        }
    });
    Ok(Averaged {
        map: job.output.clone(),
        halves,
        mask,
        mask_voxels: shape.voxels.iter().map(|&voxel| u64::from(voxel)).sum(),
        fsc,
        picks,
        particles: refined.len(),
        outside: result.outside,
        box_voxels: params.side_voxels,
        resolution_voxels: both(corrected, 1.0),
        resolution_angstrom: angstrom.map(|angstrom| both(corrected, angstrom)),
        curves: of_curves.into(),
        with_more_particles: more.into(),
        iterations: result.iterations,
    })
}

/// The resolutions of a curve at both thresholds.
fn both(fsc: &Fsc, angstrom: f64) -> [f64; 2] {
    [FSC_GOLD_STANDARD, FSC_HALF].map(|at| fsc.resolution_angstrom(at, angstrom))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn params(
    job: &AverageJob,
    reference: Option<[usize; 3]>,
    voxel_size: Option<VoxelSize>,
) -> Result<AverageParams> {
    let in_voxels = |length: Option<Length>| length.map(|length| length.in_voxels(voxel_size)).transpose();
    let side = match (in_voxels(job.side)?, reference) {
        (Some(side), _) => side.round() as usize,
        (None, Some(shape)) => shape.into_iter().max().unwrap_or(0),
        (None, None) => {
            return Err(PipelineError::input(
                "how large is a particle's box? Pass --box, in voxels (48) or Å (480A): about twice the particle's diameter",
            ));
        }
    };
    let defaults = AverageParams::new(side + side % 2);
    let initial_frequency = match (job.initial_resolution_angstrom, voxel_size) {
        (None, _) => defaults.initial_frequency,
        (Some(resolution), Some(size)) => f64::from(size.angstrom()) / resolution,
        (Some(_), None) => {
            return Err(PipelineError::input(
                "a resolution in Å needs a voxel size, which no tomogram says: pass --voxel-size",
            ));
        }
    };
    Ok(AverageParams {
        mask_radius_voxels: in_voxels(job.mask_radius)?,
        tilt: job.tilt,
        symmetry: job.symmetry,
        iterations: job.iterations,
        global: job.global,
        step_degrees: job.step_degrees,
        max_shift_voxels: in_voxels(job.max_shift)?.unwrap_or(defaults.max_shift_voxels),
        initial_frequency,
        ..defaults
    })
}

/// The particles of each tomogram. Where there is one tomogram and the list names one at most, all are its own.
fn share_out(list: &ParticleList, tomograms: &[PathBuf], picks: &Path) -> Result<Vec<Vec<Particle>>> {
    let names: BTreeSet<Option<&str>> = list.iter().map(|particle| particle.tomogram.as_deref()).collect();
    if tomograms.len() == 1 && names.len() <= 1 {
        return Ok(vec![list.particles.clone()]);
    }
    let stems: Vec<_> = tomograms
        .iter()
        .map(|path| path.file_stem().unwrap_or(OsStr::new("")).to_string_lossy())
        .collect();
    let mut shared = vec![Vec::new(); tomograms.len()];
    let mut strangers = BTreeSet::new();
    for particle in list.iter() {
        let name = particle.tomogram.as_deref();
        match stems.iter().position(|stem| Some(stem.as_ref()) == name) {
            Some(place) => shared[place].push(particle.clone()),
            None => {
                strangers.insert(name.unwrap_or("no tomogram at all"));
            }
        }
    }
    if strangers.is_empty() {
        return Ok(shared);
    }
    Err(PipelineError::input(format!(
        "{}: it has particles of {}, but the tomograms given are {}: name all of them with --tomograms; a particle's \
         tomogram is its file's name without the ending",
        picks.display(),
        strangers.into_iter().collect::<Vec<_>>().join(", "),
        stems.join(", ")
    )))
}
