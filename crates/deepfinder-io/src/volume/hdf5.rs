//! HDF5: the reference implementation keeps a volume as `/dataset`, and score maps as `/class0`, `/class1`, …

use std::path::Path;

use deepfinder_core::{Region, Volume, VoxelSize};
use hdf5_pure::{AttrValue, DType, Dataset, File, FileBuilder, Layout};
use ndarray::Array3;

use super::element::Decoded;
use super::{ElementType, SLAB_VOXELS, Source, VolumeFile, VolumeFormat, VolumeInfo, Voxel, crop_planes};
use crate::{IoError, Result, write_file_atomically};

const FORMAT: &str = "HDF5";

/// The data set that holds a volume when nobody says otherwise.
pub(super) const DEFAULT_DATASET: &str = "dataset";

/// Attributes of a data set in which this program keeps what HDF5 has no place for.
const VOXEL_SIZE: &str = "voxel_size_angstrom";
const ORIGIN: &str = "origin_angstrom";

/// Data sets beyond this many times their file's size are a damaged header: deflate packs no more than 1032 to 1.
const MAX_PACKING: u128 = 1100;

pub(super) fn open(path: &Path) -> Result<VolumeFile> {
    let file = open_file(path)?;
    let names = file.root().datasets().map_err(IoError::format(path, FORMAT))?;
    let rank = |name: &str| {
        file.dataset(name)
            .and_then(|set| set.shape())
            .map_or(0, |shape| shape.len())
    };
    let mut volumes = names.iter().filter(|name| rank(name) == 3);
    let name = if names.iter().any(|name| name == DEFAULT_DATASET) {
        DEFAULT_DATASET
    } else {
        match (volumes.next(), volumes.next()) {
            (Some(only), None) => only,
            (None, _) => {
                let what = "no data set with three axes at its top level: this HDF5 file holds no volume. Network \
                            weights are given with --weights";
                return Err(IoError::unsupported(path, what));
            }
            (Some(_), Some(_)) => {
                let what = format!(
                    "several volumes ({}) and none called `{DEFAULT_DATASET}`: copy the one that is meant into a file of its own",
                    names.join(", ")
                );
                return Err(IoError::unsupported(path, what));
            }
        }
    };
    open_dataset(path, &file, name)
}

/// Opens one of several volumes in an HDF5 file, such as `class3` of a file of score maps.
///
/// # Errors
/// [`IoError`] where the file has no such volume, or is damaged.
pub fn open_hdf5_dataset(path: &Path, dataset: &str) -> Result<VolumeFile> {
    open_dataset(path, &open_file(path)?, dataset)
}

/// Writes a volume as a data set at the top level of a new HDF5 file; voxel size and origin become its attributes.
///
/// The file is made in memory, so this is for volumes that fit there twice.
///
/// # Errors
/// [`IoError`] where writing fails; an existing file is then as it was.
pub fn write_hdf5<T: Voxel>(path: &Path, volume: &Volume<T>, dataset: &str) -> Result<()> {
    write_hdf5_datasets(path, &[(dataset, volume)])
}

/// As [`write_hdf5`], for several volumes in one file: score maps as `class0`, `class1`, ….
///
/// # Errors
/// As [`write_hdf5`].
pub fn write_hdf5_datasets<T: Voxel>(path: &Path, datasets: &[(&str, &Volume<T>)]) -> Result<()> {
    let mut builder = FileBuilder::new();
    for (name, volume) in datasets {
        let voxels = volume.voxels.as_standard_layout();
        let voxels = voxels.as_slice().unwrap_or_default();
        let set = builder.create_dataset(name);
        set.with_data(voxels)
            .with_shape(&volume.shape().map(|n| n as u64));
        set.set_attr(ORIGIN, AttrValue::F32Array(volume.origin_angstrom.to_vec()));
        if let Some(size) = volume.voxel_size {
            set.set_attr(VOXEL_SIZE, AttrValue::F32(size.angstrom()));
        }
    }
    let bytes = builder.finish().map_err(IoError::format(path, FORMAT))?;
    write_file_atomically(path, &bytes)
}

fn open_file(path: &Path) -> Result<File> {
    // Opened by us first for an error that names the file and why.
    std::fs::File::open(path).map_err(IoError::file("read", path))?;
    File::open_streaming(path).map_err(IoError::format(path, FORMAT))
}

fn open_dataset(path: &Path, file: &File, name: &str) -> Result<VolumeFile> {
    let damaged = IoError::format(path, FORMAT);
    let place = || format!("data set `{name}`");
    let set = file.dataset(name).map_err(|error| {
        let names = file.root().datasets().unwrap_or_default().join(", ");
        IoError::malformed(path, place(), format!("{error}; the file has: {names}"))
    })?;
    let sizes = set.shape().map_err(&damaged)?;
    let &[depth, height, width] = sizes.as_slice() else {
        let what = format!("a volume has three axes, this has {} ({sizes:?})", sizes.len());
        return Err(IoError::malformed(path, place(), what));
    };
    let element_type = element_type(path, name, &set)?;
    let [Ok(depth), Ok(height), Ok(width)] = [depth, height, width].map(usize::try_from) else {
        return Err(IoError::malformed(
            path,
            place(),
            format!("{sizes:?} voxels cannot be"),
        ));
    };
    let shape = [depth, height, width];
    if shape.contains(&0) {
        return Err(IoError::malformed(
            path,
            place(),
            format!("{sizes:?} voxels are none"),
        ));
    }
    check_size(path, name, file, &set, element_type)?;

    let mut info = VolumeInfo {
        format: VolumeFormat::Hdf5,
        shape,
        element_type,
        voxel_size: None,
        origin_angstrom: [0.0; 3],
        warnings: Vec::new(),
    };
    // Attributes of other programs that cannot be read are none of ours.
    let attributes = set.attrs().unwrap_or_default();
    let size = attributes.get(VOXEL_SIZE).and_then(AttrValue::as_f64);
    info.voxel_size = size.and_then(|size| VoxelSize::new(size as f32).ok());
    if let Some([x, y, z]) = attributes.get(ORIGIN).and_then(AttrValue::to_f64s).as_deref() {
        info.origin_angstrom = [x, y, z].map(|&value| value as f32);
    }
    if info.voxel_size.is_none() {
        info.warnings
            .push("no voxel size in the file. Give it by hand where it matters".to_owned());
    }
    let chunk_depth = set
        .chunk_shape()
        .map_err(&damaged)?
        .and_then(|chunk| chunk.first().copied());
    Ok(VolumeFile {
        path: path.to_owned(),
        info,
        voxels: Box::new(Hdf5 {
            planes_at_once: planes_at_once(shape, chunk_depth),
            set,
        }),
    })
}

fn element_type(path: &Path, name: &str, set: &Dataset) -> Result<ElementType> {
    Ok(match set.dtype().map_err(IoError::format(path, FORMAT))? {
        DType::U8 => ElementType::U8,
        DType::I8 => ElementType::I8,
        DType::U16 => ElementType::U16,
        DType::I16 => ElementType::I16,
        DType::U32 => ElementType::U32,
        DType::I32 => ElementType::I32,
        DType::U64 => ElementType::U64,
        DType::I64 => ElementType::I64,
        DType::F32 => ElementType::F32,
        DType::F64 => ElementType::F64,
        other => {
            let what = format!("data set `{name}` holds {other}, and voxels are integers or f32 or f64");
            return Err(IoError::unsupported(path, what));
        }
    })
}

/// Refuses data sets that their file cannot hold, before anything of their size is allocated.
fn check_size(path: &Path, name: &str, file: &File, set: &Dataset, element: ElementType) -> Result<()> {
    let damaged = IoError::format(path, FORMAT);
    let sizes = set.shape().map_err(&damaged)?;
    let voxels = sizes
        .iter()
        .try_fold(1_u128, |product, &n| product.checked_mul(n.into()));
    let needed = voxels.and_then(|voxels| voxels.checked_mul(element.bytes() as u128));
    let needed = needed.unwrap_or(u128::MAX);
    let length = std::fs::metadata(path)
        .map_err(IoError::file("read", path))?
        .len()
        .max(file.file_size());
    let (fits, end) = match set.layout().map_err(&damaged)? {
        Layout::Contiguous {
            address: Some(address),
            size,
        } => {
            let end = u128::from(address) + needed;
            (end <= length.into() && u128::from(size) >= needed, end)
        }
        _ => (needed <= u128::from(length) * MAX_PACKING, needed),
    };
    if fits {
        return Ok(());
    }
    Err(IoError::Truncated {
        path: path.to_owned(),
        promised: format!("data set `{name}` promises {sizes:?} voxels of {element}"),
        needed: end,
        found: length,
    })
}

/// Planes that are read at a time: whole chunks, so that none is unpacked twice, unless those are huge.
fn planes_at_once([depth, height, width]: [usize; 3], chunk_depth: Option<u64>) -> usize {
    const LARGEST_CHUNKS: usize = 16 * SLAB_VOXELS;
    let plane = height.saturating_mul(width).max(1);
    let planes = (SLAB_VOXELS / plane).max(1);
    let chunk = chunk_depth
        .map_or(1, |n| usize::try_from(n).unwrap_or(depth))
        .clamp(1, depth);
    if chunk.saturating_mul(plane) <= LARGEST_CHUNKS {
        planes.next_multiple_of(chunk)
    } else {
        planes
    }
}

struct Hdf5 {
    set: Dataset,
    planes_at_once: usize,
}

impl Source for Hdf5 {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>> {
        let mut window = Array3::default(region.shape);
        let (start, end) = (region.start[0], region.end()[0]);
        let [_, height, width] = self.shape(path)?;
        if region.voxels() == 0 {
            return Ok(window);
        }
        let mut z = start;
        while z < end {
            let stop = (z / self.planes_at_once + 1) * self.planes_at_once;
            let planes = stop.min(end) - z;
            let rows = self.set.read_f32_rows(z as u64, planes as u64);
            let rows = rows.map_err(IoError::format(path, FORMAT))?;
            let rows = Array3::from_shape_vec((planes, height, width), rows)
                .map_err(IoError::format(path, FORMAT))?;
            crop_planes(path, &rows, z, region, &mut window)?;
            z += planes;
        }
        Ok(window)
    }
}

impl Hdf5 {
    fn shape(&self, path: &Path) -> Result<[usize; 3]> {
        let sizes = self.set.shape().map_err(IoError::format(path, FORMAT))?;
        let sizes: Vec<usize> = sizes.iter().map(|&n| n as usize).collect();
        sizes
            .try_into()
            .map_err(|_| IoError::malformed(path, "data set", "its shape has changed since it was opened"))
    }
}
