//! Dynamo's tables: numbers in columns, one particle a line
//! (<https://wiki.dynamo.biozentrum.unibas.ch/w/index.php/Table_convention>).
//!
//! Columns, counted from 1: 1 tag, 4–6 shift in pixels (added), 7–9 tdrot, tilt, narot, 10 cross-correlation, 20 number
//! of the tomogram, 22 class, 24–26 position in pixels, 36 pixel size in Å. Tables have 26 columns or more; what
//! is missing is 0. `R = [extrinsic ZXZ(tdrot, tilt, narot)]⁻¹` from particle to tomogram, in degrees.
//! Voxel 0's centre is taken to be at 0, as dynamo2m and `ArtiaX` do.

use std::fmt::Write as _;

use deepfinder_core::{Particle, Rotation};

use super::Parsed;
use super::fields::{Fields, Input, decimal};
use super::list::Draft;
use super::text::lines;
use super::write::Output;
use crate::Result;

const COLUMNS: usize = 36;
const FEWEST_COLUMNS: usize = 26;

/// Whether the first line could be of a table.
pub(super) fn is_table(text: &str) -> bool {
    let first = lines(text)
        .map(|(_, columns)| columns)
        .find(|columns| !columns.is_empty());
    first.is_some_and(|columns| {
        columns.len() >= FEWEST_COLUMNS
            && columns
                .iter()
                .all(|text| text.parse::<f64>().is_ok() || *text == "NaN")
    })
}

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    let mut is_shifted = false;
    for (number, columns) in lines(input.text()?) {
        if columns.is_empty() {
            continue;
        }
        let place = || format!("line {number}");
        let fields = input.fields(&place);
        if columns.len() < FEWEST_COLUMNS {
            let what = format!(
                "{} columns, but a table of Dynamo has {FEWEST_COLUMNS} or more",
                columns.len()
            );
            return Err(fields.wrong(what));
        }
        let [x, y, z] = triple(&fields, &columns, 24)?;
        let shift = triple(&fields, &columns, 4)?;
        is_shifted |= shift != [0.0; 3];
        let [tdrot, tilt, narot] = triple(&fields, &columns, 7)?;
        fields.doubt_angles(&[tdrot, tilt, narot]);
        let position = [x + shift[0], y + shift[1], z + shift[2]];
        let mut particle = Particle::new(position, fields.foreign_class(Some(columns[21]))?);
        particle.rotation = Some(match input.options.euler {
            Some(euler) => euler.rotation([tdrot, narot, tilt]),
            None => Rotation::from_zxz_degrees(-narot, -tdrot, -tilt),
        });
        particle.score =
            fields.score(Some(columns[9]).filter(|text| text.parse::<f64>().is_ok_and(f64::is_finite)))?;
        particle.tomogram = Some(columns[19].into());
        let size = columns
            .get(COLUMNS - 1)
            .copied()
            .filter(|text| text.parse() != Ok(0.0));
        let size = fields.voxel_size(size)?;
        if draft.list.is_empty() {
            draft.list.voxel_size = size;
        } else if draft.list.voxel_size != size {
            return Err(
                fields.wrong("the pixel size (column 36) changes within the table: split it by pixel size")
            );
        }
        draft.list.particles.push(particle);
    }
    draft.note(
        "positions were taken to count from 0, as dynamo2m does (--first-voxel 1 if yours count from 1)",
    );
    if is_shifted {
        draft.note("shifts (columns 4 to 6) were added to the positions");
    }
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    let tomograms = output.tomogram_numbers();
    let mut text = String::new();
    for (index, (particle, tomogram)) in output.list.iter().zip(tomograms).enumerate() {
        let mut row = vec!["0".to_owned(); COLUMNS];
        let mut set = |column: usize, value: String| row[column - 1] = value;
        set(1, (index + 1).to_string());
        set(2, "1".to_owned());
        if let Some(rotation) = particle.rotation {
            let [tdrot, narot, tilt] = rotation.inverse().to_zxz_degrees();
            for (column, angle) in [(7, tdrot), (8, tilt), (9, narot)] {
                set(column, format!("{angle:.6}"));
            }
        }
        set(10, particle.score.unwrap_or(0.0).to_string());
        set(13, "1".to_owned());
        set(20, tomogram.to_string());
        set(22, particle.label.to_string());
        for (column, value) in (24..).zip(particle.position) {
            set(column, decimal(value));
        }
        if let Some(size) = output.list.voxel_size {
            set(36, size.angstrom().to_string());
        }
        let _ = writeln!(text, "{}", row.join(" "));
    }
    text
}

/// Three columns, the first counted from 1.
fn triple(fields: &Fields<'_>, columns: &[&str], first: usize) -> Result<[f64; 3]> {
    let mut values = [0.0; 3];
    for ((column, text), value) in (first..).zip(&columns[first - 1..]).zip(&mut values) {
        *value = fields.number(&format!("column {column}"), text)?;
    }
    Ok(values)
}
