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
use plotters::prelude::*;
use serde::Serialize;

use crate::error::OnFile;
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
    /// Resolution in voxels at a Fourier shell correlation of 0.143 and of 0.5; 2 where the curve stays above.
    pub resolution_voxels: [f64; 2],
    /// The same in Å, where the voxel size is known.
    pub resolution_angstrom: Option<[f64; 2]>,
    /// The rounds of alignment.
    pub iterations: Vec<Iteration>,
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
    let resolution =
        |angstrom: f64| [FSC_GOLD_STANDARD, FSC_HALF].map(|at| result.fsc.resolution_angstrom(at, angstrom));
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
        resolution_voxels: resolution(1.0),
        resolution_angstrom: angstrom.map(resolution),
        iterations: result.iterations,
    })
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

fn fsc_csv(fsc: &Fsc, voxel_size_angstrom: Option<f64>) -> String {
    let mut csv = "frequency_per_voxel,resolution_angstrom,fsc\n".to_owned();
    let lines = fsc
        .frequencies
        .iter()
        .zip(&fsc.correlations)
        .map(|(frequency, correlation)| {
            let resolution = voxel_size_angstrom
                .filter(|_| *frequency > 0.0)
                .map_or(String::new(), |size| format!("{:.3}", size / frequency));
            format!("{frequency:.6},{resolution},{correlation:.6}\n")
        });
    csv.extend(lines);
    csv
}

/// The curve as a picture, with both thresholds.
fn fsc_svg(fsc: &Fsc, voxel_size_angstrom: Option<f64>) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, fsc, voxel_size_angstrom)
        .map_err(|error| PipelineError::input(format!("the curve cannot be drawn: {error}")))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    fsc: &Fsc,
    voxel_size_angstrom: Option<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, (640, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let lowest = fsc.correlations.iter().copied().fold(-0.1, f64::min);
    let said = match voxel_size_angstrom {
        Some(size) => format!(
            "{:.1} Å at 0.143, {:.1} Å at 0.5",
            fsc.resolution_angstrom(FSC_GOLD_STANDARD, size),
            fsc.resolution_angstrom(FSC_HALF, size)
        ),
        None => "Fourier shell correlation of the half-sets".to_owned(),
    };
    let mut chart = ChartBuilder::on(&area)
        .caption(said, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..0.5, lowest..1.0)?;
    let label = |frequency: &f64| match voxel_size_angstrom {
        Some(size) if *frequency > 0.0 => format!("1/{:.0} Å", size / frequency),
        Some(_) => "0".to_owned(),
        None => format!("{frequency:.1}"),
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(6)
        .x_label_formatter(&label)
        .x_desc(if voxel_size_angstrom.is_some() {
            "resolution"
        } else {
            "cycles per voxel"
        })
        .y_desc("FSC")
        .draw()?;
    for threshold in [FSC_GOLD_STANDARD, FSC_HALF] {
        chart.draw_series(LineSeries::new(
            [(0.0, threshold), (0.5, threshold)],
            RGBColor(150, 150, 150),
        ))?;
    }
    let points = fsc
        .frequencies
        .iter()
        .copied()
        .zip(fsc.correlations.iter().copied());
    chart.draw_series(LineSeries::new(points, RGBColor(0, 114, 178).stroke_width(2)))?;
    area.present()?;
    Ok(())
}
