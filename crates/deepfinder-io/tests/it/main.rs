//! Files that are written and read back, files of other programs, and files that are broken.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also inside its helpers"
)]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod hdf5;
mod lists;
mod mrc_read;
mod mrc_write;
mod particles;
#[cfg(feature = "remote")]
mod remote;
mod robustness;
mod shared;
mod tiff;
mod volumes;

use std::path::Path;

use deepfinder_core::{Region, Volume, VolumeReader, VoxelSize};
use deepfinder_io::{VolumeFile, open_volume, read_volume};
use ndarray::Array3;
use proptest::test_runner::Config;

/// A few cases, or as many as `PROPTEST_CASES` says.
fn cases(cases: u32) -> Config {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default(),
        None => Config::with_cases(cases),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Reads a window as `f32`.
fn window(file: &VolumeFile, start: [usize; 3], shape: [usize; 3]) -> Array3<f32> {
    file.read_window(Region::new(start, shape)).unwrap()
}

/// What is read of a file, whole and by a window, is this volume.
fn check_reads_as(path: &Path, expected: &Volume<f32>) {
    let volume = read_volume(path).unwrap();
    assert_eq!(volume.voxels, expected.voxels);
    assert_eq!(volume.origin_angstrom, expected.origin_angstrom);
    let sizes = [volume.voxel_size, expected.voxel_size];
    match sizes.map(|size| size.map(VoxelSize::angstrom)) {
        [Some(found), Some(expected)] => assert!((found - expected).abs() <= 1e-6 * expected, "{sizes:?}"),
        [found, expected] => assert_eq!(found, expected),
    }
    let file = open_volume(path).unwrap();
    let start = file.shape().map(|n| n / 3);
    let shape = std::array::from_fn(|axis| (file.shape()[axis] - start[axis]).div_ceil(2));
    assert_eq!(
        window(&file, start, shape),
        expected.window(Region::new(start, shape)).unwrap()
    );
    assert!(VolumeReader::<f32>::read_window(&file, Region::new([0; 3], [usize::MAX; 3])).is_err());
}
