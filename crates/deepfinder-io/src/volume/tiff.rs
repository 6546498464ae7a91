//! TIFF stacks: a page is a plane. `ImageJ`'s description gives the voxel size where there is one.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use deepfinder_core::{Region, VoxelSize};
use ndarray::Array3;
use tiff::ColorType;
use tiff::decoder::ifd::Value;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{SampleFormat, Tag};

use super::element::Decoded;
use super::{ElementType, Source, VolumeFile, VolumeFormat, VolumeInfo, crop_planes};
use crate::{IoError, Result};

const FORMAT: &str = "TIFF";

/// No TIFF compression packs more than this to one; beyond it a header is damaged.
const MAX_PACKING: u128 = 4096;

type Pages = Decoder<BufReader<File>>;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Page {
    size: [usize; 2],
    element: ElementType,
    is_packed: bool,
}

pub(super) fn open(path: &Path) -> Result<VolumeFile> {
    let damaged = IoError::format(path, FORMAT);
    let length = std::fs::metadata(path)
        .map_err(IoError::file("read", path))?
        .len();
    let mut pages = decoder(path)?;
    let mut warnings = Vec::new();
    let description = match pages.find_tag(Tag::ImageDescription).map_err(&damaged)? {
        Some(Value::Ascii(text)) => text,
        _ => String::new(),
    };
    let voxel_size = voxel_size(&mut pages, &description, &mut warnings);

    let first = page(path, &mut pages, 0)?;
    let mut depth = 1;
    while pages.more_images() {
        pages.next_image().map_err(&damaged)?;
        let next = page(path, &mut pages, depth)?;
        if (next.size, next.element) != (first.size, first.element) {
            let what = format!(
                "{:?} pixels (rows, columns) of {}, but page 1 has {:?} of {}: a volume's planes are alike. Remove thumbnails and other extra pages",
                next.size, next.element, first.size, first.element
            );
            return Err(IoError::malformed(path, format!("page {}", depth + 1), what));
        }
        depth += 1;
    }
    if let Some(slices) = field(&description, "images").and_then(|n| n.parse::<usize>().ok())
        && slices > depth
    {
        let what = format!(
            "ImageJ says {slices} slices but the file has {depth} pages, as in its stacks over 4 GB: save it as MRC instead"
        );
        return Err(IoError::unsupported(path, what));
    }

    let [height, width] = first.size;
    let needed = [depth, height, width, first.element.bytes()]
        .iter()
        .fold(1_u128, |product, &n| product.saturating_mul(n as u128));
    let packing = if first.is_packed { MAX_PACKING } else { 1 };
    if needed > u128::from(length) * packing {
        return Err(IoError::Truncated {
            path: path.to_owned(),
            promised: format!(
                "its tags promise {depth} pages of {height} × {width} pixels of {}",
                first.element
            ),
            needed,
            found: length,
        });
    }
    Ok(VolumeFile {
        path: path.to_owned(),
        info: VolumeInfo {
            format: VolumeFormat::Tiff,
            shape: [depth, height, width],
            element_type: first.element,
            voxel_size,
            origin_angstrom: [0.0; 3],
            warnings,
        },
        voxels: Box::new(Tiff { page: first }),
    })
}

struct Tiff {
    page: Page,
}

impl Source for Tiff {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>> {
        let mut window = Array3::default(region.shape);
        if region.voxels() == 0 {
            return Ok(window);
        }
        let damaged = IoError::format(path, FORMAT);
        let [height, width] = self.page.size;
        // The crate's own limits hold for tags too, so they are only ever raised.
        let mut limits = Limits::default();
        let page_bytes = height * width * self.page.element.bytes();
        limits.decoding_buffer_size = limits.decoding_buffer_size.max(page_bytes);
        limits.intermediate_buffer_size = limits.intermediate_buffer_size.max(page_bytes);
        let mut pages = decoder(path)?.with_limits(limits);
        for z in region.start[0]..region.end()[0] {
            pages.seek_to_image(z).map_err(&damaged)?;
            // The file may have been replaced since it was opened.
            if page(path, &mut pages, z)?.size != self.page.size {
                let what = "its size is not what it was when the file was opened";
                return Err(IoError::malformed(path, format!("page {}", z + 1), what));
            }
            let pixels = values(pages.read_image().map_err(&damaged)?);
            let plane =
                Array3::from_shape_vec((1, height, width), pixels).map_err(&IoError::format(path, FORMAT))?;
            crop_planes(path, &plane, z, region, &mut window)?;
        }
        Ok(window)
    }
}

fn decoder(path: &Path) -> Result<Pages> {
    super::tiff_tags::check(path)?;
    let file = File::open(path).map_err(IoError::file("read", path))?;
    Decoder::new(BufReader::new(file)).map_err(IoError::format(path, FORMAT))
}

fn page(path: &Path, pages: &mut Pages, index: usize) -> Result<Page> {
    let damaged = IoError::format(path, FORMAT);
    let (width, height) = pages.dimensions().map_err(&damaged)?;
    let place = format!("page {}", index + 1);
    if width == 0 || height == 0 {
        return Err(IoError::malformed(path, place, "it has no pixels"));
    }
    let color = pages.colortype().map_err(&damaged)?;
    let format = pages.find_tag(Tag::SampleFormat).map_err(&damaged)?;
    let format = format
        .and_then(|value| value.into_u16().ok())
        .map_or(SampleFormat::Uint, SampleFormat::from_u16_exhaustive);
    let element = match (color, format) {
        (ColorType::Gray(8), SampleFormat::Uint) => ElementType::U8,
        (ColorType::Gray(16), SampleFormat::Uint) => ElementType::U16,
        (ColorType::Gray(32), SampleFormat::Uint) => ElementType::U32,
        (ColorType::Gray(64), SampleFormat::Uint) => ElementType::U64,
        (ColorType::Gray(8), SampleFormat::Int) => ElementType::I8,
        (ColorType::Gray(16), SampleFormat::Int) => ElementType::I16,
        (ColorType::Gray(32), SampleFormat::Int) => ElementType::I32,
        (ColorType::Gray(64), SampleFormat::Int) => ElementType::I64,
        (ColorType::Gray(16), SampleFormat::IEEEFP) => ElementType::F16,
        (ColorType::Gray(32), SampleFormat::IEEEFP) => ElementType::F32,
        (ColorType::Gray(64), SampleFormat::IEEEFP) => ElementType::F64,
        _ => {
            let what = format!(
                "{place}: pixels of {color:?}, {format:?} are not read: save the stack as grey values of 8, 16 or 32 bits"
            );
            return Err(IoError::unsupported(path, what));
        }
    };
    let compression = pages
        .find_tag_unsigned::<u16>(Tag::Compression)
        .map_err(&damaged)?;
    Ok(Page {
        size: [height as usize, width as usize],
        element,
        is_packed: compression.is_some_and(|method| method != 1),
    })
}

fn values(pixels: DecodingResult) -> Vec<f32> {
    match pixels {
        DecodingResult::U8(pixels) => pixels.into_iter().map(f32::from).collect(),
        DecodingResult::I8(pixels) => pixels.into_iter().map(f32::from).collect(),
        DecodingResult::U16(pixels) => pixels.into_iter().map(f32::from).collect(),
        DecodingResult::I16(pixels) => pixels.into_iter().map(f32::from).collect(),
        DecodingResult::F16(pixels) => pixels.into_iter().map(f32::from).collect(),
        DecodingResult::U32(pixels) => pixels.into_iter().map(|v| v as f32).collect(),
        DecodingResult::I32(pixels) => pixels.into_iter().map(|v| v as f32).collect(),
        DecodingResult::U64(pixels) => pixels.into_iter().map(|v| v as f32).collect(),
        DecodingResult::I64(pixels) => pixels.into_iter().map(|v| v as f32).collect(),
        DecodingResult::F32(pixels) => pixels,
        DecodingResult::F64(pixels) => pixels.into_iter().map(|v| v as f32).collect(),
    }
}

/// The voxel size that `ImageJ` and tifffile write: a unit in the description, pixels per unit as the resolution.
fn voxel_size(pages: &mut Pages, description: &str, warnings: &mut Vec<String>) -> Option<VoxelSize> {
    let unit = field(description, "unit").and_then(angstrom_per_unit);
    let resolution = match pages.find_tag(Tag::XResolution) {
        Ok(Some(Value::Rational(pixels, units))) => Some(f64::from(units) / f64::from(pixels)),
        _ => None,
    };
    let size = unit.zip(resolution).map(|(unit, edge)| (unit * edge) as f32);
    let Some(size) = size.and_then(|size| VoxelSize::new(size).ok()) else {
        warnings.push("no voxel size in the file. Give it by hand where it matters".to_owned());
        return None;
    };
    let spacing = field(description, "spacing").and_then(|text| text.parse::<f64>().ok());
    if let Some((spacing, unit)) = spacing.zip(unit) {
        let along_z = VoxelSize::new((spacing * unit) as f32);
        if !along_z.is_ok_and(|z| z.agrees_with(size, 0.01)) {
            warnings.push(format!(
                "voxels are not cubes: {size} along x, {} Å along z. {size} is used for all three",
                spacing * unit
            ));
        }
    }
    Some(size)
}

fn field<'a>(description: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = description.lines().filter_map(|line| line.split_once('='));
    fields
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
}

fn angstrom_per_unit(unit: &str) -> Option<f64> {
    match unit {
        "A" | "Å" | "\\u00C5" | "angstrom" | "Angstrom" => Some(1.0),
        "nm" | "nanometer" => Some(10.0),
        "um" | "µm" | "micron" | "\\u00B5m" => Some(1e4),
        "pm" => Some(0.01),
        _ => None,
    }
}
