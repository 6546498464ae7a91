//! Of the commands that compare densities.

use std::path::PathBuf;

use clap::Args;
use deepfinder_core::{Symmetry, TiltRange};
use deepfinder_pipeline::Length;

use super::{ListArgs, TomogramArgs};
use crate::simulation::OpticsArgs;
use crate::values::tilt;

#[derive(Args)]
pub(crate) struct MatchArgs {
    /// The tomogram (.mrc, .rec, .map, .h5, .tif)
    pub(crate) tomogram: PathBuf,
    /// The density to look for, positive in the particle, at the tomogram's voxel size
    #[arg(long, short, value_name = "MAP")]
    pub(crate) template: PathBuf,
    /// The list to write (.xml, .csv, .tsv), with rotations and scores
    #[arg(long, short, value_name = "PICKS")]
    pub(crate) output: PathBuf,
    /// Label of its particles
    #[arg(long, value_name = "LABEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) label: u8,
    /// Angle between neighbouring rotations, in degrees
    #[arg(long, value_name = "DEGREES", default_value_t = 15.0)]
    pub(crate) step: f64,
    /// Symmetry of the density about its z axis: C1, C4, D2, …
    #[arg(long, default_value = "C1", value_name = "GROUP")]
    pub(crate) symmetry: Symmetry,
    /// Tilts of the series in degrees, as HALF or MIN,MAX; 90 for a tomogram without a missing wedge
    #[arg(long, value_name = "DEGREES", default_value = "60", allow_hyphen_values = true, value_parser = tilt)]
    pub(crate) tilt: TiltRange,
    /// Radius of the ball in which density and tomogram are compared, in voxels or Å [default: all of the density]
    #[arg(long, value_name = "R")]
    pub(crate) mask_radius: Option<Length>,
    /// Filter the density to this resolution in Å
    #[arg(long, value_name = "A")]
    pub(crate) low_pass: Option<f64>,
    /// Another density that is in the tomogram; places that it explains better are no particles. Repeat, or list several:
    /// each takes as long as the template
    #[arg(long, value_name = "MAP", num_args = 1..)]
    pub(crate) against: Vec<PathBuf>,
    /// Weigh the template by each image of the tilt series, with its contrast transfer and radiation damage, instead of by
    /// the missing wedge alone; the options below need it
    #[arg(long, help_heading = "Tilt series")]
    pub(crate) tilt_series: bool,
    /// A line for each tilt: degrees, and where they are known its exposure (e/Å² seen at its middle) and underfocus (µm);
    /// IMOD's .tlt is such a file [default: evenly spaced]
    #[arg(
        long,
        help_heading = "Tilt series",
        value_name = "FILE",
        requires = "tilt_series",
        conflicts_with = "tilt_step"
    )]
    pub(crate) tilts: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Tilt series")]
    pub(crate) optics: OpticsArgs,
    /// Particles that noise alone may give in the whole tomogram; sets the lowest score
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub(crate) false_alarms: f64,
    /// The lowest score (correlation coefficient) of a particle, instead of --false-alarms
    #[arg(long, value_name = "SCORE", conflicts_with = "false_alarms")]
    pub(crate) min_score: Option<f32>,
    /// Least distance of two particles, in voxels or Å [default: the mask's radius]
    #[arg(long, value_name = "D")]
    pub(crate) min_distance: Option<Length>,
    /// Keep at most so many particles, the best
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Keep only particles inside this mask
    #[arg(long, value_name = "FILE")]
    pub(crate) mask: Option<PathBuf>,
    /// Write each voxel's best score here (.mrc)
    #[arg(long, value_name = "FILE")]
    pub(crate) scores: Option<PathBuf>,
    /// Write the number of each voxel's best rotation here (.mrc), and the rotations beside it (.csv)
    #[arg(long, value_name = "FILE")]
    pub(crate) rotations: Option<PathBuf>,
    /// Longest side of a Fourier transform in voxels: larger is quicker and takes more memory
    #[arg(long, value_name = "VOXELS", default_value_t = 192)]
    pub(crate) tile: usize,
    #[command(flatten)]
    pub(crate) tomogram_options: TomogramArgs,
}

#[derive(Args)]
pub(crate) struct AverageArgs {
    /// The particles (.xml, .csv, .tsv, .txt)
    pub(crate) picks: PathBuf,
    /// The tomograms; where there are several, each particle names its own (its file's name without the ending)
    #[arg(long, short = 't', value_name = "FILE", num_args = 1.., required = true)]
    pub(crate) tomograms: Vec<PathBuf>,
    /// The map to write (.mrc), bright in the particle; half maps, mask, FSC and refined particles stand beside it
    #[arg(long, short, value_name = "MAP")]
    pub(crate) output: PathBuf,
    /// Only particles of this label
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Option<u8>,
    /// A map to align to, bright in the particle; without one the particles need rotations. One larger than the box is cut to it
    #[arg(long, short, value_name = "MAP")]
    pub(crate) reference: Option<PathBuf>,
    /// Side of a particle's box, in voxels or Å: about twice its diameter [default: the reference's]
    #[arg(long = "box", value_name = "SIDE")]
    pub(crate) side: Option<Length>,
    /// Rounds of alignment; 0 averages the particles as the list has them
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) iterations: usize,
    /// Angle between neighbouring rotations in the first round, in degrees; half of it in each further one
    #[arg(long, value_name = "DEGREES", default_value_t = 16.0)]
    pub(crate) step: f64,
    /// Search all orientations in the first round, also of particles that have one
    #[arg(long)]
    pub(crate) global: bool,
    /// Largest shift of a round, in voxels or Å [default: 4 voxels]
    #[arg(long, value_name = "D")]
    pub(crate) max_shift: Option<Length>,
    /// Filter the reference to this resolution in Å in the first round [default: 10 voxels]
    #[arg(long, value_name = "A")]
    pub(crate) initial_resolution: Option<f64>,
    /// Symmetry that the average is given about its z axis: C1, C4, D2, …
    #[arg(long, default_value = "C1", value_name = "GROUP")]
    pub(crate) symmetry: Symmetry,
    /// Tilts of the series in degrees, as HALF or MIN,MAX; 90 for tomograms without a missing wedge
    #[arg(long, value_name = "DEGREES", default_value = "60", allow_hyphen_values = true, value_parser = tilt)]
    pub(crate) tilt: TiltRange,
    /// Radius of the soft mask in which maps are compared, in voxels or Å [default: what the box holds]
    #[arg(long, value_name = "R")]
    pub(crate) mask_radius: Option<Length>,
    /// A voxel belongs to the mask that is written from so many standard deviations on [default: found from the map]
    #[arg(long, value_name = "SIGMA")]
    pub(crate) mask_sigma: Option<f64>,
    #[command(flatten)]
    pub(crate) tomogram_options: TomogramArgs,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}
