//! Tables with a header line. Columns are told by name, in any order; those that mean nothing here are skipped.
//!
//! Positions in voxels from 0, or in Å where the columns are called `X [A]` (TARDIS). Orientations as ZXZ angles
//! `phi`, `psi`, `the` in degrees, or as a matrix `r00` … `r22` from particle to tomogram. A table without a class is
//! of one class: the points of the `CryoET` Data Portal. The spreadsheets of the reference have the same columns.

use ::csv::{Position, ReaderBuilder, StringRecord, Trim, WriterBuilder};
use deepfinder_core::{Particle, ParticleList, Rotation};

use super::Parsed;
use super::fields::{Fields, Input, angles, decimal, present};
use super::list::Draft;
use super::write::Output;
use crate::{IoError, Result};

/// What a column is, by the names programs give it (lower case, spaces as underscores).
const LABEL: &[&str] = &["class_label", "class", "label", "class_id"];
const PHI: &[&str] = &["phi"];
const PSI: &[&str] = &["psi"];
const THE: &[&str] = &["the", "theta"];
const SCORE: &[&str] = &["score", "confidence"];
const SIZE: &[&str] = &["cluster_size", "size", "size_voxels"];
const TOMOGRAM: &[&str] = &["tomogram", "tomo_idx", "tomo_name", "tomo"];
const VOXEL_SIZE: &[&str] = &["voxel_size_angstrom"];

/// Whether the first line looks like the header of a table of particles.
pub(super) fn has_header(text: &str) -> bool {
    let names: Vec<String> = first_line(text)
        .split(char::from(delimiter(text)))
        .map(normalised)
        .collect();
    ["x", "y", "z"].iter().all(|&axis| {
        names
            .iter()
            .any(|name| name == axis || *name == format!("{axis}_[a]"))
    })
}

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let text = input.text()?;
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter(text))
        .comment(Some(b'#'))
        .trim(Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let damaged = |error: &::csv::Error| {
        let line = error.position().map_or(1, Position::line);
        IoError::malformed(
            input.path,
            format!("line {line}"),
            format!("this is no table: {error}"),
        )
    };
    let header = reader.headers().map_err(|error| damaged(&error))?.clone();
    let records = reader.records().map(|record| {
        let record = record.map_err(|error| damaged(&error))?;
        let line = record.position().map_or(0, Position::line);
        Ok((line, record))
    });
    read_table(input, "line", &header, records)
}

/// The particles of a table's rows, of which each comes with its number; `unit` is what rows are called.
pub(super) fn read_table(
    input: &Input<'_>,
    unit: &str,
    header: &StringRecord,
    rows: impl Iterator<Item = Result<(u64, StringRecord)>>,
) -> Parsed {
    let columns = Columns::of(header).map_err(|missing| {
        let what = format!(
            "no column called {missing}: the first {unit} has to name the columns, of which x, y and z are needed (found: {})",
            header.iter().collect::<Vec<_>>().join(", ")
        );
        IoError::malformed(input.path, format!("{unit} 1"), what)
    })?;
    let mut draft = Draft::default();
    let in_angstrom = if columns.is_angstrom {
        Some(input.voxels_of_angstrom(None, &mut draft)?)
    } else {
        None
    };
    let list = &mut draft.list;
    for row in rows {
        let (number, record) = row?;
        let place = || format!("{unit} {number}");
        let fields = input.fields(&place);
        let mut particle = columns.particle(&fields, &record)?;
        if let Some(edge) = in_angstrom {
            particle.position = particle.position.map(|value| value / f64::from(edge.angstrom()));
        }
        list.particles.push(particle);
        let size = match in_angstrom {
            Some(size) => Some(size),
            None => fields.voxel_size(field(&record, columns.voxel_size))?,
        };
        if list.particles.len() > 1 && size != list.voxel_size {
            return Err(fields.wrong("the voxel size changes within the list: split it by voxel size"));
        }
        list.voxel_size = size;
    }
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &Output<'_>) -> String {
    let delimiter = if output.extension == "tsv" { b'\t' } else { b',' };
    let mut writer = WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    let (header, rows) = table(output.list);
    // Writing to memory cannot fail.
    let _ = writer.write_record(header);
    for row in rows {
        let _ = writer.write_record(row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// The list as columns with their names, and a row a particle; of what no particle has, there is no column.
pub(super) fn table(list: &ParticleList) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let has_rotations = list.iter().any(|particle| particle.rotation.is_some());
    let has_scores = list.iter().any(|particle| particle.score.is_some());
    let has_sizes = list.iter().any(|particle| particle.size_voxels.is_some());
    let has_tomograms = list.iter().any(|particle| particle.tomogram.is_some());

    let mut header = vec![LABEL[0], "x", "y", "z"];
    header.extend([PHI[0], PSI[0], THE[0]].into_iter().filter(|_| has_rotations));
    header.extend(has_scores.then_some(SCORE[0]));
    header.extend(has_sizes.then_some(SIZE[0]));
    header.extend(has_tomograms.then_some(TOMOGRAM[0]));
    header.extend(list.voxel_size.and(Some(VOXEL_SIZE[0])));
    let row = |particle: &Particle| {
        let mut row = vec![particle.label.to_string()];
        row.extend(particle.position.map(decimal));
        if has_rotations {
            row.extend(particle.rotation.map_or_else(Default::default, angles));
        }
        let optional = |value: Option<String>| value.unwrap_or_default();
        row.extend(has_scores.then(|| optional(particle.score.map(|score| score.to_string()))));
        row.extend(has_sizes.then(|| optional(particle.size_voxels.map(|size| size.to_string()))));
        row.extend(has_tomograms.then(|| optional(particle.tomogram.as_ref().map(ToString::to_string))));
        row.extend(list.voxel_size.map(|size| size.angstrom().to_string()));
        row
    };
    (header, list.iter().map(row).collect())
}

/// Where the fields of a particle stand.
struct Columns {
    label: Option<usize>,
    /// Positions are in Å, as TARDIS has them.
    is_angstrom: bool,
    position: [usize; 3],
    angles: [Option<usize>; 3],
    matrix: Option<[[usize; 3]; 3]>,
    score: Option<usize>,
    size: Option<usize>,
    tomogram: Option<usize>,
    voxel_size: Option<usize>,
}

impl Columns {
    /// The name of a column that is missing is the error.
    fn of(header: &StringRecord) -> Result<Self, &'static str> {
        let names: Vec<String> = header.iter().map(normalised).collect();
        let find = |aliases: &[&str]| {
            aliases
                .iter()
                .find_map(|&alias| names.iter().position(|name| name == alias))
        };
        let is_angstrom = find(&["x_[a]"]).is_some();
        let axis = |name: &'static str, in_angstrom: &str| {
            find(&[if is_angstrom { in_angstrom } else { name }]).ok_or(name)
        };
        let mut matrix = Some([[0; 3]; 3]);
        for (row, column) in (0..3).flat_map(|row| (0..3).map(move |column| (row, column))) {
            let place = find(&[&format!("r{row}{column}")]);
            matrix = matrix.zip(place).map(|(mut matrix, place)| {
                matrix[row][column] = place;
                matrix
            });
        }
        Ok(Self {
            label: find(LABEL),
            is_angstrom,
            position: [axis("x", "x_[a]")?, axis("y", "y_[a]")?, axis("z", "z_[a]")?],
            angles: [find(PHI), find(PSI), find(THE)],
            matrix,
            score: find(SCORE),
            size: find(SIZE),
            tomogram: find(TOMOGRAM),
            voxel_size: find(VOXEL_SIZE),
        })
    }

    fn particle(&self, fields: &Fields<'_>, record: &StringRecord) -> Result<Particle> {
        let required = |name: &str, column: usize| {
            field(record, Some(column)).ok_or_else(|| fields.wrong(format!("no {name} in this line")))
        };
        let mut position = [0.0; 3];
        for ((name, column), coordinate) in ["x", "y", "z"].into_iter().zip(self.position).zip(&mut position)
        {
            *coordinate = fields.number(name, required(name, column)?)?;
        }
        let label = match self.label {
            Some(column) => fields.label(required("class", column)?)?,
            None => fields.foreign_class(None)?,
        };
        let mut particle = Particle::new(position, label);
        particle.rotation = match self.matrix {
            Some(columns) => matrix(fields, record, columns)?,
            None => fields.angles(self.angles.map(|column| field(record, column)))?,
        };
        particle.score = fields.score(field(record, self.score))?;
        particle.size_voxels = fields.size(field(record, self.size))?;
        particle.tomogram = field(record, self.tomogram).map(Into::into);
        Ok(particle)
    }
}

fn matrix(fields: &Fields<'_>, record: &StringRecord, columns: [[usize; 3]; 3]) -> Result<Option<Rotation>> {
    if columns
        .iter()
        .flatten()
        .all(|&column| field(record, Some(column)).is_none())
    {
        return Ok(None);
    }
    let mut matrix = [[0.0; 3]; 3];
    for (row, columns) in columns.iter().enumerate() {
        for (column, &place) in columns.iter().enumerate() {
            let text = field(record, Some(place)).unwrap_or_default();
            matrix[row][column] = fields.number(&format!("r{row}{column}"), text)?;
        }
    }
    let rotation = Rotation::from_matrix(matrix);
    rotation.map(Some).ok_or_else(|| {
        fields.wrong(
            "r00 … r22 are no rotation matrix: its rows must be orthogonal, of length 1, and not mirror",
        )
    })
}

fn field(record: &StringRecord, column: Option<usize>) -> Option<&str> {
    present(record.get(column?)?)
}

fn normalised(name: &str) -> String {
    name.trim()
        .trim_matches('"')
        .to_lowercase()
        .replace([' ', '-'], "_")
}

/// The first line that is neither empty nor a comment.
fn first_line(text: &str) -> &str {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.find(|line| present(line).is_some()).unwrap_or_default()
}

/// What separates the fields of the first line.
fn delimiter(text: &str) -> u8 {
    let line = first_line(text);
    let count = |delimiter: &u8| line.bytes().filter(|byte| byte == delimiter).count();
    // The last of several maxima: comma before tab before semicolon.
    [b';', b'\t', b','].into_iter().max_by_key(count).unwrap_or(b',')
}
