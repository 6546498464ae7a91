//! Slices of one volume along its three axes, read from the file as they are asked for.
//!
//! Planes across z and y stand in the file in whole rows and are read as they are. A plane across x has one voxel in
//! each row: of a large volume that is a million small reads. So such a volume is gone through once, in the background,
//! and kept turned about with x as its slowest axis, in a byte a voxel and binned until it fits into its share of memory;
//! until that is ready a thinned plane is shown.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use deepfinder_core::{Moments, Region, Result, VolumeReader};
use ndarray::{Array3, Axis};

use crate::planes::PlaneCache;

/// An axis that slices lie across.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Across {
    /// Slices `(y, x)`.
    Z,
    /// Slices `(z, x)`.
    Y,
    /// Slices `(z, y)`: rows are z here too.
    X,
}

/// Rows above which a plane across x is not read as it is.
const MOST_ROWS: usize = 1 << 15;
/// Rows of a thinned plane.
const THIN_ROWS: usize = 1 << 12;
/// Time for a thinned plane.
const THIN_TIME: Duration = Duration::from_millis(40);
/// Memory for planes as they were read, all volumes together.
pub(crate) const PLANE_BYTES: usize = 192 << 20;
/// Memory for a volume turned about.
const TURNED_BYTES: usize = 448 << 20;
/// Voxels that are gone through at a time.
const SLAB_VOXELS: usize = 1 << 22;
/// Standard deviations about the mean that a byte of the turned volume spans.
const TURNED_DEVIATIONS: f64 = 6.0;

/// Key of a plane: the volume's number, the axis, the index.
pub(crate) type PlaneKey = (u64, Across, usize);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SliceRequest {
    pub(crate) across: Across,
    pub(crate) index: usize,
    /// Slices on either side that are averaged with it.
    pub(crate) slab: usize,
    /// So many voxels squared become one.
    pub(crate) bin: usize,
    /// What becomes 0 and what becomes 255.
    pub(crate) window: (f32, f32),
}

/// A slice as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) bytes: Vec<u8>,
    /// It will be better in a while.
    pub(crate) is_preview: bool,
}

/// What the voxels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Densities or scores: averaged when binned, and windowed.
    Grey,
    /// Labels: the largest stands for those it is binned with, and no window changes them.
    Labels,
}

/// A volume to be sliced.
pub(crate) struct Sections {
    number: u64,
    kind: Kind,
    reader: Arc<dyn VolumeReader<f32>>,
    planes: Arc<PlaneCache<PlaneKey>>,
    statistics: OnceLock<Statistics>,
    turned: OnceLock<Turned>,
}

/// How a volume's voxels spread, by some planes of it.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Statistics {
    pub(crate) mean: f64,
    pub(crate) standard_deviation: f64,
    /// 1st and 99th percentile.
    pub(crate) percentile_1: f32,
    pub(crate) percentile_99: f32,
    pub(crate) min: f32,
    pub(crate) max: f32,
}

/// A volume with x as its slowest axis, in bytes: `(x, z, y)`, each axis binned.
struct Turned {
    bin: usize,
    shape: [usize; 3],
    voxels: Vec<u8>,
    low: f32,
    step: f32,
}

impl Sections {
    pub(crate) fn new(
        number: u64,
        kind: Kind,
        reader: Arc<dyn VolumeReader<f32>>,
        planes: Arc<PlaneCache<PlaneKey>>,
    ) -> Self {
        Self {
            number,
            kind,
            reader,
            planes,
            statistics: OnceLock::new(),
            turned: OnceLock::new(),
        }
    }

    /// `(z, y, x)`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.reader.shape()
    }

    pub(crate) fn reader(&self) -> &dyn VolumeReader<f32> {
        self.reader.as_ref()
    }

    /// Whether it has to be turned about for slices across x.
    pub(crate) fn needs_turning(&self) -> bool {
        let [depth, height, _] = self.shape();
        depth * height > MOST_ROWS && self.turned.get().is_none()
    }

    /// How its voxels spread, by sixteen of its planes.
    pub(crate) fn statistics(&self) -> Result<Statistics> {
        if let Some(known) = self.statistics.get() {
            return Ok(*known);
        }
        let depth = self.shape()[0];
        let sampled = depth.min(16);
        let mut moments = Moments::default();
        let mut sample = Vec::new();
        for i in 0..sampled {
            let plane = self.plane(Across::Z, (2 * i + 1) * depth / (2 * sampled))?;
            moments = moments.merge(Moments::of(plane.iter()));
            let step = (plane.len() / 4096).max(1);
            sample.extend(
                plane
                    .iter()
                    .copied()
                    .filter(|voxel| voxel.is_finite())
                    .step_by(step),
            );
        }
        sample.sort_by(f32::total_cmp);
        let at = |part: f64| {
            let index = (part * sample.len().saturating_sub(1) as f64).round() as usize;
            sample.get(index).copied().unwrap_or_default()
        };
        let found = Statistics {
            mean: moments.mean,
            standard_deviation: moments.standard_deviation(),
            percentile_1: at(0.01),
            percentile_99: at(0.99),
            min: at(0.0),
            max: at(1.0),
        };
        Ok(*self.statistics.get_or_init(|| found))
    }

    /// Goes through the volume once and keeps it turned about.
    pub(crate) fn turn(&self, is_wanted: &dyn Fn() -> bool) -> Result<()> {
        if !self.needs_turning() {
            return Ok(());
        }
        let [depth, height, width] = self.shape();
        let mut bin = 1;
        while [depth, height, width]
            .iter()
            .map(|n| n.div_ceil(bin))
            .product::<usize>()
            > TURNED_BYTES
        {
            bin *= 2;
        }
        let (low, step) = match self.kind {
            Kind::Labels => (0.0, 1.0),
            Kind::Grey => {
                let found = self.statistics()?;
                let reach = TURNED_DEVIATIONS * found.standard_deviation;
                (
                    (found.mean - reach) as f32,
                    (2.0 * reach / 255.0).max(1e-30) as f32,
                )
            }
        };
        let shape = [width.div_ceil(bin), depth.div_ceil(bin), height.div_ceil(bin)];
        let mut voxels = vec![0; shape.iter().product()];
        let planes = (SLAB_VOXELS / (height * width * bin).max(1)).max(1) * bin;
        for z in (0..depth).step_by(planes) {
            if !is_wanted() {
                return Ok(());
            }
            let region = Region::new([z, 0, 0], [planes.min(depth - z), height, width]);
            let slab = self.reader.read_window(region)?;
            let slab = self
                .binned(&slab, bin)
                .mapv(|voxel| ((voxel - low) / step + 0.5) as u8);
            turn_slab(&slab, z / bin, shape, &mut voxels);
        }
        self.turned.get_or_init(|| Turned {
            bin,
            shape,
            voxels,
            low,
            step,
        });
        Ok(())
    }

    fn binned(&self, slab: &Array3<f32>, bin: usize) -> Array3<f32> {
        if bin == 1 {
            return slab.clone();
        }
        let (depth, height, width) = slab.dim();
        let shape = [depth, height, width].map(|n| n.div_ceil(bin));
        Array3::from_shape_fn(shape, |(z, y, x)| {
            let of = |i: usize, n: usize| (i * bin)..((i + 1) * bin).min(n);
            let block = slab.slice(ndarray::s![of(z, depth), of(y, height), of(x, width)]);
            match self.kind {
                Kind::Grey => block.sum() / block.len() as f32,
                Kind::Labels => block.iter().copied().fold(0.0, f32::max),
            }
        })
    }

    /// Size of a slice: height and width.
    pub(crate) fn slice_shape(&self, across: Across) -> [usize; 2] {
        let [depth, height, width] = self.shape();
        match across {
            Across::Z => [height, width],
            Across::Y => [depth, width],
            Across::X => [depth, height],
        }
    }

    fn length(&self, across: Across) -> usize {
        let [depth, height, width] = self.shape();
        match across {
            Across::Z => depth,
            Across::Y => height,
            Across::X => width,
        }
    }

    /// The slice asked for, clamped to the volume.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(crate) fn slice(&self, asked: SliceRequest) -> Result<Slice> {
        let length = self.length(asked.across);
        let index = asked.index.min(length.saturating_sub(1));
        let slab = if self.kind == Kind::Labels { 0 } else { asked.slab };
        let (first, last) = (
            index.saturating_sub(slab),
            (index + slab).min(length.saturating_sub(1)),
        );
        let mut is_preview = false;
        let mut sum: Vec<f32> = Vec::new();
        let mut count = 0.0;
        // A thinned plane is no place for averages.
        let thin = asked.across == Across::X && self.needs_turning();
        let planes = if thin { index..=index } else { first..=last };
        for i in planes {
            let plane = match (asked.across, self.turned.get(), thin) {
                (Across::X, Some(turned), _) => Arc::new(turned.plane(i, self.shape())),
                (Across::X, None, true) => {
                    is_preview = true;
                    Arc::new(self.thinned(i)?)
                }
                _ => self.plane(asked.across, i)?,
            };
            count += 1.0;
            if sum.is_empty() {
                sum = plane.to_vec();
            } else {
                sum.iter_mut()
                    .zip(plane.iter())
                    .for_each(|(sum, voxel)| *sum += voxel);
            }
        }
        let [height, width] = self.slice_shape(asked.across);
        let (low, high) = match self.kind {
            Kind::Grey => asked.window,
            Kind::Labels => (0.0, 255.0),
        };
        let scale = 255.0 / (high - low).max(1e-30);
        let byte = move |voxel: f32| ((voxel / count - low) * scale + 0.5) as u8;
        let bin = asked.bin.max(1);
        if bin == 1 {
            let bytes = sum.iter().map(|voxel| byte(*voxel)).collect();
            return Ok(Slice {
                width,
                height,
                bytes,
                is_preview,
            });
        }
        let (rows, columns) = (height.div_ceil(bin), width.div_ceil(bin));
        let mut bytes = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let lines = row * bin..((row + 1) * bin).min(height);
            for column in 0..columns {
                let from = column * bin;
                let to = ((column + 1) * bin).min(width);
                let block = lines.clone().flat_map(|y| &sum[y * width + from..y * width + to]);
                bytes.push(match self.kind {
                    Kind::Grey => byte(block.sum::<f32>() / (lines.len() * (to - from)) as f32),
                    Kind::Labels => byte(block.copied().fold(0.0, f32::max)),
                });
            }
        }
        Ok(Slice {
            width: columns,
            height: rows,
            bytes,
            is_preview,
        })
    }

    /// A plane as it stands in the file.
    fn plane(&self, across: Across, index: usize) -> Result<Arc<Vec<f32>>> {
        self.planes.get(&(self.number, across, index), || {
            let [depth, height, width] = self.shape();
            let region = match across {
                Across::Z => Region::new([index, 0, 0], [1, height, width]),
                Across::Y => Region::new([0, index, 0], [depth, 1, width]),
                Across::X => Region::new([0, 0, index], [depth, height, 1]),
            };
            Ok(self.reader.read_window(region)?.into_iter().collect())
        })
    }

    /// A plane across x of which only some rows are read, each standing for its neighbours.
    fn thinned(&self, x: usize) -> Result<Vec<f32>> {
        let [depth, height, _] = self.shape();
        let mut step = 2;
        while depth.div_ceil(step) * height.div_ceil(step) > THIN_ROWS {
            step += 1;
        }
        let mut plane = vec![0.0; depth * height];
        let begin = Instant::now();
        for z in (0..depth).step_by(step) {
            // Chunks have to be unpacked for each voxel: then a part of the preview must do.
            if begin.elapsed() > THIN_TIME {
                break;
            }
            for y in (0..height).step_by(step) {
                let voxel = self.reader.read_window(Region::new([z, y, x], [1; 3]))?;
                let value = voxel.first().copied().unwrap_or_default();
                for z in z..(z + step).min(depth) {
                    let row = z * height;
                    plane[row + y..row + (y + step).min(height)].fill(value);
                }
            }
        }
        Ok(plane)
    }
}

/// Lays a slab `(z, y, x)` into a volume `(x, z, y)`, in blocks that stay in the processor's memory.
fn turn_slab(slab: &Array3<u8>, first_z: usize, [_, depth, height]: [usize; 3], turned: &mut [u8]) {
    const BLOCK: usize = 32;
    let (_, rows, width) = slab.dim();
    for (plane, z) in slab.axis_iter(Axis(0)).zip(first_z..) {
        for x0 in (0..width).step_by(BLOCK) {
            for y0 in (0..rows).step_by(BLOCK) {
                for x in x0..(x0 + BLOCK).min(width) {
                    let row = (x * depth + z) * height;
                    for y in y0..(y0 + BLOCK).min(rows) {
                        turned[row + y] = plane[[y, x]];
                    }
                }
            }
        }
    }
}

impl Turned {
    /// The plane across x at that index of the volume, `(z, y)`, as large as it is there.
    fn plane(&self, x: usize, [depth, height, _]: [usize; 3]) -> Vec<f32> {
        let [_, rows, columns] = self.shape;
        let from = x / self.bin * rows * columns;
        let bytes = &self.voxels[from..from + rows * columns];
        let value = |byte: u8| self.low + self.step * f32::from(byte);
        if self.bin == 1 {
            return bytes.iter().map(|byte| value(*byte)).collect();
        }
        let mut plane = Vec::with_capacity(depth * height);
        for z in 0..depth {
            let row = z / self.bin * columns;
            plane.extend((0..height).map(|y| value(bytes[row + y / self.bin])));
        }
        plane
    }
}

#[cfg(test)]
mod tests {
    use deepfinder_core::Volume;

    use super::*;

    fn sections(shape: [usize; 3], kind: Kind) -> Sections {
        let voxels = Array3::from_shape_fn(shape, |(z, y, x)| match kind {
            Kind::Grey => (z * 31 + y * 7 + x * 3) as f32 % 101.0,
            Kind::Labels => ((z + y + x) % 5) as f32,
        });
        Sections::new(
            1,
            kind,
            Arc::new(Volume::new(voxels)),
            Arc::new(PlaneCache::new(PLANE_BYTES)),
        )
    }

    fn voxel(sections: &Sections, at: [usize; 3]) -> f32 {
        sections.reader.read_window(Region::new(at, [1; 3])).unwrap()[[0, 0, 0]]
    }

    fn asked(across: Across, index: usize) -> SliceRequest {
        SliceRequest {
            across,
            index,
            slab: 0,
            bin: 1,
            window: (0.0, 255.0),
        }
    }

    #[test]
    fn slices_are_the_voxels_of_the_volume() {
        let sections = sections([5, 6, 7], Kind::Grey);
        for (across, [height, width]) in [(Across::Z, [6, 7]), (Across::Y, [5, 7]), (Across::X, [5, 6])] {
            let slice = sections.slice(asked(across, 3)).unwrap();
            assert_eq!([slice.height, slice.width], [height, width]);
            for row in 0..height {
                for column in 0..width {
                    let at = match across {
                        Across::Z => [3, row, column],
                        Across::Y => [row, 3, column],
                        Across::X => [row, column, 3],
                    };
                    assert_eq!(f32::from(slice.bytes[row * width + column]), voxel(&sections, at));
                }
            }
        }
    }

    #[test]
    fn slabs_and_bins_average_and_stop_at_the_edge() {
        let sections = sections([5, 6, 7], Kind::Grey);
        let slab = sections
            .slice(SliceRequest {
                slab: 2,
                ..asked(Across::Z, 4)
            })
            .unwrap();
        let mean = (2..5).map(|z| voxel(&sections, [z, 1, 2])).sum::<f32>() / 3.0;
        assert!((f32::from(slab.bytes[7 + 2]) - mean).abs() <= 0.5);
        let binned = sections
            .slice(SliceRequest {
                bin: 4,
                ..asked(Across::Z, 0)
            })
            .unwrap();
        assert_eq!([binned.height, binned.width], [2, 2]);
        let corner: f32 = (4..6)
            .flat_map(|y| (4..7).map(move |x| (y, x)))
            .map(|(y, x)| voxel(&sections, [0, y, x]))
            .sum();
        assert!((f32::from(binned.bytes[3]) - corner / 6.0).abs() <= 0.51);
        let outside = sections.slice(asked(Across::Z, 99)).unwrap();
        assert_eq!(outside, sections.slice(asked(Across::Z, 4)).unwrap());
    }

    #[test]
    fn labels_stay_labels() {
        let sections = sections([5, 6, 7], Kind::Labels);
        let request = SliceRequest {
            slab: 2,
            window: (1.0, 2.0),
            ..asked(Across::Y, 2)
        };
        let slice = sections.slice(request).unwrap();
        assert_eq!(f32::from(slice.bytes[7 + 3]), voxel(&sections, [1, 2, 3]));
        let binned = sections
            .slice(SliceRequest {
                bin: 2,
                ..asked(Across::Z, 0)
            })
            .unwrap();
        assert_eq!(binned.bytes[0], 2, "the largest of 0, 1, 1, 2");
    }

    #[test]
    fn a_large_volume_is_turned_about() {
        let shape = [200, 170, 20];
        for kind in [Kind::Grey, Kind::Labels] {
            let sections = sections(shape, kind);
            assert!(sections.needs_turning());
            let thin = sections.slice(asked(Across::X, 13)).unwrap();
            assert!(thin.is_preview);
            assert_eq!(f32::from(thin.bytes[0]), voxel(&sections, [0, 0, 13]));
            sections.turn(&|| true).unwrap();
            let slice = sections.slice(asked(Across::X, 13)).unwrap();
            assert!(!slice.is_preview && !sections.needs_turning());
            for (z, y) in [(0, 0), (199, 169), (17, 33), (100, 5)] {
                let found = f32::from(slice.bytes[z * 170 + y]);
                let tolerance = if kind == Kind::Labels { 0.0 } else { 1.5 };
                assert!(
                    (found - voxel(&sections, [z, y, 13])).abs() <= tolerance,
                    "{kind:?} {z} {y}: {found}"
                );
            }
        }
    }

    #[test]
    fn statistics_are_those_of_some_planes() {
        let found = sections([40, 20, 30], Kind::Grey).statistics().unwrap();
        assert!(found.min >= 0.0 && found.max <= 100.0 && found.percentile_1 < found.percentile_99);
        assert!((found.mean - 50.0).abs() < 5.0 && found.standard_deviation > 20.0);
    }
}
