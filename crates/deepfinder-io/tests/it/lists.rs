//! Particle lists of every program, where real ones stand beside the repository: read, held against numbers written
//! down from the file, written in the same format, and read again.
//!
//! The numbers come from the files' text and bytes by formulas of their own (a script apart from this crate), with the
//! images of the z and the x axis for orientations; positions of IMOD models also from the Python package imodmodel.

use std::path::Path;

use deepfinder_core::{Particle, ParticleList, Rotation, VoxelSize};
use deepfinder_io::{
    ParticleFile, ParticleFormat, ReadOptions, TomogramTable, WriteOptions, particle_formats,
    read_particle_file, write_particle_file,
};

use crate::shared::shared;

const HALF_ROOT: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// A particle as its file has it.
#[derive(Clone, Copy)]
struct Known {
    position: [f64; 3],
    label: u8,
    score: Option<f32>,
    tomogram: Option<&'static str>,
    /// Images of the z and the x axis.
    axes: Option<([f64; 3], [f64; 3])>,
}

const fn known(position: [f64; 3]) -> Known {
    Known {
        position,
        label: 1,
        score: None,
        tomogram: None,
        axes: None,
    }
}

impl Known {
    const fn turned(mut self, z: [f64; 3], x: [f64; 3]) -> Self {
        self.axes = Some((z, x));
        self
    }

    const fn of(mut self, label: u8, score: Option<f32>, tomogram: &'static str) -> Self {
        self.label = label;
        self.score = score;
        self.tomogram = Some(tomogram);
        self
    }

    #[track_caller]
    fn check(&self, found: &Particle) {
        for axis in 0..3 {
            assert!(
                (found.position[axis] - self.position[axis]).abs() < 1e-4,
                "{:?} is not {:?}",
                found.position,
                self.position
            );
        }
        assert_eq!(found.label, self.label);
        assert_eq!(found.tomogram.as_deref(), self.tomogram);
        match (found.score, self.score) {
            (Some(a), Some(b)) => assert!((a - b).abs() < 1e-6, "{a} is not {b}"),
            (a, b) => assert_eq!(a, b),
        }
        match (found.rotation, self.axes) {
            (Some(rotation), Some((z, x))) => {
                for (axis, image) in [([0.0, 0.0, 1.0], z), ([1.0, 0.0, 0.0], x)] {
                    let turned = rotation.apply(axis);
                    assert!(
                        (0..3).all(|i| (turned[i] - image[i]).abs() < 2e-5),
                        "{turned:?} is not {image:?}"
                    );
                }
            }
            (a, b) => assert_eq!(a.is_some(), b.is_some()),
        }
    }
}

/// A real file and what is in it.
struct Case {
    file: &'static str,
    format: ParticleFormat,
    options: ReadOptions,
    particles: usize,
    voxel_size: Option<f32>,
    first: Known,
    last: Known,
}

#[track_caller]
fn check(case: &Case) {
    let Some(shared) = shared() else { return };
    let path = shared.join("formats").join(case.file);
    let file = read_particle_file(&path, &case.options).unwrap();
    assert_eq!(file.format, case.format, "{}", case.file);
    assert_eq!(file.particles.len(), case.particles, "{}", case.file);
    match (file.particles.voxel_size, case.voxel_size) {
        (Some(found), Some(size)) => {
            assert!(found.agrees_with(VoxelSize::new(size).unwrap(), 1e-6), "{found}");
        }
        (found, size) => assert_eq!(found.map(VoxelSize::angstrom), size),
    }
    case.first.check(&file.particles[0]);
    case.last.check(file.particles.last().unwrap());
    if file.format.entry().is_written() {
        check_round_trip(&file, &case.options);
    }
}

/// Written in its own format and read again, the list is the same.
#[track_caller]
fn check_round_trip(file: &ParticleFile, options: &ReadOptions) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again");
    let write = WriteOptions {
        format: Some(file.format),
        classes: file.classes.clone(),
        tomograms: options.tomograms.clone(),
    };
    write_particle_file(&path, &file.particles, &write).unwrap();
    let again = read_particle_file(&path, options).unwrap();
    assert_eq!(again.format, file.format);
    check_same(&again.particles, &file.particles);
}

/// The same to a hundredth of a voxel and of a degree.
#[track_caller]
fn check_same(found: &ParticleList, expected: &ParticleList) {
    assert_eq!(found.len(), expected.len());
    match (found.voxel_size, expected.voxel_size) {
        (Some(a), Some(b)) => assert!(a.agrees_with(b, 1e-6), "{a} is not {b}"),
        (a, b) => assert_eq!(a, b),
    }
    for (found, expected) in found.iter().zip(expected.iter()) {
        assert!(found.distance(expected) < 1e-3, "{found:?} is not {expected:?}");
        assert_eq!(
            (found.label, &found.tomogram),
            (expected.label, &expected.tomogram)
        );
        match (found.rotation, expected.rotation) {
            (Some(a), Some(b)) => assert!(a.angle_to(b) < 1e-2),
            (a, b) => assert_eq!(a, b),
        }
        match (found.score, expected.score) {
            (Some(a), Some(b)) => assert!((a - b).abs() < 1e-6),
            (a, b) => assert_eq!(a, b),
        }
    }
}

fn at(size: f32) -> ReadOptions {
    ReadOptions {
        voxel_size: VoxelSize::new(size).ok(),
        ..ReadOptions::default()
    }
}

#[test]
fn relion_3() {
    let tomogram =
        "/STORAGE/anschwar/cryoET/bpbrain/rat/processing/E4/80S/warp/mrc/reconstruction/01006_10.73Apx.mrc";
    check(&Case {
        file: "relion/relion_3.0.star",
        format: ParticleFormat::Relion30,
        options: ReadOptions::default(),
        particles: 3,
        voxel_size: Some(5.364),
        first: known([1028.455, 733.955, 422.955])
            .of(1, None, tomogram)
            .turned([-0.05847, 0.85518, -0.51502], [0.84828, 0.31455, 0.426]),
        last: known([115.955, 930.455, 366.455])
            .of(1, None, tomogram)
            .turned([-0.71899, -0.67847, 0.15074], [-0.60233, 0.71649, 0.35191]),
    });
    check(&Case {
        file: "cdp_annotations/tomoman_relion_star.star",
        format: ParticleFormat::Relion30,
        options: ReadOptions::default(),
        particles: 6,
        voxel_size: Some(1.96),
        first: known([5.2, 10.4, 15.2])
            .of(1, None, "grid_1_lamella1_pos1")
            .turned([HALF_ROOT, 0.0, HALF_ROOT], [0.0, 1.0, 0.0]),
        last: known([1.0, 0.0, -1.0])
            .of(1, None, "grid_1_lamella1_pos3")
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
    });
    check(&Case {
        file: "cdp_annotations/relion_4_star.star",
        format: ParticleFormat::Relion31,
        options: ReadOptions::default(),
        particles: 6,
        voxel_size: Some(1.0),
        first: known([5.2, 10.4, 15.2])
            .of(1, None, "TS_001")
            .turned([HALF_ROOT, 0.0, HALF_ROOT], [0.0, 1.0, 0.0]),
        last: known([1.0, 0.0, -1.0])
            .of(1, None, "TS_003")
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
    });
}

/// Two optics groups of different pixel sizes: shifts in Å are taken by each particle's own, and no size is kept, so
/// that it takes one to write the list again.
#[test]
fn relion_3_1_with_two_pixel_sizes() {
    let Some(shared) = shared() else { return };
    let path = shared.join("formats/relion/relion_3.1_optics2.star");
    let file = read_particle_file(&path, &ReadOptions::default()).unwrap();
    assert_eq!((file.format, file.particles.len()), (ParticleFormat::Relion31, 3));
    assert_eq!(file.particles.voxel_size, None);
    assert!(
        file.notes.iter().any(|note| note.contains("2.446, 3.446")),
        "{:?}",
        file.notes
    );
    let folder = "/STORAGE/huxing/ribo/f29wt1/warpfull2/mrc/reconstruction/0003_12.23Apx.mrc";
    known([1998.97039, 992.18058, 547.21081])
        .of(1, None, folder)
        .turned([-0.48708, -0.29237, 0.82297], [0.86007, -0.32436, 0.3938])
        .check(&file.particles[2]);
    let out = tempfile::tempdir().unwrap();
    let write = WriteOptions {
        format: Some(ParticleFormat::Relion31),
        ..WriteOptions::default()
    };
    let error = write_particle_file(&out.path().join("a.star"), &file.particles, &write).unwrap_err();
    assert!(error.to_string().contains("--voxel-size"), "{error}");
}

#[test]
fn relion_4() {
    check(&Case {
        file: "relion/relion_4.0.star",
        format: ParticleFormat::Relion4,
        options: ReadOptions::default(),
        particles: 1746,
        voxel_size: Some(1.971),
        first: known([1699.36052, 426.80052, 942.08052])
            .of(1, None, "TS_017")
            .turned([0.17142, 0.4599, -0.87127], [0.96934, 0.07931, 0.23258]),
        last: known([1085.91839, 2153.19839, 1089.91839])
            .of(1, None, "TS_043")
            .turned([0.53719, 0.57234, 0.61955], [-0.82084, 0.18579, 0.54009]),
    });
    // With the rotation of the sub-tomogram beside the particle's own.
    check(&Case {
        file: "relion/run_data_empiar10064.star",
        format: ParticleFormat::Relion4,
        options: ReadOptions::default(),
        particles: 284,
        voxel_size: Some(2.62),
        first: known([438.65256, 1593.19179, 865.22003])
            .of(1, None, "CTEM_tomo1")
            .turned([0.07806, 0.99568, 0.05021], [0.19006, 0.03458, -0.98116]),
        last: known([600.54353, 1617.11209, 872.81358])
            .of(1, None, "CTEM_tomo1")
            .turned([0.47317, -0.67957, -0.56062], [0.80561, 0.5913, -0.03681]),
    });
}

/// Centred coordinates need the tomograms STAR: 4000 × 4000 × 2000 pixels of 1.35 Å there. The second tomogram of
/// the list is not in it, so that the test reads a copy of the table that has both.
#[test]
fn relion_5() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("formats/relion");
    let bare = read_particle_file(
        &folder.join("relion5_run_it025_data_small.star"),
        &ReadOptions::default(),
    );
    let error = bare.unwrap_err().to_string();
    assert!(
        error.contains("--tomograms") && error.contains("TS_01"),
        "{error}"
    );

    let text = std::fs::read_to_string(folder.join("relion5_tomograms.star")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let table = scratch.path().join("tomograms.star");
    std::fs::write(&table, text.replace("TS_03", "TS_02")).unwrap();
    let tomograms = TomogramTable::read(&table).unwrap();
    assert_eq!(tomograms.frames().len(), 5);
    let frame = tomograms.get(Some("TS_01")).unwrap();
    assert_eq!(
        (frame.shape, frame.binning),
        ([2000, 4000, 4000], Some(7.407_407))
    );
    check(&Case {
        file: "relion/relion5_run_it025_data_small.star",
        format: ParticleFormat::Relion5,
        options: ReadOptions {
            tomograms: tomograms.clone(),
            ..ReadOptions::default()
        },
        particles: 10,
        voxel_size: Some(1.35),
        first: known([2558.61472, 1344.4401, 1099.20146])
            .of(1, None, "TS_01")
            .turned([-0.00432, 0.04865, 0.99881], [0.2156, -0.97528, 0.04844]),
        last: known([2581.28289, 1423.31886, 1088.25395])
            .of(3, None, "TS_02")
            .turned([0.04691, 0.11769, 0.99194], [0.02785, 0.99249, -0.11907]),
    });
    // Counted in voxels of the reconstruction, binned 7.407407 times.
    let binned = ReadOptions {
        tomograms,
        ..at(10.0)
    };
    let list = read_particle_file(&folder.join("relion5_run_it025_data_small.star"), &binned)
        .unwrap()
        .particles;
    let expected = [2558.61472, 1344.4401, 1099.20146].map(|value| value * 0.135);
    assert!((0..3).all(|axis| (list[0].position[axis] - expected[axis]).abs() < 1e-3));
}

#[test]
fn warp() {
    check(&Case {
        file: "relion/relion5_warp2_particles_matching.star",
        format: ParticleFormat::Warp,
        options: ReadOptions::default(),
        particles: 1218,
        voxel_size: Some(4.0),
        first: known([354.242, 397.132, 75.828])
            .of(1, None, "TS_17.tomostar")
            .turned([0.4089, 0.63066, 0.6596], [-0.85412, 0.51901, 0.03324]),
        last: known([144.69, 1066.511, 176.932])
            .of(1, None, "TS_23.tomostar")
            .turned([-0.36636, 0.20438, 0.90775], [-0.00191, 0.97541, -0.22038]),
    });
    check(&Case {
        file: "cdp_annotations/relion_3_star.star",
        format: ParticleFormat::Warp,
        options: ReadOptions::default(),
        particles: 6,
        voxel_size: Some(1.7005),
        first: known([5.2, 10.4, 15.2])
            .of(1, None, "tomo_1.tomostar")
            .turned([HALF_ROOT, 0.0, HALF_ROOT], [0.0, 1.0, 0.0]),
        last: known([1.0, 0.0, -1.0])
            .of(1, None, "tomo_3.tomostar")
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
    });
    // Of Warp too, though it lies with STOPGAP's.
    check(&Case {
        file: "stopgap/bin1_1deg_500.star",
        format: ParticleFormat::Relion30,
        options: ReadOptions::default(),
        particles: 2,
        voxel_size: Some(1.971),
        first: known([4052.123, 3272.708, 777.879])
            .of(
                1,
                None,
                "/STORAGE/matuijte/Lamella_tilt_increment/warp_1deg/mrc/reconstruction/1342_7.88Apx.mrc",
            )
            .turned([0.20589, -0.95548, -0.21137], [-0.92751, -0.2594, 0.26915]),
        last: known([1364.908, 3645.25, 368.394])
            .of(
                1,
                None,
                "/STORAGE/matuijte/Lamella_tilt_increment/warp_1deg/mrc/reconstruction/1333_7.88Apx.mrc",
            )
            .turned([-0.47968, -0.86718, -0.13384], [0.10218, 0.09629, -0.9901]),
    });
}

#[test]
fn pytom() {
    let frame = deepfinder_io::TomogramFrame {
        shape: [186, 512, 512],
        voxel_size: VoxelSize::new(15.0).ok(),
        ..deepfinder_io::TomogramFrame::default()
    };
    let Some(shared) = shared() else { return };
    let options = ReadOptions {
        tomograms: frame.into(),
        ..ReadOptions::default()
    };
    let path = shared.join("formats/relion/pytom_match_pick_150.star");
    let file = read_particle_file(&path, &options).unwrap();
    assert_eq!(
        (file.format, file.particles.len()),
        (ParticleFormat::PytomStar, 150)
    );
    known([396.0, 380.0, 136.0])
        .of(1, Some(0.580_566), "reconstruction_fixed")
        .turned([0.37555, 0.13669, -0.91667], [-0.55331, 0.82653, -0.10344])
        .check(&file.particles[0]);
    check_round_trip(&file, &options);

    check(&Case {
        file: "pytom_xml/pickpos_format.xml",
        format: ParticleFormat::PytomXml,
        options: ReadOptions::default(),
        particles: 10,
        voxel_size: None,
        first: known([0.0; 3])
            .of(1, Some(0.0), "tomo1.tomostar")
            .turned([-0.96782, -0.04841, 0.24695], [-0.17656, -0.56861, -0.80344]),
        last: known([0.0; 3])
            .of(1, Some(0.0), "tomo1.tomostar")
            .turned([-0.13761, -0.30648, 0.94188], [-0.93037, 0.36624, -0.01675]),
    });
    check(&Case {
        file: "pytom_xml/coords_tomogram_000_WBP.txt",
        format: ParticleFormat::Coords,
        options: ReadOptions::default(),
        particles: 2,
        voxel_size: None,
        first: known([68.0, 60.0, 232.0]),
        last: known([108.0, 73.0, 232.0]),
    });
}

#[test]
fn stopgap() {
    check(&Case {
        file: "stopgap/stopgap_star.star",
        format: ParticleFormat::Stopgap,
        options: ReadOptions::default(),
        particles: 6,
        voxel_size: None,
        first: known([1.8, 4.6, 7.8])
            .of(1, Some(0.1816), "1")
            .turned([0.0, HALF_ROOT, HALF_ROOT], [0.0, -HALF_ROOT, HALF_ROOT]),
        last: known([4.0, 3.0, 2.0])
            .of(1, Some(0.1704), "3")
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
    });
}

#[test]
fn dynamo() {
    let case = |file, particles, first, last| {
        check(&Case {
            file,
            format: ParticleFormat::Dynamo,
            options: ReadOptions::default(),
            particles,
            voxel_size: None,
            first,
            last,
        });
    };
    case(
        "dynamo/b4_motl_dynamo.tbl",
        1343,
        known([508.0651, 549.1602, 167.6847])
            .of(1, Some(0.1593), "2")
            .turned([-0.57549, 0.79589, 0.18808], [0.81035, 0.58595, 0.0]),
        known([738.9991, 88.0259, 193.0774])
            .of(1, Some(0.1549), "289")
            .turned([-0.58069, -0.54767, -0.60237], [0.23212, 0.59781, -0.76729]),
    );
    // Some of its numbers are complex (MATLAB's `0+1.2e-06i`), in a column of no use here.
    case(
        "dynamo/empiar10064_aligned.tbl",
        499,
        known([264.43647, 1372.6369, 176.4013])
            .of(1, Some(0.53796), "1")
            .turned([0.12201, -0.9866, -0.10836], [-0.5918, -0.15996, 0.79005]),
        known([348.8936, 872.3473, 152.8702])
            .of(1, Some(0.51178), "2")
            .turned([-0.94675, -0.32193, -0.00522], [-0.12468, 0.38151, -0.91592]),
    );
    case(
        "dynamo/empiar10064_picked_b8.tbl",
        4427,
        known([67.75, 17.087, 81.0])
            .of(1, Some(0.0), "1")
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
        known([438.3, 98.445, 41.0])
            .of(1, Some(0.0), "4")
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
    );
    case(
        "dynamo/t_double.tbl",
        300,
        known([143.7978, 111.187, 165.1843])
            .of(9, Some(0.15858), "1")
            .turned([0.07567, -0.99706, -0.01189], [0.63369, 0.05729, -0.77146]),
        known([239.23871, 29.9808, 183.62498])
            .of(2, Some(0.50554), "2")
            .turned([0.84848, -0.31605, 0.4245], [0.32853, -0.31431, -0.89066]),
    );
}

#[test]
fn av3() {
    let case = |file, particles, first, last| {
        check(&Case {
            file,
            format: ParticleFormat::Av3,
            options: ReadOptions::default(),
            particles,
            voxel_size: None,
            first,
            last,
        });
    };
    case(
        "av3_em/au_1.em",
        64,
        known([228.83020, 199.89326, 177.37042])
            .of(1, Some(0.063_319_45), "160")
            .turned([0.62344, -0.48171, -0.61586], [0.76846, 0.23223, 0.59627]),
        known([479.44277, 616.22987, 332.60704])
            .of(1, Some(0.059_292_402), "160")
            .turned([0.28108, -0.19214, 0.94025], [-0.5372, 0.78037, 0.32006]),
    );
    // In double precision.
    case(
        "av3_em/au_2.em",
        11,
        known([652.06555, 684.46342, 197.89253])
            .of(1, Some(0.068_944_53), "160")
            .turned([0.54854, -0.67961, -0.48706], [-0.19854, -0.67174, 0.71369]),
        known([468.83919, 484.09703, 183.23105])
            .of(1, Some(0.090_733_84), "160")
            .turned([0.73743, -0.59178, -0.32557], [-0.66297, -0.54204, -0.5164]),
    );
    case(
        "av3_em/motl_040_STAexample.em",
        2915,
        known([1249.38706, 393.15657, 286.23619])
            .of(1, Some(0.088_276_79), "40")
            .turned([-0.40457, -0.83833, -0.36543], [0.60633, 0.05325, -0.79343]),
        known([889.31684, 1019.8496, 777.4549])
            .of(1, Some(0.098_756_06), "40")
            .turned([0.03322, -0.06134, 0.99756], [-0.03182, 0.99754, 0.0624]),
    );
    case(
        "av3_em/allmotl_sp_cl1_1.em",
        8100,
        known([3157.3415, 5228.1719, 524.6392])
            .of(1, Some(0.0652), "5")
            .turned([-0.38622, 0.9043, -0.18188], [-0.03678, -0.21212, -0.97655]),
        known([1883.7349, 2948.4683, 544.6774])
            .of(1, Some(0.0724), "331")
            .turned([-0.8874, 0.43045, 0.16501], [0.23813, 0.73451, -0.63545]),
    );
}

#[test]
fn imod() {
    let case = |file, particles, voxel_size, first: [f64; 3], last: [f64; 3], label| {
        let centre = |[x, y, z]: [f64; 3]| known([x - 0.5, y - 0.5, z]);
        let mut last = centre(last);
        last.label = label;
        let mut first = centre(first);
        first.label = if file == "imod_mod/multiple_objects_example.mod" {
            2
        } else {
            1
        };
        check(&Case {
            file,
            format: ParticleFormat::Imod,
            options: ReadOptions::default(),
            particles,
            voxel_size,
            first,
            last,
        });
    };
    case(
        "imod_mod/byu_flagellar_test_2.mod",
        2,
        Some(13.236_363),
        [172.03705, 787.30847, 419.98953],
        [239.62744, 517.99054, 446.05328],
        1,
    );
    case(
        "imod_mod/cryocat_correct111.mod",
        161,
        None,
        [128.5, 699.0, -76.0],
        [190.0, 361.5, -76.0],
        1,
    );
    case(
        "imod_mod/point_sizes_example.mod",
        18,
        Some(12.399),
        [438.5, 898.5, 46.0],
        [1059.5, 1029.5, 59.0],
        3,
    );
    case(
        "imod_mod/slicer_angle_example.mod",
        4,
        Some(16.145_454),
        [235.42159, 682.91248, 301.95468],
        [240.19528, 680.17706, 324.11615],
        1,
    );
    case(
        "imod_mod/two_contour_example.mod",
        25,
        Some(4.48),
        [64.33334, 64.66666, 80.0],
        [83.0, 82.0, 59.0],
        1,
    );
    case(
        "cdp_annotations/points.mod",
        3,
        None,
        [1.0, 2.0, 3.0],
        [0.0, 3.0, 0.0],
        1,
    );
    case(
        "cdp_annotations/oriented_points.mod",
        4,
        Some(16.145_454),
        [235.42159, 682.91248, 301.95468],
        [240.19528, 680.17706, 324.11615],
        1,
    );
}

/// The first object has no points; meshes, which do not say their length, stand between the others.
#[test]
fn imod_with_several_objects() {
    let Some(shared) = shared() else { return };
    let path = shared.join("formats/imod_mod/multiple_objects_example.mod");
    let file = read_particle_file(&path, &ReadOptions::default()).unwrap();
    assert_eq!(file.particles.len(), 6);
    assert_eq!(file.particles.count_by_label(), [(2, 3), (3, 3)].into());
    assert_eq!(file.classes.name_of(2), "chemo-array");
    let position = file.particles[0].position;
    assert!((position[0] - 366.500_06).abs() < 1e-4 && (position[2] - 134.0).abs() < 1e-4);
    let last = file.particles[5].position;
    assert!((last[0] - 766.333_5).abs() < 1e-4 && (last[2] - 141.0).abs() < 1e-4);
}

#[test]
fn copick() {
    let z = [0.761_408_9, -0.646_746_6, -0.044_444_4];
    let x = [-0.648_271_9, -0.759_611_7, -0.052_284_2];
    // Its matrices repeat the location as shift.
    check(&Case {
        file: "copick/CCDC147C_001_microtubule.json",
        format: ParticleFormat::Copick,
        options: ReadOptions::default(),
        particles: 597,
        voxel_size: Some(8.2),
        first: known([22.829_268, 677.128_57, 72.162_445])
            .of(1, Some(0.0), "CCDC147C_001")
            .turned(z, x),
        last: known([575.024_39, 116.997_412, 211.346_45])
            .of(1, Some(0.0), "CCDC147C_001")
            .turned(
                [0.707_091, -0.694_438_3, -0.133_333_3],
                [0.514_889_9, 0.376_390_2, 0.770_207],
            ),
    });
    let mut first = known([4.0, 2.0, 3.0]).turned([HALF_ROOT, 0.0, HALF_ROOT], [0.0, 1.0, 0.0]);
    first.score = Some(1.0);
    let mut last = known([3.0, 1.0, 5.0]).turned([-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]);
    last.score = Some(1.0);
    check(&Case {
        file: "cdp_annotations/copick.json",
        format: ParticleFormat::Copick,
        options: at(10.0),
        particles: 4,
        voxel_size: Some(10.0),
        first,
        last,
    });
    let run = "Position_94_Vol";
    check(&Case {
        file: "cdp_annotations/copick_instance.json",
        format: ParticleFormat::Copick,
        options: at(5.0),
        particles: 6,
        voxel_size: Some(5.0),
        first: known([2.0, 4.0, 6.0])
            .of(1, Some(1.0), run)
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
        last: known([1.5, 1.0, 0.5])
            .of(1, Some(1.0), run)
            .turned([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
    });
    let Some(shared) = shared() else { return };
    let path = shared.join("formats/cdp_annotations/copick.json");
    let error = read_particle_file(&path, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("--voxel-size"), "{error}");
}

#[test]
fn tables_and_points() {
    let case = |file, format, options, voxel_size, first, last, particles| {
        check(&Case {
            file,
            format,
            options,
            particles,
            voxel_size,
            first: known(first),
            last: known(last),
        });
    };
    let plain = ReadOptions::default;
    case(
        "cdp_annotations/points.csv",
        ParticleFormat::Coords,
        plain(),
        None,
        [1.0, 2.0, 3.0],
        [0.0, 3.0, 0.0],
        3,
    );
    case(
        "cdp_annotations/points_with_header.csv",
        ParticleFormat::Csv,
        plain(),
        None,
        [1.0, 2.0, 3.0],
        [0.0, 3.0, 0.0],
        3,
    );
    case(
        "cdp_annotations/tardis.csv",
        ParticleFormat::Csv,
        at(2.0),
        Some(2.0),
        [2.0, 4.0, 6.0],
        [1.5, 1.0, 0.5],
        6,
    );
    check(&Case {
        file: "deepfinder_objl/spinach38_pos_reduced.xml",
        format: ParticleFormat::DeepFinderXml,
        options: plain(),
        particles: 27,
        voxel_size: None,
        first: known([197.0, 371.0, 203.0]).of(1, None, "2"),
        last: known([744.0, 654.0, 198.0]).of(1, None, "2"),
    });
}

/// What is no list of particles in tomograms is refused in words.
#[test]
fn files_beside_lists_are_refused() {
    let Some(shared) = shared() else { return };
    for (name, word) in [
        ("relion/pytom_relion_with_optics_group.star", "micrographs"),
        ("relion/relion5_tomograms.star", "list of tomograms"),
        ("relion/relion5_pytom_tomograms.star", "list of tomograms"),
        ("relion/relion5_job_tomograms_small.star", "list of tomograms"),
        ("relion/relion5_tilt_series_tomo200528_107.star", "tilt series"),
        ("tilt/TS_run1.xf", "cannot tell"),
    ] {
        let error = read_particle_file(&shared.join("formats").join(name), &ReadOptions::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let tables = [
        ("relion5_tomograms.star", 5),
        ("relion5_pytom_tomograms.star", 10),
        ("relion5_job_tomograms_small.star", 2),
    ];
    for (name, tomograms) in tables {
        let table = TomogramTable::read(&shared.join("formats/relion").join(name)).unwrap();
        assert_eq!(table.frames().len(), tomograms, "{name}");
    }
}

/// Files of formats of which no real one stands beside the repository, typed by their descriptions.
#[test]
fn formats_without_a_real_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let frame = deepfinder_io::TomogramFrame {
        shape: [100, 201, 300],
        voxel_size: VoxelSize::new(8.0).ok(),
        ..deepfinder_io::TomogramFrame::default()
    };
    let options = ReadOptions {
        tomograms: frame.into(),
        ..ReadOptions::default()
    };
    let read = |text: &str, options: &ReadOptions| {
        std::fs::write(&path, text).unwrap();
        read_particle_file(&path, options).unwrap()
    };

    // Unbinned pixels of 2 Å from n//2 of a tomogram of 8 Å: (300, 201, 100) // 2 = (150, 100, 50).
    let eman = r#"{"apix_unbin": 2.0, "boxes_3d": [[40, -4, 0, "tomobox", 0.5, 1]], "class_list": {"1": {"name": "ribosome", "boxsize": 32}}}"#;
    let file = read(eman, &options);
    assert_eq!(
        (file.format, file.particles.voxel_size),
        (ParticleFormat::Eman2, VoxelSize::new(8.0).ok())
    );
    let mut expected = Particle::new([160.0, 99.0, 50.0], 1);
    expected.score = Some(0.5);
    assert_eq!(file.particles.particles, [expected]);
    assert_eq!(file.classes.name_of(1), "ribosome");
    check_round_trip(&file, &options);

    let cbox = "data_global\n\n_version 1.0\n\ndata_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_CoordinateZ #3\n_Width #4\n_Height #5\n_Depth #6\n_EstWidth #7\n_EstHeight #8\n_Confidence #9\n_NumBoxes #10\n_Angle #11\n\n10.0 20.0 30.0 8 8 4 <NA> <NA> 0.75 3 <NA>\n";
    let file = read(cbox, &ReadOptions::default());
    assert_eq!(
        (file.format, file.particles[0].position),
        (ParticleFormat::Cbox, [14.0, 24.0, 32.0])
    );
    assert_eq!(file.particles[0].score, Some(0.75));

    let portal = "{\"type\": \"orientedPoint\", \"location\": {\"x\": 1.5, \"y\": 2, \"z\": 3}, \"xyz_rotation_matrix\": [[0, -1, 0], [1, 0, 0], [0, 0, 1]], \"instance_id\": 7}\n{\"type\": \"point\", \"location\": {\"x\": 4, \"y\": 5, \"z\": 6}}\n";
    let file = read(portal, &ReadOptions::default());
    assert_eq!(file.format, ParticleFormat::Portal);
    let first = Particle::new([1.5, 2.0, 3.0], 1).with_rotation(Rotation::about_z(90.0));
    assert!(
        file.particles[0]
            .rotation
            .unwrap()
            .angle_to(first.rotation.unwrap())
            < 1e-5
    );
    assert_eq!(
        (file.particles[0].position, file.particles[1].rotation),
        (first.position, None)
    );
    check_round_trip(&file, &ReadOptions::default());

    let cmm = "<marker_set name=\"a b\">\n<marker id=\"1\" x=\"20\" y=\"40.5\" z=\"-10\" r=\"1\" g=\"0\" b=\"0\" radius=\"5\"/>\n</marker_set>\n";
    let file = read(cmm, &at(10.0));
    assert_eq!(
        (file.format, file.particles[0].position),
        (ParticleFormat::Cmm, [2.0, 4.05, -1.0])
    );
    assert_eq!(file.classes.name_of(1), "a b");
    check_round_trip(&file, &at(10.0));
}

/// A list with everything is written in every format; what comes back is what the table says the format holds.
#[test]
fn every_format_keeps_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let frame = deepfinder_io::TomogramFrame {
        shape: [100, 200, 300],
        voxel_size: VoxelSize::new(10.0).ok(),
        ..deepfinder_io::TomogramFrame::default()
    };
    for entry in particle_formats().iter().filter(|entry| entry.is_written()) {
        let mut list = ParticleList {
            voxel_size: VoxelSize::new(10.0).ok(),
            ..ParticleList::default()
        };
        for (i, label) in [(1.0, 1), (2.0, if entry.holds.class { 2 } else { 1 })] {
            let mut particle = Particle::new([10.25 * i, 20.125 * i, 30.0 + i], label)
                .with_rotation(Rotation::from_zxz_degrees(10.0 * i, 20.0, 30.0));
            particle.score = Some(0.5);
            particle.size_voxels = Some(600);
            particle.tomogram = Some(
                if entry.format == ParticleFormat::Warp {
                    "7.tomostar"
                } else {
                    "7"
                }
                .into(),
            );
            list.particles.push(particle);
        }
        let write = WriteOptions {
            format: Some(entry.format),
            tomograms: frame.clone().into(),
            ..WriteOptions::default()
        };
        let path = folder.path().join("list");
        let notes = write_particle_file(&path, &list, &write).unwrap();
        let holds = entry.holds;
        for (is_held, word) in [
            (holds.rotation, "orientations"),
            (holds.score, "scores"),
            (holds.size, "cluster sizes"),
            (holds.tomogram, "tomogram names"),
        ] {
            let is_named = notes.iter().any(|note| note.contains(word));
            assert_eq!(is_named, !is_held, "{}: {word}: {notes:?}", entry.id);
        }
        if !entry.is_read() {
            continue;
        }
        let classes = ["class1", "class2"]
            .into_iter()
            .zip(1..)
            .map(|(name, label)| deepfinder_core::Class {
                label,
                name: name.to_owned(),
                radius_voxels: None,
            });
        let options = ReadOptions {
            format: Some(entry.format),
            voxel_size: VoxelSize::new(10.0).ok().filter(|_| !holds.voxel_size),
            tomograms: frame.clone().into(),
            classes: deepfinder_core::ClassTable::new(classes.collect()).unwrap(),
            ..ReadOptions::default()
        };
        let file = read_particle_file(&path, &options).unwrap();
        assert_eq!(file.format, entry.format, "{}", entry.id);
        for particle in &mut list.particles {
            particle.rotation = particle.rotation.filter(|_| holds.rotation);
            particle.score = particle.score.filter(|_| holds.score);
            particle.size_voxels = particle.size_voxels.filter(|_| holds.size);
            particle.tomogram = particle.tomogram.take().filter(|_| holds.tomogram);
        }
        check_same(&file.particles, &list);
        assert!(
            file.particles
                .iter()
                .zip(list.iter())
                .all(|(a, b)| a.size_voxels == b.size_voxels)
        );
    }
}

#[test]
fn the_first_voxel_and_the_origin_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.coords");
    std::fs::write(&path, "1 2 3\n").unwrap();
    let read =
        |options: &ReadOptions| read_particle_file(Path::new(&path), options).unwrap().particles[0].position;
    let from_one = ReadOptions {
        first_voxel: Some(1),
        ..ReadOptions::default()
    };
    assert_eq!(read(&from_one), [0.0, 1.0, 2.0]);
    let frame = deepfinder_io::TomogramFrame {
        shape: [10, 20, 30],
        ..deepfinder_io::TomogramFrame::default()
    };
    let from_middle = ReadOptions {
        origin: Some(deepfinder_io::Origin::Centre),
        tomograms: frame.into(),
        ..ReadOptions::default()
    };
    assert_eq!(read(&from_middle), [16.0, 12.0, 8.0]);
}
