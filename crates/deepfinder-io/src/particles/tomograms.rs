//! Sizes of tomograms: RELION's tomograms STAR (`data_global`), or the header of a volume.
//!
//! RELION 5 gives `rlnTomoSize{X,Y,Z}` in pixels of the unbinned tilt series, `rlnTomoTiltSeriesPixelSize` in Å, and
//! `rlnTomoTomogramBinning`; RELION 4 the same without the last.

use std::path::{Path, PathBuf};

use deepfinder_core::VoxelSize;

use super::ReadOptions;
use super::fields::Input;
use super::star::Star;
use crate::{IoError, Result, open_volume};

/// What is known of a tomogram that a list refers to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TomogramFrame {
    /// Its name; none where there is but one.
    pub name: Option<String>,
    /// Size, `(z, y, x)`, in voxels of `voxel_size`.
    pub shape: [usize; 3],
    /// Edge of a voxel.
    pub voxel_size: Option<VoxelSize>,
    /// How many times the reconstruction is binned beside `shape` and `voxel_size`.
    pub binning: Option<f64>,
    /// The reconstruction, where the file names it.
    pub file: Option<PathBuf>,
    /// What an optics group of a particle STAR repeats: labels and values as they stand in the tomograms STAR.
    pub optics: Vec<(String, String)>,
}

impl TomogramFrame {
    /// The middle of the tomogram as RELION counts it: n/2, `(x, y, z)` in voxels of this frame.
    pub fn centre(&self) -> [f64; 3] {
        let [z, y, x] = self.shape;
        [x, y, z].map(|n| n as f64 / 2.0)
    }

    /// The middle `(x, y, z)` in Å.
    pub(super) fn centre_angstrom(&self) -> Option<[f64; 3]> {
        let edge = f64::from(self.voxel_size?.angstrom());
        Some(self.centre().map(|n| n * edge))
    }

    /// Size `(z, y, x)` in voxels of another size; its own where either is unknown.
    pub fn shape_in(&self, voxel_size: Option<VoxelSize>) -> [f64; 3] {
        let scale = match (self.voxel_size, voxel_size) {
            (Some(own), Some(other)) => f64::from(own.angstrom()) / f64::from(other.angstrom()),
            _ => 1.0,
        };
        self.shape.map(|n| n as f64 * scale)
    }
}

/// Tomograms by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TomogramTable {
    frames: Vec<TomogramFrame>,
}

impl TomogramTable {
    /// Reads RELION's tomograms STAR, or takes size and voxel size from the header of a volume.
    ///
    /// # Errors
    /// [`IoError`] where the file is neither.
    pub fn read(path: &Path) -> Result<Self> {
        let is_star = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("star"));
        if is_star {
            return Self::read_star(path);
        }
        let file = open_volume(path)?;
        Ok(Self::from(TomogramFrame {
            name: None,
            shape: file.shape(),
            voxel_size: file.voxel_size(),
            file: Some(path.to_owned()),
            ..TomogramFrame::default()
        }))
    }

    fn read_star(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(IoError::file("read", path))?;
        let options = ReadOptions::default();
        let input = Input::new(path, &bytes, &options);
        let star = Star::parse(&input)?;
        let block = star
            .blocks
            .iter()
            .find(|block| block.column("rlnTomoSizeX").is_some());
        let Some(block) = block else {
            let what =
                "no table with rlnTomoSizeX: RELION's list of tomograms (tomograms.star) is meant here";
            return Err(IoError::unsupported(path, what));
        };
        let mut frames = Vec::new();
        for row in &block.rows {
            let place = || format!("line {}", row.line);
            let fields = input.fields(&place);
            let text = |label: &str| block.get(row, label);
            let number = |label: &str| -> Result<f64> {
                let text = text(label).ok_or_else(|| fields.wrong(format!("no {label} in this line")))?;
                fields.number(label, text)
            };
            let size = |label: &str| -> Result<usize> {
                let n = number(label)?;
                if n >= 1.0 && n <= f64::from(i32::MAX) {
                    Ok(n as usize)
                } else {
                    Err(fields.wrong(format!("{label} is {n}, no number of voxels")))
                }
            };
            let optics = [
                "rlnOpticsGroupName",
                "rlnVoltage",
                "rlnSphericalAberration",
                "rlnAmplitudeContrast",
                "rlnTomoTiltSeriesPixelSize",
            ];
            let reconstruction = [
                "rlnTomoReconstructedTomogram",
                "rlnTomoReconstructedTomogramHalf1",
            ];
            frames.push(TomogramFrame {
                name: text("rlnTomoName").map(str::to_owned),
                shape: [
                    size("rlnTomoSizeZ")?,
                    size("rlnTomoSizeY")?,
                    size("rlnTomoSizeX")?,
                ],
                voxel_size: fields.voxel_size(text("rlnTomoTiltSeriesPixelSize"))?,
                binning: text("rlnTomoTomogramBinning")
                    .map(|text| fields.number("rlnTomoTomogramBinning", text))
                    .transpose()?,
                file: reconstruction.into_iter().find_map(text).map(PathBuf::from),
                optics: optics
                    .into_iter()
                    .filter_map(|label| Some((label.to_owned(), text(label)?.to_owned())))
                    .collect(),
            });
        }
        Ok(Self { frames })
    }

    /// The frame of a tomogram: that of its name, or the only one if it has none.
    pub fn get(&self, name: Option<&str>) -> Option<&TomogramFrame> {
        let named = name.and_then(|name| {
            let of =
                |frame: &&TomogramFrame| frame.name.as_deref().is_some_and(|own| is_same_name(own, name));
            self.frames.iter().find(of)
        });
        match self.frames.as_slice() {
            [only] if only.name.is_none() || name.is_none() => Some(only),
            _ => named,
        }
    }

    /// The frames, in the order of their file.
    pub fn frames(&self) -> &[TomogramFrame] {
        &self.frames
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl From<TomogramFrame> for TomogramTable {
    fn from(frame: TomogramFrame) -> Self {
        Self { frames: vec![frame] }
    }
}

/// Programs name a tomogram `TS_01`, `TS_01.tomostar` or `…/TS_01.mrc`.
fn is_same_name(a: &str, b: &str) -> bool {
    let bare = |name: &str| -> String {
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let name = [".tomostar", ".mrc", ".rec"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(name);
        name.to_owned()
    };
    a == b || bare(a) == bare(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: Option<&str>) -> TomogramFrame {
        TomogramFrame {
            name: name.map(str::to_owned),
            shape: [2, 4, 6],
            ..TomogramFrame::default()
        }
    }

    #[test]
    fn frames_are_found_by_any_form_of_their_name() {
        let table = TomogramTable {
            frames: vec![frame(Some("TS_01")), frame(Some("TS_02"))],
        };
        for name in ["TS_02", "TS_02.tomostar", "tomograms/TS_02.mrc"] {
            assert_eq!(
                table.get(Some(name)).and_then(|f| f.name.as_deref()),
                Some("TS_02")
            );
        }
        assert_eq!(table.get(Some("TS_03")), None);
        assert_eq!(table.get(None), None);
        let only = TomogramTable::from(frame(None));
        assert!(only.get(Some("whatever")).is_some());
        assert_eq!(only.get(None).unwrap().centre(), [3.0, 2.0, 1.0]);
        let named = TomogramTable::from(frame(Some("TS_01")));
        assert!(named.get(None).is_some() && named.get(Some("TS_03")).is_none());
    }
}
