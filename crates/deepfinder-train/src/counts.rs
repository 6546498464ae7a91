use serde::{Deserialize, Serialize};

/// Voxels per class, background included: how many are of the class, were called so, and both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VoxelCounts {
    /// Voxels of each class in the target.
    pub truth: Vec<u64>,
    /// Voxels for which the network scored each class highest.
    pub predicted: Vec<u64>,
    /// Voxels that are in both.
    pub agreed: Vec<u64>,
}

/// How well a class is segmented, voxel by voxel. `None` where nothing was there to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class.
    pub label: u8,
    /// Part of the voxels called so that are.
    pub precision: Option<f64>,
    /// Part of the voxels of the class that are found.
    pub recall: Option<f64>,
    /// Harmonic mean of the two, which is the Dice coefficient; `None` where the class is neither there nor found.
    pub f1: Option<f64>,
}

impl VoxelCounts {
    /// No voxels yet, for that many scores.
    pub fn new(scores: usize) -> Self {
        let zeros = || vec![0; scores];
        Self {
            truth: zeros(),
            predicted: zeros(),
            agreed: zeros(),
        }
    }

    /// All numbers one after the other; whole up to 2⁵³.
    pub(crate) fn to_row(&self) -> Vec<f64> {
        let rows = [&self.truth, &self.predicted, &self.agreed];
        rows.into_iter().flatten().map(|count| *count as f64).collect()
    }

    /// From what [`to_row`](Self::to_row) gives for that many scores.
    pub(crate) fn of_row(row: &[f64], scores: usize) -> Self {
        let mut rows = row.chunks_exact(scores.max(1));
        let mut next = || {
            let row = rows.next().unwrap_or_default();
            row.iter().map(|count| *count as u64).collect()
        };
        Self {
            truth: next(),
            predicted: next(),
            agreed: next(),
        }
    }

    /// Adds the voxels of another count of the same classes.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.truth, &other.truth),
            (&mut self.predicted, &other.predicted),
            (&mut self.agreed, &other.agreed),
        ];
        for (ours, theirs) in pairs {
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours += theirs;
            }
        }
    }

    /// Part of all voxels whose class is right; 0 where there are none.
    pub fn accuracy(&self) -> f64 {
        let [agreed, all] = [&self.agreed, &self.truth].map(|counts| counts.iter().sum::<u64>());
        ratio(agreed, all).unwrap_or(0.0)
    }

    /// Precision, recall and F1 of every class but background.
    pub fn classes(&self) -> Vec<ClassMetrics> {
        (1..self.truth.len().min(256))
            .map(|class| {
                let (truth, predicted) = (self.truth[class], self.predicted[class]);
                let agreed = self.agreed[class];
                ClassMetrics {
                    label: class as u8,
                    precision: ratio(agreed, predicted),
                    recall: ratio(agreed, truth),
                    f1: ratio(2 * agreed, truth + predicted),
                }
            })
            .collect()
    }

    /// Mean F1 of the classes, without background, that the target holds; 0 where it holds none.
    pub fn mean_f1(&self) -> f64 {
        let present = self.classes().into_iter().zip(&self.truth[1..]);
        let scores: Vec<f64> = present
            .filter(|(_, truth)| **truth > 0)
            .filter_map(|(class, _)| class.f1)
            .collect();
        scores.iter().sum::<f64>() / scores.len().max(1) as f64
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_follow_from_counts() {
        let mut counts = VoxelCounts::new(4);
        counts.add(&VoxelCounts {
            truth: vec![80, 10, 10, 0],
            predicted: vec![85, 5, 10, 0],
            agreed: vec![78, 4, 0, 0],
        });
        assert_eq!(VoxelCounts::of_row(&counts.to_row(), 4), counts);
        assert_eq!(counts.accuracy(), 0.82);
        let [first, second, third] = counts.classes()[..] else {
            panic!("background is left out");
        };
        assert_eq!(
            (first.label, first.precision, first.recall),
            (1, Some(0.8), Some(0.4))
        );
        assert_eq!(first.f1, Some(8.0 / 15.0));
        assert_eq!(second.f1, Some(0.0));
        assert_eq!((third.precision, third.recall, third.f1), (None, None, None));
        assert_eq!(counts.mean_f1(), 4.0 / 15.0);
        assert_eq!(VoxelCounts::new(3).mean_f1(), 0.0);
        assert_eq!(VoxelCounts::new(3).accuracy(), 0.0);
    }
}
