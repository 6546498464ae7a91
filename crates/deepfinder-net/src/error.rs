/// An error of some other crate, kept as the cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of an operation on the network or its weights.
pub type Result<T, E = NetError> = std::result::Result<T, E>;

/// What can be wrong with weights, or with what is given to the network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Bytes that are neither safetensors nor HDF5.
    #[error(
        "these bytes are no weights: neither a safetensors nor a Keras HDF5 (.h5) file. Is the file complete?"
    )]
    UnknownFormat,
    /// A safetensors file that cannot be read or written.
    #[error("not a valid safetensors file of weights")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// An HDF5 file that cannot be read.
    #[error("the Keras weights file cannot be read at `{place}`")]
    Hdf5 {
        /// Group or data set inside the file.
        place: String,
        /// What the HDF5 reader said.
        #[source]
        source: BoxError,
    },
    /// An HDF5 file with another number of convolutions.
    #[error(
        "the Keras weights file holds {found} convolution layers (conv3d, conv3d_1, …) where the U-Net of DeepFinder has {expected}: these are the weights of another network"
    )]
    LayerCount {
        /// Convolutions of this network.
        expected: usize,
        /// Convolutions found.
        found: usize,
    },
    /// A tensor that the network needs is not there.
    #[error("the weights lack the tensor `{name}`: they belong to another network, or the file is damaged")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
    },
    /// A loss that does not depend on the network's logits.
    #[error("the loss does not depend on the network: compute it from the logits of the trace")]
    NoGradient,
    /// A tensor that the network does not know.
    #[error(
        "the weights hold a tensor `{name}` that this network does not have: they belong to another network"
    )]
    UnexpectedTensor {
        /// Name of the tensor.
        name: String,
    },
    /// A tensor of the wrong shape.
    #[error(
        "`{name}` should have the shape {expected:?} but has {found:?}: these are the weights of another network"
    )]
    Shape {
        /// Name of the tensor; with the name in the file where that differs.
        name: String,
        /// Shape that the network needs.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor of the wrong element type.
    #[error("`{name}` should hold f32 but holds {found}")]
    ElementType {
        /// Name of the tensor.
        name: String,
        /// Element type found.
        found: String,
    },
    /// A tensor with NaN or infinite values.
    #[error("`{name}` holds NaN or infinite values: the training diverged, or the file is damaged")]
    NonFinite {
        /// Name of the tensor.
        name: String,
    },
    /// The class table does not fit the network's last layer.
    #[error(
        "the class table needs {expected} scores per voxel (its largest label and background), but the network's layer `head` gives {found}"
    )]
    Classes {
        /// Scores that the class table needs.
        expected: usize,
        /// Scores that the network gives.
        found: usize,
    },
    /// A number of scores that no label map can hold, or that leaves nothing to tell apart.
    #[error("a network gives 2 to 256 scores per voxel (background among them), not {found}")]
    Scores {
        /// Number asked for.
        found: usize,
    },
    /// A head that there is not.
    #[error("`{found}` is no level that a network's head stands on: use full or half")]
    Head {
        /// What was asked for.
        found: String,
    },
    /// Metadata that are missing, damaged or contradict themselves.
    #[error("the metadata of the weights are unusable: {what}")]
    Metadata {
        /// What is wrong.
        what: String,
    },
    /// Weights of another kind or of a later version of the network.
    #[error(
        "these are weights of `{architecture}` version {version}; this program knows `{}` up to version {}",
        crate::ARCHITECTURE,
        crate::ARCHITECTURE_VERSION
    )]
    Architecture {
        /// Kind of network found.
        architecture: String,
        /// Version found.
        version: u32,
    },
    /// An input whose shape the network cannot take.
    #[error(
        "the network takes [N, 1, D, H, W] with sides that are multiples of {}, found {found:?}",
        crate::SIDE_MULTIPLE
    )]
    Input {
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}
