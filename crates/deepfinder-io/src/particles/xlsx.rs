//! Spreadsheets of the reference implementation (XLSX, <https://ecma-international.org/publications-and-standards/standards/ecma-376/>):
//! the first sheet holds the columns `Tomo IDX`, `Object ID`, `Class label`, `x`, `y`, `z`, `psi`, `phi`, `theta`,
//! `Cluster size`. What they mean is what the columns of CSV mean. Where there are scores and a voxel size, `Score` and
//! `voxel_size_angstrom` are written behind them.
//!
//! A spreadsheet is XML under ZIP. Cells are read as they stand: numbers, text, shared text; formulas by their last value.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{Cursor, Read, Write as _};

use ::csv::StringRecord;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Parsed;
use super::csv::{read_table, table};
use super::fields::Input;
use super::write::Output;
use crate::{IoError, Result};

/// What a ZIP archive begins with.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// A sheet that unpacks to more is no list.
const MOST_BYTES: u64 = 1 << 28;

/// Columns beyond these are not looked at: a list has ten.
const MOST_COLUMNS: usize = 256;

/// Bytes of text that a cell can hold.
const MOST_TEXT: usize = 32_767;

const SHEET: &str = "xl/worksheets/sheet1.xml";

/// Titles of the columns that are written, and what CSV calls them; numbers of particles have no name there.
const TITLES: [(&str, &str); 12] = [
    ("Tomo IDX", "tomogram"),
    ("Object ID", ""),
    ("Class label", "class_label"),
    ("x", "x"),
    ("y", "y"),
    ("z", "z"),
    ("psi", "psi"),
    ("phi", "phi"),
    ("theta", "the"),
    ("Cluster size", "cluster_size"),
    ("Score", "score"),
    ("voxel_size_angstrom", "voxel_size_angstrom"),
];

/// Columns that the reference always has, known or not.
const ALWAYS: usize = 10;

/// The parts of a spreadsheet beside its sheet, as short as Excel takes them.
const PARTS: [(&str, &str); 4] = [
    (
        "[Content_Types].xml",
        r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
    ),
    (
        "_rels/.rels",
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
    ),
    (
        "xl/workbook.xml",
        r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="objects" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
    ),
    (
        "xl/_rels/workbook.xml.rels",
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
    ),
];

const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;

/// A row of a sheet: its number, and its cells by their column.
type Row<'a> = (u64, Vec<(usize, Cow<'a, str>)>);

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut workbook = Workbook::open(input)?;
    let shared = match workbook.part("xl/sharedStrings.xml")? {
        Some(text) => strings(input, &text)?,
        None => Vec::new(),
    };
    let name = workbook.first_sheet()?;
    let Some(sheet) = workbook.part(&name)? else {
        return Err(damaged(input, format!("its first sheet {name} is missing")));
    };
    let mut rows = rows(input, &sheet, &shared)?.into_iter();
    let Some((_, header)) = rows.next() else {
        return Err(damaged(input, "its first sheet is empty".to_owned()));
    };
    let width = header.iter().map(|(column, _)| column + 1).max().unwrap_or(0);
    // Rows under the table that are empty, or formatted and no more, are none of it.
    let rows = rows.filter(|(_, cells)| cells.iter().any(|(_, text)| !text.trim().is_empty()));
    let rows = rows.map(|(number, cells)| Ok((number, record(&cells, width))));
    read_table(input, "row", &record(&header, width), rows)
}

pub(super) fn write(output: &mut Output<'_>) -> Result<Vec<u8>> {
    // Packed with nothing: what `zip` would need for that makes candle, which has it too, be compiled anew.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let sheet = sheet(output);
    let mut put = |name: &str, text: &str| {
        archive.start_file(name, options)?;
        archive.write_all(DECLARATION.as_bytes())?;
        archive.write_all(text.as_bytes())?;
        Ok::<(), zip::result::ZipError>(())
    };
    let parts = PARTS.into_iter().chain([(SHEET, sheet.as_str())]);
    for (name, text) in parts {
        put(name, text).map_err(IoError::format(output.path, "XLSX"))?;
    }
    let finished = archive.finish().map_err(IoError::format(output.path, "XLSX"))?;
    Ok(finished.into_inner())
}

/// The sheet: a row of titles, and a row a particle.
fn sheet(output: &Output<'_>) -> String {
    const SHEET_XMLNS: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let (header, rows) = table(output.list);
    let place = |column: &str| header.iter().position(|name| *name == column);
    let columns: Vec<(&str, Option<usize>)> = TITLES
        .into_iter()
        .enumerate()
        .map(|(index, (title, column))| (index, title, place(column)))
        .filter(|(index, _, place)| *index < ALWAYS || place.is_some())
        .map(|(_, title, place)| (title, place))
        .collect();
    let mut text = format!(r#"<worksheet xmlns="{SHEET_XMLNS}"><sheetData><row>"#);
    for (title, _) in &columns {
        put_cell(&mut text, title);
    }
    text.push_str("</row>");
    for (index, row) in rows.iter().enumerate() {
        text.push_str("<row>");
        let number = (index + 1).to_string();
        for (title, place) in &columns {
            let cell = match place {
                Some(place) => row[*place].as_str(),
                None if *title == TITLES[1].0 => &number,
                None => "",
            };
            put_cell(&mut text, cell);
        }
        text.push_str("</row>");
    }
    text.push_str("</sheetData></worksheet>");
    text
}

/// A cell: a number where the text is one and comes back as the same text, as `007` does not.
fn put_cell(text: &mut String, cell: &str) {
    let is_number = cell.parse::<f64>().is_ok_and(f64::is_finite);
    let is_kept = cell.parse::<i64>().is_ok_and(|number| number.to_string() == cell);
    // Writing to a string cannot fail.
    let _ = match cell {
        "" => write!(text, "<c/>"),
        _ if is_kept || (is_number && cell.contains('.')) => write!(text, "<c><v>{cell}</v></c>"),
        _ => write!(
            text,
            r#"<c t="inlineStr"><is><t xml:space="preserve">{}</t></is></c>"#,
            escape(cell)
        ),
    };
}

fn record(cells: &[(usize, Cow<'_, str>)], width: usize) -> StringRecord {
    let mut fields = vec![""; width];
    for (column, text) in cells {
        if let Some(field) = fields.get_mut(*column) {
            *field = text;
        }
    }
    StringRecord::from(fields)
}

fn damaged(input: &Input<'_>, what: String) -> IoError {
    IoError::malformed(input.path, "the spreadsheet", what)
}

struct Workbook<'a> {
    input: &'a Input<'a>,
    archive: ZipArchive<Cursor<&'a [u8]>>,
}

impl<'a> Workbook<'a> {
    fn open(input: &'a Input<'a>) -> Result<Self> {
        let archive = ZipArchive::new(Cursor::new(input.bytes));
        let archive = archive.map_err(IoError::format(input.path, "XLSX"))?;
        if archive.index_for_name("xl/workbook.xml").is_none() {
            let what = "this ZIP archive is no spreadsheet (XLSX): unpack it";
            return Err(IoError::unsupported(input.path, what));
        }
        Ok(Self { input, archive })
    }

    /// A file of the archive as text; none where there is no such file.
    fn part(&mut self, name: &str) -> Result<Option<String>> {
        let input = self.input;
        let Some(index) = self.archive.index_for_name(name) else {
            return Ok(None);
        };
        // Unpacked here: what `zip` would need for it brings a dozen crates.
        let packed = self.archive.by_index_raw(index);
        let packed = packed.map_err(IoError::format(input.path, "XLSX"))?;
        let mut bytes = Vec::new();
        let unpacked = match packed.compression() {
            CompressionMethod::Stored => packed.take(MOST_BYTES).read_to_end(&mut bytes),
            CompressionMethod::DEFLATE => flate2::read::DeflateDecoder::new(packed)
                .take(MOST_BYTES)
                .read_to_end(&mut bytes),
            other => {
                return Err(damaged(
                    input,
                    format!("{name} is packed by {other}, which is not read here"),
                ));
            }
        };
        if unpacked.map_err(IoError::format(input.path, "XLSX"))? as u64 == MOST_BYTES {
            return Err(damaged(input, format!("{name} is too large for a list")));
        }
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| damaged(input, format!("{name} is no text in UTF-8")))
    }

    /// The file of the sheet that is shown first.
    fn first_sheet(&mut self) -> Result<String> {
        let input = self.input;
        let workbook = self.part("xl/workbook.xml")?.unwrap_or_default();
        let mut id = None;
        walk(input, &workbook, |event| {
            if let Event::Start(element) | Event::Empty(element) = event
                && element.local_name().as_ref() == "sheet"
                && id.is_none()
            {
                id = attribute(input, element, "id")?;
            }
            Ok(())
        })?;
        let relations = self.part("xl/_rels/workbook.xml.rels")?.unwrap_or_default();
        let mut target = None;
        walk(input, &relations, |event| {
            if let Event::Start(element) | Event::Empty(element) = event
                && element.local_name().as_ref() == "Relationship"
                && id.is_some()
                && attribute(input, element, "Id")? == id
            {
                target = attribute(input, element, "Target")?;
            }
            Ok(())
        })?;
        Ok(match target {
            Some(target) => match target.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None => format!("xl/{target}"),
            },
            None => SHEET.to_owned(),
        })
    }
}

/// The rows of a sheet with their numbers.
fn rows<'a>(input: &Input<'_>, sheet: &str, shared: &'a [String]) -> Result<Vec<Row<'a>>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let (mut column, mut kind, mut is_value, mut text) = (0, String::new(), false, String::new());
    walk(input, sheet, |event| {
        match event {
            Event::Start(element) | Event::Empty(element) => match element.local_name().as_ref() {
                "row" => {
                    let own = attribute(input, element, "r")?.and_then(|number| number.parse().ok());
                    let next = rows.last().map_or(1, |(number, _)| number + 1);
                    rows.push((own.unwrap_or(next), Vec::new()));
                    column = 0;
                }
                "c" => {
                    let place = attribute(input, element, "r")?;
                    column = place.and_then(|place| column_of(&place)).unwrap_or(column);
                    kind = attribute(input, element, "t")?.unwrap_or_default();
                    text.clear();
                    if matches!(event, Event::Empty(_)) {
                        column += 1;
                    }
                }
                "v" | "t" => is_value = matches!(event, Event::Start(_)),
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                "v" | "t" => is_value = false,
                "c" => {
                    let value = if kind == "s" {
                        let index: Option<usize> = text.trim().parse().ok();
                        let found = index.and_then(|index| shared.get(index));
                        let missing = || {
                            damaged(
                                input,
                                format!("a cell refers to the text {text}, which is not there"),
                            )
                        };
                        Cow::Borrowed(found.ok_or_else(missing)?.as_str())
                    } else {
                        Cow::Owned(std::mem::take(&mut text))
                    };
                    if let Some((_, cells)) = rows.last_mut().filter(|_| column < MOST_COLUMNS) {
                        cells.push((column, value));
                    }
                    column += 1;
                }
                _ => {}
            },
            other if is_value => put_text(other, &mut text),
            _ => {}
        }
        Ok(())
    })?;
    Ok(rows)
}

/// The shared text: an `<si>` each, whose `<t>` belong together but for those that say how it is read aloud.
fn strings(input: &Input<'_>, text: &str) -> Result<Vec<String>> {
    let mut strings: Vec<String> = Vec::new();
    let (mut is_text, mut is_phonetic) = (false, false);
    walk(input, text, |event| {
        match event {
            Event::Start(element) => match element.local_name().as_ref() {
                "si" => strings.push(String::new()),
                "rPh" => is_phonetic = true,
                "t" => is_text = !is_phonetic,
                _ => {}
            },
            Event::Empty(element) if element.local_name().as_ref() == "si" => strings.push(String::new()),
            Event::End(element) => match element.local_name().as_ref() {
                "rPh" => is_phonetic = false,
                "t" => is_text = false,
                _ => {}
            },
            other if is_text => {
                if let Some(last) = strings.last_mut() {
                    put_text(other, last);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(strings)
}

/// Adds what stands between tags.
fn put_text(event: &Event<'_>, text: &mut String) {
    match event {
        _ if text.len() > MOST_TEXT => {}
        Event::Text(part) => text.push_str(&part.xml10_content()),
        Event::CData(part) => text.push_str(&part.xml10_content()),
        Event::GeneralRef(name) => match name.resolve_char_ref() {
            Ok(Some(c)) => text.push(c),
            _ => text.push_str(resolve_predefined_entity(&name.xml10_content()).unwrap_or_default()),
        },
        _ => {}
    }
}

fn walk(input: &Input<'_>, text: &str, mut visit: impl FnMut(&Event<'_>) -> Result<()>) -> Result<()> {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return Ok(()),
            Ok(event) => visit(&event)?,
            Err(error) => return Err(damaged(input, format!("its XML is not well-formed: {error}"))),
        }
    }
}

/// An attribute, whatever its namespace is called.
fn attribute(input: &Input<'_>, element: &BytesStart<'_>, name: &str) -> Result<Option<String>> {
    for attribute in element.attributes() {
        let attribute =
            attribute.map_err(|error| damaged(input, format!("its attributes are not XML: {error}")))?;
        if attribute.key.local_name().as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value =
                value.map_err(|error| damaged(input, format!("the value of {name} is not XML: {error}")))?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

/// The column of a cell such as `AB12`, counted from 0.
fn column_of(place: &str) -> Option<usize> {
    let letters = place.bytes().take_while(u8::is_ascii_uppercase);
    let number = letters
        .take(4)
        .fold(0, |number, letter| 26 * number + usize::from(letter - b'A') + 1);
    number.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_letters() {
        for (place, column) in [("A1", 0), ("Z9", 25), ("AA10", 26), ("AB3", 27), ("XFD1", 16_383)] {
            assert_eq!(column_of(place), Some(column));
        }
        assert_eq!(column_of("12"), None);
    }
}
