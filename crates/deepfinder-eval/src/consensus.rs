use std::collections::BTreeMap;

use deepfinder_core::{BACKGROUND, Label, Particle, ParticleList};
use serde::Serialize;

use crate::error::Result;
use crate::evaluate::by_tomogram;
use crate::matching::{Assignment, Classes, match_one_to_one};
use crate::radius::Radius;
use crate::scores::ratio;

/// Which of two pickers found a particle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// Both.
    Both,
    /// The first alone.
    OnlyA,
    /// The second alone.
    OnlyB,
}

/// A particle that one or both of two pickers found.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsensusPick {
    /// The particle; found by both it lies midway, and is otherwise the first's where that knows more than a position.
    /// Its score is the confidence.
    pub particle: Particle,
    /// Who found it.
    pub found_by: FoundBy,
    /// How sure it is: 1 where both found it; else the part of its picker's particles of its class that the other confirms.
    pub confidence: f64,
}

/// How two pickers agree on a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConsensusRow {
    /// The class, that of the first picker where they differ; background for all together.
    pub label: Label,
    /// Particles that both found.
    pub both: u64,
    /// Particles of the first alone.
    pub only_a: u64,
    /// Particles of the second alone.
    pub only_b: u64,
    /// Part of the first's particles that the second confirms.
    pub a_confirmed: f64,
    /// Part of the second's particles that the first confirms.
    pub b_confirmed: f64,
    /// Both / either.
    pub agreement: f64,
}

/// What two pickers found together and each alone (DeepFinder paper, Supplementary Note 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Consensus {
    /// The union: by tomogram, then found by both, by the first, by the second, each in the order of its list.
    pub picks: Vec<ConsensusPick>,
    /// Each class, by label.
    pub classes: Vec<ConsensusRow>,
    /// All classes together.
    pub all: ConsensusRow,
}

impl Consensus {
    /// The particles that so found, in order.
    pub fn found_by(&self, found_by: FoundBy) -> impl Iterator<Item = &Particle> {
        let so_found = move |pick: &&ConsensusPick| pick.found_by == found_by;
        self.picks.iter().filter(so_found).map(|pick| &pick.particle)
    }
}

/// Matches two pickers' particles one to one within a radius: as many pairs as there can be, and of those the least
/// total distance. With [`Classes::Same`] only particles of one class are the same.
///
/// # Errors
/// Where a radius is missing or none, or a particle of several tomograms does not say which is its own.
pub fn consensus(a: &ParticleList, b: &ParticleList, radius: &Radius, classes: Classes) -> Result<Consensus> {
    let mut picks = Vec::new();
    for tomogram in by_tomogram(a, b, ["first list", "second list"])? {
        let (of_a, of_b) = (&tomogram.truth, &tomogram.picks);
        let matches = match_one_to_one(of_a, of_b, radius, classes, Assignment::Optimal)?;
        let mut alone = [vec![true; of_a.len()], vec![true; of_b.len()]];
        for found in &matches {
            alone[0][found.truth] = false;
            alone[1][found.pick] = false;
            picks.push((FoundBy::Both, midway(&of_a[found.truth], &of_b[found.pick])));
        }
        for (list, alone, found_by) in [
            (of_a, &alone[0], FoundBy::OnlyA),
            (of_b, &alone[1], FoundBy::OnlyB),
        ] {
            let left = list.iter().zip(alone).filter(|(_, alone)| **alone);
            picks.extend(left.map(|(particle, _)| (found_by, particle.clone())));
        }
    }
    let mut counts: BTreeMap<Label, [u64; 3]> = BTreeMap::new();
    let mut total = [0; 3];
    for (found_by, particle) in &picks {
        counts.entry(particle.label).or_default()[*found_by as usize] += 1;
        total[*found_by as usize] += 1;
    }
    let rows: BTreeMap<Label, ConsensusRow> = counts
        .into_iter()
        .map(|(label, counts)| (label, row(label, counts)))
        .collect();
    let picks = picks
        .into_iter()
        .map(|(found_by, mut particle)| {
            let row = &rows[&particle.label];
            let confidence = match found_by {
                FoundBy::Both => 1.0,
                FoundBy::OnlyA => row.a_confirmed,
                FoundBy::OnlyB => row.b_confirmed,
            };
            particle.score = Some(confidence as f32);
            ConsensusPick {
                particle,
                found_by,
                confidence,
            }
        })
        .collect();
    Ok(Consensus {
        picks,
        classes: rows.into_values().collect(),
        all: row(BACKGROUND, total),
    })
}

fn row(label: Label, [both, only_a, only_b]: [u64; 3]) -> ConsensusRow {
    ConsensusRow {
        label,
        both,
        only_a,
        only_b,
        a_confirmed: ratio(both, both + only_a),
        b_confirmed: ratio(both, both + only_b),
        agreement: ratio(both, both + only_a + only_b),
    }
}

fn midway(a: &Particle, b: &Particle) -> Particle {
    let mut particle = a.clone();
    particle.position = std::array::from_fn(|axis| 0.5 * (a.position[axis] + b.position[axis]));
    particle.rotation = a.rotation.or(b.rotation);
    particle.size_voxels = a.size_voxels.or(b.size_voxels);
    particle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(particles: &[(f64, Label)]) -> ParticleList {
        let particle = |&(x, label): &(f64, Label)| Particle::new([x, 0.0, 0.0], label);
        particles.iter().map(particle).collect::<Vec<_>>().into()
    }

    #[test]
    fn every_particle_is_in_one_part_and_once() {
        let a = list(&[(0.0, 1), (10.0, 1), (20.0, 1), (30.0, 2)]);
        let b = list(&[(1.0, 1), (11.0, 2), (50.0, 1)]);
        let found = consensus(&a, &b, &3.0.into(), Classes::Same).unwrap();
        let at = |found_by| {
            found
                .found_by(found_by)
                .map(|p| p.position[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(at(FoundBy::Both), [0.5]);
        assert_eq!(at(FoundBy::OnlyA), [10.0, 20.0, 30.0]);
        assert_eq!(at(FoundBy::OnlyB), [11.0, 50.0]);
        assert_eq!(found.picks.len(), 6);
        let first = found.classes[0];
        assert_eq!(
            (first.label, first.both, first.only_a, first.only_b),
            (1, 1, 2, 1)
        );
        assert_eq!(
            (first.a_confirmed, first.b_confirmed, first.agreement),
            (1.0 / 3.0, 0.5, 0.25)
        );
        // Class 2 is confirmed by nobody.
        let of = |x: f64| found.picks.iter().find(|p| p.particle.position[0] == x).unwrap();
        assert_eq!(
            (of(0.5).confidence, of(20.0).confidence, of(50.0).confidence),
            (1.0, 1.0 / 3.0, 0.5)
        );
        assert_eq!((of(30.0).confidence, of(30.0).particle.score), (0.0, Some(0.0)));

        let any = consensus(&a, &b, &3.0.into(), Classes::Any).unwrap();
        assert_eq!((any.all.both, any.all.only_a, any.all.only_b), (2, 2, 1));
        // They call it differently; the first's name stays.
        assert_eq!(
            any.found_by(FoundBy::Both).map(|p| p.label).collect::<Vec<_>>(),
            [1, 1]
        );
    }

    #[test]
    fn the_parts_are_those_of_the_paper() {
        // Supplementary Note 1: 1516 shared, 220 of the experts, 356 of DeepFinder: 20.5 % more than the experts had.
        let of = |shift: f64, first: usize, count: usize| {
            list(
                &(first..first + count)
                    .map(|i| (10.0 * i as f64 + shift, 1))
                    .collect::<Vec<_>>(),
            )
        };
        let found = consensus(&of(0.0, 0, 1736), &of(2.0, 220, 1872), &4.0.into(), Classes::Same).unwrap();
        assert_eq!(
            (found.all.both, found.all.only_a, found.all.only_b),
            (1516, 220, 356)
        );
    }

    #[test]
    fn tomograms_are_kept_apart_and_empty_lists_pass() {
        let named = |name: &str, x: f64| {
            let mut particle = Particle::new([x, 0.0, 0.0], 1);
            particle.tomogram = Some(name.into());
            particle
        };
        let a = ParticleList::from(vec![named("a", 0.0), named("b", 5.0)]);
        let b = ParticleList::from(vec![named("b", 0.0)]);
        let found = consensus(&a, &b, &2.0.into(), Classes::Same).unwrap();
        assert_eq!((found.all.both, found.all.only_a, found.all.only_b), (0, 2, 1));
        let error = consensus(&a, &list(&[(0.0, 1)]), &2.0.into(), Classes::Same).unwrap_err();
        assert!(error.to_string().contains("second list"), "{error}");
        let nothing = consensus(&list(&[]), &list(&[]), &2.0.into(), Classes::Same).unwrap();
        assert!(nothing.picks.is_empty() && nothing.all.agreement == 0.0);
    }
}
