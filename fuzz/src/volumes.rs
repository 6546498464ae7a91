use std::path::Path;

use deepfinder_core::{Region, Volume, VolumeReader, VoxelSize};
use deepfinder_io::{VolumeFile, open_volume, read_label_map, read_volume, write_volume};
use hdf5_pure::FileBuilder;
use ndarray::{Array3, Axis};
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype::Gray8};

use crate::{files_below, repository, scratch, seed, within_bytes};

/// Voxels up to which a volume is read whole.
const MOST_VOXELS: usize = 1 << 18;

/// Reads bytes as a file with that ending: header, windows, labels, the whole.
pub fn volume(ending: &str, bytes: &[u8]) {
    let path = scratch().join(format!("volume.{ending}"));
    std::fs::write(&path, bytes).unwrap();
    read(&path, bytes.len());
}

/// Reads a volume within the memory that a file of so many bytes may take: its packing gives 4096 bytes for one at
/// most (TIFF's), and a byte becomes an `f32`.
pub(crate) fn read(path: &Path, bytes: usize) {
    within_bytes((64 << 20) + 5 * 4096 * bytes, || {
        let Ok(file) = open_volume(path) else { return };
        windows(&file);
        let shape = file.shape();
        if shape
            .iter()
            .fold(1_usize, |product, &n| product.saturating_mul(n))
            > MOST_VOXELS
        {
            return;
        }
        if let Ok(volume) = read_volume(path) {
            assert_eq!(volume.shape(), shape);
        }
        let _ = read_label_map(path);
    });
}

fn windows(file: &VolumeFile) {
    let shape = file.shape();
    assert!(!shape.contains(&0));
    let corner = shape.map(|n| n.min(2));
    let last = std::array::from_fn(|axis| shape[axis] - corner[axis]);
    for start in [[0; 3], last] {
        let region = Region::new(start, corner);
        if let Ok(window) = VolumeReader::<f32>::read_window(file, region) {
            assert_eq!(window.shape(), corner);
        }
        let _ = VolumeReader::<u8>::read_window(file, region);
    }
}

/// Small volumes with these endings, of every type of voxel.
pub fn volume_seeds(endings: &[&str]) {
    seed(|folder| {
        let labels = Array3::from_shape_fn((3, 5, 7), |(z, y, x)| (z * 35 + y * 7 + x) as u8);
        for ending in endings {
            let path = |kind: &str| folder.join(format!("{kind}.{ending}"));
            let size = VoxelSize::new(13.5).ok();
            write_volume(
                &path("f32"),
                &Volume::new(labels.mapv(f32::from)).with_voxel_size(size),
            )
            .unwrap();
            write_volume(&path("u8"), &Volume::new(labels.clone())).unwrap();
            write_volume(&path("i16"), &Volume::new(labels.mapv(i16::from))).unwrap();
            write_volume(&path("u16"), &Volume::new(labels.mapv(u16::from))).unwrap();
            match *ending {
                "h5" => std::fs::write(path("chunked"), chunked(&labels)).unwrap(),
                "tif" => packed_stacks(folder, &labels),
                _ => {}
            }
            for file in files_below(&repository("../shared/data/real")) {
                let is_own = file.extension().is_some_and(|own| own == *ending);
                if is_own && file.metadata().is_ok_and(|found| found.len() < 1 << 20) {
                    std::fs::copy(&file, folder.join(file.file_name().unwrap_or_default())).unwrap();
                }
            }
        }
    });
}

fn chunked(labels: &Array3<u8>) -> Vec<u8> {
    let mut builder = FileBuilder::new();
    let set = builder
        .create_dataset("dataset")
        .with_data(labels.as_slice().unwrap());
    set.with_shape(&[3, 5, 7]).with_chunks(&[2, 3, 4]).with_deflate(4);
    builder.finish().unwrap()
}

fn packed_stacks(folder: &Path, labels: &Array3<u8>) {
    for (name, compression) in [
        ("lzw", Compression::Lzw),
        ("deflate", Compression::Deflate(DeflateLevel::Fast)),
        ("packbits", Compression::Packbits),
    ] {
        let file = std::fs::File::create(folder.join(format!("{name}.tif"))).unwrap();
        let mut encoder = TiffEncoder::new(file).unwrap().with_compression(compression);
        for plane in labels.axis_iter(Axis(0)) {
            let pixels: Vec<u8> = plane.iter().copied().collect();
            encoder.write_image::<Gray8>(7, 5, &pixels).unwrap();
        }
    }
}
