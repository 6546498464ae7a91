use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ::mrc::{Header, Reader};
use deepfinder_core::Region;
use ndarray::Array3;

use super::header::{HEADER_BYTES, Layout, bytes_needed, promise};
use crate::volume::element::{Decoded, NoLabel};
use crate::volume::{ElementType, Source, VolumeFile, VolumeFormat, VolumeInfo};
use crate::{IoError, Result};

const FORMAT: &str = "MRC";

/// Place of NSYMBT, the length of the extended header.
const NSYMBT: std::ops::Range<usize> = 92..96;

pub(in crate::volume) fn open(path: &Path) -> Result<VolumeFile> {
    let file = File::open(path).map_err(IoError::file("read", path))?;
    let length = file.metadata().map_err(IoError::file("read", path))?.len();
    let mut start = Vec::new();
    let read = (&file).take(HEADER_BYTES as u64).read_to_end(&mut start);
    read.map_err(IoError::file("read", path))?;

    let packed = start.starts_with(b"\x1f\x8b") || start.starts_with(b"BZh");
    let (reader, warnings) = if start.starts_with(b"\x1f\x8b") {
        unpack(path, |file| Box::new(flate2::read::MultiGzDecoder::new(file)))?
    } else if start.starts_with(b"BZh") {
        unpack(path, |file| Box::new(bzip2::read::MultiBzDecoder::new(file)))?
    } else {
        // Checked before the crate sees the file: where its memory map is too short it falls back to a buffer
        // of the size the header promises.
        check_length(path, &start, length)?;
        Reader::open_permissive(path).map_err(IoError::format(path, FORMAT))?
    };

    let header = reader.header();
    let layout = Layout::new(path, header)?;
    if layout.is_packed && packed {
        let what =
            "numbers of four bits (MRC mode 101) under gzip or bzip2 are not read: unpack the file first";
        return Err(IoError::unsupported(path, what));
    }
    // What the crate says about the sign of bytes and about axes is said in our words by the layout.
    let mut warnings: Vec<String> = warnings
        .into_iter()
        .filter(|warning| {
            !["Mode 0", "Axis mapping", "Sampling", "Volume stack"]
                .iter()
                .any(|w| warning.contains(w))
        })
        .map(|warning| format!("MRC header: {warning}"))
        .collect();
    warnings.extend(layout.warnings.iter().cloned());
    let expected = bytes_needed(path, header)?;
    if u128::from(length) > expected && !packed {
        warnings.push(format!(
            "{} bytes more than the header promises: they are not read",
            u128::from(length) - expected
        ));
    }
    let start = header.data_offset() as u64;
    let info = VolumeInfo {
        format: VolumeFormat::Mrc,
        shape: layout.shape(),
        element_type: layout.element,
        voxel_size: layout.voxel_size,
        origin_angstrom: layout.origin_angstrom,
        warnings,
    };
    Ok(VolumeFile {
        path: path.to_owned(),
        info,
        voxels: Box::new(Mrc {
            voxels: if packed {
                Voxels::Unpacked(Box::new(reader))
            } else {
                let file = Mutex::new(file);
                Voxels::InFile { file, start }
            },
            layout,
        }),
    })
}

struct Mrc {
    voxels: Voxels,
    layout: Layout,
}

/// Where the voxels are.
enum Voxels {
    /// In the file from byte `start` on, and read from there: not through a memory map, whose pages count as the
    /// program's memory, and which ends the program where another one makes the file shorter meanwhile.
    InFile { file: Mutex<File>, start: u64 },
    /// Unpacked into memory.
    Unpacked(Box<Reader>),
}

/// Bytes of a block of voxels in the file: `offset` and `shape` in columns, rows, sections.
fn read_block(
    file: &Mutex<File>,
    start: u64,
    layout: &Layout,
    offset: [usize; 3],
    shape: [usize; 3],
) -> io::Result<Vec<u8>> {
    if layout.is_packed {
        return read_halves(file, start, layout, offset, shape);
    }
    let width = layout.element.bytes();
    let [columns, rows, sections] = shape;
    let [all_columns, all_rows, _] = layout.extent;
    // What follows each other in the file is read at once: rows that are whole, and planes that are.
    let (rows_at_once, sections_at_once) = match (columns == all_columns, rows == all_rows) {
        (true, true) => (rows, sections),
        (true, false) => (rows, 1),
        _ => (1, 1),
    };
    let mut bytes = vec![0; columns * rows * sections * width];
    let mut pieces = bytes.chunks_exact_mut(columns * rows_at_once * sections_at_once * width);
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    for section in (0..sections).step_by(sections_at_once) {
        for row in (0..rows).step_by(rows_at_once) {
            let row = (offset[2] + section) * all_rows + offset[1] + row;
            let voxel = row * all_columns + offset[0];
            file.seek(SeekFrom::Start(start + (voxel * width) as u64))?;
            if let Some(piece) = pieces.next() {
                file.read_exact(piece)?;
            }
        }
    }
    Ok(bytes)
}

/// The same of numbers of four bits, each as a byte.
fn read_halves(
    file: &Mutex<File>,
    start: u64,
    layout: &Layout,
    offset: [usize; 3],
    [columns, rows, sections]: [usize; 3],
) -> io::Result<Vec<u8>> {
    let [all_columns, all_rows, _] = layout.extent;
    let first = offset[0] / 2;
    let mut row_bytes = vec![0; (offset[0] + columns).div_ceil(2) - first];
    let mut bytes = Vec::with_capacity(columns * rows * sections);
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    for section in offset[2]..offset[2] + sections {
        for row in offset[1]..offset[1] + rows {
            let place = (section * all_rows + row) * all_columns.div_ceil(2) + first;
            file.seek(SeekFrom::Start(start + place as u64))?;
            file.read_exact(&mut row_bytes)?;
            let columns = offset[0]..offset[0] + columns;
            bytes.extend(columns.map(|column| row_bytes[column / 2 - first] >> (4 * (column % 2)) & 15));
        }
    }
    Ok(bytes)
}

impl Source for Mrc {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>> {
        if region.voxels() == 0 {
            return Ok(Array3::default(region.shape));
        }
        let axes = self.layout.axes;
        let offset = axes.map(|axis| region.start[2 - axis]);
        let [columns, rows, sections] = axes.map(|axis| region.shape[2 - axis]);
        let shape = [columns, rows, sections];
        let bytes = match &self.voxels {
            Voxels::InFile { file, start } => {
                let bytes = read_block(file, *start, &self.layout, offset, shape);
                Cow::Owned(bytes.map_err(IoError::file("read", path))?)
            }
            Voxels::Unpacked(reader) => reader
                .read_block_bytes_cow(offset, shape)
                .map_err(IoError::format(path, FORMAT))?,
        };
        let voxels = decode(&bytes, self.layout.element, self.layout.is_big_endian).map_err(
            |NoLabel { index, value }| {
                let place = [
                    offset[0] + index % columns,
                    offset[1] + index / columns % rows,
                    offset[2] + index / columns / rows,
                ];
                let mut at = [0; 3];
                for (axis, place) in axes.into_iter().zip(place) {
                    at[2 - axis] = place;
                }
                IoError::NoLabel {
                    path: path.to_owned(),
                    at,
                    value,
                }
            },
        )?;
        let block = Array3::from_shape_vec((sections, rows, columns), voxels)
            .map_err(IoError::format(path, FORMAT))?;
        if axes == [0, 1, 2] {
            return Ok(block);
        }
        // Axis k of the result is z, y, x; axis j of the block is what sections, rows, columns run along.
        let mut order = [0; 3];
        for (j, axis) in axes.into_iter().rev().enumerate() {
            order[2 - axis] = j;
        }
        Ok(block.permuted_axes(order).as_standard_layout().into_owned())
    }
}

/// Voxels from bytes as they stand in the file.
///
/// The crate's own conversion reads 16-bit voxels through a cast pointer, which an extended header of odd length
/// misaligns, and has no integers of its own for unsigned bytes; so bytes come from the crate and values from here.
fn decode<T: Decoded>(bytes: &[u8], element: ElementType, is_big_endian: bool) -> Result<Vec<T>, NoLabel> {
    macro_rules! words {
        ($ty:ty, $width:literal) => {{
            let (words, _) = bytes.as_chunks::<$width>();
            if is_big_endian {
                T::collect(words.iter().map(|&word| f32::from(<$ty>::from_be_bytes(word))))
            } else {
                T::collect(words.iter().map(|&word| f32::from(<$ty>::from_le_bytes(word))))
            }
        }};
    }
    match element {
        ElementType::U8 => T::collect(bytes.iter().map(|&byte| f32::from(byte))),
        ElementType::I16 => words!(i16, 2),
        ElementType::U16 => words!(u16, 2),
        ElementType::F16 => words!(half::f16, 2),
        ElementType::F32 => words!(f32, 4),
        // The layout gives no other.
        _ => T::collect(bytes.iter().map(|&byte| f32::from(byte.cast_signed()))),
    }
}

fn check_length(path: &Path, start: &[u8], length: u64) -> Result<()> {
    let header = decode_header(path, start, length)?;
    let needed = bytes_needed(path, &header)?;
    if u128::from(length) < needed {
        return Err(truncated(path, promise(&header), needed, length));
    }
    Ok(())
}

fn decode_header(path: &Path, start: &[u8], length: u64) -> Result<Header> {
    let Some((fixed, _)) = start.split_first_chunk::<HEADER_BYTES>() else {
        let promised = "an MRC file begins with a header".to_owned();
        return Err(truncated(path, promised, HEADER_BYTES as u128, length));
    };
    Ok(Header::decode_from_bytes_with_info(fixed).0)
}

fn truncated(path: &Path, promised: String, needed: u128, found: u64) -> IoError {
    IoError::Truncated {
        path: path.to_owned(),
        promised,
        needed,
        found,
    }
}

/// Unpacks a compressed file, no further than its header says and only as memory fills with real bytes.
fn unpack(path: &Path, decoder: fn(File) -> Box<dyn Read>) -> Result<(Reader, Vec<String>)> {
    let file = File::open(path).map_err(IoError::file("read", path))?;
    let damaged = IoError::format(path, "compressed MRC");
    let mut decoder = decoder(file);
    let mut bytes = Vec::new();
    let mut take = |limit: u64, bytes: &mut Vec<u8>| decoder.by_ref().take(limit).read_to_end(bytes);
    take(HEADER_BYTES as u64, &mut bytes).map_err(&damaged)?;
    let header = decode_header(path, &bytes, bytes.len() as u64)?;
    if header.nsymbt < 0 {
        // The crate would take it for an extended header of nearly 2^64 bytes.
        bytes[NSYMBT].fill(0);
    }
    let needed = bytes_needed(path, &header)?;
    let rest = u64::try_from(needed - HEADER_BYTES as u128).unwrap_or(u64::MAX);
    take(rest, &mut bytes).map_err(&damaged)?;
    if (bytes.len() as u128) < needed {
        return Err(truncated(path, promise(&header), needed, bytes.len() as u64));
    }
    Reader::from_bytes_permissive(bytes).map_err(IoError::format(path, FORMAT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd lengths of every mode, both ways round: where SIMD tails go wrong.
    #[test]
    fn every_length_of_every_mode_is_decoded() {
        for n in 0..70_i16 {
            let values: Vec<i16> = (0..n).map(|i| i * 37 % 120).collect();
            let expected: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
            let check = |element, little: Vec<u8>, width: usize| {
                let big: Vec<u8> = little
                    .chunks(width)
                    .flat_map(|word| word.iter().rev().copied())
                    .collect();
                assert_eq!(
                    decode::<f32>(&little, element, false).unwrap(),
                    expected,
                    "{element}"
                );
                assert_eq!(decode::<f32>(&big, element, true).unwrap(), expected, "{element}");
                let labels: Vec<u8> = values.iter().map(|&v| v as u8).collect();
                assert_eq!(decode::<u8>(&little, element, false).unwrap(), labels);
            };
            let bytes =
                |put: &dyn Fn(i16) -> Vec<u8>| values.iter().flat_map(|&v| put(v)).collect::<Vec<u8>>();
            check(ElementType::I8, bytes(&|v| vec![v as u8]), 1);
            check(ElementType::U8, bytes(&|v| vec![v as u8]), 1);
            check(ElementType::I16, bytes(&|v| v.to_le_bytes().into()), 2);
            check(ElementType::U16, bytes(&|v| v.to_le_bytes().into()), 2);
            check(
                ElementType::F16,
                bytes(&|v| half::f16::from_f32(v.into()).to_le_bytes().into()),
                2,
            );
            check(ElementType::F32, bytes(&|v| f32::from(v).to_le_bytes().into()), 4);
        }
        assert_eq!(decode::<f32>(&[0xff], ElementType::I8, false).unwrap(), [-1.0]);
        assert_eq!(decode::<f32>(&[0xff], ElementType::U8, false).unwrap(), [255.0]);
    }
}
