//! Boxes of one plane, as crYOLO and EMAN write them for micrographs and slices: lines `x y width height`, and what else may
//! follow. `x` and `y` are a box's lowest corner, in pixels: the particle is at the corner + half the size. Such a file
//! does not say in which plane it lies, so that z is 0. One class, no score, no voxel size.

use deepfinder_core::Particle;

use super::Parsed;
use super::fields::Input;
use super::list::Draft;
use super::text::lines;

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    for (number, columns) in lines(input.text()?) {
        if columns.is_empty() {
            continue;
        }
        let place = || format!("line {number}");
        let fields = input.fields(&place);
        let &[x, y, width, height, ..] = columns.as_slice() else {
            let what = format!("{} columns, but a line is `x y width height`", columns.len());
            return Err(fields.wrong(what));
        };
        let middle = |name: &str, corner, size| -> crate::Result<f64> {
            Ok(fields.number(name, corner)? + fields.number("a box's size", size)? / 2.0)
        };
        let position = [middle("x", x, width)?, middle("y", y, height)?, 0.0];
        draft
            .list
            .particles
            .push(Particle::new(position, fields.foreign_class(None)?));
    }
    draft.note("boxes of one plane became their centres; the file does not say which plane: z is 0");
    input.note_unclassed(&mut draft);
    Ok(draft)
}
