use deepfinder_core::{CoreError, Label, VoxelSize};

/// The result of drawing a target.
pub type Result<T, E = TargetError> = std::result::Result<T, E>;

/// Why a target can't be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A class that the order names twice.
    #[error("class {label} stands twice in the order of classes: name it once, where it is to be drawn")]
    OrderTwice {
        /// The class.
        label: Label,
    },
    /// A class of the order that has no shape.
    #[error(
        "class {label} of the order of classes has no shape: give it a radius or a mask, or leave it out"
    )]
    OrderShape {
        /// The class.
        label: Label,
    },
    /// Particles of a class that has no shape.
    #[error(
        "no shape for {}: give each of these classes a radius or a mask, or leave its particles out",
        list_classes(classes)
    )]
    NoShape {
        /// Each such class with the number of its particles.
        classes: Vec<(Label, usize)>,
    },
    /// A shape for label 0.
    #[error("label 0 is background and can't have a shape: number the classes from 1")]
    BackgroundShape,
    /// A sphere without extent.
    #[error("the radius of class {label} is {found} voxels: it must be positive and finite")]
    Radius {
        /// The class.
        label: Label,
        /// The radius found.
        found: f64,
    },
    /// A mask whose sides differ.
    #[error(
        "the mask of class {label} has {found:?} voxels (z, y, x): it must be a cube, as it is rotated about its centre; pad it with zeros"
    )]
    MaskShape {
        /// The class.
        label: Label,
        /// Its size, `(z, y, x)`.
        found: [usize; 3],
    },
    /// A mask without a voxel.
    #[error("the mask of class {label} is empty: not one of its voxels is above 0")]
    EmptyMask {
        /// The class.
        label: Label,
    },
    /// A particle that is nowhere.
    #[error("particle {index} (counted from 0) lies at {position:?} (x, y, z): its position must be finite")]
    Position {
        /// Its place in the list.
        index: usize,
        /// What the list says, `(x, y, z)`.
        position: [f64; 3],
    },
    /// An initial label map of another size.
    #[error("the initial label map has {found:?} voxels (z, y, x), the tomogram {expected:?}")]
    InitialShape {
        /// Size of the target, `(z, y, x)`.
        expected: [usize; 3],
        /// Size of the initial label map, `(z, y, x)`.
        found: [usize; 3],
    },
    /// An initial label map of another voxel size.
    #[error(
        "the initial label map has voxels of {initial}, the particles are counted in voxels of {particles}: bring them to one voxel size"
    )]
    VoxelSize {
        /// Of the initial label map.
        initial: VoxelSize,
        /// Of the particle list.
        particles: VoxelSize,
    },
    /// More voxels than an address can count.
    #[error("a label map of {shape:?} voxels (z, y, x) is larger than this machine can address")]
    TooLarge {
        /// Size asked for, `(z, y, x)`.
        shape: [usize; 3],
    },
    /// An error of the shared vocabulary; cancellation is one.
    #[error(transparent)]
    Core(#[from] CoreError),
}

fn list_classes(classes: &[(Label, usize)]) -> String {
    let named: Vec<String> = classes
        .iter()
        .map(|(label, particles)| format!("class {label} ({particles} particles)"))
        .collect();
    named.join(", ")
}
