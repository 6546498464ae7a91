use std::collections::BTreeSet;

use deepfinder_core::{BACKGROUND, Label, Progress, Region, VolumeReader};
use ndarray::ArrayView1;
use rayon::prelude::*;

use crate::Result;

/// Voxels of one class beside each other on a row along x: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) label: Label,
}

/// The foreground of a label map as runs, row after row in C order.
///
/// Memory is bounded by the foreground's surface and the number of rows, whatever the volume.
#[derive(Debug, Clone)]
pub(crate) struct Foreground {
    pub(crate) shape: [usize; 3],
    /// Of each row `z · height + y`, the place of its first run; one more at the end.
    row_starts: Vec<usize>,
    runs: Vec<Run>,
}

/// How many voxels lie in a ball, and the sums of their coordinates `(z, y, x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ball {
    pub(crate) voxels: u64,
    pub(crate) sum: [u64; 3],
}

impl Foreground {
    pub(crate) fn read(labels: &dyn VolumeReader<Label>, progress: &dyn Progress) -> Result<Self> {
        const SLAB_VOXELS: usize = 1 << 23;
        let shape @ [depth, height, width] = labels.shape();
        let mut row_starts = Vec::with_capacity(depth * height + 1);
        let mut runs = Vec::new();
        row_starts.push(0);
        let planes = (SLAB_VOXELS / (height * width).max(1)).max(1);
        for z in (0..depth).step_by(planes) {
            progress.check()?;
            let region = Region::new([z, 0, 0], [planes.min(depth - z), height, width]);
            let slab = labels.read_window(region)?;
            let found: Vec<(Vec<usize>, Vec<Run>)> = slab
                .outer_iter()
                .into_par_iter()
                .map(|plane| {
                    let mut runs = Vec::new();
                    let ends = plane
                        .outer_iter()
                        .map(|row| {
                            push_runs(&row, &mut runs);
                            runs.len()
                        })
                        .collect();
                    (ends, runs)
                })
                .collect();
            for (ends, plane_runs) in found {
                let offset = runs.len();
                row_starts.extend(ends.into_iter().map(|end| offset + end));
                runs.extend(plane_runs);
            }
        }
        Ok(Self {
            shape,
            row_starts,
            runs,
        })
    }

    /// The voxels of one class alone.
    pub(crate) fn only(&self, label: Label) -> Self {
        let mut row_starts = Vec::with_capacity(self.row_starts.len());
        let mut runs = Vec::new();
        row_starts.push(0);
        for row in self.rows() {
            runs.extend(row.iter().filter(|run| run.label == label));
            row_starts.push(runs.len());
        }
        Self {
            shape: self.shape,
            row_starts,
            runs,
        }
    }

    pub(crate) fn labels(&self) -> BTreeSet<Label> {
        let mut present = [false; 256];
        for run in &self.runs {
            present[usize::from(run.label)] = true;
        }
        (0..=Label::MAX)
            .filter(|&label| present[usize::from(label)])
            .collect()
    }

    pub(crate) fn voxels(&self) -> usize {
        self.runs.iter().map(|run| (run.end - run.start) as usize).sum()
    }

    /// All runs, row after row.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where in [`Self::runs`] a row lies.
    pub(crate) fn row_range(&self, z: usize, y: usize) -> std::ops::Range<usize> {
        let row = z * self.shape[1] + y;
        self.row_starts[row]..self.row_starts[row + 1]
    }

    pub(crate) fn row(&self, z: usize, y: usize) -> &[Run] {
        &self.runs[self.row_range(z, y)]
    }

    fn rows(&self) -> impl Iterator<Item = &[Run]> {
        self.row_starts
            .windows(2)
            .map(|ends| &self.runs[ends[0]..ends[1]])
    }

    /// The rows that hold anything, as `(z, y, runs)`.
    pub(crate) fn occupied_rows(&self) -> impl Iterator<Item = (usize, usize, &[Run])> {
        let height = self.shape[1].max(1);
        self.rows()
            .enumerate()
            .filter(|(_, row)| !row.is_empty())
            .map(move |(i, row)| (i / height, i % height, row))
    }

    /// The voxels within `radius` of a place `(z, y, x)`, the surface included.
    ///
    /// A voxel counts exactly where `dz² + dy² + dx² <= radius²` holds in floating point, added in that order:
    /// what a k-d tree decides point by point is decided here for a whole row by its two ends.
    pub(crate) fn ball(&self, centre: [f64; 3], radius: f64) -> Ball {
        let reach = radius * radius;
        let [cz, cy, cx] = centre;
        let mut ball = Ball::default();
        for z in near(cz, radius, self.shape[0]) {
            let dz = cz - z as f64;
            if dz * dz > reach {
                continue;
            }
            for y in near(cy, (reach - dz * dz).sqrt(), self.shape[1]) {
                let row = self.row(z, y);
                if row.is_empty() {
                    continue;
                }
                let dy = cy - y as f64;
                let across = dz * dz + dy * dy;
                if across <= reach {
                    let (voxels, sum) = within(row, ends(cx, across, reach));
                    ball.voxels += voxels;
                    ball.sum[0] += voxels * z as u64;
                    ball.sum[1] += voxels * y as u64;
                    ball.sum[2] += sum;
                }
            }
        }
        ball
    }

    /// The squared distance from a place `(z, y, x)` to the nearest voxel, where that is at most `radius`.
    pub(crate) fn nearest_squared(&self, centre: [f64; 3], radius: f64) -> Option<f64> {
        let [cz, cy, cx] = centre;
        let mut nearest = None;
        let mut reach = radius * radius;
        for z in near(cz, radius, self.shape[0]) {
            let across_z = (cz - z as f64).powi(2);
            if across_z > reach {
                continue;
            }
            for y in near(cy, (reach - across_z).sqrt(), self.shape[1]) {
                let across = across_z + (cy - y as f64).powi(2);
                for run in self.row(z, y) {
                    let x = cx.clamp(f64::from(run.start), f64::from(run.end - 1));
                    // The nearest voxel of the run: x itself may lie between two.
                    let squared = across + (cx - x.round()).powi(2);
                    if squared <= reach {
                        reach = squared;
                        nearest = Some(squared);
                    }
                }
            }
        }
        nearest
    }
}

fn push_runs(row: &ArrayView1<'_, Label>, runs: &mut Vec<Run>) {
    // Most rows are background only: a branchless look at all of it is the quickest.
    if let Some(row) = row.as_slice()
        && row.iter().fold(0, |seen, &label| seen | label) == BACKGROUND
    {
        return;
    }
    let mut open: Option<Run> = None;
    for (x, &label) in (0u32..).zip(row) {
        match &mut open {
            Some(run) if run.label == label => run.end = x + 1,
            _ => {
                runs.extend(open.take());
                open = (label != BACKGROUND).then_some(Run {
                    start: x,
                    end: x + 1,
                    label,
                });
            }
        }
    }
    runs.extend(open);
}

/// The indices below `len` within `reach` of `centre`, and at most one more on each side.
fn near(centre: f64, reach: f64, len: usize) -> std::ops::Range<usize> {
    let first = (centre - reach).floor().max(0.0) as usize;
    let last = (centre + reach).ceil();
    let end = if last < 0.0 { 0 } else { last as usize + 1 };
    first..end.min(len)
}

/// First and last x of a row that lie in the ball; the last is smaller where none does.
fn ends(centre: f64, across: f64, reach: f64) -> (i64, i64) {
    let inside = |x: i64| {
        let dx = centre - x as f64;
        across + dx * dx <= reach
    };
    let half = (reach - across).sqrt();
    let (mut first, mut last) = ((centre - half).ceil() as i64, (centre + half).floor() as i64);
    // The root is rounded: the exact test has the last word.
    if inside(first - 1) {
        first -= 1;
    } else if !inside(first) {
        first += 1;
    }
    if inside(last + 1) {
        last += 1;
    } else if !inside(last) {
        last -= 1;
    }
    (first, last)
}

/// Number and sum of the x of a row's voxels from `first` to `last`.
fn within(row: &[Run], (first, last): (i64, i64)) -> (u64, u64) {
    const FEW: usize = 8;
    let skipped = if row.len() > FEW {
        row.partition_point(|run| i64::from(run.end) <= first)
    } else {
        0
    };
    let (mut voxels, mut sum) = (0, 0);
    for run in &row[skipped..] {
        let start = i64::from(run.start).max(first);
        let end = i64::from(run.end).min(last + 1);
        if start < end {
            let (start, end) = (start as u64, end as u64);
            voxels += end - start;
            sum += (start + end - 1) * (end - start) / 2;
        } else if i64::from(run.start) > last {
            break;
        }
    }
    (voxels, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::{NoProgress, Volume};
    use ndarray::Array3;
    use proptest::prelude::*;

    fn foreground(shape: [usize; 3], labels: &[Label]) -> Foreground {
        let voxels = Array3::from_shape_vec(shape, labels.to_vec()).unwrap();
        Foreground::read(&Volume::new(voxels), &NoProgress).unwrap()
    }

    #[test]
    fn runs_are_of_one_class() {
        let all = foreground([1, 2, 5], &[0, 1, 1, 2, 0, 3, 0, 0, 2, 2]);
        let run = |start, end, label| Run { start, end, label };
        assert_eq!(all.row(0, 0), [run(1, 3, 1), run(3, 4, 2)]);
        assert_eq!(all.row(0, 1), [run(0, 1, 3), run(3, 5, 2)]);
        assert_eq!(all.labels().into_iter().collect::<Vec<_>>(), [1, 2, 3]);
        let second = all.only(2);
        assert_eq!((second.voxels(), second.row(0, 0)), (3, &[run(3, 4, 2)][..]));
        assert_eq!(second.occupied_rows().count(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn balls_hold_what_a_test_of_each_voxel_finds(
            labels in prop::collection::vec(0..3u8, 5 * 6 * 23),
            centre in prop::array::uniform3(-4.0..24.0f64),
            on_the_lattice: bool,
            radius in prop_oneof![Just(3.0), Just(5.0), Just(8.5), 0.1..9.0f64],
        ) {
            let shape = [5, 6, 23];
            let centre = if on_the_lattice { centre.map(f64::round) } else { centre };
            let fg = foreground(shape, &labels);
            let mut expected = Ball::default();
            let mut nearest: Option<f64> = None;
            for z in 0..shape[0] {
                for y in 0..shape[1] {
                    for x in 0..shape[2] {
                        let d = [centre[0] - z as f64, centre[1] - y as f64, centre[2] - x as f64];
                        let squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
                        if labels[(z * shape[1] + y) * shape[2] + x] > 0 && squared <= radius * radius {
                            expected.voxels += 1;
                            expected.sum = [expected.sum[0] + z as u64, expected.sum[1] + y as u64, expected.sum[2] + x as u64];
                            nearest = Some(nearest.map_or(squared, |best| best.min(squared)));
                        }
                    }
                }
            }
            prop_assert_eq!(fg.ball(centre, radius), expected);
            prop_assert_eq!(fg.nearest_squared(centre, radius), nearest);
        }
    }
}
