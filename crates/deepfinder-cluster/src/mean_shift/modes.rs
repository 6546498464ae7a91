use std::collections::{HashMap, HashSet};

use deepfinder_core::Progress;
use rayon::prelude::*;

use super::MeanShiftParams;
use crate::Result;
use crate::foreground::Foreground;
use crate::point_grid::PointGrid;

/// A place where seeds came to rest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mode {
    /// `(z, y, x)`.
    place: [f64; 3],
    /// Voxels in the last ball, the one whose mean the place is.
    neighbours: u64,
}

/// The modes to keep, `(z, y, x)`: most neighbours first.
pub(super) fn find(
    foreground: &Foreground,
    params: &MeanShiftParams,
    progress: &dyn Progress,
) -> Result<Vec<[f64; 3]>> {
    let seeds = seeds(foreground, params.radius_voxels);
    progress.begin("mean-shift", seeds.len() as u64, "seeds");
    let rests: Vec<Option<Mode>> = seeds
        .par_iter()
        .map(|&seed| {
            progress.check()?;
            let mode = climb(foreground, params, seed);
            progress.advance(1);
            Ok(mode)
        })
        .collect::<Result<_>>()?;
    progress.end();
    let ranked = ranked(rests.into_iter().flatten());
    Ok(without_near_duplicates(&ranked, params.radius_voxels))
}

/// The occupied bins of a grid of the radius's spacing, in the order of their first voxels; the voxels themselves
/// where each has a bin of its own.
///
/// Bins are rounded half to even and their places are single precision, as in scikit-learn.
fn seeds(foreground: &Foreground, radius: f64) -> Vec<[f64; 3]> {
    let bins = foreground.shape.map(|len| {
        (0..len)
            .map(|i| (i as f64 / radius).round_ties_even())
            .collect::<Vec<_>>()
    });
    let mut known = HashSet::new();
    let mut seeds = Vec::new();
    for (z, y, row) in foreground.occupied_rows() {
        let mut last = None;
        for x in row.iter().flat_map(|run| run.start..run.end) {
            let bin = [bins[0][z], bins[1][y], bins[2][x as usize]];
            if last.replace(bin) != Some(bin) && known.insert(bin.map(f64::to_bits)) {
                seeds.push(bin.map(|index| f64::from(index as f32 * radius as f32)));
            }
        }
    }
    if seeds.len() == foreground.voxels() {
        seeds.clear();
        for (z, y, row) in foreground.occupied_rows() {
            let xs = row.iter().flat_map(|run| run.start..run.end);
            seeds.extend(xs.map(|x| [z as f64, y as f64, f64::from(x)]));
        }
    }
    seeds
}

/// Moves a seed to the mean of its neighbours until it rests; `None` where it has none.
fn climb(foreground: &Foreground, params: &MeanShiftParams, seed: [f64; 3]) -> Option<Mode> {
    let arrived = params.tolerance * params.radius_voxels;
    let mut place = seed;
    for iteration in 0.. {
        let ball = foreground.ball(place, params.radius_voxels);
        if ball.voxels == 0 {
            return None;
        }
        let mean = ball.sum.map(|sum| sum as f64 / ball.voxels as f64);
        let shift = crate::point_grid::squared_distance(mean, place).sqrt();
        place = mean;
        if shift <= arrived || iteration == params.max_iterations {
            return Some(Mode {
                place,
                neighbours: ball.voxels,
            });
        }
    }
    None
}

/// Distinct modes, most neighbours first, then by their coordinates downwards.
fn ranked(modes: impl Iterator<Item = Mode>) -> Vec<Mode> {
    // Two balls may have the same mean and not the same number of voxels: the later seed's counts.
    let by_place: HashMap<[u64; 3], Mode> = modes.map(|mode| (mode.place.map(f64::to_bits), mode)).collect();
    let mut modes: Vec<Mode> = by_place.into_values().collect();
    // Coordinates are not negative, so the order of their bits is that of the numbers.
    modes.sort_unstable_by_key(|mode| std::cmp::Reverse((mode.neighbours, mode.place.map(f64::to_bits))));
    modes
}

fn without_near_duplicates(ranked: &[Mode], radius: f64) -> Vec<[f64; 3]> {
    let mut kept = Vec::new();
    let mut grid = PointGrid::new(radius);
    for mode in ranked {
        if !grid.any_within(mode.place, |_, _| true) {
            grid.insert(mode.place, kept.len());
            kept.push(mode.place);
        }
    }
    kept
}
