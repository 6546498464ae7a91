//! Headers as they occur: made by hand, byte by byte.

use std::io::Write;
use std::path::{Path, PathBuf};

use deepfinder_core::{Region, VolumeReader, VoxelSize};
use deepfinder_io::{ElementType, open_volume, read_label_map, read_volume};
use mrc::{FileEndian, Header};
use ndarray::Array3;
use tempfile::TempDir;

use crate::window;

/// Bytes of a volume of 2 × 3 × 5 voxels (z, y, x) with mode 1, after the header has been changed.
pub(crate) fn i16_file(change: impl Fn(&mut Header)) -> Vec<u8> {
    let mut header = Header::new();
    (header.nx, header.ny, header.nz) = (5, 3, 2);
    (header.mx, header.my, header.mz) = (5, 3, 2);
    (header.xlen, header.ylen, header.zlen) = (50.0, 30.0, 20.0);
    header.mode = 1;
    change(&mut header);
    let mut bytes = vec![0; 1024];
    header.encode_to_bytes((&mut bytes[..]).try_into().unwrap());
    bytes.resize(header.data_offset(), 0xee);
    for i in 0..30_i16 {
        bytes.extend(match header.detect_endian() {
            FileEndian::LittleEndian => (i - 10).to_le_bytes(),
            FileEndian::BigEndian => (i - 10).to_be_bytes(),
        });
    }
    bytes
}

struct OnDisk {
    path: PathBuf,
    _folder: TempDir,
}

fn on_disk(name: &str, bytes: &[u8]) -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    OnDisk {
        path,
        _folder: folder,
    }
}

fn ramp() -> Array3<f32> {
    Array3::from_shape_fn((2, 3, 5), |(z, y, x)| (z * 15 + y * 5 + x) as f32 - 10.0)
}

/// A file is read as the ramp, with warnings that say these words and no others.
fn check_ramp(bytes: &[u8], words: &[&str]) {
    let file = on_disk("a.mrc", bytes);
    let opened = open_volume(&file.path).unwrap();
    assert_eq!(opened.voxel_size(), VoxelSize::new(10.0).ok());
    let warnings = &opened.info().warnings;
    assert_eq!(warnings.len(), words.len(), "{warnings:?}");
    for (warning, word) in warnings.iter().zip(words) {
        assert!(warning.contains(word), "{warning}");
    }
    assert_eq!(read_volume(&file.path).unwrap().voxels, ramp());
    assert_eq!(
        window(&opened, [1, 1, 1], [1, 2, 3])[[0, 1, 2]],
        ramp()[[1, 2, 3]]
    );
}

fn message(path: &Path) -> String {
    let message = open_volume(path).unwrap_err().to_string();
    assert!(
        message.contains(path.file_name().unwrap().to_str().unwrap()),
        "{message}"
    );
    message
}

/// Two voxels a byte, the first in its lower half; rows of five take three bytes.
#[test]
fn numbers_of_four_bits_are_read() {
    let mut bytes = i16_file(|h| h.mode = 101);
    bytes.truncate(1024);
    let voxels = Array3::from_shape_fn((2, 3, 5), |(z, y, x)| ((z * 15 + y * 5 + x) % 16) as u8);
    for row in voxels.rows() {
        bytes.extend(
            row.to_vec()
                .chunks(2)
                .map(|pair| pair[0] | pair.get(1).unwrap_or(&0) << 4),
        );
    }
    let file = on_disk("a.mrc", &bytes);
    assert_eq!(read_label_map(&file.path).unwrap().voxels, voxels);
    let opened = open_volume(&file.path).unwrap();
    assert_eq!(opened.info().warnings, Vec::<String>::new());
    for start in 0..4 {
        let found = window(&opened, [1, 1, start], [1, 2, 2]);
        let expected = voxels.slice(ndarray::s![1..2, 1..3, start..start + 2]);
        assert_eq!(found, expected.mapv(f32::from));
    }
    bytes.pop();
    std::fs::write(&file.path, &bytes).unwrap();
    assert!(message(&file.path).contains("cut short"));
}

#[test]
fn plain_and_quirky_headers_are_read() {
    check_ramp(&i16_file(|_| {}), &[]);
    // A zero stamp, no NVERSION.
    check_ramp(&i16_file(|h| h.machst = [0; 4]), &[]);
    check_ramp(&i16_file(|h| h.extra[12..16].fill(1)), &["NVERSION"]);
    // Not even the word MAP: only the extension tells.
    check_ramp(&i16_file(|h| h.map = *b"\0\0\x91E"), &["MAP"]);
    check_ramp(&i16_file(|h| h.ispg = 401), &["stack of several volumes"]);
    check_ramp(&i16_file(|h| h.mx = -5), &["MX, MY, MZ"]);
    let mut longer = i16_file(|_| {});
    longer.extend([0; 7]);
    check_ramp(&longer, &["7 bytes more"]);
}

#[test]
fn both_byte_orders_are_read() {
    check_ramp(&i16_file(|h| h.set_file_endian(FileEndian::BigEndian)), &[]);
    // The stamp got lost on the way.
    let mut unstamped = i16_file(|h| h.set_file_endian(FileEndian::BigEndian));
    unstamped[212..216].fill(0);
    check_ramp(&unstamped, &["big-endian"]);
}

/// Voxels of two bytes at an odd address.
#[test]
fn extended_headers_of_any_length_are_skipped() {
    for length in [1, 3, 80, 1025] {
        check_ramp(&i16_file(|h| h.nsymbt = length), &[]);
    }
    check_ramp(&i16_file(|h| h.nsymbt = -1), &["NSYMBT"]);
}

#[test]
fn axes_are_put_into_order() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        // Columns, rows and sections of the file, from the volume they stand for.
        let volume = Array3::from_shape_fn((2, 3, 5), |(z, y, x)| (z * 15 + y * 5 + x) as i16);
        let extent = order.map(|axis| [5, 3, 2][axis - 1]);
        let mut header = Header::new();
        [header.nx, header.ny, header.nz] = extent.map(|n: usize| n as i32);
        (header.mx, header.my, header.mz) = (5, 3, 2);
        (header.xlen, header.ylen, header.zlen) = (50.0, 30.0, 20.0);
        [header.mapc, header.mapr, header.maps] = order.map(|axis| axis as i32);
        header.mode = 1;
        let mut bytes = vec![0; 1024];
        header.encode_to_bytes((&mut bytes[..]).try_into().unwrap());
        for section in 0..extent[2] {
            for row in 0..extent[1] {
                for column in 0..extent[0] {
                    let mut xyz = [0; 3];
                    for (axis, place) in order.into_iter().zip([column, row, section]) {
                        xyz[axis - 1] = place;
                    }
                    bytes.extend(volume[[xyz[2], xyz[1], xyz[0]]].to_le_bytes());
                }
            }
        }
        let file = on_disk("a.mrc", &bytes);
        let opened = open_volume(&file.path).unwrap();
        assert_eq!(opened.shape(), [2, 3, 5], "{order:?}");
        assert_eq!(opened.voxel_size(), VoxelSize::new(10.0).ok());
        assert_eq!(opened.info().warnings.is_empty(), order == [1, 2, 3]);
        assert_eq!(
            read_volume(&file.path).unwrap().voxels,
            volume.mapv(f32::from),
            "{order:?}"
        );
        let part = window(&opened, [1, 0, 2], [1, 3, 2]);
        assert_eq!(
            part,
            volume.slice(ndarray::s![1..2, .., 2..4]).mapv(f32::from),
            "{order:?}"
        );
        assert!(part.is_standard_layout());
        // Where a voxel is no label, its place is told in the volume's axes.
        let mut spoilt = bytes.clone();
        spoilt[1024..1026].copy_from_slice(&(-3_i16).to_le_bytes());
        let file = on_disk("b.mrc", &spoilt);
        let message = read_label_map(&file.path).unwrap_err().to_string();
        assert!(
            message.contains("[0, 0, 0]") && message.contains("-3"),
            "{message}"
        );
    }
}

#[test]
fn bytes_are_signed_or_not() {
    let bytes = |change: &dyn Fn(&mut Header)| {
        let mut bytes = i16_file(|h| {
            h.mode = 0;
            change(h);
        });
        bytes.truncate(1024 + 30);
        bytes[1024] = 200;
        bytes
    };
    let read = |bytes: &[u8]| {
        let file = on_disk("a.mrc", bytes);
        let element = open_volume(&file.path).unwrap().info().element_type;
        (element, read_volume(&file.path).unwrap().voxels[[0, 0, 0]])
    };
    assert_eq!(read(&bytes(&|_| {})), (ElementType::I8, -56.0));
    let imod = bytes(&|h| h.extra[56..60].copy_from_slice(b"IMOD"));
    assert_eq!(read(&imod), (ElementType::U8, 200.0));
    let imod_big_endian = bytes(&|h| {
        h.set_file_endian(FileEndian::BigEndian);
        h.extra[56..60].copy_from_slice(b"DOMI");
    });
    assert_eq!(read(&imod_big_endian), (ElementType::U8, 200.0));
    assert_eq!(
        read(&bytes(&|h| (h.dmin, h.dmax) = (0.0, 200.0))),
        (ElementType::U8, 200.0)
    );
}

#[test]
fn voxel_sizes_of_0_and_1_are_doubted() {
    let open = |size: f32| {
        let bytes = i16_file(|h| (h.xlen, h.ylen, h.zlen) = (5.0 * size, 3.0 * size, 2.0 * size));
        let file = on_disk("a.mrc", &bytes);
        let opened = open_volume(&file.path).unwrap();
        assert_eq!(opened.info().warnings_beside_voxel_size().count(), 0);
        (
            opened.voxel_size().map(VoxelSize::angstrom),
            opened.info().warnings.len(),
        )
    };
    assert_eq!(open(0.0), (None, 1));
    assert_eq!(open(f32::NAN), (None, 1));
    assert_eq!(open(1.0), (Some(1.0), 1));
    assert_eq!(open(7.5), (Some(7.5), 0));
}

#[test]
fn files_cut_short_are_refused_and_say_so() {
    let whole = i16_file(|h| h.nsymbt = 100);
    for length in [1, 500, 1023, 1024, 1100, whole.len() - 1] {
        let file = on_disk("a.mrc", &whole[..length]);
        let message = message(&file.path);
        assert!(
            message.contains("cut short") && message.contains(&length.to_string()),
            "{message}"
        );
    }
    let file = on_disk("a.mrc", &[]);
    assert!(message(&file.path).contains("empty"));
    assert!(message(Path::new("not/there.mrc")).contains("spelling"));
}

/// Sizes that no file can have: refused by arithmetic, not by allocating.
#[test]
fn absurd_headers_are_refused() {
    for change in [
        (|h| (h.nx, h.ny, h.nz) = (i32::MAX, i32::MAX, i32::MAX)) as fn(&mut Header),
        |h| (h.nx, h.ny) = (i32::MAX, i32::MAX),
        |h| h.nz = 3,
        |h| h.mode = 2,
    ] {
        for name in ["a.mrc", "a.rec"] {
            let file = on_disk(name, &i16_file(change));
            assert!(message(&file.path).contains("cut short"));
        }
    }
    let mut extended = i16_file(|_| {});
    extended[92..96].copy_from_slice(&i32::MAX.to_le_bytes());
    let file = on_disk("a.mrc", &extended);
    assert!(message(&file.path).contains("cut short"));
    for (change, word) in [
        ((|h| h.nx = 0) as fn(&mut Header), "words 1 to 3"),
        (|h| h.ny = -3, "words 1 to 3"),
        (|h| h.mode = 17, "word 4"),
        (|h| h.mode = 4, "complex"),
    ] {
        let file = on_disk("a.mrc", &i16_file(change));
        let message = message(&file.path);
        assert!(message.contains(word), "{message}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_files_are_read() {
    for pack in [gzip, bzip2] {
        check_ramp(&pack(&i16_file(|_| {})), &[]);
        check_ramp(&pack(&i16_file(|h| h.nsymbt = 7)), &[]);
        check_ramp(&pack(&i16_file(|h| h.nsymbt = -7)), &[]);
        let file = on_disk("a.mrc.gz", &pack(&i16_file(|_| {})));
        assert_eq!(open_volume(&file.path).unwrap().shape(), [2, 3, 5]);

        let packed = pack(&i16_file(|_| {}));
        let file = on_disk("cut.mrc.gz", &packed[..packed.len() / 2]);
        assert!(message(&file.path).contains("damaged"));
        let file = on_disk("short.mrc.gz", &pack(&i16_file(|_| {})[..1030]));
        assert!(message(&file.path).contains("cut short"));
        let file = on_disk(
            "absurd.mrc.gz",
            &pack(&i16_file(|h| (h.nx, h.ny) = (i32::MAX, i32::MAX))),
        );
        assert!(message(&file.path).contains("cut short"));
    }
    // bgzip and pigz write several members.
    let whole = i16_file(|_| {});
    check_ramp(&[gzip(&whole[..1000]), gzip(&whole[1000..])].concat(), &[]);
}

#[test]
fn labels_out_of_range_are_refused_where_they_are_asked_for() {
    let file = on_disk("a.mrc", &i16_file(|_| {}));
    let opened = open_volume(&file.path).unwrap();
    let good: Array3<u8> = opened.read_window(Region::new([1, 0, 0], [1, 3, 5])).unwrap();
    assert_eq!(good[[0, 0, 0]], 5);
    let error = VolumeReader::<u8>::read_window(&opened, Region::new([0, 0, 0], [1, 3, 5])).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("a.mrc: voxel [0, 0, 0]") && cause.contains("-10"),
        "{cause}"
    );
}

#[test]
fn files_of_unknown_kind_are_named_as_such() {
    let file = on_disk("a.xyz", b"hello");
    assert!(message(&file.path).contains("MRC"));
    let file = on_disk("a.h5", b"hello");
    assert!(message(&file.path).contains("HDF5"));
    let file = on_disk("a.tif", b"II*\0");
    assert!(message(&file.path).contains("TIFF"));
    let folder = tempfile::tempdir().unwrap();
    assert!(open_volume(folder.path()).is_err());
}

/// Eight gigabytes, of which only a hole and the last row are on the disk.
#[cfg(target_os = "linux")]
#[test]
fn a_window_of_a_large_file_reads_no_more_than_that() {
    use std::io::{Seek, SeekFrom};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.mrc");
    let mut header = Header::new();
    (header.nx, header.ny, header.nz) = (2048, 2048, 512);
    (header.mx, header.my, header.mz) = (2048, 2048, 512);
    (header.xlen, header.ylen, header.zlen) = (20_480.0, 20_480.0, 5_120.0);
    let mut bytes = [0; 1024];
    header.encode_to_bytes(&mut bytes);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(1024 + (8 << 30)).unwrap();
    file.seek(SeekFrom::End(-8)).unwrap();
    file.write_all(&[1.5_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat())
        .unwrap();
    drop(file);

    let opened = open_volume(&path).unwrap();
    let end = window(&opened, [510, 2040, 2040], [2, 8, 8]);
    assert_eq!((end[[1, 7, 6]], end[[1, 7, 7]], end.sum()), (1.5, 2.5, 4.0));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 1 << 20, "{peak} KiB of memory were used");
}
