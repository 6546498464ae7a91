//! Writes the STAR files whose conventions `relion` states.

use deepfinder_core::{Particle, Rotation, VoxelSize};

use super::relion::{AXES, TILT_SERIES_PIXEL};
use super::star::write_loop;
use super::write::Output;
use super::{ParticleFormat, TomogramFrame};
use crate::Result;

/// Writes one of the family; the format says which.
pub(super) fn write(output: &mut Output<'_>, format: ParticleFormat) -> Result<String> {
    if output.list.is_empty() {
        return Err(output
            .cannot("RELION reads no STAR file without particles, and there are none: nothing was written"));
    }
    let size = output.list.voxel_size;
    if size.is_none() && !matches!(format, ParticleFormat::PytomStar | ParticleFormat::Warp) {
        return Err(output.cannot("the voxel size is not known, and RELION needs it: give it (--voxel-size)"));
    }
    let unknown = output
        .list
        .iter()
        .filter(|particle| particle.rotation.is_none())
        .count();
    let table = Table {
        format,
        size,
        has_rotations: unknown < output.list.len(),
        has_scores: output.list.iter().any(|particle| particle.score.is_some()),
    };
    if table.has_rotations && unknown > 0 {
        output.note(format!(
            "{unknown} particles have no orientation: angles of 0 were written for them"
        ));
    }

    let mut groups: Vec<Optics> = Vec::new();
    let mut rows = Vec::new();
    for particle in output.list.iter() {
        let frame = output.tomograms.get(particle.tomogram.as_deref());
        let optics = optics(format, frame, size);
        let group = groups
            .iter()
            .position(|own| *own == optics)
            .unwrap_or(groups.len());
        if group == groups.len() {
            groups.push(optics);
        }
        rows.push(table.row(output, particle, frame, group + 1)?);
    }
    let mut text = String::new();
    if table.has_optics() {
        write_optics(&mut text, &groups);
    }
    let block = if table.has_optics() { "particles" } else { "" };
    write_loop(&mut text, block, &table.labels(), &rows);
    Ok(text)
}

/// Which columns there are.
struct Table {
    format: ParticleFormat,
    size: Option<VoxelSize>,
    has_rotations: bool,
    has_scores: bool,
}

impl Table {
    fn has_optics(&self) -> bool {
        matches!(
            self.format,
            ParticleFormat::Relion31 | ParticleFormat::Relion4 | ParticleFormat::Relion5
        )
    }

    fn labels(&self) -> Vec<String> {
        let name = match self.format {
            ParticleFormat::Relion4 | ParticleFormat::Relion5 => "rlnTomoName",
            _ => "rlnMicrographName",
        };
        let mut labels = vec![name.to_owned()];
        labels.extend(AXES.map(|axis| match self.format {
            ParticleFormat::Relion5 => format!("rlnCenteredCoordinate{axis}Angst"),
            _ => format!("rlnCoordinate{axis}"),
        }));
        if self.has_rotations {
            labels.extend(["Rot", "Tilt", "Psi"].map(|name| format!("rlnAngle{name}")));
        }
        let mut add = |is_there: bool, label: &str| labels.extend(is_there.then(|| label.to_owned()));
        let is_pytom = self.format == ParticleFormat::PytomStar;
        add(true, "rlnClassNumber");
        add(self.has_scores && is_pytom, "rlnLCCmax");
        add(self.has_scores && !is_pytom, "rlnAutopickFigureOfMerit");
        add(self.has_optics(), "rlnOpticsGroup");
        match self.format {
            ParticleFormat::Relion30 => {
                add(true, "rlnMagnification");
                add(true, "rlnDetectorPixelSize");
            }
            ParticleFormat::Warp => add(self.size.is_some(), "rlnPixelSize"),
            ParticleFormat::PytomStar => add(self.size.is_some(), "rlnDetectorPixelSize"),
            _ => {}
        }
        labels
    }

    fn row(
        &self,
        output: &Output<'_>,
        particle: &Particle,
        frame: Option<&TomogramFrame>,
        group: usize,
    ) -> Result<Vec<String>> {
        let mut row = vec![tomogram_name(output, particle, self.format)?];
        let position = match self.size {
            Some(size) if self.format == ParticleFormat::Relion5 => centred(output, particle, frame, size)?,
            _ => particle.position,
        };
        row.extend(position.map(|value| format!("{value:.6}")));
        if self.has_rotations {
            let angles = particle.rotation.map_or([0.0; 3], Rotation::to_zyz_degrees);
            row.extend(angles.map(|angle| format!("{angle:.6}")));
        }
        row.push(particle.label.to_string());
        row.extend(self.has_scores.then(|| particle.score.unwrap_or(0.0).to_string()));
        row.extend(self.has_optics().then(|| group.to_string()));
        row.extend((self.format == ParticleFormat::Relion30).then(|| "10000".to_owned()));
        let has_size = !self.has_optics();
        row.extend(
            self.size
                .filter(|_| has_size)
                .map(|size| size.angstrom().to_string()),
        );
        Ok(row)
    }
}

/// Å from the middle of the tomogram.
fn centred(
    output: &Output<'_>,
    particle: &Particle,
    frame: Option<&TomogramFrame>,
    size: VoxelSize,
) -> Result<[f64; 3]> {
    let centre = frame.and_then(TomogramFrame::centre_angstrom).ok_or_else(|| {
        output.cannot(format!(
            "RELION 5 counts from the middle of the tomogram, and the size of {} is not known: give RELION's \
             tomograms.star or the tomogram itself (--tomograms), or write RELION 4 (--to relion4)",
            particle.tomogram.as_deref().unwrap_or("it")
        ))
    })?;
    let edge = f64::from(size.angstrom());
    Ok(std::array::from_fn(|axis| {
        particle.position[axis] * edge - centre[axis]
    }))
}

fn tomogram_name(output: &Output<'_>, particle: &Particle, format: ParticleFormat) -> Result<String> {
    let of_frame = || output.tomograms.get(None).and_then(|frame| frame.name.clone());
    let name = particle.tomogram.as_deref().map(str::to_owned).or_else(of_frame);
    let name = name.ok_or_else(|| {
        output.cannot("every particle needs the name of its tomogram here: give it (--tomogram NAME)")
    })?;
    let is_tomostar = name.ends_with(".tomostar");
    Ok(if format == ParticleFormat::Warp && !is_tomostar {
        format!("{name}.tomostar")
    } else if matches!(format, ParticleFormat::Relion4 | ParticleFormat::Relion5) && is_tomostar {
        name.trim_end_matches(".tomostar").to_owned()
    } else {
        name
    })
}

/// Labels and values of an optics group.
type Optics = Vec<(String, String)>;

/// What the optics group of a particle says: the tilt series' values where they are known.
fn optics(format: ParticleFormat, frame: Option<&TomogramFrame>, size: Option<VoxelSize>) -> Optics {
    let edge = size.map_or(String::new(), |size| size.angstrom().to_string());
    let mut optics: Optics = frame.map(|frame| frame.optics.clone()).unwrap_or_default();
    match format {
        // Centred coordinates are in Å: the tilt series' own pixel size is what RELION needs beside them.
        ParticleFormat::Relion5 => {
            if !optics.iter().any(|(label, _)| label == TILT_SERIES_PIXEL) {
                let own = frame
                    .and_then(|frame| frame.voxel_size)
                    .map(|size| size.angstrom().to_string());
                optics.push((TILT_SERIES_PIXEL.to_owned(), own.unwrap_or(edge)));
            }
        }
        // Positions are written in the list's voxels: the pixel size beside them must be that of these.
        ParticleFormat::Relion4 => {
            optics.retain(|(label, _)| label != TILT_SERIES_PIXEL);
            optics.push((TILT_SERIES_PIXEL.to_owned(), edge));
        }
        _ => {
            optics.retain(|(label, _)| label != TILT_SERIES_PIXEL);
            optics.push(("rlnImagePixelSize".to_owned(), edge));
        }
    }
    optics
}

/// The table of optics groups, with the labels that all of them have.
fn write_optics(text: &mut String, groups: &[Optics]) {
    const NAME: &str = "rlnOpticsGroupName";
    let value = |group: &Optics, label: &str| {
        let found = group.iter().find(|(own, _)| own == label);
        found.map(|(_, value)| value.clone())
    };
    let first = groups
        .first()
        .into_iter()
        .flatten()
        .map(|(label, _)| label.as_str());
    let shared: Vec<&str> = first
        .filter(|label| *label != NAME && groups.iter().all(|group| value(group, label).is_some()))
        .collect();
    let labels: Vec<String> = ["rlnOpticsGroup", NAME]
        .iter()
        .chain(&shared)
        .map(|label| (*label).to_owned())
        .collect();
    let rows: Vec<Vec<String>> = groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let number = (index + 1).to_string();
            let name = value(group, NAME).unwrap_or_else(|| format!("opticsGroup{number}"));
            let values = shared.iter().map(|label| value(group, label).unwrap_or_default());
            [number, name].into_iter().chain(values).collect()
        })
        .collect();
    write_loop(text, "optics", &labels, &rows);
}
