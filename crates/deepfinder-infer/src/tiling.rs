use deepfinder_net::{Head, Precision, ReceptiveField, SIDE_MULTIPLE, Skip, Sweep};

/// What a tile must read around its core, so that its result is the whole volume's to the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Voxels of margin before and after, on each axis.
    margin: [[usize; 2]; 3],
    /// Windows begin at multiples of this, on each axis.
    origin: [usize; 3],
}

impl Reach {
    /// Of networks that compute with this precision.
    pub(crate) fn of(precision: Precision) -> Self {
        let margin = |field: ReceptiveField| [field.before, field.after.next_multiple_of(SIDE_MULTIPLE)];
        Self {
            margin: precision.influence().map(margin),
            origin: precision.origin_multiple(),
        }
    }
}

/// Fewest planes that can go through the network at once: those that its convolutions compute together.
pub(crate) const THINNEST: usize = 2;

/// A stretch of one axis: what a tile adds to the result, and what it must read for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// First voxel of the core.
    pub core: usize,
    /// Voxels of the core that lie in the tomogram.
    pub core_length: usize,
    /// First voxel to read, on the network's grid.
    pub window: usize,
    /// Voxels to read, a multiple of 4; where the tomogram is padded at its end, past that.
    pub window_length: usize,
}

/// Cuts an axis into cores of at most `core` voxels (a multiple of 4). Windows end at the border of the padded
/// tomogram: there, and nowhere else, the network shall see its own zero padding.
pub(crate) fn stretches(reach: Reach, axis: usize, length: usize, core: usize) -> Vec<Stretch> {
    (0..length)
        .step_by(core)
        .map(|first| Stretch::of_core(reach, axis, length, first, core.min(length - first)))
        .collect()
}

impl Stretch {
    /// What must be read for a core of an axis of that length.
    fn of_core(reach: Reach, axis: usize, length: usize, core: usize, core_length: usize) -> Self {
        let [before, after] = reach.margin[axis];
        let padded = length.next_multiple_of(SIDE_MULTIPLE);
        let window = core.saturating_sub(before) / reach.origin[axis] * reach.origin[axis];
        let end = (core + core_length).next_multiple_of(SIDE_MULTIPLE);
        Self {
            core,
            core_length,
            window,
            window_length: (end + after).min(padded) - window,
        }
    }

    /// The same core where the axis runs backwards.
    pub(crate) fn reversed(self, reach: Reach, axis: usize, length: usize) -> Self {
        let core = length - self.core - self.core_length;
        Self::of_core(reach, axis, length, core, self.core_length)
    }
}

/// How the exact plan cuts a tomogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Core of a tile, `(z, y, x)`.
    pub core: [usize; 3],
    /// Planes that go through the network at once.
    pub chunk: usize,
    /// What the network does with the first level's features.
    pub skip: Skip,
    /// What tiles read around their core.
    pub reach: Reach,
}

/// What may need how much memory, and what is to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Shape of the tomogram, `(z, y, x)`.
    pub shape: [usize; 3],
    /// Bytes for the network, and as many for planes that wait to be written.
    pub bytes: usize,
    /// Bytes per voxel of the result (labels, and scores where they are wanted) where it has to wait until planes are
    /// whole; 0 where it needn't.
    pub bytes_per_waiting_voxel: usize,
    /// Bytes per voxel of a tile's core where its result has to wait until the tile has been computed in several ways; 0
    /// where it is computed once.
    pub bytes_per_core_voxel: usize,
    /// Scores per voxel.
    pub classes: usize,
    /// What the networks compute with.
    pub precision: Precision,
    /// Where they end.
    pub head: Head,
}

impl Demand {
    /// The tiling that computes the fewest voxels in the margins and fits; else the one that needs least memory.
    pub(crate) fn tiling(&self) -> Tiling {
        let [_, height, width] = self.shape;
        let mut best: Option<(f64, Tiling)> = None;
        let reach = self.reach();
        for y in cores(height) {
            for x in cores(width) {
                let z = self.core_depth(y, x);
                let core = [z, y, x];
                let computed: f64 = [0, 1, 2]
                    .map(|axis| {
                        let windows = stretches(reach, axis, self.shape[axis], core[axis]);
                        windows.iter().map(|s| s.window_length).sum::<usize>() as f64
                    })
                    .iter()
                    .product();
                for tiling in self.with_chunks(core) {
                    // Thin chunks cost some: there is little to do at once.
                    let again = if tiling.skip == Skip::Recompute && self.head == Head::Full {
                        1.15
                    } else {
                        1.0
                    };
                    let cost = computed * again * (1.0 + 0.8 / tiling.chunk as f64);
                    let workspace = self.workspace(tiling);
                    let fits = workspace <= self.bytes as f64;
                    let rank = if fits { cost } else { 1e30 * workspace };
                    if best.is_none_or(|(least, _)| rank < least) {
                        best = Some((rank, tiling));
                    }
                }
            }
        }
        best.map_or(
            Tiling {
                core: [SIDE_MULTIPLE; 3],
                chunk: THINNEST,
                skip: Skip::Recompute,
                reach,
            },
            |(_, tiling)| tiling,
        )
    }

    fn reach(&self) -> Reach {
        Reach::of(self.precision)
    }

    /// The best way through a tile of that core.
    pub(crate) fn with_core(&self, core: [usize; 3]) -> Tiling {
        let [keep, recompute] = self.with_chunks(core);
        if self.workspace(keep) <= self.bytes as f64 {
            keep
        } else {
            recompute
        }
    }

    /// The ways through a tile of that core, each with the thickest chunks that fit.
    fn with_chunks(&self, core: [usize; 3]) -> [Tiling; 2] {
        let reach = self.reach();
        let depth = longest_window(reach, 0, self.shape[0], core[0]);
        [Skip::Keep, Skip::Recompute].map(|skip| {
            let tiling = |chunk: usize| Tiling {
                core,
                chunk,
                skip,
                reach,
            };
            // No gain from thicker ones: what a layer gives should still be in the cache when the next takes it.
            let chunk = [32, 16, 8, 4]
                .into_iter()
                .filter(|chunk| *chunk <= depth)
                .find(|chunk| self.workspace(tiling(*chunk)) <= self.bytes as f64);
            tiling(chunk.unwrap_or(THINNEST))
        })
    }

    /// Planes of a tile. Where one tile spans y and x, or results may be written in any order, it may be as deep as the
    /// tomogram; else planes wait for the tiles beside them. Where results wait for other ways through the tile, they must
    /// fit too.
    fn core_depth(&self, y: usize, x: usize) -> usize {
        let [depth, height, width] = self.shape;
        let whole = depth.next_multiple_of(SIDE_MULTIPLE);
        let waiting = if y >= height && x >= width {
            0
        } else {
            self.bytes_per_waiting_voxel * height * width
        };
        let bytes_per_plane = waiting + self.bytes_per_core_voxel * y.min(height) * x.min(width);
        match self.bytes.checked_div(bytes_per_plane) {
            None => whole,
            Some(planes) => (planes / SIDE_MULTIPLE * SIDE_MULTIPLE).clamp(SIDE_MULTIPLE, whole),
        }
    }

    /// Bytes that the network needs for a tile, nearly.
    fn workspace(&self, tiling: Tiling) -> f64 {
        let [z, y, x] = tiling.core;
        let [depth, height, width] = self.shape;
        let reach = tiling.reach;
        let column = longest_window(reach, 1, height, y) * longest_window(reach, 2, width, x);
        let chunk = tiling.chunk;
        let value = self.precision.bytes();
        // Logits and scores.
        let results = size_of::<f32>() * 2 * self.classes;
        if chunk >= longest_window(reach, 0, depth, z) {
            // One pass: input, skip, the up-convolution and what it makes with the skip; or the results.
            let widest = match self.head {
                Head::Full => (value * (1 + 32 + 48 + 32)).max(value * (32 + 32) + results),
                Head::Half => (value * (1 + 32 + 32)).max(value * (32 + 48) / 8 + results),
            };
            return (column * chunk * widest) as f64;
        }
        // Values per voxel of a plane. Each layer has room for the planes that come and the three that it may keep; at
        // half the size these weigh a quarter, and half as many come.
        let room = |planes: usize, channels: usize, shrink: usize| {
            ((planes / shrink).max(THINNEST) + 3) * channels / (shrink * shrink)
        };
        let decoder = match self.head {
            Head::Full => 48 + 32,
            Head::Half => 0,
        };
        let full = room(chunk, 1 + 32 + decoder, 1) + chunk * 32;
        let half = room(chunk, 32 + 48 + (64 + 48) + 48 + 48, 2);
        let quarter = room(chunk, 48 + 4 * 64, 4);
        // Between encoder and decoder; some planes stand there twice.
        let [lag, half_lag] = Sweep::waiting(self.precision, chunk);
        let mid = 48 * (half_lag + chunk / 2 + 2) / 4;
        let skip = match tiling.skip {
            // Nothing waits for a decoder that is not there.
            _ if self.head == Head::Half => 0,
            Skip::Keep => 32 * (lag + chunk + 2),
            Skip::Recompute => lag + room(THINNEST, 32, 1) + room(chunk + THINNEST, 32, 1),
        };
        let results = chunk.min(Sweep::LOGITS_AT_ONCE) * results;
        (column * (value * (full + half + quarter + mid + skip) + results)) as f64
    }
}

fn longest_window(reach: Reach, axis: usize, length: usize, core: usize) -> usize {
    stretches(reach, axis, length, core)
        .into_iter()
        .map(|stretch| stretch.window_length)
        .max()
        .unwrap_or(0)
}

/// The sensible cores of an axis: for each number of tiles, the smallest that needs no more.
fn cores(length: usize) -> Vec<usize> {
    let blocks = length.div_ceil(SIDE_MULTIPLE);
    let mut cores: Vec<usize> = (1..=blocks)
        .map(|tiles| blocks.div_ceil(tiles) * SIDE_MULTIPLE)
        .collect();
    cores.dedup();
    cores
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn precisions() -> impl Strategy<Value = Precision> {
        prop::sample::select(vec![Precision::F32, Precision::Bf16])
    }

    fn heads() -> impl Strategy<Value = Head> {
        prop::sample::select(vec![Head::Full, Head::Half])
    }

    proptest! {
        #[test]
        fn cores_make_the_axis_and_windows_reach_far_enough(
            precision in precisions(),
            axis in 0..3usize,
            length in 1..800usize,
            blocks in 1..60usize,
        ) {
            let reach = Reach::of(precision);
            let (needed, origin) = (precision.influence()[axis], precision.origin_multiple()[axis]);
            let padded = length.next_multiple_of(4);
            let mut next = 0;
            for s in stretches(reach, axis, length, blocks * 4) {
                prop_assert_eq!(s.core, next);
                next += s.core_length;
                prop_assert!(s.window % origin == 0 && s.window_length % 4 == 0);
                prop_assert!(s.window == 0 || s.core - s.window >= needed.before);
                let end = s.window + s.window_length;
                prop_assert!(end == padded || end - next >= needed.after);
                let r = s.reversed(reach, axis, length);
                prop_assert_eq!((r.core + r.core_length, r.core_length), (length - s.core, s.core_length));
                prop_assert!(r.window % origin == 0 && r.window_length % 4 == 0);
                prop_assert!(r.window == 0 || r.core - r.window >= needed.before);
                let (end, core_end) = (r.window + r.window_length, r.core + r.core_length);
                prop_assert!(end == padded || (end < padded && end - core_end >= needed.after));
            }
            prop_assert_eq!(next, length);
        }

        #[test]
        fn chosen_tilings_fit_where_any_does(
            precision in precisions(),
            head in heads(),
            shape in [1..300usize, 1..700usize, 1..700usize],
            mebibytes in 100..4000usize,
        ) {
            let demand = Demand {
                shape,
                bytes: mebibytes << 20,
                bytes_per_waiting_voxel: 53,
                bytes_per_core_voxel: 0,
                classes: 13,
                precision,
                head,
            };
            let tiling = demand.tiling();
            prop_assert!(tiling.core.iter().all(|side| side % 4 == 0) && tiling.chunk.is_multiple_of(2));
            let smallest = Tiling { core: [4; 3], chunk: THINNEST, skip: Skip::Recompute, reach: demand.reach() };
            if demand.workspace(smallest) <= demand.bytes as f64 {
                prop_assert!(demand.workspace(tiling) <= demand.bytes as f64);
            }
        }
    }

    #[test]
    fn what_fits_is_not_cut() {
        let demand = |shape| Demand {
            shape,
            bytes: 1 << 30,
            bytes_per_waiting_voxel: 1,
            bytes_per_core_voxel: 0,
            classes: 13,
            precision: Precision::F32,
            head: Head::Full,
        };
        let tiling = demand([96, 112, 128]).tiling();
        assert!(tiling.core == [96, 112, 128], "{tiling:?}");
        // A tomogram of the usual size: margins cost less than a quarter of it.
        let shape = [200, 512, 512];
        let bytes = crate::SegmentParams::default().workspace_bytes;
        let tiling = Demand {
            bytes,
            bytes_per_waiting_voxel: 0,
            ..demand(shape)
        }
        .tiling();
        // Where scores wait, cores are smaller.
        let averaged = Demand {
            bytes,
            bytes_per_waiting_voxel: 0,
            bytes_per_core_voxel: 53,
            ..demand(shape)
        };
        let [z, y, x] = averaged.tiling().core;
        assert!(53 * z * y * x <= bytes && z * y * x > 1 << 20, "{z} {y} {x}");
        let computed = |tiling: Tiling| -> usize {
            let axes = 0..3;
            axes.map(|axis| {
                let windows = stretches(tiling.reach, axis, shape[axis], tiling.core[axis]).into_iter();
                windows.map(|s| s.window_length).sum::<usize>()
            })
            .product()
        };
        let voxels: usize = shape.iter().product();
        let found = computed(tiling);
        assert!(found < voxels * 5 / 4, "{tiling:?} computes {found}");
        // In bf16 more fits, also thicker chunks beside the skip.
        let halves = Demand {
            bytes,
            bytes_per_waiting_voxel: 0,
            precision: Precision::Bf16,
            ..demand(shape)
        };
        let tiling = halves.tiling();
        let found = computed(tiling);
        assert!(found < voxels * 5 / 4, "{tiling:?} computes {found}");
        assert!(tiling.chunk >= 8 && tiling.skip == Skip::Keep, "{tiling:?}");
        // A network that ends on the half level needs less, and keeps nothing.
        let half = Demand {
            head: Head::Half,
            ..halves
        };
        assert!(half.workspace(tiling) < 0.7 * halves.workspace(tiling));
        assert!(computed(half.tiling()) <= found);
    }
}
