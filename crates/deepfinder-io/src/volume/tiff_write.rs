use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;

use deepfinder_core::Volume;
use ndarray::Axis;
use tiff::encoder::{Rational, TiffEncoder, colortype};
use tiff::tags::Tag;

use super::{ElementType, Voxel};
use crate::{IoError, Result, write_file_atomically};

/// Writes a stack, a page a plane, with the voxel size as `ImageJ` and tifffile write it.
pub(super) fn write<T: Voxel>(path: &Path, volume: &Volume<T>) -> Result<()> {
    let damaged = IoError::format(path, "TIFF");
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).map_err(&damaged)?;
    let [depth, height, width] = volume.shape();
    let sizes = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    let (width, height) = sizes.ok_or_else(|| IoError::Unwritable {
        path: path.to_owned(),
        what: format!("a TIFF page cannot hold {height} × {width} pixels"),
    })?;
    for (index, plane) in volume.voxels.axis_iter(Axis(0)).enumerate() {
        macro_rules! page {
            ($color:ty, $ty:ty) => {{
                let mut page = encoder
                    .new_image::<$color>(width, height)
                    .map_err(&damaged)?;
                if index == 0 {
                    describe(page.encoder(), depth, volume.voxel_size).map_err(&damaged)?;
                }
                let pixels: Vec<$ty> = plane.iter().map(|voxel| voxel.to_f32() as $ty).collect();
                page.write_data(&pixels).map_err(&damaged)?;
            }};
        }
        match T::ELEMENT {
            ElementType::U8 => page!(colortype::Gray8, u8),
            ElementType::I8 => page!(colortype::GrayI8, i8),
            ElementType::U16 => page!(colortype::Gray16, u16),
            ElementType::I16 => page!(colortype::GrayI16, i16),
            _ => page!(colortype::Gray32Float, f32),
        }
    }
    write_file_atomically(path, &bytes.into_inner())
}

/// The tags of a stack: number of slices, unit, spacing along z, and pixels per unit along x and y.
fn describe<W: std::io::Write + std::io::Seek, K: tiff::encoder::TiffKind>(
    tags: &mut tiff::encoder::DirectoryEncoder<'_, W, K>,
    slices: usize,
    voxel_size: Option<deepfinder_core::VoxelSize>,
) -> tiff::TiffResult<()> {
    const DENOMINATOR: u32 = 1 << 20;
    let mut text = format!("ImageJ=1.54f\nimages={slices}\nslices={slices}\n");
    if let Some(size) = voxel_size {
        let edge = size.angstrom();
        // Writing to a string cannot fail.
        let _ = write!(text, "unit=angstrom\nspacing={edge}\n");
        let units = (f64::from(edge) * f64::from(DENOMINATOR)).round() as u32;
        for tag in [Tag::XResolution, Tag::YResolution] {
            tags.write_tag(
                tag,
                Rational {
                    n: DENOMINATOR,
                    d: units,
                },
            )?;
        }
        tags.write_tag(Tag::ResolutionUnit, 1_u16)?;
    }
    tags.write_tag(Tag::ImageDescription, text.as_str())
}
