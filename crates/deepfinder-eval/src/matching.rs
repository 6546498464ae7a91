use deepfinder_core::Particle;
use kiddo::{ImmutableKdTree, SquaredEuclidean};
use serde::Serialize;

use crate::assignment::{Candidate, optimal};
use crate::{Radius, Result};

/// How one-to-one matches are chosen where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assignment {
    /// As many matches as there can be, and of those the least total distance.
    #[default]
    Optimal,
    /// The best pick first, by score, then by size, then as listed; it takes the nearest particle that is left.
    GreedyByScore,
}

/// Whether a pick may match a particle of another class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// Only of the same class.
    Same,
    /// Of any class.
    Any,
}

/// A true particle and its pick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Match {
    /// Place of the particle in the truth.
    pub truth: usize,
    /// Place of the pick in the picks.
    pub pick: usize,
    /// Distance of their centres in voxels.
    pub distance_voxels: f64,
}

/// Matches the particles and picks of one tomogram one to one, within the radius of the particle's class.
///
/// # Errors
/// Where a radius is missing or none.
pub fn match_one_to_one(
    truth: &[Particle],
    picks: &[Particle],
    radius: &Radius,
    classes: Classes,
    assignment: Assignment,
) -> Result<Vec<Match>> {
    radius.check()?;
    let candidates = candidates(truth, picks, &radius.of_each(truth, 1.0)?, Region::Ball);
    let candidates = of_classes(&candidates, truth, picks, classes);
    let matches = assign(&candidates, picks, assignment);
    Ok(matches
        .into_iter()
        .map(|m| Match {
            truth: m.truth,
            pick: m.pick,
            distance_voxels: m.distance,
        })
        .collect())
}

/// Where about a particle a pick may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    /// Within the radius.
    Ball,
    /// Within the radius on each axis.
    Box,
}

/// All pairs that may match, whatever their classes: by true particle, then by pick.
pub(crate) fn candidates(
    truth: &[Particle],
    picks: &[Particle],
    radii: &[f64],
    region: Region,
) -> Vec<Candidate> {
    let places: Vec<[f64; 3]> = picks.iter().map(|pick| pick.position).collect();
    let tree = match ImmutableKdTree::<f64, 3>::new_from_slice(&places) {
        Ok(tree) if !places.is_empty() => tree,
        _ => return Vec::new(),
    };
    let mut candidates = Vec::new();
    for (i, (particle, &radius)) in truth.iter().zip(radii).enumerate() {
        let reach = match region {
            Region::Ball => radius,
            Region::Box => radius * 3f64.sqrt(),
        } * (1.0 + 1e-9);
        let near = tree
            .query(&particle.position)
            .within::<SquaredEuclidean<f64>>(reach * reach)
            .unsorted()
            .execute();
        let first = candidates.len();
        candidates.extend(near.into_iter().filter_map(|found| {
            let pick = found.item as usize;
            let distance = particle.distance(&picks[pick]);
            let inside = match region {
                Region::Ball => distance <= radius,
                Region::Box => {
                    (0..3).all(|axis| (particle.position[axis] - places[pick][axis]).abs() <= radius)
                }
            };
            inside.then_some(Candidate {
                truth: i,
                pick,
                distance,
            })
        }));
        candidates[first..].sort_unstable_by_key(|candidate| candidate.pick);
    }
    candidates
}

pub(crate) fn of_classes(
    candidates: &[Candidate],
    truth: &[Particle],
    picks: &[Particle],
    classes: Classes,
) -> Vec<Candidate> {
    let fits = |c: &&Candidate| classes == Classes::Any || truth[c.truth].label == picks[c.pick].label;
    candidates.iter().filter(fits).copied().collect()
}

pub(crate) fn assign(candidates: &[Candidate], picks: &[Particle], assignment: Assignment) -> Vec<Candidate> {
    match assignment {
        Assignment::Optimal => optimal(candidates),
        Assignment::GreedyByScore => greedy(candidates, picks),
    }
}

fn greedy(candidates: &[Candidate], picks: &[Particle]) -> Vec<Candidate> {
    let score = |pick: usize| picks[pick].score.unwrap_or(f32::NEG_INFINITY);
    let mut best_first = candidates.to_vec();
    best_first.sort_by(|a, b| {
        score(b.pick)
            .total_cmp(&score(a.pick))
            .then(picks[b.pick].size_voxels.cmp(&picks[a.pick].size_voxels))
            .then(a.pick.cmp(&b.pick))
            .then(a.distance.total_cmp(&b.distance))
    });
    let mut truth_taken = std::collections::HashSet::new();
    let mut pick_taken = std::collections::HashSet::new();
    best_first.retain(|candidate| {
        let free = !truth_taken.contains(&candidate.truth) && !pick_taken.contains(&candidate.pick);
        if free {
            truth_taken.insert(candidate.truth);
            pick_taken.insert(candidate.pick);
        }
        free
    });
    best_first.sort_unstable_by_key(|candidate| candidate.truth);
    best_first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, label: u8, score: f32) -> Particle {
        let mut particle = Particle::new([x, 0.0, 0.0], label);
        particle.score = Some(score);
        particle
    }

    fn pairs(assignment: Assignment, classes: Classes) -> Vec<(usize, usize)> {
        let truth = [at(0.0, 1, 0.0), at(4.0, 1, 0.0)];
        let picks = [at(2.5, 1, 0.9), at(6.0, 1, 0.5), at(0.5, 2, 0.4)];
        match_one_to_one(&truth, &picks, &Radius::Same(3.0), classes, assignment)
            .unwrap()
            .iter()
            .map(|found| (found.truth, found.pick))
            .collect()
    }

    #[test]
    fn the_best_pick_may_take_what_two_could_share() {
        assert_eq!(pairs(Assignment::Optimal, Classes::Same), [(0, 0), (1, 1)]);
        assert_eq!(pairs(Assignment::GreedyByScore, Classes::Same), [(1, 0)]);
        assert_eq!(pairs(Assignment::Optimal, Classes::Any), [(0, 2), (1, 0)]);
    }

    #[test]
    fn the_radius_is_inclusive_and_of_the_true_class() {
        let truth = [at(0.0, 1, 0.0), at(20.0, 2, 0.0)];
        let picks = [at(3.0, 1, 0.9), at(23.0, 2, 0.5)];
        let matched = |radius: &Radius| {
            match_one_to_one(&truth, &picks, radius, Classes::Same, Assignment::Optimal)
                .map(|found| found.len())
        };
        assert_eq!(matched(&3.0.into()).unwrap(), 2);
        assert_eq!(matched(&2.999.into()).unwrap(), 0);
        assert_eq!(
            matched(&Radius::PerClass([(1, 3.0), (2, 1.0)].into())).unwrap(),
            1
        );
        let error = matched(&Radius::PerClass([(1, 3.0)].into())).unwrap_err();
        assert!(error.to_string().starts_with("no radius was given for class 2"));
        assert!(matched(&f64::NAN.into()).is_err());
    }
}
