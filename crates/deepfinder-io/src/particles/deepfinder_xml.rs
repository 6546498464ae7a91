//! The object lists of the reference implementation: `<objlist><object class_label="1" x="46" y="261" z="144"/></objlist>`.
//!
//! Positions in voxels from 0; ZXZ angles in degrees, `R = Rz(psi) · Rx(the) · Rz(phi)` from particle to tomogram.
//! Beyond its attributes this program writes `score` on a particle, and `voxel_size_angstrom` on the list.

use std::fmt::Write;

use deepfinder_core::{Particle, ParticleList};
use quick_xml::escape::escape;
use quick_xml::events::BytesStart;

use super::fields::{Fields, Input, angles, decimal};
use super::write::Output;
use super::xml::attributes;
use super::{Parsed, xml};
use crate::Result;

const LIST: &str = "objlist";
const OBJECT: &str = "object";
const VOXEL_SIZE: &str = "voxel_size_angstrom";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut list = ParticleList::default();
    xml::walk(input, LIST, |fields, element, depth| {
        match element.name().as_ref() {
            LIST if depth == 0 => {
                let [size] = attributes(fields, element, [VOXEL_SIZE])?;
                list.voxel_size = fields.voxel_size(size.as_deref())?;
            }
            OBJECT if depth == 1 => list.particles.push(particle(fields, element)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(list.into())
}

pub(super) fn write(output: &Output<'_>) -> String {
    let list = output.list;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match list.voxel_size {
        Some(size) => writeln!(text, "<{LIST} {VOXEL_SIZE}=\"{}\">", size.angstrom()),
        None => writeln!(text, "<{LIST}>"),
    };
    for particle in list.iter() {
        let [x, y, z] = particle.position.map(decimal);
        let mut attributes = Vec::new();
        attributes.extend(
            particle
                .tomogram
                .iter()
                .map(|tomogram| ("tomo_idx", tomogram.to_string())),
        );
        attributes.extend([
            ("class_label", particle.label.to_string()),
            ("x", x),
            ("y", y),
            ("z", z),
        ]);
        if let Some(rotation) = particle.rotation {
            let [phi, psi, the] = angles(rotation);
            attributes.extend([("psi", psi), ("phi", phi), ("the", the)]);
        }
        attributes.extend(
            particle
                .size_voxels
                .map(|size| ("cluster_size", size.to_string())),
        );
        attributes.extend(particle.score.map(|score| ("score", score.to_string())));
        let _ = write!(text, "  <{OBJECT}");
        for (name, value) in attributes {
            let _ = write!(text, " {name}=\"{}\"", escape(&value));
        }
        text.push_str("/>\n");
    }
    let _ = writeln!(text, "</{LIST}>");
    text
}

fn particle(fields: &Fields<'_>, element: &BytesStart<'_>) -> Result<Particle> {
    const NAMES: [&str; 10] = [
        "class_label",
        "x",
        "y",
        "z",
        "phi",
        "psi",
        "the",
        "cluster_size",
        "score",
        "tomo_idx",
    ];
    let [label, x, y, z, phi, psi, the, size, score, tomogram] = attributes(fields, element, NAMES)?;
    let required = |name: &str, value: Option<String>| {
        value.ok_or_else(|| {
            fields.wrong(format!(
                "an <{OBJECT}> without {name}: it needs class_label, x, y and z"
            ))
        })
    };
    let coordinate = |name: &str, value| fields.number(name, &required(name, value)?);
    let mut particle = Particle::new(
        [coordinate("x", x)?, coordinate("y", y)?, coordinate("z", z)?],
        fields.label(&required("class_label", label)?)?,
    );
    particle.rotation = fields.angles([phi.as_deref(), psi.as_deref(), the.as_deref()])?;
    particle.size_voxels = fields.size(size.as_deref())?;
    particle.score = fields.score(score.as_deref())?;
    particle.tomogram = tomogram.map(Into::into);
    Ok(particle)
}
