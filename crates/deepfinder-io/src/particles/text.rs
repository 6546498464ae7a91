//! Lines of columns without a header: SHREC's ground truth and `label z y x`.

use deepfinder_core::{Particle, ParticleList};

use super::fields::Fields;
use super::{Input, Parsed, ParticleFormat};
use crate::{IoError, Result};

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
    let list = read_lines(input, |fields, columns| {
        let (name, numbers) = columns.split_first().unwrap_or((&"", &[]));
        if !matches!(numbers.len(), 3 | 6) {
            let what = format!(
                "{} columns, but a line is `pdb x y z` or `pdb x y z phi psi theta`",
                columns.len()
            );
            return Err(fields.wrong(what));
        }
        let is_known = input.classes.by_name(name).is_some();
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
        tracing::warn!(
            "{}: {skipped} entries are fiducials, vesicles or membranes, no particles: left out",
            input.path.display()
        );
    }
    Ok(list)
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

/// The format that the first line looks like.
pub(super) fn guess(text: &str) -> Option<ParticleFormat> {
    let columns = lines(text)
        .map(|(_, columns)| columns)
        .find(|columns| !columns.is_empty())?;
    let is_number = |text: &&&str| text.parse::<f64>().is_ok();
    let numbers = columns.iter().skip(1).take_while(is_number).count();
    match (columns.iter().take(1).filter(is_number).count(), numbers) {
        (1, 3 | 4) => Some(ParticleFormat::Text),
        (0, 3 | 6) => Some(ParticleFormat::ShrecText),
        _ => None,
    }
}

fn read_lines(
    input: &Input<'_>,
    mut parse: impl FnMut(&Fields<'_>, &[&str]) -> Result<Option<Particle>>,
) -> Result<ParticleList, IoError> {
    let mut list = ParticleList::default();
    for (number, columns) in lines(input.text) {
        if columns.is_empty() {
            continue;
        }
        let place = || format!("line {number}");
        let fields = Fields {
            path: input.path,
            classes: input.classes,
            place: &place,
        };
        list.particles.extend(parse(&fields, &columns)?);
    }
    Ok(list)
}

/// Lines with their number, cut into columns; comments have none.
fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines().enumerate().map(|(index, line)| {
        let content = line.split('#').next().unwrap_or_default();
        let columns = content.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
        (index + 1, columns.filter(|column| !column.is_empty()).collect())
    })
}

fn position(fields: &Fields<'_>, names: [&str; 3], numbers: &[&str]) -> Result<[f64; 3]> {
    let mut position = [0.0; 3];
    for ((name, text), coordinate) in names.into_iter().zip(numbers).zip(&mut position) {
        *coordinate = fields.number(name, text)?;
    }
    Ok(position)
}
