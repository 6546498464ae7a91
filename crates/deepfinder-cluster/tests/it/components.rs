use deepfinder_cluster::{ComponentsParams, Connectivity, DbscanParams};
use deepfinder_core::{Label, LabelMap, NoProgress, ParticleList, Volume};
use ndarray::Array3;
use proptest::prelude::*;

/// Size, class and centroid of components by flood fill, in the order of their first voxels.
fn flood_fill(
    labels: &LabelMap,
    touch: impl Fn([usize; 3], [usize; 3]) -> bool,
    per_class: bool,
) -> Vec<(u64, Label, [f64; 3])> {
    let mut left = labels.voxels.clone();
    let mut found = Vec::new();
    let voxels: Vec<[usize; 3]> = labels
        .voxels
        .indexed_iter()
        .map(|((z, y, x), _)| [z, y, x])
        .collect();
    for &seed in &voxels {
        if left[seed] == 0 {
            continue;
        }
        let mut counts = [0u64; 256];
        let mut sum = [0.0; 3];
        let mut queue = vec![(seed, left[seed])];
        left[seed] = 0;
        while let Some((voxel, label)) = queue.pop() {
            counts[usize::from(label)] += 1;
            for axis in 0..3 {
                sum[axis] += voxel[2 - axis] as f64;
            }
            for &other in &voxels {
                if left[other] > 0 && (!per_class || left[other] == label) && touch(voxel, other) {
                    queue.push((other, left[other]));
                    left[other] = 0;
                }
            }
        }
        let size: u64 = counts.iter().sum();
        let most = *counts.iter().max().unwrap();
        let label = counts.iter().position(|&count| count == most).unwrap();
        found.push((size, label as Label, sum.map(|s| s / size as f64)));
    }
    found
}

fn steps(a: [usize; 3], b: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| a[axis].abs_diff(b[axis]))
}

fn summary(list: &ParticleList) -> Vec<(u64, Label, [f64; 3])> {
    list.iter()
        .map(|p| (p.size_voxels.unwrap(), p.label, p.position))
        .collect()
}

fn map(shape: [usize; 3], density: u8) -> impl Strategy<Value = LabelMap> {
    prop::collection::vec(0..10u8, shape.iter().product::<usize>()).prop_map(move |kinds| {
        let labels = kinds
            .into_iter()
            .map(|kind| if kind < density { 1 + kind % 2 } else { 0 });
        Volume::new(Array3::from_shape_vec(shape, labels.collect()).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn components_are_those_of_a_flood_fill(labels in map([4, 5, 9], 4), per_class: bool) {
        for (connectivity, axes) in [(Connectivity::Faces, 1), (Connectivity::Edges, 2), (Connectivity::Corners, 3)] {
            let touch = |a, b| {
                let steps = steps(a, b);
                steps.iter().all(|&step| step <= 1) && (1..=axes).contains(&steps.iter().sum::<usize>())
            };
            let params = ComponentsParams { connectivity, per_class, ..Default::default() };
            let found = params.check().unwrap().cluster(&labels, &NoProgress).unwrap();
            prop_assert_eq!(summary(&found), flood_fill(&labels, touch, per_class));
        }
    }

    #[test]
    fn dbscan_of_all_dense_voxels_is_a_flood_fill(labels in map([4, 4, 8], 3)) {
        // Whoever has one neighbour is dense when two count, so only lone voxels are noise.
        let within = |a, b| steps(a, b).iter().map(|step| step * step).sum::<usize>() <= 4;
        let expected: Vec<_> =
            flood_fill(&labels, within, false).into_iter().filter(|component| component.0 > 1).collect();
        let params = DbscanParams { per_class: false, ..DbscanParams::new(2.0, 2) };
        let found = params.check().unwrap().cluster(&labels, &NoProgress).unwrap();
        let rounded = |mut list: Vec<(u64, Label, [f64; 3])>| {
            list.sort_by(|a, b| a.partial_cmp(b).unwrap());
            list
        };
        prop_assert_eq!(rounded(summary(&found)), rounded(expected));
    }
}

#[test]
fn small_components_are_dropped() {
    let mut labels: LabelMap = Volume::new(Array3::zeros((3, 3, 9)));
    labels.voxels.slice_mut(ndarray::s![1, 1, 1..4]).fill(5);
    labels.voxels[[1, 1, 7]] = 5;
    let params = ComponentsParams {
        min_voxels: 3,
        ..Default::default()
    };
    let found = params.check().unwrap().cluster(&labels, &NoProgress).unwrap();
    assert_eq!(summary(&found), [(3, 5, [2.0, 1.0, 1.0])]);
}
