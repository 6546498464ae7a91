//! BILD pictures for `ChimeraX` (<https://www.rbvi.ucsf.edu/chimerax/docs/user/formats/bild.html>), in Å, voxel 0's centre at 0.
//!
//! A particle is a `.sphere x y z r` or `.marker x y z`, and the first `.arrow` that begins in its middle is its z axis; how it
//! is turned about that is not kept, so that phi is 0. Where there is neither, each arrow is a particle. A `.comment` before
//! `.color` names the class of what follows; other comments and shapes are none of ours. No voxel size.

use std::fmt::Write as _;

use deepfinder_core::{Label, Particle, Rotation};

use super::Parsed;
use super::cmm::colour;
use super::fields::{Fields, Input, decimal};
use super::list::Draft;
use super::text::position;
use super::write::Output;
use crate::{IoError, Result};

/// Commands that move what comes after them.
const MOVES: [&str; 5] = [".translate", ".tran", ".rotate", ".rot", ".scale"];

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    let size = input.voxels_of_angstrom(None, &mut draft)?;
    let edge = f64::from(size.angstrom());
    let text = input.text()?;
    let has_spheres = commands(text).any(|(_, command, _)| is_sphere(command));
    let (mut comment, mut label, mut others) = (None, None, 0);
    for (number, command, rest) in commands(text) {
        let place = || format!("line {number}");
        let fields = input.fields(&place);
        let words: Vec<&str> = rest.split_whitespace().collect();
        let point = |label: Option<Label>| -> Result<Particle> {
            let position = axes(&fields, &words)?.map(|value| value / edge);
            Ok(Particle::new(
                position,
                label.map_or_else(|| fields.foreign_class(None), Ok)?,
            ))
        };
        match command {
            ".comment" => {
                comment = Some(rest.trim()).filter(|name| !name.is_empty());
                continue;
            }
            ".color" => {
                if let Some(name) = comment {
                    label = Some(fields.named_class(name, &mut draft)?);
                }
            }
            command if is_sphere(command) => draft.list.particles.push(point(label)?),
            ".arrow" => {
                let start = point(label)?;
                let end = axes(&fields, words.get(3..).unwrap_or_default())?;
                let axis: [f64; 3] = std::array::from_fn(|axis| end[axis] / edge - start.position[axis]);
                let rotation = towards(axis);
                let last = draft.list.particles.last_mut();
                match last
                    .filter(|last| has_spheres && last.rotation.is_none() && last.position == start.position)
                {
                    Some(last) => last.rotation = rotation,
                    None if has_spheres => others += 1,
                    None => draft.list.particles.push(start.with_rotation(rotation)),
                }
            }
            command if MOVES.contains(&command) => {
                let what = format!(
                    "line {number}: `{command}` moves what comes after it, which is not read here: save the picture without moves"
                );
                return Err(IoError::unsupported(input.path, what));
            }
            _ => others += 1,
        }
        comment = None;
    }
    if draft.list.is_empty() {
        let what = "no .sphere, .marker or .arrow: this picture shows no particles";
        return Err(IoError::unsupported(input.path, what));
    }
    if others > 0 {
        draft.note(format!(
            "{others} lines of other shapes and settings were left out"
        ));
    }
    if draft.list.iter().any(|particle| particle.rotation.is_some()) {
        draft.note("an arrow gives a particle's z axis; how it is turned about that is not known: phi is 0");
    }
    draft.list.voxel_size = Some(size);
    draft.note(format!("positions in Å were divided by the voxel size of {size}"));
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    let edge = output.angstrom_or_voxels();
    let radius = 5.0 * edge;
    let mut text = String::new();
    for &label in output.list.count_by_label().keys() {
        let [r, g, b] = colour(label);
        let name = output.class_name(label).replace(['\n', '\r'], " ");
        let _ = writeln!(text, ".comment {name}\n.color {r} {g} {b}");
        for particle in output.list.iter().filter(|particle| particle.label == label) {
            let middle = particle.position.map(|value| value * edge);
            let start = middle.map(decimal).join(" ");
            let _ = writeln!(text, ".sphere {start} {radius:.3}");
            if let Some(rotation) = particle.rotation {
                let axis = rotation.apply([0.0, 0.0, 4.0 * radius]);
                let end: [f64; 3] = std::array::from_fn(|i| middle[i] + axis[i]);
                let end = end.map(decimal).join(" ");
                let (shaft, head) = (radius / 4.0, radius / 2.0);
                let _ = writeln!(text, ".arrow {start} {end} {shaft:.3} {head:.3}");
            }
        }
    }
    if output.list.iter().any(|particle| particle.rotation.is_some()) {
        output.note("not kept: how particles are turned about their z axis, of which an arrow says nothing");
    }
    text
}

/// Lines with their number, cut into the command and what follows it.
fn commands(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (!line.is_empty()).then_some((index + 1, command, rest))
    })
}

/// Whether a text has the commands of a picture.
pub(super) fn is_picture(text: &str) -> bool {
    commands(text)
        .take(20)
        .any(|(_, command, _)| is_sphere(command) || matches!(command, ".arrow" | ".color" | ".comment"))
}

fn is_sphere(command: &str) -> bool {
    matches!(command, ".sphere" | ".marker")
}

fn axes(fields: &Fields<'_>, words: &[&str]) -> Result<[f64; 3]> {
    match words.get(..3) {
        Some(words) => position(fields, ["x", "y", "z"], words),
        None => Err(fields.wrong("three numbers are wanted, x, y and z in Å")),
    }
}

/// The rotation that takes z to this direction, with phi 0; none for no direction.
fn towards([x, y, z]: [f64; 3]) -> Option<Rotation> {
    let sine = x.hypot(y);
    if !(sine.hypot(z).is_normal()) {
        return None;
    }
    let the = sine.atan2(z).to_degrees();
    let psi = if sine == 0.0 {
        0.0
    } else {
        x.atan2(-y).to_degrees()
    };
    Some(Rotation::from_zxz_degrees(0.0, psi, the))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_z_axis_goes_where_the_arrow_points() {
        for axis in [
            [1.0, 0.0, 0.0],
            [0.0, -2.0, 0.0],
            [0.3, 0.4, -1.2],
            [0.0, 0.0, -3.0],
        ] {
            let length = axis.iter().map(|part| part * part).sum::<f64>().sqrt();
            let image = towards(axis).unwrap().apply([0.0, 0.0, length]);
            assert!((0..3).all(|i| (image[i] - axis[i]).abs() < 1e-12), "{image:?}");
        }
        assert_eq!(towards([0.0; 3]), None);
    }
}
