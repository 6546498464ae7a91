//! What is printed as text: tables for a terminal.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use deepfinder_core::ClassTable;
use deepfinder_pipeline::{
    ConsensusSummary, Converted, Detection, Evaluation, FoundBy, TrainingTomogram, VoxelReport,
};
use serde_json::Value;

pub(crate) fn size_in_words(voxel_size_angstrom: Option<f32>) -> String {
    voxel_size_angstrom.map_or("unknown voxel size".to_owned(), |size| format!("{size} Å"))
}

/// The first particles in this program's convention, and in a dry run as the output would have them.
pub(crate) fn converted_list(converted: &Converted, is_dry_run: bool) -> String {
    let Converted::Particles {
        from,
        particles,
        voxel_size_angstrom,
        first,
        first_as_written,
        ..
    } = converted
    else {
        return String::new();
    };
    let mut table = table(["label", "x", "y", "z", "phi", "psi", "the", "tomogram"]);
    for row in first {
        let number = |value: f64| format!("{value:.3}");
        let angles = row
            .angles_phi_psi_the
            .map_or([(); 3].map(|()| "-".to_owned()), |angles| angles.map(number));
        let cells = std::iter::once(row.label.to_string())
            .chain(row.position_xyz.map(number))
            .chain(angles)
            .chain(std::iter::once(row.tomogram.clone().unwrap_or_default()));
        table.add_row(cells);
    }
    let written = if is_dry_run && !first_as_written.is_empty() {
        format!("\n\nas they would be written:\n{}", first_as_written.join("\n"))
    } else {
        String::new()
    };
    format!(
        "{table}{written}\n\n{particles} particles of a {from} list; positions in voxels ({}), the first voxel's centre is 0",
        size_in_words(*voxel_size_angstrom)
    )
}

/// A table for a terminal: words to the left, and to the right what comes after the first column.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// The averages of a consensus's parts, where there are any.
pub(crate) fn part_averages(found: &ConsensusSummary) -> String {
    if found.averages.is_empty() {
        return String::new();
    }
    let mut rows = table([
        "part",
        "class",
        "listed",
        "averaged",
        "FSC 0.143",
        "FSC 0.5",
        "map",
    ]);
    for average in &found.averages {
        let part = match average.found_by {
            FoundBy::Both => "both",
            FoundBy::OnlyA => "only A",
            FoundBy::OnlyB => "only B",
        };
        let resolution = |place: usize| match (average.resolution_angstrom, average.resolution_voxels) {
            (Some(angstrom), _) => format!("{:.1} Å", angstrom[place]),
            (None, Some(voxels)) => format!("{:.1} voxels", voxels[place]),
            (None, None) => String::new(),
        };
        let map = average
            .map
            .as_ref()
            .map_or("too few".to_owned(), |path| path.display().to_string());
        rows.add_row([
            part.to_owned(),
            found.names.name_of(average.label),
            average.listed.to_string(),
            average.particles.to_string(),
            resolution(0),
            resolution(1),
            map,
        ]);
    }
    format!("\n\n{rows}")
}

/// The scores of picks or of a label map.
pub(crate) fn evaluation(found: &Evaluation) -> String {
    match found {
        Evaluation::Particles { classes, report } => detection(classes, &report.pooled),
        Evaluation::Voxels { classes, report } => voxels(classes, report),
    }
}

fn detection(classes: &ClassTable, found: &Detection) -> String {
    let mut table = table([
        "class",
        "particles",
        "picks",
        "found",
        "precision",
        "recall",
        "F1",
        "distance (voxels)",
    ]);
    let number = |value: f64| format!("{value:.3}");
    let distance = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    for row in &found.classes {
        let scores = &row.scores;
        table.add_row([
            classes.name_of(row.label),
            row.truth.to_string(),
            row.picks.to_string(),
            scores.true_positives.to_string(),
            number(scores.precision),
            number(scores.recall),
            number(scores.f1),
            distance(scores.mean_distance_voxels),
        ]);
    }
    let (mean, all) = (&found.macro_average, &found.localisation);
    table.add_row([
        "mean of classes",
        "",
        "",
        "",
        &number(mean.precision),
        &number(mean.recall),
        &number(mean.f1),
        "",
    ]);
    let truth = all.true_positives + all.false_negatives;
    table.add_row([
        "any class".to_owned(),
        truth.to_string(),
        (all.true_positives + all.false_positives).to_string(),
        all.true_positives.to_string(),
        number(all.precision),
        number(all.recall),
        number(all.f1),
        distance(all.mean_distance_voxels),
    ]);
    right_align(&mut table);
    table.to_string()
}

fn voxels(classes: &ClassTable, found: &VoxelReport) -> String {
    let mut table = table(["class", "Dice", "IoU", "precision", "recall"]);
    for row in &found.classes {
        let numbers = [row.dice, row.iou, row.precision, row.recall].map(|value| format!("{value:.3}"));
        table.add_row(std::iter::once(classes.name_of(row.label)).chain(numbers));
    }
    table.add_row([
        "mean of classes",
        &format!("{:.3}", found.mean_dice),
        &format!("{:.3}", found.mean_iou),
    ]);
    right_align(&mut table);
    table.to_string()
}

pub(crate) fn right_align(table: &mut Table) {
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
}

/// The fields of a JSON value as rows: names to the left, values to the right.
pub(crate) fn fields(table: &mut Table, prefix: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(object) => {
            for (name, value) in object {
                let name = name.replace('_', " ");
                fields(
                    table,
                    &if prefix.is_empty() {
                        name
                    } else {
                        format!("{prefix} {name}")
                    },
                    value,
                );
            }
        }
        Value::Array(values) if values.iter().any(is_sentence) => {
            for (index, value) in values.iter().enumerate() {
                let name = if index == 0 { prefix } else { "" };
                table.add_row([name.to_owned(), plain(value)]);
            }
        }
        Value::Array(values) if values.iter().all(|value| !value.is_object()) => {
            if !values.is_empty() {
                let joined: Vec<_> = values.iter().map(plain).collect();
                table.add_row([prefix.to_owned(), joined.join(", ")]);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(table, prefix, value)),
        value => {
            table.add_row([prefix.to_owned(), plain(value)]);
        }
    }
}

/// Whether a value takes a line of its own.
fn is_sentence(value: &Value) -> bool {
    const WORDS: usize = 4;
    value
        .as_str()
        .is_some_and(|text| text.split(' ').count() >= WORDS)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            // Four digits after the point, unless that would leave nothing.
            let number = number.as_f64().unwrap_or_default();
            let text = if number.abs() < 1e-3 {
                format!("{number:.4e}")
            } else {
                format!("{number:.4}")
            };
            if number == 0.0 {
                "0".to_owned()
            } else {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
        }
        other => other.to_string(),
    }
}

pub(crate) fn describe(tomogram: &TrainingTomogram) -> String {
    format!("{} ({} particles)", tomogram.name, tomogram.particles.len())
}
