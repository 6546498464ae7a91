//! BILD pictures for `ChimeraX` (<https://www.rbvi.ucsf.edu/chimerax/docs/user/formats/bild.html>), written only.
//!
//! A sphere a particle, in Å, voxel 0's centre at 0; an arrow along the particle's z axis where its orientation is known.
//! Classes are colours.

use std::fmt::Write as _;

use super::cmm::colour;
use super::format::Output;

pub(super) fn write(output: &mut Output<'_>) -> String {
    let edge = output.angstrom_or_voxels();
    let radius = 5.0 * edge;
    let mut text = String::new();
    for &label in output.list.count_by_label().keys() {
        let [r, g, b] = colour(label);
        let _ = writeln!(text, ".comment {}\n.color {r} {g} {b}", output.class_name(label));
        for particle in output.list.iter().filter(|particle| particle.label == label) {
            let [x, y, z] = particle.position.map(|value| value * edge);
            let _ = writeln!(text, ".sphere {x:.3} {y:.3} {z:.3} {radius:.3}");
            if let Some(rotation) = particle.rotation {
                let [dx, dy, dz] = rotation.apply([0.0, 0.0, 4.0 * radius]);
                let _ = writeln!(
                    text,
                    ".arrow {x:.3} {y:.3} {z:.3} {:.3} {:.3} {:.3} {:.3} {:.3}",
                    x + dx,
                    y + dy,
                    z + dz,
                    radius / 4.0,
                    radius / 2.0
                );
            }
        }
    }
    text
}
