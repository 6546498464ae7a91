//! What fields mean, the same in every format.

use std::cell::Cell;
use std::path::Path;

use deepfinder_core::{BACKGROUND, Label, Rotation, VoxelSize};

use super::list::Draft;
use super::{Euler, ReadOptions};
use crate::{IoError, Result};

/// Programs let angles grow beyond a turn, but not for ever.
const FURTHEST_ANGLE: f64 = 1000.0;

/// The label of particles whose list knows no classes.
pub(super) const ONLY_CLASS: Label = 1;

/// What a format's reader gets.
pub(super) struct Input<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) options: &'a ReadOptions,
    /// Particles without a class so far.
    unclassed: Cell<usize>,
    /// Angles so far that are hard to believe.
    wild_angles: Cell<usize>,
}

impl<'a> Input<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8], options: &'a ReadOptions) -> Self {
        Self {
            path,
            bytes,
            options,
            unclassed: Cell::new(0),
            wild_angles: Cell::new(0),
        }
    }

    /// The content as text.
    pub(super) fn text(&self) -> Result<&'a str> {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes);
        std::str::from_utf8(bytes).map_err(|error| {
            let what = "this is no text in UTF-8, so no particle list that is read here. Is it a volume, or was it saved in another encoding?";
            IoError::malformed(self.path, format!("byte {}", error.valid_up_to()), what)
        })
    }

    pub(super) fn fields(&self, place: &'a dyn Fn() -> String) -> Fields<'_> {
        Fields { input: self, place }
    }

    /// The voxels to count positions of a list in Å in.
    pub(super) fn voxels_of_angstrom(
        &self,
        in_file: Option<VoxelSize>,
        draft: &mut Draft,
    ) -> Result<VoxelSize> {
        let of_tomogram = || {
            self.options
                .tomograms
                .get(None)
                .and_then(|frame| frame.voxel_size)
        };
        if let Some(size) = self.options.voxel_size.or(in_file).or_else(of_tomogram) {
            return Ok(size);
        }
        if self.options.is_preview {
            draft.note("positions are in Å, and no voxel size is known: shown in Å");
            return Ok(VoxelSize::new(1.0)?);
        }
        Err(IoError::unsupported(
            self.path,
            "positions are in Å here, and the file does not say the voxel size: give it (--voxel-size)",
        ))
    }

    /// Tells of particles that had no class.
    pub(super) fn note_unclassed(&self, draft: &mut Draft) {
        let (unclassed, all) = (self.unclassed.get(), draft.list.len());
        if unclassed > 0 {
            draft.note(format!(
                "{} no class of 1 to 255: taken as class {ONLY_CLASS}",
                if unclassed == all {
                    "particles have".to_owned()
                } else {
                    format!("{unclassed} of {all} particles have")
                }
            ));
        }
    }
}

impl Input<'_> {
    /// Tells of angles that are hard to believe.
    pub(super) fn note_wild_angles(&self, draft: &mut Draft) {
        let wild = self.wild_angles.get();
        if wild > 0 {
            draft.note(format!(
                "{wild} angles are beyond ±{FURTHEST_ANGLE}°: is that another column, or another unit?"
            ));
        }
    }
}

/// One record's fields, with where they stand in case one is wrong.
pub(super) struct Fields<'a> {
    pub(super) input: &'a Input<'a>,
    /// Line or record; asked for only when something is wrong.
    pub(super) place: &'a dyn Fn() -> String,
}

impl Fields<'_> {
    pub(super) fn wrong(&self, what: impl Into<String>) -> IoError {
        IoError::malformed(self.input.path, (self.place)(), what)
    }

    /// A label as a number, or the name of a class.
    pub(super) fn label(&self, text: &str) -> Result<Label> {
        if let Some(label) = self.known_class(text) {
            return Ok(label);
        }
        match whole_number(text) {
            Some(label) if label == u64::from(BACKGROUND) => {
                Err(self.wrong("a particle of class 0, which is background: classes run from 1 to 255"))
            }
            Some(label) => Label::try_from(label).map_err(|_| {
                self.wrong(format!(
                    "class {text} is too large: classes run from 1 to 255. Say which it shall be (--class-map {text}=1)"
                ))
            }),
            None if is_number(text) => {
                Err(self.wrong(format!("class {text} is no whole number from 1 to 255")))
            }
            None => Err(self.unknown_class(text)),
        }
    }

    /// The label of a class of another program: numbers that are no labels here, such as 0 or −999, and missing
    /// ones are class 1, and counted.
    pub(super) fn foreign_class(&self, text: Option<&str>) -> Result<Label> {
        let number = text.and_then(|text| text.parse::<f64>().ok());
        match (text, number) {
            (Some(text), _) if self.known_class(text).is_some() => self.label(text),
            (Some(text), Some(number)) if number >= 1.0 => self.label(text),
            (Some(text), None) => self.label(text),
            _ => {
                self.input.unclassed.set(self.input.unclassed.get() + 1);
                Ok(ONLY_CLASS)
            }
        }
    }

    /// The label of a class that its file names; new names are numbered in the order in which they come.
    pub(super) fn named_class(&self, name: &str, draft: &mut Draft) -> Result<Label> {
        let given = |draft: &Draft| Some(*draft.names.iter().find(|(_, own)| *own == name)?.0);
        let is_free = |label: &Label| {
            !draft.names.contains_key(label) && self.input.options.classes.by_label(*label).is_none()
        };
        let label = self
            .known_class(name)
            .or_else(|| given(draft))
            .or_else(|| (1..=Label::MAX).find(is_free))
            .ok_or_else(|| self.wrong("more than 255 classes"))?;
        draft.names.entry(label).or_insert_with(|| name.to_owned());
        Ok(label)
    }

    /// Whether the user says what becomes of that class.
    pub(super) fn knows_class(&self, text: &str) -> bool {
        self.known_class(text).is_some()
    }

    /// What the user says about a class.
    fn known_class(&self, text: &str) -> Option<Label> {
        let options = self.input.options;
        let mapped = options.class_map.get(text).copied();
        mapped.or_else(|| Some(options.classes.by_name(text)?.label))
    }

    fn unknown_class(&self, name: &str) -> IoError {
        let known: Vec<&str> = self
            .input
            .options
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
            path: self.input.path.to_owned(),
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

    /// An angle in degrees.
    pub(super) fn angle(&self, name: &str, text: &str) -> Result<f64> {
        let angle = self.number(name, text)?;
        self.doubt_angles(&[angle]);
        Ok(angle)
    }

    /// Counts angles that are hard to believe.
    pub(super) fn doubt_angles(&self, degrees: &[f64]) {
        let wild = degrees
            .iter()
            .filter(|angle| angle.abs() > FURTHEST_ANGLE)
            .count();
        let counted = &self.input.wild_angles;
        counted.set(counted.get() + wild);
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
            (Some(phi), Some(psi), Some(the)) => {
                let convention = self.input.options.euler.unwrap_or(Euler::ZXZ);
                Ok(Some(convention.rotation([
                    self.angle("phi", phi)?,
                    self.angle("psi", psi)?,
                    self.angle("the", the)?,
                ])))
            }
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
pub(super) fn whole_number(text: &str) -> Option<u64> {
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
    use deepfinder_core::ClassTable;

    #[test]
    fn labels_are_numbers_or_names() {
        let classes = ClassTable::new(vec![deepfinder_core::Class {
            label: 4,
            name: "1bxn".to_owned(),
            radius_voxels: None,
        }]);
        let options = ReadOptions {
            classes: classes.unwrap(),
            class_map: [("1000".to_owned(), 9)].into(),
            ..ReadOptions::default()
        };
        let input = Input::new(Path::new("picks.csv"), b"", &options);
        let fields = input.fields(&|| "line 3".to_owned());
        for (text, label) in [("1bxn", 4), ("4", 4), ("255", 255), ("7.0", 7), ("1000", 9)] {
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
    fn classes_of_other_programs_are_told_apart_or_counted() {
        let options = ReadOptions::default();
        let input = Input::new(Path::new("a.tbl"), b"", &options);
        let fields = input.fields(&|| "line 1".to_owned());
        let mut draft = Draft::default();
        for (name, label) in [("ribosome", 1), ("membrane", 2), ("ribosome", 1)] {
            assert_eq!(fields.named_class(name, &mut draft).unwrap(), label);
        }
        for text in [None, Some("0"), Some("-999")] {
            assert_eq!(fields.foreign_class(text).unwrap(), ONLY_CLASS);
        }
        assert_eq!(fields.foreign_class(Some("7")).unwrap(), 7);
        assert!(fields.foreign_class(Some("700")).is_err());
        input.note_unclassed(&mut draft);
        assert_eq!(draft.notes.len(), 1);
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
