//! Files of other programs through the real program.
#![allow(clippy::unwrap_used, reason = "tests")]

use deepfinder_core::{Volume, VoxelSize};
use deepfinder_tests::Bench;
use ndarray::Array3;
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

const PICKS: &str =
    "class,x,y,z,phi,psi,the,score\n1,100.25,50.5,30.125,10,20,30,0.5\n2,40,50,60,0,0,0,0.25\n";

/// Two tomograms of 400 × 300 × 200 pixels of 2 Å, their reconstructions binned five times.
const TOMOGRAMS: &str = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnVoltage #2\n_rlnSphericalAberration #3\n\
    _rlnAmplitudeContrast #4\n_rlnOpticsGroupName #5\n_rlnTomoTiltSeriesPixelSize #6\n_rlnTomoTomogramBinning #7\n\
    _rlnTomoSizeX #8\n_rlnTomoSizeY #9\n_rlnTomoSizeZ #10\n\
    TS_01 300 2.7 0.1 optics1 2.0 5 400 300 200\nTS_02 300 2.7 0.1 optics1 2.0 5 400 300 200\n";

#[test]
fn the_document_of_formats_is_the_table_of_the_program() {
    let bench = Bench::default();
    let printed = bench.run("formats --markdown").success();
    let document = include_str!("../../FORMATS.md");
    assert!(
        printed.trim() == document.trim(),
        "run `deepfinder formats --markdown > FORMATS.md`"
    );
}

#[test]
fn a_list_goes_to_relion_and_back() {
    let bench = Bench::default();
    bench.write("picks.csv", PICKS);
    bench.write("tomograms.star", TOMOGRAMS);
    bench
        .run("convert picks.csv out.star --tomogram TS_01 --voxel-size 10")
        .refused(&["--tomograms"]);
    let shown = bench
        .run("convert picks.csv out.star --tomogram TS_01 --voxel-size 10 --tomograms tomograms.star --dry-run")
        .success();
    assert!(
        shown.contains("_rlnCenteredCoordinateXAngst") && shown.contains("100.250"),
        "{shown}"
    );
    assert!(!bench.path("out.star").exists());
    bench
        .run("convert picks.csv out.star --tomogram TS_01 --voxel-size 10 --tomograms tomograms.star")
        .success();
    // 100.25 voxels of 10 Å are 1002.5 Å from the corner, and the middle is at 400 Å.
    let star = std::fs::read_to_string(bench.path("out.star")).unwrap();
    assert!(star.contains("602.500000"), "{star}");
    assert!(
        star.contains("optics1") && star.contains("_rlnTomoTiltSeriesPixelSize"),
        "{star}"
    );

    bench
        .run("convert out.star back.csv --tomograms tomograms.star --voxel-size 10")
        .success();
    let info = parsed(&bench.run("info back.csv --json").success());
    assert_eq!(info["last_xyz"], json!([100.25, 50.5, 60.0]));
    assert_eq!(info["voxel_size_angstrom"], json!(10.0));
    let unbinned = parsed(
        &bench
            .run("convert out.star back.xml --tomograms tomograms.star --bin 5 --json")
            .success(),
    );
    assert_eq!(
        unbinned["first"][0]["position_xyz"],
        json!([100.25, 50.5, 30.125])
    );
}

#[test]
fn what_a_format_cannot_hold_is_named() {
    let bench = Bench::default();
    bench.write("picks.csv", PICKS);
    let converted = parsed(&bench.run("convert picks.csv out.coords --json").success());
    let notes = converted["notes"].to_string();
    assert!(
        notes.contains("orientations of 2") && notes.contains("scores of 2"),
        "{notes}"
    );
    let doubted = parsed(
        &bench
            .run("convert picks.csv out.xml --voxel-size 1 --json")
            .success(),
    );
    assert!(doubted["notes"].to_string().contains("1 \u{c5}"), "{doubted}");
    bench
        .run("convert picks.csv out.xml --voxel-size 0")
        .refused(&["voxel size"]);
    bench
        .run("convert picks.csv out.xml --to nonsense")
        .refused(&["relion5"]);
}

#[test]
fn classes_and_angles_can_be_told() {
    let bench = Bench::default();
    bench.write(
        "picks.csv",
        "class,x,y,z,phi,psi,the\n700,1,2,3,90,0,90\nribosome,4,5,6,0,0,0\n",
    );
    bench
        .run("convert picks.csv out.csv")
        .refused(&["--class-map 700=1"]);
    let converted = parsed(
        &bench
            .run("convert picks.csv out.csv --class-map 700=3 --class-map ribosome=4 --euler zyz --json")
            .success(),
    );
    assert_eq!(
        (&converted["first"][0]["label"], &converted["first"][1]["label"]),
        (&json!(3), &json!(4))
    );
    // rot 90, tilt 90, psi 0 of RELION take z to −x, which in ZXZ is the 90 and psi −90.
    let angles = converted["first"][0]["angles_phi_psi_the"].as_array().unwrap();
    let angle = |i: usize| angles[i].as_f64().unwrap();
    assert!(
        (angle(2) - 90.0).abs() < 1e-6 && (angle(1) + 90.0).abs() < 1e-6,
        "{angles:?}"
    );
    let one = parsed(
        &bench
            .run("convert picks.csv out.csv --class-map 700=3 --class-map ribosome=4 --only-class 4 --json")
            .success(),
    );
    assert_eq!(one["particles"], json!(1));
}

/// A label map of a RELION reconstruction goes through `pick` into a STAR file that RELION 5 imports: names, optics and
/// centred coordinates are those of its tomograms.
#[test]
fn picks_go_to_relion_5() {
    let bench = Bench::default();
    bench.write("tomograms.star", TOMOGRAMS);
    let mut labels = Array3::<u8>::zeros((40, 60, 80));
    labels.slice_mut(ndarray::s![9..12, 19..22, 29..32]).fill(1);
    let labels = Volume::new(labels).with_voxel_size(VoxelSize::new(10.0).ok());
    deepfinder_io::write_volume(&bench.path("TS_01.mrc"), &labels).unwrap();
    bench
        .run("pick TS_01.mrc -o particles.star --method components --tomograms tomograms.star")
        .success();
    let star = std::fs::read_to_string(bench.path("particles.star")).unwrap();
    // The component's middle (30, 20, 10) of 10 Å from the middle (400, 300, 200) Å.
    for text in ["TS_01", "-100.000000", "_rlnTomoName", "data_optics", "optics1"] {
        assert!(star.contains(text), "{text}: {star}");
    }
    // Without the table the label map's own size does, but the name has to be told.
    bench
        .run("pick TS_01.mrc -o own.star --method components")
        .refused(&["--tomogram NAME"]);
    bench
        .run("pick TS_01.mrc -o own.star --method components --tomogram TS_01")
        .success();
    assert!(
        std::fs::read_to_string(bench.path("own.star"))
            .unwrap()
            .contains("-100.000000")
    );
    let info = parsed(
        &bench
            .run("info particles.star --tomograms tomograms.star --json")
            .success(),
    );
    assert_eq!(
        (&info["particles"], &info["format"]),
        (&json!(1), &json!("RELION 5 STAR"))
    );
    let tomograms = parsed(&bench.run("info tomograms.star --json").success());
    assert_eq!(tomograms["unbinned_shape_zyx"]["TS_02"], json!([200, 300, 400]));
}

#[test]
fn suspicious_lists_are_found() {
    let bench = Bench::default();
    bench.write("tomograms.star", TOMOGRAMS);
    bench.write(
        "far.csv",
        "class,x,y,z,tomogram,voxel_size_angstrom\n1,900,50,30,TS_01,2\n1,90,50,30,TS_01,2\n",
    );
    let info = parsed(
        &bench
            .run("info far.csv --tomograms tomograms.star --json")
            .success(),
    );
    let warnings = info["warnings"].to_string();
    assert!(
        warnings.contains("1 positions lie outside TS_01") && warnings.contains("--bin"),
        "{warnings}"
    );
    bench.write("swapped.csv", "class,x,y,z\n1,10,50,300\n1,20,60,310\n");
    let info = parsed(&bench.run("info swapped.csv --json").success());
    assert!(info["warnings"].to_string().contains("--swap-xz"), "{info}");
}

/// A small copick project: `init` makes a project of it, with its tomograms, classes and picks; `convert` writes picks
/// and a segmentation into its overlay.
#[test]
fn copick_projects_are_read_and_written() {
    let bench = Bench::default();
    let run = |name: &str| format!("data/ExperimentRuns/{name}");
    for name in ["TS1", "TS2", "TS_3"] {
        let spacing = bench.path(&run(name)).join("VoxelSpacing10.000");
        std::fs::create_dir_all(&spacing).unwrap();
        let volume =
            Volume::new(Array3::<f32>::zeros((8, 16, 24))).with_voxel_size(VoxelSize::new(10.0).ok());
        deepfinder_io::write_volume(&spacing.join("wbp.zarr"), &volume).unwrap();
    }
    for name in ["TS1", "TS2"] {
        let folder = bench.path(&run(name)).join("Picks");
        std::fs::create_dir_all(&folder).unwrap();
        let picks = json!({
            "pickable_object_name": "ribosome", "user_id": "ann", "session_id": "0", "run_name": name,
            "voxel_spacing": 10.0, "unit": "angstrom",
            "points": [{"location": {"x": 50.0, "y": 60.0, "z": 70.0}, "transformation_": null, "instance_id": 0, "score": 1.0}],
        });
        std::fs::write(folder.join("ann_0_ribosome.json"), picks.to_string()).unwrap();
    }
    let config = json!({
        "config_type": "filesystem", "name": "test", "overlay_root": "local://overlay", "static_root": "local://data",
        "pickable_objects": [
            {"name": "ribosome", "is_particle": true, "label": 2, "radius": 120.0},
            {"name": "membrane", "is_particle": false, "label": 1},
        ],
    });
    bench.write("copick.json", config.to_string());
    let info = parsed(&bench.run("info copick.json --json").success());
    assert_eq!(
        (&info["classes"]["2"], &info["picks"]["TS1"]),
        (&json!("ribosome"), &json!(1))
    );

    bench.run("init project --copick copick.json").success();
    let toml = std::fs::read_to_string(bench.path("project/deepfinder.toml")).unwrap();
    for text in [
        "name = \"ribosome\"",
        "label = 2",
        "120 A",
        "TS1",
        "wbp.zarr",
        "split = \"validate\"",
        "split = \"test\"",
    ] {
        assert!(toml.contains(text), "{text}: {toml}");
    }
    let list = parsed(&bench.run("info project/picks/TS1.csv --json").success());
    assert_eq!(list["first_xyz"], json!([5.0, 6.0, 7.0]));

    bench.write("picks.csv", "class,x,y,z,voxel_size_angstrom\n2,1,2,3,10\n");
    bench
        .run("convert picks.csv copick.json --tomogram TS_3 --class ribosome=2")
        .success();
    let written = bench.path("overlay/ExperimentRuns/TS_3/Picks/deepfinder_1_ribosome.json");
    let picks = parsed(&std::fs::read_to_string(written).unwrap());
    assert_eq!(
        picks["points"][0]["location"],
        json!({"x": 10.0, "y": 20.0, "z": 30.0})
    );

    let labels =
        Volume::new(Array3::<u8>::from_elem((8, 16, 24), 2)).with_voxel_size(VoxelSize::new(10.0).ok());
    deepfinder_io::write_volume(&bench.path("labels.mrc"), &labels).unwrap();
    bench
        .run("convert labels.mrc copick.json --tomogram TS_3")
        .success();
    let name = "overlay/ExperimentRuns/TS_3/Segmentations/10.000_deepfinder_1_deepfinder-multilabel.zarr";
    assert_eq!(
        deepfinder_io::read_label_map(&bench.path(name)).unwrap().voxels,
        labels.voxels
    );
}

#[test]
fn volumes_change_their_format() {
    let bench = Bench::default();
    let volume = Volume::new(Array3::from_shape_fn((4, 5, 6), |(z, y, x)| {
        (z * 30 + y * 6 + x) as f32
    }))
    .with_voxel_size(VoxelSize::new(13.5).ok());
    deepfinder_io::write_volume(&bench.path("a.mrc"), &volume).unwrap();
    let mut last = "a.mrc".to_owned();
    for next in ["b.zarr", "c.tif", "d.mrc.gz", "e.h5"] {
        bench.run(&format!("convert {last} {next}")).success();
        let info = parsed(&bench.run(&format!("info {next} --json")).success());
        assert_eq!(
            (&info["shape_zyx"], &info["voxel_size_angstrom"]),
            (&json!([4, 5, 6]), &json!(13.5)),
            "{next}"
        );
        last = next.to_owned();
    }
    bench.run("convert a.mrc b.zarr --ome-zarr 0.5").success();
    assert!(bench.path("b.zarr/zarr.json").exists());
    bench
        .run("convert a.mrc b.npy --only-class 2")
        .refused(&["particle lists"]);
}

/// Two voxels along each axis become one: averaged in a tomogram, the most frequent in a label map.
#[test]
fn volumes_are_binned() {
    let bench = Bench::default();
    let volume = Volume::new(Array3::from_shape_fn((4, 5, 6), |(z, y, x)| {
        (z * 100 + y * 10 + x) as f32
    }))
    .with_voxel_size(VoxelSize::new(5.0).ok());
    deepfinder_io::write_volume(&bench.path("a.mrc"), &volume).unwrap();
    bench.run("convert a.mrc b.mrc --bin 2").success();
    let binned = deepfinder_io::read_volume(&bench.path("b.mrc")).unwrap();
    assert_eq!(binned.shape(), [2, 2, 3]);
    assert_eq!(
        (binned.voxels[[0, 0, 0]], binned.voxels[[1, 1, 2]]),
        (55.5, 279.5)
    );
    assert_eq!(binned.voxel_size, VoxelSize::new(10.0).ok());
    assert_eq!(binned.origin_angstrom, [2.5; 3]);

    let labels = Volume::new(Array3::from_shape_fn((4, 4, 4), |(_, _, x)| [3_u8, 3, 0, 9][x]));
    deepfinder_io::write_volume(&bench.path("labels.mrc"), &labels).unwrap();
    bench.run("convert labels.mrc out.zarr --bin 2").success();
    let binned = deepfinder_io::read_label_map(&bench.path("out.zarr")).unwrap();
    assert_eq!((binned.voxels[[0, 0, 0]], binned.voxels[[1, 1, 1]]), (3, 0));
    for (arguments, word) in [
        ("--bin 2.5", "whole number"),
        ("--bin 0", "whole number"),
        ("--bin 7", "no voxel"),
    ] {
        bench
            .run(&format!("convert a.mrc c.mrc {arguments}"))
            .refused(&[word]);
    }
}
