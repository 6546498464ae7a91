//! What pickers, templates and pictures are compared with: other densities, other lists, membranes, a part of a known tomogram.
#![allow(clippy::unwrap_used, reason = "tests")]

use deepfinder_core::{Volume, VoxelSize};
use deepfinder_io::{ReadOptions, read_particles, read_volume, write_mrc};
use deepfinder_tests::Bench;
use ndarray::{Array3, s};
use serde_json::Value;

fn template(name: &str) -> String {
    format!(
        "{}/../fixtures/templates/{name}.mrc.gz",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A tomogram of dark Cand1 particles, unrotated, at these positions `(x, y, z)`.
fn planted(bench: &Bench, positions: &[[usize; 3]]) {
    let density = read_volume(template("1u6g_bioassembly1_10A_kDa").as_ref()).unwrap();
    let mut tomogram = Array3::from_shape_fn((30, 34, 96), |(z, y, x)| {
        ((z * 37 + y * 101 + x * 13 + x * y * z) % 29) as f32 / 29.0
    });
    for [x, y, z] in positions {
        let mut window = tomogram.slice_mut(s![z - 12..z + 12, y - 12..y + 12, x - 12..x + 12]);
        window -= &density.voxels;
    }
    let ten = VoxelSize::new(10.0).unwrap();
    write_mrc(
        &bench.path("tomo.mrc"),
        &Volume::new(tomogram).with_voxel_size(ten),
    )
    .unwrap();
}

#[test]
fn what_another_density_explains_better_is_no_particle() {
    let bench = Bench::default();
    planted(&bench, &[[20, 17, 15], [70, 16, 14]]);
    let (own, other) = (
        template("1u6g_bioassembly1_10A_kDa"),
        template("1bxn_bioassembly1_10A_kDa"),
    );
    let run = |of: &str, more: &str| {
        let line = format!("match tomo.mrc -t {of} -o picks.xml --step 90 --tilt 90 --json {more}");
        json(&bench.run(&line).success())
    };
    let near = || {
        let picks = read_particles(&bench.path("picks.xml"), &ReadOptions::default()).unwrap();
        let truth = [[20.0, 17.0, 15.0], [70.0, 16.0, 14.0]];
        let is_near = |p: &[f64; 3], q: &[f64; 3]| (0..3).all(|axis| (p[axis] - q[axis]).abs() < 6.0);
        let found = picks.iter().map(|pick| pick.position);
        found.filter(|p| truth.iter().any(|q| is_near(p, q))).count()
    };
    run(&other, "");
    assert_eq!(near(), 2, "Rubisco's template passes the threshold there");
    let report = run(&other, &format!("--against {own}"));
    assert!(report["rejected"].as_u64().unwrap() >= 2);
    assert_eq!(near(), 0);
    let report = run(&own, &format!("--against {other}"));
    assert!(report["count"].as_u64().unwrap() >= 2);
    assert_eq!(near(), 2);
}

#[test]
fn a_template_is_weighed_by_its_tilt_series() {
    let bench = Bench::default();
    planted(&bench, &[[20, 17, 15]]);
    let own = template("1u6g_bioassembly1_10A_kDa");
    let run =
        |more: &str| format!("match tomo.mrc -t {own} -o p.xml --step 90 --top 1 --min-score 0.05 {more}");
    bench
        .run(&run("--tilt-series --defocus 2 --exposure 80"))
        .success();
    bench.write("tilts.tlt", "-60 70\n-30 40\n0 5\n30 20\n60 60\n");
    bench
        .run(&run("--tilt-series --tilts tilts.tlt --no-phase-flip"))
        .success();
    assert_eq!(bench.files(), ["p.xml", "tilts.tlt", "tomo.mrc"]);
    bench.write("tilts.tlt", "-60\n-30 40\n");
    bench
        .run(&run("--tilt-series --tilts tilts.tlt"))
        .refused(&["tilts.tlt", "line 2"]);
    bench.run(&run("--defocus 2")).refused(&["--tilt-series"]);
}

#[test]
fn a_part_of_a_list_is_simulated_from_its_corner() {
    let bench = Bench::default();
    bench.write(
        "all.csv",
        "class,x,y,z,phi,psi,the\n1,60,50,40,10,20,30\n1,20,50,40,0,0,0\n1,99,99,99,0,0,0\n",
    );
    let line = "simulate -o part -c 1u6g --particles-from all.csv --shape 36,40,44 --crop-from";
    bench.run(&format!("{line} 20,30,40")).success();
    let found = read_particles(&bench.path("part/tomo1_particles.xml"), &ReadOptions::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].position, [20.0, 20.0, 20.0]);
    bench
        .run("simulate -o none -c 1u6g --particles-from all.csv --shape 36,40,44 --crop-from 200,30,40")
        .refused(&["all.csv", "none of its 3"]);
    assert!(!bench.path("none").exists());
    bench
        .run("simulate -o none -c 1u6g --crop-from 0,0,0")
        .refused(&["--particles-from"]);
    // How many others there are is asked for beside the list, where there are others.
    let line =
        "simulate -c 1u6g --particles-from all.csv --shape 36,40,44 --crop-from 20,30,40 --particles 2 -o";
    bench.run(&format!("{line} none")).refused(&["--tomograms"]);
    bench.run(&format!("{line} both --tomograms 1")).success();
    let count = |name: &str| {
        let list = bench.path(&format!("both/{name}_particles.xml"));
        read_particles(&list, &ReadOptions::default()).unwrap().len()
    };
    assert_eq!((count("tomo1"), count("tomo2")), (2, 1));
}

#[test]
fn each_part_of_a_consensus_is_averaged() {
    let bench = Bench::default();
    planted(&bench, &[[18, 17, 15], [48, 16, 14], [78, 17, 15]]);
    let list = |name: &str, places: &[[usize; 3]]| {
        let objects: Vec<String> = places
            .iter()
            .map(|[x, y, z]| {
                format!(r#"<object class_label="2" x="{x}" y="{y}" z="{z}" phi="0" psi="0" the="0"/>"#)
            })
            .collect();
        bench.write(name, format!("<objlist>{}</objlist>", objects.concat()));
    };
    list("a.xml", &[[18, 17, 15], [48, 16, 14], [78, 17, 15]]);
    list("b.xml", &[[18, 17, 14], [48, 16, 14]]);
    let line = "consensus a.xml b.xml --radius 3 -o parts --class cand1=2 -t tomo.mrc --average-each";
    let report = json(
        &bench
            .run(&format!("{line} --box 24 --tilt 90 --iterations 0 --json"))
            .success(),
    );
    let averages = report["averages"].as_array().unwrap();
    assert_eq!(averages.len(), 3);
    assert_eq!(
        (&averages[0]["particles"], &averages[0]["listed"]),
        (&2.into(), &2.into())
    );
    assert!(bench.path("parts/both_cand1.mrc").exists());
    assert_eq!(
        (&averages[1]["listed"], &averages[1]["map"]),
        (&1.into(), &Value::Null)
    );
    assert_eq!(averages[2]["listed"], 0);
    bench.run(&format!("{line} --iterations 0")).refused(&["--box"]);
}

#[test]
fn a_report_shows_how_far_picks_lie_from_membranes() {
    let bench = Bench::default();
    bench
        .run("simulate -o project --tomograms 0 --validation 0 --shape 40,48,48 --particles 1 --seed 3")
        .success();
    std::fs::create_dir_all(bench.path("project/output/picks")).unwrap();
    std::fs::copy(
        bench.path("project/tomo1_particles.xml"),
        bench.path("project/output/picks/tomo1.xml"),
    )
    .unwrap();
    let sections = |line: &str| json(&bench.run(line).success())["sections"].clone();
    let shows = |line: &str| {
        sections(line)
            .as_array()
            .unwrap()
            .contains(&"distance to membranes".into())
    };
    assert!(!shows("report project --json"));
    // A sheet beyond the last row.
    let mut sheet = Array3::<u8>::zeros((40, 48, 48));
    sheet.slice_mut(s![.., 47, ..]).fill(1);
    write_mrc(&bench.path("sheet.mrc"), &Volume::new(sheet)).unwrap();
    assert!(shows("report project --membrane tomo1=sheet.mrc --json"));
    let html = std::fs::read_to_string(bench.path("project/output/report.html")).unwrap();
    assert!(html.contains("in nm") && html.contains("Membranes of: tomo1"));
    bench
        .run("report project --membrane tomo7=sheet.mrc")
        .refused(&["tomo7", "tomo1"]);
    write_mrc(
        &bench.path("other.mrc"),
        &Volume::new(Array3::<u8>::ones((4, 4, 4))),
    )
    .unwrap();
    bench
        .run("report project --membrane other.mrc")
        .refused(&["other.mrc", "[4, 4, 4]", "tomo1"]);

    // A class that is called a membrane, in the label map of a run.
    let toml = std::fs::read_to_string(bench.path("project/deepfinder.toml")).unwrap();
    bench.write(
        "project/deepfinder.toml",
        toml.replace("\"1u6g\"", "\"Membrane\""),
    );
    std::fs::create_dir_all(bench.path("project/output/labels")).unwrap();
    std::fs::copy(
        bench.path("project/tomo1_labels.mrc"),
        bench.path("project/output/labels/tomo1.mrc"),
    )
    .unwrap();
    assert!(shows("report project --json"));
}
