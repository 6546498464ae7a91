use deepfinder_cluster::{ClusterError, ComponentsParams, DbscanParams, MeanShiftParams, PeaksParams};
use deepfinder_core::{
    CancelToken, CoreError, Label, LabelMap, NoProgress, ParticleList, Progress, Volume, VoxelSize,
};
use ndarray::Array3;

type Method = fn(&LabelMap, &dyn Progress) -> deepfinder_cluster::Result<ParticleList>;

const METHODS: [Method; 4] = [
    |labels, progress| MeanShiftParams::new(3.0).check()?.cluster(labels, progress),
    |labels, progress| ComponentsParams::default().check()?.cluster(labels, progress),
    |labels, progress| DbscanParams::new(1.5, 2).check()?.cluster(labels, progress),
    |labels, progress| {
        let scores = labels.like(labels.voxels.mapv(f32::from));
        PeaksParams::new(3.0, 0.5).check()?.find(&scores, 1, progress)
    },
];

#[test]
fn an_empty_map_gives_an_empty_list() {
    for shape in [[0, 0, 0], [1, 1, 1], [3, 4, 5], [2, 0, 3]] {
        let labels: LabelMap =
            Volume::new(Array3::zeros(shape)).with_voxel_size(VoxelSize::new(10.0).unwrap());
        for method in METHODS {
            let list = method(&labels, &NoProgress).unwrap();
            assert!(list.is_empty());
            assert_eq!(list.voxel_size, labels.voxel_size);
        }
    }
}

#[test]
fn a_lone_voxel_is_a_particle_unless_it_is_noise() {
    let mut labels: LabelMap = Volume::new(Array3::zeros((3, 4, 5)));
    labels.voxels[[2, 0, 4]] = Label::MAX;
    let found = METHODS.map(|method| method(&labels, &NoProgress).unwrap());
    assert_eq!(found.each_ref().map(|list| list.len()), [1, 1, 0, 1]);
    for list in [&found[0], &found[1], &found[3]] {
        assert_eq!(list[0].position, [4.0, 0.0, 2.0]);
    }
    assert_eq!(found[0][0].label, Label::MAX);
}

#[test]
fn work_can_be_cancelled() {
    let labels: LabelMap = Volume::new(Array3::ones((4, 4, 4)));
    let cancelled = CancelToken::default();
    cancelled.cancel();
    for method in METHODS {
        let error = method(&labels, &cancelled).unwrap_err();
        assert!(matches!(error, ClusterError::Core(CoreError::Cancelled)));
    }
}

#[test]
fn parameters_are_checked() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(MeanShiftParams::new(bad).check().is_err());
        assert!(PeaksParams::new(bad, 0.5).check().is_err());
        assert!(DbscanParams::new(bad, 5).check().is_err());
    }
    let error = DbscanParams::new(2.0, 1).check().unwrap_err();
    assert!(error.to_string().starts_with("min_voxels must be at least 2"));
    assert!(PeaksParams::new(2.0, f32::NAN).check().is_err());
}
