use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use deepfinder_core::{ClassTable, Label, NoProgress, ParticleList, VoxelSize};
use deepfinder_eval::{EvaluateParams, Mode, Radius, Report, VoxelReport, evaluate, label_map_scores};
use deepfinder_io::{ReadOptions, is_particle_list, open_volume, read_particles};
use serde::Serialize;

use crate::error::OnFile;
use crate::lists::count_in_voxels_of;
use crate::{Length, PipelineError, Result, open_label_map};

/// The rule by which picks find particles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatchMode {
    /// Each particle matches at most one pick of its class within the radius.
    #[default]
    OneToOne,
    /// As in the SHREC challenge: a pick hits the nearest particle within the radius.
    Shrec,
    /// As in the paper: a pick lies in the particle's bounding box.
    Box,
    /// As in the CZII challenge: within half the radius, F4.
    Czii,
}

/// How to evaluate.
#[derive(Debug, Clone, Default)]
pub struct EvaluateJob {
    /// The rule of the match.
    pub mode: MatchMode,
    /// Distance up to which a pick finds a particle; each class's own radius where none is given.
    pub radius: Option<Length>,
    /// Names and radii of the classes.
    pub classes: ClassTable,
    /// Voxel size, for a radius in Å.
    pub voxel_size: Option<VoxelSize>,
}

/// A tomogram's annotations and picks.
#[derive(Debug, Clone)]
pub struct EvaluatedPair {
    /// The tomogram's name.
    pub name: String,
    /// Its annotated particles.
    pub truth: ParticleList,
    /// Its picks.
    pub picks: ParticleList,
}

/// How picks agree with annotations, or a label map with its target.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Evaluation {
    /// Of particles.
    Particles {
        /// Names of the classes.
        #[serde(skip)]
        classes: ClassTable,
        /// The scores.
        #[serde(flatten)]
        report: Box<Report>,
    },
    /// Of voxels.
    Voxels {
        /// Names of the classes.
        #[serde(skip)]
        classes: ClassTable,
        /// The scores.
        #[serde(flatten)]
        report: VoxelReport,
    },
}

/// Scores a list of picks against annotations, or a label map against a target.
///
/// # Errors
/// Where a file cannot be read, one is a list and the other a volume, or lists are scored without a radius.
pub fn evaluate_files(
    truth: &Path,
    picks: &Path,
    read: &ReadOptions,
    job: &EvaluateJob,
) -> Result<Evaluation> {
    match (is_particle_list(truth), is_particle_list(picks)) {
        (true, true) => {
            let options = ReadOptions {
                classes: read.classes.clone(),
                ..ReadOptions::default()
            };
            let mut pair = EvaluatedPair {
                name: "tomogram".to_owned(),
                truth: read_particles(truth, read)?,
                picks: read_particles(picks, &options)?,
            };
            count_in_voxels_of(&mut pair.truth, pair.picks.voxel_size, truth)?;
            evaluate_lists(&[pair], job)
        }
        (false, false) => {
            // Opened first, so that the message names the file that is no volume.
            for path in [truth, picks] {
                open_volume(path)?;
            }
            let [truth, predicted] = [open_label_map(truth)?, open_label_map(picks)?];
            let report = label_map_scores(truth.as_ref(), predicted.as_ref(), &NoProgress).on(picks)?;
            Ok(Evaluation::Voxels {
                classes: job.classes.clone(),
                report,
            })
        }
        _ => Err(PipelineError::input(format!(
            "{} and {}: one is a particle list, the other a volume; compare lists with lists and label maps with label maps",
            truth.display(),
            picks.display()
        ))),
    }
}

/// Scores the picks of tomograms against their annotations, pooled and each by itself.
///
/// # Errors
/// Where no radius is given and a class has none.
pub fn evaluate_lists(pairs: &[EvaluatedPair], job: &EvaluateJob) -> Result<Evaluation> {
    let (truth, picks) = pooled(pairs);
    let report = evaluate(&truth, &picks, &params(job)?)
        .on(Path::new("evaluation"))
        .map(Box::new)?;
    Ok(Evaluation::Particles {
        classes: job.classes.clone(),
        report,
    })
}

/// The annotations and the picks of all tomograms, each particle with its tomogram's name.
pub(crate) fn pooled(pairs: &[EvaluatedPair]) -> (ParticleList, ParticleList) {
    let [mut truth, mut picks] = [ParticleList::default(), ParticleList::default()];
    for pair in pairs {
        // Lists name tomograms each in their own way; here the pair says which it is.
        let name: Arc<str> = pair.name.as_str().into();
        for (pool, list) in [(&mut truth, &pair.truth), (&mut picks, &pair.picks)] {
            pool.particles.extend(list.iter().cloned().map(|mut particle| {
                particle.tomogram = Some(name.clone());
                particle
            }));
        }
    }
    (truth, picks)
}

pub(crate) fn params(job: &EvaluateJob) -> Result<EvaluateParams> {
    let radius = radius(job)?;
    let mode = match job.mode {
        MatchMode::OneToOne => Mode::one_to_one(radius),
        MatchMode::Shrec => Mode::Shrec { radius },
        MatchMode::Box => Mode::BoundingBox { half_edge: radius },
        MatchMode::Czii => Mode::Czii {
            radius,
            weights: BTreeMap::new(),
        },
    };
    Ok(EvaluateParams::new(mode))
}

fn radius(job: &EvaluateJob) -> Result<Radius> {
    if let Some(radius) = job.radius {
        return Ok(Radius::Same(radius.in_voxels(job.voxel_size)?));
    }
    let known = |class: &deepfinder_core::Class| Some((class.label, f64::from(class.radius_voxels?)));
    let radii: BTreeMap<Label, f64> = job.classes.classes().iter().filter_map(known).collect();
    if radii.is_empty() {
        return Err(PipelineError::input(
            "picks are scored within a distance of the annotations: pass --radius, in voxels (10) or Å (100A)",
        ));
    }
    Ok(Radius::PerClass(radii))
}
