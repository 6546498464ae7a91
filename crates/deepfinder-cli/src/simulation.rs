//! Options of `deepfinder simulate`.

use std::path::PathBuf;

use clap::Args;
use deepfinder_core::TiltRange;
use deepfinder_pipeline::{
    Assembly, Noise, Optics, PipelineError, SimParams, SimulateJob, StructureOptions, TemplateSource,
    TiltSeriesParams, voxel_size,
};

use crate::values::{shape, tilt};

/// The name that stands for all classes of SHREC'19.
const SHREC19: &str = "shrec19";

#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// Folder of the new project
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Tomograms to train on; one to test is added [default: 3, or none with --particles-from]
    #[arg(long, value_name = "N")]
    tomograms: Option<usize>,
    /// Tomograms to validate with [default: 1, or none with --particles-from]
    #[arg(long, value_name = "N")]
    validation: Option<usize>,
    /// Size in voxels, as Z,Y,X
    #[arg(long, value_name = "Z,Y,X", value_parser = shape)]
    shape: Option<[usize; 3]>,
    /// Signal-to-noise ratio (variance of the signal over that of the noise): of the tomogram, or with --tilt-series of
    /// the images
    #[arg(long)]
    snr: Option<f64>,
    /// Seed; tomogram i takes seed + i
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    specimen: SpecimenArgs,
    #[command(flatten)]
    microscope: MicroscopeArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Specimen")]
struct SpecimenArgs {
    /// A kind of particle: a density map or an atomic structure (PDB, mmCIF, also .gz) as NAME=FILE, a PDB entry that
    /// comes with the program (1bxn, 4b4t, …), or shrec19 for all twelve of these. Repeat; labels count from 1
    /// [default: five of them]
    #[arg(long = "class", short = 'c', value_name = "NAME=FILE")]
    classes: Vec<String>,
    /// Particles of each class in each tomogram; with --particles-from in those to train on or validate with
    #[arg(long, value_name = "N")]
    particles: Option<usize>,
    /// Put the particles of this list into the tomogram to test, instead of random ones
    #[arg(long, value_name = "LIST")]
    particles_from: Option<PathBuf>,
    /// Of that list only the particles in a box as large as the tomogram, which begins at this voxel; positions are
    /// counted from there
    #[arg(long, value_name = "Z,Y,X", value_parser = shape, requires = "particles_from")]
    crop_from: Option<[usize; 3]>,
    /// Voxel size in Å of densities made of structures [default: 10]
    #[arg(long, value_name = "A")]
    voxel_size: Option<f32>,
    /// Resolution in Å of densities made of structures [default: two voxels]
    #[arg(long, value_name = "A")]
    resolution: Option<f64>,
    /// Biological assembly of structures, by the file's own name, or asu for the atoms as deposited [default: the first]
    #[arg(long, value_name = "NAME")]
    assembly: Option<Assembly>,
    /// Small proteins without label between the particles
    #[arg(long, value_name = "N", default_value_t = 0)]
    crowders: usize,
    /// Vesicles without label
    #[arg(long, value_name = "N", default_value_t = 0)]
    membranes: usize,
    /// Gold beads of 10 nm
    #[arg(long, value_name = "N", default_value_t = 0)]
    gold: usize,
}

#[derive(Args)]
#[command(next_help_heading = "Microscope")]
struct MicroscopeArgs {
    /// Take a tilt series and reconstruct it by weighted back-projection, instead of removing the missing wedge and
    /// adding noise; the options below need it
    #[arg(long)]
    tilt_series: bool,
    /// Lowest and highest tilt in degrees, as HALF or MIN,MAX
    #[arg(long, value_name = "DEGREES", default_value = "60", allow_hyphen_values = true, value_parser = tilt)]
    tilt: TiltRange,
    #[command(flatten)]
    optics: OpticsArgs,
    /// Density of the solvent that varies from voxel to voxel: its standard deviation in parts of the densest particle's
    /// maximum
    #[arg(long, value_name = "PART", default_value_t = 0.0, requires = "tilt_series")]
    grain: f64,
    /// Write the tilt series too (.mrc, and its angles as .tlt)
    #[arg(long, requires = "tilt_series")]
    keep_tilt_series: bool,
}

// How each image of a tilt series was taken; there is a flag `--tilt-series` beside it. A doc comment would become that
// of the command.
#[derive(Args)]
pub(crate) struct OpticsArgs {
    /// Degrees between tilts [default: 3]
    #[arg(long, value_name = "DEGREES", requires = "tilt_series")]
    tilt_step: Option<f64>,
    /// Underfocus in µm [default: 3]
    #[arg(long, value_name = "UM", requires = "tilt_series", allow_hyphen_values = true)]
    defocus: Option<f64>,
    /// Acceleration voltage in kV [default: 300]
    #[arg(long, value_name = "KV", requires = "tilt_series")]
    voltage: Option<f64>,
    /// Spherical aberration in mm [default: 2.7]
    #[arg(long, value_name = "MM", requires = "tilt_series")]
    cs: Option<f64>,
    /// Amplitude contrast, from 0 to 1 [default: 0.07]
    #[arg(long, value_name = "PART", requires = "tilt_series")]
    amplitude_contrast: Option<f64>,
    /// Electrons per Å² over all tilts, from which radiation damage follows [default: 100]
    #[arg(long, value_name = "E", requires = "tilt_series")]
    exposure: Option<f64>,
    /// Do not turn the phases back that the contrast transfer function reversed
    #[arg(long, requires = "tilt_series")]
    no_phase_flip: bool,
}

impl SimulateArgs {
    /// What is asked for.
    pub(crate) fn job(&self) -> Result<SimulateJob, PipelineError> {
        let (specimen, microscope) = (&self.specimen, &self.microscope);
        let mut params = SimParams::demo(self.seed);
        params.shape = self.shape.unwrap_or(params.shape);
        params.particles_per_class = specimen.particles.unwrap_or(params.particles_per_class);
        params.tilt = Some(microscope.tilt);
        params.crowders = specimen.crowders;
        params.membranes = specimen.membranes;
        params.gold_beads = specimen.gold;
        params.grain = microscope.grain;
        if let Some(snr) = self.snr {
            params.noise = Noise::Filtered { snr };
        }
        let mut classes = Vec::new();
        for class in &specimen.classes {
            if class == SHREC19 {
                classes.extend(TemplateSource::shrec19());
            } else {
                classes.push(class.parse()?);
            }
        }
        let others = usize::from(specimen.particles_from.is_none());
        let (training, validation) = (
            self.tomograms.unwrap_or(3 * others),
            self.validation.unwrap_or(others),
        );
        if others == 0 && training + validation == 0 && specimen.particles.is_some() {
            return Err(PipelineError::Input {
                what: "`--particles` is for tomograms beside that of `--particles-from`: leave it out, or ask for some \
                       with `--tomograms`"
                    .to_owned(),
            });
        }
        Ok(SimulateJob {
            training,
            validation,
            classes,
            structures: StructureOptions {
                voxel_size: voxel_size(specimen.voxel_size)?,
                resolution_angstrom: specimen.resolution,
                assembly: specimen.assembly.clone().unwrap_or_default(),
            },
            particles: specimen.particles_from.clone(),
            crop_start: specimen.crop_from,
            microscope: microscope.tilt_series.then(|| microscope.params(self.snr)),
            keep_tilt_series: microscope.keep_tilt_series,
            ..SimulateJob::new(&self.output, params)
        })
    }
}

impl MicroscopeArgs {
    fn params(&self, snr: Option<f64>) -> TiltSeriesParams {
        let params = self.optics.params(self.tilt);
        TiltSeriesParams {
            snr: snr.or(params.snr),
            ..params
        }
    }
}

impl OpticsArgs {
    /// A tilt series of that range.
    pub(crate) fn params(&self, tilt: TiltRange) -> TiltSeriesParams {
        let defaults = TiltSeriesParams::default();
        let optics = Optics::default();
        TiltSeriesParams {
            tilt,
            step_degrees: self.tilt_step.unwrap_or(defaults.step_degrees),
            optics: Some(Optics {
                voltage_kv: self.voltage.unwrap_or(optics.voltage_kv),
                spherical_aberration_mm: self.cs.unwrap_or(optics.spherical_aberration_mm),
                amplitude_contrast: self.amplitude_contrast.unwrap_or(optics.amplitude_contrast),
                defocus_um: self.defocus.unwrap_or(optics.defocus_um),
            }),
            exposure: self.exposure.unwrap_or(defaults.exposure),
            flip_phases: !self.no_phase_flip,
            ..defaults
        }
    }
}
