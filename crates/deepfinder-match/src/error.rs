use deepfinder_core::{BoxError, CoreError, VoxelSize};
use deepfinder_density::FourierError;

/// The result of a template matching.
pub type Result<T, E = MatchError> = std::result::Result<T, E>;

/// Why a template can't be matched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
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
    /// A template without a particle.
    #[error("the template {what}: it must hold finite values, which differ within its mask")]
    Template {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A template on another grid than the tomogram.
    #[error(
        "the template has voxels of {template}, the tomogram voxels of {tomogram}: resample the template to the tomogram's voxels first"
    )]
    VoxelSize {
        /// The template's voxel size.
        template: VoxelSize,
        /// The tomogram's.
        tomogram: VoxelSize,
    },
    /// A resolution or a contrast transfer in Å, and no voxel size to count it in.
    #[error(
        "a low-pass filter in Å and a contrast transfer need a voxel size: neither the tomogram nor the template has one"
    )]
    UnknownVoxelSize,
    /// A tomogram in which there is nothing to find.
    #[error("the tomogram {what}")]
    Tomogram {
        /// What is wrong with it.
        what: String,
    },
    /// No rotation, or more than an f32 can number.
    #[error("{found} rotations: there must be from 1 to 16777216")]
    Rotations {
        /// Number of rotations.
        found: usize,
    },
    /// The Fourier transform failed.
    #[error("the correlation failed")]
    Fourier {
        /// Why.
        #[source]
        source: BoxError,
    },
    /// An error of the shared vocabulary; cancellation is one.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl From<FourierError> for MatchError {
    fn from(source: FourierError) -> Self {
        Self::Fourier {
            source: Box::new(source),
        }
    }
}
