use std::collections::{BTreeMap, BTreeSet};

use deepfinder_core::{BACKGROUND, Label, Particle};

use crate::assignment::Candidate;
use crate::scores::{Averages, ClassRow, ConfusionMatrix, Counts, Detection, Scores};

/// What is counted in a tomogram before scores are made of it; tomograms are pooled by adding these.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    classes: BTreeMap<Label, ClassTally>,
    localisation: ClassTally,
    /// By true and picked class, 0 for none.
    confusion: BTreeMap<(Label, Label), u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ClassTally {
    truth: u64,
    picks: u64,
    counts: Counts,
    distance_sum: f64,
    squared_distance_sum: f64,
}

impl ClassTally {
    fn found(&mut self, distance: f64) {
        self.counts.true_positives += 1;
        self.distance_sum += distance;
        self.squared_distance_sum += distance * distance;
    }

    fn add(&mut self, other: &Self) {
        self.truth += other.truth;
        self.picks += other.picks;
        self.counts.add(other.counts);
        self.distance_sum += other.distance_sum;
        self.squared_distance_sum += other.squared_distance_sum;
    }

    fn scores(&self, beta: f64) -> Scores {
        let Counts {
            true_positives,
            false_positives,
            false_negatives,
        } = self.counts;
        let mean = |sum: f64| (true_positives > 0).then(|| sum / true_positives as f64);
        Scores {
            true_positives,
            false_positives,
            false_negatives,
            precision: self.counts.precision(),
            recall: self.counts.recall(),
            f1: self.counts.f_beta(1.0),
            f_beta: self.counts.f_beta(beta),
            mean_distance_voxels: mean(self.distance_sum),
            rms_distance_voxels: mean(self.squared_distance_sum).map(f64::sqrt),
        }
    }
}

impl Tally {
    fn listed(truth: &[Particle], picks: &[Particle]) -> Self {
        let mut tally = Self::default();
        for particle in truth {
            tally.classes.entry(particle.label).or_default().truth += 1;
        }
        for pick in picks {
            tally.classes.entry(pick.label).or_default().picks += 1;
        }
        tally.localisation.truth = truth.len() as u64;
        tally.localisation.picks = picks.len() as u64;
        tally
    }

    /// From matches within classes and from matches whatever the class, both one to one.
    pub(crate) fn of_matches(
        truth: &[Particle],
        picks: &[Particle],
        same_class: &[Candidate],
        any_class: &[Candidate],
    ) -> Self {
        let mut tally = Self::listed(truth, picks);
        for found in same_class {
            tally
                .classes
                .entry(truth[found.truth].label)
                .or_default()
                .found(found.distance);
        }
        for class in tally.classes.values_mut() {
            class.counts.false_positives = class.picks - class.counts.true_positives;
            class.counts.false_negatives = class.truth - class.counts.true_positives;
        }
        let mut picked_as = vec![BACKGROUND; truth.len()];
        let mut was = vec![BACKGROUND; picks.len()];
        for found in any_class {
            tally.localisation.found(found.distance);
            picked_as[found.truth] = picks[found.pick].label;
            was[found.pick] = truth[found.truth].label;
        }
        let local = &mut tally.localisation;
        local.counts.false_positives = local.picks - local.counts.true_positives;
        local.counts.false_negatives = local.truth - local.counts.true_positives;
        for (particle, label) in truth.iter().zip(picked_as) {
            *tally.confusion.entry((particle.label, label)).or_default() += 1;
        }
        for (pick, _) in picks.iter().zip(was).filter(|(_, label)| *label == BACKGROUND) {
            *tally.confusion.entry((BACKGROUND, pick.label)).or_default() += 1;
        }
        tally
    }

    /// As SHREC counts, from the particle and distance that each pick hits.
    ///
    /// A particle counts once however often it is hit, and is of the class of its first hit, background where there
    /// is none. So a wrong class's false positives are particles of another class; picks beside all particles lower
    /// the precision of localisation alone.
    pub(crate) fn of_hits(truth: &[Particle], picks: &[Particle], hits: &[Option<(usize, f64)>]) -> Self {
        let mut tally = Self::listed(truth, picks);
        let mut first: Vec<Option<(Label, f64)>> = vec![None; truth.len()];
        for (pick, hit) in picks.iter().zip(hits) {
            match hit {
                Some((particle, distance)) => {
                    first[*particle].get_or_insert((pick.label, *distance));
                }
                None => *tally.confusion.entry((BACKGROUND, pick.label)).or_default() += 1,
            }
        }
        for (particle, hit) in truth.iter().zip(first) {
            let picked_as = hit.map_or(BACKGROUND, |(label, _)| label);
            *tally.confusion.entry((particle.label, picked_as)).or_default() += 1;
            if let Some((label, distance)) = hit {
                tally.localisation.found(distance);
                let class = tally.classes.entry(label).or_default();
                if label == particle.label {
                    class.found(distance);
                } else {
                    class.counts.false_positives += 1;
                }
            }
            if picked_as != particle.label {
                tally
                    .classes
                    .entry(particle.label)
                    .or_default()
                    .counts
                    .false_negatives += 1;
            }
        }
        let local = &mut tally.localisation;
        local.counts.false_positives = local.picks - local.counts.true_positives;
        local.counts.false_negatives = local.truth - local.counts.true_positives;
        tally
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (label, class) in &other.classes {
            self.classes.entry(*label).or_default().add(class);
        }
        self.localisation.add(&other.localisation);
        for (pair, count) in &other.confusion {
            *self.confusion.entry(*pair).or_default() += count;
        }
    }

    pub(crate) fn detection(&self, beta: f64, weights: Option<&BTreeMap<Label, f64>>) -> Detection {
        let classes: Vec<ClassRow> = self
            .classes
            .iter()
            .map(|(&label, class)| ClassRow {
                label,
                truth: class.truth,
                picks: class.picks,
                scores: class.scores(beta),
            })
            .collect();
        let mut all = ClassTally::default();
        for class in self.classes.values() {
            all.add(class);
        }
        let weighted_f_beta = weights.map(|weights| {
            let weight = |row: &ClassRow| weights.get(&row.label).copied().unwrap_or(1.0);
            let total: f64 = classes.iter().map(weight).sum();
            let sum: f64 = classes.iter().map(|row| weight(row) * row.scores.f_beta).sum();
            if total > 0.0 { sum / total } else { 0.0 }
        });
        let labels: BTreeSet<Label> = self.classes.keys().copied().collect();
        Detection {
            micro: all.scores(beta),
            macro_average: Averages::of(&classes),
            weighted_f_beta,
            localisation: self.localisation.scores(beta),
            confusion: ConfusionMatrix::from_fn(labels, |truth, pick| {
                self.confusion.get(&(truth, pick)).copied().unwrap_or(0)
            }),
            classes,
        }
    }
}
