use std::path::{Path, PathBuf};

use deepfinder_core::{Label, ParticleList};
use deepfinder_eval::{EvaluateParams, Mode, SweepBy, evaluate, sweep};
use deepfinder_io::{ReadOptions, read_particles, write_file_atomically, write_mrc};
use deepfinder_match::{Candidate, compete};
use serde::{Deserialize, Serialize};

use super::Bench;
use super::report::{ClassScores, MethodScores, ParticleClass};
use crate::error::OnFile;
use crate::stamps::Stamp;
use crate::template_match::{MatchJob, match_tomogram};
use crate::templates::load_templates;
use crate::{PipelineError, Result, Split};

/// Matches that are kept for each particle that there is: enough to choose a threshold among.
const MATCHES_PER_PARTICLE: usize = 4;
/// Thresholds tried.
const THRESHOLDS: usize = 100;

/// How the scores of a search are spread.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Spread {
    mean: f64,
    standard_deviation: f64,
}

/// What a template was found at in the tomograms.
struct Matches {
    label: Label,
    radius_voxels: f64,
    validation: Found,
    test: Found,
}

/// The places of a template in a tomogram, best first, and how its scores are spread.
struct Found {
    picks: ParticleList,
    spread: Spread,
}

impl Found {
    fn candidates(&self, radius_voxels: f64) -> Vec<Candidate> {
        let Spread {
            mean,
            standard_deviation,
        } = self.spread;
        let places = self.picks.iter().map(|pick| Candidate {
            position: pick.position,
            deviations: (f64::from(pick.score.unwrap_or_default()) - mean)
                / standard_deviation.max(f64::MIN_POSITIVE),
            radius_voxels,
        });
        places.collect()
    }
}

impl Bench<'_> {
    /// Template matching: each class by itself, and with each place left to the template that explains it best. A class's
    /// threshold is the one with the best F1 on the validation tomogram.
    pub(super) fn template_matching(&mut self, classes: &[ParticleClass]) -> Result<Vec<MethodScores>> {
        let folder = self.job.folder.join("matching");
        std::fs::create_dir_all(&folder)
            .map_err(|source| PipelineError::file(&folder, "the folder cannot be made", source))?;
        let matches = self.matches(&folder, classes)?;
        let [truth, test_truth] = [Split::Validate, Split::Test].map(|split| self.truth(split));
        let (truth, test_truth) = (truth?, test_truth?);
        let mut methods = Vec::new();
        for (name, competes) in [("template matching", false), ("templates in competition", true)] {
            let mut scores = Vec::new();
            for (index, class) in matches.iter().enumerate() {
                let picks = |of: fn(&Matches) -> &Found| {
                    if competes {
                        own_places(&matches, index, of)
                    } else {
                        of(class).picks.clone()
                    }
                };
                let found = class_scores(
                    class,
                    [&truth, &test_truth],
                    &picks(|class| &class.validation),
                    &picks(|class| &class.test),
                )
                .on(&folder)?;
                scores.push(Some(found));
            }
            methods.push(MethodScores {
                name: name.to_owned(),
                classes: scores,
            });
        }
        Ok(methods)
    }

    /// Searches for each template in both tomograms.
    fn matches(&mut self, folder: &Path, classes: &[ParticleClass]) -> Result<Vec<Matches>> {
        let templates = load_templates(&self.job.size.classes, &crate::StructureOptions::default())?;
        let mut matches = Vec::new();
        for ((label, template), class) in (1..=Label::MAX).zip(&templates).zip(classes) {
            let map = folder.join(format!("{}.mrc", class.name));
            if !map.exists() {
                write_mrc(&map, &template.density)?;
            }
            let radius = self
                .data
                .class_table(None)?
                .by_label(label)
                .and_then(|class| class.radius_voxels);
            let radius_voxels = radius.map_or(1.0, f64::from);
            let mut search = |split| {
                let output = folder.join(format!("{}_{split:?}.xml", class.name).to_lowercase());
                self.search(split, &map, label, radius_voxels, &output)
            };
            matches.push(Matches {
                label,
                radius_voxels,
                validation: search(Split::Validate)?,
                test: search(Split::Test)?,
            });
        }
        Ok(matches)
    }

    fn search(
        &mut self,
        split: Split,
        map: &Path,
        label: Label,
        radius_voxels: f64,
        output: &Path,
    ) -> Result<Found> {
        let particles = of_class(&self.truth(split)?, label).len();
        let tomogram: PathBuf = self.data.resolve(&self.tomogram(split)?.file);
        let job = MatchJob {
            label,
            step_degrees: self.job.size.match_step_degrees,
            tilt: Some(self.job.size.microscope.tilt),
            min_distance: Some(crate::Length::Voxels(radius_voxels)),
            min_score: Some(0.0),
            top: Some(MATCHES_PER_PARTICLE * particles.max(1)),
            ..MatchJob::new(&tomogram, map, output)
        };
        let stamp = Stamp::new((
            "with spread",
            job.label,
            job.step_degrees,
            job.tilt,
            job.min_distance,
            job.top,
        ))
        .file(&tomogram)
        .file(map);
        let spread = output.with_extension("json");
        let json_error =
            |error: serde_json::Error| PipelineError::input(format!("{}: {error}", spread.display()));
        if !(self.stamps.is_current(output, &stamp) && spread.exists()) {
            let matched = match_tomogram(&job, self.progress)?;
            let found = Spread {
                mean: matched.mean_score,
                standard_deviation: matched.standard_deviation,
            };
            let text = serde_json::to_vec(&found).map_err(json_error)?;
            write_file_atomically(&spread, &text)?;
            self.stamps.record(output, &stamp)?;
        }
        let text = std::fs::read(&spread)
            .map_err(|source| PipelineError::file(&spread, "the file cannot be read", source))?;
        Ok(Found {
            picks: of_class(&read_particles(output, &ReadOptions::default())?, label),
            spread: serde_json::from_slice(&text).map_err(json_error)?,
        })
    }
}

/// The particles of a class, of whatever tomogram.
fn of_class(list: &ParticleList, label: Label) -> ParticleList {
    let mut own = list.clone();
    own.particles.retain(|particle| particle.label == label);
    own.particles
        .iter_mut()
        .for_each(|particle| particle.tomogram = None);
    own
}

/// The places of a template that no other template explains better.
fn own_places(matches: &[Matches], index: usize, of: fn(&Matches) -> &Found) -> ParticleList {
    let candidates = |class: &Matches| of(class).candidates(class.radius_voxels);
    let (own, others): (Vec<_>, Vec<_>) = matches
        .iter()
        .map(candidates)
        .enumerate()
        .partition(|(other, _)| *other == index);
    let own: Vec<Candidate> = own.into_iter().flat_map(|(_, places)| places).collect();
    let others: Vec<Vec<Candidate>> = others.into_iter().map(|(_, places)| places).collect();
    let mut is_own = compete(&own, &others).into_iter();
    let mut picks = of(&matches[index]).picks.clone();
    picks.particles.retain(|_| is_own.next().unwrap_or(true));
    picks
}

/// Scores of a class in the second tomogram, with the threshold that is best in the first.
fn class_scores(
    class: &Matches,
    [truth, test_truth]: [&ParticleList; 2],
    picks: &ParticleList,
    test_picks: &ParticleList,
) -> deepfinder_eval::Result<ClassScores> {
    let params = EvaluateParams::new(Mode::one_to_one(class.radius_voxels));
    let own = of_class(truth, class.label);
    let swept = sweep(&own, picks, &params, SweepBy::Score, THRESHOLDS)?;
    let threshold = swept.best.map_or(f64::INFINITY, |best| best.threshold);
    let mut kept = test_picks.clone();
    kept.particles
        .retain(|pick| pick.score.is_some_and(|score| f64::from(score) >= threshold));
    let found = evaluate(&of_class(test_truth, class.label), &kept, &params)?
        .pooled
        .micro;
    Ok(ClassScores {
        precision: found.precision,
        recall: found.recall,
        f1: found.f1,
    })
}

#[cfg(test)]
mod tests {
    use deepfinder_core::Particle;

    use super::*;

    #[test]
    fn a_place_counts_for_the_template_that_it_lies_most_deviations_above() {
        let found = |label, places: &[(f64, f32)], standard_deviation| Found {
            picks: places
                .iter()
                .map(|(x, score)| Particle {
                    score: Some(*score),
                    ..Particle::new([*x, 0.0, 0.0], label)
                })
                .collect::<Vec<_>>()
                .into(),
            spread: Spread {
                mean: 0.1,
                standard_deviation,
            },
        };
        let matches = |label, places: &[(f64, f32)], standard_deviation| Matches {
            label,
            radius_voxels: 5.0,
            validation: found(label, &[], 1.0),
            test: found(label, places, standard_deviation),
        };
        // At 0 the second template's score is lower, but it lies further above what noise gives it.
        let both = [
            matches(1, &[(0.0, 0.6), (30.0, 0.5)], 0.1),
            matches(2, &[(2.0, 0.5), (31.0, 0.2)], 0.05),
        ];
        let left = |index| -> Vec<f64> {
            let places = own_places(&both, index, |class| &class.test);
            places.iter().map(|pick| pick.position[0]).collect()
        };
        assert_eq!((left(0), left(1)), (vec![30.0], vec![2.0]));
    }
}
