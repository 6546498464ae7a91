//! STOPGAP's motivelists: a STAR loop `data_stopgap_motivelist`.
//!
//! Position is `orig_{x,y,z}` + `{x,y,z}_shift`, in voxels of which the first is 1: STOPGAP copies these numbers from
//! AV3's lists. ZXZ angles `phi`, `psi`, `the` in degrees, `R = Rz(psi) · Rx(the) · Rz(phi)` from particle to tomogram.
//! `tomo_num`, `score`, `class`; no voxel size.

use deepfinder_core::{Particle, Rotation};

use super::Parsed;
use super::fields::Input;
use super::list::Draft;
use super::star::{Star, write_loop};
use super::write::Output;
use crate::IoError;

const BLOCK: &str = "stopgap_motivelist";

/// What the first voxel is called.
const FIRST_VOXEL: f64 = 1.0;

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let star = Star::parse(input)?;
    let block = star.with("orig_x").ok_or_else(|| {
        IoError::unsupported(
            input.path,
            "no table with orig_x: this is no motivelist of STOPGAP",
        )
    })?;
    let mut draft = Draft::default();
    for row in &block.rows {
        let place = || format!("line {}", row.line);
        let fields = input.fields(&place);
        let number = |label: &str| match block.get(row, label) {
            Some(text) => fields.number(label, text),
            None => Err(fields.wrong(format!("no {label}"))),
        };
        let mut position = [0.0; 3];
        for (axis, coordinate) in ["x", "y", "z"].into_iter().zip(&mut position) {
            let shift = format!("{axis}_shift");
            let shift = if block.column(&shift).is_some() {
                number(&shift)?
            } else {
                0.0
            };
            *coordinate = number(&format!("orig_{axis}"))? + shift - FIRST_VOXEL;
        }
        let mut particle = Particle::new(position, fields.foreign_class(block.get(row, "class"))?);
        let angles = ["phi", "psi", "the"].map(|label| block.get(row, label));
        particle.rotation = fields.angles(angles)?;
        particle.score = fields.score(block.get(row, "score"))?;
        particle.tomogram = block.get(row, "tomo_num").map(Into::into);
        draft.list.particles.push(particle);
    }
    draft.note("positions count from 1 in this format, and shifts were added to them");
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    const LABELS: [&str; 16] = [
        "motl_idx",
        "tomo_num",
        "object",
        "subtomo_num",
        "halfset",
        "orig_x",
        "orig_y",
        "orig_z",
        "score",
        "x_shift",
        "y_shift",
        "z_shift",
        "phi",
        "psi",
        "the",
        "class",
    ];
    let tomograms = output.tomogram_numbers();
    let mut rows = Vec::new();
    for (index, (particle, tomogram)) in output.list.iter().zip(tomograms).enumerate() {
        let index = (index + 1).to_string();
        let halfset = if rows.len() % 2 == 0 { "A" } else { "B" };
        let position = particle.position.map(|value| value + FIRST_VOXEL);
        // STOPGAP wants whole voxels and puts the rest into the shift.
        let whole = position.map(f64::round);
        let angles = particle.rotation.map_or([0.0; 3], Rotation::to_zxz_degrees);
        let mut row = vec![
            index.clone(),
            tomogram.to_string(),
            "1".to_owned(),
            index,
            halfset.to_owned(),
        ];
        row.extend(whole.map(|value| value.to_string()));
        row.push(particle.score.unwrap_or(0.0).to_string());
        row.extend([0, 1, 2].map(|axis| format!("{:.6}", position[axis] - whole[axis])));
        row.extend(angles.map(|angle| format!("{angle:.6}")));
        row.push(particle.label.to_string());
        rows.push(row);
    }
    let mut text = String::new();
    write_loop(&mut text, BLOCK, &LABELS.map(str::to_owned), &rows);
    text
}
