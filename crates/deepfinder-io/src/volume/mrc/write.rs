use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use ::mrc::Header;
use deepfinder_core::{Moments, Volume, VolumeWriter, VoxelSize, WindowWriter};
use ndarray::{ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

use super::header::HEADER_BYTES;
use crate::atomic::PartialFile;
use crate::volume::{ElementType, Voxel};
use crate::{IoError, Result, write_file_atomically};

/// Writes an MRC file plane by plane or window by window, in little-endian MRC2014.
///
/// `f32` becomes mode 2, `i16` 1, `u16` 6, `i8` 0. Labels (`u8`) become mode 0 as long as none is above 127, which
/// its signed bytes cannot hold; the first that is turns the file into mode 6. The header's statistics are those
/// of the finite voxels.
///
/// The voxels go to a temporary file beside the target. [`MrcWriter::finish`] gives it the target's name; a writer
/// that is dropped before leaves nothing behind, and an existing target as it was.
#[derive(Debug)]
pub struct MrcWriter<T> {
    path: PathBuf,
    shape: [usize; 3],
    header: Header,
    /// `None` once a write has failed: what stands in the file then is not known.
    partial: Option<PartialFile>,
    /// Planes that came as slabs.
    written: usize,
    /// Voxels that came in windows.
    in_windows: usize,
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
            in_windows: 0,
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
        let plane = self.shape[1] * self.shape[2];
        let written = self.written + self.in_windows / plane;
        let (Some(mut partial), true) = (self.partial.take(), written == self.shape[0]) else {
            return Err(IoError::Unfinished {
                path: self.path,
                written,
                depth: self.shape[0],
            });
        };
        if self.in_windows > 0 {
            self.read_moments(&mut partial)?;
        }
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

    /// The statistics of windows, plane by plane: whatever the windows, they come out the same.
    fn read_moments(&mut self, partial: &mut PartialFile) -> Result<()> {
        let begin = partial.file().seek(SeekFrom::Start(HEADER_BYTES as u64));
        begin.map_err(IoError::file("read", &self.path))?;
        let width = self.voxel_bytes();
        let mut bytes = vec![0; self.shape[1] * self.shape[2] * width];
        for _ in 0..self.shape[0] {
            let read = partial.file().read_exact(&mut bytes);
            read.map_err(IoError::file("read", &self.path))?;
            let voxels: Vec<T> = bytes.chunks_exact(width).map(T::from_little_endian).collect();
            self.moments = self.moments.merge(T::moments(&voxels));
        }
        Ok(())
    }

    /// Whether labels take two bytes each, because one is above 127.
    fn is_widened(&self) -> bool {
        T::ELEMENT == ElementType::U8 && self.header.mode != 0
    }

    /// Bytes of a voxel in the file.
    fn voxel_bytes(&self) -> usize {
        if self.is_widened() { 2 } else { T::ELEMENT.bytes() }
    }

    /// Makes labels two bytes wide once one of these needs it.
    fn widen_for<'a>(
        &mut self,
        partial: PartialFile,
        mut voxels: impl Iterator<Item = &'a T>,
    ) -> Result<PartialFile> {
        if self.header.mode == 0 && voxels.any(|voxel| voxel.is_wide()) {
            self.header.mode = mode_of(ElementType::U16);
            return widened(partial, &self.header);
        }
        Ok(partial)
    }

    /// As they stand in the file.
    fn encode_voxels(&self, voxels: &ArrayView2<'_, T>, bytes: &mut Vec<u8>) {
        let voxels = voxels.as_standard_layout();
        let voxels = voxels.as_slice().unwrap_or_default();
        bytes.clear();
        if self.is_widened() {
            for voxel in voxels {
                voxel.put_little_endian(bytes);
                bytes.push(0);
            }
        } else {
            T::put_all_little_endian(voxels, bytes);
        }
    }

    fn put(
        &mut self,
        mut partial: PartialFile,
        start: [usize; 3],
        voxels: &ArrayView3<'_, T>,
    ) -> Result<PartialFile> {
        let [_, height, width] = self.shape;
        partial = self.widen_for(partial, voxels.iter())?;
        let mut bytes = Vec::new();
        for (z, plane) in voxels.outer_iter().enumerate() {
            // Rows that follow each other in the file are written at once.
            let rows = if plane.ncols() == width { plane.nrows() } else { 1 };
            for (index, rows) in plane.axis_chunks_iter(Axis(0), rows.max(1)).enumerate() {
                self.encode_voxels(&rows, &mut bytes);
                let row = (start[0] + z) * height + start[1] + index;
                let at = HEADER_BYTES + (row * width + start[2]) * self.voxel_bytes();
                let moved = partial.file().seek(SeekFrom::Start(at as u64));
                moved.map_err(IoError::file("write", &self.path))?;
                partial.append(&bytes)?;
            }
        }
        Ok(partial)
    }

    fn append(&mut self, mut partial: PartialFile, planes: &ArrayView3<'_, T>) -> Result<PartialFile> {
        /// Planes that are made ready at once, each on a core of its own.
        const AT_ONCE: usize = 16;

        for planes in planes.axis_chunks_iter(Axis(0), AT_ONCE) {
            partial = self.widen_for(partial, planes.iter())?;
            let ready: Vec<(Vec<u8>, Moments)> = planes
                .axis_iter(Axis(0))
                .into_par_iter()
                .map(|plane| {
                    let mut bytes = Vec::new();
                    self.encode_voxels(&plane, &mut bytes);
                    let plane = plane.as_standard_layout();
                    (bytes, T::moments(plane.as_slice().unwrap_or_default()))
                })
                .collect();
            for (bytes, moments) in ready {
                partial.append(&bytes)?;
                self.moments = self.moments.merge(moments);
            }
        }
        Ok(partial)
    }
}

impl<T: Voxel> VolumeWriter<T> for MrcWriter<T> {
    fn write_slab(&mut self, planes: ArrayView3<'_, T>) -> deepfinder_core::Result<()> {
        let got: [usize; 3] = planes.dim().into();
        let fits =
            got[1..] == self.shape[1..] && got[0] <= self.shape[0] - self.written && self.in_windows == 0;
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

    fn windows(&mut self) -> Option<&mut dyn WindowWriter<T>> {
        Some(self)
    }
}

impl<T: Voxel> WindowWriter<T> for MrcWriter<T> {
    fn write_window(&mut self, start: [usize; 3], voxels: ArrayView3<'_, T>) -> deepfinder_core::Result<()> {
        let got: [usize; 3] = voxels.dim().into();
        let fits = (0..3).all(|axis| start[axis] + got[axis] <= self.shape[axis]);
        let room = voxels.len() <= self.shape.iter().product::<usize>() - self.in_windows;
        let Some(partial) = self.partial.take_if(|_| fits && room && self.written == 0) else {
            return Err(IoError::Window {
                path: self.path.clone(),
                start,
                got,
                shape: self.shape,
            }
            .into());
        };
        self.partial = Some(self.put(partial, start, &voxels)?);
        self.in_windows += voxels.len();
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
