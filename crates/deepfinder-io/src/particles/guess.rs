//! Which format a particle list has: by its content, and where that says nothing by its extension.

use super::fields::Input;
use super::format::extension;
use super::{ParticleFormat, av3, bild, csv, dynamo, particle_formats, text, xlsx};
use crate::{IoError, Result};

pub(super) fn guess(input: &Input<'_>) -> Result<ParticleFormat> {
    let bytes = input.bytes;
    if bytes.starts_with(b"IMOD") {
        return Ok(ParticleFormat::Imod);
    }
    if av3::is_list(bytes) {
        return Ok(ParticleFormat::Av3);
    }
    if bytes.starts_with(xlsx::MAGIC) {
        return Ok(ParticleFormat::Xlsx);
    }
    let content = input.text()?;
    let start = content.trim_start();
    if start.starts_with('<') {
        return Ok(guess_xml(content));
    }
    if start.starts_with(['{', '[']) {
        return Ok(guess_json(content));
    }
    if let Some(format) = guess_star(content) {
        return Ok(format);
    }
    if bild::is_picture(content) {
        return Ok(ParticleFormat::Bild);
    }
    let extension = extension(input.path).unwrap_or_default();
    if csv::has_header(content) {
        return Ok(ParticleFormat::Csv);
    }
    if dynamo::is_table(content) {
        return Ok(ParticleFormat::Dynamo);
    }
    let by_text = text::guess(content);
    let by_extension = particle_formats()
        .iter()
        .find(|entry| entry.extensions.contains(&extension.as_str()));
    match (by_extension.map(|entry| entry.format), by_text) {
        // Points without a header, as the portal's `x,y,z`.
        (Some(ParticleFormat::Csv), Some(ParticleFormat::Coords)) => Ok(ParticleFormat::Coords),
        (Some(ParticleFormat::Text) | None, Some(format)) => Ok(format),
        (Some(format), _) if format != ParticleFormat::Text => Ok(format),
        _ => {
            let names: Vec<&str> = particle_formats().iter().map(|entry| entry.name).collect();
            Err(IoError::UnknownFormat {
                path: input.path.to_owned(),
                kind: "particle list",
                hint: format!("its first lines fit none of {}", names.join(", ")),
            })
        }
    }
}

fn guess_xml(content: &str) -> ParticleFormat {
    let elements = content.split('<').filter_map(|part| {
        let name: String = part
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        (!name.is_empty()).then_some(name)
    });
    for name in elements.take(8) {
        match name.as_str() {
            "ParticleList" => return ParticleFormat::PytomXml,
            "marker_set" | "marker_sets" => return ParticleFormat::Cmm,
            "objlist" => break,
            _ => {}
        }
    }
    ParticleFormat::DeepFinderXml
}

fn guess_json(content: &str) -> ParticleFormat {
    let head: String = content.chars().take(4096).collect();
    if content.contains("\"boxes_3d\"") || content.contains("\"apix_unbin\"") {
        ParticleFormat::Eman2
    } else if head.contains("\"pickable_object_name\"") {
        ParticleFormat::Copick
    } else if head.contains("\"location\"") {
        ParticleFormat::Portal
    } else {
        ParticleFormat::Copick
    }
}

fn guess_star(content: &str) -> Option<ParticleFormat> {
    content.lines().find(|line| line.starts_with("data_"))?;
    let has = |label: &str| content.lines().any(|line| line.trim_start().starts_with(label));
    Some(if has("_motl_idx") || has("_orig_x") {
        ParticleFormat::Stopgap
    } else if has("_CoordinateX") {
        ParticleFormat::Cbox
    } else {
        ParticleFormat::Relion5
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ReadOptions;

    #[test]
    fn content_comes_before_extension() {
        let options = ReadOptions::default();
        let check = |name: &str, content: &str, expected| {
            let found = guess(&Input::new(Path::new(name), content.as_bytes(), &options));
            assert_eq!(found.ok(), expected, "{content}");
        };
        check("a.txt", " <objlist/>", Some(ParticleFormat::DeepFinderXml));
        check(
            "a.xml",
            "<!-- PyTom -->\n<ParticleList>",
            Some(ParticleFormat::PytomXml),
        );
        check("a.xml", "<marker_set name=\"a\">", Some(ParticleFormat::Cmm));
        check("a.csv", "1 2 3", Some(ParticleFormat::Coords));
        check("a.csv", "1,2,3\n", Some(ParticleFormat::Coords));
        check("a.csv", "a,b,c\n", Some(ParticleFormat::Csv));
        check("a.txt", "class,x,y,z\n", Some(ParticleFormat::Csv));
        check("a.csv", "IDs,X [A],Y [A],Z [A]\n", Some(ParticleFormat::Csv));
        check(
            "a.txt",
            "# made by hand\n1bxn 1 2 3\n",
            Some(ParticleFormat::ShrecText),
        );
        check("a.coords", "1 2 3 4\n", Some(ParticleFormat::Coords));
        check("a.txt", "1 2 3 4\n", Some(ParticleFormat::Text));
        check(
            "a.txt",
            "data_\nloop_\n_motl_idx\n",
            Some(ParticleFormat::Stopgap),
        );
        check(
            "a.txt",
            "data_\nloop_\n_rlnCoordinateX\n",
            Some(ParticleFormat::Relion5),
        );
        check("a.json", "{\"boxes_3d\": []}", Some(ParticleFormat::Eman2));
        check("a", "{\"pickable_object_name\": 1}", Some(ParticleFormat::Copick));
        check(
            "a",
            "{\"type\": \"point\", \"location\": {}}",
            Some(ParticleFormat::Portal),
        );
        check(
            "a.txt",
            ".comment ours\n.color 1 0 0\n.sphere 1 2 3 4\n",
            Some(ParticleFormat::Bild),
        );
        check("a.box", "1 2 3\n", Some(ParticleFormat::Boxes));
        check("a.dat", "hello\n", None);
    }
}
