use std::collections::BTreeMap;
use std::path::Path;

use deepfinder_core::{Label, Particle, ParticleList};
use deepfinder_eval::{EvaluateParams, SweepBy, sweep};
use deepfinder_io::write_file_atomically;
use serde::{Deserialize, Serialize};

use crate::error::OnFile;
use crate::{PickJob, PickMethod, PipelineError, Result};

/// Thresholds tried for each class.
const TRIED: usize = 200;

/// Peaks below this score are never found: there are as many as noise gives.
const LOWEST_SCORE: f32 = 0.05;

/// From what size or score on a pick counts, class by class: what was best on annotated tomograms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// The method whose picks they are for.
    pub method: PickMethod,
    /// Each class that was found, by label.
    pub classes: BTreeMap<Label, Threshold>,
}

/// Of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Smallest size in voxels; for peaks, lowest score.
    pub least: f64,
    /// F1 that it gave on the tomograms it was tuned on.
    pub f1: f64,
}

impl Thresholds {
    /// The best thresholds for picks of all sizes and scores. Each lies halfway between the least pick that it keeps and the
    /// greatest that it drops; a class none of whose picks is right has none.
    ///
    /// # Errors
    /// Where the lists cannot be scored.
    pub(crate) fn tune(
        method: PickMethod,
        truth: &ParticleList,
        picks: &ParticleList,
        params: &EvaluateParams,
    ) -> Result<Self> {
        let by = match method {
            PickMethod::Peaks => SweepBy::Score,
            _ => SweepBy::Size,
        };
        let value = |pick: &Particle| match by {
            SweepBy::Score => pick.score.map(f64::from),
            SweepBy::Size => pick.size_voxels.map(|size| size as f64),
        };
        let swept = sweep(truth, picks, params, by, TRIED).on(Path::new("thresholds"))?;
        let found = swept
            .best_of_class
            .into_iter()
            .filter(|(_, best)| best.f_beta > 0.0);
        let classes = found.map(|(label, best)| {
            // The sweep tries the values of all classes' picks: the class's own on either side count.
            let own = picks.iter().filter(|pick| pick.label == label).filter_map(value);
            let (mut dropped, mut kept) = (0.0_f64, f64::INFINITY);
            for value in own {
                if value < best.threshold {
                    dropped = dropped.max(value);
                } else {
                    kept = kept.min(value);
                }
            }
            let threshold = Threshold {
                least: 0.5 * (dropped + kept),
                f1: best.f_beta,
            };
            (label, threshold)
        });
        Ok(Self {
            method,
            classes: classes.collect(),
        })
    }

    /// Reads thresholds that were tuned: `thresholds.json` of a project.
    ///
    /// # Errors
    /// Where the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|source| {
            PipelineError::file(
                path,
                "the thresholds cannot be read (`tuned = true` of [pick] and `deepfinder run` make them)",
                source,
            )
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            PipelineError::input(format!("{}: these are no thresholds: {error}", path.display()))
        })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| PipelineError::input(error.to_string()))?;
        Ok(write_file_atomically(path, &text)?)
    }

    /// Sets a picking's own thresholds; classes that there are none for keep theirs.
    ///
    /// # Errors
    /// Where the picking goes by another method.
    pub fn apply(&self, job: &mut PickJob) -> Result<()> {
        if job.method != self.method {
            return Err(PipelineError::input(format!(
                "the thresholds were tuned for picking by {}, not by {}: pick so, or tune them anew",
                self.method, job.method
            )));
        }
        for (label, threshold) in &self.classes {
            if job.method == PickMethod::Peaks {
                job.min_score_of_class.insert(*label, threshold.least as f32);
            } else {
                // A size is a whole number: from the next one on.
                job.min_size_of_class
                    .insert(*label, threshold.least.ceil() as u64);
            }
        }
        Ok(())
    }
}

/// The same picking, of all sizes and scores.
pub(crate) fn without_thresholds(job: PickJob) -> PickJob {
    PickJob {
        min_size: 0,
        min_size_of_class: BTreeMap::new(),
        min_score: LOWEST_SCORE,
        min_score_of_class: BTreeMap::new(),
        ..job
    }
}

#[cfg(test)]
mod tests {
    use deepfinder_eval::Mode;

    use super::*;

    fn list(particles: &[(f64, Label, u64, f32)]) -> ParticleList {
        let particle = |(x, label, size, score): &(f64, Label, u64, f32)| Particle {
            size_voxels: Some(*size),
            score: Some(*score),
            ..Particle::new([*x, 0.0, 0.0], *label)
        };
        ParticleList::from(particles.iter().map(particle).collect::<Vec<_>>())
    }

    #[test]
    fn thresholds_lie_between_what_is_right_and_what_is_not() {
        // Class 1: the two large ones are right. Class 2: all are. Class 3: none is.
        let truth = list(&[
            (0.0, 1, 0, 0.0),
            (50.0, 1, 0, 0.0),
            (100.0, 2, 0, 0.0),
            (150.0, 3, 0, 0.0),
        ]);
        let picks = list(&[
            (0.0, 1, 300, 0.9),
            (50.0, 1, 200, 0.8),
            (20.0, 1, 101, 0.4),
            (30.0, 1, 10, 0.95),
            (100.0, 2, 7, 0.5),
            (120.0, 3, 500, 0.9),
        ]);
        let params = EvaluateParams::new(Mode::one_to_one(5.0));
        let tuned = Thresholds::tune(PickMethod::MeanShift, &truth, &picks, &params).unwrap();
        let least = |thresholds: &Thresholds| {
            let classes = thresholds.classes.iter();
            classes
                .map(|(label, threshold)| (*label, threshold.least))
                .collect::<Vec<_>>()
        };
        assert_eq!(least(&tuned), [(1, 150.5), (2, 3.5)]);
        assert_eq!(tuned.classes[&1].f1, 1.0);
        let by_score = Thresholds::tune(PickMethod::Peaks, &truth, &picks, &params).unwrap();
        assert!((by_score.classes[&1].least - 0.6).abs() < 1e-6, "{by_score:?}");
        assert!(
            (by_score.classes[&1].f1 - 0.8).abs() < 1e-9,
            "the wrong one of 0.95 stays"
        );

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thresholds.json");
        tuned.write(&path).unwrap();
        assert_eq!(Thresholds::read(&path).unwrap(), tuned);
        let mut job = PickJob::new(Path::new("labels.mrc"), Path::new("picks.xml"));
        job.min_size_of_class = BTreeMap::from([(1, 9), (3, 40)]);
        tuned.apply(&mut job).unwrap();
        assert_eq!(job.min_size_of_class, BTreeMap::from([(1, 151), (2, 4), (3, 40)]));
        assert!(job.min_score_of_class.is_empty());
        let error = by_score.apply(&mut job).unwrap_err().to_string();
        assert!(error.contains("peaks") && error.contains("mean-shift"), "{error}");
        std::fs::write(&path, "{\"method\": \"peaks\"}").unwrap();
        let error = Thresholds::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("no thresholds") && error.contains("classes"),
            "{error}"
        );
    }
}
