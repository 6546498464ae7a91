use std::path::Path;

use deepfinder_core::{Region, Volume, VolumeReader, VolumeWriter, VoxelSize, WindowWriter};
use deepfinder_io::{
    ElementType, MrcWriter, Voxel, open_volume, read_label_map, read_volume, write_mrc, write_volume,
};
use ndarray::{Array3, s};
use proptest::prelude::*;

use crate::{cases, check_reads_as, names};

fn header(path: &Path) -> mrc::Header {
    *mrc::Reader::open(path).unwrap().header()
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn f32_volumes_come_back(
        (shape, seed) in ([1..9usize, 1..9usize, 1..40usize], any::<u32>()),
        size in proptest::option::of(0.5..50.0f32),
        origin in any::<[i16; 3]>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.mrc");
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| {
            ((seed as usize + 31 * z + 7 * y + x) % 1000) as f32 * 0.37 - 100.0
        });
        let mut volume = Volume::new(voxels).with_voxel_size(size.map(|size| VoxelSize::new(size).unwrap()));
        volume.origin_angstrom = origin.map(f32::from);
        write_mrc(&path, &volume).unwrap();
        check_reads_as(&path, &volume);
        // Strict: what we write is what the format asks for.
        prop_assert!(mrc::Reader::open(&path).is_ok());
    }

    #[test]
    fn labels_come_back_whatever_their_range(
        shape in [1..7usize, 1..7usize, 1..20usize],
        largest in 0..=255u8,
        slab in 1..4usize,
        wide_from in 0..7usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.mrc");
        let labels = Array3::from_shape_fn(shape, |(z, y, x)| {
            let label = ((z * 5 + y * 3 + x) % 256) as u8;
            if z < wide_from { label.min(largest).min(127) } else { label.max(largest) }
        });
        let mut writer = MrcWriter::create(&path, shape, None, [0.0; 3]).unwrap();
        for z in (0..shape[0]).step_by(slab) {
            let end = (z + slab).min(shape[0]);
            writer.write_slab(labels.slice(s![z..end, .., ..])).unwrap();
        }
        writer.finish().unwrap();
        prop_assert_eq!(names(folder.path()), ["labels.mrc"]);
        prop_assert_eq!(&read_label_map(&path).unwrap().voxels, &labels);
        let is_wide = labels.iter().any(|&label| label > 127);
        prop_assert_eq!(header(&path).mode, if is_wide { 6 } else { 0 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Windows in any order make the file that slabs make, to the last byte.
    #[test]
    fn windows_make_the_same_file(
        shape in [1..6usize, 1..9usize, 1..9usize],
        window in [1..4usize, 1..5usize, 1..10usize],
        largest in 100..=160u8,
        seed in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let labels = Array3::from_shape_fn(shape, |(z, y, x)| ((z * 50 + y * 30 + x * 7) % 256) as u8 % largest);
        let scores = labels.mapv(|label| f32::from(label) / 3.0);
        let mut starts = Vec::new();
        for z in (0..shape[0]).step_by(window[0]) {
            for y in (0..shape[1]).step_by(window[1]) {
                starts.extend((0..shape[2]).step_by(window[2]).map(|x| [z, y, x]));
            }
        }
        starts.sort_by_key(|[z, y, x]| ((z * 100 + y * 10 + x) as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        check_windows(folder.path(), &labels, &starts, window);
        check_windows(folder.path(), &scores, &starts, window);
    }
}

fn check_windows<T: Voxel + Copy + std::fmt::Debug>(
    folder: &Path,
    voxels: &Array3<T>,
    starts: &[[usize; 3]],
    window: [usize; 3],
) {
    let (by_slab, by_window) = (folder.join("slabs.mrc"), folder.join("windows.mrc"));
    write_mrc(&by_slab, &Volume::new(voxels.clone())).unwrap();
    let shape: [usize; 3] = voxels.dim().into();
    let mut writer = MrcWriter::create(&by_window, shape, None, [0.0; 3]).unwrap();
    for start in starts {
        let [z, y, x] = [0, 1, 2].map(|axis| start[axis]..(start[axis] + window[axis]).min(shape[axis]));
        let windows = writer.windows().unwrap();
        windows.write_window(*start, voxels.slice(s![z, y, x])).unwrap();
    }
    writer.finish().unwrap();
    assert!(
        std::fs::read(&by_slab).unwrap() == std::fs::read(&by_window).unwrap(),
        "{starts:?}"
    );
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.mrc");
    let ones = |shape: [usize; 3]| Array3::<f32>::ones(shape);
    let create = || MrcWriter::create(&path, [2, 3, 4], None, [0.0; 3]).unwrap();
    let mut writer = create();
    assert!(
        writer.write_window([0, 0, 1], ones([1, 1, 4]).view()).is_err(),
        "past the end"
    );
    assert!(writer.write_window([0; 3], ones([1, 3, 4]).view()).is_ok());
    assert!(
        writer.write_slab(ones([1, 3, 4]).view()).is_err(),
        "a slab after a window"
    );
    let message = writer.finish().unwrap_err().to_string();
    assert!(message.contains("1 of 2 planes"), "{message}");
    let mut writer = create();
    writer.write_slab(ones([1, 3, 4]).view()).unwrap();
    assert!(
        writer.write_window([1, 0, 0], ones([1, 3, 4]).view()).is_err(),
        "a window after a slab"
    );
    drop(writer);
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn every_type_has_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.map");
    let check = |element: ElementType, mode: i32, expected: [f32; 4]| {
        let info = open_volume(&path).unwrap();
        assert_eq!((info.info().element_type, header(&path).mode), (element, mode));
        assert_eq!(
            read_volume(&path).unwrap().voxels.as_slice(),
            Some(expected.as_slice())
        );
    };
    write_volume(
        &path,
        &Volume::new(Array3::from_shape_vec((1, 1, 4), vec![-1i8, 0, 127, -128]).unwrap()),
    )
    .unwrap();
    check(ElementType::I8, 0, [-1.0, 0.0, 127.0, -128.0]);
    write_volume(
        &path,
        &Volume::new(Array3::from_shape_vec((1, 4, 1), vec![-1i16, 0, 256, 9]).unwrap()),
    )
    .unwrap();
    check(ElementType::I16, 1, [-1.0, 0.0, 256.0, 9.0]);
    write_volume(
        &path,
        &Volume::new(Array3::from_shape_vec((4, 1, 1), vec![1u16, 0, 65535, 9]).unwrap()),
    )
    .unwrap();
    check(ElementType::U16, 6, [1.0, 0.0, 65535.0, 9.0]);
    write_volume(
        &path,
        &Volume::new(Array3::from_shape_vec((1, 2, 2), vec![1u8, 0, 128, 9]).unwrap()),
    )
    .unwrap();
    check(ElementType::U16, 6, [1.0, 0.0, 128.0, 9.0]);
}

#[test]
fn planes_in_any_memory_order_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.mrc");
    let transposed =
        Array3::from_shape_fn((4, 3, 2), |(x, y, z)| (x + 10 * y + 100 * z) as f32).reversed_axes();
    write_mrc(&path, &Volume::new(transposed.clone())).unwrap();
    assert_eq!(read_volume(&path).unwrap().voxels, transposed);
}

#[test]
fn statistics_are_those_of_the_finite_voxels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.mrc");
    let mut voxels = Array3::from_shape_fn((3, 5, 7), |(z, y, x)| (z * 35 + y * 7 + x) as f32);
    write_mrc(&path, &Volume::new(voxels.clone())).unwrap();
    let found = header(&path);
    assert_eq!((found.dmin, found.dmax, found.dmean), (0.0, 104.0, 52.0));
    // The population standard deviation of 0 … n − 1.
    assert!((f64::from(found.rms) - ((105.0f64.powi(2) - 1.0) / 12.0).sqrt()).abs() < 1e-5);

    voxels[[0, 0, 0]] = f32::NAN;
    write_mrc(&path, &Volume::new(voxels)).unwrap();
    assert_eq!((header(&path).dmin, header(&path).dmax), (1.0, 104.0));
    write_mrc(&path, &Volume::new(Array3::from_elem((1, 1, 1), f32::NAN))).unwrap();
    assert!(header(&path).dmax < header(&path).dmin);
}

/// What a killed or cancelled run leaves: the old file, and nothing else.
#[test]
fn a_dropped_writer_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.mrc");
    let half_written = |labels: u8| {
        let mut writer = MrcWriter::create(&path, [4, 3, 2], None, [0.0; 3]).unwrap();
        writer
            .write_slab(Array3::from_elem((3, 3, 2), labels).view())
            .unwrap();
        assert!(names(folder.path()).iter().any(|name| name.ends_with(".partial")));
        writer
    };
    drop(half_written(1));
    assert_eq!(names(folder.path()), Vec::<String>::new());
    // Dropped after the file has been widened.
    drop(half_written(200));
    assert_eq!(names(folder.path()), Vec::<String>::new());

    let old = Volume::new(Array3::from_elem((2, 2, 2), 7u8));
    write_mrc(&path, &old).unwrap();
    drop(half_written(1));
    let message = half_written(1).finish().unwrap_err().to_string();
    assert!(
        message.contains("3 of 4 planes") && message.contains("labels.mrc"),
        "{message}"
    );
    assert_eq!(names(folder.path()), ["labels.mrc"]);
    assert_eq!(read_label_map(&path).unwrap().voxels, old.voxels);
}

#[test]
fn planes_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.mrc");
    let mut writer = MrcWriter::create(&path, [2, 3, 4], None, [0.0; 3]).unwrap();
    assert!(writer.write_slab(Array3::<f32>::zeros((1, 4, 3)).view()).is_err());
    assert!(writer.write_slab(Array3::<f32>::zeros((3, 3, 4)).view()).is_err());
    writer.write_slab(Array3::<f32>::ones((2, 3, 4)).view()).unwrap();
    assert!(writer.write_slab(Array3::<f32>::zeros((1, 3, 4)).view()).is_err());
    writer.finish().unwrap();
    assert!(
        read_volume(&path)
            .unwrap()
            .voxels
            .iter()
            .all(|&voxel| voxel == 1.0)
    );

    for shape in [[0, 1, 1], [1, 1, 1 << 31]] {
        assert!(MrcWriter::<f32>::create(&path, shape, None, [0.0; 3]).is_err());
    }
    let message = write_volume(
        &folder.path().join("v.png"),
        &Volume::new(Array3::<f32>::zeros((1, 1, 1))),
    );
    assert!(message.unwrap_err().to_string().contains(".mrc"));
}

#[cfg(unix)]
#[test]
fn others_may_read_what_was_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    std::fs::write(folder.path().join("plain"), b"").unwrap();
    write_mrc(
        &folder.path().join("v.mrc"),
        &Volume::new(Array3::<f32>::zeros((1, 1, 1))),
    )
    .unwrap();
    assert_eq!(mode("v.mrc"), mode("plain"));
}

#[test]
fn a_file_stays_readable_while_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.mrc");
    write_mrc(&path, &Volume::new(Array3::from_elem((4, 4, 4), 1.0f32))).unwrap();
    let file = open_volume(&path).unwrap();
    write_mrc(&path, &Volume::new(Array3::from_elem((1, 1, 1), 2.0f32))).unwrap();
    let old: Array3<f32> = file.read_window(Region::whole([4, 4, 4])).unwrap();
    assert!(old.iter().all(|&voxel| voxel == 1.0));
}
