use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use deepfinder_core::{ParticleList, VoxelSize};
use deepfinder_io::{ParticleFormat, WriteOptions, open_volume, read_particle_file, write_particle_file};

use crate::lists::read_particles_in;
use crate::reader::voxel_size;
use crate::train::read_options;
use crate::{Folders, PipelineError, Project, ProjectTomogram, Result};

/// A list of a tomogram's particles that people edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditedList {
    /// What the network learns from: the tomogram's `picks` where they are in a format that holds everything, else a list
    /// of our own in the project's `annotations`, which begins as those picks.
    Annotations,
    /// Picks that were looked at and found right.
    Accepted,
    /// Picks that were looked at and found wrong.
    Rejected,
}

/// A list as it was when it was read.
#[derive(Debug, Clone)]
pub struct ListState {
    /// Where it lies, or will.
    pub path: PathBuf,
    /// Its particles, in voxels of the tomogram.
    pub particles: ParticleList,
    /// Tells this content of the file from any other.
    pub revision: String,
    /// Whether the project names the file already.
    pub is_named: bool,
}

/// The particles of a list that people edit; none where there is no file yet.
///
/// # Errors
/// Where the list or the tomogram cannot be read.
pub fn read_edited_list(
    project: &Project,
    tomogram: &ProjectTomogram,
    which: EditedList,
) -> Result<ListState> {
    let (path, is_named) = place(project, tomogram, which)?;
    let revision = revision(&path)?;
    let first = match (&tomogram.picks, which) {
        // What another program's format holds is where annotating begins.
        (Some(picks), EditedList::Annotations) if !is_named && revision.is_empty() => project.resolve(picks),
        _ => path.clone(),
    };
    let particles = read_list(project, tomogram, &first)?;
    Ok(ListState {
        path,
        particles,
        revision,
        is_named,
    })
}

/// The particles of any list that lie in a tomogram, in its voxels; none where there is no such file.
///
/// # Errors
/// Where the list or the tomogram cannot be read.
pub fn read_list(project: &Project, tomogram: &ProjectTomogram, path: &Path) -> Result<ParticleList> {
    let file = open_volume(&project.resolve(&tomogram.file))?;
    let size = voxel_size(tomogram.voxel_size)?.or(file.voxel_size());
    if !path.is_file() {
        return Ok(ParticleList {
            particles: Vec::new(),
            voxel_size: size,
        });
    }
    let mut options = read_options(project, tomogram)?;
    // Old lists have x slowest; what we wrote ourselves has not.
    options.swap_xz &= tomogram
        .picks
        .as_deref()
        .map(|picks| project.resolve(picks))
        .as_deref()
        == Some(path);
    let mut list = read_particles_in(path, &options, Some(&tomogram.name), &file, size)?;
    list.voxel_size = size.or(list.voxel_size);
    Ok(list)
}

/// Writes a list that people edit, where the file is still as it was read, and gives its revision.
///
/// # Errors
/// [`PipelineError::Changed`] where the file is no longer as it was at `revision`; it is then left as it is. Also where
/// it cannot be written.
pub fn write_edited_list(
    project: &Project,
    tomogram: &ProjectTomogram,
    which: EditedList,
    mut particles: ParticleList,
    revision_read: &str,
) -> Result<ListState> {
    let (path, is_named) = place(project, tomogram, which)?;
    if revision(&path)? != revision_read {
        return Err(PipelineError::Changed { path });
    }
    let size = known_voxel_size(project, tomogram)?;
    particles.voxel_size = size;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| PipelineError::file(folder, "the folder cannot be made", source))?;
    }
    let options = WriteOptions {
        classes: read_options(project, tomogram)?.classes,
        ..WriteOptions::default()
    };
    for note in write_particle_file(&path, &particles, &options)? {
        tracing::info!("{}: {note}", path.display());
    }
    let revision = revision(&path)?;
    Ok(ListState {
        path,
        particles,
        revision,
        is_named,
    })
}

fn known_voxel_size(project: &Project, tomogram: &ProjectTomogram) -> Result<Option<VoxelSize>> {
    let file = open_volume(&project.resolve(&tomogram.file))?;
    Ok(voxel_size(tomogram.voxel_size)?.or(file.voxel_size()))
}

/// Where a list lies, and whether that is the one the project names.
fn place(project: &Project, tomogram: &ProjectTomogram, which: EditedList) -> Result<(PathBuf, bool)> {
    let own = |folder: &str| project.output_path(format!("{folder}/{}.xml", tomogram.name));
    match which {
        EditedList::Accepted => Ok((own("accepted"), true)),
        EditedList::Rejected => Ok((own("rejected"), true)),
        EditedList::Annotations => {
            if let Some(picks) = &tomogram.picks {
                let path = project.resolve(picks);
                if is_editable(project, tomogram, &path)? {
                    return Ok((path, true));
                }
            }
            let path = project.resolve(&PathBuf::from(format!("annotations/{}.xml", tomogram.name)));
            Ok((path, false))
        }
    }
}

/// Whether a list can be written again without losing anything: a format of our own, of this tomogram alone, and inside
/// the project's folders.
fn is_editable(project: &Project, tomogram: &ProjectTomogram, path: &Path) -> Result<bool> {
    let ours = |format| matches!(format, ParticleFormat::DeepFinderXml | ParticleFormat::Csv);
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    if tomogram.swap_xz || !["xml", "csv", "tsv"].contains(&ending.as_str()) {
        return Ok(false);
    }
    if !path.is_file() {
        return Ok(true);
    }
    if Folders::of_project(project)
        .existing(&std::path::absolute(path).unwrap_or_default())
        .is_err()
    {
        return Ok(false);
    }
    let file = read_particle_file(path, &read_options(project, tomogram)?)?;
    let of_others = |particle: &deepfinder_core::Particle| {
        particle
            .tomogram
            .as_deref()
            .is_some_and(|name| name != tomogram.name)
    };
    let (own, size) = (file.particles.voxel_size, known_voxel_size(project, tomogram)?);
    let same_voxels = own
        .zip(size)
        .is_none_or(|(own, size)| own.agrees_with(size, 0.01));
    Ok(ours(file.format) && !file.particles.iter().any(of_others) && same_voxels)
}

/// Tells a file's content from any other; empty where there is no file. Good for one build of this program: what a page
/// holds of an older one is at worst read again.
fn revision(path: &Path) -> Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            Ok(format!("{:016x}{:x}", hasher.finish(), bytes.len()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(PipelineError::file(path, "the list cannot be read", source)),
    }
}

#[cfg(test)]
mod tests {
    use deepfinder_core::{Particle, Volume};
    use deepfinder_io::write_volume;
    use ndarray::Array3;

    use super::*;
    use crate::project_of_tomogram;

    fn bench() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mrc");
        let voxels = Array3::from_shape_fn((4, 5, 6), |(z, y, x)| (z + y * x) as f32);
        let volume = Volume::new(voxels).with_voxel_size(VoxelSize::new(10.0).ok());
        write_volume(&path, &volume).unwrap();
        let project = project_of_tomogram(&path).unwrap();
        (folder, project)
    }

    #[test]
    fn a_list_comes_back_and_a_changed_one_is_left_alone() {
        let (folder, project) = bench();
        let tomogram = &project.tomograms[0];
        let which = EditedList::Annotations;
        let first = read_edited_list(&project, tomogram, which).unwrap();
        assert_eq!((first.particles.len(), first.revision.as_str()), (0, ""));
        let one = ParticleList::from(vec![Particle::new([1.0, 2.0, 3.0], 1)]);
        let written = write_edited_list(&project, tomogram, which, one.clone(), "").unwrap();
        assert_eq!(written.path, folder.path().canonicalize().unwrap().join("a.xml"));
        let again = read_edited_list(&project, tomogram, which).unwrap();
        assert_eq!(
            (again.particles.particles, &again.revision),
            (one.particles.clone(), &written.revision)
        );
        let changed = write_edited_list(&project, tomogram, which, one, "");
        assert!(matches!(changed, Err(PipelineError::Changed { .. })));
        let kept = read_edited_list(&project, tomogram, which).unwrap();
        assert_eq!(kept.revision, written.revision);
    }

    #[test]
    fn a_list_of_another_program_is_copied_and_not_overwritten() {
        let (folder, mut project) = bench();
        let theirs = folder.path().join("theirs.coords");
        std::fs::write(&theirs, "1 2 3\n").unwrap();
        project.tomograms[0].picks = Some("theirs.coords".into());
        let tomogram = &project.tomograms[0];
        let state = read_edited_list(&project, tomogram, EditedList::Annotations).unwrap();
        assert_eq!((state.particles.len(), state.is_named), (1, false));
        write_edited_list(
            &project,
            tomogram,
            EditedList::Annotations,
            ParticleList::default(),
            "",
        )
        .unwrap();
        assert_eq!(std::fs::read_to_string(theirs).unwrap(), "1 2 3\n");
        assert!(folder.path().join("annotations/a.xml").is_file());
    }
}
