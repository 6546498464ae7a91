//! Density maps at work: template matching and averaging.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;

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

/// A ball of carbon atoms of 40 Å radius, as a PDB file; the assembly has it twice, 70 Å apart along x.
fn ball_of_atoms() -> String {
    let mut text = "REMARK 350 BIOMOLECULE: 1\nREMARK 350 APPLY THE FOLLOWING TO CHAINS: A\n".to_owned();
    for (copy, shift) in [(1, 0.0), (2, 70.0)] {
        for row in 0..3 {
            let one = |column| if row == column { 1.0 } else { 0.0 };
            let shift = if row == 0 { shift } else { 0.0 };
            let _ = writeln!(
                text,
                "REMARK 350   BIOMT{}  {copy:2} {:9.6} {:9.6} {:9.6} {shift:14.5}",
                row + 1,
                one(0),
                one(1),
                one(2)
            );
        }
    }
    let grid = || (-10_i32..=10).map(|i| 4.0 * f64::from(i));
    let mut serial = 0;
    for (x, y, z) in grid().flat_map(|x| grid().flat_map(move |y| grid().map(move |z| (x, y, z)))) {
        if x * x + y * y + z * z <= 1600.0 {
            serial += 1;
            let _ = writeln!(
                text,
                "ATOM  {serial:5}  CA  ALA A   1    {x:8.3}{y:8.3}{z:8.3}  1.00  0.00           C"
            );
        }
    }
    text
}

#[test]
fn a_structure_becomes_a_tomogram_by_way_of_a_tilt_series() {
    let bench = Bench::default();
    bench.write("pair.pdb", ball_of_atoms());
    let run = "simulate -o p -c pair=pair.pdb --tilt-series --tilt-step 10 --shape 28,40,44 --particles 2 --tomograms 0 \
               --validation 0 --snr 2 --keep-tilt-series --seed 2 --json";
    let summary: Value = serde_json::from_str(&bench.run(run).success()).unwrap();
    assert_eq!(summary["tomograms"][0]["particles"], 2);
    let volume = |name: &str| read_volume(&bench.path("p").join(name)).unwrap();
    let (tomogram, labels, ids) = (
        volume("tomo1.mrc"),
        volume("tomo1_labels.mrc"),
        volume("tomo1_particle_ids.mrc"),
    );
    assert_eq!(
        (tomogram.shape(), tomogram.voxel_size.unwrap().angstrom()),
        ([28, 40, 44], 10.0)
    );
    let images = volume("tomo1_tilt_series.mrc");
    assert_eq!((images.shape()[0], images.shape()[1]), (13, 40));
    let angles = std::fs::read_to_string(bench.path("p/tomo1_tilt_series.tlt")).unwrap();
    assert_eq!(
        (angles.lines().count(), angles.lines().next()),
        (13, Some("-60.00"))
    );
    let picks = read_particles(&bench.path("p/tomo1_particles.xml"), &ReadOptions::default()).unwrap();
    assert!(picks.iter().all(|pick| pick.rotation.is_some()));
    for id in [1.0, 2.0] {
        let size = ids.voxels.iter().filter(|&&voxel| voxel == id).count();
        // Two balls of 40 Å: some 540 voxels, and the blurred rim.
        assert!((500..1100).contains(&size), "{size}");
    }
    let dark = |inside: bool| {
        let chosen = tomogram.voxels.iter().zip(&labels.voxels);
        let values: Vec<f32> = chosen
            .filter(|(_, label)| (**label > 0.0) == inside)
            .map(|(voxel, _)| *voxel)
            .collect();
        values.iter().sum::<f32>() / values.len() as f32
    };
    assert!(dark(true) < dark(false));
    // The same particles again, from their list.
    let again =
        "simulate -o q -c pair=pair.pdb --particles-from p/tomo1_particles.xml --shape 28,40,44 --snr 5";
    bench.run(again).success();
    let same = read_volume(&bench.path("q/tomo1_labels.mrc")).unwrap();
    assert_eq!(same.voxels, labels.voxels);
}

#[test]
fn simulate_refuses_what_it_cannot_simulate() {
    let bench = Bench::default();
    bench.write("pair.pdb", ball_of_atoms());
    bench.write("broken.cif", "loop_\n_atom_site.type_symbol\nC\nC C\n");
    let check = |arguments: &str, said: &[&str]| bench.run(arguments).refused(said);
    check("simulate -o p -c 9xyz", &["9xyz", "NAME=FILE", "1bxn"]);
    check("simulate -o p -c a=missing.pdb", &["missing.pdb"]);
    check("simulate -o p -c a=broken.cif", &["broken.cif", "line"]);
    check(
        "simulate -o p -c a=pair.pdb --assembly 3",
        &["no assembly `3`", "asu"],
    );
    check("simulate -o p --defocus 2", &["--tilt-series"]);
    check("simulate -o p --tilt-series --tilt-step 0", &["step_degrees"]);
    assert!(!bench.path("p/deepfinder.toml").exists());
}
