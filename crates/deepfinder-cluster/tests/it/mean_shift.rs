use std::collections::HashMap;
use std::io::Read;

use deepfinder_cluster::MeanShiftParams;
use deepfinder_core::{Label, LabelMap, NoProgress, Volume};
use ndarray::Array3;
use proptest::prelude::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/parity");

fn parity_labels() -> LabelMap {
    let file = std::fs::File::open(format!("{FIXTURES}/tf_shrec19_labels.u8.gz")).unwrap();
    let mut voxels = Vec::new();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut voxels)
        .unwrap();
    Volume::new(Array3::from_shape_vec((96, 112, 128), voxels).unwrap())
}

#[test]
fn clusters_are_those_of_scikit_learn() {
    let json = std::fs::read_to_string(format!("{FIXTURES}/sklearn_meanshift_bw6.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&json).unwrap();
    let golden = golden["clusters"].as_array().unwrap();
    let labels = parity_labels();
    let modes = MeanShiftParams::reference(6.0)
        .check()
        .unwrap()
        .cluster(&labels, &NoProgress)
        .unwrap();
    let centroids = MeanShiftParams::new(6.0)
        .check()
        .unwrap()
        .cluster(&labels, &NoProgress)
        .unwrap();
    assert_eq!((golden.len(), modes.len(), centroids.len()), (72, 72, 72));
    for ((cluster, mode), centroid) in golden.iter().zip(modes.iter()).zip(centroids.iter()) {
        let place = |key: &str| [2, 1, 0].map(|axis| cluster[key][axis].as_f64().unwrap());
        // serde_json reads numbers to the last bit but one.
        let pairs = [
            (mode.position, place("mode_zyx")),
            (centroid.position, place("centroid_zyx")),
        ];
        for (found, expected) in pairs {
            assert!(
                (0..3).all(|axis| (found[axis] - expected[axis]).abs() < 1e-12),
                "{found:?} {expected:?}"
            );
        }
        assert_eq!(mode.size_voxels, cluster["size"].as_u64());
        assert_eq!(Some(u64::from(mode.label)), cluster["label"].as_u64());
    }
}

/// scikit-learn's `MeanShift(bandwidth, bin_seeding=True)` as it is written there, voxel by voxel: modes `(z, y, x)`,
/// and the size and commonest label of each one's members.
fn naive(labels: &LabelMap, radius: f64) -> Vec<([f64; 3], u64, Label)> {
    let points: Vec<([f64; 3], Label)> = labels
        .voxels
        .indexed_iter()
        .filter(|&(_, &label)| label > 0)
        .map(|((z, y, x), &label)| ([z as f64, y as f64, x as f64], label))
        .collect();
    let squared = |a: [f64; 3], b: [f64; 3]| {
        (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) + (a[2] - b[2]) * (a[2] - b[2])
    };
    let mut seeds: Vec<[f64; 3]> = Vec::new();
    for (point, _) in &points {
        let bin = point.map(|c| f64::from((c / radius).round_ties_even() as f32 * radius as f32));
        if !seeds.contains(&bin) {
            seeds.push(bin);
        }
    }
    if seeds.len() == points.len() {
        seeds = points.iter().map(|&(point, _)| point).collect();
    }
    let mut intensity: HashMap<[u64; 3], ([f64; 3], usize)> = HashMap::new();
    for mut place in seeds {
        let mut iterations = 0;
        loop {
            let near: Vec<[f64; 3]> = points
                .iter()
                .map(|&(point, _)| point)
                .filter(|&point| squared(place, point) <= radius * radius)
                .collect();
            if near.is_empty() {
                break;
            }
            let old = place;
            place = std::array::from_fn(|axis| {
                near.iter().map(|point| point[axis]).sum::<f64>() / near.len() as f64
            });
            if squared(place, old).sqrt() <= 1e-3 * radius || iterations == 300 {
                intensity.insert(place.map(f64::to_bits), (place, near.len()));
                break;
            }
            iterations += 1;
        }
    }
    let mut ranked: Vec<([f64; 3], usize)> = intensity.into_values().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(b.0.partial_cmp(&a.0).unwrap()));
    let mut kept: Vec<[f64; 3]> = Vec::new();
    for (place, _) in ranked {
        if kept.iter().all(|&other| squared(place, other) > radius * radius) {
            kept.push(place);
        }
    }
    let mut members = vec![[0; 256]; kept.len()];
    for &(point, label) in &points {
        let mut nearest = 0;
        for mode in 1..kept.len() {
            if squared(point, kept[mode]) < squared(point, kept[nearest]) {
                nearest = mode;
            }
        }
        members[nearest][usize::from(label)] += 1;
    }
    let clusters = kept.into_iter().zip(members).map(|(mode, counts)| {
        let most = *counts.iter().max().unwrap();
        let label = counts.iter().position(|&count| count == most).unwrap();
        (mode, counts.iter().sum(), label as Label)
    });
    clusters.filter(|cluster| cluster.1 > 0).collect()
}

fn check(labels: &LabelMap, radius: f64) {
    let picks = MeanShiftParams::reference(radius)
        .check()
        .unwrap()
        .cluster(labels, &NoProgress)
        .unwrap();
    let found: Vec<_> = picks
        .iter()
        .map(|p| {
            (
                [p.position[2], p.position[1], p.position[0]],
                p.size_voxels.unwrap(),
                p.label,
            )
        })
        .collect();
    assert_eq!(found, naive(labels, radius));
}

fn speckles(shape: [usize; 3], keep: u8) -> impl Strategy<Value = LabelMap> {
    // Runs of equal labels, some of them background, rather than pure noise.
    prop::collection::vec((0..10u8, 1..4u8), shape.iter().product::<usize>()).prop_map(move |stretches| {
        let mut labels = stretches.into_iter().flat_map(move |(kind, length)| {
            let label = if kind < keep { 1 + kind % 3 } else { 0 };
            std::iter::repeat_n(label, length.into())
        });
        Volume::new(Array3::from_shape_simple_fn(shape, || labels.next().unwrap()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn dense_maps_agree_with_the_plain_version(
        labels in speckles([6, 7, 17], 6),
        radius in prop_oneof![Just(2.0), Just(3.0), Just(1.0), 0.4..6.0f64],
    ) {
        check(&labels, radius);
    }

    #[test]
    fn sparse_maps_agree_with_the_plain_version(
        labels in speckles([5, 9, 24], 1),
        radius in prop_oneof![Just(2.0), Just(4.0), 0.4..9.0f64],
    ) {
        check(&labels, radius);
    }
}

#[test]
fn classes_may_be_clustered_apart() {
    let mut labels: LabelMap = Volume::new(Array3::zeros((8, 8, 8)));
    labels.voxels.fill(9);
    labels.voxels.slice_mut(ndarray::s![.., .., 4..]).fill(200);
    let mut params = MeanShiftParams::new(20.0);
    let cluster = |params: &MeanShiftParams| {
        params
            .clone()
            .check()
            .unwrap()
            .cluster(&labels, &NoProgress)
            .unwrap()
    };
    let together = cluster(&params);
    assert_eq!(
        (together.len(), together[0].label, together[0].position),
        (1, 9, [3.5; 3])
    );
    params.per_class = true;
    let apart = cluster(&params);
    let found: Vec<_> = apart.iter().map(|p| (p.label, p.position)).collect();
    assert_eq!(found, [(9, [1.5, 3.5, 3.5]), (200, [5.5, 3.5, 3.5])]);
}
