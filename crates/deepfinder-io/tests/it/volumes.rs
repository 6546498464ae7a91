//! Volumes in the formats beside MRC, HDF5 and TIFF, and what `write_volume` writes of all.

use std::path::{Path, PathBuf};

use deepfinder_core::{Region, Volume, VolumeReader, VoxelSize};
use deepfinder_io::{
    ElementType, OmeZarr, VolumeFormat, is_volume_folder, open_volume, read_label_map, read_volume,
    write_ome_zarr, write_volume,
};
use ndarray::Array3;
use proptest::prelude::*;

use crate::{cases, check_reads_as, names, window};

fn tomogram() -> Volume<f32> {
    let voxels = Array3::from_shape_fn((5, 6, 7), |(z, y, x)| {
        z as f32 * 100.0 - y as f32 * 10.5 + x as f32
    });
    let mut volume = Volume::new(voxels).with_voxel_size(VoxelSize::new(13.68).ok());
    volume.origin_angstrom = [10.0, -20.0, 30.5];
    volume
}

/// What a format has no place for is left out of what is expected of it.
fn check_written(name: &str, has_voxel_size: bool, has_origin: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let volume = tomogram();
    write_volume(&path, &volume).unwrap();
    let mut expected = volume.clone();
    expected.voxel_size = expected.voxel_size.filter(|_| has_voxel_size);
    expected.origin_angstrom = if has_origin {
        expected.origin_angstrom
    } else {
        [0.0; 3]
    };
    check_reads_as(&path, &expected);
    // Written again, over what is there.
    write_volume(&path, &volume).unwrap();
    assert_eq!(names(folder.path()), [name]);

    let labels = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (z * 20 + y * 5 + x) as u8 * 4);
    write_volume(&path, &Volume::new(labels.clone())).unwrap();
    assert_eq!(read_label_map(&path).unwrap().voxels, labels);
    let wide = labels.mapv(|label| i16::from(label) - 100);
    write_volume(&path, &Volume::new(wide.clone())).unwrap();
    assert_eq!(read_volume(&path).unwrap().voxels, wide.mapv(f32::from));
    assert!(
        read_label_map(&path)
            .unwrap_err()
            .to_string()
            .contains("label map")
    );
}

#[test]
fn every_format_comes_back() {
    for (name, has_voxel_size, has_origin) in [
        ("v.mrc", true, true),
        ("v.mrc.gz", true, true),
        ("v.rec.bz2", true, true),
        ("v.h5", true, true),
        ("v.tif", true, false),
        ("v.em", false, false),
        ("v.npy", false, false),
        ("v.zarr", true, true),
    ] {
        check_written(name, has_voxel_size, has_origin);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Windows of raw files and of chunks, wherever they begin and end.
    #[test]
    fn windows_are_parts_of_the_whole(
        shape in [1..9usize, 1..9usize, 1..140usize],
        start in [0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64],
        size in [0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| (z * 10_000 + y * 1000 + x) as f32);
        let volume = Volume::new(voxels);
        let start: [usize; 3] = std::array::from_fn(|axis| (start[axis] * shape[axis] as f64) as usize);
        let size = std::array::from_fn(|axis| ((size[axis] * (shape[axis] - start[axis]) as f64) as usize).max(1));
        for name in ["v.em", "v.npy", "v.zarr"] {
            let path = folder.path().join(name);
            write_volume(&path, &volume).unwrap();
            let file = open_volume(&path).unwrap();
            prop_assert_eq!(window(&file, start, size), volume.window(Region::new(start, size)).unwrap());
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/zarr")).to_owned()
}

/// Arrays by zarr-python 2 and 3, packed in every way; the voxel (z, y, x) is 100 z + 10 y + x.
#[test]
fn zarr_of_other_programs() {
    let number = |(z, y, x): (usize, usize, usize)| 100 * z + 10 * y + x;
    let mut seen = 0;
    for version in ["v2", "v3"] {
        for entry in std::fs::read_dir(fixtures().join(version)).unwrap() {
            let path = entry.unwrap().path();
            let file = open_volume(&path).unwrap();
            assert_eq!(
                (file.info().format, file.shape()),
                (VolumeFormat::OmeZarr, [9, 20, 33])
            );
            let expected = Array3::from_shape_fn((9, 20, 33), |at| match file.info().element_type {
                ElementType::U8 => f32::from(number(at) as u8),
                _ => number(at) as f32,
            });
            assert_eq!(read_volume(&path).unwrap().voxels, expected, "{}", path.display());
            assert!(is_volume_folder(&path));
            seen += 1;
        }
    }
    assert_eq!(seen, 13 + 10);
    for version in ["v2", "v3"] {
        let info = open_volume(&fixtures().join(version).join("pyramid.zarr")).unwrap();
        let info = info.info();
        assert!((info.voxel_size.unwrap().angstrom() - 13.5).abs() < 1e-5);
        assert_eq!(info.origin_angstrom, [10.0, 20.0, 30.0]);
        assert_eq!(info.warnings, Vec::<String>::new());
    }
}

#[test]
fn both_versions_of_ome_zarr_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.zarr");
    let volume = tomogram();
    for version in [OmeZarr::V04, OmeZarr::V05, OmeZarr::V04] {
        write_ome_zarr(&path, &volume, version).unwrap();
        check_reads_as(&path, &volume);
        // The levels are arrays of their own, each half the one before.
        let level = read_volume(&path.join("1")).unwrap();
        assert_eq!(level.shape(), [3, 3, 4]);
        let cube = volume.voxels.slice(ndarray::s![0..2, 0..2, 0..2]);
        assert_eq!(level.voxels[[0, 0, 0]], cube.mean().unwrap());
        assert_eq!(open_volume(&path.join("2")).unwrap().shape(), [2, 2, 2]);
    }
    assert_eq!(names(folder.path()), ["v.zarr"]);
    let labels = Volume::new(Array3::from_shape_fn((4, 4, 4), |(z, _, _)| z as u8));
    write_ome_zarr(&path, &labels, OmeZarr::V05).unwrap();
    assert_eq!(read_label_map(&path.join("1")).unwrap().voxels[[1, 0, 0]], 2);
    // Nothing but Zarr is ever replaced.
    let other = folder.path().join("other.zarr");
    std::fs::create_dir(&other).unwrap();
    assert!(write_ome_zarr(&other, &volume, OmeZarr::V04).is_err());
}

/// A chunk that is missing holds the fill value, and one that is damaged is an error that names it.
#[test]
fn chunks_may_be_missing_but_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.zarr");
    write_ome_zarr(&path, &tomogram(), OmeZarr::V04).unwrap();
    let chunk = path.join("0/0/0/0");
    std::fs::write(&chunk, b"damaged").unwrap();
    let error = format!("{:?}", read_volume(&path).unwrap_err());
    assert!(error.contains("unpacked"), "{error}");
    std::fs::remove_file(&chunk).unwrap();
    assert!(
        read_volume(&path)
            .unwrap()
            .voxels
            .iter()
            .all(|&voxel| voxel == 0.0)
    );
}

#[test]
fn what_is_no_volume_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], word: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = open_volume(&path).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let npy = |header: &str| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes
    };
    check(
        "a.npy",
        &npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1, 1), }"),
        "`<c8`",
    );
    check(
        "a.npy",
        &npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1, 1), }"),
        "Fortran",
    );
    check(
        "a.npy",
        &npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }"),
        "three axes",
    );
    check(
        "a.npy",
        &npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9000, 9000, 9000), }"),
        "cut short",
    );
    let mut em = vec![0; 512];
    em[0] = 6;
    em[3] = 8;
    for axis in 0..3 {
        em[4 + 4 * axis] = 2;
    }
    check("a.em", &em, "complex");
    em[3] = 5;
    check("a.em", &em, "cut short");

    let zarr = folder.path().join("z.zarr");
    std::fs::create_dir(&zarr).unwrap();
    for (metadata, word) in [
        (
            r#"{"shape": [2, 2], "chunks": [2, 2], "dtype": "<f4"}"#,
            "three axes",
        ),
        (
            r#"{"shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "<c8"}"#,
            "<c8",
        ),
        (
            r#"{"shape": [2, 2, 2], "chunks": [2, 2, 0], "dtype": "<f4"}"#,
            "cannot be",
        ),
        (
            r#"{"shape": [2, 2, 2], "chunks": [99999, 99999, 99999], "dtype": "<f4"}"#,
            "too large",
        ),
        (
            r#"{"shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "<f4", "compressor": {"id": "zfpy"}}"#,
            "zfpy",
        ),
        ("{", "no JSON"),
    ] {
        std::fs::write(zarr.join(".zarray"), metadata).unwrap();
        let error = open_volume(&zarr).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    for (codecs, word) in [
        (r#"[{"name": "transpose"}]"#, "transpose"),
        (r#"[{"name": "sharding_indexed"}]"#, "chunk_shape"),
        (
            r#"[{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 2, 3]}}]"#,
            "whole chunks",
        ),
        (
            r#"[{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1, 2], "index_codecs": [{"name": "gzip"}]}}]"#,
            "packed index",
        ),
    ] {
        let metadata = format!(
            r#"{{"zarr_format": 3, "node_type": "array", "shape": [2, 2, 2], "data_type": "float32",
            "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": [2, 2, 2]}}}}, "codecs": {codecs}}}"#
        );
        std::fs::write(zarr.join("zarr.json"), metadata).unwrap();
        let error = open_volume(&zarr).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// A shard whose table was cut or does not hold its own checksum is an error that says so.
#[test]
fn damaged_shards_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let shard = fixtures().join("v3/shards-end");
    std::fs::create_dir_all(folder.path().join("c/0/0")).unwrap();
    for name in ["zarr.json", "c/0/0/0"] {
        std::fs::copy(shard.join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("c/0/0/0");
    let valid = std::fs::read(&path).unwrap();
    let error = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        format!("{:?}", read_volume(folder.path()).unwrap_err())
    };
    assert!(error(&valid[..20]).contains("cut short"));
    assert!(error(&valid[..valid.len() - 1]).contains("checksum"));
    let mut flipped = valid.clone();
    flipped[valid.len() - 30] ^= 1;
    assert!(error(&flipped).contains("checksum"));
}

/// A level that points out of its folder is not followed.
#[test]
fn zarr_stays_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.zarr");
    write_ome_zarr(&path, &tomogram(), OmeZarr::V04).unwrap();
    let attributes = std::fs::read_to_string(path.join(".zattrs")).unwrap();
    std::fs::write(
        path.join(".zattrs"),
        attributes.replace("\"path\": \"0\"", "\"path\": \"../../0\""),
    )
    .unwrap();
    assert!(open_volume(&path).unwrap_err().to_string().contains("outside"));
}

/// What a window of labels says of a voxel that is none: its place in the volume, whatever the window and the format.
#[test]
fn voxels_that_are_no_labels_have_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut voxels = Array3::<f32>::zeros((4, 5, 6));
    voxels[[2, 3, 4]] = 0.5;
    for name in ["v.em", "v.npy", "v.zarr", "v.tif", "v.h5", "v.mrc"] {
        let path = folder.path().join(name);
        write_volume(&path, &Volume::new(voxels.clone())).unwrap();
        let file = open_volume(&path).unwrap();
        let window = VolumeReader::<u8>::read_window(&file, Region::new([1, 2, 3], [3, 3, 3]));
        let error = format!("{:?}", window.unwrap_err());
        assert!(error.contains("[2, 3, 4]"), "{name}: {error}");
    }
}
