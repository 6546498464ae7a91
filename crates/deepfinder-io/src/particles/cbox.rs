//! crYOLO's CBOX files: a STAR loop `data_cryolo` of boxes, and `data_cryolo_include` with the planes that hold any.
//!
//! `CoordinateX` and `CoordinateY` are a box's lowest corner, `Width` and `Height` its size, all in voxels: the particle is
//! at the corner + half the size. `CoordinateZ` is the plane of the middle already, whatever `Depth` says: so crYOLO
//! writes what it has traced through the planes, and so its own tools read it. `Confidence` is the score. One class, no
//! orientation, no voxel size.

use std::collections::BTreeSet;

use deepfinder_core::Particle;

use super::Parsed;
use super::boxes::edge;
use super::fields::{Input, decimal};
use super::list::Draft;
use super::star::{Star, write_loop};
use super::write::Output;
use crate::IoError;

/// What crYOLO writes where it does not know.
const UNKNOWN: &str = "<NA>";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let star = Star::parse(input)?;
    let block = star.with("CoordinateX").ok_or_else(|| {
        IoError::unsupported(
            input.path,
            "no table with CoordinateX: this is no CBOX file of crYOLO",
        )
    })?;
    let is_known = |text: &&str| *text != UNKNOWN;
    let z = |row| block.get(row, "CoordinateZ").filter(is_known);
    if !block.rows.is_empty() && block.rows.iter().all(|row| z(row).is_none()) {
        let what =
            "no CoordinateZ: these are boxes of micrographs, which have two coordinates, not of tomograms";
        return Err(IoError::unsupported(input.path, what));
    }
    let mut draft = Draft::default();
    for row in &block.rows {
        let place = || format!("line {}", row.line);
        let fields = input.fields(&place);
        let number = |label: &str| match block.get(row, label).filter(is_known) {
            None => Ok(0.0),
            Some(text) => fields.number(label, text),
        };
        let position = [
            number("CoordinateX")? + number("Width")? / 2.0,
            number("CoordinateY")? + number("Height")? / 2.0,
            number("CoordinateZ")?,
        ];
        let mut particle = Particle::new(position, fields.foreign_class(None)?);
        particle.score = fields.score(block.get(row, "Confidence").filter(is_known))?;
        draft.list.particles.push(particle);
    }
    draft.note("boxes became their centres");
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    const LABELS: [&str; 11] = [
        "CoordinateX",
        "CoordinateY",
        "CoordinateZ",
        "Width",
        "Height",
        "Depth",
        "EstWidth",
        "EstHeight",
        "Confidence",
        "NumBoxes",
        "Angle",
    ];
    let edge = edge(output);
    let mut rows = Vec::new();
    let mut planes = BTreeSet::new();
    for particle in output.list.iter() {
        let [x, y, z] = particle.position;
        planes.insert(z.round() as i64);
        let mut row = vec![decimal(x - edge / 2.0), decimal(y - edge / 2.0), decimal(z)];
        row.extend([edge; 3].map(|edge| edge.to_string()));
        row.extend([UNKNOWN; 2].map(str::to_owned));
        row.push(
            particle
                .score
                .map_or(UNKNOWN.to_owned(), |score| score.to_string()),
        );
        row.extend([UNKNOWN; 2].map(str::to_owned));
        rows.push(row);
    }
    let mut text = "data_global\n\n_cbox_format_version 1.0\n".to_owned();
    write_loop(&mut text, "cryolo", &LABELS.map(str::to_owned), &rows);
    let planes: Vec<Vec<String>> = planes.iter().map(|plane| vec![plane.to_string()]).collect();
    write_loop(&mut text, "cryolo_include", &["slice_index".to_owned()], &planes);
    text
}
