/// A place that a template was found at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// `(x, y, z)` in voxels.
    pub position: [f64; 3],
    /// How far its score lies above the mean of all the template's scores, in their standard deviations
    /// ([`crate::MatchReport::deviations`]).
    pub deviations: f64,
    /// How far the particle reaches from there, in voxels.
    pub radius_voxels: f64,
}

/// Which places of the first template are its own, when others were matched with the same tomogram: `true` for those.
///
/// All places are gone through from the best down, in deviations: in noise half their square is what a template adds to
/// the logarithm of the likelihood, whatever its size. A place is lost to one of another template that was kept before, and
/// that lies nearer than the larger of both radii. Of equals the first template's, then the earlier one, goes first.
pub fn compete(own: &[Candidate], others: &[Vec<Candidate>]) -> Vec<bool> {
    let of_others = others
        .iter()
        .zip(1..)
        .flat_map(|(places, template)| places.iter().map(move |place| (template, place)));
    let mut all: Vec<(usize, &Candidate, Option<usize>)> = own
        .iter()
        .enumerate()
        .map(|(index, place)| (0, place, Some(index)))
        .chain(of_others.map(|(template, place)| (template, place, None)))
        .collect();
    all.sort_by(|a, b| b.1.deviations.total_cmp(&a.1.deviations));
    let mut is_own = vec![false; own.len()];
    let mut kept: Vec<(usize, &Candidate)> = Vec::new();
    for (template, place, index) in all {
        let is_lost = kept.iter().any(|(other, better)| {
            let reach = place.radius_voxels.max(better.radius_voxels);
            let squared: f64 = (0..3)
                .map(|axis| (place.position[axis] - better.position[axis]).powi(2))
                .sum();
            *other != template && squared < reach * reach
        });
        if is_lost {
            continue;
        }
        kept.push((template, place));
        if let Some(index) = index {
            is_own[index] = true;
        }
    }
    is_own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, deviations: f64) -> Candidate {
        Candidate {
            position: [x, 0.0, 0.0],
            deviations,
            radius_voxels: 5.0,
        }
    }

    #[test]
    fn a_place_goes_to_the_template_that_explains_it_best() {
        // The second of these is another particle; the third lies beside a place that is lost itself to the first.
        let own = [at(0.0, 20.0), at(30.0, 9.0), at(7.0, 8.0), at(60.0, 7.0)];
        let others = vec![vec![at(31.0, 12.0), at(4.0, 15.0)], vec![at(80.0, 30.0)]];
        assert_eq!(compete(&own, &others), [true, false, true, true]);
        assert_eq!(compete(&own, &[]), [true; 4]);
        // Places of one template are no rivals, and of equals the first template's stands.
        assert_eq!(
            compete(&[at(0.0, 3.0), at(1.0, 2.0)], &[vec![at(1.0, 3.0)]]),
            [true, true]
        );
    }
}
