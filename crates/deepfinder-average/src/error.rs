use deepfinder_core::{BoxError, CoreError, VoxelSize};
use deepfinder_density::FourierError;

/// The result of an averaging.
pub type Result<T, E = AverageError> = std::result::Result<T, E>;

/// Why particles can't be averaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AverageError {
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
    /// Fewer particles than half-sets.
    #[error(
        "{found} particles have their whole box of {side}³ voxels inside their tomogram ({outside} do not): there must be 2 at least, one for each half-set"
    )]
    TooFew {
        /// Particles inside.
        found: usize,
        /// Particles whose box reaches outside.
        outside: usize,
        /// Side of the box in voxels.
        side: usize,
    },
    /// A particle that is not oriented, and nothing to orient it by.
    #[error(
        "{found} particles have no rotation: give a reference map to align them to, and one iteration at least"
    )]
    NoRotation {
        /// Particles without a rotation.
        found: usize,
    },
    /// A reference that does not fit.
    #[error(
        "the reference is {found:?} voxels (z, y, x), and {:.0} % of it lie in the middle {side}³, the box: give a larger box, or a \
         reference that is not empty and has its particle in the middle",
        100.0 * inside.max(0.0)
    )]
    Reference {
        /// Its size, `(z, y, x)`.
        found: [usize; 3],
        /// Side of the box in voxels.
        side: usize,
        /// Part of its power inside the box, in [0, 1]; NaN where it is empty.
        inside: f64,
    },
    /// Tomograms or reference at different scales.
    #[error(
        "voxels of {a} and of {b} do not fit together: resample the reference, or average tomograms of one voxel size"
    )]
    VoxelSize {
        /// One voxel size.
        a: VoxelSize,
        /// Another.
        b: VoxelSize,
    },
    /// A piece of a tomogram in which there is nothing to align.
    #[error("the particle at {position:?} (x, y, z): its box {what}")]
    Subtomogram {
        /// Its position in voxels.
        position: [f64; 3],
        /// What is wrong with it.
        what: &'static str,
    },
    /// A map of which a threshold leaves nothing.
    #[error("no voxel of the map reaches the threshold {threshold}: its values go from {min} to {max}")]
    EmptyMask {
        /// The threshold.
        threshold: f64,
        /// Smallest value of the map.
        min: f32,
        /// Largest value of the map.
        max: f32,
    },
    /// The Fourier transform failed.
    #[error("the alignment failed")]
    Fourier {
        /// Why.
        #[source]
        source: BoxError,
    },
    /// An error of the shared vocabulary; cancellation is one.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl From<FourierError> for AverageError {
    fn from(source: FourierError) -> Self {
        Self::Fourier {
            source: Box::new(source),
        }
    }
}
