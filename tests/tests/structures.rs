//! Density maps at work: template matching.
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
