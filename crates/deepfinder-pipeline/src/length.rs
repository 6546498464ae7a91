use std::fmt;
use std::str::FromStr;

use deepfinder_core::VoxelSize;
use serde::{Deserialize, Serialize};

use crate::{PipelineError, Result};

/// A length as a user writes it: `6` (voxels), `60 A` or `6 nm`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Length {
    /// In voxels of the tomogram at hand.
    Voxels(f64),
    /// In Å.
    Angstrom(f64),
}

/// How a length stands in a project file: a bare number, or text with a unit.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl Length {
    /// The length in voxels of that size.
    ///
    /// # Errors
    /// [`PipelineError::Input`] for a length in Å where the voxel size is unknown.
    pub fn in_voxels(self, voxel_size: Option<VoxelSize>) -> Result<f64> {
        match (self, voxel_size) {
            (Self::Voxels(voxels), _) => Ok(voxels),
            (Self::Angstrom(angstrom), Some(size)) => Ok(angstrom / f64::from(size.angstrom())),
            (Self::Angstrom(angstrom), None) => Err(PipelineError::input(format!(
                "a length of {angstrom} Å cannot be turned into voxels: the file does not say its voxel size; \
                 give the length in voxels (a bare number) or set the voxel size with --voxel-size"
            ))),
        }
    }
}

impl FromStr for Length {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let unit_at = text
            .find(|c: char| c.is_alphabetic() && c != 'e' && c != 'E')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let value = number
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite() && *value > 0.0);
        match (value, unit.trim().to_lowercase().as_str()) {
            (Some(value), "" | "px" | "vox" | "voxel" | "voxels") => Ok(Self::Voxels(value)),
            (Some(value), "a" | "å" | "ang" | "angstrom") => Ok(Self::Angstrom(value)),
            (Some(value), "nm") => Ok(Self::Angstrom(10.0 * value)),
            _ => Err(PipelineError::input(format!(
                "`{text}` is not a length: write a positive number of voxels (6), Å (60A) or nanometres (6nm)"
            ))),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Voxels(voxels) => write!(f, "{voxels}"),
            Self::Angstrom(angstrom) => write!(f, "{angstrom} A"),
        }
    }
}

impl TryFrom<Written> for Length {
    type Error = PipelineError;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Length> for Written {
    fn from(length: Length) -> Self {
        match length {
            Length::Voxels(voxels) => Self::Number(voxels),
            Length::Angstrom(_) => Self::Text(length.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let ten = VoxelSize::new(10.0).ok();
        for (text, voxels) in [
            ("6", 6.0),
            ("60 A", 6.0),
            ("60Å", 6.0),
            ("6nm", 6.0),
            ("1e1", 10.0),
            ("2.5 px", 2.5),
        ] {
            let length: Length = text.parse().unwrap();
            assert_eq!(length.in_voxels(ten).unwrap(), voxels, "{text}");
            assert_eq!(length.to_string().parse::<Length>().unwrap(), length);
        }
        for bad in ["", "A", "-3", "0", "six", "6 miles", "NaN"] {
            assert!(bad.parse::<Length>().is_err(), "{bad}");
        }
        assert!(Length::Angstrom(60.0).in_voxels(None).is_err());
    }
}
