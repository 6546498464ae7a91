use deepfinder_core::{CoreError, Label};

/// The result of an evaluation.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;

/// Why two things can't be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A parameter outside its range.
    #[error("{name} must be {expected}, found {found}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: f64,
    },
    /// A class of the truth for which no radius was given.
    #[error(
        "no radius was given for class {label}, which the truth holds: give one for it, or one for all classes"
    )]
    NoRadius {
        /// The class.
        label: Label,
    },
    /// Several tomograms, and a particle that doesn't say which is its own.
    #[error(
        "the lists hold several tomograms, but particle {index} of the {list} does not say which is its own"
    )]
    NoTomogram {
        /// Which list.
        list: &'static str,
        /// Its place in the list, from 0.
        index: usize,
    },
    /// A sweep over something that a pick does not have.
    #[error(
        "pick {index} (class {label}) has no {what} to sweep over: mean-shift, components and DBSCAN give sizes, peaks give scores"
    )]
    Missing {
        /// Its place in the list, from 0.
        index: usize,
        /// Its class.
        label: Label,
        /// `size` or `score`.
        what: &'static str,
    },
    /// Label maps of different sizes.
    #[error(
        "the true label map is {truth:?} voxels (z, y, x) and the predicted one {predicted:?}: they must be the same tomogram at the same binning"
    )]
    Shapes {
        /// Size of the true map, `(z, y, x)`.
        truth: [usize; 3],
        /// Size of the predicted map, `(z, y, x)`.
        predicted: [usize; 3],
    },
    /// An occupancy volume that doesn't belong to the list of particles.
    #[error(
        "the occupancy volume holds {found} at voxel {voxel:?} (z, y, x), but the truth lists particles 1 to {particles}"
    )]
    Occupancy {
        /// The value found.
        found: f64,
        /// Where, `(z, y, x)`.
        voxel: [usize; 3],
        /// Number of true particles.
        particles: usize,
    },
    /// Reading a volume failed, or the work was cancelled.
    #[error(transparent)]
    Core(#[from] CoreError),
}
