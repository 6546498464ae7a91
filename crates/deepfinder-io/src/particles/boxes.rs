//! Boxes of crYOLO and EMAN (`.box`), in voxels. Of a tomogram, as crYOLO writes them: lines `x y z`, the middle of a box,
//! voxel 0's centre at 0. Of one plane, a micrograph or slice: lines `x y width height` and what else may follow, where `x` and
//! `y` are the lowest corner, so that the particle is at the corner + half the size; such a file does not say in which plane
//! it lies, so that z is 0. One class, no score, no voxel size.

use std::fmt::Write as _;

use deepfinder_core::Particle;

use super::Parsed;
use super::fields::{Input, decimal};
use super::list::Draft;
use super::text::{lines, position};
use super::write::Output;

/// The edge of a box in voxels where the size of a particle is not known.
const EDGE: f64 = 16.0;

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    let mut is_plane = None;
    for (number, columns) in lines(input.text()?) {
        if columns.is_empty() {
            continue;
        }
        let place = || format!("line {number}");
        let fields = input.fields(&place);
        let middle = |name: &str, corner, size| -> crate::Result<f64> {
            Ok(fields.number(name, corner)? + fields.number("a box's size", size)? / 2.0)
        };
        let position = match columns.as_slice() {
            [_, _, _] => position(&fields, ["x", "y", "z"], &columns)?,
            &[x, y, width, height, ..] => [middle("x", x, width)?, middle("y", y, height)?, 0.0],
            _ => {
                let what = format!(
                    "{} columns, but a line is `x y z` or `x y width height`",
                    columns.len()
                );
                return Err(fields.wrong(what));
            }
        };
        if *is_plane.get_or_insert(columns.len() > 3) != (columns.len() > 3) {
            return Err(
                fields.wrong("boxes of a tomogram (`x y z`) and of a plane (`x y width height`) in one file")
            );
        }
        draft
            .list
            .particles
            .push(Particle::new(position, fields.foreign_class(None)?));
    }
    if is_plane == Some(true) {
        draft.note("boxes of one plane became their centres; the file does not say which plane: z is 0");
    }
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &Output<'_>) -> String {
    let mut text = String::new();
    for particle in output.list.iter() {
        let [x, y, z] = particle.position.map(decimal);
        let _ = writeln!(text, "{x}\t{y}\t{z}");
    }
    text
}

/// The edge in whole voxels of a box around the largest of the classes; noted where no class has a size.
pub(super) fn edge(output: &mut Output<'_>) -> f64 {
    let labels = output.list.count_by_label();
    let radii = labels
        .keys()
        .filter_map(|&label| output.classes.by_label(label)?.radius_voxels);
    if let Some(radius) = radii.reduce(f32::max) {
        return f64::from(2.0 * radius).ceil().max(1.0);
    }
    output.note(format!(
        "boxes are {EDGE} voxels wide, as the size of the particles is not known here; their middles are right"
    ));
    EDGE
}
