use std::path::Path;

use deepfinder_core::ParticleList;

use super::{Input, Parsed, ReadOptions, csv, deepfinder_xml, text};
use crate::{IoError, Result, write_file_atomically};

/// A format of particle lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParticleFormat {
    /// `<objlist>` with an `<object class_label x y z …/>` a particle.
    DeepFinderXml,
    /// A table with a header line, its fields separated by commas, semicolons or tabs.
    Csv,
    /// Lines `pdb x y z [phi psi theta]`.
    ShrecText,
    /// Lines `pdb z y x [phi theta psi]`, as SHREC'19 gave out its ground truth.
    ShrecTextZyx,
    /// Lines `label z y x [size]`.
    Text,
}

/// What there is to know about a format; a new one is a module and a line of [`FORMATS`].
struct Entry {
    format: ParticleFormat,
    name: &'static str,
    /// Extensions it is told by where the content says nothing, and written under.
    extensions: &'static [&'static str],
    read: fn(&Input<'_>) -> Parsed,
    /// The list in this format; the extension chooses among its variants.
    write: Option<fn(&ParticleList, &str) -> String>,
}

const FORMATS: [Entry; 5] = [
    Entry {
        format: ParticleFormat::DeepFinderXml,
        name: "DeepFinder XML",
        extensions: &["xml"],
        read: deepfinder_xml::read,
        write: Some(|list, _| deepfinder_xml::write(list)),
    },
    Entry {
        format: ParticleFormat::Csv,
        name: "CSV",
        extensions: &["csv", "tsv"],
        read: csv::read,
        write: Some(csv::write),
    },
    Entry {
        format: ParticleFormat::ShrecText,
        name: "SHREC text",
        extensions: &[],
        read: |input| text::read_shrec(input, text::ShrecColumns::Xyz),
        write: None,
    },
    Entry {
        format: ParticleFormat::ShrecTextZyx,
        name: "SHREC text, z first",
        extensions: &[],
        read: |input| text::read_shrec(input, text::ShrecColumns::Zyx),
        write: None,
    },
    Entry {
        format: ParticleFormat::Text,
        name: "text `label z y x`",
        extensions: &[],
        read: text::read_labels,
        write: None,
    },
];

/// Reads a particle list: positions in voxels, voxel 0's centre at 0.0.
///
/// # Errors
/// [`IoError`] with the line where the list is wrong: a coordinate that is no finite number, class 0 or above 255,
/// a class name that the options do not know, an unfinished XML document.
pub fn read_particles(path: &Path, options: &ReadOptions) -> Result<ParticleList> {
    let bytes = std::fs::read(path).map_err(IoError::file("read", path))?;
    if bytes.is_empty() {
        let what = "the file is empty. Was the program that made it stopped? Make it again";
        return Err(IoError::malformed(path, "line 1", what));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let what = "this is no text in UTF-8, so no particle list that is read here. Is it a volume, or was it saved in another encoding?";
        IoError::malformed(path, format!("byte {}", error.valid_up_to()), what)
    })?;
    let format = match options.format {
        Some(format) => format,
        None => guess(path, text)?,
    };
    let input = Input {
        path,
        text,
        classes: &options.classes,
    };
    let mut list = (table_entry(format).read)(&input)?;
    if options.swap_xz {
        list.swap_x_and_z();
    }
    Ok(list)
}

/// Writes a particle list in the format of the path's extension: `.xml` (DeepFinder), `.csv` or `.tsv`.
///
/// Everything a [`deepfinder_core::Particle`] holds is kept: positions and scores to the last digit, orientations
/// as ZXZ angles to a millionth of a degree.
///
/// # Errors
/// [`IoError`] where the extension is no format that is written, or where writing fails; an existing file is then
/// as it was.
pub fn write_particles(path: &Path, particles: &ParticleList) -> Result<()> {
    let extension = extension(path).unwrap_or_default();
    let format = FORMATS
        .iter()
        .find(|format| format.extensions.contains(&extension.as_str()));
    let Some(write) = format.and_then(|format| format.write) else {
        let what = "particle lists are written as .xml, .csv or .tsv: give the file one of these extensions";
        return Err(IoError::Unwritable {
            path: path.to_owned(),
            what: what.to_owned(),
        });
    };
    write_file_atomically(path, write(particles, &extension).as_bytes())
}

impl std::fmt::Display for ParticleFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(table_entry(*self).name)
    }
}

fn table_entry(format: ParticleFormat) -> &'static Entry {
    let found = FORMATS.iter().find(|entry| entry.format == format);
    found.unwrap_or(&FORMATS[0])
}

fn guess(path: &Path, content: &str) -> Result<ParticleFormat> {
    if content.trim_start().starts_with('<') {
        return Ok(ParticleFormat::DeepFinderXml);
    }
    let extension = extension(path).unwrap_or_default();
    if let Some(format) = FORMATS
        .iter()
        .find(|format| format.extensions.contains(&extension.as_str()))
    {
        return Ok(format.format);
    }
    if csv::has_header(content) {
        return Ok(ParticleFormat::Csv);
    }
    text::guess(content).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        IoError::UnknownFormat {
            path: path.to_owned(),
            kind: "particle list",
            hint: format!("its first lines fit none of {}", names.join(", ")),
        }
    })
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_format() {
        for entry in &FORMATS {
            assert_eq!(table_entry(entry.format).name, entry.name);
        }
    }

    #[test]
    fn content_comes_before_extension() {
        let check = |name: &str, content: &str, expected| {
            assert_eq!(guess(Path::new(name), content).ok(), expected, "{content}");
        };
        check("a.txt", " <objlist/>", Some(ParticleFormat::DeepFinderXml));
        check("a.csv", "1 2 3", Some(ParticleFormat::Csv));
        check("a.txt", "class,x,y,z\n", Some(ParticleFormat::Csv));
        check(
            "a.txt",
            "# made by hand\n1bxn 1 2 3\n",
            Some(ParticleFormat::ShrecText),
        );
        check("a.coords", "1 2 3 4\n", Some(ParticleFormat::Text));
        check("a.txt", "hello\n", None);
    }
}
