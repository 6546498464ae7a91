/// An error of some other crate, kept as the cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a core operation.
pub type Result<T, E = CoreError> = std::result::Result<T, E>;

/// What can be wrong with the vocabulary itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A voxel size that is no length.
    #[error("a voxel size must be a positive, finite number of Å, found {found}")]
    VoxelSize {
        /// The number found.
        found: f32,
    },
    /// A window that reaches outside its volume.
    #[error("the window {start:?} + {shape:?} (z, y, x) does not lie inside a volume of {volume:?}")]
    Window {
        /// First voxel of the window, `(z, y, x)`.
        start: [usize; 3],
        /// Size of the window, `(z, y, x)`.
        shape: [usize; 3],
        /// Size of the volume, `(z, y, x)`.
        volume: [usize; 3],
    },
    /// Voxels that cannot be made into larger ones.
    #[error(
        "a volume of {volume:?} voxels (z, y, x) cannot be binned {factor} times: no voxel would be left"
    )]
    Binning {
        /// Voxels along an axis that become one.
        factor: usize,
        /// Size of the volume, `(z, y, x)`.
        volume: [usize; 3],
    },
    /// Two classes with the same label or name, or a class with label 0.
    #[error(
        "the class table holds {what} more than once, or as background: every class needs its own label from 1 to 255 and its own name"
    )]
    Class {
        /// The label or name in question.
        what: String,
    },
    /// Tilts that are no range.
    #[error("the tilts {min_degrees}° to {max_degrees}° are no range: they must ascend between −90° and 90°")]
    TiltRange {
        /// The lowest tilt found.
        min_degrees: f64,
        /// The highest tilt found.
        max_degrees: f64,
    },
    /// A name that is no point group.
    #[error("`{found}` is no symmetry: write C and the number of its axis (C1, C4), or D (D2)")]
    Symmetry {
        /// What was found.
        found: String,
    },
    /// An angular step with which no search can be made.
    #[error(
        "an angular step of {found}° is too fine or too coarse: it must be from 0.5° to 90°, and a thirtieth of the range about a known orientation at least"
    )]
    AngularStep {
        /// The step found.
        found: f64,
    },
    /// A reader or writer of a volume failed.
    #[error("{what}")]
    Stream {
        /// What was read or written, with the file's name.
        what: String,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// Long work ended because it was asked to.
    #[error("cancelled")]
    Cancelled,
}
