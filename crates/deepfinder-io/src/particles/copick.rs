//! copick: picks (`<user>_<session>_<object>.json`), and the projects they lie in (<https://copick.github.io/copick/>).
//!
//! A point's `location` is in Å, voxel 0's centre at 0. `transformation_` is a 4 × 4 matrix whose upper left part maps
//! the particle to the tomogram, and whose last column is a further shift in Å (added); files whose shift repeats the
//! location are known, and there it is left out. A file holds one object (class) of one run (tomogram).
//!
//! A project is a JSON file that names objects and two roots, of which the overlay is the writable one. Under a root:
//! `ExperimentRuns/<run>/VoxelSpacing<10.000>/<kind>.zarr`, `…/Picks/<user>_<session>_<object>.json` and
//! `…/Segmentations/<10.000>_<user>_<session>_<name>[-multilabel].zarr`. Names have no blanks or `<>:"/\|?*`, and but for
//! those of runs no `_`.

use std::fs;
use std::path::{Path, PathBuf};

use deepfinder_core::{Class, ClassTable, Label, Particle, ParticleList, VoxelSize};
use serde_json::{Value, json};

use super::fields::Input;
use super::json::{location, number, parse, rotation};
use super::list::Draft;
use super::write::{Output, encode_particles};
use super::{Parsed, ParticleFormat, ReadOptions, WriteOptions, read_particle_file};
use crate::{IoError, Result, write_file_atomically};

const OBJECT: &str = "pickable_object_name";
const USER: &str = "deepfinder";
const SESSION: &str = "1";
const RUNS: &str = "ExperimentRuns";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let picks = parse(input)?;
    let place = || "the picks' head".to_owned();
    let fields = input.fields(&place);
    if picks.get("pickable_objects").is_some() {
        let what = "this is the configuration of a copick project, not a list: make a project of it with `deepfinder init --copick`";
        return Err(IoError::unsupported(input.path, what));
    }
    let Some(points) = picks.get("points") else {
        return Err(fields.wrong("no `points`: this is no file of copick picks"));
    };
    let text = |name: &str| picks.get(name).and_then(Value::as_str);
    if text("unit").is_some_and(|unit| unit != "angstrom") {
        return Err(fields.wrong(format!("the unit is {}, and copick's is angstrom", picks["unit"])));
    }
    let mut draft = Draft::default();
    let spacing = picks.get("voxel_spacing").filter(|value| !value.is_null());
    let spacing = spacing
        .map(|value| {
            VoxelSize::new(number(&fields, Some(value), "voxel_spacing")? as f32).map_err(IoError::from)
        })
        .transpose()?;
    let size = input.voxels_of_angstrom(spacing, &mut draft)?;
    let edge = f64::from(size.angstrom());
    let label = match text(OBJECT) {
        Some(name) => fields.named_class(name, &mut draft)?,
        None => fields.foreign_class(None)?,
    };
    let run = text("run_name").map(std::sync::Arc::<str>::from);
    let mut repeated = 0;
    for (index, point) in points.as_array().into_iter().flatten().enumerate() {
        let place = || format!("point {}", index + 1);
        let fields = input.fields(&place);
        let place = location(&fields, point.get("location"))?;
        let mut particle = Particle::new(place, label);
        if let Some(matrix) = point.get("transformation_").filter(|matrix| !matrix.is_null()) {
            particle.rotation = Some(rotation(&fields, matrix, "transformation_")?);
            let mut shift = [0.0; 3];
            for (axis, value) in shift.iter_mut().enumerate() {
                let entry = matrix.get(axis).and_then(|row| row.get(3));
                *value = number(&fields, entry, "the shift in transformation_")?;
            }
            let is_repeated =
                shift != [0.0; 3] && (0..3).all(|axis| (shift[axis] - place[axis]).abs() < 1e-3);
            if is_repeated {
                repeated += 1;
            } else {
                particle.position = std::array::from_fn(|axis| place[axis] + shift[axis]);
            }
        }
        particle.position = particle.position.map(|value| value / edge);
        particle.score = point
            .get("score")
            .and_then(Value::as_f64)
            .map(|score| score as f32);
        particle.tomogram.clone_from(&run);
        draft.list.particles.push(particle);
    }
    draft.list.voxel_size = Some(size);
    draft.note(format!("positions in Å were divided by the voxel size of {size}"));
    if repeated > 0 {
        draft.note(format!(
            "the matrices of {repeated} points repeat their location as shift: taken for the location, not added to it"
        ));
    }
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> Result<String> {
    let labels = output.list.count_by_label();
    let Some(size) = output.list.voxel_size else {
        return Err(
            output.cannot("copick counts in Å, and the voxel size is not known: give it (--voxel-size)")
        );
    };
    let label = match labels.keys().copied().collect::<Vec<_>>().as_slice() {
        [] => 1,
        [label] => *label,
        several => {
            let what = format!(
                "copick keeps a file for each object, and the list has {} classes: name a copick project's configuration as output, or write one class at a time (--only-class)",
                several.len()
            );
            return Err(output.cannot(what));
        }
    };
    let mut runs: Vec<&str> = output
        .list
        .iter()
        .filter_map(|particle| particle.tomogram.as_deref())
        .collect();
    runs.sort_unstable();
    runs.dedup();
    if runs.len() > 1 {
        let what = format!(
            "copick keeps a file for each run, and the list has {} tomograms: choose one (--tomogram)",
            runs.len()
        );
        return Err(output.cannot(what));
    }
    let run = runs.first().map(|run| (*run).to_owned());
    let object = plain(&output.class_name(label));
    let stem = output
        .path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let (user, session) = match stem.split('_').collect::<Vec<_>>().as_slice() {
        [user, session, _] => ((*user).to_owned(), (*session).to_owned()),
        _ => (USER.to_owned(), SESSION.to_owned()),
    };
    let points: Vec<Value> = output.list.iter().map(|particle| point(particle, size)).collect();
    let picks = json!({
        OBJECT: object, "user_id": user, "session_id": session, "run_name": run,
        "voxel_spacing": f64::from(size.angstrom()), "unit": "angstrom", "points": points,
    });
    Ok(format!("{picks:#}\n"))
}

fn point(particle: &Particle, size: VoxelSize) -> Value {
    let edge = f64::from(size.angstrom());
    let [x, y, z] = particle.position.map(|value| value * edge);
    let rows = particle
        .rotation
        .unwrap_or(deepfinder_core::Rotation::IDENTITY)
        .matrix();
    let mut matrix: Vec<[f64; 4]> = rows.iter().map(|&[a, b, c]| [a, b, c, 0.0]).collect();
    matrix.push([0.0, 0.0, 0.0, 1.0]);
    json!({
        "location": {"x": x, "y": y, "z": z}, "transformation_": matrix, "instance_id": 0,
        "score": particle.score.unwrap_or(1.0),
    })
}

/// The name of a user, session or object as copick allows it: file names are taken apart at `_`.
fn plain(name: &str) -> String {
    run_name(name).replace('_', "-")
}

/// The name of a run as copick allows it.
fn run_name(name: &str) -> String {
    let forbidden = |c: char| c.is_whitespace() || "<>:\"/\\|?*".contains(c);
    name.replace(forbidden, "-")
}

/// A copick project on this machine.
#[derive(Debug, Clone)]
pub struct CopickProject {
    /// Its configuration.
    pub path: PathBuf,
    /// What is picked.
    pub objects: Vec<CopickObject>,
    /// Runs, by name.
    pub runs: Vec<CopickRun>,
    /// Where picks and segmentations are written.
    overlay: PathBuf,
}

/// A kind of object that is picked in a project.
#[derive(Debug, Clone, PartialEq)]
pub struct CopickObject {
    /// Name.
    pub name: String,
    /// Label in segmentations.
    pub label: Option<Label>,
    /// Whether it is a particle, and no membrane or other region.
    pub is_particle: bool,
    /// Radius of a particle in Å.
    pub radius_angstrom: Option<f64>,
}

/// A run of a project: a tilt series and what was made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CopickRun {
    /// Name.
    pub name: String,
    /// Tomograms with their voxel spacing, the coarsest first.
    pub tomograms: Vec<(VoxelSize, PathBuf)>,
    /// Files of picks.
    pub picks: Vec<PathBuf>,
}

impl CopickProject {
    /// Reads a configuration and looks through its folders.
    ///
    /// # Errors
    /// [`IoError`] where it is no configuration of a project on this machine's disks.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(IoError::file("read", path))?;
        let options = ReadOptions::default();
        let input = Input::new(path, &bytes, &options);
        let config = parse(&input)?;
        let wrong = |what: String| IoError::malformed(path, "the configuration", what);
        let objects = config.get("pickable_objects").and_then(Value::as_array);
        let objects =
            objects.ok_or_else(|| wrong("no `pickable_objects`: this is no copick project".to_owned()))?;
        let objects = objects.iter().map(|object| {
            let name = object.get("name").and_then(Value::as_str);
            Ok(CopickObject {
                name: name
                    .ok_or_else(|| wrong("an object without a name".to_owned()))?
                    .to_owned(),
                label: object
                    .get("label")
                    .and_then(Value::as_u64)
                    .and_then(|label| Label::try_from(label).ok()),
                is_particle: object.get("is_particle").and_then(Value::as_bool).unwrap_or(true),
                radius_angstrom: object.get("radius").and_then(Value::as_f64),
            })
        });
        let objects = objects.collect::<Result<Vec<_>>>()?;
        let root = |name: &str| {
            config
                .get(name)
                .and_then(Value::as_str)
                .map(|root| local(path, root))
                .transpose()
        };
        let overlay = root("overlay_root")?;
        let overlay = overlay.ok_or_else(|| {
            wrong("no `overlay_root`: projects of other kinds than `filesystem` are not read".to_owned())
        })?;
        let roots: Vec<PathBuf> = root("static_root")?
            .into_iter()
            .chain([overlay.clone()])
            .collect();
        Ok(Self {
            path: path.to_owned(),
            objects,
            runs: runs(&roots)?,
            overlay,
        })
    }

    /// The objects as classes: with their labels, or numbered where they have none.
    pub fn classes(&self) -> ClassTable {
        let mut classes: Vec<Class> = Vec::new();
        for object in self.objects.iter().filter(|object| object.is_particle) {
            let taken = |label: Label| classes.iter().any(|class| class.label == label);
            let own = object.label.filter(|&label| label > 0 && !taken(label));
            let Some(label) = own.or_else(|| (1..=Label::MAX).find(|&label| !taken(label))) else {
                break;
            };
            classes.push(Class {
                label,
                name: object.name.clone(),
                radius_voxels: None,
            });
        }
        ClassTable::new(classes).unwrap_or_default()
    }

    /// All picks of a run, in voxels of that size; `author` takes those of one `user` or `user_session` alone.
    ///
    /// # Errors
    /// [`IoError`] where a file of picks is damaged.
    pub fn read_picks(
        &self,
        run: &CopickRun,
        voxel_size: VoxelSize,
        author: Option<&str>,
    ) -> Result<ParticleList> {
        let options = ReadOptions {
            format: Some(ParticleFormat::Copick),
            classes: self.classes(),
            voxel_size: Some(voxel_size),
            ..ReadOptions::default()
        };
        let mut list = ParticleList {
            particles: Vec::new(),
            voxel_size: Some(voxel_size),
        };
        for path in &run.picks {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            let by_author = author.is_none_or(|author| stem.starts_with(&format!("{author}_")));
            let object = stem.splitn(3, '_').nth(2).unwrap_or_default();
            if !by_author || options.classes.by_name(object).is_none() {
                continue;
            }
            let mut picks = read_particle_file(path, &options)?.particles.particles;
            for particle in &mut picks {
                particle.tomogram = Some(run.name.as_str().into());
            }
            list.particles.append(&mut picks);
        }
        Ok(list)
    }

    /// Writes a run's particles into the overlay: a file for each class. Gives the files.
    ///
    /// # Errors
    /// [`IoError`] where the list has no voxel size, or writing fails.
    pub fn write_picks(
        &self,
        run: &str,
        list: &ParticleList,
        classes: &ClassTable,
        user: &str,
        session: &str,
    ) -> Result<Vec<PathBuf>> {
        let folder = self.overlay.join(RUNS).join(run_name(run)).join("Picks");
        fs::create_dir_all(&folder).map_err(IoError::file("make the folder", &folder))?;
        let mut written = Vec::new();
        for &label in list.count_by_label().keys() {
            let mut of_class = list.clone();
            of_class.particles.retain(|particle| particle.label == label);
            for particle in &mut of_class.particles {
                particle.tomogram = Some(run.into());
            }
            let name = classes
                .by_label(label)
                .map_or_else(|| format!("class{label}"), |class| class.name.clone());
            let path = folder.join(format!(
                "{}_{}_{}.json",
                plain(user),
                plain(session),
                plain(&name)
            ));
            let options = WriteOptions {
                format: Some(ParticleFormat::Copick),
                classes: classes.clone(),
                ..WriteOptions::default()
            };
            let (bytes, _) = encode_particles(&path, &of_class, &options)?;
            write_file_atomically(&path, &bytes)?;
            written.push(path);
        }
        Ok(written)
    }

    /// Where a run's segmentation of all classes belongs in the overlay.
    ///
    /// # Errors
    /// [`IoError`] where its folder cannot be made.
    pub fn segmentation_path(
        &self,
        run: &str,
        voxel_size: VoxelSize,
        user: &str,
        session: &str,
    ) -> Result<PathBuf> {
        let folder = self.overlay.join(RUNS).join(run_name(run)).join("Segmentations");
        fs::create_dir_all(&folder).map_err(IoError::file("make the folder", &folder))?;
        let name = format!(
            "{:.3}_{}_{}_deepfinder-multilabel.zarr",
            voxel_size.angstrom(),
            plain(user),
            plain(session)
        );
        Ok(folder.join(name))
    }
}

/// A root of the configuration as a folder; relative ones start from the configuration's.
fn local(config: &Path, root: &str) -> Result<PathBuf> {
    let plain = root
        .strip_prefix("local://")
        .or_else(|| root.strip_prefix("file://"))
        .unwrap_or(root);
    if plain.contains("://") {
        let what = format!("the root {root} is not on this machine's disks: copy the project, or mount it");
        return Err(IoError::unsupported(config, what));
    }
    let folder = config.parent().unwrap_or(Path::new(""));
    Ok(folder.join(plain))
}

fn runs(roots: &[PathBuf]) -> Result<Vec<CopickRun>> {
    let mut runs: Vec<CopickRun> = Vec::new();
    for root in roots {
        for folder in entries(&root.join(RUNS))? {
            let Some(name) = folder
                .file_name()
                .and_then(|name| name.to_str())
                .filter(|_| folder.is_dir())
            else {
                continue;
            };
            let index = runs.iter().position(|run| run.name == name).unwrap_or(runs.len());
            if index == runs.len() {
                runs.push(CopickRun {
                    name: name.to_owned(),
                    tomograms: Vec::new(),
                    picks: Vec::new(),
                });
            }
            let run = &mut runs[index];
            for inner in entries(&folder)? {
                let name = inner
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                if let Some(size) = name
                    .strip_prefix("VoxelSpacing")
                    .and_then(|size| size.parse().ok())
                {
                    let Ok(size) = VoxelSize::new(size) else { continue };
                    let volumes = entries(&inner)?;
                    let volumes = volumes.into_iter().filter(|path| has_ending(path, "zarr"));
                    // `<kind>_features.zarr` beside a tomogram is none.
                    let volumes = volumes.filter(|path| {
                        !path
                            .file_stem()
                            .and_then(|stem| stem.to_str())
                            .is_some_and(|stem| stem.ends_with("_features"))
                    });
                    run.tomograms.extend(volumes.map(|path| (size, path)));
                } else if name == "Picks" {
                    let files = entries(&inner)?
                        .into_iter()
                        .filter(|path| has_ending(path, "json"));
                    run.picks.extend(files);
                }
            }
            run.tomograms.sort_by(|a, b| {
                b.0.angstrom()
                    .total_cmp(&a.0.angstrom())
                    .then_with(|| a.1.cmp(&b.1))
            });
        }
    }
    runs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(runs)
}

/// What is in a folder, by name; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(found) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for entry in found {
        paths.push(entry.map_err(IoError::file("read", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension()
        .is_some_and(|own| own.eq_ignore_ascii_case(ending))
}
