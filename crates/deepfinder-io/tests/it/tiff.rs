use std::fs::File;
use std::path::Path;

use deepfinder_core::{Volume, VoxelSize};
use deepfinder_io::{ElementType, open_volume, read_label_map, read_volume};
use ndarray::Array3;
use proptest::prelude::*;
use tiff::encoder::colortype::{ColorType, Gray8, Gray16, Gray32Float, RGB8};
use tiff::encoder::{Compression, Rational, TiffEncoder, TiffValue};
use tiff::tags::Tag;

use crate::{cases, check_reads_as};

pub(crate) fn write_stack<C: ColorType>(path: &Path, volume: &Array3<C::Inner>, compression: Compression)
where
    [C::Inner]: TiffValue,
    C::Inner: Copy,
{
    let (_, height, width) = volume.dim();
    let mut encoder = TiffEncoder::new(File::create(path).unwrap())
        .unwrap()
        .with_compression(compression);
    for plane in volume.outer_iter() {
        let pixels: Vec<C::Inner> = plane.iter().copied().collect();
        encoder
            .write_image::<C>(width as u32, height as u32, &pixels)
            .unwrap();
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn stacks_are_read(shape in [1..6usize, 1..9usize, 1..30usize], packed in 0..3usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.tif");
        let compression = || [Compression::Uncompressed, Compression::Lzw, Compression::Packbits][packed];
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| (z * 40 + y * 6 + x) as u8);
        let expected = Volume::new(voxels.mapv(f32::from));
        write_stack::<Gray8>(&path, &voxels, compression());
        check_reads_as(&path, &expected);
        prop_assert_eq!(read_label_map(&path).unwrap().voxels, voxels.clone());
        write_stack::<Gray16>(&path, &voxels.mapv(u16::from), compression());
        check_reads_as(&path, &expected);
        prop_assert_eq!(open_volume(&path).unwrap().info().element_type, ElementType::U16);
        write_stack::<Gray32Float>(&path, &voxels.mapv(f32::from), compression());
        check_reads_as(&path, &expected);
    }
}

#[test]
fn imagej_tells_the_voxel_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.tif");
    let write = |description: &str| {
        let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
        for _ in 0..2 {
            let mut image = encoder.new_image::<Gray8>(3, 2).unwrap();
            image
                .encoder()
                .write_tag(Tag::ImageDescription, description)
                .unwrap();
            image
                .encoder()
                .write_tag(Tag::XResolution, Rational { n: 2, d: 3 })
                .unwrap();
            image.write_data(&[0; 6]).unwrap();
        }
        open_volume(&path)
    };
    let file = write("ImageJ=1.53\nimages=2\nunit=nm\nspacing=1.5\n").unwrap();
    assert_eq!(file.voxel_size(), VoxelSize::new(15.0).ok());
    assert_eq!(file.info().warnings, Vec::<String>::new());
    let file = write("unit=nm\nspacing=2.5\n").unwrap();
    assert_eq!(file.voxel_size(), VoxelSize::new(15.0).ok());
    assert!(file.info().warnings[0].contains("not cubes"));
    assert_eq!(file.info().warnings_beside_voxel_size().count(), 1);
    let file = write("unit=inch\n").unwrap();
    assert_eq!((file.voxel_size(), file.info().warnings.len()), (None, 1));
    assert_eq!(file.info().warnings_beside_voxel_size().count(), 0);
    let message = write("ImageJ=1.53\nimages=500\n").unwrap_err().to_string();
    assert!(message.contains("500 slices"), "{message}");
}

#[test]
fn pages_that_make_no_volume_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.tif");
    let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
    encoder.write_image::<Gray8>(3, 2, &[0; 6]).unwrap();
    encoder.write_image::<Gray8>(2, 3, &[0; 6]).unwrap();
    let message = open_volume(&path).unwrap_err().to_string();
    assert!(message.contains("page 2"), "{message}");
    let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
    encoder.write_image::<RGB8>(1, 1, &[0; 3]).unwrap();
    let message = open_volume(&path).unwrap_err().to_string();
    assert!(message.contains("grey"), "{message}");

    write_stack::<Gray8>(&path, &Array3::zeros((2, 40, 50)), Compression::Uncompressed);
    let bytes = std::fs::read(&path).unwrap();
    for length in [3, 9, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(read_volume(&path).is_err(), "{length}");
    }
}

/// Found by fuzzing: 192 MB were taken for a tag of a file of 600 bytes, whichever page it stood on.
#[test]
fn tags_that_promise_more_than_the_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    for is_big_endian in [false, true] {
        let mut bytes = if is_big_endian {
            b"MM".to_vec()
        } else {
            b"II".to_vec()
        };
        let mut put = |value: u32, width: usize| {
            let word = value.to_le_bytes();
            if is_big_endian {
                bytes.extend(word[..width].iter().rev());
            } else {
                bytes.extend(&word[..width]);
            }
        };
        for (value, width) in [
            (42, 2),
            (8, 4),
            (1, 2),
            (273, 2),
            (1, 2),
            (6_029_403, 4),
            (8, 4),
            (0, 4),
        ] {
            put(value, width);
        }
        std::fs::write(&path, bytes).unwrap();
        let error = open_volume(&path).unwrap_err().to_string();
        assert!(error.contains("tag 273 promises 6029403 values"), "{error}");
    }
}
