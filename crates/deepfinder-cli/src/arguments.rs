mod densities;
mod json;
mod training;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use deepfinder_core::TiltRange;
use deepfinder_pipeline::{AccuracySize, Euler, Head, Length, OmeZarr, Origin, ParticleFormat, PickMethod};
use deepfinder_studio::DEFAULT_PORT;

pub(crate) use self::densities::{AverageArgs, MatchArgs};
pub(crate) use self::json::{Json, with_json_joined};
pub(crate) use self::training::{RecipeArg, TrainArgs};
use crate::simulation::SimulateArgs;
use crate::values::{format, membrane, named, ome_zarr, tilt};

/// Find macromolecules in cryo-electron tomograms.
///
/// Start with `deepfinder demo`: it simulates a small tomogram, finds its particles and scores them.
/// Then `deepfinder init` makes a project file of your own tomograms, and `deepfinder run` does the rest.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "General options")]
pub(crate) struct Global {
    /// Processor cores to use [default: all]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Where the network runs: auto, cpu, or cuda (cuda:1, … for another than the first) for an NVIDIA GPU; several,
    /// cuda:0,cuda:1, share the batches of `train` and the tomograms of `segment`, and both in `run`
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
    /// What the network computes with: f32, bf16, or auto for the faster of them there
    #[arg(long, global = true, default_value = "auto", value_name = "PRECISION")]
    pub(crate) precision: String,
    /// Say more of what is done; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print the result as JSON, for other programs. `--json FILE.json` prints it as usual and writes the JSON there
    #[arg(
        long, global = true, value_name = "FILE.json",
        num_args = 0..=1, require_equals = true, default_missing_value = "-", value_parser = Json::from_str
    )]
    pub(crate) json: Option<Json>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// See it work: simulate a tomogram, segment, pick, score; nothing else is needed
    Demo(DemoArgs),
    /// Make a project file (deepfinder.toml) of your tomograms
    Init(InitArgs),
    /// Turn annotated particles into a training target (a label map)
    Target(TargetArgs),
    /// Train a network on the tomograms of a project
    Train(TrainArgs),
    /// Label every voxel of a tomogram
    Segment(SegmentArgs),
    /// Turn a label map or score maps into a list of particles
    Pick(PickArgs),
    /// Score picks against annotations, or a label map against its target
    Evaluate(EvaluateArgs),
    /// Compare what two pickers found: together, and each alone
    Consensus(ConsensusArgs),
    /// Convert volumes and particle lists
    Convert(ConvertArgs),
    /// List the formats that are read and written, with their conventions
    Formats(FormatsArgs),
    /// Say what a file holds: tomogram, label map, particle list, weights or project
    Info(InfoArgs),
    /// Simulate tomograms with known particles, as a project ready to train
    Simulate(SimulateArgs),
    /// Look for a known density in a tomogram (template matching)
    Match(MatchArgs),
    /// Align particles and average them into a density map, with its resolution
    Average(AverageArgs),
    /// Do all stages of a project; what is up to date is skipped
    Run(RunArgs),
    /// Write what a project's run made as one HTML page
    Report(ReportArgs),
    /// See, annotate, train, segment and check in the browser
    Studio(StudioArgs),
    /// Measure how fast this machine segments and trains
    Bench(BenchArgs),
    /// Measure how well particles are found: simulate, train, segment, pick, score, beside template matching
    BenchAccuracy(Box<BenchAccuracyArgs>),
    /// Hold what a device computes against the processor: ops, network, training, and how it fails
    #[command(hide = true)]
    CheckDevice,
}

#[derive(Args)]
pub(crate) struct StudioArgs {
    /// A project file, its folder, or a tomogram
    #[arg(default_value = ".")]
    pub(crate) project: PathBuf,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub(crate) port: u16,
    /// Address to listen on. Others than 127.0.0.1 let other machines in that have the token: prefer a tunnel,
    /// ssh -L 8765:localhost:8765 MACHINE
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Only print the address, and open no browser
    #[arg(long)]
    pub(crate) no_open: bool,
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Side of the cube that is segmented, in voxels
    #[arg(long, value_name = "VOXELS", default_value_t = 96)]
    pub(crate) cube: usize,
    /// Patches of a training iteration
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) batch: usize,
    /// Side of a training patch in voxels, a multiple of 4
    #[arg(long, value_name = "P", default_value_t = 56)]
    pub(crate) patch: usize,
    /// Scores per voxel, background among them
    #[arg(long, value_name = "N", default_value_t = 13, value_parser = clap::value_parser!(u8).range(2..))]
    pub(crate) scores: u8,
    /// Where the network ends: full, or half, where 2³ voxels share their scores
    #[arg(long, value_name = "LEVEL", default_value_t)]
    pub(crate) head: Head,
    /// Runs of which the middle one counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) runs: usize,
}

#[derive(Args)]
pub(crate) struct BenchAccuracyArgs {
    /// How large: small (three classes and nothing else, ten minutes on two cores), medium (five classes among vesicles, gold
    /// and other proteins, half an hour) or full (SHREC'19's size, for a GPU)
    #[arg(long, default_value = "small", value_name = "SIZE")]
    pub(crate) size: AccuracySize,
    /// Folder for everything it makes; what is there already is not made again
    #[arg(long, short, default_value = "deepfinder-accuracy", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seed of everything random (with --recipes, of the simulated tomograms) [default: 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Compare recipes instead: what each part of one is worth, on the same tomograms
    #[arg(long, conflicts_with = "published")]
    pub(crate) recipes: bool,
    /// Of the recipes, only these and what they are compared with
    #[arg(long, value_name = "NAME", requires = "recipes")]
    pub(crate) only: Vec<String>,
    /// Seeds of the trainings of each recipe [default: 1,2,3]; without --recipes, do all with each of these seeds, and say how
    /// far they differ
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Set the published SHREC'19 weights (.h5) beside
    #[arg(long, value_name = "FILE")]
    pub(crate) published: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Learn a network first (minutes on two cores) instead of using the one that comes with the program
    #[arg(long)]
    pub(crate) train: bool,
    /// Folder for the results
    #[arg(long, short, default_value = "deepfinder-demo", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seed of the simulation (and of training)
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Folder of the new project
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// A tomogram to add; picks beside it with the same name (.xml, .csv) are added too. Repeat for more
    #[arg(long = "tomogram", short = 't', value_name = "FILE")]
    pub(crate) tomograms: Vec<PathBuf>,
    /// A class and its radius, in voxels (ribosome=12) or Å (ribosome=120A). Repeat; labels count from 1
    #[arg(long = "class", short = 'c', value_name = "NAME=RADIUS", value_parser = named::<Length>)]
    pub(crate) classes: Vec<(String, Length)>,
    /// Make it of a copick project on this machine: its configuration (a JSON file)
    #[arg(long, value_name = "CONFIG")]
    pub(crate) copick: Option<PathBuf>,
    /// Of the copick project, take only the picks of this user
    #[arg(long, value_name = "USER", requires = "copick")]
    pub(crate) user: Option<String>,
}

#[derive(Args)]
pub(crate) struct TomogramArgs {
    /// The particles are bright: multiply the voxels by −1 first
    #[arg(long)]
    pub(crate) invert: bool,
    /// Voxel size in Å, where the file says none or a wrong one
    #[arg(long, value_name = "A")]
    pub(crate) voxel_size: Option<f32>,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// The annotation list's x is the slowest axis (DeepFinder lists before 2020)
    #[arg(long)]
    pub(crate) swap_xz: bool,
    /// Names of the classes, for lists that name them: NAME=LABEL. Repeat
    #[arg(long = "class", value_name = "NAME=LABEL", value_parser = named::<u8>)]
    pub(crate) classes: Vec<(String, u8)>,
}

#[derive(Args)]
pub(crate) struct TargetArgs {
    /// Annotated particles (.xml, .csv, .tsv, .txt)
    pub(crate) picks: PathBuf,
    /// The tomogram they belong to: gives the size and voxel size
    #[arg(long, value_name = "TOMOGRAM")]
    pub(crate) like: PathBuf,
    /// Draw a class as spheres, of a radius in voxels (1=12) or Å (1=120A). Repeat
    #[arg(long, value_name = "CLASS=R", value_parser = named::<Length>)]
    pub(crate) radius: Vec<(String, Length)>,
    /// Draw small balls at the centres of the particles of --radius instead: half as large, and of 2 voxels at least
    #[arg(long, requires = "radius")]
    pub(crate) points: bool,
    /// Draw a class as a shape: a cubic binary volume, rotated with each particle. Repeat
    #[arg(long, value_name = "CLASS=FILE", value_parser = named::<PathBuf>)]
    pub(crate) mask: Vec<(String, PathBuf)>,
    /// Which class lies on top where particles overlap: the later ones, classes not named beneath them all
    /// [default: the later particle of the list]
    #[arg(long, value_name = "CLASS,CLASS,…", value_delimiter = ',')]
    pub(crate) order: Vec<String>,
    /// Draw onto this label map (membranes, say)
    #[arg(long, value_name = "FILE")]
    pub(crate) initial: Option<PathBuf>,
    /// Of a list that spans several tomograms, take the particles of this one
    #[arg(long, value_name = "NAME")]
    pub(crate) tomogram: Option<String>,
    /// Voxel size in Å, where the tomogram's file says none or a wrong one
    #[arg(long, value_name = "A")]
    pub(crate) voxel_size: Option<f32>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// The target to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PlanArg {
    /// Overlapping tiles that give the same labels as one pass over the whole tomogram
    Exact,
    /// The published program's averaged patches, to reproduce its numbers
    Reference,
}

#[derive(Args)]
pub(crate) struct SegmentArgs {
    /// The tomogram (.mrc, .rec, .map, .h5, .tif); several are shared among the GPUs of --device
    #[arg(value_name = "TOMOGRAM", required = true)]
    pub(crate) tomograms: Vec<PathBuf>,
    /// The network's weights (.safetensors, or a published .h5). Repeat to average the scores of several networks
    #[arg(long, short, value_name = "FILE", required = true)]
    pub(crate) weights: Vec<PathBuf>,
    /// The label map to write (.mrc); of several tomograms, a folder for their label maps
    #[arg(long, short, value_name = "LABELS")]
    pub(crate) output: PathBuf,
    /// Average the scores with those of the tomogram turned by 180° about the tilt axis y: twice the work
    #[arg(long)]
    pub(crate) half_turn: bool,
    /// Write one score map per class into this folder; of several tomograms, into a folder of each in it
    #[arg(long, value_name = "DIR")]
    pub(crate) scores: Option<PathBuf>,
    /// How the tomogram is cut
    #[arg(long, default_value = "exact")]
    pub(crate) plan: PlanArg,
    /// Side of a tile (exact) or patch (reference), a multiple of 4 [default: chosen, or 160]
    #[arg(long, value_name = "P")]
    pub(crate) patch: Option<usize>,
    #[command(flatten)]
    pub(crate) tomogram_options: TomogramArgs,
    /// Go on although the model learned from another voxel size
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct PickArgs {
    /// A label map; with --method peaks, a folder of score maps
    pub(crate) labels: PathBuf,
    /// The list to write; its ending says the format (.xml, .csv, .star for RELION 5, …: see `deepfinder formats`)
    #[arg(long, short, value_name = "PICKS")]
    pub(crate) output: PathBuf,
    /// The list's format, where its ending does not say: see `deepfinder formats`
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) to: Option<ParticleFormat>,
    /// The tomogram's name, as other programs know it
    #[arg(long, value_name = "NAME")]
    pub(crate) tomogram: Option<String>,
    /// RELION's tomograms.star: sizes and optics of the tomograms
    #[arg(long, value_name = "FILE")]
    pub(crate) tomograms: Option<PathBuf>,
    /// Names of the classes, for formats that name them: NAME=LABEL. Repeat
    #[arg(long = "class", value_name = "NAME=LABEL", value_parser = named::<u8>)]
    pub(crate) classes: Vec<(String, u8)>,
    /// How voxels become particles: mean-shift, components, dbscan, or peaks of score maps
    #[arg(long, default_value = "mean-shift")]
    pub(crate) method: PickMethod,
    /// Radius of a particle in voxels (6) or Å (60A); not needed for components
    #[arg(long, value_name = "R")]
    pub(crate) radius: Option<Length>,
    /// Drop clusters of fewer voxels
    #[arg(long, default_value_t = 0, value_name = "VOXELS")]
    pub(crate) min_size: u64,
    /// Drop clusters of more voxels
    #[arg(long, value_name = "VOXELS")]
    pub(crate) max_size: Option<u64>,
    /// Drop peaks below this score
    #[arg(long, default_value_t = 0.5, value_name = "SCORE")]
    pub(crate) min_score: f32,
    /// Drop smaller clusters (peaks of lower scores) class by class as tuned: a project's output/thresholds.json
    #[arg(long, value_name = "FILE")]
    pub(crate) thresholds: Option<PathBuf>,
    /// Keep only the better of two particles nearer than this, in voxels or Å
    #[arg(long, value_name = "D")]
    pub(crate) min_distance: Option<Length>,
    /// Keep at most so many particles of each class
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Keep only particles inside this mask
    #[arg(long, value_name = "FILE")]
    pub(crate) mask: Option<PathBuf>,
    /// As the published program: positions are the modes, all classes clustered together
    #[arg(long)]
    pub(crate) reference: bool,
    /// Voxel size in Å, where the file says none or a wrong one
    #[arg(long, value_name = "A")]
    pub(crate) voxel_size: Option<f32>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ModeArg {
    /// Each annotation matches at most one pick of its class within the radius
    OneToOne,
    /// As in the SHREC challenge: a pick hits the annotation it lies in
    Shrec,
    /// As in the paper: the pick lies in the particle's bounding box
    Box,
    /// As in the CZII challenge: within half the radius, F4
    Czii,
}

#[derive(Args)]
pub(crate) struct EvaluateArgs {
    /// Annotated particles, or a target label map
    pub(crate) truth: PathBuf,
    /// Picks, or a predicted label map
    pub(crate) picks: PathBuf,
    /// Distance up to which a pick finds a particle, in voxels (10) or Å (100A)
    #[arg(long, value_name = "R")]
    pub(crate) radius: Option<Length>,
    /// The rule of the match
    #[arg(long, default_value = "one-to-one")]
    pub(crate) mode: ModeArg,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// The positions of a .txt list stand as z y x
    #[arg(long)]
    pub(crate) zyx: bool,
    /// Voxel size in Å, where a length is in Å and the lists do not say
    #[arg(long, value_name = "A")]
    pub(crate) voxel_size: Option<f32>,
}

#[derive(Args)]
pub(crate) struct ConvertArgs {
    /// A volume or particle list; what it is, is told by its content
    pub(crate) input: PathBuf,
    /// What to write; the ending says the format. The configuration of a copick project takes picks into its overlay
    pub(crate) output: PathBuf,
    /// The input's format, where it cannot be told: see `deepfinder formats`
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) from: Option<ParticleFormat>,
    /// The output's format, where its ending does not say
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) to: Option<ParticleFormat>,
    /// Of a list that spans several tomograms, take this one's particles; else name the tomogram so
    #[arg(long, value_name = "NAME")]
    pub(crate) tomogram: Option<String>,
    /// Sizes of the tomograms, for formats that count from the middle: RELION's tomograms.star, or the tomogram
    #[arg(long, value_name = "FILE")]
    pub(crate) tomograms: Option<PathBuf>,
    /// Count in voxels so many times as large: positions shrink (0.125 undoes a binning of 8), volumes are averaged
    #[arg(long, value_name = "N")]
    pub(crate) bin: Option<f64>,
    /// Where positions count from: corner or centre [default: the format's own]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<Origin>,
    /// What the first voxel is called, 0 or 1 [default: the format's own]
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) first_voxel: Option<u8>,
    /// What three angles mean: zxz, zyz, dynamo, or one of these with -inverse [default: the format's own]
    #[arg(long, value_name = "CONVENTION")]
    pub(crate) euler: Option<Euler>,
    /// What becomes of a class, by what the file calls it: 300=1, ribosome=2. Repeat
    #[arg(long, value_name = "FROM=LABEL", value_parser = named::<u8>)]
    pub(crate) class_map: Vec<(String, u8)>,
    /// Only particles of this class
    #[arg(long, value_name = "LABEL", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) only_class: Option<u8>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Version of OME-Zarr to write: 0.4 or 0.5
    #[arg(long, value_name = "VERSION", default_value = "0.4", value_parser = ome_zarr)]
    pub(crate) ome_zarr: OmeZarr,
    /// The positions of a .txt list stand as z y x (the same as --from shrec-zyx)
    #[arg(long, conflicts_with = "from")]
    pub(crate) zyx: bool,
    #[command(flatten)]
    pub(crate) tomogram_options: TomogramArgs,
    /// Show what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
pub(crate) struct FormatsArgs {
    /// As a Markdown document
    #[arg(long)]
    pub(crate) markdown: bool,
}

#[derive(Args)]
pub(crate) struct InfoArgs {
    /// The file
    #[arg(required_unless_present = "devices")]
    pub(crate) file: Option<PathBuf>,
    /// The tomograms that a list lies in, to find positions outside them: RELION's tomograms.star, or the tomogram
    #[arg(long, value_name = "FILE")]
    pub(crate) tomograms: Option<PathBuf>,
    /// Say which devices the network can run on
    #[arg(long)]
    pub(crate) devices: bool,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The project file, or its folder
    #[arg(default_value = ".")]
    pub(crate) project: PathBuf,
    /// Do everything anew
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on although a model learned from another voxel size
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct ConsensusArgs {
    /// Picks of the first, A
    pub(crate) a: PathBuf,
    /// Picks of the second, B
    pub(crate) b: PathBuf,
    /// Distance up to which two picks are one particle, in voxels (10) or Å (100A)
    #[arg(long, value_name = "R")]
    pub(crate) radius: Length,
    /// Folder for the lists (both, only A, only B, and their union with confidences as scores), table and pictures
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Picks may be one particle though they are called differently
    #[arg(long)]
    pub(crate) any_class: bool,
    /// The tomogram, for a picture of slices
    #[arg(long, short, value_name = "FILE", requires = "output")]
    pub(crate) tomogram: Option<PathBuf>,
    /// Average each class of each part (both, only A, only B), to see whether they are particles; give --box or --reference
    #[arg(long, requires = "tomogram", help_heading = "Averages")]
    pub(crate) average_each: bool,
    /// Side of a particle's box, in voxels or Å: about twice its diameter [default: the reference's]
    #[arg(
        long = "box",
        value_name = "SIDE",
        requires = "average_each",
        help_heading = "Averages"
    )]
    pub(crate) side: Option<Length>,
    /// A map to align to, bright in the particle; without one the particles need rotations
    #[arg(
        long,
        value_name = "MAP",
        requires = "average_each",
        help_heading = "Averages"
    )]
    pub(crate) reference: Option<PathBuf>,
    /// Rounds of alignment; 0 averages the particles as the lists have them [default: 3]
    #[arg(long, value_name = "N", requires = "average_each", help_heading = "Averages")]
    pub(crate) iterations: Option<usize>,
    /// Tilts of the series in degrees, as HALF or MIN,MAX; 90 for a tomogram without a missing wedge [default: 60]
    #[arg(long, value_name = "DEGREES", allow_hyphen_values = true, value_parser = tilt, requires = "average_each",
        help_heading = "Averages")]
    pub(crate) tilt: Option<TiltRange>,
    /// Voxel size in Å, where the radius is in Å and the lists do not say
    #[arg(long, value_name = "A")]
    pub(crate) voxel_size: Option<f32>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Args)]
pub(crate) struct ReportArgs {
    /// The project file, or its folder
    #[arg(default_value = ".")]
    pub(crate) project: PathBuf,
    /// The page to write [default: report.html in the project's output]
    #[arg(long, short, value_name = "FILE.html")]
    pub(crate) output: Option<PathBuf>,
    /// A mask of a tomogram's membranes, for the distances of the picks to them; several tomograms are told apart by
    /// their names [default: the classes of the label maps that are called membranes]
    #[arg(long, value_name = "[TOMOGRAM=]FILE", value_parser = membrane)]
    pub(crate) membrane: Vec<(Option<String>, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
