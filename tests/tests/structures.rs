//! Density maps at work: template matching and averaging.
#![allow(clippy::unwrap_used, reason = "tests")]

use deepfinder_core::{Particle, Rotation, Volume, VoxelSize};
use deepfinder_io::{ReadOptions, read_particles, read_volume, write_mrc};
use deepfinder_tests::Bench;
use ndarray::{Array3, s};
use serde_json::Value;

const TEMPLATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../fixtures/templates/1u6g_bioassembly1_10A_kDa.mrc.gz"
);

/// A tomogram of dark particles with one like the template, unrotated, at x = 20, y = 17, z = 16.
fn planted(bench: &Bench) {
    let template = read_volume(std::path::Path::new(TEMPLATE)).unwrap();
    assert_eq!(template.shape(), [24; 3]);
    let mut tomogram = Array3::from_shape_fn((32, 36, 40), |(z, y, x)| {
        ((z * 37 + y * 101 + x * 13 + x * y * z) % 29) as f32 / 29.0
    });
    let mut window = tomogram.slice_mut(s![4..28, 5..29, 8..32]);
    window -= &template.voxels;
    let ten = VoxelSize::new(10.0).unwrap();
    write_mrc(
        &bench.path("tomo.mrc"),
        &Volume::new(tomogram).with_voxel_size(ten),
    )
    .unwrap();
}

#[test]
fn a_template_is_found_and_oriented() {
    let bench = Bench::default();
    planted(&bench);
    let run = format!("match tomo.mrc -t {TEMPLATE} -o picks.xml --step 90 --tilt 90 --top 1 --json");
    let report: Value = serde_json::from_str(&bench.run(&run).success()).unwrap();
    assert_eq!((&report["count"], &report["rotations"]), (&1.into(), &24.into()));
    assert_eq!(bench.files(), ["picks.xml", "tomo.mrc"]);
    let picks = read_particles(&bench.path("picks.xml"), &ReadOptions::default()).unwrap();
    let truth = Particle::new([20.0, 17.0, 16.0], 1);
    assert!(picks[0].distance(&truth) < 0.5, "{:?}", picks[0]);
    assert!(picks[0].rotation.unwrap().angle_to(Rotation::IDENTITY) < 1e-3);

    let run = format!(
        "match tomo.mrc -t {TEMPLATE} -o picks.csv --step 90 --min-score 0.99 --scores s.mrc --rotations r.mrc"
    );
    bench.run(&run).success();
    let scores = read_volume(&bench.path("s.mrc")).unwrap();
    assert_eq!(
        (scores.shape(), scores.voxel_size.unwrap().angstrom()),
        ([32, 36, 40], 10.0)
    );
    let rotations = std::fs::read_to_string(bench.path("r.csv")).unwrap();
    assert_eq!(rotations.lines().nth(1), Some("0,0.0000,0.0000,0.0000"));
    assert!(
        read_particles(&bench.path("picks.csv"), &ReadOptions::default())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn match_refuses_what_it_cannot_match() {
    let bench = Bench::default();
    planted(&bench);
    let check = |arguments: &str, said: &[&str]| {
        let before = bench.files();
        bench.run(arguments).refused(said);
        assert_eq!(bench.files(), before, "{arguments} left something behind");
    };
    check("match tomo.mrc -t missing.mrc -o p.xml", &["missing.mrc"]);
    check(
        "match tomo.mrc -t tomo.mrc -o no/p.xml",
        &["no/p.xml", "create it first"],
    );
    check(
        &format!("match tomo.mrc -t {TEMPLATE} -o p.xml --step 0.1"),
        &["0.1°", "from 0.5°"],
    );
    check(
        &format!("match tomo.mrc -t {TEMPLATE} -o p.xml --symmetry X2"),
        &["X2", "C4"],
    );
    check(
        &format!("match tomo.mrc -t {TEMPLATE} -o p.xml --tilt 60,-60"),
        &["no range"],
    );
    check(
        &format!("match tomo.mrc -t {TEMPLATE} -o p.xml --voxel-size 13.68"),
        &["10 Å", "13.68 Å", "resample"],
    );
    check(
        &format!("match tomo.mrc -t {TEMPLATE} -o p.xml --false-alarms 0"),
        &["0 false alarms"],
    );
}

/// Two tomograms of dark particles, each with two like the template, unrotated, and the list of all four.
fn planted_twice(bench: &Bench) {
    let template = read_volume(std::path::Path::new(TEMPLATE)).unwrap();
    let mut objects = Vec::new();
    for (name, seed) in [("a", 7), ("b", 11)] {
        let mut tomogram = Array3::from_shape_fn((28, 30, 58), |(z, y, x)| {
            ((z * 37 + y * 101 + x * 13 + x * y * z * seed) % 29) as f32 / 100.0
        });
        for x in [2, 30] {
            let mut window = tomogram.slice_mut(s![1..25, 3..27, x..x + 24]);
            window -= &template.voxels;
            let centre = x + 12;
            objects.push(format!(
                r#"<object tomo_idx="{name}" class_label="2" x="{centre}" y="15" z="13" phi="0" psi="0" the="0"/>"#
            ));
        }
        let tomogram = Volume::new(tomogram).with_voxel_size(VoxelSize::new(10.0).unwrap());
        write_mrc(&bench.path(&format!("{name}.mrc")), &tomogram).unwrap();
    }
    bench.write("picks.xml", format!("<objlist>{}</objlist>", objects.concat()));
}

#[test]
fn an_average_looks_like_its_particles() {
    let bench = Bench::default();
    planted_twice(&bench);
    let run = "average picks.xml -t a.mrc b.mrc -o avg.mrc --box 24 --tilt 90 --iterations 1 --step 4 --json";
    let report: Value = serde_json::from_str(&bench.run(run).success()).unwrap();
    assert_eq!((&report["particles"], &report["outside"]), (&4.into(), &0.into()));
    for file in [
        "avg_half1.mrc",
        "avg_half2.mrc",
        "avg_fsc.csv",
        "avg_fsc.svg",
        "avg_particles.xml",
    ] {
        assert!(bench.path(file).exists(), "{file}");
    }
    let [map, template] =
        [bench.path("avg.mrc"), TEMPLATE.into()].map(|path| read_volume(&path).unwrap().voxels);
    let centred = |map: &Array3<f32>| map - map.mean().unwrap();
    let (map, template) = (centred(&map), centred(&template));
    let product = |a: &Array3<f32>, b: &Array3<f32>| (a * b).sum();
    let correlation = product(&map, &template) / (product(&map, &map) * product(&template, &template)).sqrt();
    assert!(correlation > 0.8, "{correlation}");
    let refined = read_particles(&bench.path("avg_particles.xml"), &ReadOptions::default()).unwrap();
    assert!(
        refined
            .iter()
            .all(|particle| particle.score.unwrap() > 0.5 && particle.label == 2)
    );

    // The mask is a shape for targets.
    let target = "target picks.xml --like a.mrc --tomogram a --mask 2=avg_mask.mrc -o target.mrc --json";
    let target: Value = serde_json::from_str(&bench.run(target).success()).unwrap();
    assert_eq!(target["particles"], 2);
    let voxels = target["voxels_by_label"]["2"].as_f64().unwrap() / 2.0;
    let expected = report["mask_voxels"].as_f64().unwrap();
    assert!((voxels / expected - 1.0).abs() < 0.1, "{voxels} for {expected}");
}

#[test]
fn average_refuses_what_it_cannot_average() {
    let bench = Bench::default();
    planted_twice(&bench);
    let check = |arguments: &str, said: &[&str]| {
        let before = bench.files();
        bench.run(arguments).refused(said);
        assert_eq!(bench.files(), before, "{arguments} left something behind");
    };
    check(
        "average picks.xml -t a.mrc -o avg.mrc --box 24",
        &["particles of b", "given are a"],
    );
    check("average picks.xml -t a.mrc b.mrc -o avg.mrc", &["--box"]);
    check(
        "average picks.xml -t a.mrc b.mrc -o a.mrc --box 24",
        &["a.mrc", "overwrite"],
    );
    check(
        "average picks.xml -t a.mrc b.mrc -o avg.mrc --box 28",
        &["0 particles", "28³"],
    );
    check(
        "average picks.xml -t a.mrc b.mrc -o avg.mrc --box 24 --label 7",
        &["0 particles"],
    );
    bench.write("bare.csv", "class,x,y,z\n1,14,15,13\n1,42,15,13\n");
    check(
        "average bare.csv -t a.mrc -o avg.mrc --box 24",
        &["no rotation", "reference"],
    );
}
