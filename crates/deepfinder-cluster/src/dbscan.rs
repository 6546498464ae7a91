use std::collections::BTreeMap;

use deepfinder_core::{Label, Particle, ParticleList, Progress, VolumeReader};
use linfa::traits::Transformer;
use linfa_clustering::Dbscan as LinfaDbscan;
use ndarray16::Array2;

use crate::error::{ClusterError, Result, check_positive};
use crate::foreground::Foreground;
use crate::members::Members;

/// DBSCAN (Ester et al. 1996) on the foreground voxels, by `linfa-clustering`: dense regions become particles at their
/// centroids, stray voxels are dropped as noise.
#[derive(Debug, Clone, PartialEq)]
pub struct DbscanParams {
    /// Voxels at most this far apart are neighbours.
    pub radius_voxels: f64,
    /// A voxel with at least so many neighbours, itself among them, is dense.
    pub min_voxels: usize,
    /// Cluster each class by itself (default); otherwise all together, and the commonest label is the particle's.
    pub per_class: bool,
}

impl DbscanParams {
    /// The defaults for a radius and a number of neighbours.
    pub fn new(radius_voxels: f64, min_voxels: usize) -> Self {
        Self {
            radius_voxels,
            min_voxels,
            per_class: true,
        }
    }

    /// # Errors
    /// [`ClusterError::Parameter`] unless the radius is positive and `min_voxels` at least 2.
    pub fn check(self) -> Result<Dbscan> {
        check_positive("radius_voxels", self.radius_voxels)?;
        if self.min_voxels < 2 {
            return Err(ClusterError::Parameter {
                name: "min_voxels",
                expected: "at least 2 (with 1, connected components do the same)",
                found: self.min_voxels.to_string(),
            });
        }
        Ok(Dbscan(self))
    }
}

/// DBSCAN with checked parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Dbscan(DbscanParams);

impl Dbscan {
    /// The particles of a label map, in the order of their first dense voxels; by class, where classes are apart.
    ///
    /// linfa runs a class in one go, so cancellation takes effect between classes only.
    ///
    /// # Errors
    /// Where reading fails, or on cancellation.
    pub fn cluster(&self, labels: &dyn VolumeReader<Label>, progress: &dyn Progress) -> Result<ParticleList> {
        let foreground = Foreground::read(labels, progress)?;
        let groups: Vec<Foreground> = if self.0.per_class {
            let labels = foreground.labels().into_iter();
            labels.map(|label| foreground.only(label)).collect()
        } else {
            vec![foreground]
        };
        progress.begin("DBSCAN", groups.len() as u64, "classes");
        let mut list = ParticleList {
            particles: Vec::new(),
            voxel_size: labels.voxel_size(),
        };
        for group in groups {
            progress.check()?;
            list.particles.extend(self.particles(&group)?);
            progress.advance(1);
        }
        progress.end();
        Ok(list)
    }

    fn particles(&self, foreground: &Foreground) -> Result<Vec<Particle>> {
        let voxels: Vec<([usize; 2], u32, Label)> = foreground
            .occupied_rows()
            .flat_map(|(z, y, row)| {
                row.iter()
                    .flat_map(move |run| (run.start..run.end).map(move |x| ([z, y], x, run.label)))
            })
            .collect();
        let coordinates = Array2::from_shape_fn((voxels.len(), 3), |(i, axis)| match axis {
            2 => f64::from(voxels[i].1),
            _ => voxels[i].0[axis] as f64,
        });
        let clusters = LinfaDbscan::params::<f64>(self.0.min_voxels)
            .tolerance(self.0.radius_voxels)
            .transform(&coordinates)
            .map_err(|error| ClusterError::Parameter {
                name: "radius_voxels and min_voxels",
                expected: "what linfa's DBSCAN takes",
                found: error.to_string(),
            })?;
        let mut members: BTreeMap<usize, Members> = BTreeMap::new();
        for (&([z, y], x, label), cluster) in voxels.iter().zip(clusters) {
            if let Some(cluster) = cluster {
                members.entry(cluster).or_default().add(z, y, x, x + 1, label);
            }
        }
        Ok(members.values().map(Members::particle).collect())
    }
}
