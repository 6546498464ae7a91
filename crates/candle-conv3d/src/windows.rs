//! Windows of volumes that a device holds whole.

use candle_core::{DType, Device, Result, Tensor};

use crate::{
    error::{Conv3dError, check_length},
    transfer::Transfers,
};

/// A cubic window of a volume.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Index of the volume.
    pub volume: usize,
    /// First voxel `(z, y, x)`. What lies outside the volume is reflected there, without repeating the edge.
    pub start: [i64; 3],
    /// Whether it is turned by 180° about y, which reverses z and x.
    pub turned: bool,
    /// What its voxels are multiplied by, once they are normalised.
    pub scale: f32,
    /// What is added then.
    pub shift: f32,
}

/// Volumes of f32 with a label for each voxel, all on one device.
#[derive(Debug)]
pub struct LabelledVolumes {
    device: Device,
    transfers: Transfers,
    /// Of all volumes, one behind the other.
    values: Tensor,
    labels: Tensor,
    volumes: Vec<Placed>,
}

#[derive(Debug, Clone, Copy)]
struct Placed {
    offset: usize,
    shape: [usize; 3],
}

/// A window as the kernels have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WindowPlace {
    pub offset: usize,
    pub size: [i32; 3],
    pub start: [i32; 3],
    pub turned: bool,
    pub scale: f32,
    pub shift: f32,
}

impl WindowPlace {
    /// Bytes of it in a kernel's memory.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) const BYTES: usize = 48;

    /// As `WindowPlace` in `windows.cuh` has it.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (offset, rest) = bytes.split_at_mut(8);
        offset.copy_from_slice(&(self.offset as u64).to_ne_bytes());
        let [depth, height, width] = self.size;
        let [z, y, x] = self.start;
        let bits = |value: f32| value.to_bits().cast_signed();
        let words = [
            depth,
            height,
            width,
            z,
            y,
            x,
            i32::from(self.turned),
            bits(self.scale),
            bits(self.shift),
        ];
        for (to, word) in rest.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Where the voxel lies that the window shows at an index.
    pub(crate) fn voxel_shown(&self, index: [usize; 3], side: usize) -> usize {
        let [z, y, x] = if self.turned {
            [side - 1 - index[0], index[1], side - 1 - index[2]]
        } else {
            index
        };
        let at = |axis: usize, i: usize| reflected(self.start[axis] + i as i32, self.size[axis]);
        let [_, height, width] = self.size.map(|size| size as usize);
        self.offset + (at(0, z) * height + at(1, y)) * width + at(2, x)
    }
}

/// The index inside `0..size` that an index outside is a mirror image of.
fn reflected(index: i32, size: i32) -> usize {
    let period = (2 * size - 2).max(1);
    let folded = index.rem_euclid(period);
    folded.min(period - folded).min(size - 1) as usize
}

impl LabelledVolumes {
    /// Bytes that volumes of these shapes take.
    pub fn bytes(shapes: &[[usize; 3]]) -> u64 {
        let voxels: u64 = shapes.iter().map(voxels).sum();
        voxels * (size_of::<f32>() + size_of::<u8>()) as u64
    }

    /// Volumes of these shapes `(z, y, x)`, all zeros.
    ///
    /// # Errors
    /// Where the device has no memory for them, or one is empty or has 2³¹ voxels along an axis.
    pub fn new(shapes: &[[usize; 3]], device: &Device) -> Result<Self> {
        let mut offset = 0;
        let mut volumes = Vec::with_capacity(shapes.len());
        for &shape in shapes {
            if shape.iter().any(|size| !(1..1 << 30).contains(size)) {
                return Err(Conv3dError::Shape {
                    op: "windows",
                    what: "a volume",
                    expected: "[D, H, W], each from 1 to 2³⁰".to_owned(),
                    found: shape.to_vec(),
                }
                .into());
            }
            volumes.push(Placed { offset, shape });
            offset += voxels(&shape) as usize;
        }
        Ok(Self {
            device: device.clone(),
            transfers: Transfers::new(device),
            values: Tensor::zeros(offset, DType::F32, device)?,
            labels: Tensor::zeros(offset, DType::U8, device)?,
            volumes,
        })
    }

    /// Fills planes of a volume, from `first` on, with values and labels in C order.
    ///
    /// # Errors
    /// Where there is no such volume, or the values are no whole planes or do not fit into it.
    pub fn set_planes(&self, volume: usize, first: usize, values: Vec<f32>, labels: Vec<u8>) -> Result<()> {
        let Placed { offset, shape } = self.placed(volume)?;
        let [depth, height, width] = shape;
        let plane = height * width;
        check_length("labels of planes", values.len(), labels.len())?;
        check_length("planes", values.len().next_multiple_of(plane), values.len())?;
        if first + values.len() / plane > depth {
            return Err(no_volume(volume, &[first, values.len() / plane]));
        }
        let (start, length) = (offset + first * plane, values.len());
        self.values
            .slice_set(&self.transfers.send_f32(values, length)?, 0, start)?;
        self.labels
            .slice_set(&self.transfers.send_u8(labels, length)?, 0, start)
    }

    /// Windows of `side` voxels along each axis: f32 `[N, 1, side, side, side]`, each brought to mean 0 and population
    /// standard deviation 1 (a constant one to 0), then scaled, shifted and turned as it says; and their labels, u8
    /// `[N, side, side, side]`. On a GPU nobody waits for them.
    ///
    /// Sums are f64; on a GPU they are added up in another order, so that a value may be off in its last place.
    ///
    /// # Errors
    /// Where there is no such volume, or the device fails.
    pub fn windows(&self, windows: &[Window], side: usize) -> Result<(Tensor, Tensor)> {
        let places = windows
            .iter()
            .map(|window| {
                let Placed { offset, shape } = self.placed(window.volume)?;
                // Farther out there are only repetitions of what is near.
                let start = window.start.map(|start| i32::try_from(start).ok());
                let [Some(z), Some(y), Some(x)] = start else {
                    return Err(no_volume(window.volume, &shape));
                };
                if [z, y, x].iter().any(|start| start.unsigned_abs() >= 1 << 30) || side >= 1 << 10 {
                    return Err(no_volume(window.volume, &shape));
                }
                Ok(WindowPlace {
                    offset,
                    size: shape.map(|size| size as i32),
                    start: [z, y, x],
                    turned: window.turned,
                    scale: window.scale,
                    shift: window.shift,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let n = places.len();
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            return crate::cuda::windows_on_gpu(&self.values, &self.labels, &places, side);
        }
        let (values, labels) = (self.values.to_vec1::<f32>()?, self.labels.to_vec1::<u8>()?);
        let (values, labels) = windows_here(&values, &labels, &places, side);
        Ok((
            Tensor::from_vec(values, (n, 1, side, side, side), &self.device)?,
            Tensor::from_vec(labels, (n, side, side, side), &self.device)?,
        ))
    }

    fn placed(&self, volume: usize) -> Result<Placed> {
        let found = self.volumes.get(volume).copied();
        found.ok_or_else(|| no_volume(volume, &[self.volumes.len()]))
    }
}

fn voxels(shape: &[usize; 3]) -> u64 {
    shape.iter().map(|size| *size as u64).product()
}

fn no_volume(volume: usize, found: &[usize]) -> candle_core::Error {
    Conv3dError::Shape {
        op: "windows",
        what: "a window or its planes",
        expected: format!("inside volume {volume}"),
        found: found.to_vec(),
    }
    .into()
}

/// What the kernels must give: one voxel after the other.
pub(crate) fn windows_here(
    values: &[f32],
    labels: &[u8],
    places: &[WindowPlace],
    side: usize,
) -> (Vec<f32>, Vec<u8>) {
    let voxels = side.pow(3);
    let (mut of_windows, mut their_labels) = (Vec::new(), Vec::new());
    for place in places {
        let indices = (0..voxels).map(|i| [i / (side * side), i / side % side, i % side]);
        let shown: Vec<usize> = indices.map(|index| place.voxel_shown(index, side)).collect();
        // Summed up as the window lies in the volume.
        let straight = WindowPlace {
            turned: false,
            ..*place
        };
        let indices = (0..voxels).map(|i| [i / (side * side), i / side % side, i % side]);
        let lying: Vec<f64> = indices
            .map(|index| f64::from(values[straight.voxel_shown(index, side)]))
            .collect();
        let mean = lying.iter().sum::<f64>() / voxels as f64;
        let squares: f64 = lying.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = (squares / voxels as f64).sqrt();
        let constant = spread <= f64::from(f32::EPSILON) * mean.abs();
        of_windows.extend(shown.iter().map(|voxel| {
            let value = if constant {
                0.0
            } else {
                ((f64::from(values[*voxel]) - mean) / spread) as f32
            };
            if (place.scale, place.shift) == (1.0, 0.0) {
                value
            } else {
                place.scale * value + place.shift
            }
        }));
        their_labels.extend(shown.iter().map(|voxel| labels[*voxel]));
    }
    (of_windows, their_labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> LabelledVolumes {
        let volumes = LabelledVolumes::new(&[[3, 4, 5], [6, 6, 6]], &Device::Cpu).unwrap();
        let values = |count: usize| (0..count).map(|i| i as f32).collect::<Vec<_>>();
        let labels = |count: usize| (0..count).map(|i| i as u8).collect::<Vec<_>>();
        volumes.set_planes(0, 0, values(60), labels(60)).unwrap();
        for first in [0, 4] {
            let count = 36 * if first == 0 { 4 } else { 2 };
            volumes
                .set_planes(1, first, values(count), labels(count))
                .unwrap();
        }
        volumes
    }

    const WINDOW: Window = Window {
        volume: 1,
        start: [2, 1, 1],
        turned: false,
        scale: 1.0,
        shift: 0.0,
    };

    #[test]
    fn windows_are_normalised_turned_and_scaled() {
        let volumes = volumes();
        let changed = Window {
            turned: true,
            scale: 2.0,
            shift: 1.0,
            ..WINDOW
        };
        let (values, labels) = volumes.windows(&[WINDOW, changed], 4).unwrap();
        assert_eq!(
            (values.dims(), labels.dims()),
            (&[2, 1, 4, 4, 4][..], &[2, 4, 4, 4][..])
        );
        let values = values.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        let labels = labels.flatten_from(1).unwrap().to_vec2::<u8>().unwrap();
        assert_eq!(labels[0][..5], [79, 80, 81, 82, 85]);
        // Planes from the fourth on were filled apart.
        assert_eq!(labels[0][32], 7);
        for (z, y, x) in [(0, 0, 0), (1, 2, 3), (3, 1, 2)] {
            let (here, there) = ((z * 4 + y) * 4 + x, ((3 - z) * 4 + y) * 4 + 3 - x);
            assert_eq!(labels[1][here], labels[0][there]);
            assert_eq!(values[1][here], 2.0 * values[0][there] + 1.0);
        }
        let mean = values[0].iter().sum::<f32>() / 64.0;
        let variance = values[0].iter().map(|v| v * v).sum::<f32>() / 64.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_outside_is_reflected() {
        let window = Window {
            volume: 0,
            start: [-1, 0, 0],
            ..WINDOW
        };
        let (_, labels) = volumes().windows(&[window], 4).unwrap();
        let labels = labels.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert_eq!([labels[0], labels[16], labels[32], labels[48]], [20, 0, 20, 40]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let volumes = volumes();
        assert_eq!(LabelledVolumes::bytes(&[[3, 4, 5], [6, 6, 6]]), 5 * 276);
        assert!(LabelledVolumes::new(&[[3, 0, 5]], &Device::Cpu).is_err());
        assert!(volumes.set_planes(2, 0, vec![0.0; 20], vec![0; 20]).is_err());
        assert!(volumes.set_planes(0, 2, vec![0.0; 40], vec![0; 40]).is_err());
        assert!(volumes.set_planes(0, 0, vec![0.0; 19], vec![0; 19]).is_err());
        assert!(volumes.set_planes(0, 0, vec![0.0; 20], vec![0; 19]).is_err());
        let nowhere = Window { volume: 2, ..WINDOW };
        assert!(volumes.windows(&[nowhere], 4).is_err());
        let far = Window {
            start: [1 << 40, 0, 0],
            ..WINDOW
        };
        assert!(volumes.windows(&[far], 4).is_err());
    }
}
