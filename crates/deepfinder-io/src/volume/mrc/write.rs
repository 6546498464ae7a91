use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use ::mrc::Header;
use deepfinder_core::{Moments, Volume, VolumeWriter, VoxelSize};
use ndarray::ArrayView3;

use super::header::HEADER_BYTES;
use crate::atomic::PartialFile;
use crate::volume::{ElementType, Voxel};
use crate::{IoError, Result, write_file_atomically};

/// Writes an MRC file plane by plane, in little-endian MRC2014.
///
/// `f32` becomes mode 2, `i16` 1, `u16` 6, `i8` 0. Labels (`u8`) become mode 0 as long as none is above 127, which
/// its signed bytes cannot hold; the first that is turns the file into mode 6. The header's statistics are those
/// of the finite voxels.
///
/// The planes go to a temporary file beside the target. [`MrcWriter::finish`] gives it the target's name; a writer
/// that is dropped before leaves nothing behind, and an existing target as it was.
#[derive(Debug)]
pub struct MrcWriter<T> {
    path: PathBuf,
    shape: [usize; 3],
    header: Header,
    /// `None` once a write has failed: what stands in the file then is not known.
    partial: Option<PartialFile>,
    written: usize,
    moments: Moments,
    voxels: PhantomData<fn(T)>,
}

impl<T: Voxel> MrcWriter<T> {
    /// Begins a file for a volume of `shape` `(z, y, x)`; the origin is `(x, y, z)` in Å.
    ///
    /// # Errors
    /// [`IoError::Unwritable`] where nothing can be written there, or where the format cannot hold such a shape.
    pub fn create(
        path: &Path,
        shape: [usize; 3],
        voxel_size: Option<VoxelSize>,
        origin_angstrom: [f32; 3],
    ) -> Result<Self> {
        let header = header(shape, mode_of(T::ELEMENT), voxel_size, origin_angstrom).ok_or_else(|| {
            IoError::Unwritable {
                path: path.to_owned(),
                what: format!("an MRC file cannot hold a volume of {shape:?} voxels (z, y, x)"),
            }
        })?;
        let mut partial = PartialFile::create(path)?;
        partial.append(&encode(&header))?;
        Ok(Self {
            path: path.to_owned(),
            shape,
            header,
            partial: Some(partial),
            written: 0,
            moments: Moments::default(),
            voxels: PhantomData,
        })
    }

    /// Completes the header and gives the file its name.
    ///
    /// # Errors
    /// [`IoError::Unfinished`] where planes are missing, [`IoError::File`] where writing fails. Nothing is left
    /// behind then.
    pub fn finish(mut self) -> Result<()> {
        let (Some(mut partial), true) = (self.partial.take(), self.written == self.shape[0]) else {
            return Err(IoError::Unfinished {
                path: self.path,
                written: self.written,
                depth: self.shape[0],
            });
        };
        if self.moments.count > 0 {
            self.header.dmin = self.moments.min;
            self.header.dmax = self.moments.max;
            self.header.dmean = self.moments.mean as f32;
            self.header.rms = self.moments.standard_deviation() as f32;
        }
        let rewound = partial.file().seek(SeekFrom::Start(0));
        rewound.map_err(IoError::file("write", &self.path))?;
        partial.append(&encode(&self.header))?;
        partial.persist()
    }

    fn append(&mut self, mut partial: PartialFile, planes: &ArrayView3<'_, T>) -> Result<PartialFile> {
        let mut bytes = Vec::new();
        let mut values = Vec::new();
        for plane in planes.outer_iter() {
            if self.header.mode == 0 && plane.iter().any(|voxel| voxel.is_wide()) {
                self.header.mode = mode_of(ElementType::U16);
                partial = widened(partial, &self.header)?;
            }
            let is_widened = T::ELEMENT == ElementType::U8 && self.header.mode != 0;
            bytes.clear();
            for &voxel in plane {
                voxel.put_little_endian(&mut bytes);
                if is_widened {
                    bytes.push(0);
                }
            }
            partial.append(&bytes)?;
            values.clear();
            values.extend(plane.iter().map(|voxel| voxel.to_f32()));
            self.moments = self.moments.merge(Moments::of(&values));
        }
        Ok(partial)
    }
}

impl<T: Voxel> VolumeWriter<T> for MrcWriter<T> {
    fn write_slab(&mut self, planes: ArrayView3<'_, T>) -> deepfinder_core::Result<()> {
        let got: [usize; 3] = planes.dim().into();
        let fits = got[1..] == self.shape[1..] && got[0] <= self.shape[0] - self.written;
        let Some(partial) = self.partial.take_if(|_| fits) else {
            return Err(IoError::Planes {
                path: self.path.clone(),
                got,
                written: self.written,
                shape: self.shape,
            }
            .into());
        };
        self.partial = Some(self.append(partial, &planes)?);
        self.written += got[0];
        Ok(())
    }
}

/// Writes a whole volume as [`MrcWriter`] does.
///
/// # Errors
/// As [`MrcWriter::create`] and [`MrcWriter::finish`].
pub fn write_mrc<T: Voxel>(path: &Path, volume: &Volume<T>) -> Result<()> {
    let mut writer = MrcWriter::create(path, volume.shape(), volume.voxel_size, volume.origin_angstrom)?;
    writer.write_slab(volume.voxels.view())?;
    writer.finish()
}

/// How a whole file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::volume) enum Packing {
    Gzip,
    Bzip2,
}

/// Writes a whole volume as MRC under gzip or bzip2.
pub(in crate::volume) fn write_packed<T: Voxel>(
    path: &Path,
    volume: &Volume<T>,
    packing: Packing,
) -> Result<()> {
    let plain = PartialFile::create(path)?.into_path();
    write_mrc(&plain, volume)?;
    let bytes = std::fs::read(&plain).map_err(IoError::file("read", &plain))?;
    let packed = match packing {
        Packing::Gzip => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(&bytes).and_then(|()| packer.finish())
        }
        Packing::Bzip2 => {
            let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            packer.write_all(&bytes).and_then(|()| packer.finish())
        }
    };
    write_file_atomically(path, &packed.map_err(IoError::file("write", path))?)
}

fn mode_of(element: ElementType) -> i32 {
    match element {
        ElementType::F32 => 2,
        ElementType::I16 => 1,
        ElementType::U16 => 6,
        _ => 0,
    }
}

fn header(shape: [usize; 3], mode: i32, voxel_size: Option<VoxelSize>, origin: [f32; 3]) -> Option<Header> {
    let [nz, ny, nx] = shape.map(|n| i32::try_from(n).ok().filter(|&n| n > 0));
    let (nz, ny, nx) = (nz?, ny?, nx?);
    // A cell of 0 is how an MRC file says that it does not know.
    let edge = voxel_size.map_or(0.0, |size| f64::from(size.angstrom()));
    let cell = |n: i32| (edge * f64::from(n)) as f32;
    let mut header = Header {
        nx,
        ny,
        nz,
        mode,
        mx: nx,
        my: ny,
        mz: nz,
        xlen: cell(nx),
        ylen: cell(ny),
        zlen: cell(nz),
        origin,
        ..Header::new()
    };
    header.add_label("Written by DeepFinder");
    Some(header)
}

fn encode(header: &Header) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    header.encode_to_bytes(&mut bytes);
    bytes
}

/// The same file with two bytes a label.
fn widened(mut narrow: PartialFile, header: &Header) -> Result<PartialFile> {
    const CHUNK: u64 = 1 << 20;
    let mut wide = PartialFile::create(narrow.target())?;
    wide.append(&encode(header))?;
    let target = narrow.target().to_owned();
    let rewound = narrow.file().seek(SeekFrom::Start(HEADER_BYTES as u64));
    rewound.map_err(IoError::file("read", &target))?;
    let mut labels = Vec::new();
    loop {
        labels.clear();
        let read = narrow.file().take(CHUNK).read_to_end(&mut labels);
        if read.map_err(IoError::file("read", &target))? == 0 {
            break;
        }
        let words: Vec<u8> = labels.iter().flat_map(|&label| [label, 0]).collect();
        wide.append(&words)?;
    }
    Ok(wide)
}
