//! crYOLO's CBOX files: a STAR loop `data_cryolo` of boxes.
//!
//! `CoordinateX/Y/Z` are a box's lowest corner, `Width`, `Height` and `Depth` its size, all in voxels: the particle is at
//! the corner + half the size. `Confidence` is the score. One class, no orientation, no voxel size.

use deepfinder_core::Particle;

use super::Parsed;
use super::fields::Input;
use super::list::Draft;
use super::star::Star;
use crate::IoError;

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let star = Star::parse(input)?;
    let block = star.with("CoordinateX").ok_or_else(|| {
        IoError::unsupported(
            input.path,
            "no table with CoordinateX: this is no CBOX file of crYOLO",
        )
    })?;
    if block.column("CoordinateZ").is_none() {
        let what =
            "no CoordinateZ: these are boxes of micrographs, which have two coordinates, not of tomograms";
        return Err(IoError::unsupported(input.path, what));
    }
    let mut draft = Draft::default();
    for row in &block.rows {
        let place = || format!("line {}", row.line);
        let fields = input.fields(&place);
        let number = |label: &str| match block.get(row, label) {
            // crYOLO writes <NA> for a depth it does not know.
            None | Some("<NA>") => Ok(0.0),
            Some(text) => fields.number(label, text),
        };
        let mut position = [0.0; 3];
        let axes = [
            ("CoordinateX", "Width"),
            ("CoordinateY", "Height"),
            ("CoordinateZ", "Depth"),
        ];
        for ((corner, size), coordinate) in axes.into_iter().zip(&mut position) {
            *coordinate = number(corner)? + number(size)? / 2.0;
        }
        let mut particle = Particle::new(position, fields.foreign_class(None)?);
        particle.score = fields.score(block.get(row, "Confidence").filter(|text| *text != "<NA>"))?;
        draft.list.particles.push(particle);
    }
    draft.note("boxes became their centres");
    input.note_unclassed(&mut draft);
    Ok(draft)
}
