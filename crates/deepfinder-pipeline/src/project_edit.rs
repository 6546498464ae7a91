use std::path::{Path, PathBuf};

use deepfinder_core::Label;
use deepfinder_io::write_file_atomically;
use serde::Deserialize;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::project::PROJECT_FILE;
use crate::{Length, PickSettings, PipelineError, Project, Result, Split, TargetSettings, TrainSettings};

/// What to change in a project file; what is not given stays, comments too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectEdit {
    /// All classes: those that are not named go.
    pub classes: Option<Vec<ClassEdit>>,
    /// Tomograms to change.
    pub tomograms: Vec<TomogramEdit>,
    /// How targets shall be drawn.
    pub target: Option<TargetSettings>,
    /// How training shall go.
    pub train: Option<TrainSettings>,
    /// How picking shall go.
    pub pick: Option<PickSettings>,
}

/// A class as it shall be; its mask stays.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassEdit {
    /// Label, from 1.
    pub label: Label,
    /// Name.
    pub name: String,
    /// Radius of a particle.
    pub radius: Length,
}

/// What to change of a tomogram.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TomogramEdit {
    /// Which.
    pub name: String,
    /// What it shall be for.
    #[serde(default)]
    pub split: Option<Split>,
    /// Its annotations, in our own convention of axes.
    #[serde(default)]
    pub picks: Option<PathBuf>,
}

/// Changes a project file and gives the project as it is then. Nothing is written where the result would be none.
///
/// # Errors
/// Where the file cannot be read or written, or the change makes no sense.
pub fn edit_project(path: &Path, edit: &ProjectEdit) -> Result<Project> {
    let fail = |what: String| PipelineError::Project {
        path: path.to_owned(),
        what,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|source| PipelineError::file(path, "the project file cannot be read", source))?;
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| fail(error.to_string()))?;
    if let Some(classes) = &edit.classes {
        set_classes(&mut document, classes).map_err(fail)?;
    }
    for tomogram in &edit.tomograms {
        set_tomogram(&mut document, tomogram).map_err(fail)?;
    }
    let sections = [
        ("target", edit.target.as_ref().map(toml::Table::try_from)),
        ("train", edit.train.as_ref().map(toml::Table::try_from)),
        ("pick", edit.pick.as_ref().map(toml::Table::try_from)),
    ];
    for (name, settings) in sections {
        let Some(settings) = settings else { continue };
        let settings = settings.map_err(|error| fail(error.to_string()))?;
        set_section(&mut document, name, &settings).map_err(fail)?;
    }
    let text = document.to_string();
    let edited = Project::parse(&text, path)?;
    write_file_atomically(path, text.as_bytes())?;
    Ok(edited)
}

/// Writes the file of a project that has none yet.
///
/// # Errors
/// Where there is one already, or it cannot be written.
pub fn write_new_project(project: &Project) -> Result<Project> {
    let path = project.folder.join(PROJECT_FILE);
    if path.exists() {
        return Err(PipelineError::input(format!(
            "{}: there is a project already; open that",
            path.display()
        )));
    }
    crate::init::write_project(&path, project)?;
    Project::read(&path)
}

fn set_classes(document: &mut DocumentMut, classes: &[ClassEdit]) -> Result<(), String> {
    let tables = tables(document, "class")?;
    let mut kept = ArrayOfTables::new();
    for class in classes {
        let of_label =
            |table: &&Table| table.get("label").and_then(Item::as_integer) == Some(i64::from(class.label));
        let mut table = tables.iter().find(of_label).cloned().unwrap_or_default();
        set(&mut table, "label", i64::from(class.label));
        set(&mut table, "name", class.name.as_str());
        match class.radius {
            Length::Voxels(voxels) => set(&mut table, "radius", voxels),
            Length::Angstrom(_) => set(&mut table, "radius", class.radius.to_string()),
        }
        kept.push(table);
    }
    *tables = kept;
    Ok(())
}

fn set_tomogram(document: &mut DocumentMut, edit: &TomogramEdit) -> Result<(), String> {
    let mut tables = tables(document, "tomogram")?.iter_mut();
    let of_name = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(&edit.name);
    let table = tables
        .find(of_name)
        .ok_or_else(|| format!("there is no tomogram called `{}`", edit.name))?;
    if let Some(split) = edit.split {
        let name = match split {
            Split::Train => "train",
            Split::Validate => "validate",
            Split::Test => "test",
        };
        set(table, "split", name);
    }
    if let Some(picks) = &edit.picks {
        let picks = portable(picks).ok_or("the list's path is no text")?;
        set(table, "picks", picks);
        table.remove("swap_xz");
    }
    Ok(())
}

/// A path as project files have it on every system.
fn portable(path: &Path) -> Option<String> {
    path.to_str().map(|text| text.replace('\\', "/"))
}

fn set_section(document: &mut DocumentMut, name: &str, settings: &toml::Table) -> Result<(), String> {
    let section = document.entry(name).or_insert_with(toml_edit::table);
    let table = section
        .as_table_mut()
        .ok_or_else(|| format!("`{name}` is no table"))?;
    let no_setting = |key: &str| format!("`{key}` of [{name}] cannot be set from here");
    let gone: Vec<String> = table
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| !settings.contains_key(key))
        .collect();
    for key in gone {
        table.remove(&key);
    }
    for (key, setting) in settings {
        match setting {
            toml::Value::Boolean(given) => set(table, key, *given),
            toml::Value::Integer(given) => set(table, key, *given),
            toml::Value::Float(given) => set(table, key, shortest(*given)),
            toml::Value::String(given) => set(table, key, given.as_str()),
            toml::Value::Array(given) => {
                let texts = given.iter().map(toml::Value::as_str);
                let texts: Option<toml_edit::Array> = texts.collect();
                set(table, key, texts.ok_or_else(|| no_setting(key))?);
            }
            _ => return Err(no_setting(key)),
        }
    }
    Ok(())
}

/// A number that came from an f32 as one writes it: 0.3, not 0.30000001192092896.
fn shortest(number: f64) -> f64 {
    let single = number as f32;
    let written = single.to_string().parse().ok();
    written.filter(|_| f64::from(single) == number).unwrap_or(number)
}

/// Sets a value where it is another; a comment behind it stays.
fn set(table: &mut Table, key: &str, new: impl Into<toml_edit::Value>) {
    let mut new = new.into();
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, value(new));
}

fn tables<'a>(document: &'a mut DocumentMut, name: &str) -> Result<&'a mut ArrayOfTables, String> {
    let item = document
        .entry(name)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut()
        .ok_or_else(|| format!("`{name}` is no [[{name}]]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Mine.
version = 1

[[class]]
label = 1 # the first
name = \"ribosome\"
radius = \"120 A\"
mask = \"r.mrc\"

[[class]]
label = 2
name = \"gone\"
radius = 3

[[tomogram]]
name = \"a\"
file = \"a.mrc\"
split = \"test\" # for now
swap_xz = true

[train]
epochs = 9
";

    #[test]
    fn an_edit_changes_what_it_names_and_keeps_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROJECT_FILE);
        std::fs::write(&path, TEXT).unwrap();
        let edit: ProjectEdit = serde_json::from_value(serde_json::json!({
            "classes": [{"label": 1, "name": "ribosome", "radius": "110 A"}, {"label": 3, "name": "new", "radius": 4.5}],
            "tomograms": [{"name": "a", "split": "train", "picks": "annotations/a.xml"}],
            "target": {"order": ["ribosome"], "points": true},
            "train": {"seed": 7},
            "pick": {"method": "components", "min_size": 12},
        }))
        .unwrap();
        let edited = edit_project(&path, &edit).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# Mine.") && text.contains("label = 1 # the first"),
            "{text}"
        );
        assert!(
            text.contains("split = \"train\" # for now") && text.contains("mask = \"r.mrc\""),
            "{text}"
        );
        assert_eq!(edited.classes.len(), 2);
        assert_eq!(
            (edited.classes[0].radius, edited.classes[1].label),
            (Length::Angstrom(110.0), 3)
        );
        let tomogram = &edited.tomograms[0];
        assert!(tomogram.split == Split::Train && !tomogram.swap_xz && tomogram.picks.is_some());
        assert_eq!(
            (edited.train.epochs, edited.train.seed, edited.pick.min_size),
            (None, Some(7), Some(12))
        );
        assert_eq!(
            (edited.target.order.as_slice(), edited.target.points),
            (["ribosome".to_owned()].as_slice(), true)
        );
        assert!(write_new_project(&edited).is_err(), "there is one");
    }

    #[test]
    fn an_edit_that_makes_no_sense_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROJECT_FILE);
        std::fs::write(&path, TEXT).unwrap();
        for edit in [
            serde_json::json!({"classes": []}),
            serde_json::json!({"classes": [{"label": 0, "name": "x", "radius": 1}]}),
            serde_json::json!({"tomograms": [{"name": "b", "split": "train"}]}),
        ] {
            let edit: ProjectEdit = serde_json::from_value(edit).unwrap();
            assert!(edit_project(&path, &edit).is_err(), "{edit:?}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), TEXT);
    }
}
