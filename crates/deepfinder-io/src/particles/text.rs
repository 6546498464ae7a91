//! Lines of columns without a header: SHREC's ground truth and `label z y x`. Positions in voxels from 0, ZXZ angles.

use std::fmt::Write as _;

use deepfinder_core::{Particle, ParticleList};

use super::fields::{Fields, Input, angles, decimal};
use super::list::Draft;
use super::write::Output;
use super::{Parsed, ParticleFormat};
use crate::Result;

/// The order of SHREC's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShrecColumns {
    /// `pdb x y z [phi psi theta]`
    Xyz,
    /// `pdb z y x [phi theta psi]`: in the ground truth of SHREC'19 the angle that stays between 0° and 180°, the,
    /// is the middle one.
    Zyx,
}

/// What SHREC's simulated tomograms hold besides particles.
const NO_PARTICLES: [&str; 3] = ["fiducial", "vesicle", "membrane"];

pub(super) fn read_shrec(input: &Input<'_>, order: ShrecColumns) -> Parsed {
    let mut skipped = 0;
    let mut draft = read_lines(input, |fields, columns| {
        let (name, numbers) = columns.split_first().unwrap_or((&"", &[]));
        if !matches!(numbers.len(), 3 | 6) {
            let what = format!(
                "{} columns, but a line is `pdb x y z` or `pdb x y z phi psi theta`",
                columns.len()
            );
            return Err(fields.wrong(what));
        }
        let is_known = input.options.classes.by_name(name).is_some();
        if !is_known
            && NO_PARTICLES
                .iter()
                .any(|other| name.to_lowercase().starts_with(other))
        {
            skipped += 1;
            return Ok(None);
        }
        let angles = numbers.get(3..6);
        let (names, angles) = match order {
            ShrecColumns::Xyz => (["x", "y", "z"], angles.map(|a| [a[0], a[1], a[2]])),
            ShrecColumns::Zyx => (["z", "y", "x"], angles.map(|a| [a[0], a[2], a[1]])),
        };
        let mut position = position(fields, names, numbers)?;
        if order == ShrecColumns::Zyx {
            position.reverse();
        }
        let rotation = match angles {
            Some(angles) => fields.angles(angles.map(Some))?,
            None => None,
        };
        Ok(Some(
            Particle::new(position, fields.label(name)?).with_rotation(rotation),
        ))
    })?;
    if skipped > 0 {
        draft.note(format!(
            "{skipped} entries are fiducials, vesicles or membranes, no particles: left out"
        ));
    }
    Ok(draft)
}

pub(super) fn read_labels(input: &Input<'_>) -> Parsed {
    read_lines(input, |fields, columns| {
        let (label, numbers) = columns.split_first().unwrap_or((&"", &[]));
        if !matches!(numbers.len(), 3 | 4) {
            let what = format!(
                "{} columns, but a line is `label z y x` or `label z y x size`",
                columns.len()
            );
            return Err(fields.wrong(what));
        }
        let [z, y, x] = position(fields, ["z", "y", "x"], numbers)?;
        let mut particle = Particle::new([x, y, z], fields.label(label)?);
        particle.size_voxels = fields.size(numbers.get(3).copied())?;
        Ok(Some(particle))
    })
}

/// `label z y x [size]`, sizes only where all are known.
pub(super) fn write_labels(output: &Output<'_>) -> String {
    let has_sizes = output.list.iter().all(|particle| particle.size_voxels.is_some());
    let mut text = String::new();
    for particle in output.list.iter() {
        let [x, y, z] = particle.position.map(decimal);
        let size = particle.size_voxels.filter(|_| has_sizes);
        let size = size.map_or(String::new(), |size| format!(" {size}"));
        let _ = writeln!(text, "{} {z} {y} {x}{size}", particle.label);
    }
    text
}

/// SHREC's `pdb x y z [phi psi theta]`; a line without an orientation is short.
pub(super) fn write_shrec(output: &Output<'_>, order: ShrecColumns) -> String {
    let mut text = String::new();
    for particle in output.list.iter() {
        let mut position = particle.position.map(decimal);
        let mut turns = particle.rotation.map(angles);
        if order == ShrecColumns::Zyx {
            position.reverse();
            turns = turns.map(|[phi, psi, the]| [phi, the, psi]);
        }
        let name = output
            .class_name(particle.label)
            .replace(char::is_whitespace, "_");
        let numbers = position.iter().chain(turns.iter().flatten());
        let numbers: Vec<&str> = numbers.map(String::as_str).collect();
        let _ = writeln!(text, "{name} {}", numbers.join(" "));
    }
    text
}

/// The format that the first line looks like.
pub(super) fn guess(text: &str) -> Option<ParticleFormat> {
    let columns = lines(text)
        .map(|(_, columns)| columns)
        .find(|columns| !columns.is_empty())?;
    let is_number = |text: &&&str| text.parse::<f64>().is_ok();
    let numbers = columns.iter().skip(1).take_while(is_number).count();
    match (columns.iter().take(1).filter(is_number).count(), numbers) {
        (1, 2) => Some(ParticleFormat::Coords),
        (1, 3 | 4) => Some(ParticleFormat::Text),
        (0, 3 | 6) => Some(ParticleFormat::ShrecText),
        _ => None,
    }
}

fn read_lines(
    input: &Input<'_>,
    mut parse: impl FnMut(&Fields<'_>, &[&str]) -> Result<Option<Particle>>,
) -> Parsed {
    let mut list = ParticleList::default();
    for (number, columns) in lines(input.text()?) {
        if columns.is_empty() {
            continue;
        }
        let place = || format!("line {number}");
        let fields = input.fields(&place);
        list.particles.extend(parse(&fields, &columns)?);
    }
    Ok(Draft::from(list))
}

/// Lines with their number, cut into columns; comments have none.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines().enumerate().map(|(index, line)| {
        let content = line.split('#').next().unwrap_or_default();
        let columns = content.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
        (index + 1, columns.filter(|column| !column.is_empty()).collect())
    })
}

pub(super) fn position(fields: &Fields<'_>, names: [&str; 3], numbers: &[&str]) -> Result<[f64; 3]> {
    let mut position = [0.0; 3];
    for ((name, text), coordinate) in names.into_iter().zip(numbers).zip(&mut position) {
        *coordinate = fields.number(name, text)?;
    }
    Ok(position)
}
