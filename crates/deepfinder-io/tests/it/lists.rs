//! Particle lists of every program, where real ones stand beside the repository: read, held against numbers written
//! down from the file (`real_lists.txt`), written in the same format, and read again.

use std::path::Path;

use deepfinder_core::{Particle, ParticleList, Rotation, VoxelSize};
use deepfinder_io::{
    ParticleFile, ParticleFormat, ReadOptions, TomogramFrame, TomogramTable, WriteOptions, particle_formats,
    read_particle_file, write_particle_file,
};

use crate::shared::shared;

/// A particle as its file has it.
struct Known {
    position: [f64; 3],
    label: u8,
    score: Option<f32>,
    tomogram: Option<String>,
    /// Images of the z and the x axis.
    axes: Option<[[f64; 3]; 2]>,
}

impl Known {
    /// From the words of a line of the table behind its number.
    fn parse(words: &[&str]) -> Self {
        let (position, rest) = words.split_first_chunk::<3>().unwrap();
        let triple = |words: &[&str]| std::array::from_fn(|i| words[i].parse().unwrap());
        let [label, score, tomogram, axes @ ..] = rest else {
            panic!("a line of the table is too short: {words:?}");
        };
        Self {
            position: triple(position),
            label: label.parse().unwrap(),
            score: known(score).map(|score| score.parse().unwrap()),
            tomogram: known(tomogram).map(str::to_owned),
            axes: known(axes[0]).map(|_| [triple(&axes[..3]), triple(&axes[3..])]),
        }
    }

    #[track_caller]
    fn check(&self, found: &Particle) {
        let is_near =
            |a: [f64; 3], b: [f64; 3], tolerance: f64| (0..3).all(|i| (a[i] - b[i]).abs() < tolerance);
        assert!(
            is_near(found.position, self.position, 1e-4),
            "{:?} is not {:?}",
            found.position,
            self.position
        );
        assert_eq!(found.label, self.label);
        assert_eq!(found.tomogram.as_deref(), self.tomogram.as_deref());
        match (found.score, self.score) {
            (Some(a), Some(b)) => assert!((a - b).abs() < 1e-6, "{a} is not {b}"),
            (a, b) => assert_eq!(a, b),
        }
        match (found.rotation, self.axes) {
            (Some(rotation), Some([z, x])) => {
                for (axis, image) in [([0.0, 0.0, 1.0], z), ([1.0, 0.0, 0.0], x)] {
                    let turned = rotation.apply(axis);
                    assert!(is_near(turned, image, 2e-5), "{turned:?} is not {image:?}");
                }
            }
            (a, b) => assert_eq!(a.is_some(), b.is_some()),
        }
    }
}

/// What a `-` of the table leaves open.
fn known(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}

/// A file of the table: its name, the words behind it, and its particles with their numbers.
struct Case {
    file: &'static str,
    words: Vec<&'static str>,
    particles: Vec<(usize, Known)>,
}

fn table() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let lines = include_str!("real_lists.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let particle = (words[0].parse().unwrap(), Known::parse(&words[1..]));
            cases.last_mut().unwrap().particles.push(particle);
        } else {
            cases.push(Case {
                file: words[0],
                words: words[1..].to_vec(),
                particles: Vec::new(),
            });
        }
    }
    cases
}

/// Files of the table are read, held against what is known of them, written in their own format, and read again.
#[test]
fn real_files_are_read_and_survive_the_round_trip() {
    let Some(shared) = shared() else { return };
    for case in table() {
        let path = shared.join("formats").join(case.file);
        match case.words.as_slice() {
            ["see", _] => {}
            ["refused", word] => check_refused(&path, word),
            ["tomograms", count] => {
                check_refused(&path, "list of tomograms");
                let table = TomogramTable::read(&path).unwrap();
                assert_eq!(table.frames().len().to_string(), *count, "{}", case.file);
            }
            [format, count, size, given] => {
                eprintln!("{}", case.file);
                let options =
                    known(given).map_or_else(ReadOptions::default, |given| at(given.parse().unwrap()));
                let file = read_particle_file(&path, &options).unwrap();
                assert_eq!(file.format.entry().id, *format);
                assert_eq!(file.particles.len().to_string(), *count);
                let expected = known(size).map(|size| VoxelSize::new(size.parse().unwrap()).unwrap());
                match (file.particles.voxel_size, expected) {
                    (Some(a), Some(b)) => assert!(a.agrees_with(b, 1e-6), "{a} is not {b}"),
                    (a, b) => assert_eq!(a, b),
                }
                for (number, known) in &case.particles {
                    known.check(&file.particles[number - 1]);
                }
                check_round_trip(&file, &options);
            }
            other => panic!("{}: {other:?}", case.file),
        }
    }
}

#[track_caller]
fn check_refused(path: &Path, word: &str) {
    let error = read_particle_file(path, &ReadOptions::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains(word), "{error}");
}

/// No file of other programs lies beside the repository of which nothing is said.
#[test]
fn every_real_file_is_in_the_table() {
    let Some(shared) = shared() else { return };
    let names: Vec<&str> = table().iter().map(|case| case.file).collect();
    let folder = shared.join("formats");
    for program in std::fs::read_dir(&folder).unwrap() {
        for file in std::fs::read_dir(program.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            assert!(
                name.contains("LICENSE") || names.contains(&name),
                "{name} is not in real_lists.txt"
            );
        }
    }
}

/// Holds a particle against the words of a line of the table.
#[track_caller]
fn check_particle(found: &Particle, line: &str) {
    Known::parse(&line.split_whitespace().collect::<Vec<_>>()).check(found);
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
    let options = ReadOptions {
        tomograms: tomograms.clone(),
        ..ReadOptions::default()
    };
    let file = read_particle_file(&folder.join("relion5_run_it025_data_small.star"), &options).unwrap();
    assert_eq!((file.format, file.particles.len()), (ParticleFormat::Relion5, 10));
    assert_eq!(file.particles.voxel_size, VoxelSize::new(1.35).ok());
    check_particle(
        &file.particles[0],
        "2558.61472 1344.4401 1099.20146 1 - TS_01 -0.00432 0.04865 0.99881 0.2156 -0.97528 0.04844",
    );
    check_particle(
        &file.particles[9],
        "2581.28289 1423.31886 1088.25395 3 - TS_02 0.04691 0.11769 0.99194 0.02785 0.99249 -0.11907",
    );
    check_round_trip(&file, &options);
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
fn pytom_centred() {
    let Some(shared) = shared() else { return };
    let frame = TomogramFrame {
        shape: [186, 512, 512],
        voxel_size: VoxelSize::new(15.0).ok(),
        ..TomogramFrame::default()
    };
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
    check_particle(
        &file.particles[0],
        "396 380 136 1 0.580566 reconstruction_fixed 0.37555 0.13669 -0.91667 -0.55331 0.82653 -0.10344",
    );
    check_round_trip(&file, &options);
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
    // Class 1 has no particles, and the others keep their numbers.
    check_round_trip(&file, &ReadOptions::default());
}

#[test]
fn positions_in_angstrom_need_a_voxel_size() {
    let Some(shared) = shared() else { return };
    check_refused(
        &shared.join("formats/cdp_annotations/copick.json"),
        "--voxel-size",
    );
}

/// Files of formats of which no real one stands beside the repository, typed by their descriptions.
#[test]
fn formats_without_a_real_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let frame = TomogramFrame {
        shape: [100, 201, 300],
        voxel_size: VoxelSize::new(8.0).ok(),
        ..TomogramFrame::default()
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

    // The corner in x and y, the middle in z: crYOLO's tools add no half of the depth.
    let cbox = "data_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_CoordinateZ #3\n_Width #4\n_Height #5\n_Depth #6\n_EstWidth #7\n_EstHeight #8\n_Confidence #9\n_NumBoxes #10\n_Angle #11\n\n10.0 20.0 30.0 8 8 4 <NA> <NA> 0.75 3 <NA>\n\ndata_cryolo_include\n\nloop_\n_slice_index #1\n30\n";
    let file = read(cbox, &ReadOptions::default());
    assert_eq!(
        (file.format, file.particles[0].position),
        (ParticleFormat::Cbox, [14.0, 24.0, 30.0])
    );
    assert_eq!(file.particles[0].score, Some(0.75));
    check_round_trip(&file, &ReadOptions::default());

    // crYOLO's boxes of a tomogram are told from its points by their ending only.
    let boxes = ReadOptions {
        format: Some(ParticleFormat::Boxes),
        ..ReadOptions::default()
    };
    let file = read("10.5\t20\t30\n4\t5\t6.25\n", &boxes);
    assert_eq!(
        [file.particles[0].position, file.particles[1].position],
        [[10.5, 20.0, 30.0], [4.0, 5.0, 6.25]]
    );
    check_round_trip(&file, &boxes);

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

    // A comment before a colour is a class; the sphere's arrow points along −y, the last one belongs to nothing.
    let bild = ".comment made by hand\n.transparency 0.5\n.comment ribosome 80S\n.color 1 0 0\n.sphere 20 40.5 -10 5\n.arrow 20 40.5 -10 20 0.5 -10 1 2\n.color blue\n.marker 1 2 3\n.arrow 7 8 9 1 1 1\n";
    let file = read(bild, &at(10.0));
    assert_eq!(file.format, ParticleFormat::Bild);
    let axis = file.particles[0].rotation.unwrap().apply([0.0, 0.0, 1.0]);
    assert_eq!(axis.map(|value| value.round() + 0.0), [0.0, -1.0, 0.0]);
    assert_eq!(
        (file.particles[0].position, file.particles[1].position),
        ([2.0, 4.05, -1.0], [0.1, 0.2, 0.3])
    );
    assert_eq!(file.particles[1].rotation, None);
    assert_eq!(file.classes.name_of(1), "ribosome 80S");
    assert!(
        file.notes.iter().any(|note| note.starts_with("2 lines")),
        "{:?}",
        file.notes
    );
    check_round_trip(&file, &at(10.0));
    // Arrows alone are particles too.
    let file = read(".arrow 10 20 30 10 20 31\n", &at(10.0));
    assert_eq!(file.particles[0].position, [1.0, 2.0, 3.0]);
    assert!(file.particles[0].rotation.unwrap().angle_to(Rotation::IDENTITY) < 1e-9);
    for (text, word) in [
        (".sphere 1 2 3 4\n.translate 1 2 3\n", "line 2"),
        (".sphere 1 2\n", "line 1"),
        (".color red\n.cylinder 1 2 3 4 5 6 1\n", "no particles"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = read_particle_file(&path, &at(10.0)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// A list with everything is written in every format; what comes back is what the table says the format holds.
#[test]
fn every_format_keeps_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let frame = TomogramFrame {
        shape: [100, 200, 300],
        voxel_size: VoxelSize::new(10.0).ok(),
        ..TomogramFrame::default()
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
            if entry.format == ParticleFormat::Bild {
                // An arrow does not say how a particle is turned about it.
                particle.rotation = particle.rotation.map(|rotation| {
                    let [_, psi, the] = rotation.to_zxz_degrees();
                    Rotation::from_zxz_degrees(0.0, psi, the)
                });
                assert!(notes.iter().any(|note| note.contains("about their z axis")));
            }
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
    let frame = TomogramFrame {
        shape: [10, 20, 30],
        ..TomogramFrame::default()
    };
    let from_middle = ReadOptions {
        origin: Some(deepfinder_io::Origin::Centre),
        tomograms: frame.into(),
        ..ReadOptions::default()
    };
    assert_eq!(read(&from_middle), [16.0, 12.0, 8.0]);
}
