use deepfinder_core::{Label, ParticleList};
use deepfinder_eval::{EvaluateParams, Mode, SweepBy, evaluate, sweep};
use deepfinder_io::{ReadOptions, read_particles, write_mrc};

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

impl Bench<'_> {
    /// Template matching, each class by itself; a class's threshold is the one with the best F1 on the validation tomogram.
    pub(super) fn template_matching(&mut self, classes: &[ParticleClass]) -> Result<MethodScores> {
        let templates = load_templates(&self.job.size.classes, &crate::StructureOptions::default())?;
        let folder = self.job.folder.join("matching");
        std::fs::create_dir_all(&folder)
            .map_err(|source| PipelineError::file(&folder, "the folder cannot be made", source))?;
        let mut scores = Vec::new();
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
            let radius = radius.map_or(1.0, f64::from);
            let mut lists = Vec::new();
            for split in [Split::Validate, Split::Test] {
                let truth = self.truth(split)?;
                let own: Vec<_> = truth
                    .iter()
                    .filter(|particle| particle.label == label)
                    .cloned()
                    .collect();
                let output = folder.join(format!("{}_{split:?}.xml", class.name).to_lowercase());
                let tomogram = self.data.resolve(&self.tomogram(split)?.file);
                let job = MatchJob {
                    label,
                    step_degrees: self.job.size.match_step_degrees,
                    tilt: Some(self.job.size.microscope.tilt),
                    min_distance: Some(crate::Length::Voxels(radius)),
                    min_score: Some(0.0),
                    top: Some(MATCHES_PER_PARTICLE * own.len().max(1)),
                    ..MatchJob::new(&tomogram, &map, &output)
                };
                let stamp = Stamp::new((job.label, job.step_degrees, job.tilt, job.min_distance, job.top))
                    .file(&tomogram)
                    .file(&map);
                if !self.stamps.is_current(&output, &stamp) {
                    match_tomogram(&job, self.progress)?;
                    self.stamps.record(&output, &stamp)?;
                }
                let mut picks = read_particles(&output, &ReadOptions::default())?;
                picks.particles.iter_mut().for_each(|pick| pick.tomogram = None);
                let mut own = ParticleList::from(own);
                own.particles
                    .iter_mut()
                    .for_each(|particle| particle.tomogram = None);
                lists.push((own, picks));
            }
            let params = EvaluateParams::new(Mode::one_to_one(radius));
            let [(truth, picks), (test_truth, test_picks)] = lists.as_slice() else {
                return Err(PipelineError::input("there are two tomograms to match"));
            };
            let swept = sweep(truth, picks, &params, SweepBy::Score, THRESHOLDS).on(&folder)?;
            let threshold = swept.best.map_or(f64::INFINITY, |best| best.threshold);
            let mut kept = test_picks.clone();
            kept.particles
                .retain(|pick| pick.score.is_some_and(|score| f64::from(score) >= threshold));
            let found = evaluate(test_truth, &kept, &params).on(&folder)?.pooled.micro;
            scores.push(Some(ClassScores {
                precision: found.precision,
                recall: found.recall,
                f1: found.f1,
            }));
        }
        Ok(MethodScores {
            name: "template matching".to_owned(),
            classes: scores,
        })
    }
}
