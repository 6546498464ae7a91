//! Markers of `ChimeraX` and Chimera: `<marker_set name="…"><marker id x y z r g b radius/></marker_set>`.
//!
//! Positions are physical, in Å, voxel 0's centre at 0 if the map has no origin of its own. A marker set is a class, its
//! name the class's. No orientation, no voxel size.

use std::fmt::Write as _;

use deepfinder_core::Particle;
use quick_xml::escape::escape;

use super::Parsed;
use super::fields::{Input, decimal};
use super::list::Draft;
use super::write::Output;
use super::xml::{attributes, walk};

const SET: &str = "marker_set";
const SETS: &str = "marker_sets";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    let size = input.voxels_of_angstrom(None, &mut draft)?;
    let edge = f64::from(size.angstrom());
    let root = if input.text()?.contains("<marker_sets") {
        SETS
    } else {
        SET
    };
    let mut label = None;
    walk(input, root, |fields, element, _| {
        match element.name().as_ref() {
            SET => {
                let [name] = attributes(fields, element, ["name"])?;
                label = Some(match name {
                    Some(name) => fields.named_class(&name, &mut draft)?,
                    None => fields.foreign_class(None)?,
                });
            }
            "marker" => {
                const AXES: [&str; 3] = ["x", "y", "z"];
                let texts = attributes(fields, element, AXES)?;
                let mut position = [0.0; 3];
                for ((name, text), value) in AXES.into_iter().zip(texts).zip(&mut position) {
                    let text = text.ok_or_else(|| fields.wrong(format!("a marker without {name}")))?;
                    *value = fields.number(name, &text)? / edge;
                }
                let label = label.ok_or_else(|| fields.wrong("a marker outside of any marker_set"))?;
                draft.list.particles.push(Particle::new(position, label));
            }
            _ => {}
        }
        Ok(())
    })?;
    draft.list.voxel_size = Some(size);
    draft.note(format!("positions in Å were divided by the voxel size of {size}"));
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    let edge = output.angstrom_or_voxels();
    let labels = output.list.count_by_label();
    let indent = if labels.len() > 1 { "  " } else { "" };
    let mut text = String::new();
    if labels.len() > 1 {
        let _ = writeln!(text, "<{SETS}>");
    }
    for &label in labels.keys() {
        let _ = writeln!(
            text,
            "{indent}<{SET} name=\"{}\">",
            escape(output.class_name(label))
        );
        let [r, g, b] = colour(label);
        let of_class = output.list.iter().filter(|particle| particle.label == label);
        for (index, particle) in of_class.enumerate() {
            let [x, y, z] = particle.position.map(|value| decimal(value * edge));
            let id = index + 1;
            let radius = 5.0 * edge;
            let _ = writeln!(
                text,
                "{indent}  <marker id=\"{id}\" x=\"{x}\" y=\"{y}\" z=\"{z}\" r=\"{r}\" g=\"{g}\" b=\"{b}\" radius=\"{radius}\"/>"
            );
        }
        let _ = writeln!(text, "{indent}</{SET}>");
    }
    if labels.len() > 1 {
        let _ = writeln!(text, "</{SETS}>");
    }
    if labels.is_empty() {
        let _ = writeln!(text, "<{SET} name=\"particles\">\n</{SET}>");
    }
    text
}

/// A colour for a class, from 0 to 1: neighbours on the colour wheel are far apart.
pub(super) fn colour(label: u8) -> [f64; 3] {
    const GOLDEN_ANGLE: f64 = 0.381_966;
    let hue = f64::from(label) * GOLDEN_ANGLE % 1.0 * 6.0;
    [5.0, 3.0, 1.0].map(|shift: f64| {
        let k = (shift + hue) % 6.0;
        let value = 1.0 - k.min(4.0 - k).clamp(0.0, 1.0) * 0.8;
        (value * 1000.0).round() / 1000.0
    })
}
