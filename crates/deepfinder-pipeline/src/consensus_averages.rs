use std::path::{Path, PathBuf};

use deepfinder_average::AverageError;
use deepfinder_core::{Label, Progress};
use deepfinder_eval::FoundBy;
use serde::Serialize;

use crate::consensus::part_file;
use crate::{AverageJob, ConsensusSummary, PipelineError, Result, average_particles};

/// The average of a class's particles in one part of a consensus.
#[derive(Debug, Clone, Serialize)]
pub struct PartAverage {
    /// Who found them.
    pub found_by: FoundBy,
    /// Their class.
    pub label: Label,
    /// Their number in the list.
    pub listed: usize,
    /// The map, with its half maps, mask, curves and particles beside it; `None` where there are too few to average.
    pub map: Option<PathBuf>,
    /// Number averaged: of those listed, whose box lies inside the tomogram.
    pub particles: usize,
    /// Resolution in voxels at a corrected Fourier shell correlation of 0.143 and of 0.5.
    pub resolution_voxels: Option<[f64; 2]>,
    /// The same in Å, where the voxel size is known.
    pub resolution_angstrom: Option<[f64; 2]>,
}

/// Averages each class of each part of a consensus whose lists were written to a folder: what both found, what only A and what
/// only B found. A part that is no particle shows as a map in which the half-sets agree in nothing.
///
/// `settings` says how; its list and its output are those of the part.
///
/// # Errors
/// As [`average_particles`], but for parts of too few particles.
pub fn average_parts(
    found: &ConsensusSummary,
    folder: &Path,
    settings: &AverageJob,
    progress: &dyn Progress,
) -> Result<Vec<PartAverage>> {
    let mut averages = Vec::new();
    for found_by in [FoundBy::Both, FoundBy::OnlyA, FoundBy::OnlyB] {
        let list = folder.join(part_file(found_by));
        for class in &found.classes {
            let label = class.label;
            let of_part = found
                .picks
                .iter()
                .filter(|pick| pick.found_by == found_by && pick.particle.label == label);
            let listed = of_part.count();
            let stem = list.file_stem().unwrap_or_default().to_string_lossy();
            let output = folder.join(format!("{stem}_{}.mrc", file_name(&found.names.name_of(label))));
            let job = AverageJob {
                picks: list.clone(),
                output: output.clone(),
                label: Some(label),
                ..settings.clone()
            };
            let mut part = PartAverage {
                found_by,
                label,
                listed,
                map: None,
                particles: 0,
                resolution_voxels: None,
                resolution_angstrom: None,
            };
            if listed >= 2 {
                match average_particles(&job, progress) {
                    Ok(averaged) => {
                        part.map = Some(output);
                        part.particles = averaged.particles;
                        part.resolution_voxels = Some(averaged.resolution_voxels);
                        part.resolution_angstrom = averaged.resolution_angstrom;
                    }
                    Err(error) if is_too_few(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            averages.push(part);
        }
    }
    Ok(averages)
}

fn is_too_few(error: &PipelineError) -> bool {
    let PipelineError::Stage { source, .. } = error else {
        return false;
    };
    matches!(source.downcast_ref(), Some(AverageError::TooFew { .. }))
}

/// A class's name as part of a file's.
fn file_name(class: &str) -> String {
    let allowed = |c: char| {
        if c.is_alphanumeric() || "-.".contains(c) {
            c
        } else {
            '_'
        }
    };
    class.chars().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_become_file_names() {
        assert_eq!(file_name("80S ribosome/α"), "80S_ribosome_α");
        assert_eq!(file_name("../4v94"), ".._4v94");
    }
}
