//! Points: lines `x y z`, or `class x y z` where there are four columns (`DeepETPicker`, crYOLO, IMOD's point files, the
//! portal's points without a header). Voxels, voxel 0's centre at 0. Comments begin with `#`.

use std::fmt::Write as _;

use deepfinder_core::Particle;

use super::Parsed;
use super::fields::{Input, decimal};
use super::list::Draft;
use super::text::{lines, position};
use super::write::Output;

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    let mut width = None;
    for (number, columns) in lines(input.text()?) {
        if columns.is_empty() {
            continue;
        }
        let place = || format!("line {number}");
        let fields = input.fields(&place);
        let (class, point) = match columns.as_slice() {
            point @ [_, _, _] => (None, point),
            [class, point @ ..] if point.len() == 3 => (Some(*class), point),
            other => {
                let what = format!("{} columns, but a line is `x y z` or `class x y z`", other.len());
                return Err(fields.wrong(what));
            }
        };
        if *width.get_or_insert(columns.len()) != columns.len() {
            return Err(fields.wrong("another number of columns than in the lines before"));
        }
        let position = position(&fields, ["x", "y", "z"], point)?;
        draft
            .list
            .particles
            .push(Particle::new(position, fields.foreign_class(class)?));
    }
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    let has_classes = output.list.count_by_label().len() > 1;
    let mut text = String::new();
    for particle in output.list.iter() {
        let [x, y, z] = particle.position.map(decimal);
        let class = if has_classes {
            format!("{} ", particle.label)
        } else {
            String::new()
        };
        let _ = writeln!(text, "{class}{x} {y} {z}");
    }
    text
}
