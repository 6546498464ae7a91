//! The header of EM files (TOM, AV3, PyTom): 512 bytes, of which byte 0 tells the machine, byte 3 the type of the
//! numbers, and three integers from byte 4 the sizes, x fastest. There is no voxel size.

use crate::ElementType;

/// Bytes before the numbers.
pub(crate) const HEADER_BYTES: usize = 512;

/// What an EM header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmHeader {
    /// Size, `(z, y, x)`; none is 0.
    pub(crate) shape: [usize; 3],
    /// Type of the numbers; none for complex ones.
    pub(crate) element: Option<ElementType>,
    pub(crate) is_big_endian: bool,
}

impl EmHeader {
    /// The header, if these are the first bytes of an EM file.
    pub(crate) fn parse(start: &[u8]) -> Option<Self> {
        let header = start.get(..HEADER_BYTES)?;
        let is_big_endian = match header[0] {
            0 | 3 | 4 | 5 => true,
            1 | 6 => false,
            _ => return None,
        };
        let element = match header[3] {
            1 => Some(ElementType::U8),
            2 => Some(ElementType::I16),
            4 => Some(ElementType::I32),
            5 => Some(ElementType::F32),
            9 => Some(ElementType::F64),
            8 => None,
            _ => return None,
        };
        let size = |axis: usize| {
            let bytes = std::array::from_fn(|i| header[4 + 4 * axis + i]);
            let size = if is_big_endian {
                i32::from_be_bytes(bytes)
            } else {
                i32::from_le_bytes(bytes)
            };
            usize::try_from(size).ok().filter(|&n| n > 0)
        };
        Some(Self {
            shape: [size(2)?, size(1)?, size(0)?],
            element,
            is_big_endian,
        })
    }

    /// Bytes of a whole file with this header.
    pub(crate) fn bytes_needed(&self) -> u128 {
        let width = self.element.map_or(8, ElementType::bytes) as u128;
        let numbers: u128 = self.shape.iter().map(|&n| n as u128).product();
        HEADER_BYTES as u128 + numbers * width
    }

    /// The header of a little-endian file.
    pub(crate) fn encode(shape: [usize; 3], element: ElementType) -> Option<[u8; HEADER_BYTES]> {
        let mut header = [0; HEADER_BYTES];
        header[0] = 6;
        header[3] = match element {
            ElementType::U8 => 1,
            ElementType::I16 => 2,
            ElementType::I32 => 4,
            ElementType::F32 => 5,
            ElementType::F64 => 9,
            _ => return None,
        };
        for (axis, &n) in shape.iter().rev().enumerate() {
            let n = i32::try_from(n).ok().filter(|&n| n > 0)?;
            header[4 + 4 * axis..8 + 4 * axis].copy_from_slice(&n.to_le_bytes());
        }
        Some(header)
    }
}
