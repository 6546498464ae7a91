use deepfinder_core::{Label, Particle, ParticleList, Progress, Region, VolumeReader};

use crate::error::{ClusterError, Result, check_positive};
use crate::plateaus::{self, Plateau};
use crate::point_grid::PointGrid;

/// Local maxima of one class's score map, thinned by non-maximum suppression.
///
/// A maximum is a voxel, or several touching ones of the same score, with no higher voxel among the 26 neighbours of
/// any. The best is kept, those within the radius of it are dropped, and so on downwards.
#[derive(Debug, Clone, PartialEq)]
pub struct PeaksParams {
    /// Peaks this near a better one are dropped: about a particle's radius to diameter, in voxels.
    pub radius_voxels: f64,
    /// The lowest score of a peak.
    pub min_score: f32,
    /// Peaks in so many outer voxels of the volume are dropped. Default 0: none is.
    pub border_voxels: usize,
    /// How the position is refined below a voxel. Default: parabola.
    pub refinement: Refinement,
    /// Planes read at a time: bounds memory and does not change the result. Default: some 8 million voxels' worth.
    pub slab_planes: Option<usize>,
}

/// How the position of a peak is refined below a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refinement {
    /// The voxel, or the mean of a plateau's voxels.
    None,
    /// The top of a parabola through the voxel and its two neighbours, per axis; a plateau's mean as it is.
    #[default]
    Parabola,
    /// The mean of the places within the radius whose score reaches the threshold, weighted by their scores.
    Centroid,
}

impl PeaksParams {
    /// The defaults for a radius in voxels and a threshold.
    pub fn new(radius_voxels: f64, min_score: f32) -> Self {
        Self {
            radius_voxels,
            min_score,
            border_voxels: 0,
            refinement: Refinement::default(),
            slab_planes: None,
        }
    }

    /// # Errors
    /// [`ClusterError::Parameter`] unless the radius is positive, the threshold finite and the slab not empty.
    pub fn check(self) -> Result<Peaks> {
        check_positive("radius_voxels", self.radius_voxels)?;
        if !self.min_score.is_finite() {
            return Err(ClusterError::Parameter {
                name: "min_score",
                expected: "a finite number",
                found: self.min_score.to_string(),
            });
        }
        if self.slab_planes == Some(0) {
            return Err(ClusterError::Parameter {
                name: "slab_planes",
                expected: "at least 1",
                found: "0".to_owned(),
            });
        }
        Ok(Peaks(self))
    }
}

/// Score-map peaks with checked parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Peaks(PeaksParams);

impl Peaks {
    /// The peaks of the score map of class `label`, best first; of equals the wider plateau, then the lower z, y, x.
    ///
    /// Scores that are not finite are never peaks. The map is read in slabs and is never whole in memory.
    ///
    /// # Errors
    /// Where reading fails, or on cancellation.
    pub fn find(
        &self,
        scores: &dyn VolumeReader<f32>,
        label: Label,
        progress: &dyn Progress,
    ) -> Result<ParticleList> {
        const SLAB_VOXELS: usize = 1 << 23;
        let [depth, height, width] = scores.shape();
        let automatic = (SLAB_VOXELS / (height * width).max(1)).max(1);
        let planes = self.0.slab_planes.unwrap_or(automatic);

        progress.begin("peaks", depth as u64, "planes");
        let mut peaks = plateaus::find(scores, self.0.min_score, planes, progress)?;
        progress.end();
        peaks.retain(|peak| self.is_inside(peak.centroid, scores.shape()));
        // The sort is stable: equals stay in the order of their voxels.
        peaks.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.voxels.cmp(&a.voxels)));

        let mut kept = PointGrid::new(self.0.radius_voxels);
        let mut particles = Vec::new();
        for peak in peaks {
            progress.check()?;
            if !kept.any_within(peak.centroid, |_, _| true) {
                kept.insert(peak.centroid, particles.len());
                let [z, y, x] = self.refined(scores, &peak)?;
                let mut particle = Particle::new([x, y, z], label);
                particle.score = Some(peak.score);
                particles.push(particle);
            }
        }
        Ok(ParticleList {
            particles,
            voxel_size: scores.voxel_size(),
        })
    }

    fn is_inside(&self, place: [f64; 3], shape: [usize; 3]) -> bool {
        let border = self.0.border_voxels as f64;
        (0..3).all(|axis| place[axis] >= border && place[axis] <= shape[axis] as f64 - 1.0 - border)
    }

    fn refined(&self, scores: &dyn VolumeReader<f32>, peak: &Plateau) -> Result<[f64; 3]> {
        match self.0.refinement {
            Refinement::Parabola if peak.voxels == 1 => parabola_top(scores, peak.centroid),
            Refinement::None | Refinement::Parabola => Ok(peak.centroid),
            Refinement::Centroid => self.weighted_mean(scores, peak.centroid),
        }
    }

    fn weighted_mean(&self, scores: &dyn VolumeReader<f32>, centre: [f64; 3]) -> Result<[f64; 3]> {
        let region = around(centre, self.0.radius_voxels, scores.shape());
        let mut total = 0.0;
        let mut sum = [0.0; 3];
        for ((z, y, x), &score) in scores.read_window(region)?.indexed_iter() {
            let place = [z, y, x];
            let place: [f64; 3] = std::array::from_fn(|axis| (place[axis] + region.start[axis]) as f64);
            let weight = f64::from(score);
            if score.is_finite()
                && score >= self.0.min_score
                && weight > 0.0
                && crate::point_grid::squared_distance(place, centre) <= self.0.radius_voxels.powi(2)
            {
                total += weight;
                for axis in 0..3 {
                    sum[axis] += weight * place[axis];
                }
            }
        }
        Ok(if total > 0.0 {
            sum.map(|s| s / total)
        } else {
            centre
        })
    }
}

/// The voxels within `reach` of a place on each axis.
fn around(centre: [f64; 3], reach: f64, shape: [usize; 3]) -> Region {
    let start: [usize; 3] = std::array::from_fn(|axis| (centre[axis] - reach).ceil().max(0.0) as usize);
    let extent = std::array::from_fn(|axis| {
        let end = ((centre[axis] + reach).floor() as usize + 1).min(shape[axis]);
        end.saturating_sub(start[axis])
    });
    Region::new(start, extent)
}

/// The top of the parabola through a voxel's score and those beside it; at the volume's border the voxel itself.
fn parabola_top(scores: &dyn VolumeReader<f32>, voxel: [f64; 3]) -> Result<[f64; 3]> {
    let region = around(voxel, 1.0, scores.shape());
    let window = scores.read_window(region)?;
    let centre: [usize; 3] = std::array::from_fn(|axis| voxel[axis] as usize - region.start[axis]);
    Ok(std::array::from_fn(|axis| {
        let along = |step: isize| {
            let mut index = centre;
            index[axis] = index[axis].checked_add_signed(step)?;
            window.get(index).map(|&score| f64::from(score))
        };
        let offset = match (along(-1), along(0), along(1)) {
            (Some(before), Some(here), Some(after)) => 0.5 * (before - after) / (before - 2.0 * here + after),
            _ => 0.0,
        };
        // A peak's parabola tops within half a voxel; flat or non-finite neighbours give no number.
        voxel[axis]
            + if offset.is_finite() {
                offset.clamp(-0.5, 0.5)
            } else {
                0.0
            }
    }))
}
