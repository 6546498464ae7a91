use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A true particle and a pick that may be matched, by their places in their lists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) truth: usize,
    pub(crate) pick: usize,
    pub(crate) distance: f64,
}

/// As many one-to-one matches as there can be, and of all such sets one with the least total distance; by truth.
///
/// Particles that share no candidates don't influence each other: each connected component is solved by itself.
pub(crate) fn optimal(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut matches: Vec<Candidate> = components(candidates)
        .iter()
        .flat_map(|component| solve(component))
        .collect();
    matches.sort_unstable_by_key(|found| found.truth);
    matches
}

fn components(candidates: &[Candidate]) -> Vec<Vec<Candidate>> {
    let mut of_truth: BTreeMap<usize, Vec<Candidate>> = BTreeMap::new();
    let mut of_pick: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &candidate in candidates {
        of_truth.entry(candidate.truth).or_default().push(candidate);
        of_pick.entry(candidate.pick).or_default().push(candidate.truth);
    }
    let mut components = Vec::new();
    while let Some((&seed, _)) = of_truth.first_key_value() {
        let mut component = Vec::new();
        let mut queue = vec![seed];
        while let Some(truth) = queue.pop() {
            for candidate in of_truth.remove(&truth).unwrap_or_default() {
                queue.extend(of_pick.remove(&candidate.pick).unwrap_or_default());
                component.push(candidate);
            }
        }
        components.push(component);
    }
    components
}

/// A bipartite graph with what is matched so far.
struct Graph {
    /// Of each true particle its picks and their distances.
    edges: Vec<Vec<(usize, f64)>>,
    pick_of: Vec<Option<usize>>,
    truth_of: Vec<Option<usize>>,
    /// Potentials that keep reduced costs from being negative (Johnson).
    truth_potential: Vec<f64>,
    pick_potential: Vec<f64>,
}

/// Successive shortest augmenting paths: after each the matching is the cheapest of its size (Jewell 1958).
fn solve(component: &[Candidate]) -> Vec<Candidate> {
    if let [only] = component {
        return vec![*only];
    }
    let numbered = |key: fn(&Candidate) -> usize| {
        let mut keys: Vec<usize> = component.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    let (truth, picks) = (numbered(|c| c.truth), numbered(|c| c.pick));
    let mut edges = vec![Vec::new(); truth.len()];
    for candidate in component {
        let [i, j] = [
            truth.partition_point(|&t| t < candidate.truth),
            picks.partition_point(|&p| p < candidate.pick),
        ];
        edges[i].push((j, candidate.distance));
    }
    let mut graph = Graph {
        edges,
        pick_of: vec![None; truth.len()],
        truth_of: vec![None; picks.len()],
        truth_potential: vec![0.0; truth.len()],
        pick_potential: vec![0.0; picks.len()],
    };
    while graph.augment() {}
    let matched = graph
        .pick_of
        .iter()
        .enumerate()
        .filter_map(|(i, pick)| pick.map(|j| (i, j)));
    matched
        .map(|(i, j)| {
            let distance = graph.edges[i]
                .iter()
                .find(|edge| edge.0 == j)
                .map_or(0.0, |edge| edge.1);
            Candidate {
                truth: truth[i],
                pick: picks[j],
                distance,
            }
        })
        .collect()
}

impl Graph {
    /// Adds one match along the cheapest alternating path; false where there is none.
    fn augment(&mut self) -> bool {
        let mut to_truth = vec![f64::INFINITY; self.edges.len()];
        let mut to_pick = vec![f64::INFINITY; self.truth_of.len()];
        let mut came_from = vec![0; self.truth_of.len()];
        // Costs are not negative, so the order of their bits is that of the numbers.
        let mut queue = BinaryHeap::new();
        for (i, pick) in self.pick_of.iter().enumerate() {
            if pick.is_none() {
                to_truth[i] = 0.0;
                queue.push(Reverse((0_u64, i)));
            }
        }
        while let Some(Reverse((bits, i))) = queue.pop() {
            if f64::from_bits(bits) > to_truth[i] {
                continue;
            }
            for &(j, distance) in &self.edges[i] {
                if self.pick_of[i] == Some(j) {
                    continue;
                }
                let reduced = (distance + self.truth_potential[i] - self.pick_potential[j]).max(0.0);
                let cost = to_truth[i] + reduced;
                if cost < to_pick[j] {
                    to_pick[j] = cost;
                    came_from[j] = i;
                    // A matched pick leads back to its particle at a reduced cost of 0.
                    if let Some(next) = self.truth_of[j] {
                        to_truth[next] = cost;
                        queue.push(Reverse((cost.to_bits(), next)));
                    }
                }
            }
        }
        for (potential, cost) in self.truth_potential.iter_mut().zip(&to_truth) {
            *potential += if cost.is_finite() { *cost } else { 0.0 };
        }
        for (potential, cost) in self.pick_potential.iter_mut().zip(&to_pick) {
            *potential += if cost.is_finite() { *cost } else { 0.0 };
        }
        let free = (0..self.truth_of.len()).filter(|&j| self.truth_of[j].is_none() && to_pick[j].is_finite());
        let Some(end) = free.min_by(|&a, &b| self.pick_potential[a].total_cmp(&self.pick_potential[b]))
        else {
            return false;
        };
        let mut pick = Some(end);
        while let Some(j) = pick {
            let i = came_from[j];
            self.truth_of[j] = Some(i);
            pick = self.pick_of[i].replace(j);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The best of all sets of matches: most, then least distance.
    fn brute_force(candidates: &[Candidate], truth: &mut Vec<usize>, picks: &mut Vec<usize>) -> (usize, f64) {
        let Some((first, rest)) = candidates.split_first() else {
            return (0, 0.0);
        };
        let mut best = brute_force(rest, truth, picks);
        if !truth.contains(&first.truth) && !picks.contains(&first.pick) {
            truth.push(first.truth);
            picks.push(first.pick);
            let (matches, distance) = brute_force(rest, truth, picks);
            let with = (matches + 1, distance + first.distance);
            if with.0 > best.0 || (with.0 == best.0 && with.1 < best.1) {
                best = with;
            }
            truth.pop();
            picks.pop();
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_set_of_matches_is_better(
            edges in prop::collection::btree_map((0..6usize, 0..6usize), 0..9u8, 0..15),
        ) {
            let candidates: Vec<Candidate> = edges
                .iter()
                .map(|(&(truth, pick), &distance)| Candidate { truth, pick, distance: f64::from(distance) * 0.7 })
                .collect();
            let matches = optimal(&candidates);
            for (i, a) in matches.iter().enumerate() {
                prop_assert!(candidates.contains(a));
                prop_assert!(matches[..i].iter().all(|b| a.truth != b.truth && a.pick != b.pick));
            }
            let (most, least) = brute_force(&candidates, &mut vec![], &mut vec![]);
            prop_assert_eq!(matches.len(), most);
            let total: f64 = matches.iter().map(|found| found.distance).sum();
            prop_assert!((total - least).abs() < 1e-9, "{} {}", total, least);
        }
    }
}
