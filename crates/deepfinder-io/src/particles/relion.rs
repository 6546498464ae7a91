//! RELION's particle STAR files of versions 3.0, 3.1, 4 and 5, and those of Warp, M and PyTom in the same words.
//!
//! | flavour | position | counted in |
//! |---|---|---|
//! | 3.0 | `rlnCoordinate{X,Y,Z}` − `rlnOrigin{X,Y,Z}` | pixels of `rlnDetectorPixelSize` · 10⁴ / `rlnMagnification` |
//! | 3.1 | `rlnCoordinate…` − `rlnOrigin…Angst` | pixels of `rlnMicrographPixelSize`, `rlnPixelSize` or `rlnImagePixelSize` |
//! | 4 | `rlnCoordinate…` − A · `rlnOrigin…Angst` | unbinned pixels of `rlnTomoTiltSeriesPixelSize` |
//! | 5 | `rlnCenteredCoordinate…Angst` − A · `rlnOrigin…Angst` | Å from the tomogram's middle, `rlnTomoSize…` / 2 |
//! | Warp, M | as 3.0 or 3.1; the tomogram is called `….tomostar` | pixels of `rlnPixelSize` or `rlnImagePixelSize` |
//! | PyTom | `rlnCoordinate…` or `rlnCenteredCoordinate…Angst`, `rlnLCCmax` as score | voxels of `rlnDetectorPixelSize` |
//!
//! Voxel 0's centre is at 0. Angles are `rlnAngle{Rot,Tilt,Psi}`: R = [intrinsic ZYZ(rot, tilt, psi)]⁻¹ from particle to
//! tomogram. Where `rlnTomoSubtomogram{Rot,Tilt,Psi}` stand beside them, A is their rotation and the particle's is
//! A · R; without them A is the identity. `rlnClassNumber` below 1 means no class.

use std::collections::BTreeSet;

use deepfinder_core::{Particle, Rotation, VoxelSize};

use super::fields::{Fields, Input};
use super::list::Draft;
use super::star::{Block, Row, Star};
use super::{Origin, Parsed, ParticleFormat};
use crate::{IoError, Result};

pub(super) const AXES: [&str; 3] = ["X", "Y", "Z"];
pub(super) const TILT_SERIES_PIXEL: &str = "rlnTomoTiltSeriesPixelSize";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let star = Star::parse(input)?;
    let flavour = flavour(input, &star)?;
    let block = star
        .with("rlnCenteredCoordinateXAngst")
        .or_else(|| star.with("rlnCoordinateX"))
        .ok_or_else(|| no_particles(input, &star))?;
    let reader = Reader {
        input,
        optics: star.blocks.iter().find(|block| block.name == "optics"),
        is_warp: flavour == ParticleFormat::Warp,
        is_centred: block.column("rlnCenteredCoordinateXAngst").is_some(),
        block,
    };
    if !reader.is_centred && block.column("rlnCoordinateZ").is_none() {
        let what = "no rlnCoordinateZ: these are particles of micrographs, which have two coordinates, not of tomograms";
        return Err(IoError::unsupported(input.path, what));
    }
    let mut draft = Draft {
        format: Some(flavour),
        ..Draft::default()
    };
    let mut sizes = Vec::new();
    for row in &block.rows {
        let place = || format!("line {}", row.line);
        let (particle, size) = reader.particle(&input.fields(&place), row, &mut draft)?;
        draft.list.particles.push(particle);
        sizes.push(size);
    }
    count_in_one_size(&mut draft, &sizes);
    reader.note_assumptions(&mut draft);
    input.note_unclassed(&mut draft);
    Ok(draft)
}

/// Makes positions, of which each is in voxels of its own size, count in one: the finest, where there are several.
fn count_in_one_size(draft: &mut Draft, sizes: &[Option<VoxelSize>]) {
    let known: BTreeSet<u32> = sizes
        .iter()
        .flatten()
        .map(|size| size.angstrom().to_bits())
        .collect();
    // Bits of positive numbers are in the order of the numbers.
    let Some(finest) = known.first().map(|&bits| f32::from_bits(bits)) else {
        draft.note("no pixel size in the file: give it where it matters (--voxel-size)");
        return;
    };
    if known.len() == 1 && sizes.iter().all(Option::is_some) {
        draft.list.voxel_size = VoxelSize::new(finest).ok();
        return;
    }
    let named: Vec<String> = known
        .iter()
        .map(|&bits| f32::from_bits(bits).to_string())
        .collect();
    let named = named.join(", ");
    if sizes.iter().any(Option::is_none) {
        draft.note(format!(
            "only some particles have a pixel size ({named} Å): positions are in pixels of each, and no voxel size is kept"
        ));
        return;
    }
    draft.list.voxel_size = VoxelSize::new(finest).ok();
    for (particle, size) in draft.list.particles.iter_mut().zip(sizes.iter().flatten()) {
        let scale = f64::from(size.angstrom()) / f64::from(finest);
        particle.position = particle.position.map(|coordinate| coordinate * scale);
    }
    draft.note(format!(
        "pixel sizes differ from particle to particle ({named} Å): all positions are counted in voxels of {finest} Å"
    ));
}

/// What the labels tell of the program that wrote the file.
fn flavour(input: &Input<'_>, star: &Star<'_>) -> Result<ParticleFormat> {
    let has = |label: &str| star.with(label).is_some();
    let names = |label: &str| {
        let block = star.with(label);
        let row = block.and_then(|block| block.get(block.rows.first()?, label));
        row.is_some_and(|name| name.ends_with(".tomostar"))
    };
    if !has("rlnCenteredCoordinateXAngst") && !has("rlnCoordinateX") {
        return Err(no_particles(input, star));
    }
    Ok(if has("rlnLCCmax") {
        ParticleFormat::PytomStar
    } else if has("rlnCenteredCoordinateXAngst") {
        ParticleFormat::Relion5
    } else if names("rlnTomoName") || (names("rlnMicrographName") && !has("rlnTomoName")) {
        ParticleFormat::Warp
    } else if has(TILT_SERIES_PIXEL) {
        ParticleFormat::Relion4
    } else if star.blocks.iter().any(|block| block.name == "optics") {
        ParticleFormat::Relion31
    } else {
        ParticleFormat::Relion30
    })
}

fn no_particles(input: &Input<'_>, star: &Star<'_>) -> IoError {
    let what = if star.with("rlnTomoSizeX").is_some() {
        "this is RELION's list of tomograms, not of particles: give it with --tomograms"
    } else if star.with("rlnMicrographMovieName").is_some() {
        "this is a tilt series, not a list of particles"
    } else {
        "no table with rlnCoordinateX or rlnCenteredCoordinateXAngst: no list of particles"
    };
    IoError::unsupported(input.path, what)
}

struct Reader<'a> {
    input: &'a Input<'a>,
    block: &'a Block<'a>,
    optics: Option<&'a Block<'a>>,
    is_warp: bool,
    is_centred: bool,
}

impl<'a> Reader<'a> {
    /// A particle, and the size of the voxels it is counted in.
    fn particle(
        &self,
        fields: &Fields<'_>,
        row: &Row<'a>,
        draft: &mut Draft,
    ) -> Result<(Particle, Option<VoxelSize>)> {
        let tomogram = self
            .text(row, "rlnTomoName")
            .or(self.text(row, "rlnMicrographName"));
        let frame = self.input.options.tomograms.get(tomogram);
        let pixel = self
            .pixel_size(fields, row)?
            .or(frame.and_then(|frame| frame.voxel_size));
        let size = self.input.options.voxel_size.or(pixel);
        let subtomogram = self.rotation(fields, row, "rlnTomoSubtomogram")?;

        let mut position = if self.is_centred {
            let Some(size) = size else {
                let what =
                    format!("no {TILT_SERIES_PIXEL}, so Å are no voxels: give the voxel size (--voxel-size)");
                return Err(fields.wrong(what));
            };
            let centred = self.triple(fields, row, "rlnCenteredCoordinate", "Angst")?;
            let centre = match (
                frame.and_then(super::TomogramFrame::centre_angstrom),
                self.input.options.origin,
            ) {
                (_, Some(Origin::Corner)) => [0.0; 3],
                (Some(centre), _) => centre,
                (None, _) if self.input.options.is_preview => {
                    draft.is_centred = true;
                    [0.0; 3]
                }
                (None, _) => {
                    let what = format!(
                        "positions count from the middle of the tomogram{}, whose size the file does not say: give \
                         RELION's tomograms.star or the tomogram itself (--tomograms)",
                        tomogram.map_or(String::new(), |name| format!(" {name}"))
                    );
                    return Err(fields.wrong(what));
                }
            };
            let edge = f64::from(size.angstrom());
            std::array::from_fn(|axis| (centred[axis] + centre[axis]) / edge)
        } else {
            self.triple(fields, row, "rlnCoordinate", "")?
        };

        let shift = if self.block.column("rlnOriginXAngst").is_some() {
            let shift = self.triple(fields, row, "rlnOrigin", "Angst")?;
            match size {
                Some(size) => shift.map(|value| value / f64::from(size.angstrom())),
                None if shift == [0.0; 3] => shift,
                None => {
                    let what = "rlnOriginXAngst is in Å, and no pixel size is known: give it (--voxel-size)";
                    return Err(fields.wrong(what));
                }
            }
        } else if self.block.column("rlnOriginX").is_some() {
            self.triple(fields, row, "rlnOrigin", "")?
        } else {
            [0.0; 3]
        };
        let shift = subtomogram.map_or(shift, |rotation| rotation.apply(shift));
        for (coordinate, shift) in position.iter_mut().zip(shift) {
            *coordinate -= shift;
        }

        let label = fields.foreign_class(self.text(row, "rlnClassNumber"))?;
        let mut particle = Particle::new(position, label);
        let own = self.rotation(fields, row, "rlnAngle")?;
        particle.rotation = match (own, subtomogram) {
            (Some(own), Some(outer)) => Some(own.then(outer)),
            (own, outer) => own.or(outer),
        };
        let score = ["rlnLCCmax", "rlnAutopickFigureOfMerit"];
        particle.score = fields.score(score.into_iter().find_map(|label| self.text(row, label)))?;
        particle.tomogram = tomogram.map(Into::into);
        Ok((particle, size))
    }

    fn text(&self, row: &Row<'a>, label: &str) -> Option<&'a str> {
        self.block.get(row, label)
    }

    fn triple(&self, fields: &Fields<'_>, row: &Row<'a>, before: &str, after: &str) -> Result<[f64; 3]> {
        let mut values = [0.0; 3];
        for (axis, value) in AXES.into_iter().zip(&mut values) {
            let label = format!("{before}{axis}{after}");
            let text = self
                .text(row, &label)
                .ok_or_else(|| fields.wrong(format!("no {label}")))?;
            *value = fields.number(&label, text)?;
        }
        Ok(values)
    }

    fn rotation(&self, fields: &Fields<'_>, row: &Row<'a>, prefix: &str) -> Result<Option<Rotation>> {
        let mut angles = [0.0; 3];
        for (name, angle) in ["Rot", "Tilt", "Psi"].into_iter().zip(&mut angles) {
            let label = format!("{prefix}{name}");
            let Some(text) = self.text(row, &label) else {
                return Ok(None);
            };
            *angle = fields.angle(&label, text)?;
        }
        let [rot, tilt, psi] = angles;
        Ok(Some(match self.input.options.euler {
            Some(euler) => euler.rotation([rot, psi, tilt]),
            None => Rotation::from_zyz_degrees(rot, tilt, psi),
        }))
    }

    fn pixel_size(&self, fields: &Fields<'_>, row: &Row<'a>) -> Result<Option<VoxelSize>> {
        let group = self.optics.and_then(|optics| {
            let group = self.text(row, "rlnOpticsGroup");
            let of = |other: &&Row<'a>| group.is_none() || optics.get(other, "rlnOpticsGroup") == group;
            Some((optics, optics.rows.iter().find(of)?))
        });
        let find = |label: &str| {
            let of_group = || group.and_then(|(optics, row)| optics.get(row, label));
            self.text(row, label).or_else(of_group)
        };
        let image = ["rlnPixelSize", "rlnImagePixelSize"];
        let tomogram = [TILT_SERIES_PIXEL, "rlnMicrographPixelSize"];
        let labels = if self.is_warp {
            [image, tomogram].concat()
        } else {
            [tomogram, image].concat()
        };
        if let Some(text) = labels.into_iter().find_map(find) {
            return fields.voxel_size(Some(text));
        }
        let Some(detector) = find("rlnDetectorPixelSize") else {
            return Ok(None);
        };
        let detector = fields.number("rlnDetectorPixelSize", detector)?;
        let size = match find("rlnMagnification") {
            Some(magnification) => detector * 1e4 / fields.number("rlnMagnification", magnification)?,
            None => detector,
        };
        VoxelSize::new(size as f32)
            .map(Some)
            .map_err(|error| fields.wrong(format!("rlnDetectorPixelSize: {error}")))
    }

    fn note_assumptions(&self, draft: &mut Draft) {
        let block = self.block;
        if draft.is_centred {
            draft.note("positions count from the middle of the tomogram, whose size is not known");
        } else if self.is_centred && self.input.options.origin == Some(Origin::Corner) {
            draft.note("centred coordinates were taken to count from the first voxel, as asked for");
        } else if self.is_centred {
            draft.note("positions counted from the tomogram's middle at n/2, as RELION 5 does");
        } else if self.is_warp {
            draft.note("positions are in pixels of the exported images, as Warp writes them");
        }
        if block
            .column("rlnOriginXAngst")
            .or(block.column("rlnOriginX"))
            .is_some()
        {
            draft.note("refined shifts (rlnOrigin…) were subtracted from the positions");
        }
        let used = [
            "rlnTomoName",
            "rlnClassNumber",
            "rlnLCCmax",
            "rlnAutopickFigureOfMerit",
            "rlnOpticsGroup",
            TILT_SERIES_PIXEL,
            "rlnPixelSize",
            "rlnImagePixelSize",
            "rlnMicrographPixelSize",
            "rlnDetectorPixelSize",
            "rlnMagnification",
        ];
        let prefixes = [
            "rlnCoordinate",
            "rlnCenteredCoordinate",
            "rlnOrigin",
            "rlnTomoSubtomogram",
        ];
        let angles = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"];
        let is_used = |label: &str| {
            used.contains(&label)
                || angles.contains(&label)
                || (label == "rlnMicrographName" && block.column("rlnTomoName").is_none())
                || prefixes.iter().any(|prefix| label.starts_with(prefix))
        };
        let dropped: Vec<&str> = block
            .labels()
            .iter()
            .copied()
            .filter(|label| !is_used(label))
            .collect();
        if !dropped.is_empty() {
            draft.note(format!("columns with no place here: {}", dropped.join(", ")));
        }
    }
}
