//! Voxels that stand in a file one after the other, x fastest, behind a header: EM and NPY.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use deepfinder_core::Region;
use ndarray::Array3;

use super::element::Decoded;
use super::{ElementType, Source, VolumeInfo, crop_planes};
use crate::{IoError, Result};

/// Where the voxels stand and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    /// Bytes before the first voxel.
    pub(super) offset: u64,
    /// `(z, y, x)`.
    pub(super) shape: [usize; 3],
    pub(super) element: ElementType,
    pub(super) is_big_endian: bool,
}

impl Raw {
    /// Refuses a header that promises more than its file holds; says how many bytes lie behind the voxels.
    pub(super) fn check_length(
        &self,
        path: &Path,
        promised: String,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let length = std::fs::metadata(path)
            .map_err(IoError::file("read", path))?
            .len();
        let voxels: u128 = self
            .shape
            .iter()
            .fold(1, |product, &n| product.saturating_mul(n as u128));
        let needed = voxels
            .saturating_mul(self.element.bytes() as u128)
            .saturating_add(self.offset.into());
        if needed > length.into() {
            return Err(IoError::Truncated {
                path: path.to_owned(),
                promised,
                needed,
                found: length,
            });
        }
        if needed < length.into() {
            let more = u128::from(length) - needed;
            warnings.push(format!(
                "{more} bytes more than the header promises: they are not read"
            ));
        }
        Ok(())
    }
}

impl Source for Raw {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>> {
        let mut window = Array3::default(region.shape);
        if region.voxels() == 0 {
            return Ok(window);
        }
        let [_, height, width] = self.shape;
        let bytes = self.element.bytes();
        let mut file = File::open(path).map_err(IoError::file("read", path))?;
        // A plane's rows from the first to the last that the window touches.
        let (first, rows) = (region.start[1], region.shape[1]);
        let mut buffer = vec![0; rows * width * bytes];
        let rows_only = Region::new([region.start[0], 0, region.start[2]], region.shape);
        for z in region.start[0]..region.end()[0] {
            let row = (z * height + first) as u64;
            let place = self.offset + row * (width * bytes) as u64;
            let read = file
                .seek(SeekFrom::Start(place))
                .and_then(|_| file.read_exact(&mut buffer));
            read.map_err(IoError::file("read", path))?;
            let values = values(&buffer, self.element, self.is_big_endian);
            let plane =
                Array3::from_shape_vec((1, rows, width), values).map_err(IoError::format(path, "volume"))?;
            crop_planes(path, &plane, z, rows_only, &mut window).map_err(|error| match error {
                IoError::NoLabel {
                    path,
                    at: [z, y, x],
                    value,
                } => IoError::NoLabel {
                    path,
                    at: [z, y + first, x],
                    value,
                },
                other => other,
            })?;
        }
        Ok(window)
    }
}

/// Numbers from their bytes.
pub(super) fn values(bytes: &[u8], element: ElementType, is_big_endian: bool) -> Vec<f32> {
    macro_rules! words {
        ($ty:ty, $width:literal, $convert:expr) => {{
            let (words, _) = bytes.as_chunks::<$width>();
            let words = words.iter().map(|&word| {
                if is_big_endian {
                    <$ty>::from_be_bytes(word)
                } else {
                    <$ty>::from_le_bytes(word)
                }
            });
            words.map($convert).collect()
        }};
    }
    match element {
        ElementType::U8 => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        ElementType::I8 => bytes.iter().map(|&byte| f32::from(byte.cast_signed())).collect(),
        ElementType::U16 => words!(u16, 2, f32::from),
        ElementType::I16 => words!(i16, 2, f32::from),
        ElementType::F16 => words!(half::f16, 2, f32::from),
        ElementType::U32 => words!(u32, 4, |value| value as f32),
        ElementType::I32 => words!(i32, 4, |value| value as f32),
        ElementType::F32 => words!(f32, 4, |value| value),
        ElementType::U64 => words!(u64, 8, |value| value as f32),
        ElementType::I64 => words!(i64, 8, |value| value as f32),
        ElementType::F64 => words!(f64, 8, |value| value as f32),
    }
}

/// What such a file says: neither format has a voxel size or an origin.
pub(super) fn info(format: super::VolumeFormat, raw: &Raw, warnings: Vec<String>) -> VolumeInfo {
    let mut warnings = warnings;
    warnings.push("no voxel size in the file. Give it by hand where it matters".to_owned());
    VolumeInfo {
        format,
        shape: raw.shape,
        element_type: raw.element,
        voxel_size: None,
        origin_angstrom: [0.0; 3],
        warnings,
    }
}
