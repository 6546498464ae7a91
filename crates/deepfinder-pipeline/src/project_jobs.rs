//! What a project's settings come to: the job of each stage for a tomogram, and where its result lies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deepfinder_core::{Label, VoxelSize};
use deepfinder_infer::Plan;
use deepfinder_io::open_volume;
use deepfinder_net::Precision;
use deepfinder_train::RunFolder;

use crate::evaluate::{EvaluateJob, EvaluatedPair};
use crate::thresholds::Thresholds;
use crate::train::{annotated_particles, no_picks, read_options, target_path, tomogram_options};
use crate::{
    Length, Model, PickJob, PickMethod, Project, ProjectTomogram, Result, SegmentJob, ShapeSource, TargetJob,
};

/// The target of a tomogram as its project has it drawn.
///
/// # Errors
/// Where the tomogram has no picks.
pub fn target_job(project: &Project, tomogram: &ProjectTomogram) -> Result<TargetJob> {
    let Some(picks) = &tomogram.picks else {
        return Err(no_picks(tomogram));
    };
    let shapes = project.classes.iter().map(|class| {
        let settings = &project.target;
        let shape = match (&class.mask, settings.point_radius) {
            (Some(mask), _) => ShapeSource::Mask(project.resolve(mask)),
            (None, Some(radius)) if settings.points => ShapeSource::Sphere(radius),
            (None, _) if settings.points => ShapeSource::Point(class.radius),
            (None, _) => ShapeSource::Sphere(class.radius),
        };
        (class.label.to_string(), shape)
    });
    Ok(TargetJob {
        picks: project.resolve(picks),
        read: read_options(project, tomogram)?,
        like: project.resolve(&tomogram.file),
        voxel_size: tomogram_options(tomogram)?.voxel_size,
        shapes: shapes.collect(),
        order: project.target.order.clone(),
        initial: tomogram.initial.as_ref().map(|path| project.resolve(path)),
        tomogram: Some(tomogram.name.clone()),
        output: target_path(project, tomogram),
    })
}

/// The segmentation of a tomogram as its project has it done.
///
/// # Errors
/// Where the project gives the tomogram a voxel size that is none.
pub fn segment_job(project: &Project, tomogram: &ProjectTomogram) -> Result<SegmentJob> {
    let settings = &project.segment;
    let plan = settings
        .reference_patch
        .map_or_else(Plan::default, |patch| Plan::Reference { patch });
    let wants_scores = settings.scores || project.pick.method == PickMethod::Peaks;
    Ok(SegmentJob {
        tomogram: project.resolve(&tomogram.file),
        options: tomogram_options(tomogram)?,
        labels: labels_path(project, tomogram),
        scores: wants_scores.then(|| scores_folder(project, tomogram)),
        plan,
        half_turn: settings.half_turn,
        precision: Precision::default(),
        force: false,
    })
}

/// The picking in a tomogram as its project has it done.
///
/// # Errors
/// Where the label map cannot be read, a radius in Å meets an unknown voxel size, or tuned thresholds are not there yet.
pub fn pick_job(project: &Project, tomogram: &ProjectTomogram) -> Result<PickJob> {
    let mut job = untuned_pick_job(project, tomogram)?;
    if project.pick.tuned {
        Thresholds::read(&thresholds_path(project))?.apply(&mut job)?;
    }
    Ok(job)
}

pub(crate) fn untuned_pick_job(project: &Project, tomogram: &ProjectTomogram) -> Result<PickJob> {
    let settings = &project.pick;
    let labels = labels_path(project, tomogram);
    let by_peaks = settings.method == PickMethod::Peaks;
    let options = tomogram_options(tomogram)?;
    let voxel_size = options.voxel_size.or(open_volume(&labels)?.voxel_size());
    let points = labels_are_points(project);
    let input = if by_peaks {
        scores_folder(project, tomogram)
    } else {
        labels
    };
    Ok(PickJob {
        method: settings.method,
        radius: Some(cluster_radius(project, points, voxel_size)?),
        min_size: settings.min_size.unwrap_or(0),
        // A peak has no size.
        min_size_of_class: if settings.min_size.is_some() || by_peaks {
            BTreeMap::new()
        } else {
            min_sizes(project, points, voxel_size)?
        },
        min_score: settings.min_score,
        voxel_size,
        tomogram: Some(tomogram.name.clone()),
        ..PickJob::new(&input, &picks_path(project, tomogram))
    })
}

/// The weights that a project segments with: those it names, or those its training gives.
pub fn weights_path(project: &Project) -> PathBuf {
    match &project.segment.weights {
        Some(weights) => project.resolve(weights),
        None => RunFolder::new(project.output_path("train")).best_weights(),
    }
}

/// All weights that a project segments with: those of [`weights_path`], then those whose scores are averaged with theirs.
pub fn all_weights(project: &Project) -> Vec<PathBuf> {
    let others = project.segment.ensemble.iter().map(|path| project.resolve(path));
    std::iter::once(weights_path(project)).chain(others).collect()
}

/// Where the label map of a tomogram lies.
pub fn labels_path(project: &Project, tomogram: &ProjectTomogram) -> PathBuf {
    project.output_path(format!("labels/{}.mrc", tomogram.name))
}

/// Where the score maps of a tomogram lie, a file a class.
pub fn scores_folder(project: &Project, tomogram: &ProjectTomogram) -> PathBuf {
    project.output_path(format!("scores/{}", tomogram.name))
}

/// Where the picks of a tomogram lie.
pub fn picks_path(project: &Project, tomogram: &ProjectTomogram) -> PathBuf {
    project.output_path(format!("picks/{}.xml", tomogram.name))
}

/// Where the thresholds lie that were tuned on the validation tomograms.
pub fn thresholds_path(project: &Project) -> PathBuf {
    project.output_path("thresholds.json")
}

/// Where the picture of a tomogram's picks lies.
pub(crate) fn slices_path(project: &Project, tomogram: &ProjectTomogram) -> PathBuf {
    project.output_path(format!("slices/{}.png", tomogram.name))
}

/// Annotations and picks of tomograms, and how the project has them scored.
pub(crate) fn evaluated_pairs(
    project: &Project,
    evaluated: &[(&ProjectTomogram, PathBuf)],
) -> Result<(Vec<EvaluatedPair>, EvaluateJob)> {
    let mut pairs = Vec::new();
    let mut voxel_size = None;
    for (tomogram, picks) in evaluated {
        let options = tomogram_options(tomogram)?;
        voxel_size = options
            .voxel_size
            .or(open_volume(&project.resolve(&tomogram.file))?.voxel_size());
        pairs.push(EvaluatedPair {
            name: tomogram.name.clone(),
            truth: annotated_particles(project, tomogram)?,
            picks: deepfinder_io::read_particles(picks, &deepfinder_io::ReadOptions::default())?,
        });
    }
    let job = EvaluateJob {
        radius: project.evaluate.radius,
        classes: project.class_table(voxel_size)?,
        voxel_size,
        ..EvaluateJob::default()
    };
    Ok((pairs, job))
}

/// Whether the labels of a project are small balls at the centres: what its targets are, or what the weights learnt that it
/// segments with instead.
fn labels_are_points(project: &Project) -> bool {
    let named = project.segment.weights.as_ref();
    // Where they cannot be read, segmentation says so.
    let model = named.and_then(|path| Model::read(&project.resolve(path)).ok());
    model.map_or(project.target.points, |model| model.learnt_points())
}

/// The radius that clusters the voxels of a project's particles: where none is set, the mean of the class radii, each
/// weighted by its ball. That is the radius of the particle that an average voxel belongs to: the plain mean would
/// cut the largest particles in two. Where labels are small balls at the centres, clusters are as small; two peaks are still no
/// nearer than two particles.
///
/// # Errors
/// [`PipelineError::Input`](crate::PipelineError::Input) for a radius in Å where the voxel size is unknown.
pub fn pick_radius(project: &Project, voxel_size: Option<VoxelSize>) -> Result<Length> {
    cluster_radius(project, labels_are_points(project), voxel_size)
}

fn cluster_radius(project: &Project, points: bool, voxel_size: Option<VoxelSize>) -> Result<Length> {
    if let Some(radius) = project.pick.radius {
        return Ok(radius);
    }
    let (mut weighted, mut weights) = (0.0, 0.0);
    for class in &project.classes {
        let radius = if project.pick.method == PickMethod::Peaks {
            class.radius.in_voxels(voxel_size)?
        } else {
            project.label_radius(class, points, voxel_size)?
        };
        weighted += radius.powi(4);
        weights += radius.powi(3);
    }
    Ok(Length::Voxels(weighted / weights))
}

/// A quarter of the ball that labels have of each class: smaller clusters are specks.
fn min_sizes(project: &Project, points: bool, voxel_size: Option<VoxelSize>) -> Result<BTreeMap<Label, u64>> {
    project
        .classes
        .iter()
        .map(|class| {
            let radius = project.label_radius(class, points, voxel_size)?;
            Ok((class.label, (std::f64::consts::PI / 3.0 * radius.powi(3)) as u64))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use deepfinder_net::{Metadata, Weights};

    use super::*;
    use crate::model::learning_points;

    #[test]
    fn clusters_are_as_large_as_what_is_drawn_and_peaks_as_far_apart_as_particles() {
        let project = |settings: &str| {
            let text = format!(
                "version = 1\n{settings}[[class]]\nlabel = 1\nname = 'a'\nradius = 8\n[[class]]\nlabel = 2\nname = 'b'\nradius = 8\n"
            );
            Project::parse(&text, Path::new("deepfinder.toml")).unwrap()
        };
        let quarter = |radius: f64| (std::f64::consts::PI / 3.0 * radius.powi(3)) as u64;
        for (settings, radius, ball) in [
            ("", 8.0, 8.0),
            ("[target]\npoints = true\n", 4.0, 4.0),
            ("[target]\npoints = true\npoint_radius = 3\n", 3.0, 3.0),
            ("[target]\npoints = true\n[pick]\nmethod = 'peaks'\n", 8.0, 4.0),
            ("[target]\npoints = true\n[pick]\nradius = 7\n", 7.0, 4.0),
        ] {
            let project = project(settings);
            assert_eq!(
                pick_radius(&project, None).unwrap(),
                Length::Voxels(radius),
                "{settings}"
            );
            let sizes = min_sizes(&project, project.target.points, None).unwrap();
            assert_eq!(
                sizes,
                [(1, quarter(ball)), (2, quarter(ball))].into(),
                "{settings}"
            );
        }
        // A mask is a shape, points or not.
        let mut masked = project(
            "[target]\npoints = true\n[[tomogram]]\nname = 't'\nfile = 't.mrc'\nsplit = 'train'\npicks = 't.csv'\n",
        );
        masked.classes[0].mask = Some("a.mrc".into());
        assert_eq!(
            min_sizes(&masked, true, None).unwrap(),
            [(1, quarter(8.0)), (2, quarter(4.0))].into()
        );
        let shapes = target_job(&masked, &masked.tomograms[0]).unwrap().shapes;
        let shapes: Vec<&ShapeSource> = shapes.iter().map(|(_, shape)| shape).collect();
        assert!(
            matches!(shapes[..], [ShapeSource::Mask(_), ShapeSource::Point(_)]),
            "{shapes:?}"
        );
    }

    #[test]
    fn weights_of_another_project_say_what_their_labels_are() {
        let folder = tempfile::tempdir().unwrap();
        for (name, points) in [("shapes", false), ("points", true)] {
            let weights = Weights::initial(2, 1, Metadata::default()).unwrap();
            let weights = learning_points(weights, points).unwrap();
            std::fs::write(folder.path().join(name), weights.to_safetensors().unwrap()).unwrap();
        }
        for (points, weights, radius) in [
            (true, "shapes", 8.0),
            (false, "points", 4.0),
            (true, "not there yet", 4.0),
        ] {
            let text = format!(
                "version = 1\n[[class]]\nlabel = 1\nname = 'a'\nradius = 8\n[target]\npoints = {points}\n\
                 [segment]\nweights = '{weights}'\n"
            );
            let project = Project::parse(&text, &folder.path().join("deepfinder.toml")).unwrap();
            assert_eq!(
                pick_radius(&project, None).unwrap(),
                Length::Voxels(radius),
                "{weights}"
            );
        }
    }
}
