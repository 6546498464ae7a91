//! The object lists of the reference implementation: `<objlist><object class_label="1" x="46" y="261" z="144"/></objlist>`.
//!
//! Beyond its attributes this program writes `score` on a particle, and `voxel_size_angstrom` on the list.

use std::fmt::Write;

use deepfinder_core::{Particle, ParticleList};
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::fields::{Fields, angles, decimal, present};
use super::{Input, Parsed};
use crate::{IoError, Result};

const LIST: &str = "objlist";
const OBJECT: &str = "object";
const VOXEL_SIZE: &str = "voxel_size_angstrom";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let line_at = |position: u64| {
        let before = input.text.as_bytes().iter().take(position as usize);
        format!("line {}", before.filter(|&&byte| byte == b'\n').count() + 1)
    };
    let mut reader = Reader::from_str(input.text);
    let mut list = ParticleList::default();
    let mut depth = 0_usize;
    let mut has_root = false;
    loop {
        let start = reader.buffer_position();
        let event = reader.read_event();
        let place = || match present(&input.text[(start as usize).min(input.text.len())..]) {
            Some(rest) => line_at(input.text.len() as u64 - rest.len() as u64),
            None => line_at(start),
        };
        let fields = Fields {
            path: input.path,
            classes: input.classes,
            place: &place,
        };
        let event = event.map_err(|error| {
            let what = format!("this is not well-formed XML: {error}");
            IoError::malformed(input.path, line_at(reader.error_position()), what)
        })?;
        let (element, is_open) = match event {
            Event::Start(element) => (element, true),
            Event::Empty(element) => (element, false),
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        match element.name().as_ref() {
            LIST if depth == 0 && !has_root => {
                has_root = true;
                let [size] = attributes(&fields, &element, [VOXEL_SIZE])?;
                list.voxel_size = fields.voxel_size(size.as_deref())?;
            }
            other if depth == 0 => {
                let what = format!(
                    "a DeepFinder list has one <{LIST}> at its top, this has <{other}>: is it another program's list?"
                );
                return Err(fields.wrong(what));
            }
            OBJECT if depth == 1 => list.particles.push(particle(&fields, &element)?),
            _ => {}
        }
        depth += usize::from(is_open);
    }
    if has_root && depth == 0 {
        return Ok(list);
    }
    let what = format!("the list ends before its </{LIST}>: it is cut short. Copy or make it again");
    Err(IoError::malformed(
        input.path,
        line_at(input.text.len() as u64),
        what,
    ))
}

pub(super) fn write(list: &ParticleList) -> String {
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

/// The values of these attributes; absent and empty ones are `None`.
fn attributes<const N: usize>(
    fields: &Fields<'_>,
    element: &BytesStart<'_>,
    names: [&str; N],
) -> Result<[Option<String>; N]> {
    let mut values = [const { None }; N];
    for attribute in element.attributes() {
        let attribute =
            attribute.map_err(|error| fields.wrong(format!("its attributes are not XML: {error}")))?;
        let Some(index) = names.iter().position(|&name| name == attribute.key.as_ref()) else {
            continue;
        };
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| fields.wrong(format!("the value of {} is not XML: {error}", names[index])))?;
        values[index] = present(&value).map(str::to_owned);
    }
    Ok(values)
}
