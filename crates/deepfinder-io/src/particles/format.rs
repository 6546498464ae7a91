use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use deepfinder_core::ParticleList;

use super::fields::Input;
use super::guess::guess;
use super::text::ShrecColumns;
use super::write::Output;
use super::{
    Origin, Parsed, ParticleFile, ReadOptions, av3, bild, boxes, cbox, cmm, coords, copick, csv,
    deepfinder_xml, dynamo, eman, imod, portal, pytom_xml, relion, relion_write, stopgap, text, xlsx,
};
use crate::{IoError, Result, VolumeFormat};

/// A format of particle lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParticleFormat {
    /// `<objlist>` with an `<object class_label x y z …/>` a particle.
    DeepFinderXml,
    /// A table with a header line, its fields separated by commas, semicolons or tabs.
    Csv,
    /// A spreadsheet of the reference implementation.
    Xlsx,
    /// Lines `pdb x y z [phi psi theta]`.
    ShrecText,
    /// Lines `pdb z y x [phi theta psi]`, as SHREC'19 gave out its ground truth.
    ShrecTextZyx,
    /// Lines `label z y x [size]`.
    Text,
    /// RELION 5: Å from the middle of the tomogram.
    Relion5,
    /// RELION 4: pixels of the unbinned tilt series.
    Relion4,
    /// RELION 3.1, with an optics group.
    Relion31,
    /// RELION 3.0, one table.
    Relion30,
    /// Warp and M: one table, tomograms called `….tomostar`.
    Warp,
    /// The STAR file of PyTom's template matching.
    PytomStar,
    /// PyTom's `<ParticleList>`.
    PytomXml,
    /// STOPGAP's motivelist.
    Stopgap,
    /// Dynamo's table, 26 to 42 columns.
    Dynamo,
    /// The motif list of AV3 and TOM: an EM file of 20 numbers a particle.
    Av3,
    /// EMAN2's `info/…_info.json`.
    Eman2,
    /// An IMOD model.
    Imod,
    /// Picks of a copick project.
    Copick,
    /// Points of the `CryoET` Data Portal, a JSON object a line.
    Portal,
    /// Lines `x y z` or `class x y z`, as crYOLO and `DeepETPicker` write them.
    Coords,
    /// crYOLO's boxes with their scores.
    Cbox,
    /// Boxes of crYOLO and EMAN: of a tomogram by their middle, of one plane by their corner.
    Boxes,
    /// Markers of `ChimeraX`.
    Cmm,
    /// Spheres and arrows of `ChimeraX`.
    Bild,
}

/// What a format has a place for beside positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a row of yes and no")]
pub struct Holds {
    /// Classes.
    pub class: bool,
    /// Orientations.
    pub rotation: bool,
    /// Scores.
    pub score: bool,
    /// Cluster sizes.
    pub size: bool,
    /// The tomogram of each particle.
    pub tomogram: bool,
    /// The voxel size.
    pub voxel_size: bool,
}

impl Holds {
    /// Letters say what there is a place for: class, rotation, score, n voxels, tomogram, voxel size.
    const fn of(letters: &str) -> Self {
        let bytes = letters.as_bytes();
        let mut holds = Self {
            class: false,
            rotation: false,
            score: false,
            size: false,
            tomogram: false,
            voxel_size: false,
        };
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'c' => holds.class = true,
                b'r' => holds.rotation = true,
                b's' => holds.score = true,
                b'n' => holds.size = true,
                b't' => holds.tomogram = true,
                _ => holds.voxel_size = true,
            }
            i += 1;
        }
        holds
    }
}

/// A line of the table of formats.
#[derive(Debug, Clone, Copy)]
pub struct FormatEntry {
    /// The format.
    pub format: ParticleFormat,
    /// What a user calls it (`--from`, `--to`).
    pub id: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// Extensions it is told by where the content says nothing, and written under.
    pub extensions: &'static [&'static str],
    /// What positions are counted in, and from where.
    pub positions: &'static str,
    /// What angles mean.
    pub angles: &'static str,
    /// What the first voxel is called.
    pub first_voxel: f64,
    /// What there is a place for.
    pub holds: Holds,
    read: Option<Read>,
    pub(super) write: Option<Write>,
}

type Read = fn(&Input<'_>) -> Parsed;
type Write = fn(&mut Output<'_>) -> Result<Vec<u8>>;

impl FormatEntry {
    /// Whether such files are read.
    pub const fn is_read(&self) -> bool {
        self.read.is_some()
    }

    /// Whether such files are written.
    pub const fn is_written(&self) -> bool {
        self.write.is_some()
    }
}

const VOXELS: &str = "voxels, first centre 0";
const CENTRED: &str = "Å from the middle";
const ZXZ: &str = "ZXZ: Rz(psi)·Rx(the)·Rz(phi)";
const ZYZ: &str = "[ZYZ(rot, tilt, psi)]⁻¹";
const NONE: &str = "none";

/// All of the family of RELION are read alike: what they are is told by their labels.
const STAR: Option<Read> = Some(relion::read);

/// A new format is a module and a line here. Where several have an extension, the first is what is written under it.
#[rustfmt::skip]
const FORMATS: &[FormatEntry] = &[
    FormatEntry { format: ParticleFormat::DeepFinderXml, id: "deepfinder", name: "DeepFinder XML", extensions: &["xml"],
        positions: VOXELS, first_voxel: 0.0, angles: ZXZ, holds: Holds::of("crsntv"),
        read: Some(deepfinder_xml::read), write: Some(|out| Ok(deepfinder_xml::write(out).into())) },
    FormatEntry { format: ParticleFormat::Csv, id: "csv", name: "CSV and TSV", extensions: &["csv", "tsv"],
        positions: VOXELS, first_voxel: 0.0, angles: ZXZ, holds: Holds::of("crsntv"),
        read: Some(csv::read), write: Some(|out| Ok(csv::write(out).into())) },
    FormatEntry { format: ParticleFormat::Xlsx, id: "xlsx", name: "XLSX of the reference", extensions: &["xlsx"],
        positions: VOXELS, first_voxel: 0.0, angles: ZXZ, holds: Holds::of("crsntv"),
        read: Some(xlsx::read), write: Some(xlsx::write) },
    FormatEntry { format: ParticleFormat::Relion5, id: "relion5", name: "RELION 5 STAR", extensions: &["star"],
        positions: CENTRED, first_voxel: 0.0, angles: ZYZ, holds: Holds::of("crstv"),
        read: STAR, write: Some(|out| relion_write::write(out, ParticleFormat::Relion5).map(Into::into)) },
    FormatEntry { format: ParticleFormat::Relion4, id: "relion4", name: "RELION 4 STAR", extensions: &[],
        positions: "unbinned pixels, first centre 0", first_voxel: 0.0, angles: ZYZ, holds: Holds::of("crstv"),
        read: STAR, write: Some(|out| relion_write::write(out, ParticleFormat::Relion4).map(Into::into)) },
    FormatEntry { format: ParticleFormat::Relion31, id: "relion3.1", name: "RELION 3.1 STAR", extensions: &[],
        positions: "pixels, first centre 0", first_voxel: 0.0, angles: ZYZ, holds: Holds::of("crstv"),
        read: STAR, write: Some(|out| relion_write::write(out, ParticleFormat::Relion31).map(Into::into)) },
    FormatEntry { format: ParticleFormat::Relion30, id: "relion3.0", name: "RELION 3.0 STAR", extensions: &[],
        positions: "pixels, first centre 0", first_voxel: 0.0, angles: ZYZ, holds: Holds::of("crstv"),
        read: STAR, write: Some(|out| relion_write::write(out, ParticleFormat::Relion30).map(Into::into)) },
    FormatEntry { format: ParticleFormat::Warp, id: "warp", name: "Warp and M STAR", extensions: &[],
        positions: "pixels of the export, first centre 0", first_voxel: 0.0, angles: ZYZ, holds: Holds::of("crstv"),
        read: STAR, write: Some(|out| relion_write::write(out, ParticleFormat::Warp).map(Into::into)) },
    FormatEntry { format: ParticleFormat::PytomStar, id: "pytom-star", name: "PyTom STAR", extensions: &[],
        positions: VOXELS, first_voxel: 0.0, angles: ZYZ, holds: Holds::of("crstv"),
        read: STAR, write: Some(|out| relion_write::write(out, ParticleFormat::PytomStar).map(Into::into)) },
    FormatEntry { format: ParticleFormat::PytomXml, id: "pytom", name: "PyTom XML", extensions: &[],
        positions: VOXELS, first_voxel: 0.0, angles: ZXZ, holds: Holds::of("crst"),
        read: Some(pytom_xml::read), write: Some(|out| Ok(pytom_xml::write(out).into())) },
    FormatEntry { format: ParticleFormat::Stopgap, id: "stopgap", name: "STOPGAP motivelist", extensions: &[],
        positions: "voxels, first centre 1", first_voxel: 1.0, angles: ZXZ, holds: Holds::of("crst"),
        read: Some(stopgap::read), write: Some(|out| Ok(stopgap::write(out).into())) },
    FormatEntry { format: ParticleFormat::Dynamo, id: "dynamo", name: "Dynamo table", extensions: &["tbl"],
        positions: VOXELS, first_voxel: 0.0, angles: "[ZXZ(tdrot, tilt, narot)]⁻¹", holds: Holds::of("crstv"),
        read: Some(dynamo::read), write: Some(|out| Ok(dynamo::write(out).into())) },
    FormatEntry { format: ParticleFormat::Av3, id: "av3", name: "AV3 and TOM motif list", extensions: &["em"],
        positions: "voxels, first centre 1", first_voxel: 1.0, angles: ZXZ, holds: Holds::of("crst"),
        read: Some(av3::read), write: Some(av3::write) },
    FormatEntry { format: ParticleFormat::Eman2, id: "eman2", name: "EMAN2 info", extensions: &[],
        positions: "unbinned pixels from the middle, n//2", first_voxel: 0.0, angles: NONE, holds: Holds::of("csv"),
        read: Some(eman::read), write: Some(|out| eman::write(out).map(Into::into)) },
    FormatEntry { format: ParticleFormat::Imod, id: "imod", name: "IMOD model", extensions: &["mod"],
        positions: "voxels, first centre 0.5 in x and y, 0 in z", first_voxel: 0.0,
        angles: "slicer: [Rx(x)·Ry(y)·Rz(z)]⁻¹", holds: Holds::of("crv"),
        read: Some(imod::read), write: Some(|out| Ok(imod::write(out))) },
    FormatEntry { format: ParticleFormat::Copick, id: "copick", name: "copick picks", extensions: &["json"],
        positions: "Å, first centre 0", first_voxel: 0.0, angles: "matrix", holds: Holds::of("rstv"),
        read: Some(copick::read), write: Some(|out| copick::write(out).map(Into::into)) },
    FormatEntry { format: ParticleFormat::Portal, id: "portal", name: "CryoET Data Portal points", extensions: &["ndjson"],
        positions: VOXELS, first_voxel: 0.0, angles: "matrix", holds: Holds::of("r"),
        read: Some(portal::read), write: Some(|out| Ok(portal::write(out).into())) },
    FormatEntry { format: ParticleFormat::Coords, id: "coords", name: "points, crYOLO and DeepETPicker", extensions: &["coords", "pts"],
        positions: VOXELS, first_voxel: 0.0, angles: NONE, holds: Holds::of("c"),
        read: Some(coords::read), write: Some(|out| Ok(coords::write(out).into())) },
    FormatEntry { format: ParticleFormat::Cbox, id: "cbox", name: "crYOLO CBOX", extensions: &["cbox"],
        positions: "voxels, corner of a box in x and y, its middle in z", first_voxel: 0.0, angles: NONE, holds: Holds::of("s"),
        read: Some(cbox::read), write: Some(|out| Ok(cbox::write(out).into())) },
    FormatEntry { format: ParticleFormat::Boxes, id: "box", name: "boxes, crYOLO and EMAN", extensions: &["box"],
        positions: "voxels, first centre 0; of a plane: corner of a box, z is 0", first_voxel: 0.0, angles: NONE, holds: Holds::of(""),
        read: Some(boxes::read), write: Some(|out| Ok(boxes::write(out).into())) },
    FormatEntry { format: ParticleFormat::Cmm, id: "cmm", name: "ChimeraX markers", extensions: &["cmm"],
        positions: "Å, first centre 0", first_voxel: 0.0, angles: NONE, holds: Holds::of("c"),
        read: Some(cmm::read), write: Some(|out| Ok(cmm::write(out).into())) },
    FormatEntry { format: ParticleFormat::Bild, id: "bild", name: "ChimeraX BILD", extensions: &["bild", "bld"],
        positions: "Å, first centre 0", first_voxel: 0.0, angles: "arrow along z", holds: Holds::of("cr"),
        read: Some(bild::read), write: Some(|out| Ok(bild::write(out).into())) },
    FormatEntry { format: ParticleFormat::ShrecText, id: "shrec", name: "SHREC text", extensions: &[],
        positions: VOXELS, first_voxel: 0.0, angles: ZXZ, holds: Holds::of("cr"),
        read: Some(|input| text::read_shrec(input, ShrecColumns::Xyz)),
        write: Some(|out| Ok(text::write_shrec(out, ShrecColumns::Xyz).into())) },
    FormatEntry { format: ParticleFormat::ShrecTextZyx, id: "shrec-zyx", name: "SHREC text, z first", extensions: &[],
        positions: VOXELS, first_voxel: 0.0, angles: ZXZ, holds: Holds::of("cr"),
        read: Some(|input| text::read_shrec(input, ShrecColumns::Zyx)),
        write: Some(|out| Ok(text::write_shrec(out, ShrecColumns::Zyx).into())) },
    FormatEntry { format: ParticleFormat::Text, id: "text", name: "text `label z y x`", extensions: &["txt"],
        positions: VOXELS, first_voxel: 0.0, angles: NONE, holds: Holds::of("cn"),
        read: Some(text::read_labels), write: Some(|out| Ok(text::write_labels(out).into())) },
];

/// The table of formats: what is read and written, and each one's conventions.
pub fn particle_formats() -> &'static [FormatEntry] {
    FORMATS
}

/// Reads a particle list of any format; what was assumed is logged.
///
/// # Errors
/// As [`read_particle_file`].
pub fn read_particles(path: &Path, options: &ReadOptions) -> Result<ParticleList> {
    let file = read_particle_file(path, options)?;
    for note in &file.notes {
        tracing::warn!("{}: {note}", path.display());
    }
    Ok(file.particles)
}

/// Reads a particle list of any format: positions in voxels, voxel 0's centre at 0.0.
///
/// # Errors
/// [`IoError`] with the line where the list is wrong: a coordinate that is no finite number, a class that is no label,
/// a class name that the options do not know, an unfinished document; also where the format counts in Å or from
/// the middle of the tomogram and neither file nor options say how large voxels and tomogram are.
pub fn read_particle_file(path: &Path, options: &ReadOptions) -> Result<ParticleFile> {
    let bytes = std::fs::read(path).map_err(IoError::file("read", path))?;
    if bytes.is_empty() {
        let what = "the file is empty. Was the program that made it stopped? Make it again";
        return Err(IoError::malformed(path, "line 1", what));
    }
    let input = Input::new(path, &bytes, options);
    let format = match options.format {
        Some(format) => format,
        None => guess(&input)?,
    };
    let read = format
        .entry()
        .read
        .ok_or_else(|| IoError::unsupported(path, format!("{format} is written here, and not read")))?;
    let mut draft = read(&input)?;
    input.note_wild_angles(&mut draft);
    let format = match options.format {
        Some(asked) if !is_star(asked) => asked,
        _ => draft.format.unwrap_or(format),
    };
    if let Some(size) = options.voxel_size {
        if let Some(own) = draft.list.voxel_size.filter(|own| !own.agrees_with(size, 1e-4)) {
            draft.note(format!("the file says {own} a voxel: {size} taken, as asked for"));
        }
        draft.list.voxel_size = Some(size);
    }
    if let Some(first) = options.first_voxel {
        let shift = format.entry().first_voxel - f64::from(first);
        for particle in &mut draft.list.particles {
            particle.position = particle.position.map(|value| value + shift);
        }
        draft.note(format!("the first voxel was taken to be {first}, as asked for"));
    }
    if options.origin == Some(Origin::Centre) && !format.entry().positions.contains("middle") {
        from_centre(path, &mut draft.list, options)?;
    }
    if options.swap_xz {
        draft.list.swap_x_and_z();
    }
    if draft.list.voxel_size.is_some_and(|size| size.angstrom() == 1.0)
        && !options.is_preview
        && options.voxel_size.is_none()
    {
        draft.note(
            "the list says 1 Å a voxel, as many programs do when they do not know: check the voxel size",
        );
    }
    Ok(ParticleFile {
        classes: draft.classes(),
        particles: draft.list,
        tomograms: options.tomograms.clone(),
        source: path.to_owned(),
        format,
        notes: draft.notes,
    })
}

/// Moves positions that count from the middle of the tomogram.
fn from_centre(path: &Path, list: &mut ParticleList, options: &ReadOptions) -> Result<()> {
    let size = list.voxel_size;
    for particle in &mut list.particles {
        let frame = options.tomograms.get(particle.tomogram.as_deref()).ok_or_else(|| {
            let what = "positions are to count from the middle of the tomogram, whose size is not known: give the tomogram (--tomograms)";
            IoError::unsupported(path, what)
        })?;
        let [z, y, x] = frame.shape_in(size);
        for (coordinate, n) in particle.position.iter_mut().zip([x, y, z]) {
            *coordinate += n / 2.0;
        }
    }
    Ok(())
}

/// Whether a file is a particle list, and no volume: told by its content, and where that says nothing by its extension.
pub fn is_particle_list(path: &Path) -> bool {
    const HEAD_BYTES: u64 = 1024;
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    if read.is_err() {
        return false;
    }
    if head.starts_with(b"IMOD") || head.starts_with(xlsx::MAGIC) || av3::is_list(&head) {
        return true;
    }
    // Lists are text, and volumes have a zero byte in their headers.
    if VolumeFormat::of_content(&head).is_some() || head.contains(&0) {
        return false;
    }
    ParticleFormat::guess(path).is_some()
}

impl ParticleFormat {
    /// The format that a user calls that (`--from`, `--to`).
    pub fn by_id(id: &str) -> Option<Self> {
        Some(FORMATS.iter().find(|entry| entry.id == id)?.format)
    }

    /// Its line of the table.
    pub fn entry(self) -> &'static FormatEntry {
        let found = FORMATS.iter().find(|entry| entry.format == self);
        found.unwrap_or(&FORMATS[0])
    }

    /// The format of a particle list, by its content, and where that says nothing by its extension.
    pub fn guess(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        guess(&Input::new(path, &bytes, &ReadOptions::default())).ok()
    }
}

impl std::fmt::Display for ParticleFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.entry().name)
    }
}

const fn is_star(format: ParticleFormat) -> bool {
    matches!(
        format,
        ParticleFormat::Relion5
            | ParticleFormat::Relion4
            | ParticleFormat::Relion31
            | ParticleFormat::Relion30
            | ParticleFormat::Warp
            | ParticleFormat::PytomStar
    )
}

pub(super) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_one_line_of_its_own() {
        for entry in FORMATS {
            assert_eq!(entry.format.entry().id, entry.id);
            assert_eq!(ParticleFormat::by_id(entry.id), Some(entry.format));
            assert!(entry.is_read() || entry.is_written());
        }
    }
}
