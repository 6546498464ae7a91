use std::fmt;
use std::str::FromStr;

use candle_conv3d::GRID;
use candle_core::Shape;
use serde::{Deserialize, Serialize};

use crate::NetError;

/// Name of the network in the metadata of its weights.
pub const ARCHITECTURE: &str = "deepfinder-unet";

/// Version of [`ARCHITECTURE`] that this crate writes.
pub const ARCHITECTURE_VERSION: u32 = 1;

/// Sides of the network's input are multiples of this: it pools twice by 2.
pub const SIDE_MULTIPLE: usize = 4;

/// Where the network ends: the level that its last layer stands on. Scores are those of the tomogram's voxels in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// On the full level: each voxel has scores of its own.
    #[default]
    Full,
    /// On the half level: 2³ voxels share their scores, and the network ends before the decoder of the full level, which
    /// takes more than half of the work. For targets that need no finer outline, such as points.
    Half,
}

impl Head {
    /// All of them, with the names that a user gives them.
    pub const ALL: [(&'static str, Self); 2] = [("full", Self::Full), ("half", Self::Half)];

    /// Whether it stands on the full level.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
    pub fn is_full(&self) -> bool {
        *self == Self::Full
    }

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, head)| *head == self)
            .map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Head {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, head)| *head).ok_or_else(|| NetError::Head {
            found: text.to_owned(),
        })
    }
}

/// How far the network looks, see [`ReceptiveField`]; with a [`Head::Half`] it looks a few voxels less far.
pub const RECEPTIVE_FIELD: ReceptiveField = reach(1);

/// How far the last bits of a result look, on each axis (D, H, W): further than the network itself, since a
/// convolution computes neighbouring outputs together ([`candle_conv3d::GRID`]). With a [`Head::Half`] no further.
pub const INFLUENCE: [ReceptiveField; 3] = [reach(GRID[0]), reach(GRID[1]), reach(GRID[2])];

/// Where a part of a volume may begin so that its voxels lie on the same grid at each level: at multiples of this, on
/// each axis (D, H, W).
pub const ORIGIN_MULTIPLE: [usize; 3] = [
    SIDE_MULTIPLE * GRID[0],
    SIDE_MULTIPLE * GRID[1],
    SIDE_MULTIPLE * GRID[2],
];

/// Walks back through the layers from each of the voxels that pool to one, where a 3-wide convolution looks as far as
/// the `grid` outputs beside each other that it computes together.
const fn reach(grid: usize) -> ReceptiveField {
    let grid = grid as isize;
    let mut field = ReceptiveField { before: 0, after: 0 };
    let mut voxel = 0;
    while voxel < SIDE_MULTIPLE as isize {
        // Two convolutions, up from half, two more, up from a quarter, four, and down again with two on each level.
        let mut first = voxel - 2 * grid;
        first = first.div_euclid(2) - 2 * grid;
        first = first.div_euclid(2) - 4 * grid;
        first = 2 * (2 * first - 2 * grid) - 2 * grid;
        // The odd outputs of an up-convolution see one input further; pooling reads pairs.
        let mut last = voxel + 2 * grid;
        last = (last + 1).div_euclid(2) + 2 * grid;
        last = (last + 1).div_euclid(2) + 4 * grid;
        last = 2 * (2 * last + 1 + 2 * grid) + 1 + 2 * grid;
        let (before, after) = ((voxel - first) as usize, (last - voxel) as usize);
        if before > field.before {
            field.before = before;
        }
        if after > field.after {
            field.after = after;
        }
        voxel += 1;
    }
    field
}

/// Input voxels that an output voxel depends on, on each axis: those from `before` in front of it to
/// `after` behind it. The sides differ because a 2-wide kernel and pooling look ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Voxels before.
    pub before: usize,
    /// Voxels after.
    pub after: usize,
}

/// A convolution of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// What its tensors' names begin with; `.weight` and `.bias` follow.
    pub name: &'static str,
    /// Side of the cubic kernel.
    pub kernel: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

impl Layer {
    /// Shape of the weight, `[O, C, kd, kh, kw]`.
    pub(crate) fn weight_shape(&self) -> [usize; 5] {
        [self.outputs, self.inputs, self.kernel, self.kernel, self.kernel]
    }

    /// Name of the weight.
    pub(crate) fn weight_name(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// Names and shapes of the layer's tensors: weight, bias.
    pub(crate) fn tensors(&self) -> [(String, Shape); 2] {
        [
            (self.weight_name(), (&self.weight_shape()).into()),
            (format!("{}.bias", self.name), self.outputs.into()),
        ]
    }
}

/// The layers down to the lowest level and up to the half level: name, kernel, inputs, outputs.
const TRUNK: [(&str, usize, usize, usize); 11] = [
    ("full.encode.0", 3, 1, 32),
    ("full.encode.1", 3, 32, 32),
    ("half.encode.0", 3, 32, 48),
    ("half.encode.1", 3, 48, 48),
    ("quarter.0", 3, 48, 64),
    ("quarter.1", 3, 64, 64),
    ("quarter.2", 3, 64, 64),
    ("quarter.3", 3, 64, 64),
    ("half.upsample", 2, 64, 64),
    ("half.decode.0", 3, 64 + 48, 48),
    ("half.decode.1", 3, 48, 48),
];

/// The layers of the full level's decoder, which a network with a [`Head::Half`] lacks.
const FULL_DECODER: [(&str, usize, usize, usize); 3] = [
    ("full.upsample", 2, 48, 48),
    ("full.decode.0", 3, 48 + 32, 32),
    ("full.decode.1", 3, 32, 32),
];

/// Convolutions of a network with a [`Head::Full`].
pub(crate) const LAYERS: usize = TRUNK.len() + FULL_DECODER.len() + 1;

/// Name of the last layer.
pub(crate) const HEAD: &str = "head";

/// Every convolution, in the order in which they run, for that many scores (background among them).
pub(crate) fn layers(scores: usize, head: Head) -> impl Iterator<Item = Layer> {
    let (decoder, features) = match head {
        Head::Full => (&FULL_DECODER[..], 32),
        Head::Half => (&[][..], 48),
    };
    TRUNK
        .into_iter()
        .chain(decoder.iter().copied())
        .chain([(HEAD, 1, features, scores)])
        .map(|(name, kernel, inputs, outputs)| Layer {
            name,
            kernel,
            inputs,
            outputs,
        })
}
