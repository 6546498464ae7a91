use std::collections::BTreeMap;
use std::str::FromStr;

use deepfinder_core::{ClassTable, Label, Rotation, VoxelSize};

use super::{ParticleFormat, TomogramTable};

/// How to read a particle list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadOptions {
    /// The format; `None` (default) tells it from the content, then from the extension.
    pub format: Option<ParticleFormat>,
    /// Exchanges x and z after reading: for lists of DeepFinder from before 2020, where x is the slowest axis.
    pub swap_xz: bool,
    /// Classes by which names in the list, such as PDB ids, become labels. Lists with numbers need none.
    pub classes: ClassTable,
    /// What becomes of a class, by what the file calls it; comes before everything else.
    pub class_map: BTreeMap<String, Label>,
    /// Lists in voxels: the size of one, in place of what the file says. Lists in Å: the voxels to count in.
    pub voxel_size: Option<VoxelSize>,
    /// Sizes of the tomograms, for formats that count from their middle.
    pub tomograms: TomogramTable,
    /// Where positions count from; `None` (default) is the format's own convention.
    pub origin: Option<Origin>,
    /// What the first voxel is called, 0 or 1; `None` (default) is the format's own convention.
    pub first_voxel: Option<u8>,
    /// What three angles mean in formats that do not define them; `None` (default) is the format's own convention.
    pub euler: Option<Euler>,
    /// For a look at a file whose tomogram is not known: positions in Å stay in Å, positions that count from the
    /// middle stay so, and both are noted instead of being errors.
    pub is_preview: bool,
}

/// How to write a particle list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteOptions {
    /// The format; `None` (default) tells it from the extension.
    pub format: Option<ParticleFormat>,
    /// Names for labels, for formats that name classes.
    pub classes: ClassTable,
    /// Sizes of the tomograms, for formats that count from their middle.
    pub tomograms: TomogramTable,
}

/// Where positions count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The first voxel.
    Corner,
    /// The middle of the tomogram, n/2 voxels from the first.
    Centre,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "corner" => Ok(Self::Corner),
            "centre" | "center" => Ok(Self::Centre),
            _ => Err(format!("`{text}` is no origin: use corner or centre")),
        }
    }
}

/// What three angles in degrees mean. `inverse` is for programs that store the way from the tomogram to the particle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Euler {
    axes: EulerAxes,
    is_inverse: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EulerAxes {
    /// `Rz(psi) · Rx(the) · Rz(phi)`.
    Zxz,
    /// `Rz(−psi) · Ry(−tilt) · Rz(−rot)`.
    Zyz,
    /// `Rz(−tdrot) · Rx(−tilt) · Rz(−narot)`.
    Dynamo,
}

impl Euler {
    /// All conventions, with the name a user gives them.
    pub const NAMES: [&'static str; 6] = [
        "zxz",
        "zyz",
        "dynamo",
        "zxz-inverse",
        "zyz-inverse",
        "dynamo-inverse",
    ];

    /// The convention of DeepFinder, TOM, AV3, STOPGAP and PyTom: columns phi, psi, the.
    pub const ZXZ: Self = Self {
        axes: EulerAxes::Zxz,
        is_inverse: false,
    };

    /// The rotation of the angles that stand in the columns phi, psi and the, whatever they mean: for `zyz` these
    /// are rot, psi and tilt, for `dynamo` tdrot, narot and tilt.
    pub fn rotation(self, [phi, psi, the]: [f64; 3]) -> Rotation {
        let rotation = match self.axes {
            EulerAxes::Zxz => Rotation::from_zxz_degrees(phi, psi, the),
            EulerAxes::Zyz => Rotation::from_zyz_degrees(phi, the, psi),
            EulerAxes::Dynamo => Rotation::from_zxz_degrees(-psi, -phi, -the),
        };
        if self.is_inverse {
            rotation.inverse()
        } else {
            rotation
        }
    }
}

impl FromStr for Euler {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, is_inverse) = match text.strip_suffix("-inverse") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let axes = match name {
            "zxz" => EulerAxes::Zxz,
            "zyz" => EulerAxes::Zyz,
            "dynamo" => EulerAxes::Dynamo,
            _ => {
                return Err(format!(
                    "`{text}` is no convention of angles: use {}",
                    Self::NAMES.join(", ")
                ));
            }
        };
        Ok(Self { axes, is_inverse })
    }
}
