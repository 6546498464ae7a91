//! Writing of particle lists: which format, what it has no place for, and what its writer gets.

use std::collections::BTreeMap;
use std::path::Path;

use deepfinder_core::{ClassTable, Label, ParticleList};

use super::format::{FormatEntry, extension, particle_formats};
use super::{TomogramTable, WriteOptions};
use crate::{IoError, Result, write_file_atomically};

/// Writes a particle list in the format of the path's extension.
///
/// # Errors
/// As [`write_particle_file`].
pub fn write_particles(path: &Path, particles: &ParticleList) -> Result<()> {
    write_particle_file(path, particles, &WriteOptions::default()).map(drop)
}

/// Writes a particle list; gives what the format cannot hold and what was assumed, in sentences for the user.
///
/// Positions and scores are kept to the last digit the format has, orientations to a millionth of a degree.
///
/// # Errors
/// [`IoError`] where neither options nor extension name a format that is written, where the format needs something
/// that is not known (a voxel size, a tomogram's size or name), or where writing fails; an existing file is then as
/// it was.
pub fn write_particle_file(
    path: &Path,
    particles: &ParticleList,
    options: &WriteOptions,
) -> Result<Vec<String>> {
    let (bytes, notes) = encode_particles(path, particles, options)?;
    write_file_atomically(path, &bytes)?;
    Ok(notes)
}

/// As [`write_particle_file`], into memory: the bytes, and the notes.
///
/// # Errors
/// As [`write_particle_file`], but for writing.
pub fn encode_particles(
    path: &Path,
    particles: &ParticleList,
    options: &WriteOptions,
) -> Result<(Vec<u8>, Vec<String>)> {
    let extension = extension(path).unwrap_or_default();
    let by_extension = || {
        particle_formats()
            .iter()
            .find(|entry| entry.is_written() && entry.extensions.contains(&extension.as_str()))
    };
    let entry = match options.format {
        Some(format) => Some(format.entry()),
        None => by_extension(),
    };
    let Some((entry, write)) = entry.and_then(|entry| Some((entry, entry.write?))) else {
        let known: Vec<String> = particle_formats()
            .iter()
            .filter(|entry| entry.is_written())
            .filter_map(|entry| Some(format!(".{}", entry.extensions.first()?)))
            .collect();
        let what = format!(
            "particle lists are written as {}: give the file one of these extensions, or name the format",
            known.join(", ")
        );
        return Err(IoError::Unwritable {
            path: path.to_owned(),
            what,
        });
    };
    let mut output = Output {
        path,
        list: particles,
        classes: &options.classes,
        tomograms: &options.tomograms,
        extension: &extension,
        notes: losses(particles, entry),
    };
    let bytes = write(&mut output)?;
    Ok((bytes, output.notes))
}

/// What the list has and the format has no place for.
fn losses(list: &ParticleList, entry: &FormatEntry) -> Vec<String> {
    let count =
        |has: fn(&deepfinder_core::Particle) -> bool| list.iter().filter(|particle| has(particle)).count();
    let holds = entry.holds;
    let labels = list.count_by_label().len();
    let mut lost = Vec::new();
    let mut check = |is_held: bool, what: &str, count: usize| {
        if !is_held && count > 0 {
            lost.push(format!(
                "{what} of {count} particles, for which {} has no place",
                entry.name
            ));
        }
    };
    check(holds.class, "classes", if labels > 1 { list.len() } else { 0 });
    check(
        holds.rotation,
        "orientations",
        count(|particle| particle.rotation.is_some()),
    );
    check(holds.score, "scores", count(|particle| particle.score.is_some()));
    check(
        holds.size,
        "cluster sizes",
        count(|particle| particle.size_voxels.is_some()),
    );
    check(
        holds.tomogram,
        "tomogram names",
        count(|particle| particle.tomogram.is_some()),
    );
    let mut notes: Vec<String> = lost.into_iter().map(|what| format!("not kept: {what}")).collect();
    if let (false, Some(size)) = (
        holds.voxel_size || entry.positions.starts_with('Å'),
        list.voxel_size,
    ) {
        notes.push(format!(
            "not kept: the voxel size of {size}, for which {} has no place",
            entry.name
        ));
    }
    notes
}

/// What a format's writer gets.
pub(super) struct Output<'a> {
    pub(super) path: &'a Path,
    pub(super) list: &'a ParticleList,
    pub(super) classes: &'a ClassTable,
    pub(super) tomograms: &'a TomogramTable,
    /// Lower case.
    pub(super) extension: &'a str,
    notes: Vec<String>,
}

impl Output<'_> {
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn cannot(&self, what: impl Into<String>) -> IoError {
        IoError::Unwritable {
            path: self.path.to_owned(),
            what: what.into(),
        }
    }

    /// What to call a class; `class7` where it has no name.
    pub(super) fn class_name(&self, label: Label) -> String {
        self.classes
            .by_label(label)
            .map_or_else(|| format!("class{label}"), |class| class.name.clone())
    }

    /// The edge of a voxel in Å, for formats that count in Å.
    pub(super) fn angstrom_or_voxels(&mut self) -> f64 {
        if let Some(size) = self.list.voxel_size {
            f64::from(size.angstrom())
        } else {
            self.note("the voxel size is not known: positions are written in voxels where the format has Å");
            1.0
        }
    }

    /// Numbers for tomograms, for formats that do not name them: their own where they are numbers, else counted.
    pub(super) fn tomogram_numbers(&mut self) -> Vec<u64> {
        let names: Vec<Option<&str>> = self
            .list
            .iter()
            .map(|particle| particle.tomogram.as_deref())
            .collect();
        let own = |name: &str| name.parse::<u64>().ok();
        if names
            .iter()
            .all(|name| name.is_none_or(|name| own(name).is_some()))
        {
            return names.iter().map(|name| name.and_then(own).unwrap_or(1)).collect();
        }
        let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
        let mut order = Vec::new();
        for name in names.iter().flatten() {
            let next = numbers.len() as u64 + 1;
            numbers.entry(name).or_insert_with(|| {
                order.push(format!("{name} = {next}"));
                next
            });
        }
        let result = names
            .iter()
            .map(|name| name.map_or(0, |name| numbers.get(name).copied().unwrap_or(0)))
            .collect();
        self.note(format!("tomograms are numbered here: {}", order.join(", ")));
        result
    }
}
