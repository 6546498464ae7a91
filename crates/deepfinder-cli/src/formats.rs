//! The tables of formats: for a terminal, as Markdown, as JSON.

use comfy_table::{Table, presets::NOTHING};
use deepfinder_pipeline::{FormatEntry, VolumeFormatEntry, particle_formats, volume_formats};
use serde_json::{Value, json};

/// What is read and written, cell by cell; code stands between backquotes.
pub(crate) struct FormatTables {
    lists: Vec<[String; 6]>,
    volumes: Vec<[String; 4]>,
}

impl FormatTables {
    pub(crate) fn new() -> Self {
        Self {
            lists: particle_formats().iter().map(list_format).collect(),
            volumes: volume_formats().iter().map(volume_format).collect(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"particle_lists": self.lists, "volumes": self.volumes})
    }

    pub(crate) fn markdown(&self) -> String {
        format!(
            "# Formats\n\nWhat `deepfinder formats --markdown` prints: the table that the program itself goes by.\n\n## Volumes\n\n{}\n## Particle lists\n\n{}\n{LEGEND}",
            markdown_table(VOLUME_COLUMNS, &self.volumes),
            markdown_table(LIST_COLUMNS, &self.lists)
        )
    }

    pub(crate) fn text(&self) -> String {
        let volumes = plain_table(VOLUME_COLUMNS, &self.volumes);
        let lists = plain_table(LIST_COLUMNS, &self.lists);
        format!("{volumes}\n\n{lists}\n\n{}", LEGEND.replace('`', ""))
    }
}

fn plain_table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| cell.replace('`', "")));
    }
    table
}

const LIST_COLUMNS: [&str; 6] = [
    "list",
    "--from, --to",
    "endings",
    "r/w",
    "positions",
    "angles; what it holds",
];
const VOLUME_COLUMNS: [&str; 4] = ["volume", "endings", "r/w", "read by"];

const LEGEND: &str = "\
Particle lists are told by their content, then by their ending; where several formats have an ending, the first is what is \
written under it. Positions become voxels of the tomogram, `(x, y, z)`, the first voxel's centre at 0; orientations become \
the matrix from particle to tomogram. Held beside positions: c class, r rotation, s score, n number of voxels, t tomogram, \
v voxel size; what a format has no place for is named when it is written.
";

fn list_format(entry: &FormatEntry) -> [String; 6] {
    let holds = entry.holds;
    let letters = [
        (holds.class, 'c'),
        (holds.rotation, 'r'),
        (holds.score, 's'),
        (holds.size, 'n'),
        (holds.tomogram, 't'),
        (holds.voxel_size, 'v'),
    ];
    let letters: String = letters
        .iter()
        .filter(|(is_held, _)| *is_held)
        .map(|(_, letter)| *letter)
        .collect();
    [
        entry.name.to_owned(),
        format!("`{}`", entry.id),
        endings(entry.extensions),
        read_write(entry.is_read(), entry.is_written()),
        entry.positions.to_owned(),
        format!("{}; {letters}", entry.angles),
    ]
}

fn volume_format(entry: &VolumeFormatEntry) -> [String; 4] {
    let by = if entry.is_windowed {
        "windows"
    } else {
        "the whole file"
    };
    [
        entry.name.to_owned(),
        endings(entry.extensions),
        read_write(true, entry.is_written),
        by.to_owned(),
    ]
}

fn endings(extensions: &[&str]) -> String {
    let endings: Vec<String> = extensions.iter().map(|ending| format!("`.{ending}`")).collect();
    endings.join(" ")
}

fn read_write(is_read: bool, is_written: bool) -> String {
    let read = if is_read { "r" } else { "-" };
    let written = if is_written { "w" } else { "-" };
    format!("{read}{written}")
}

fn markdown_table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rule = format!("|{}\n", "---|".repeat(N));
    let line = |cells: String| format!("| {cells} |\n");
    let rows: Vec<String> = rows.iter().map(|row| line(row.join(" | "))).collect();
    format!("{}{rule}{}", line(header.join(" | ")), rows.concat())
}
