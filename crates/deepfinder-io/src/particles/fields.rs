//! What fields mean, the same in every format.

use std::path::Path;

use deepfinder_core::{BACKGROUND, ClassTable, Label, Rotation, VoxelSize};

use crate::{IoError, Result};

/// One record's fields, with where they stand in case one is wrong.
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    pub(super) classes: &'a ClassTable,
    /// Line or record; asked for only when something is wrong.
    pub(super) place: &'a dyn Fn() -> String,
}

impl Fields<'_> {
    pub(super) fn wrong(&self, what: impl Into<String>) -> IoError {
        IoError::malformed(self.path, (self.place)(), what)
    }

    /// A label as a number, or the name of a class.
    pub(super) fn label(&self, text: &str) -> Result<Label> {
        if let Some(class) = self.classes.by_name(text) {
            return Ok(class.label);
        }
        match whole_number(text) {
            Some(label) if label == u64::from(BACKGROUND) => {
                Err(self.wrong("a particle of class 0, which is background: classes run from 1 to 255"))
            }
            Some(label) => Label::try_from(label)
                .map_err(|_| self.wrong(format!("class {text} is too large: classes run from 1 to 255"))),
            None if is_number(text) => {
                Err(self.wrong(format!("class {text} is no whole number from 1 to 255")))
            }
            None => Err(self.unknown_class(text)),
        }
    }

    fn unknown_class(&self, name: &str) -> IoError {
        let known: Vec<&str> = self
            .classes
            .classes()
            .iter()
            .map(|class| class.name.as_str())
            .collect();
        let hint = if known.is_empty() {
            "classes need names to be told apart here: name them in the project file".to_owned()
        } else {
            format!("the classes are {}", known.join(", "))
        };
        IoError::UnknownClass {
            path: self.path.to_owned(),
            place: (self.place)(),
            name: name.to_owned(),
            hint,
        }
    }

    /// A finite number; `name` is what it is called in the file.
    pub(super) fn number(&self, name: &str, text: &str) -> Result<f64> {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.wrong(format!("{name} is `{text}`, not a finite number"))),
        }
    }

    pub(super) fn score(&self, text: Option<&str>) -> Result<Option<f32>> {
        let Some(text) = text else { return Ok(None) };
        self.number("the score", text)?;
        match text.parse::<f32>() {
            Ok(score) if score.is_finite() => Ok(Some(score)),
            _ => Err(self.wrong(format!("the score `{text}` is too large"))),
        }
    }

    pub(super) fn size(&self, text: Option<&str>) -> Result<Option<u64>> {
        let Some(text) = text else { return Ok(None) };
        let size = whole_number(text);
        size.map(Some)
            .ok_or_else(|| self.wrong(format!("the cluster size `{text}` is no number of voxels")))
    }

    pub(super) fn voxel_size(&self, text: Option<&str>) -> Result<Option<VoxelSize>> {
        let Some(text) = text else { return Ok(None) };
        let size = self.number("the voxel size", text)?;
        let size = VoxelSize::new(size as f32);
        size.map(Some).map_err(|error| self.wrong(error.to_string()))
    }

    /// The rotation of ZXZ angles in degrees: all three, or none.
    pub(super) fn angles(&self, [phi, psi, the]: [Option<&str>; 3]) -> Result<Option<Rotation>> {
        match (phi, psi, the) {
            (Some(phi), Some(psi), Some(the)) => Ok(Some(Rotation::from_zxz_degrees(
                self.number("phi", phi)?,
                self.number("psi", psi)?,
                self.number("the", the)?,
            ))),
            (None, None, None) => Ok(None),
            _ => {
                Err(self.wrong("an orientation has three angles, phi, psi and the: give all of them or none"))
            }
        }
    }
}

/// An optional field: absent and empty are the same.
pub(super) fn present(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}

/// A whole number, also where a program wrote it as `600.0`.
fn whole_number(text: &str) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
    })
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// A coordinate to the last digit, with at least three decimals.
pub(super) fn decimal(number: f64) -> String {
    let shortest = number.to_string();
    let decimals = shortest.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if decimals < 3 {
        format!("{number:.3}")
    } else {
        shortest
    }
}

/// ZXZ angles `phi, psi, the` in degrees, to a millionth.
pub(super) fn angles(rotation: Rotation) -> [String; 3] {
    rotation.to_zxz_degrees().map(|angle| format!("{angle:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_numbers_or_names() {
        let classes = ClassTable::new(vec![deepfinder_core::Class {
            label: 4,
            name: "1bxn".to_owned(),
            radius_voxels: None,
        }])
        .unwrap();
        let fields = Fields {
            path: Path::new("picks.csv"),
            classes: &classes,
            place: &|| "line 3".to_owned(),
        };
        for (text, label) in [("1bxn", 4), ("4", 4), ("255", 255), ("7.0", 7)] {
            assert_eq!(fields.label(text).unwrap(), label);
        }
        for (text, word) in [
            ("0", "background"),
            ("256", "too large"),
            ("1.5", "whole"),
            ("-1", "whole"),
            ("1qvr", "1bxn"),
            ("", "1bxn"),
        ] {
            let message = fields.label(text).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
            assert!(message.starts_with("picks.csv: line 3: "), "{message}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (number, text) in [
            (46.0, "46.000"),
            (0.1, "0.100"),
            (-1.25, "-1.250"),
            (12.345_678_9, "12.3456789"),
            (1e21, "1000000000000000000000.000"),
        ] {
            assert_eq!(decimal(number), text);
        }
        assert_eq!(whole_number("600.0"), Some(600));
        assert_eq!(whole_number("600.5"), None);
        assert_eq!(whole_number("nan"), None);
    }
}
