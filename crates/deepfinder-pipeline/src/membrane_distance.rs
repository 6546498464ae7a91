use std::path::{Path, PathBuf};

use deepfinder_core::{Label, Particle, VoxelSize};
use deepfinder_eval::distances_to_labels;

use crate::error::OnFile;
use crate::{PipelineError, Project, ProjectTomogram, Result, labels_path, open_label_map};

/// The word by which a class of a project is known as a membrane.
const MEMBRANE: &str = "membrane";

/// A tomogram that was picked, and its picks.
pub(crate) struct PickedTomogram<'a> {
    pub(crate) tomogram: &'a ProjectTomogram,
    pub(crate) particles: Vec<Particle>,
    pub(crate) voxel_size: Option<VoxelSize>,
    /// Its size, `(z, y, x)`.
    pub(crate) shape: [usize; 3],
}

/// How far the picks of tomograms lie from its membranes, class by class.
pub(crate) struct MembraneDistances {
    /// Name, label and the distances of each class that has picks; a membrane itself is none.
    pub(crate) classes: Vec<(String, Label, Vec<f64>)>,
    /// What they are counted in: nm where the voxel size is known, else voxels.
    pub(crate) unit: &'static str,
    /// Tomograms with a membrane.
    pub(crate) tomograms: Vec<String>,
}

/// Looks for membranes in a file that is given for a tomogram (whatever is not 0 in it is one), or else in its label map, as the
/// classes of the project that are called membranes; `None` where there are none.
///
/// # Errors
/// For a file that is given for no tomogram that was picked, and label maps that cannot be read or are not of the tomogram's size.
pub(crate) fn membrane_distances(
    project: &Project,
    picked: &[PickedTomogram<'_>],
    given: &[(Option<String>, PathBuf)],
) -> Result<Option<MembraneDistances>> {
    let files = files_of(picked, given)?;
    let labels: Vec<Label> = project
        .classes
        .iter()
        .filter(|class| class.name.to_lowercase().contains(MEMBRANE))
        .map(|class| class.label)
        .collect();
    let in_nm = picked.iter().all(|picked| picked.voxel_size.is_some());
    let (mut distances, mut tomograms) = (Vec::new(), Vec::new());
    for (picked, file) in picked.iter().zip(files) {
        let particles: Vec<&Particle> = picked
            .particles
            .iter()
            .filter(|particle| !labels.contains(&particle.label))
            .collect();
        let positions: Vec<[f64; 3]> = particles.iter().map(|particle| particle.position).collect();
        let own = labels_path(project, picked.tomogram);
        let (path, is_given) = match &file {
            Some(path) => (path, true),
            None if labels.is_empty() || !own.exists() => continue,
            None => (&own, false),
        };
        let map = open_label_map(path)?;
        if map.shape() != picked.shape {
            return Err(PipelineError::input(format!(
                "{}: it is {:?} voxels (z, y, x), the tomogram {} is {:?}: give membranes of that tomogram",
                path.display(),
                map.shape(),
                picked.tomogram.name,
                picked.shape
            )));
        }
        let is_meant = |label| {
            if is_given {
                label != 0
            } else {
                labels.contains(&label)
            }
        };
        let Some(found) = distances_to_labels(map.as_ref(), is_meant, &positions).on(path)? else {
            if is_given {
                return Err(PipelineError::input(format!(
                    "{}: all of it is 0, so there is no membrane",
                    path.display()
                )));
            }
            continue;
        };
        tomograms.push(picked.tomogram.name.clone());
        let size = picked.voxel_size;
        let scale = size
            .filter(|_| in_nm)
            .map_or(1.0, |size| f64::from(size.angstrom()) / 10.0);
        let labelled = particles.iter().map(|particle| particle.label);
        distances.extend(labelled.zip(found.into_iter().map(|distance| scale * distance)));
    }
    let of_class = |label: Label| -> Vec<f64> {
        let own = distances.iter().filter(|(of, _)| *of == label);
        own.map(|(_, distance)| *distance).collect()
    };
    let classes: Vec<_> = project
        .classes
        .iter()
        .map(|class| (class.name.clone(), class.label, of_class(class.label)))
        .filter(|(_, _, distances)| !distances.is_empty())
        .collect();
    Ok((!classes.is_empty()).then_some(MembraneDistances {
        classes,
        unit: if in_nm { "nm" } else { "voxels" },
        tomograms,
    }))
}

/// The file that is given for each tomogram.
fn files_of(
    picked: &[PickedTomogram<'_>],
    given: &[(Option<String>, PathBuf)],
) -> Result<Vec<Option<PathBuf>>> {
    let names: Vec<&str> = picked
        .iter()
        .map(|picked| picked.tomogram.name.as_str())
        .collect();
    let mut files = vec![None; picked.len()];
    let refuse = |path: &Path, what: &str| {
        Err(PipelineError::input(format!(
            "{}: {what}; the tomograms that were picked are: {}",
            path.display(),
            names.join(", ")
        )))
    };
    for (name, path) in given {
        let place = match name {
            None if picked.len() == 1 => 0,
            None => return refuse(path, "say which tomogram's membranes these are, as NAME=FILE"),
            Some(name) => match names.iter().position(|known| known == name) {
                Some(place) => place,
                None => return refuse(path, &format!("`{name}` is none of the tomograms")),
            },
        };
        files[place] = Some(path.clone());
    }
    Ok(files)
}

/// The value that as many lie below as above.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan());
    }
}
