//! Points of the `CryoET` Data Portal: a JSON object a line (ndjson).
//!
//! `location` is in voxels of the annotation's voxel spacing, voxel 0's centre at 0; `xyz_rotation_matrix` of an
//! `orientedPoint` maps the particle to the tomogram. One class, no score, no voxel size: these stand in the
//! annotation's metadata. `instance_id` is not kept.

use std::fmt::Write as _;

use deepfinder_core::Particle;
use serde_json::{Value, json};

use super::Parsed;
use super::fields::Input;
use super::json::{location, rotation};
use super::list::Draft;
use super::write::Output;

const MATRIX: &str = "xyz_rotation_matrix";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    for (index, line) in input.text()?.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = || format!("line {}", index + 1);
        let fields = input.fields(&place);
        let point: Value = serde_json::from_str(line)
            .map_err(|error| fields.wrong(format!("this is no JSON object: {error}")))?;
        let position = location(&fields, point.get("location"))?;
        let mut particle = Particle::new(position, fields.foreign_class(None)?);
        if let Some(matrix) = point.get(MATRIX).filter(|matrix| !matrix.is_null()) {
            particle.rotation = Some(rotation(&fields, matrix, MATRIX)?);
        }
        draft.list.particles.push(particle);
    }
    draft.note("positions are in voxels of the annotation's voxel spacing, which the file does not say");
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    let mut text = String::new();
    for particle in output.list.iter() {
        let [x, y, z] = particle.position;
        let kind = if particle.rotation.is_some() {
            "orientedPoint"
        } else {
            "point"
        };
        let mut point = json!({"type": kind, "location": {"x": x, "y": y, "z": z}});
        if let (Some(rotation), Some(point)) = (particle.rotation, point.as_object_mut()) {
            point.insert(MATRIX.to_owned(), json!(rotation.matrix()));
        }
        let _ = writeln!(text, "{point}");
    }
    text
}
