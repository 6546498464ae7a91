use std::path::Path;

use ::mrc::{FileEndian, Header};
use deepfinder_core::VoxelSize;

use crate::volume::ElementType;
use crate::{IoError, Result};

/// Bytes of the fixed header.
pub(super) const HEADER_BYTES: usize = 1024;

/// The mode of numbers of four bits.
const PACKED: i32 = 101;

/// What the header says about where a voxel is and what it means.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// Columns, rows, sections: fastest first.
    pub(super) extent: [usize; 3],
    /// Which of x (0), y (1), z (2) the columns, rows and sections run along.
    pub(super) axes: [usize; 3],
    pub(super) element: ElementType,
    /// Two voxels share a byte, the first its lower half; a row begins with a byte of its own.
    pub(super) is_packed: bool,
    pub(super) is_big_endian: bool,
    pub(super) voxel_size: Option<VoxelSize>,
    /// Place of voxel 0, `(x, y, z)` in Å.
    pub(super) origin_angstrom: [f32; 3],
    pub(super) warnings: Vec<String>,
}

impl Layout {
    pub(super) fn new(path: &Path, header: &Header) -> Result<Self> {
        let mut warnings = Vec::new();
        let extent = extent(path, header)?;
        let axes = axes(header, &mut warnings);
        let element = element(path, header, &mut warnings)?;
        if (401..=630).contains(&header.ispg) {
            warnings.push(format!(
                "the header says a stack of several volumes (space group {}): read as one volume of {} planes",
                header.ispg, extent[2]
            ));
        }
        Ok(Self {
            extent,
            axes,
            element,
            is_packed: header.mode == PACKED,
            is_big_endian: header.detect_endian() == FileEndian::BigEndian,
            voxel_size: voxel_size(header, extent, axes, &mut warnings),
            origin_angstrom: origin(header, &mut warnings),
            warnings,
        })
    }

    /// Size, `(z, y, x)`.
    pub(super) fn shape(&self) -> [usize; 3] {
        let mut shape = [0; 3];
        for (&axis, &extent) in self.axes.iter().zip(&self.extent) {
            shape[2 - axis] = extent;
        }
        shape
    }
}

/// Bytes that the file needs for what its header promises.
pub(super) fn bytes_needed(path: &Path, header: &Header) -> Result<u128> {
    let element = element(path, header, &mut Vec::new())?;
    let [columns, rows, sections] = extent(path, header)?;
    let row = if header.mode == PACKED {
        columns.div_ceil(2)
    } else {
        columns * element.bytes()
    };
    Ok(header.data_offset() as u128 + row as u128 * rows as u128 * sections as u128)
}

/// The promise of a header in words, for when its file does not keep it.
pub(super) fn promise(header: &Header) -> String {
    format!(
        "its MRC header (words 1 to 4) promises {} × {} × {} voxels (columns, rows, sections) of mode {}",
        header.nx, header.ny, header.nz, header.mode
    )
}

fn extent(path: &Path, header: &Header) -> Result<[usize; 3]> {
    let sizes = [header.nx, header.ny, header.nz];
    let extent = sizes.map(|n| usize::try_from(n).unwrap_or(0));
    if extent.contains(&0) {
        let what = format!(
            "a volume of {sizes:?} voxels (columns, rows, sections) cannot be. This is no MRC file, or a damaged one"
        );
        return Err(IoError::malformed(path, "MRC header, words 1 to 3", what));
    }
    Ok(extent)
}

fn element(path: &Path, header: &Header, warnings: &mut Vec<String>) -> Result<ElementType> {
    Ok(match header.mode {
        0 if is_unsigned(header, warnings) => ElementType::U8,
        0 => ElementType::I8,
        1 => ElementType::I16,
        2 => ElementType::F32,
        6 => ElementType::U16,
        12 => ElementType::F16,
        PACKED => ElementType::U8,
        3 | 4 => {
            let what = format!(
                "MRC mode {} holds complex numbers, a Fourier transform: give the real-space volume",
                header.mode
            );
            return Err(IoError::unsupported(path, what));
        }
        mode => {
            let what = format!("there is no mode {mode}. This is no MRC file, or a damaged one");
            return Err(IoError::malformed(path, "MRC header, word 4", what));
        }
    })
}

/// Whether bytes of mode 0 run from 0 to 255: as old IMOD's flag says, or the header's own range of densities.
fn is_unsigned(header: &Header, warnings: &mut Vec<String>) -> bool {
    const IMOD_STAMP: i32 = 1_146_047_817;
    const BYTES_ARE_SIGNED: i32 = 1;
    let word = |place: usize| {
        let bytes = std::array::from_fn(|i| header.extra[place + i]);
        match header.detect_endian() {
            FileEndian::LittleEndian => i32::from_le_bytes(bytes),
            FileEndian::BigEndian => i32::from_be_bytes(bytes),
        }
    };
    // `extra` begins at byte 96; IMOD's stamp is at byte 152 and its flags at 156.
    if word(56) == IMOD_STAMP {
        let unsigned = word(60) & BYTES_ARE_SIGNED == 0;
        if unsigned {
            warnings.push("mode 0 with IMOD's flag for unsigned bytes: read as 0 to 255".to_owned());
        }
        return unsigned;
    }
    let unsigned = header.dmin >= 0.0 && header.dmax > 127.0 && header.dmax <= 255.0;
    if unsigned {
        warnings.push(format!(
            "mode 0 should be signed bytes, but the header's densities run from {} to {}: read as 0 to 255",
            header.dmin, header.dmax
        ));
    }
    unsigned
}

fn axes(header: &Header, warnings: &mut Vec<String>) -> [usize; 3] {
    let found = [header.mapc, header.mapr, header.maps];
    let mut sorted = found;
    sorted.sort_unstable();
    if sorted != [1, 2, 3] {
        warnings.push(format!(
            "MAPC, MAPR, MAPS (words 17 to 19) are {found:?}, no order of 1, 2, 3: columns taken as x, rows as y, sections as z"
        ));
        return [0, 1, 2];
    }
    if found != [1, 2, 3] {
        warnings.push(format!(
            "columns, rows and sections run along axes {found:?} (MAPC, MAPR, MAPS): put into z, y, x order"
        ));
    }
    found.map(|axis| axis as usize - 1)
}

fn voxel_size(
    header: &Header,
    extent: [usize; 3],
    axes: [usize; 3],
    warnings: &mut Vec<String>,
) -> Option<VoxelSize> {
    let cell = [header.xlen, header.ylen, header.zlen];
    let mut intervals = [header.mx, header.my, header.mz];
    if intervals.iter().any(|&m| m <= 0) {
        warnings.push(format!(
            "MX, MY, MZ (words 8 to 10) are {intervals:?}: the number of voxels taken instead"
        ));
        for (&axis, &n) in axes.iter().zip(&extent) {
            intervals[axis] = n as i32;
        }
    }
    let sizes: [f32; 3] =
        std::array::from_fn(|axis| (f64::from(cell[axis]) / f64::from(intervals[axis])) as f32);
    let Ok(size) = VoxelSize::new(sizes[0]) else {
        warnings.push(format!(
            "no voxel size: the cell (words 11 to 13) is {cell:?} Å. Give the voxel size by hand where it matters"
        ));
        return None;
    };
    let agrees = |&other: &f32| VoxelSize::new(other).is_ok_and(|other| other.agrees_with(size, 0.01));
    if !sizes.iter().all(agrees) {
        warnings.push(format!(
            "voxels are not cubes, or the cell is wrong: {sizes:?} Å along x, y, z. {size} is used for all three"
        ));
    }
    if size.angstrom() == 1.0 {
        warnings.push(
            "the header says 1 Å a voxel, as many programs do when they do not know: check the voxel size"
                .to_owned(),
        );
    } else if !(0.1..=1000.0).contains(&size.angstrom()) {
        warnings.push(format!("a voxel size of {size} is hard to believe: check it"));
    }
    Some(size)
}

fn origin(header: &Header, warnings: &mut Vec<String>) -> [f32; 3] {
    if header.origin.iter().all(|place| place.is_finite()) {
        return header.origin;
    }
    warnings.push(format!(
        "the origin (words 50 to 52) is {:?}: 0 taken instead",
        header.origin
    ));
    [0.0; 3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let mut header = Header::new();
        (header.nx, header.ny, header.nz) = (4, 5, 6);
        (header.mx, header.my, header.mz) = (4, 5, 6);
        (header.xlen, header.ylen, header.zlen) = (40.0, 50.0, 60.0);
        header
    }

    fn layout(change: impl Fn(&mut Header)) -> Layout {
        let mut header = header();
        change(&mut header);
        Layout::new(Path::new("a.mrc"), &header).unwrap()
    }

    #[test]
    fn a_plain_header_needs_no_warning() {
        let layout = layout(|_| {});
        assert_eq!(layout.shape(), [6, 5, 4]);
        assert_eq!(layout.voxel_size, VoxelSize::new(10.0).ok());
        assert_eq!(layout.warnings, Vec::<String>::new());
    }

    #[test]
    fn voxel_sizes_are_cell_by_intervals_and_doubted() {
        // A sub-volume of a larger cell.
        assert_eq!(layout(|h| h.mx = 8).voxel_size, VoxelSize::new(5.0).ok());
        let unknown = layout(|h| h.xlen = 0.0);
        assert_eq!((unknown.voxel_size, unknown.warnings.len()), (None, 1));
        let doubtful = layout(|h| (h.xlen, h.ylen, h.zlen) = (4.0, 5.0, 6.0));
        assert_eq!(doubtful.voxel_size, VoxelSize::new(1.0).ok());
        assert!(doubtful.warnings[0].contains("1 Å"), "{:?}", doubtful.warnings);
        let flat = layout(|h| h.zlen = 0.0);
        assert!(flat.voxel_size.is_some() && flat.warnings[0].contains("not cubes"));
        let unsampled = layout(|h| h.mx = 0);
        assert_eq!(unsampled.voxel_size, VoxelSize::new(10.0).ok());
    }

    #[test]
    fn origins_are_kept_unless_they_are_no_place() {
        assert_eq!(
            layout(|h| h.origin = [1.0, -2.0, 3.5]).origin_angstrom,
            [1.0, -2.0, 3.5]
        );
        let lost = layout(|h| h.origin = [f32::NAN, 0.0, 5.0]);
        assert_eq!((lost.origin_angstrom, lost.warnings.len()), ([0.0; 3], 1));
    }

    #[test]
    fn axes_are_honoured_or_doubted() {
        let swapped = layout(|h| (h.mapc, h.mapr, h.maps) = (3, 2, 1));
        assert_eq!(swapped.shape(), [4, 5, 6]);
        let nonsense = layout(|h| (h.mapc, h.mapr, h.maps) = (0, 0, 0));
        assert_eq!((nonsense.shape(), nonsense.warnings.len()), ([6, 5, 4], 1));
    }

    #[test]
    fn bytes_are_signed_unless_something_says_otherwise() {
        assert_eq!(layout(|h| h.mode = 0).element, ElementType::I8);
        let by_range = layout(|h| (h.mode, h.dmin, h.dmax) = (0, 3.0, 200.0));
        assert_eq!(by_range.element, ElementType::U8);
        let imod = |flags: u8| {
            layout(move |h| {
                h.mode = 0;
                h.extra[56..60].copy_from_slice(b"IMOD");
                h.extra[60] = flags;
            })
        };
        assert_eq!(
            (imod(0).element, imod(1).element),
            (ElementType::U8, ElementType::I8)
        );
    }

    #[test]
    fn complex_and_unknown_modes_are_refused() {
        for (mode, word) in [(3, "complex"), (4, "complex"), (7, "no mode 7")] {
            let header = Header { mode, ..header() };
            let message = Layout::new(Path::new("a.mrc"), &header).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("a.mrc"), "{message}");
        }
        let header = Header { ny: -5, ..header() };
        assert!(Layout::new(Path::new("a.mrc"), &header).is_err());
    }
}
