use std::path::{Path, PathBuf};

use deepfinder_core::{Class, ClassTable, Label, ParticleList, VoxelSize};
use deepfinder_eval::{Classes, Consensus, ConsensusPick, ConsensusRow, FoundBy, Radius, consensus};
use deepfinder_io::{ReadOptions, check_writable, read_particles, write_file_atomically, write_particles};
use plotters::prelude::*;
use serde::Serialize;

use crate::canvas::class_colour;
use crate::error::OnFile;
use crate::slices::SlicesPicture;
use crate::{Length, PartAverage, PipelineError, Result, TomogramOptions, open_tomogram};

/// The parts of a union: who found it, the name of its list, what pictures call it, and the label whose colour it takes.
/// Green, yellow and blue are the colours of the paper's Supplementary Note 1.
const PARTS: [(FoundBy, &str, &str, Label); 3] = [
    (FoundBy::Both, "both.xml", "both", 3),
    (FoundBy::OnlyA, "only_a.xml", "only A", 4),
    (FoundBy::OnlyB, "only_b.xml", "only B", 5),
];

/// The list of a part in the folder of a consensus.
pub(crate) fn part_file(found_by: FoundBy) -> &'static str {
    PARTS
        .iter()
        .find(|part| part.0 == found_by)
        .map_or("", |part| part.1)
}

/// Two pickers' lists to compare.
#[derive(Debug, Clone)]
pub struct ConsensusJob {
    /// The first list.
    pub a: PathBuf,
    /// The second list.
    pub b: PathBuf,
    /// How to read both.
    pub read: ReadOptions,
    /// Distance up to which two picks are one particle.
    pub radius: Length,
    /// Picks may be one particle though they are called differently.
    pub any_class: bool,
    /// Voxel size, for a radius in Å, where no list says it.
    pub voxel_size: Option<VoxelSize>,
    /// Folder for the lists, the table and the pictures; nothing is written where none is given.
    pub output: Option<PathBuf>,
    /// The tomogram that both picked from, for a picture of slices.
    pub tomogram: Option<PathBuf>,
}

/// What two pickers found together and each alone.
#[derive(Debug, Clone, Serialize)]
pub struct ConsensusSummary {
    /// Names of the classes.
    #[serde(skip)]
    pub names: ClassTable,
    /// Each class, by label.
    pub classes: Vec<ConsensusRow>,
    /// All classes together.
    pub all: ConsensusRow,
    /// The union, each pick with who found it.
    #[serde(skip)]
    pub picks: Vec<ConsensusPick>,
    /// The files written.
    pub files: Vec<PathBuf>,
    /// The averages of the parts, where they were asked for ([`crate::average_parts`]).
    pub averages: Vec<PartAverage>,
}

/// Compares two pickers' lists and writes what both found, what each found alone, and the union with confidences.
///
/// # Errors
/// For files that cannot be read or written, a radius in Å without a voxel size, and lists of several tomograms whose
/// particles do not say which is their own.
pub fn consensus_of_files(job: &ConsensusJob) -> Result<ConsensusSummary> {
    if job.tomogram.is_some() && job.output.is_none() {
        return Err(PipelineError::input(
            "a picture of the tomogram needs a folder: name one with --output",
        ));
    }
    let (a, b) = (
        read_particles(&job.a, &job.read)?,
        read_particles(&job.b, &job.read)?,
    );
    let voxel_size = job.voxel_size.or(a.voxel_size).or(b.voxel_size);
    let radius = job.radius.in_voxels(voxel_size)?;
    let classes = if job.any_class {
        Classes::Any
    } else {
        Classes::Same
    };
    let found = consensus(&a, &b, &Radius::Same(radius), classes).on(&job.b)?;
    let mut files = Vec::new();
    if let Some(folder) = &job.output {
        let inputs = [&job.a, &job.b];
        files = write_all(folder, &inputs, job, &found, radius, voxel_size)?;
    }
    Ok(ConsensusSummary {
        names: job.read.classes.clone(),
        classes: found.classes,
        all: found.all,
        picks: found.picks,
        files,
        averages: Vec::new(),
    })
}

fn write_all(
    folder: &Path,
    inputs: &[&PathBuf],
    job: &ConsensusJob,
    found: &Consensus,
    radius: f64,
    voxel_size: Option<VoxelSize>,
) -> Result<Vec<PathBuf>> {
    // Made from what is in memory before anything is written.
    let slices = job
        .tomogram
        .as_deref()
        .map(|path| slices(path, found, radius))
        .transpose()?;
    let svg = bars(found, &job.read.classes)?;
    std::fs::create_dir_all(folder)
        .map_err(|source| PipelineError::file(folder, "the folder cannot be made", source))?;
    let names = PARTS.iter().map(|part| part.1);
    for name in names.chain(["union.xml"]) {
        let path = folder.join(name);
        check_writable(&path)?;
        let is = |input: &&PathBuf| matches!((input.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if inputs.iter().any(is) {
            return Err(PipelineError::input(format!(
                "{}: this would overwrite the input of that name; choose another folder",
                path.display()
            )));
        }
    }
    let mut files = Vec::new();
    let mut list = |name: &str, particles: Vec<deepfinder_core::Particle>| -> Result<()> {
        let path = folder.join(name);
        write_particles(
            &path,
            &ParticleList {
                particles,
                voxel_size,
            },
        )?;
        files.push(path);
        Ok(())
    };
    for (found_by, name, ..) in PARTS {
        list(name, found.found_by(found_by).cloned().collect())?;
    }
    list(
        "union.xml",
        found.picks.iter().map(|pick| pick.particle.clone()).collect(),
    )?;
    let table = table(found, &job.read.classes);
    let others = [
        ("consensus.csv", Some(table.into_bytes())),
        ("consensus.svg", Some(svg.into_bytes())),
        ("slices.png", slices),
    ];
    for (name, contents) in others {
        if let Some(contents) = contents {
            let path = folder.join(name);
            write_file_atomically(&path, &contents)?;
            files.push(path);
        }
    }
    Ok(files)
}

fn table(found: &Consensus, names: &ClassTable) -> String {
    let mut csv = "class,both,only_a,only_b,a_confirmed,b_confirmed,agreement\n".to_owned();
    let line = |name: String, row: &ConsensusRow| {
        format!(
            "{name},{},{},{},{:.4},{:.4},{:.4}\n",
            row.both, row.only_a, row.only_b, row.a_confirmed, row.b_confirmed, row.agreement
        )
    };
    csv.extend(
        found
            .classes
            .iter()
            .map(|row| line(names.name_of(row.label), row)),
    );
    csv + &line("all".to_owned(), &found.all)
}

/// Slices of the tomogram with a ring around each particle, in the colour of who found it.
fn slices(path: &Path, found: &Consensus, radius: f64) -> Result<Vec<u8>> {
    let tomogram = open_tomogram(path, TomogramOptions::default())?;
    let part_of = |found_by: FoundBy| {
        PARTS
            .iter()
            .find(|part| part.0 == found_by)
            .map_or(0, |part| part.3)
    };
    let picks: Vec<_> = found
        .picks
        .iter()
        .map(|pick| {
            let mut particle = pick.particle.clone();
            particle.label = part_of(pick.found_by);
            particle
        })
        .collect();
    let classes = PARTS.iter().map(|(_, _, name, label)| Class {
        label: *label,
        name: (*name).to_owned(),
        radius_voxels: Some(radius as f32),
    });
    let classes = ClassTable::new(classes.collect()).on(path)?;
    let picture = SlicesPicture {
        tomogram: tomogram.as_ref(),
        labels: None,
        picks: &picks,
        truth: &[],
        classes: &classes,
    };
    picture.to_png()
}

/// A bar for each class and one for all, parted by who found how many.
fn bars(found: &Consensus, names: &ClassTable) -> Result<String> {
    let mut svg = String::new();
    draw_bars(&mut svg, found, names)
        .map_err(|error| PipelineError::input(format!("the picture cannot be drawn: {error}")))?;
    Ok(svg)
}

fn draw_bars(
    svg: &mut String,
    found: &Consensus,
    names: &ClassTable,
) -> Result<(), Box<dyn std::error::Error>> {
    const LEFT: i32 = 130;
    const WIDTH: i32 = 560;
    const ROW: i32 = 30;
    let rows: Vec<(String, &ConsensusRow)> = found
        .classes
        .iter()
        .map(|row| (names.name_of(row.label), row))
        .chain([("all".to_owned(), &found.all)])
        .collect();
    let height = 44 + ROW * rows.len() as i32;
    let area = SVGBackend::with_string(svg, ((LEFT + WIDTH + 20) as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = ("sans-serif", 14).into_font();
    for (column, (_, _, name, label)) in PARTS.iter().enumerate() {
        let [r, g, b] = class_colour(*label);
        let x = LEFT + 110 * column as i32;
        area.draw(&Rectangle::new(
            [(x, 12), (x + 14, 26)],
            RGBColor(r, g, b).filled(),
        ))?;
        area.draw(&Text::new((*name).to_owned(), (x + 20, 12), text.clone()))?;
    }
    for (number, (name, row)) in rows.iter().enumerate() {
        let y = 40 + ROW * number as i32;
        area.draw(&Text::new(name.clone(), (8, y + 4), text.clone()))?;
        let counts = [row.both, row.only_a, row.only_b];
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let mut before = 0;
        for (count, (_, _, _, label)) in counts.into_iter().zip(PARTS) {
            let at = |count: u64| LEFT + (f64::from(WIDTH) * count as f64 / total).round() as i32;
            let (from, to) = (at(before), at(before + count));
            before += count;
            if count == 0 {
                continue;
            }
            let [r, g, b] = class_colour(label);
            area.draw(&Rectangle::new(
                [(from, y), (to, y + ROW - 8)],
                RGBColor(r, g, b).filled(),
            ))?;
            let digits = count.to_string();
            if to - from > 9 * digits.len() as i32 {
                area.draw(&Text::new(digits, (from + 4, y + 4), text.clone()))?;
            }
        }
    }
    area.present()?;
    Ok(())
}
