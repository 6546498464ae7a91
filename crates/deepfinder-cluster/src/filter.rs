use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deepfinder_core::{BACKGROUND, Label, LabelMap, NoProgress, Particle, ParticleList};

use crate::error::{ClusterError, Result, check_positive};
use crate::foreground::Foreground;
use crate::point_grid::PointGrid;

/// What particles must be to stay. The default keeps all.
///
/// Thresholds and places are looked at first, then distances, then the number per class. Distances and numbers hold
/// within each tomogram of a list.
#[derive(Debug, Clone, Default)]
pub struct FilterParams<'a> {
    /// Sizes in voxels that stay, for all classes without a range of their own.
    pub size: SizeRange,
    /// Sizes in voxels that stay, by class.
    pub size_of_class: BTreeMap<Label, SizeRange>,
    /// The lowest score that stays, for all classes without one of their own.
    pub min_score: Option<f32>,
    /// The lowest score that stays, by class.
    pub min_score_of_class: BTreeMap<Label, f32>,
    /// Of two particles of a class this near, in voxels, the better one stays: by score, then by size, then the first.
    pub min_distance_within_class: Option<f64>,
    /// The same for two particles of different classes.
    pub min_distance_across_classes: Option<f64>,
    /// Particles stay where this map is not 0; outside it none does.
    pub mask: Option<&'a LabelMap>,
    /// Particles stay at the right distance from a membrane (DeepFinder paper, Extended Data Fig. 8c).
    pub membrane: Option<MembraneDistance<'a>>,
    /// So many of each class stay: the best by score, then by size, then the first.
    pub top_n: Option<usize>,
}

/// Cluster sizes in voxels, both ends included. Default: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
}

impl Default for SizeRange {
    fn default() -> Self {
        Self {
            min: 0,
            max: u64::MAX,
        }
    }
}

/// Distances from a particle's position to the nearest voxel of a class, such as a membrane; both ends included.
#[derive(Debug, Clone, Copy)]
pub struct MembraneDistance<'a> {
    /// The map that holds the membrane, on the grid that positions are counted on.
    pub labels: &'a LabelMap,
    /// The membrane's label in it.
    pub label: Label,
    /// The shortest distance that stays, in voxels.
    pub min_voxels: f64,
    /// The longest distance that stays, in voxels; `None`: any.
    pub max_voxels: Option<f64>,
}

impl FilterParams<'_> {
    /// Keeps clusters of at least so many voxels.
    pub fn min_size(voxels: u64) -> Self {
        let size = SizeRange {
            min: voxels,
            max: u64::MAX,
        };
        Self {
            size,
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        for (name, distance) in [
            ("min_distance_within_class", self.min_distance_within_class),
            ("min_distance_across_classes", self.min_distance_across_classes),
        ] {
            distance.map_or(Ok(()), |distance| check_positive(name, distance))?;
        }
        if let Some(membrane) = &self.membrane {
            let limits = [membrane.min_voxels, membrane.max_voxels.unwrap_or(0.0)];
            if !limits.iter().all(|limit| limit.is_finite() && *limit >= 0.0) {
                return Err(ClusterError::Parameter {
                    name: "membrane",
                    expected: "finite distances, not negative",
                    found: format!("{} to {:?}", membrane.min_voxels, membrane.max_voxels),
                });
            }
        }
        Ok(())
    }

    fn size_fits(&self, index: usize, particle: &Particle) -> Result<bool> {
        let range = self.size_of_class.get(&particle.label).unwrap_or(&self.size);
        if *range == SizeRange::default() {
            return Ok(true);
        }
        let size = particle
            .size_voxels
            .ok_or_else(|| missing(index, particle, "size"))?;
        Ok((range.min..=range.max).contains(&size))
    }

    fn score_fits(&self, index: usize, particle: &Particle) -> Result<bool> {
        let threshold = self
            .min_score_of_class
            .get(&particle.label)
            .copied()
            .or(self.min_score);
        let Some(threshold) = threshold else {
            return Ok(true);
        };
        let score = particle.score.ok_or_else(|| missing(index, particle, "score"))?;
        Ok(score >= threshold)
    }

    fn place_fits(&self, particle: &Particle) -> bool {
        self.mask.is_none_or(|mask| {
            mask.voxel_at(particle.position)
                .is_some_and(|voxel| mask.voxels[voxel] != BACKGROUND)
        })
    }
}

/// The particles that fit, in the order in which they came.
///
/// # Errors
/// [`ClusterError::Missing`] where a size or score decides and a particle has none; [`ClusterError::Parameter`] for a
/// distance that is none.
pub fn filter(mut list: ParticleList, params: &FilterParams<'_>) -> Result<ParticleList> {
    params.check()?;
    let membrane = params.membrane.map(Membrane::new).transpose()?;
    let mut fitting = Vec::new();
    for (index, particle) in std::mem::take(&mut list.particles).into_iter().enumerate() {
        if params.size_fits(index, &particle)?
            && params.score_fits(index, &particle)?
            && params.place_fits(&particle)
            && membrane.as_ref().is_none_or(|membrane| membrane.fits(&particle))
        {
            fitting.push(particle);
        }
    }

    let mut best_first: Vec<usize> = (0..fitting.len()).collect();
    best_first.sort_by(|&a, &b| rank(&fitting[b], &fitting[a]));
    let mut stays = vec![false; fitting.len()];
    let mut tomograms: HashMap<Option<Arc<str>>, Kept> = HashMap::new();
    for index in best_first {
        let tomogram = fitting[index].tomogram.clone();
        let kept = tomograms.entry(tomogram).or_insert_with(|| Kept::new(params));
        stays[index] = kept.take(&fitting[index], params.top_n);
    }
    let mut stays = stays.into_iter();
    fitting.retain(|_| stays.next() == Some(true));
    list.particles = fitting;
    Ok(list)
}

fn missing(index: usize, particle: &Particle, what: &'static str) -> ClusterError {
    ClusterError::Missing {
        index,
        label: particle.label,
        what,
    }
}

/// The better particle is the greater one; one without a score or size is less than any with.
fn rank(a: &Particle, b: &Particle) -> std::cmp::Ordering {
    let score = |particle: &Particle| particle.score.unwrap_or(f32::NEG_INFINITY);
    score(a)
        .total_cmp(&score(b))
        .then(a.size_voxels.cmp(&b.size_voxels))
}

/// What stays of one tomogram.
struct Kept {
    within: Option<PointGrid>,
    across: Option<PointGrid>,
    of_class: [usize; 256],
}

impl Kept {
    fn new(params: &FilterParams<'_>) -> Self {
        Self {
            within: params.min_distance_within_class.map(PointGrid::new),
            across: params.min_distance_across_classes.map(PointGrid::new),
            of_class: [0; 256],
        }
    }

    /// Whether a particle stays beside those taken before it.
    ///
    /// One that exceeds the number for its class still keeps worse ones away: distances are looked at first.
    fn take(&mut self, particle: &Particle, top_n: Option<usize>) -> bool {
        let label = particle.label;
        let near = |grid: &Option<PointGrid>, same: bool| {
            grid.as_ref().is_some_and(|grid| {
                grid.any_within(particle.position, |other, _| {
                    (other == usize::from(label)) == same
                })
            })
        };
        if near(&self.within, true) || near(&self.across, false) {
            return false;
        }
        for grid in [&mut self.within, &mut self.across].into_iter().flatten() {
            grid.insert(particle.position, usize::from(label));
        }
        let taken = &mut self.of_class[usize::from(label)];
        *taken += 1;
        top_n.is_none_or(|n| *taken <= n)
    }
}

struct Membrane {
    voxels: Foreground,
    min: f64,
    max: Option<f64>,
}

impl Membrane {
    fn new(distance: MembraneDistance<'_>) -> Result<Self> {
        Ok(Self {
            voxels: Foreground::read(distance.labels, &NoProgress)?.only(distance.label),
            min: distance.min_voxels,
            max: distance.max_voxels,
        })
    }

    fn fits(&self, particle: &Particle) -> bool {
        let [x, y, z] = particle.position;
        let farthest = self.max.unwrap_or(self.min);
        let nearest = self.voxels.nearest_squared([z, y, x], farthest.max(self.min));
        match nearest.map(f64::sqrt) {
            Some(distance) => distance >= self.min && self.max.is_none_or(|max| distance <= max),
            None => self.max.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::Volume;
    use ndarray::Array3;

    fn particle(position: [f64; 3], label: Label, size: u64, score: f32) -> Particle {
        let mut particle = Particle::new(position, label);
        particle.size_voxels = Some(size);
        particle.score = Some(score);
        particle
    }

    fn check(particles: &[Particle], params: &FilterParams<'_>, expected: &[usize]) {
        let found = filter(particles.to_vec().into(), params).unwrap();
        let expected: Vec<Particle> = expected.iter().map(|&i| particles[i].clone()).collect();
        assert_eq!(found.particles, expected);
    }

    fn row() -> Vec<Particle> {
        vec![
            particle([1.0, 2.0, 3.0], 1, 50, 0.5),
            particle([3.0, 2.0, 3.0], 1, 60, 0.9),
            particle([5.0, 2.0, 3.0], 2, 70, 0.9),
            particle([9.0, 2.0, 3.0], 2, 80, 0.2),
        ]
    }

    #[test]
    fn sizes_and_scores_by_class() {
        let mut params = FilterParams::min_size(60);
        check(&row(), &params, &[1, 2, 3]);
        params.size_of_class.insert(2, SizeRange { min: 75, max: 80 });
        check(&row(), &params, &[1, 3]);
        params.min_score = Some(0.5);
        check(&row(), &params, &[1]);
        params.min_score_of_class.insert(2, 0.2);
        check(&row(), &params, &[1, 3]);
    }

    #[test]
    fn the_better_of_near_ones_stays() {
        let mut params = FilterParams {
            min_distance_within_class: Some(2.0),
            ..Default::default()
        };
        check(&row(), &params, &[1, 2, 3]);
        params.min_distance_within_class = Some(1.9);
        check(&row(), &params, &[0, 1, 2, 3]);
        // Scores are equal, so the larger of 1 and 2 stays, and 0 with it.
        params.min_distance_across_classes = Some(2.0);
        check(&row(), &params, &[0, 2, 3]);
        let mut apart = row();
        apart[1].tomogram = Some("other".into());
        check(&apart, &params, &[0, 1, 2, 3]);
    }

    #[test]
    fn the_best_n_of_each_class() {
        let params = FilterParams {
            top_n: Some(1),
            ..Default::default()
        };
        check(&row(), &params, &[1, 2]);
        check(&[], &params, &[]);
    }

    #[test]
    fn masks_and_membranes() {
        let mut map: LabelMap = Volume::new(Array3::zeros((5, 5, 8)));
        map.voxels[[3, 2, 3]] = 7;
        map.voxels[[3, 2, 1]] = 1;
        let mask = FilterParams {
            mask: Some(&map),
            ..Default::default()
        };
        check(&row(), &mask, &[0, 1]);
        let membrane = |min_voxels, max_voxels| FilterParams {
            membrane: Some(MembraneDistance {
                labels: &map,
                label: 7,
                min_voxels,
                max_voxels,
            }),
            ..Default::default()
        };
        check(&row(), &membrane(0.0, Some(2.0)), &[0, 1, 2]);
        check(&row(), &membrane(1.0, Some(6.0)), &[0, 2, 3]);
        check(&row(), &membrane(3.0, None), &[3]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut particles = row();
        particles[2].size_voxels = None;
        let error = filter(particles.into(), &FilterParams::min_size(1)).unwrap_err();
        assert!(error.to_string().starts_with("particle 2 (class 2) has no size"));
    }
}
