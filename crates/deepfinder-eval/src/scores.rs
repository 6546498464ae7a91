use deepfinder_core::{BACKGROUND, Label};
use serde::Serialize;

/// Right and wrong picks, and particles missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Right picks.
    pub true_positives: u64,
    /// Wrong picks.
    pub false_positives: u64,
    /// True particles that were not found.
    pub false_negatives: u64,
}

impl Counts {
    /// Part of the picks that is right; 0 where there is none.
    pub fn precision(self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Part of the particles that was found; 0 where there is none.
    pub fn recall(self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Harmonic mean of precision and recall in which recall weighs `beta` times as much (van Rijsbergen 1979).
    pub fn f_beta(self, beta: f64) -> f64 {
        let squared = beta * beta;
        let [tp, fp, missed] =
            [self.true_positives, self.false_positives, self.false_negatives].map(|count| count as f64);
        let whole = (1.0 + squared) * tp + squared * missed + fp;
        if whole > 0.0 {
            (1.0 + squared) * tp / whole
        } else {
            0.0
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
    }
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole > 0 {
        part as f64 / whole as f64
    } else {
        0.0
    }
}

/// Counts and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// Right picks.
    pub true_positives: u64,
    /// Wrong picks.
    pub false_positives: u64,
    /// True particles that were not found.
    pub false_negatives: u64,
    /// Part of the picks that is right.
    pub precision: f64,
    /// Part of the particles that was found.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// The same with the evaluation's β.
    pub f_beta: f64,
    /// Mean distance of right picks from their particles in voxels; `None` where there is no right pick.
    pub mean_distance_voxels: Option<f64>,
    /// Root of the mean square of those distances.
    pub rms_distance_voxels: Option<f64>,
}

/// The scores of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassRow {
    /// The class.
    pub label: Label,
    /// True particles of it.
    pub truth: u64,
    /// Picks of it.
    pub picks: u64,
    /// How they agree.
    #[serde(flatten)]
    pub scores: Scores,
}

/// Unweighted means over classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Averages {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
    /// Mean Fβ.
    pub f_beta: f64,
}

impl Averages {
    pub(crate) fn of(classes: &[ClassRow]) -> Self {
        let mean = |value: fn(&Scores) -> f64| {
            classes.iter().map(|row| value(&row.scores)).sum::<f64>() / classes.len().max(1) as f64
        };
        Self {
            precision: mean(|scores| scores.precision),
            recall: mean(|scores| scores.recall),
            f1: mean(|scores| scores.f1),
            f_beta: mean(|scores| scores.f_beta),
        }
    }
}

/// How one or several tomograms' picks agree with the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    /// Each class that the truth or the picks hold, by label.
    pub classes: Vec<ClassRow>,
    /// All classes' counts together.
    pub micro: Scores,
    /// Mean over the classes.
    #[serde(rename = "macro")]
    pub macro_average: Averages,
    /// Mean Fβ over the classes by the challenge's weights; CZII mode only.
    pub weighted_f_beta: Option<f64>,
    /// The same whatever the class: was there a particle, and was it found?
    pub localisation: Scores,
    /// Which class was taken for which.
    pub confusion: ConfusionMatrix,
}

/// Which class was taken for which; label 0 stands for no particle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfusionMatrix {
    /// Labels of the rows and columns, from 0.
    pub labels: Vec<Label>,
    /// `counts[i][j]`: particles of class `labels[i]` that were picked as `labels[j]`.
    ///
    /// Row 0 holds picks where there is no particle, column 0 particles that were missed.
    pub counts: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// Particles of class `truth` that were picked as `pick`.
    pub fn count(&self, truth: Label, pick: Label) -> u64 {
        let place = |label: Label| self.labels.iter().position(|&known| known == label);
        match (place(truth), place(pick)) {
            (Some(i), Some(j)) => self.counts[i][j],
            _ => 0,
        }
    }

    pub(crate) fn from_fn(
        classes: impl IntoIterator<Item = Label>,
        count: impl Fn(Label, Label) -> u64,
    ) -> Self {
        let mut labels = vec![BACKGROUND];
        labels.extend(classes.into_iter().filter(|&label| label != BACKGROUND));
        let counts = labels
            .iter()
            .map(|&truth| labels.iter().map(|&pick| count(truth, pick)).collect())
            .collect();
        Self { labels, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_scores_follow_their_definition() {
        let counts = Counts {
            true_positives: 6,
            false_positives: 2,
            false_negatives: 4,
        };
        let (p, r) = (0.75, 0.6);
        assert_eq!((counts.precision(), counts.recall()), (p, r));
        for beta in [0.5, 1.0, 4.0_f64] {
            let expected = (1.0 + beta * beta) * p * r / (beta * beta * p + r);
            assert!((counts.f_beta(beta) - expected).abs() < 1e-12);
        }
        assert_eq!(Counts::default().f_beta(1.0), 0.0);
    }
}
