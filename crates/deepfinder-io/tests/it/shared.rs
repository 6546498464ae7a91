//! Files of other programs and of the reference implementation, where they stand beside the repository.
//!
//! The expected numbers were computed from the files' bytes by a script apart from this crate.

use std::path::{Path, PathBuf};

use deepfinder_core::{
    Class, ClassTable, LabelMap, Moments, Particle, Region, Rotation, VolumeReader, VoxelSize,
};
use deepfinder_io::{
    ElementType, ParticleFormat, ReadOptions, VolumeFormat, open_volume, read_label_map, read_particles,
    read_volume,
};
use ndarray::Array3;

pub(crate) fn shared() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if !folder.is_dir() {
        eprintln!("skipped: ../shared not here");
        return None;
    }
    Some(folder.to_owned())
}

fn check_mean(path: &Path, mean: f64, range: (f32, f32)) {
    let moments = Moments::of_volume(&open_volume(path).unwrap()).unwrap();
    assert!(
        (moments.mean - mean).abs() < 1e-9 + 1e-6 * mean.abs(),
        "{}: {}",
        path.display(),
        moments.mean
    );
    assert_eq!((moments.min, moments.max), range, "{}", path.display());
}

#[test]
fn hdf5_volumes_of_the_reference() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("synthetic-2019");
    let data = folder.join("tomo1_data.h5");
    let file = open_volume(&data).unwrap();
    assert_eq!(
        (file.info().format, file.info().element_type),
        (VolumeFormat::Hdf5, ElementType::F32)
    );
    assert_eq!((file.shape(), file.voxel_size()), ([100; 3], None));
    check_mean(&data, 6.591_218_048_974_668e-9, (-3.438_460_8, 3.802_431_8));
    check_mean(
        &folder.join("tomo9_data.h5"),
        -1.003_682_740_173_417_1e-8,
        (-3.528_497_5, 3.556_352_4),
    );
    // Voxel 123 456 is z 12, y 34, x 56.
    let window: Array3<f32> = file.read_window(Region::new([12, 34, 56], [2, 3, 4])).unwrap();
    assert_eq!(window[[0, 0, 0]], 0.847_194_73);
    assert_eq!(
        window,
        read_volume(&data)
            .unwrap()
            .window(Region::new([12, 34, 56], [2, 3, 4]))
            .unwrap()
    );

    for (name, counts) in [
        (
            "tomo1_target.h5",
            [975_391, 5113, 1834, 3061, 1631, 2005, 2335, 1981, 2155, 4494],
        ),
        (
            "tomo1_labelmap.h5",
            [976_529, 4941, 1681, 2820, 1521, 1863, 2343, 1890, 2146, 4266],
        ),
        (
            "tomo9_target.h5",
            [975_525, 5084, 1828, 3075, 1621, 1977, 2341, 1962, 2140, 4447],
        ),
    ] {
        let path = folder.join(name);
        assert_eq!(open_volume(&path).unwrap().info().element_type, ElementType::I8);
        let labels = read_label_map(&path).unwrap();
        let count = |label: u8| labels.voxels.iter().filter(|&&found| found == label).count();
        assert_eq!(std::array::from_fn(|label| count(label as u8)), counts, "{name}");
    }
    // A tomogram is no label map, and weights are no volume.
    assert!(
        read_label_map(&data)
            .unwrap_err()
            .to_string()
            .contains("label map")
    );
    let weights = open_volume(&shared.join("weights/deepfinder_shrec19.h5"));
    assert!(weights.unwrap_err().to_string().contains("no volume"));
}

#[test]
fn mrc_files_with_odd_headers() {
    let Some(shared) = shared() else { return };
    for (name, ones) in [("1bxn", 997), ("4b4t", 3837)] {
        let path = shared.join(format!("shrec19/masks/{name}.mrc"));
        let file = open_volume(&path).unwrap();
        assert_eq!(
            (file.shape(), file.voxel_size()),
            ([40; 3], VoxelSize::new(1.0).ok())
        );
        let warnings = file.info().warnings.join("\n");
        assert!(
            warnings.contains("NVERSION") && warnings.contains("1 Å"),
            "{warnings}"
        );
        let mask = read_label_map(&path).unwrap();
        assert_eq!(mask.voxels.iter().filter(|&&voxel| voxel == 1).count(), ones);
        assert!(mask.voxels.iter().all(|&voxel| voxel <= 1));
    }
    for name in ["mrc3D_int8.mrc", "rec3D_int8.rec"] {
        let path = shared.join("real/tardis").join(name);
        let file = open_volume(&path).unwrap();
        assert_eq!(
            (file.shape(), file.info().element_type),
            ([78, 64, 32], ElementType::U8)
        );
        let size = file.voxel_size().unwrap().angstrom();
        assert!((size - 23.2).abs() < 0.01, "{size}");
        // As bytes with a sign they would run from -115 to -93; the header says 141 to 163.
        check_mean(&path, 256.0 - 102.963_153_545_673_08, (141.0, 163.0));
    }
}

#[test]
fn mrc_files_of_several_programs() {
    let Some(shared) = shared() else { return };
    let check = |name: &str, shape: [usize; 3], size: f32, mean: f64, range: (f32, f32)| {
        let path = shared.join(name);
        let file = open_volume(&path).unwrap();
        assert_eq!(file.shape(), shape, "{name}");
        assert!(
            (file.voxel_size().unwrap().angstrom() - size).abs() < 1e-3,
            "{name}"
        );
        assert_eq!(file.info().element_type, ElementType::F32);
        check_mean(&path, mean, range);
    };
    let parity = "parity/volume.mrc";
    check(
        parity,
        [96, 112, 128],
        10.0,
        -0.263_548_396_029_540_4,
        (-11.901_401, 6.537_529_5),
    );
    let template = "templates/1bxn_bioassembly1_10A_kDa.mrc";
    check(
        template,
        [48; 3],
        10.0,
        0.004_340_800_225_748_165,
        (0.0, 0.695_261_84),
    );
    let ribosome = "real/empiar10064_80S_avg.mrc";
    check(
        ribosome,
        [64; 3],
        10.64375,
        -5.449_438_691_169_581e-5,
        (-0.009_362_957, 0.024_612_501),
    );
    check(
        "real/cylindra/beta-tubulin.mrc",
        [20; 3],
        5.144,
        0.060_288_116_603_673_47,
        (-1.082_283_5, 7.637_047),
    );
    assert_eq!(
        open_volume(&shared.join(parity)).unwrap().info().warnings,
        Vec::<String>::new()
    );
    let labels = read_label_map(&shared.join("parity/truth_labels.mrc")).unwrap();
    assert_eq!(
        labels.voxels.iter().map(|&label| u64::from(label)).sum::<u64>(),
        469_847
    );
}

#[test]
fn tiff_stacks_of_two_programs() {
    let Some(shared) = shared() else { return };
    let microtubule = shared.join("real/cylindra/13pf_MT.tif");
    let file = open_volume(&microtubule).unwrap();
    assert_eq!(
        (file.shape(), file.info().element_type),
        ([36, 206, 94], ElementType::U8)
    );
    assert!((file.voxel_size().unwrap().angstrom() - 10.52).abs() < 1e-3);
    check_mean(&microtubule, 106.062_244_657_897_96, (0.0, 255.0));
    let image = shared.join("real/tardis/img_3_0_25_54_25.tif");
    assert_eq!(open_volume(&image).unwrap().shape(), [96; 3]);
    check_mean(&image, 145.864_717_836_733_2, (0.0, 246.0));
    let mask = shared.join("real/tardis/3_0_25_54_25_mask.tif");
    check_mean(&mask, 0.011_319_760_923_032_407, (0.0, 1.0));
    read_label_map(&mask).unwrap();
}

fn shrec_classes() -> ClassTable {
    let names = [
        "1bxn", "1qvr", "1s3x", "1u6g", "2cg9", "3cf3", "3d2f", "3gl1", "3h84", "3qm1", "4b4t", "4d8q",
    ];
    let class = |(i, name): (usize, &str)| Class {
        label: i as u8 + 1,
        name: name.to_owned(),
        radius_voxels: None,
    };
    ClassTable::new(names.into_iter().enumerate().map(class).collect()).unwrap()
}

#[test]
fn object_lists_of_the_reference() {
    let Some(shared) = shared() else { return };
    for (name, count) in [
        ("shrec19/object_list_train.xml", 22_446),
        ("shrec19/object_list_valid.xml", 2_490),
        ("shrec19/tomo9_objlist_raw.xml", 2_624),
        ("shrec19/tomo9_objlist_thr.xml", 2_052),
        ("synthetic-2019/tomo1_objlist.xml", 28),
        ("synthetic-2019/tomo9_objlist.xml", 27),
        ("formats/deepfinder_objl/spinach38_pos_reduced.xml", 27),
    ] {
        let list = read_particles(&shared.join(name), &ReadOptions::default()).unwrap();
        assert_eq!(list.len(), count, "{name}");
    }
    let train = read_particles(
        &shared.join("shrec19/object_list_train.xml"),
        &ReadOptions::default(),
    )
    .unwrap();
    let first = &train[0];
    assert_eq!(
        (first.position, first.label, first.tomogram.as_deref()),
        ([46.0, 261.0, 144.0], 11, Some("0"))
    );
    assert_eq!(
        first.rotation,
        Some(Rotation::from_zxz_degrees(-142.0, 20.0, 83.0))
    );
    let raw = read_particles(
        &shared.join("shrec19/tomo9_objlist_raw.xml"),
        &ReadOptions::default(),
    )
    .unwrap();
    assert_eq!(
        (raw[0].position, raw[0].size_voxels),
        ([444.0, 208.0, 128.0], Some(643))
    );

    // In these lists x is the slowest axis: only swapped do the particles lie on their labels.
    for tomogram in [1, 2, 3, 5, 9] {
        let folder = shared.join("synthetic-2019");
        let labels = read_label_map(&folder.join(format!("tomo{tomogram}_target.h5"))).unwrap();
        let hits = |swap_xz: bool| {
            let options = ReadOptions {
                swap_xz,
                ..ReadOptions::default()
            };
            let list = read_particles(&folder.join(format!("tomo{tomogram}_objlist.xml")), &options).unwrap();
            list.iter()
                .filter(|particle| is_near_its_label(particle, &labels))
                .count()
        };
        assert!(
            hits(true) >= 27 && hits(false) <= 8,
            "{tomogram}: {}, {}",
            hits(true),
            hits(false)
        );
    }
}

/// Within two voxels on each axis: some of these particles are hollow.
fn is_near_its_label(particle: &Particle, labels: &LabelMap) -> bool {
    let steps = || (-2..=2).map(f64::from);
    steps().flat_map(|z| steps().map(move |y| (z, y))).any(|(z, y)| {
        steps().any(|x| {
            let [px, py, pz] = particle.position;
            let voxel = labels.voxel_at([px + x, py + y, pz + z]);
            voxel.is_some_and(|voxel| labels.voxels[voxel] == particle.label)
        })
    })
}

#[test]
fn ground_truth_of_shrec() {
    let Some(shared) = shared() else { return };
    let path = shared.join("shrec19/particle_locations_model_9.txt");
    let options = ReadOptions {
        format: Some(ParticleFormat::ShrecTextZyx),
        classes: shrec_classes(),
        ..ReadOptions::default()
    };
    let truth = read_particles(&path, &options).unwrap();
    assert_eq!(truth.len(), 2_540);
    assert_eq!((truth[0].label, truth[0].position), (7, [118.0, 480.0, 180.0]));
    assert_eq!(
        truth[0].rotation,
        Some(Rotation::from_zxz_degrees(-45.0, -72.0, 81.0))
    );
    assert_eq!(truth.count_by_label()[&11], 170);
    // A volume of 200 × 512 × 512.
    assert!(
        truth
            .iter()
            .all(|p| p.position[2] < 200.0 && p.position[0] < 512.0)
    );

    let unnamed = ReadOptions {
        classes: ClassTable::default(),
        ..options
    };
    assert!(
        read_particles(&path, &unnamed)
            .unwrap_err()
            .to_string()
            .contains("3d2f")
    );
}

#[test]
fn truth_of_the_phantom() {
    let Some(shared) = shared() else { return };
    let truth = read_particles(&shared.join("parity/truth.csv"), &ReadOptions::default()).unwrap();
    assert_eq!(truth.len(), 60);
    assert_eq!((truth[0].label, truth[0].position), (1, [67.5, 86.5, 27.5]));
    assert_eq!(truth[0].rotation.unwrap().matrix()[0][1], -0.831_429);
    assert!(truth.iter().all(|particle| particle.rotation.is_some()));
}
