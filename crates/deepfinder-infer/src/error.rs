use deepfinder_core::CoreError;
use deepfinder_net::NetError;

/// The result of a segmentation.
pub type Result<T, E = InferError> = std::result::Result<T, E>;

/// Why a tomogram could not be segmented.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// A tomogram with nothing in it.
    #[error("the tomogram has no voxels: its shape is {shape:?} (z, y, x)")]
    Empty {
        /// Its shape, `(z, y, x)`.
        shape: [usize; 3],
    },
    /// A tomogram with voxels that are no numbers.
    #[error(
        "{non_finite} of the tomogram's {voxels} voxels are NaN or infinite: replace them before segmenting (by the tomogram's mean, say), or reconstruct the tomogram again"
    )]
    NonFinite {
        /// NaN and infinite voxels.
        non_finite: u64,
        /// All voxels.
        voxels: u64,
    },
    /// A tomogram that cannot be normalised.
    #[error(
        "all voxels of the tomogram are {value}: there is nothing to segment. Is it the right file, and was it written to the end?"
    )]
    Constant {
        /// The value of its voxels.
        value: f64,
    },
    /// A tile that would change the result.
    #[error("a tile's sides must be multiples of 4 and at least 4, found {tile:?} (z, y, x)")]
    Tile {
        /// The tile asked for, `(z, y, x)`.
        tile: [usize; 3],
    },
    /// A patch that the reference plan cannot use.
    #[error(
        "the reference plan needs a patch that is a multiple of 4 and larger than 54 voxels, found {patch}"
    )]
    Patch {
        /// The patch asked for, in voxels.
        patch: usize,
    },
    /// A patch that is larger than the padded tomogram.
    #[error(
        "a patch of {patch} voxels does not fit the tomogram {shape:?} (z, y, x), which the reference plan pads to {padded:?}: choose a smaller patch, or the exact plan"
    )]
    PatchTooLarge {
        /// The patch asked for, in voxels.
        patch: usize,
        /// Shape of the tomogram, `(z, y, x)`.
        shape: [usize; 3],
        /// Its shape with 25 voxels more on every side.
        padded: [usize; 3],
    },
    /// Nothing to segment with.
    #[error("there is no network to segment with")]
    NoNetwork,
    /// Networks that cannot be averaged.
    #[error(
        "networks whose scores are averaged must score the same classes: one gives {expected} scores per voxel (background among them), another {found}"
    )]
    Classes {
        /// Scores of the first network.
        expected: usize,
        /// Scores of another one.
        found: usize,
    },
    /// The reference plan does what the published program did.
    #[error(
        "the reference plan reproduces the published program, which takes one network and turns nothing: use the exact plan to average scores"
    )]
    ReferenceOfSeveral,
    /// Not one writer per score.
    #[error(
        "the network gives {expected} scores per voxel (background among them), but {found} score maps are to be written"
    )]
    ScoreMaps {
        /// Scores of the network.
        expected: usize,
        /// Writers given.
        found: usize,
    },
    /// The tomogram could not be read, an output not written, or the work was cancelled.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// An array did not have the shape that was computed for it.
    #[error("an array has an unexpected shape")]
    Shape(#[from] ndarray::ShapeError),
}

impl InferError {
    /// Whether a device could not hold a tensor. Told by the driver's word for it, which candle passes on: its error type
    /// exists only where it is built for that device.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        causes
            .map(|error| format!("{error} {error:?}"))
            .any(|said| said.contains("CUDA_ERROR_OUT_OF_MEMORY"))
    }
}
