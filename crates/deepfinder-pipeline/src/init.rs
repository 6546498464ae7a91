use std::path::{Path, PathBuf};

use deepfinder_io::{CopickProject, CopickRun, open_volume, write_file_atomically, write_particles};

use crate::project::PROJECT_FILE;
use crate::{Length, PipelineError, Project, ProjectClass, ProjectTomogram, Result, Split};

/// A project to make.
#[derive(Debug, Clone, Default)]
pub struct InitJob {
    /// Its folder.
    pub folder: PathBuf,
    /// Its tomograms.
    pub tomograms: Vec<PathBuf>,
    /// Names and radii of its classes; labels count from 1.
    pub classes: Vec<(String, Length)>,
    /// The configuration of a copick project to make it of.
    pub copick: Option<PathBuf>,
    /// Of that, only the picks of this `user` or `user_session`.
    pub author: Option<String>,
}

/// Radius in Å of an object of which copick does not say it.
const USUAL_RADIUS_ANGSTROM: f64 = 100.0;

/// Endings of particle lists that are looked for beside a tomogram.
const LIST_ENDINGS: [&str; 8] = ["xml", "csv", "tsv", "txt", "star", "tbl", "mod", "coords"];

/// Where a project file leaves something to the user.
const HEADER: &str = "\
# A DeepFinder project. Paths are relative to this file; `deepfinder run` does all stages.
#
# Every tomogram has a split: `train` (the network learns from it; needs picks), `validate` (training is judged by it;
# needs picks), or `test` (it is segmented and picked; scored where there are picks).
# A class's radius is in voxels (12) or Å (\"120 A\"); `mask = \"file.mrc\"` draws its shape instead of a sphere.
# More settings, with their defaults: see the README.

";

/// What to write where no tomogram was given.
const EXAMPLE: &str = "
# [[tomogram]]
# name = \"tomo1\"
# file = \"tomo1.mrc\"
# split = \"train\"
# picks = \"tomo1.xml\"
";

/// Makes a project file; the last tomogram with picks validates, those without are to be segmented.
///
/// # Errors
/// Where there is a project already, or a tomogram cannot be read.
pub fn init_project(job: &InitJob) -> Result<(PathBuf, Project)> {
    let path = job.folder.join(PROJECT_FILE);
    if path.exists() {
        return Err(PipelineError::input(format!(
            "{}: there is a project already; edit it, or choose another folder",
            path.display()
        )));
    }
    std::fs::create_dir_all(&job.folder)
        .map_err(|source| PipelineError::file(&job.folder, "the folder cannot be made", source))?;
    let mut project = Project::new(&job.folder);
    project.classes = classes(&job.classes);
    if let Some(config) = &job.copick {
        add_copick(&mut project, config, job)?;
    }
    for file in &job.tomograms {
        open_volume(file)?;
        project.tomograms.push(tomogram(&project, file)?);
    }
    let annotated = project
        .tomograms
        .iter()
        .filter(|tomogram| tomogram.picks.is_some())
        .count();
    if annotated > 1
        && let Some(last) = project
            .tomograms
            .iter_mut()
            .rfind(|tomogram| tomogram.picks.is_some())
    {
        last.split = Split::Validate;
    }
    write_project(&path, &project)?;
    Ok((path, project))
}

/// The classes and runs of a copick project: of each run its coarsest tomogram, and its picks as a list of our own.
fn add_copick(project: &mut Project, config: &Path, job: &InitJob) -> Result<()> {
    let copick = CopickProject::read(config)?;
    if job.classes.is_empty() {
        let radius_of = |name: &str| {
            let object = copick.objects.iter().find(|object| object.name == name);
            object
                .and_then(|object| object.radius_angstrom)
                .filter(|radius| *radius > 0.0)
        };
        let classes = copick.classes();
        project.classes = classes
            .classes()
            .iter()
            .map(|class| ProjectClass {
                label: class.label,
                name: class.name.clone(),
                radius: Length::Angstrom(radius_of(&class.name).unwrap_or(USUAL_RADIUS_ANGSTROM)),
                mask: None,
            })
            .collect();
    }
    for run in &copick.runs {
        project
            .tomograms
            .extend(copick_tomogram(project, &copick, run, job)?);
    }
    if project.tomograms.is_empty() {
        return Err(PipelineError::input(format!(
            "{}: no run of this copick project has a tomogram on this machine",
            config.display()
        )));
    }
    Ok(())
}

/// A run as a tomogram of the project; its picks are written beside the project file.
fn copick_tomogram(
    project: &Project,
    copick: &CopickProject,
    run: &CopickRun,
    job: &InitJob,
) -> Result<Option<ProjectTomogram>> {
    // The coarsest comes first, which is what networks are trained on.
    let Some((size, file)) = run.tomograms.first() else {
        return Ok(None);
    };
    open_volume(file)?;
    let list = copick.read_picks(run, *size, job.author.as_deref())?;
    let mut picks = None;
    if !list.is_empty() {
        let folder = project.folder.join("picks");
        std::fs::create_dir_all(&folder)
            .map_err(|source| PipelineError::file(&folder, "the folder cannot be made", source))?;
        let relative = PathBuf::from(format!("picks/{}.csv", run.name));
        write_particles(&project.folder.join(&relative), &list)?;
        picks = Some(relative);
    }
    let file =
        std::path::absolute(file).map_err(|source| PipelineError::file(file, "no such path", source))?;
    Ok(Some(ProjectTomogram {
        name: run.name.clone(),
        file,
        split: if picks.is_some() {
            Split::Train
        } else {
            Split::Test
        },
        picks,
        target: None,
        initial: None,
        swap_xz: false,
        invert: false,
        voxel_size: None,
    }))
}

/// What a user named to be opened: a project, or a tomogram.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The project; of a tomogram that belongs to none, one of it alone.
    pub project: Project,
    /// The project's file, where there is one.
    pub file: Option<PathBuf>,
    /// The tomogram that was named.
    pub tomogram: Option<String>,
}

/// Opens a project file, a folder with one, or a tomogram: as part of the project beside it where that names it.
///
/// # Errors
/// Where it is none of these.
pub fn open_project_or_tomogram(path: &Path) -> Result<Opened> {
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    if is_toml || (path.is_dir() && !deepfinder_io::is_volume_folder(path)) {
        let file = if is_toml {
            path.to_owned()
        } else {
            path.join(PROJECT_FILE)
        };
        return Ok(Opened {
            project: Project::read(&file)?,
            file: Some(file),
            tomogram: None,
        });
    }
    let beside = path.parent().unwrap_or(Path::new("")).join(PROJECT_FILE);
    if beside.is_file()
        && let Ok(project) = Project::read(&beside)
    {
        let whole = path.canonicalize().ok();
        let mut tomograms = project.tomograms.iter();
        let named = tomograms
            .find(|tomogram| whole.is_some() && project.resolve(&tomogram.file).canonicalize().ok() == whole);
        if let Some(name) = named.map(|tomogram| tomogram.name.clone()) {
            return Ok(Opened {
                project,
                file: Some(beside),
                tomogram: Some(name),
            });
        }
    }
    let project = project_of_tomogram(path)?;
    let tomogram = project.tomograms.first().map(|tomogram| tomogram.name.clone());
    Ok(Opened {
        project,
        file: None,
        tomogram,
    })
}

/// A project of one tomogram that no file says yet, for a look at it: its annotations stand beside it under its name,
/// where [`init_project`] finds them later.
///
/// # Errors
/// Where the tomogram cannot be read.
pub fn project_of_tomogram(file: &Path) -> Result<Project> {
    let info = open_volume(file)?;
    let absolute =
        std::path::absolute(file).map_err(|source| PipelineError::file(file, "no such path", source))?;
    let mut project = Project::new(absolute.parent().unwrap_or(Path::new(".")));
    // Where the file does not say its voxel size, a length in Å would mean nothing.
    let radius = info
        .voxel_size()
        .map_or(Length::Voxels(10.0), |_| Length::Angstrom(100.0));
    project.classes = classes(&[("particle".to_owned(), radius)]);
    let mut only = tomogram(&project, &absolute)?;
    let beside = || {
        absolute
            .file_stem()
            .map(|stem| PathBuf::from(stem).with_added_extension("xml"))
    };
    only.picks = only.picks.or_else(beside);
    project.tomograms.push(only);
    Ok(project)
}

/// Writes a project file with its explanations.
pub(crate) fn write_project(path: &Path, project: &Project) -> Result<()> {
    let example = if project.tomograms.is_empty() { EXAMPLE } else { "" };
    Ok(write_file_atomically(
        path,
        format!("{HEADER}{}{example}", project.to_toml()?).as_bytes(),
    )?)
}

/// The classes given, or one to be edited.
fn classes(given: &[(String, Length)]) -> Vec<ProjectClass> {
    let example = [("particle".to_owned(), Length::Angstrom(100.0))];
    let given = if given.is_empty() { &example } else { given };
    let classes = (1..).zip(given);
    classes
        .map(|(label, (name, radius))| ProjectClass {
            label,
            name: name.clone(),
            radius: *radius,
            mask: None,
        })
        .collect()
}

fn tomogram(project: &Project, file: &Path) -> Result<ProjectTomogram> {
    let absolute =
        std::path::absolute(file).map_err(|source| PipelineError::file(file, "no such path", source))?;
    let folder = std::path::absolute(&project.folder)
        .map_err(|source| PipelineError::file(&project.folder, "no such path", source))?;
    let relative = |path: &Path| path.strip_prefix(&folder).unwrap_or(path).to_owned();
    let stem = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let taken = |name: &str| project.tomograms.iter().any(|tomogram| tomogram.name == name);
    let name = std::iter::once(stem.clone())
        .chain((2..=u32::MAX).map(|i| format!("{stem}_{i}")))
        .find(|name| !taken(name))
        .unwrap_or_default();
    let picks = LIST_ENDINGS
        .iter()
        .map(|ending| absolute.with_extension(ending))
        .find(|path| path.is_file());
    Ok(ProjectTomogram {
        name,
        file: relative(&absolute),
        split: if picks.is_some() {
            Split::Train
        } else {
            Split::Test
        },
        picks: picks.as_deref().map(relative),
        target: None,
        initial: None,
        swap_xz: false,
        invert: false,
        voxel_size: None,
    })
}
