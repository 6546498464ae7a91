use deepfinder_core::{BoxError, CoreError, Label, VoxelSize};

/// The result of a simulation.
pub type Result<T, E = SimError> = std::result::Result<T, E>;

/// Why a tomogram can't be simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// A setting that makes no sense.
    #[error("{name} is {found}: it must be {expected}")]
    Parameter {
        /// The field of the parameters.
        name: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// No template, or more than labels.
    #[error("{found} templates: there must be from 1 to 255, one for each class")]
    TemplateCount {
        /// Number of templates.
        found: usize,
    },
    /// A density map without a particle.
    #[error("the template `{name}` {what}: a density map must hold finite values, some of them above 0")]
    Template {
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A template on another grid than the tomogram.
    #[error(
        "the template `{name}` has voxels of {found}, the tomogram voxels of {expected}: resample the template first"
    )]
    VoxelSize {
        /// The template's name.
        name: String,
        /// Its voxel size.
        found: VoxelSize,
        /// The tomogram's.
        expected: VoxelSize,
    },
    /// Something is counted in Å, and there is no voxel size to count it in.
    #[error(
        "a low-pass filter in Å, a microscope's optics, membranes and gold need a voxel size: neither the parameters nor the templates have one"
    )]
    UnknownVoxelSize,
    /// Atoms of which no density can be made.
    #[error("no density can be made of these atoms: {what}")]
    Atoms {
        /// What is wrong with them.
        what: String,
    },
    /// A particle of a class without a template.
    #[error(
        "particle {index} (counted from 0) has label {label}, but there are templates for labels 1 to {templates}"
    )]
    UnknownClass {
        /// Its place in the list.
        index: usize,
        /// Its label.
        label: Label,
        /// Number of templates.
        templates: usize,
    },
    /// A particle that is nowhere.
    #[error("particle {index} (counted from 0) lies at {position:?} (x, y, z): its position must be finite")]
    Position {
        /// Its place in the list.
        index: usize,
        /// What the list says, `(x, y, z)`.
        position: [f64; 3],
    },
    /// More particles than numbers for them.
    #[error("{found} particles: a map of particle numbers can tell 65535 apart")]
    TooManyParticles {
        /// Number of particles.
        found: usize,
    },
    /// No room for a single particle.
    #[error(
        "not one particle fits into {shape:?} voxels (z, y, x) after {attempts} attempts each: make the volume larger or the gap between particles smaller"
    )]
    NoRoom {
        /// Size of the volume, `(z, y, x)`.
        shape: [usize; 3],
        /// Attempts made for each particle.
        attempts: usize,
    },
    /// A signal-to-noise ratio without signal.
    #[error(
        "the phantom is empty, so that a signal-to-noise ratio has no meaning: place particles inside, or ask for no noise"
    )]
    NoSignal,
    /// More voxels than an address can count.
    #[error("a tomogram of {shape:?} voxels (z, y, x) is larger than this machine can address")]
    TooLarge {
        /// Size asked for, `(z, y, x)`.
        shape: [usize; 3],
    },
    /// The Fourier transform failed.
    #[error("the Fourier transform failed")]
    Fourier {
        /// Why.
        #[source]
        source: BoxError,
    },
    /// An error of the shared vocabulary; cancellation is one.
    #[error(transparent)]
    Core(#[from] CoreError),
}
