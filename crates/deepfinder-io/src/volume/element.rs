use std::fmt;

use deepfinder_core::{Moments, count_labels};

/// How a file stores a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are Rust's own")]
pub enum ElementType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl ElementType {
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// A type whose volumes can be written: `f32`, `u8`, `i8`, `u16`, `i16`.
pub trait Voxel: private::Voxel {}

pub(crate) mod private {
    use super::{ElementType, Moments};

    pub trait Voxel: hdf5_pure::H5Element + PartialOrd + Default + Send + Sync + 'static {
        /// How it is stored unless [`Voxel::is_wide`] asks for more.
        const ELEMENT: ElementType;

        fn to_f32(self) -> f32;

        /// The nearest value of this type.
        fn from_f32(value: f32) -> Self;

        fn put_little_endian(self, bytes: &mut Vec<u8>);

        /// The bytes of many voxels.
        fn put_all_little_endian(voxels: &[Self], bytes: &mut Vec<u8>);

        /// Their moments.
        fn moments(voxels: &[Self]) -> Moments {
            let values: Vec<f32> = voxels.iter().map(|voxel| voxel.to_f32()).collect();
            Moments::of(&values)
        }

        /// Of the bytes that [`Self::put_little_endian`] gave; more are not looked at.
        fn from_little_endian(bytes: &[u8]) -> Self;

        /// Whether MRC's signed mode 0 cannot hold this `u8`.
        fn is_wide(self) -> bool {
            false
        }
    }
}

macro_rules! voxel {
    ($($ty:ident $element:ident),+) => {$(
        impl Voxel for $ty {}

        impl private::Voxel for $ty {
            const ELEMENT: ElementType = ElementType::$element;

            fn to_f32(self) -> f32 {
                f32::from(self)
            }

            fn from_f32(value: f32) -> Self {
                value as $ty
            }

            fn put_little_endian(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn put_all_little_endian(voxels: &[Self], bytes: &mut Vec<u8>) {
                let start = bytes.len();
                bytes.resize(start + size_of_val(voxels), 0);
                let (words, _) = bytes[start..].as_chunks_mut::<{ size_of::<$ty>() }>();
                for (word, voxel) in words.iter_mut().zip(voxels) {
                    *word = voxel.to_le_bytes();
                }
            }

            fn from_little_endian(bytes: &[u8]) -> Self {
                const BYTES: usize = size_of::<$ty>();
                let mut own = [0; BYTES];
                own.copy_from_slice(&bytes[..BYTES]);
                Self::from_le_bytes(own)
            }
        }
    )+};
}

voxel!(f32 F32, i8 I8, u16 U16, i16 I16);

impl Voxel for u8 {}

impl private::Voxel for u8 {
    const ELEMENT: ElementType = ElementType::U8;

    fn to_f32(self) -> f32 {
        f32::from(self)
    }

    fn from_f32(value: f32) -> Self {
        value as Self
    }

    fn put_little_endian(self, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }

    fn put_all_little_endian(voxels: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(voxels);
    }

    fn moments(voxels: &[Self]) -> Moments {
        Moments::of_counts((0..=Self::MAX).map(f32::from).zip(count_labels(voxels)))
    }

    fn from_little_endian(bytes: &[u8]) -> Self {
        bytes[0]
    }

    fn is_wide(self) -> bool {
        self > i8::MAX.unsigned_abs()
    }
}

/// The first voxel of a block that is no label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NoLabel {
    pub(crate) index: usize,
    pub(crate) value: f32,
}

/// What a stored voxel is read as: an `f32`, or a label.
pub(crate) trait Decoded: Copy + Default + Send + Sync + 'static {
    fn collect(values: impl ExactSizeIterator<Item = f32>) -> Result<Vec<Self>, NoLabel>;
}

impl Decoded for f32 {
    fn collect(values: impl ExactSizeIterator<Item = f32>) -> Result<Vec<Self>, NoLabel> {
        Ok(values.collect())
    }
}

impl Decoded for u8 {
    fn collect(values: impl ExactSizeIterator<Item = f32>) -> Result<Vec<Self>, NoLabel> {
        let mut labels = Vec::with_capacity(values.len());
        for (index, value) in values.enumerate() {
            // A cast saturates and takes NaN to 0, so only a label comes back as it went in.
            let label = value as u8;
            if f32::from(label) != value {
                return Err(NoLabel { index, value });
            }
            labels.push(label);
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_whole_numbers_up_to_255() {
        assert_eq!(u8::collect([0.0, -0.0, 255.0].into_iter()), Ok(vec![0, 0, 255]));
        for bad in [-1.0, 256.0, 0.5, f32::INFINITY] {
            let found = u8::collect([1.0, bad].into_iter());
            assert_eq!(found, Err(NoLabel { index: 1, value: bad }));
        }
        assert!(u8::collect([f32::NAN].into_iter()).is_err());
    }
}
