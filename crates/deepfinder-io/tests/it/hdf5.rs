use deepfinder_core::{Volume, VoxelSize};
use deepfinder_io::{
    ElementType, VolumeFormat, open_hdf5_dataset, open_volume, read_label_map, read_volume, write_hdf5,
    write_hdf5_datasets, write_volume,
};
use hdf5_pure::FileBuilder;
use ndarray::Array3;
use proptest::prelude::*;

use crate::{cases, check_reads_as, names, window};

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn volumes_come_back(shape in [1..9usize, 1..9usize, 1..20usize], size in proptest::option::of(0.5..50.0f32)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.h5");
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| (100 * z + 10 * y + x) as f32 / 7.0);
        let mut volume = Volume::new(voxels).with_voxel_size(size.map(|size| VoxelSize::new(size).unwrap()));
        volume.origin_angstrom = [1.5, -2.0, 3.0];
        write_volume(&path, &volume).unwrap();
        prop_assert_eq!(names(folder.path()), ["v.h5"]);
        check_reads_as(&path, &volume);

        let labels = volume.like(volume.voxels.mapv(|voxel| voxel as u8));
        write_hdf5(&path, &labels, "labels").unwrap();
        prop_assert_eq!(read_label_map(&path).unwrap(), labels);
    }

    /// Chunks that do not divide the volume, packed, of every type.
    #[test]
    fn packed_chunks_are_read(shape in [1..9usize, 1..9usize, 1..9usize], chunk in [1..5u64, 1..5u64, 1..5u64]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.h5");
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| (z * 13 + y * 5 + x) as i32 % 128);
        let (sizes, chunk) = (shape.map(|n| n as u64), std::array::from_fn::<_, 3, _>(|i| chunk[i].min(shape[i] as u64)));
        let values = voxels.as_slice().unwrap();
        let expected = Volume::new(voxels.mapv(|voxel| voxel as f32));
        macro_rules! check {
            ($($ty:ty),+) => {$({
                let mut builder = FileBuilder::new();
                let values: Vec<$ty> = values.iter().map(|&v| v as $ty).collect();
                builder.create_dataset("dataset").with_data(&values).with_shape(&sizes).with_chunks(&chunk).with_deflate(4);
                builder.write(&path).unwrap();
                check_reads_as(&path, &expected);
            })+};
        }
        check!(u8, i8, u16, i16, u32, i32, i64, f32, f64);
    }
}

#[test]
fn score_maps_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    let maps: Vec<Volume<f32>> = (0..3)
        .map(|class| Volume::new(Array3::from_elem((2, 3, 4), class as f32)))
        .collect();
    let named: Vec<(String, &Volume<f32>)> = maps
        .iter()
        .enumerate()
        .map(|(class, map)| (format!("class{class}"), map))
        .collect();
    let named: Vec<(&str, &Volume<f32>)> = named.iter().map(|(name, map)| (name.as_str(), *map)).collect();
    write_hdf5_datasets(&path, &named).unwrap();
    let map = open_hdf5_dataset(&path, "class2").unwrap();
    assert_eq!(
        (map.info().format, map.info().element_type),
        (VolumeFormat::Hdf5, ElementType::F32)
    );
    assert_eq!(
        window(&map, [0, 1, 0], [1, 1, 4]),
        Array3::from_elem((1, 1, 4), 2.0)
    );

    let message = open_volume(&path).unwrap_err().to_string();
    assert!(message.contains("class0, class1, class2"), "{message}");
    let message = open_hdf5_dataset(&path, "class9").unwrap_err().to_string();
    assert!(
        message.contains("class9") && message.contains("class1"),
        "{message}"
    );
}

#[test]
fn data_sets_that_are_no_volumes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.h5");
    let mut builder = FileBuilder::new();
    builder
        .create_dataset("dataset")
        .with_data(&[1.0f32; 6])
        .with_shape(&[2, 3]);
    builder.write(&path).unwrap();
    let message = open_volume(&path).unwrap_err().to_string();
    assert!(message.contains("three axes"), "{message}");
    let mut builder = FileBuilder::new();
    builder.create_group("model_weights");
    builder.write(&path).unwrap();
    assert!(open_volume(&path).unwrap_err().to_string().contains("no volume"));
}

/// A data set of a terabyte in a file of a few hundred bytes.
#[test]
fn absurd_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.h5");
    let volume = Volume::new(Array3::<f32>::zeros((3, 5, 7)));
    write_volume(&path, &volume).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let sizes: Vec<u8> = [3u64, 5, 7].iter().flat_map(|n| n.to_le_bytes()).collect();
    let place = bytes.windows(24).position(|window| window == sizes).unwrap();
    let mut absurd = bytes.clone();
    absurd[place + 4] = 1;
    std::fs::write(&path, &absurd).unwrap();
    assert!(read_volume(&path).is_err());
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    assert!(read_volume(&path).is_err());
    std::fs::write(&path, &bytes).unwrap();
    assert!(read_volume(&path).is_ok());
}
