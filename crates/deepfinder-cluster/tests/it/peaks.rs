use deepfinder_cluster::{PeaksParams, Refinement};
use deepfinder_core::{NoProgress, ParticleList, Volume};
use ndarray::Array3;
use proptest::prelude::*;

fn find(scores: &Volume<f32>, params: PeaksParams) -> ParticleList {
    params.check().unwrap().find(scores, 3, &NoProgress).unwrap()
}

/// All plateaus that nothing higher touches, best first, thinned: by the definition, with flood fills.
fn naive(scores: &Volume<f32>, radius: f64, min_score: f32) -> Vec<([f64; 3], f32)> {
    let voxels: Vec<[usize; 3]> = scores
        .voxels
        .indexed_iter()
        .map(|((z, y, x), _)| [z, y, x])
        .collect();
    let touch = |a: [usize; 3], b: [usize; 3]| (0..3).all(|axis| a[axis].abs_diff(b[axis]) <= 1);
    let mut seen = Array3::from_elem(scores.shape(), false);
    let mut tops: Vec<([f64; 3], f32, usize)> = Vec::new();
    for &seed in &voxels {
        let score = scores.voxels[seed];
        if seen[seed] || !(score.is_finite() && score >= min_score) {
            continue;
        }
        let (mut plateau, mut queue, mut highest) = (vec![], vec![seed], true);
        seen[seed] = true;
        while let Some(voxel) = queue.pop() {
            plateau.push(voxel);
            for &other in voxels.iter().filter(|&&other| touch(voxel, other)) {
                highest &= scores.voxels[other].is_nan() || scores.voxels[other] <= score;
                if scores.voxels[other] == score && !seen[other] {
                    seen[other] = true;
                    queue.push(other);
                }
            }
        }
        if highest {
            let mean = |axis: usize| {
                plateau.iter().map(|voxel| voxel[axis] as f64).sum::<f64>() / plateau.len() as f64
            };
            tops.push(([mean(2), mean(1), mean(0)], score, plateau.len()));
        }
    }
    tops.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.cmp(&a.2)));
    let mut kept: Vec<([f64; 3], f32)> = Vec::new();
    for (place, score, _) in tops {
        let far = |other: [f64; 3]| {
            (0..3)
                .map(|axis| (place[axis] - other[axis]).powi(2))
                .sum::<f64>()
                > radius * radius
        };
        if kept.iter().all(|&(other, _)| far(other)) {
            kept.push((place, score));
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn peaks_are_the_plateaus_whatever_the_slab(
        // Few levels make many plateaus, some of them across slabs.
        levels in prop::collection::vec(0..6u8, 9 * 5 * 7),
        radius in 0.5..4.0f64,
        planes in 1..10usize,
    ) {
        let voxels = levels.iter().map(|&level| if level == 5 { f32::NAN } else { f32::from(level) / 4.0 });
        let scores = Volume::new(Array3::from_shape_vec((9, 5, 7), voxels.collect()).unwrap());
        let params = PeaksParams {
            refinement: Refinement::None,
            slab_planes: Some(planes),
            ..PeaksParams::new(radius, 0.5)
        };
        let found: Vec<_> = find(&scores, params).iter().map(|p| (p.position, p.score.unwrap())).collect();
        prop_assert_eq!(found, naive(&scores, radius, 0.5));
    }
}

/// A paraboloid that tops at a place `(x, y, z)`.
fn hill(top: [f64; 3]) -> Volume<f32> {
    Volume::new(Array3::from_shape_fn((12, 13, 14), |(z, y, x)| {
        let squared = (x as f64 - top[0]).powi(2) + (y as f64 - top[1]).powi(2) + (z as f64 - top[2]).powi(2);
        (1.0 - squared / 100.0) as f32
    }))
}

#[test]
fn positions_are_finer_than_voxels() {
    let top = [6.3, 5.8, 6.1];
    let scores = hill(top);
    let error = |refinement| {
        let params = PeaksParams {
            refinement,
            ..PeaksParams::new(4.0, 0.9)
        };
        let picks = find(&scores, params);
        assert_eq!((picks.len(), picks[0].label), (1, 3));
        (0..3)
            .map(|axis| (picks[0].position[axis] - top[axis]).abs())
            .fold(0.0, f64::max)
    };
    assert!(error(Refinement::None) > 0.25);
    assert!(error(Refinement::Parabola) < 1e-3);
    assert!(error(Refinement::Centroid) < 0.15);
}

#[test]
fn a_saturated_blob_is_one_peak_in_its_middle() {
    let scores = Volume::new(
        hill([6.0, 5.0, 6.0])
            .voxels
            .mapv(|score| if score > 0.9 { 1.0 } else { score }),
    );
    let picks = find(&scores, PeaksParams::new(3.0, 0.5));
    assert_eq!((picks.len(), picks[0].position), (1, [6.0, 5.0, 6.0]));
}

#[test]
fn the_border_may_be_left_out() {
    let scores = hill([1.0, 6.0, 6.0]);
    let peaks = |border_voxels| {
        let params = PeaksParams {
            border_voxels,
            ..PeaksParams::new(3.0, 0.5)
        };
        find(&scores, params).len()
    };
    assert_eq!((peaks(0), peaks(1), peaks(2)), (1, 1, 0));
}
