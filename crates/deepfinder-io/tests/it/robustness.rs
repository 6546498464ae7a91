//! Every reader, given bytes that nobody meant: an answer or an error, never a panic, never memory for a size that
//! only a header claims.

use std::io::Write;
use std::path::{Path, PathBuf};

use deepfinder_core::{
    Class, ClassTable, Particle, ParticleList, Region, Rotation, Volume, VolumeReader, VoxelSize,
};
use deepfinder_io::{
    ParticleFormat, ReadOptions, TomogramFrame, TomogramTable, WriteOptions, open_volume, particle_formats,
    read_label_map, read_particle_file, read_volume, write_particle_file, write_volume,
};
use ndarray::Array3;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::cases;
use crate::mrc_read::i16_file;
use crate::tiff::write_stack;

/// A change to a valid file.
#[derive(Debug, Clone)]
enum Damage {
    /// All of it replaced.
    Garbage(Vec<u8>),
    Truncated(Index),
    Flipped(Vec<(Index, u8)>),
    /// A number that a size could be, of so many bytes.
    Word(Index, u64, usize),
    /// A part of the file put over another.
    Moved(Index, Index, usize),
}

impl Damage {
    fn apply(&self, file: &[u8]) -> Vec<u8> {
        let mut bytes = file.to_vec();
        match self {
            Self::Garbage(garbage) => return garbage.clone(),
            Self::Truncated(at) => bytes.truncate(at.index(file.len())),
            Self::Flipped(flips) => {
                for (at, mask) in flips {
                    bytes[at.index(file.len())] ^= mask;
                }
            }
            Self::Word(at, value, width) => {
                let at = at.index(file.len().saturating_sub(*width).max(1));
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            Self::Moved(from, to, length) => {
                let (from, to) = (from.index(file.len()), to.index(file.len()));
                let length = (*length).min(file.len() - from).min(file.len() - to);
                bytes.copy_within(from..from + length, to);
            }
        }
        bytes
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    // Headers are at the front of most files, so half of the damage is done there.
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000).prop_map(Damage::Garbage),
        index().prop_map(Damage::Truncated),
        proptest::collection::vec((index(), any::<u8>()), 1..6).prop_map(Damage::Flipped),
        (
            index(),
            any::<u64>(),
            prop_oneof![Just(1usize), Just(2), Just(4), Just(8)]
        )
            .prop_map(|(at, value, width)| Damage::Word(at, value, width)),
        (
            index(),
            prop_oneof![
                Just(u64::MAX),
                Just(0),
                Just(0x7fff_ffff),
                Just(1 << 40),
                Just(0x0001_0000)
            ],
            Just(4usize)
        )
            .prop_map(|(at, value, width)| Damage::Word(at, value, width)),
        (index(), index(), 1..64usize).prop_map(|(from, to, length)| Damage::Moved(from, to, length)),
    ]
}

/// Small valid volumes, by the extension they are read under.
fn volumes() -> Vec<(&'static str, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.h5");
    let voxels = Array3::from_shape_fn((3, 5, 7), |(z, y, x)| (z * 35 + y * 7 + x) as u8);
    write_volume(&path, &Volume::new(voxels.mapv(f32::from))).unwrap();
    let contiguous = std::fs::read(&path).unwrap();
    let mut builder = hdf5_pure::FileBuilder::new();
    let set = builder
        .create_dataset("dataset")
        .with_data(voxels.as_slice().unwrap());
    set.with_shape(&[3, 5, 7]).with_chunks(&[2, 3, 4]).with_deflate(4);
    let chunked = builder.finish().unwrap();

    let stack = |compression| {
        write_stack::<tiff::encoder::colortype::Gray8>(&path, &voxels, compression);
        std::fs::read(&path).unwrap()
    };
    let plain = stack(tiff::encoder::Compression::Uncompressed);
    let lzw = stack(tiff::encoder::Compression::Lzw);
    let deflated = stack(tiff::encoder::Compression::Deflate(
        tiff::encoder::DeflateLevel::Fast,
    ));

    let written = |name: &str| {
        let path = folder.path().join(name);
        write_volume(&path, &Volume::new(voxels.mapv(f32::from))).unwrap();
        std::fs::read(&path).unwrap()
    };
    let (em, npy) = (written("v.em"), written("v.npy"));
    let mrc = i16_file(|h| h.nsymbt = 33);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&mrc).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip2.write_all(&mrc).unwrap();
    vec![
        ("mrc", i16_file(|h| h.mode = 0)),
        ("mrc", i16_file(|_| {})),
        ("mrc", mrc),
        ("mrc.gz", gzip.finish().unwrap()),
        ("mrc.bz2", bzip2.finish().unwrap()),
        ("h5", contiguous),
        ("h5", chunked),
        ("tif", plain),
        ("tif", lzw),
        ("tif", deflated),
        ("em", em),
        ("npy", npy),
    ]
}

fn use_volume(path: &Path) {
    let Ok(file) = open_volume(path) else { return };
    let shape = file.shape();
    let corner = shape.map(|n| n.min(2));
    let last = std::array::from_fn(|axis| shape[axis] - corner[axis]);
    for start in [[0; 3], last] {
        let region = Region::new(start, corner);
        if let Ok(window) = VolumeReader::<f32>::read_window(&file, region) {
            assert_eq!(window.shape(), corner);
        }
        let _ = VolumeReader::<u8>::read_window(&file, region);
    }
    // Zarr may hold any number of voxels in no chunk at all.
    if shape.iter().product::<usize>() > 10_000_000 {
        return;
    }
    if let Ok(volume) = read_volume(path) {
        assert_eq!(volume.shape(), shape);
    }
    let _ = read_label_map(path);
}

/// A small list in every format.
fn lists() -> Vec<(&'static str, ParticleFormat, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let mut particle =
        Particle::new([1.0, 2.5, 3.0], 1).with_rotation(Rotation::from_zxz_degrees(10.0, 20.0, 30.0));
    particle.score = Some(0.5);
    particle.tomogram = Some("tomo & 7".into());
    let mut other = Particle::new([4.0, 5.0, 6.0], 1);
    other.tomogram = Some("tomo & 7".into());
    let mut list = ParticleList::from(vec![particle, other]);
    list.voxel_size = VoxelSize::new(10.0).ok();
    let mut lists = Vec::new();
    let written = particle_formats()
        .iter()
        .filter(|entry| entry.is_written() && entry.is_read());
    for entry in written {
        let options = WriteOptions {
            format: Some(entry.format),
            tomograms: frame(),
            ..WriteOptions::default()
        };
        let path = folder.path().join("list");
        write_particle_file(&path, &list, &options).unwrap();
        let extension = entry.extensions.first().copied().unwrap_or("txt");
        lists.push((extension, entry.format, std::fs::read(&path).unwrap()));
    }
    let cbox =
        b"data_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_CoordinateZ #3\n_Width #4\n1 2 3 4\n";
    lists.push(("cbox", ParticleFormat::Cbox, cbox.to_vec()));
    lists.push(("box", ParticleFormat::Boxes, b"1 2 3 4\n5 6 7 8 -3\n".to_vec()));
    let spreadsheet = include_bytes!("../../../../fixtures/spreadsheet/xlsxwriter.xlsx");
    lists.push(("xlsx", ParticleFormat::Xlsx, spreadsheet.to_vec()));
    lists.push(("txt", ParticleFormat::Text, b"1 1 2 3 600\n2 4 5 6\n".to_vec()));
    lists
}

fn frame() -> TomogramTable {
    TomogramTable::from(TomogramFrame {
        shape: [100, 200, 300],
        voxel_size: VoxelSize::new(10.0).ok(),
        ..TomogramFrame::default()
    })
}

fn use_list(path: &Path, format: Option<ParticleFormat>) {
    let class = Class {
        label: 1,
        name: "1bxn".to_owned(),
        radius_voxels: None,
    };
    let options = ReadOptions {
        format,
        swap_xz: true,
        classes: ClassTable::new(vec![class]).unwrap(),
        tomograms: frame(),
        is_preview: format.is_none(),
        ..ReadOptions::default()
    };
    if let Ok(file) = read_particle_file(path, &options) {
        let list = file.particles;
        assert!(list.iter().all(|particle| particle.label > 0));
        assert!(
            list.iter()
                .all(|particle| particle.position.iter().all(|x| x.is_finite()))
        );
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn damaged_volumes_are_read_or_refused(damages in proptest::collection::vec(damage(), 1..3)) {
        let folder = tempfile::tempdir().unwrap();
        for (extension, valid) in volumes() {
            let path = folder.path().join(format!("v.{extension}"));
            let damaged = damages.iter().fold(valid, |bytes, damage| {
                if bytes.is_empty() { bytes } else { damage.apply(&bytes) }
            });
            std::fs::write(&path, damaged).unwrap();
            use_volume(&path);
        }
        check_memory();
    }

    /// The metadata and chunks of Zarr, one file of it damaged at a time.
    #[test]
    fn damaged_zarr_is_read_or_refused(damages in proptest::collection::vec(damage(), 1..3), which in any::<Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.zarr");
        let fixture = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/zarr"));
        for name in ["v2/blosc-lz4-f4", "v2/blosc-zstd-bits-f4", "v2/blosc-snappy-f4", "v2/zstd-f4", "v3/blosc-float32", "v3/pyramid.zarr", "v3/blosclz-shuffle", "v3/shards-end", "v3/shards-start"] {
            let _ = std::fs::remove_dir_all(&path);
            let files = copy_folder(&fixture.join(name), &path);
            let file = &files[which.index(files.len())];
            let valid = std::fs::read(file).unwrap();
            let damaged = damages.iter().fold(valid, |bytes, damage| {
                if bytes.is_empty() { bytes } else { damage.apply(&bytes) }
            });
            std::fs::write(file, damaged).unwrap();
            use_volume(&path);
        }
        check_memory();
    }

    #[test]
    fn damaged_lists_are_read_or_refused(damages in proptest::collection::vec(damage(), 1..3)) {
        let folder = tempfile::tempdir().unwrap();
        for (extension, format, valid) in lists() {
            let path = folder.path().join(format!("p.{extension}"));
            let damaged = damages.iter().fold(valid, |bytes, damage| {
                if bytes.is_empty() { bytes } else { damage.apply(&bytes) }
            });
            std::fs::write(&path, damaged).unwrap();
            use_list(&path, None);
            use_list(&path, Some(format));
        }
    }

    #[test]
    fn any_text_is_a_list_or_not(text in "[<>/a-z\"'= 0-9.,;#&\n\t-]{0,200}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.txt");
        std::fs::write(&path, text).unwrap();
        use_list(&path, None);
        for entry in particle_formats().iter().filter(|entry| entry.is_read()) {
            use_list(&path, Some(entry.format));
        }
    }
}

/// Copies a folder and gives the files of the copy.
fn copy_folder(from: &Path, to: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(to).unwrap();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            files.extend(copy_folder(&entry.path(), &target));
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            files.push(target);
        }
    }
    files.sort();
    files
}

#[test]
fn undamaged_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (extension, valid) in volumes() {
        let path = folder.path().join(format!("v.{extension}"));
        std::fs::write(&path, valid).unwrap();
        read_volume(&path).unwrap();
    }
}

/// Places all over every small file set to a size beyond any machine.
#[test]
fn no_word_of_a_header_makes_for_an_allocation() {
    let folder = tempfile::tempdir().unwrap();
    for (extension, valid) in volumes() {
        let path = folder.path().join(format!("v.{extension}"));
        // A step prime to the widths of words, so that all their bytes are met.
        for at in (0..valid.len().saturating_sub(8).min(600)).step_by(9) {
            for value in [0x7fff_ffff_u64, 1 << 44] {
                let mut bytes = valid.clone();
                let width = if value >> 32 == 0 { 4 } else { 8 };
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                std::fs::write(&path, bytes).unwrap();
                use_volume(&path);
            }
        }
    }
    check_memory();
}

/// The most address space this process has ever had; what is allocated counts even where it is never touched.
fn check_memory() {
    const ENOUGH_KIB: u64 = 32 << 20;
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let peak: u64 = peak.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < ENOUGH_KIB, "{peak} KiB were asked for");
}
