use std::collections::{BTreeMap, BTreeSet};

use deepfinder_core::{Label, ParticleList};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{EvalError, Result};
use crate::evaluate::{EvaluateParams, evaluate};
use crate::scores::{Averages, ClassRow, Scores};

/// What a sweep's threshold is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SweepBy {
    /// The picks' scores.
    Score,
    /// The clusters' sizes in voxels.
    Size,
}

/// How picks agree with the truth at every threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sweep {
    /// What the threshold is on.
    pub by: SweepBy,
    /// The β of `f_beta`.
    pub beta: f64,
    /// By ascending threshold; the first keeps every pick.
    pub points: Vec<SweepPoint>,
    /// The best threshold for all classes together, by the micro Fβ; `None` without picks.
    pub best: Option<Best>,
    /// The best threshold of each class that has picks, by its Fβ.
    pub best_of_class: BTreeMap<Label, Best>,
}

/// The scores of the picks that reach a threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepPoint {
    /// Picks with at least so much stay.
    pub threshold: f64,
    /// All classes' counts together.
    pub micro: Scores,
    /// Mean over the classes.
    #[serde(rename = "macro")]
    pub macro_average: Averages,
    /// Whatever the class.
    pub localisation: Scores,
    /// Each class.
    pub classes: Vec<ClassRow>,
}

/// A threshold and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Best {
    /// Picks with at least so much stay.
    pub threshold: f64,
    /// Fβ there.
    pub f_beta: f64,
}

impl Sweep {
    /// The curve of one class, or of all together: `(threshold, scores)`, for a precision-recall or an F1 plot.
    pub fn curve(&self, label: Option<Label>) -> Vec<(f64, Scores)> {
        let of_class = |point: &SweepPoint, label| {
            point
                .classes
                .iter()
                .find(|row| row.label == label)
                .map(|row| row.scores)
        };
        self.points
            .iter()
            .filter_map(|point| {
                let scores = label.map_or(Some(point.micro), |label| of_class(point, label));
                Some((point.threshold, scores?))
            })
            .collect()
    }
}

/// Evaluates the picks that reach each threshold.
///
/// Thresholds are the values that picks have: all of a class's where these are at most `points_per_class`, otherwise
/// that many of them, evenly spaced by rank.
///
/// # Errors
/// As [`evaluate`], and [`EvalError::Missing`] where a pick has no score or size to sweep over.
pub fn sweep(
    truth: &ParticleList,
    picks: &ParticleList,
    params: &EvaluateParams,
    by: SweepBy,
    points_per_class: usize,
) -> Result<Sweep> {
    let values = values(picks, by)?;
    let points = thresholds(picks, &values, points_per_class)
        .into_par_iter()
        .map(|threshold| {
            let reaching = picks
                .iter()
                .zip(&values)
                .filter(|(_, value)| **value >= threshold);
            let kept = ParticleList::from(reaching.map(|(pick, _)| pick.clone()).collect::<Vec<_>>());
            let pooled = evaluate(truth, &kept, params)?.pooled;
            Ok(SweepPoint {
                threshold,
                micro: pooled.micro,
                macro_average: pooled.macro_average,
                localisation: pooled.localisation,
                classes: pooled.classes,
            })
        })
        .collect::<Result<Vec<SweepPoint>>>()?;
    let mut sweep = Sweep {
        by,
        beta: params.beta,
        points,
        best: None,
        best_of_class: BTreeMap::new(),
    };
    sweep.best = best(&sweep.curve(None));
    let labels: BTreeSet<Label> = picks.iter().map(|pick| pick.label).collect();
    sweep.best_of_class = labels
        .into_iter()
        .filter_map(|label| Some((label, best(&sweep.curve(Some(label)))?)))
        .collect();
    Ok(sweep)
}

fn values(picks: &ParticleList, by: SweepBy) -> Result<Vec<f64>> {
    let value_of = |(index, pick): (usize, &deepfinder_core::Particle)| {
        let (value, what) = match by {
            SweepBy::Score => (pick.score.filter(|score| !score.is_nan()).map(f64::from), "score"),
            SweepBy::Size => (pick.size_voxels.map(|size| size as f64), "size"),
        };
        value.ok_or(EvalError::Missing {
            index,
            label: pick.label,
            what,
        })
    };
    picks.iter().enumerate().map(value_of).collect()
}

fn thresholds(picks: &ParticleList, values: &[f64], points_per_class: usize) -> Vec<f64> {
    let mut by_class: BTreeMap<Label, Vec<f64>> = BTreeMap::new();
    for (pick, &value) in picks.iter().zip(values) {
        by_class.entry(pick.label).or_default().push(value);
    }
    let mut chosen = Vec::new();
    for values in by_class.values_mut() {
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        let points = points_per_class.clamp(1, values.len());
        // The lowest is always among them: it keeps everything.
        chosen.extend((0..points).map(|point| values[point * values.len() / points]));
    }
    chosen.sort_unstable_by(f64::total_cmp);
    chosen.dedup();
    chosen
}

/// The lowest of the thresholds with the highest Fβ.
fn best(curve: &[(f64, Scores)]) -> Option<Best> {
    let mut best: Option<Best> = None;
    for &(threshold, scores) in curve {
        if best.is_none_or(|best| scores.f_beta > best.f_beta) {
            best = Some(Best {
                threshold,
                f_beta: scores.f_beta,
            });
        }
    }
    best
}
