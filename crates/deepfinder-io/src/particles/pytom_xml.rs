//! `<ParticleList>` of PyTom.
//!
//! Position is `PickPosition` + `Shift`, in voxels, voxel 0's centre at 0; `Origin` names the tomogram. `Rotation` has Z1
//! (phi), Z2 (psi) and X (theta) in degrees, `R = Rz(Z2) · Rx(X) · Rz(Z1)` from particle to tomogram. `Score Value`,
//! `Class Name`; no voxel size.

use std::fmt::Write as _;

use deepfinder_core::{Particle, Rotation};
use quick_xml::escape::escape;

use super::Parsed;
use super::fields::{Input, decimal};
use super::list::Draft;
use super::write::Output;
use super::xml::{attributes, walk};

const LIST: &str = "ParticleList";

/// What is known of a particle whose element is not closed yet.
#[derive(Default)]
struct Open {
    position: Option<[f64; 3]>,
    shift: [f64; 3],
    rotation: Option<Rotation>,
    score: Option<f32>,
    class: Option<u8>,
    tomogram: Option<String>,
    binning: Option<f64>,
}

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut draft = Draft::default();
    let mut open: Vec<Open> = Vec::new();
    walk(input, LIST, |fields, element, depth| {
        let axes = |names: [&str; 3]| -> crate::Result<Option<[f64; 3]>> {
            let texts = attributes(fields, element, names)?;
            let mut values = [0.0; 3];
            for ((name, text), value) in names.into_iter().zip(texts).zip(&mut values) {
                let Some(text) = text else { return Ok(None) };
                *value = fields.number(name, &text)?;
            }
            Ok(Some(values))
        };
        let name = element.name();
        if depth == 1 && name.as_ref() == "Particle" {
            if open.last().is_some_and(|particle| particle.position.is_none()) {
                return Err(fields.wrong("the particle before this one has no PickPosition"));
            }
            open.push(Open::default());
            return Ok(());
        }
        let Some(particle) = open.last_mut().filter(|_| depth == 2) else {
            return Ok(());
        };
        match name.as_ref() {
            "PickPosition" => {
                particle.position = axes(["X", "Y", "Z"])?;
                if particle.position.is_none() {
                    return Err(fields.wrong("a PickPosition needs X, Y and Z"));
                }
                let [origin, binning] = attributes(fields, element, ["Origin", "Binning"])?;
                particle.tomogram = origin;
                particle.binning = binning.map(|text| fields.number("Binning", &text)).transpose()?;
            }
            "Shift" => particle.shift = axes(["X", "Y", "Z"])?.unwrap_or_default(),
            "Rotation" => {
                let angles = attributes(fields, element, ["Z1", "Z2", "X"])?;
                particle.rotation = fields.angles(angles.each_ref().map(Option::as_deref))?;
            }
            "Score" => {
                let [value] = attributes(fields, element, ["Value"])?;
                particle.score = fields.score(value.as_deref())?;
            }
            "Class" => {
                let [name] = attributes(fields, element, ["Name"])?;
                particle.class = Some(fields.foreign_class(name.as_deref())?);
            }
            _ => {}
        }
        Ok(())
    })?;
    let count = open.len();
    let mut is_binned = false;
    for (index, particle) in open.into_iter().enumerate() {
        let place = || format!("particle {} of {count}", index + 1);
        let fields = input.fields(&place);
        let position = particle
            .position
            .ok_or_else(|| fields.wrong("it has no PickPosition"))?;
        let position = std::array::from_fn(|axis| position[axis] + particle.shift[axis]);
        is_binned |= particle.binning.is_some_and(|binning| binning != 1.0);
        let label = match particle.class {
            Some(label) => label,
            None => fields.foreign_class(None)?,
        };
        draft.list.particles.push(Particle {
            position,
            label,
            rotation: particle.rotation,
            score: particle.score,
            size_voxels: None,
            tomogram: particle.tomogram.map(Into::into),
        });
    }
    if is_binned {
        draft.note("the list says that its tomograms are binned (Binning): positions are in voxels of these");
    }
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> String {
    let mut text = format!("<{LIST}>\n");
    for (index, particle) in output.list.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  <Particle Filename=\"particle_{index}.em\">");
        if let Some(rotation) = particle.rotation {
            let [phi, psi, the] = rotation.to_zxz_degrees();
            let _ = writeln!(
                text,
                "    <Rotation Z1=\"{phi:.6}\" Z2=\"{psi:.6}\" X=\"{the:.6}\" Paradigm=\"ZXZ\"/>"
            );
        }
        let [x, y, z] = particle.position.map(decimal);
        let origin = particle.tomogram.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "    <Shift X=\"0.0\" Y=\"0.0\" Z=\"0.0\"/>\n    <PickPosition X=\"{x}\" Y=\"{y}\" Z=\"{z}\" Origin=\"{}\" Binning=\"1\"/>",
            escape(origin)
        );
        if let Some(score) = particle.score {
            let _ = writeln!(text, "    <Score Type=\"FLCFScore\" Value=\"{score}\"/>");
        }
        let _ = writeln!(text, "    <Class Name=\"{}\"/>\n  </Particle>", particle.label);
    }
    let _ = writeln!(text, "</{LIST}>");
    text
}
