//! The STAR files of this field: data blocks with loops or single values, as RELION and its neighbours write them.
//!
//! Text in single or double quotes may hold blanks; `#` begins a comment where a word could begin. Multi-line text
//! between semicolons, nested loops and save frames do not occur in them and are errors.

use std::fmt::Write as _;

use super::fields::Input;
use crate::{IoError, Result};

/// A STAR file.
#[derive(Debug, Default)]
pub(super) struct Star<'a> {
    pub(super) blocks: Vec<Block<'a>>,
}

/// A table; a block of single values is one with a single row.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    pub(super) name: &'a str,
    /// Labels without their underscore.
    labels: Vec<&'a str>,
    pub(super) rows: Vec<Row<'a>>,
}

#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) line: usize,
    values: Vec<&'a str>,
}

impl<'a> Star<'a> {
    pub(super) fn parse(input: &Input<'a>) -> Result<Self> {
        let mut star = Self::default();
        let mut is_loop = false;
        for (number, line) in input.text()?.lines().enumerate() {
            let number = number + 1;
            let wrong = |what: &str| IoError::malformed(input.path, format!("line {number}"), what);
            let values = words(line).ok_or_else(|| wrong("a quotation mark that is not closed"))?;
            let Some(&first) = values.first() else { continue };
            if let Some(name) = first.strip_prefix("data_") {
                star.blocks.push(Block {
                    name,
                    ..Block::default()
                });
                is_loop = false;
                continue;
            }
            let Some(block) = star.blocks.last_mut() else {
                return Err(wrong("a STAR file begins with a block, such as `data_particles`"));
            };
            if first == "loop_" {
                is_loop = true;
            } else if let Some(label) = first
                .strip_prefix('_')
                .filter(|_| block.rows.is_empty() || !is_loop)
            {
                block.labels.push(label);
                if !is_loop {
                    let value = *values.get(1).ok_or_else(|| wrong("a label without a value"))?;
                    match block.rows.first_mut() {
                        Some(row) => row.values.push(value),
                        None => block.rows.push(Row {
                            line: number,
                            values: vec![value],
                        }),
                    }
                }
            } else if block.labels.is_empty() {
                return Err(wrong("a line of values before any label (`_rlnCoordinateX #1`)"));
            } else if values.len() != block.labels.len() {
                let what = format!(
                    "{} values, but the table `data_{}` has {} labels. Is the file cut short?",
                    values.len(),
                    block.name,
                    block.labels.len()
                );
                return Err(wrong(&what));
            } else {
                block.rows.push(Row { line: number, values });
            }
        }
        Ok(star)
    }

    /// The first block with that label.
    pub(super) fn with(&self, label: &str) -> Option<&Block<'a>> {
        self.blocks.iter().find(|block| block.column(label).is_some())
    }
}

impl<'a> Block<'a> {
    pub(super) fn column(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|&own| own == label)
    }

    pub(super) fn labels(&self) -> &[&'a str] {
        &self.labels
    }

    pub(super) fn get(&self, row: &Row<'a>, label: &str) -> Option<&'a str> {
        row.values.get(self.column(label)?).copied()
    }
}

/// The words of a line; `None` where a quotation mark stays open.
fn words(line: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => break,
            '"' | '\'' => {
                let inner = &rest[1..];
                // A mark inside a word, as in 5' or O'Neill, closes nothing.
                let closing = inner
                    .match_indices(first)
                    .find(|(at, _)| inner[at + 1..].chars().next().is_none_or(char::is_whitespace));
                let (end, _) = closing?;
                words.push(&inner[..end]);
                rest = inner[end + 1..].trim_start();
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(&rest[..end]);
                rest = rest[end..].trim_start();
            }
        }
    }
    Some(words)
}

/// A loop as text, columns to the right as RELION sets them.
pub(super) fn write_loop(text: &mut String, name: &str, labels: &[String], rows: &[Vec<String>]) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\ndata_{name}\n\nloop_\n");
    for (number, label) in labels.iter().enumerate() {
        let _ = writeln!(text, "_{label} #{}", number + 1);
    }
    for row in rows {
        let row: Vec<String> = row.iter().map(|value| format!("{:>12}", quoted(value))).collect();
        let _ = writeln!(text, "{}", row.join(" "));
    }
    text.push('\n');
}

fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && !value.contains(char::is_whitespace)
        && !value.starts_with(['"', '\'', '#', '_', ';'])
        && !["data_", "loop_"].iter().any(|word| value.starts_with(word));
    if plain {
        value.to_owned()
    } else if value.contains('"') {
        format!("'{}'", value.replace(['\n', '\r'], " "))
    } else {
        format!("\"{}\"", value.replace(['\n', '\r'], " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_into_words() {
        assert_eq!(words("  a\t1.5 # rest").unwrap(), ["a", "1.5"]);
        assert_eq!(words("\"two words\" 'x' 5'").unwrap(), ["two words", "x", "5'"]);
        assert_eq!(words("'it's' b").unwrap(), ["it's", "b"]);
        assert_eq!(words("\"\"").unwrap(), [""]);
        assert_eq!(words("\"open"), None);
        for value in ["", "two words", "_x", "data_", "it's \"x\"", "5'", "plain"] {
            let text = quoted(value);
            assert_eq!(words(&text).unwrap(), [value], "{text}");
        }
    }
}
