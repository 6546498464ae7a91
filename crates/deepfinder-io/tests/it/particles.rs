use std::path::Path;
use std::sync::Arc;

use deepfinder_core::{Class, ClassTable, Particle, ParticleList, Rotation, VoxelSize};
use deepfinder_io::{
    IoError, ParticleFormat, ReadOptions, read_particle_file, read_particles, write_particles,
};
use proptest::prelude::*;

use crate::{cases, names};

fn particle() -> impl Strategy<Value = Particle> {
    let position = [-10.0..5000.0f64, -10.0..5000.0f64, -10.0..5000.0f64];
    let angles = (-180.0..180.0f64, -180.0..180.0f64, 0.0..=180.0f64);
    (
        position,
        1..=255u8,
        proptest::option::of(angles),
        proptest::option::of(-1e6..1e6f32),
        proptest::option::of(0..u64::MAX),
        proptest::option::of("[a-zA-Z0-9_.,;<>&'\"/é-]{1,12}"),
    )
        .prop_map(|(position, label, angles, score, size, tomogram)| Particle {
            position,
            label,
            rotation: angles.map(|(phi, psi, the)| Rotation::from_zxz_degrees(phi, psi, the)),
            score,
            size_voxels: size,
            tomogram: tomogram.map(Arc::from),
        })
}

/// Equal but for the last digits of angles.
fn check_same(found: &ParticleList, expected: &ParticleList) {
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.voxel_size, expected.voxel_size);
    for (found, expected) in found.iter().zip(expected.iter()) {
        match (found.rotation, expected.rotation) {
            (Some(a), Some(b)) => assert!(a.angle_to(b) < 1e-4),
            (a, b) => assert_eq!(a, b),
        }
        let without = |particle: &Particle| particle.clone().with_rotation(None);
        assert_eq!(without(found), without(expected));
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn lists_come_back(particles in proptest::collection::vec(particle(), 0..12), size in proptest::option::of(0.5..50.0f32)) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["p.xml", "p.csv", "p.tsv"] {
            let path = folder.path().join(name);
            let mut list = ParticleList::from(particles.clone());
            // A table has no place for it but its lines.
            if name == "p.xml" || !list.is_empty() {
                list.voxel_size = size.map(|size| VoxelSize::new(size).unwrap());
            }
            write_particles(&path, &list).unwrap();
            check_same(&read_particles(&path, &ReadOptions::default()).unwrap(), &list);
        }
        prop_assert_eq!(names(folder.path()), ["p.csv", "p.tsv", "p.xml"]);
    }

    #[test]
    fn swapping_twice_is_no_change(particles in proptest::collection::vec(particle(), 1..5)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.xml");
        let list = ParticleList::from(particles);
        write_particles(&path, &list).unwrap();
        let swapped = read_particles(&path, &ReadOptions { swap_xz: true, ..ReadOptions::default() }).unwrap();
        prop_assert_eq!(swapped[0].position[0], list[0].position[2]);
        write_particles(&path, &swapped).unwrap();
        let back = read_particles(&path, &ReadOptions { swap_xz: true, ..ReadOptions::default() }).unwrap();
        check_same(&back, &list);
    }
}

fn classes() -> ClassTable {
    let class = |(i, name): (usize, &str)| Class {
        label: i as u8 + 1,
        name: name.to_owned(),
        radius_voxels: None,
    };
    ClassTable::new(
        ["1bxn", "1qvr", "80S ribosome"]
            .into_iter()
            .enumerate()
            .map(class)
            .collect(),
    )
    .unwrap()
}

fn read(name: &str, text: &str, format: Option<ParticleFormat>) -> Result<ParticleList, IoError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let options = ReadOptions {
        format,
        classes: classes(),
        ..ReadOptions::default()
    };
    read_particles(&path, &options)
}

fn good(name: &str, text: &str, format: Option<ParticleFormat>) -> ParticleList {
    read(name, text, format).unwrap()
}

#[test]
fn deepfinder_lists_are_read() {
    let text = r#"<?xml version="1.0"?>
<!-- picked by hand -->
<objlist>
  <object tomo_idx="0" obj_id="1" class_label="11" x="46" y="261" z="144" psi="20" phi="-142" the="83" cluster_size="600"/>
  <object tomo_idx="" class_label="80S ribosome" x="4.5" y="-0.25" z="1e1" psi="" phi="" the=""></object>
</objlist>"#;
    let list = good("p.xml", text, None);
    let mut first =
        Particle::new([46.0, 261.0, 144.0], 11).with_rotation(Rotation::from_zxz_degrees(-142.0, 20.0, 83.0));
    first.size_voxels = Some(600);
    first.tomogram = Some(Arc::from("0"));
    assert_eq!(list.particles, [first, Particle::new([4.5, -0.25, 10.0], 3)]);
    assert!(good("p.xml", "<objlist/>", None).is_empty());
}

#[test]
fn tables_are_read_by_their_header() {
    let text = "# from a spreadsheet\r\nZ; X ;y;Class label;Cluster size;Tomo IDX;theta;phi;psi;note\r\n3;1;2;1qvr;600.0;tomo 7;30;10;20;hello\r\n";
    let mut expected =
        Particle::new([1.0, 2.0, 3.0], 2).with_rotation(Rotation::from_zxz_degrees(10.0, 20.0, 30.0));
    expected.size_voxels = Some(600);
    expected.tomogram = Some(Arc::from("tomo 7"));
    assert_eq!(good("p.csv", text, None).particles, [expected]);

    let text = "class,x,y,z,r00,r01,r02,r10,r11,r12,r20,r21,r22,score\n1,1,2,3,0,-1,0,1,0,0,0,0,1,0.25\n2,1,2,3,,,,,,,,,,\n";
    let list = good("p.txt", text, None);
    assert!(list[0].rotation.unwrap().angle_to(Rotation::about_z(90.0)) < 1e-6);
    assert_eq!(
        (list[0].score, list[1].rotation, list[1].score),
        (Some(0.25), None, None)
    );
}

#[test]
fn shrec_and_plain_text_are_read() {
    let text = "1bxn 30 20 10 -45 81 -72\n\n1qvr\t3 2 1\nfiducial 5 5 5 0 0 0\n";
    let rotated = |phi, psi, the| Rotation::from_zxz_degrees(phi, psi, the);
    let list = good("p.txt", text, None);
    assert_eq!(list.len(), 2);
    assert_eq!(
        list[0],
        Particle::new([30.0, 20.0, 10.0], 1).with_rotation(rotated(-45.0, 81.0, -72.0))
    );
    let list = good("p.txt", text, Some(ParticleFormat::ShrecTextZyx));
    assert_eq!(
        list[0],
        Particle::new([10.0, 20.0, 30.0], 1).with_rotation(rotated(-45.0, -72.0, 81.0))
    );
    assert_eq!(list[1], Particle::new([1.0, 2.0, 3.0], 2));

    let list = good(
        "p.txt",
        "# label z y x size\n7 3 2 1 600\n8, 3.5, 2, 1 # doubtful\n",
        None,
    );
    let mut first = Particle::new([1.0, 2.0, 3.0], 7);
    first.size_voxels = Some(600);
    assert_eq!(list.particles, [first, Particle::new([1.0, 2.0, 3.5], 8)]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let check = |name: &str, text: &str, words: &[&str]| {
        let message = read(name, text, None).unwrap_err().to_string();
        for word in words.iter().chain(&[name]) {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
    };
    let object = |attributes: &str| format!("<objlist>\n<object {attributes}/>\n</objlist>");
    check("p.xml", "", &["empty"]);
    check(
        "p.xml",
        &object(r#"class_label="0" x="1" y="2" z="3""#),
        &["line 2", "background"],
    );
    check(
        "p.xml",
        &object(r#"class_label="256" x="1" y="2" z="3""#),
        &["line 2", "1 to 255"],
    );
    check(
        "p.xml",
        &object(r#"class_label="ribo" x="1" y="2" z="3""#),
        &["`ribo`", "80S ribosome"],
    );
    check(
        "p.xml",
        &object(r#"class_label="1" x="NaN" y="2" z="3""#),
        &["line 2", "x is `NaN`"],
    );
    check(
        "p.xml",
        &object(r#"class_label="1" x="1" y="inf" z="3""#),
        &["line 2", "y is `inf`"],
    );
    check(
        "p.xml",
        &object(r#"class_label="1" x="1" y="2""#),
        &["line 2", "without z"],
    );
    check(
        "p.xml",
        &object(r#"class_label="1" x="1" y="2" z="3" phi="4""#),
        &["three angles"],
    );
    check(
        "p.xml",
        "<objlist>\n<object class_label=\"1\" x=\"1\"",
        &["line 2"],
    );
    check(
        "p.xml",
        "<objlist>\n<object class_label=\"1\" x=\"1\" y=\"2\" z=\"3\"/>\n",
        &["cut short", "line 3"],
    );
    check(
        "p.xml",
        "<Particles></Particles>",
        &["Particles", "another program"],
    );
    check("p.csv", "1,2,z\n", &["line 1", "called x"]);
    check("p.csv", "class,x,y,z\n1,1,2,3\n1,1,2\n", &["line 3", "no z"]);
    check("p.csv", "class,x,y,z\n1,1,2,abc\n", &["line 2", "`abc`"]);
    check("p.csv", "class,x,y,z,score\n1,1,2,3,nan\n", &["line 2", "score"]);
    check(
        "p.csv",
        "class,x,y,z,r00,r01,r02,r10,r11,r12,r20,r21,r22\n1,1,2,3,1,0,0,0,1,0,0,0,-1\n",
        &["mirror"],
    );
    check("p.txt", "1bxn 1 2 3\n1bxn 1 2\n", &["line 2", "3 columns"]);
    check("p.txt", "9zzz 1 2 3\n", &["9zzz", "1bxn"]);
    check("p.txt", "dear diary\n", &["cannot tell"]);
}

#[test]
fn lists_are_written_as_people_expect() {
    let folder = tempfile::tempdir().unwrap();
    let mut particle = Particle::new([46.0, 26.125, 0.1 + 0.2], 11)
        .with_rotation(Rotation::from_zxz_degrees(0.0, 0.0, 90.0));
    particle.score = Some(0.5);
    let list = ParticleList::from(vec![particle, Particle::new([1.0, 2.0, 3.0], 1)]);
    let written = |name: &str| {
        write_particles(&folder.path().join(name), &list).unwrap();
        std::fs::read_to_string(folder.path().join(name)).unwrap()
    };
    assert_eq!(
        written("p.csv"),
        "class_label,x,y,z,phi,psi,the,score\n\
         11,46.000,26.125,0.30000000000000004,0.000000,0.000000,90.000000,0.5\n\
         1,1.000,2.000,3.000,,,,\n"
    );
    assert_eq!(
        written("p.xml"),
        "<objlist>\n  <object class_label=\"11\" x=\"46.000\" y=\"26.125\" z=\"0.30000000000000004\" psi=\"0.000000\" phi=\"0.000000\" the=\"90.000000\" score=\"0.5\"/>\n  <object class_label=\"1\" x=\"1.000\" y=\"2.000\" z=\"3.000\"/>\n</objlist>\n"
    );
    assert!(written("p.tsv").starts_with("class_label\tx\ty\tz"));
    let message = write_particles(&folder.path().join("p.doc"), &list)
        .unwrap_err()
        .to_string();
    assert!(message.contains(".xml, .csv, .xlsx, .star"), "{message}");
}

/// Spreadsheets by two packages: text in the cells, and text that cells share.
#[test]
fn spreadsheets_of_the_reference() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/spreadsheet"));
    for name in ["openpyxl.xlsx", "xlsxwriter.xlsx"] {
        let file = read_particle_file(&folder.join(name), &ReadOptions::default()).unwrap();
        assert_eq!(file.format, ParticleFormat::Xlsx);
        let mut first = Particle::new([46.0, 261.0, 144.5], 11)
            .with_rotation(Rotation::from_zxz_degrees(-142.0, 20.0, 83.0));
        first.size_voxels = Some(600);
        first.tomogram = Some("0".into());
        let mut second = Particle::new([10.0, 20.0, 30.0], 4);
        second.tomogram = Some("tomo & 7".into());
        assert_eq!(file.particles.particles, [first, second], "{name}");
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("p.xlsx");
    // What is text stays text: a tomogram `007` is none of the number 7.
    let mut particle = Particle::new([-1.0, 2.5, 0.1 + 0.2], 3);
    particle.tomogram = Some("007".into());
    particle.score = Some(-2.0);
    let mut other = Particle::new([0.0; 3], 1);
    other.tomogram = Some("a <b> & \"c\" ".into());
    let mut list = ParticleList::from(vec![particle, other]);
    list.voxel_size = VoxelSize::new(10.0).ok();
    write_particles(&path, &list).unwrap();
    let again = read_particle_file(&path, &ReadOptions::default()).unwrap();
    let trimmed = "a <b> & \"c\"";
    list.particles[1].tomogram = Some(trimmed.into());
    assert_eq!(again.particles, list);
    let valid = std::fs::read(folder.join("openpyxl.xlsx")).unwrap();
    for (bytes, word) in [
        (&valid[..valid.len() / 2], "XLSX"),
        (b"PK\x03\x04".as_slice(), "XLSX"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = read_particle_file(&path, &ReadOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn boxes_of_a_plane_become_their_centres() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slice.box");
    std::fs::write(&path, "100 200 64 32\n10.5\t20 8 8 -3\n").unwrap();
    let file = read_particle_file(&path, &ReadOptions::default()).unwrap();
    assert_eq!(file.format, ParticleFormat::Boxes);
    let positions: Vec<[f64; 3]> = file.particles.iter().map(|particle| particle.position).collect();
    assert_eq!(positions, [[132.0, 216.0, 0.0], [14.5, 24.0, 0.0]]);
    assert!(file.notes.iter().any(|note| note.contains("z is 0")));
    std::fs::write(&path, "100 200 64 64\n100 200 64\n").unwrap();
    let error = read_particle_file(&path, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2") && error.contains("width"), "{error}");
}

#[test]
fn angles_that_are_hard_to_believe_are_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.csv");
    let notes = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_particle_file(&path, &ReadOptions::default())
            .unwrap()
            .notes
            .join("\n")
    };
    assert!(notes("class,x,y,z,phi,psi,the\n1,1,2,3,4000,10,-2000\n").contains("2 angles"));
    assert_eq!(notes("class,x,y,z,phi,psi,the\n1,1,2,3,400,10,-200\n"), "");
}
