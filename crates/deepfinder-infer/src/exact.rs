use candle_core::Tensor;
use deepfinder_core::{Progress, Region};
use deepfinder_net::{Skip, UNet};
use ndarray::{Array4, Axis, s};

use crate::Result;
use crate::input::Input;
use crate::output::{Block, Output, labels_of};
use crate::tiling::{Reach, Stretch, THINNEST, Tiling, stretches};

/// What a plan did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Tiles or patches.
    pub tiles: usize,
    /// Voxels that went through the network.
    pub computed_voxels: u64,
}

/// A way to look at the tomogram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub net: &'a UNet,
    /// Turned by 180° about y.
    pub turned: bool,
}

/// Whether the result is what a single network gives; else scores are averaged over the views.
pub(crate) fn is_single(views: &[View<'_>]) -> bool {
    matches!(views, [View { turned: false, .. }])
}

/// Runs the networks over tiles whose margins cover what they look at.
pub(crate) fn run(
    views: &[View<'_>],
    input: &Input<'_>,
    tiling: Tiling,
    output: &mut Output<'_, '_>,
    progress: &dyn Progress,
) -> Result<Work> {
    let [depth, height, width] = input.shape();
    let [core_z, core_y, core_x] = tiling.core;
    let (rows, columns) = (
        stretches(tiling.reach, 1, height, core_y),
        stretches(tiling.reach, 2, width, core_x),
    );
    let (classes, windows) = (output.score_maps(), output.takes_windows());
    let tile = |z, y, x| Tile {
        z,
        y,
        x,
        chunk: tiling.chunk,
        skip: tiling.skip,
        reach: tiling.reach,
        with_scores: classes.is_some(),
    };
    let run = |tile: &Tile, take: &mut dyn FnMut(usize, Block) -> Result<()>| match views {
        [View { net, turned: false }] => tile.run(net, input, progress, take),
        _ => take(0, tile.average(views, input, progress)?),
    };
    let mut work = Work::default();
    let voxels = depth * height * width * views.len();
    progress.begin("segmenting", voxels as u64, "voxels");
    for z in stretches(tiling.reach, 0, depth, core_z) {
        // One tile spans the planes: they can be written as they come.
        if let ([y], [x]) = (&rows[..], &columns[..]) {
            let tile = tile(z, *y, *x);
            run(&tile, &mut |_, block| output.write_block(&block))?;
            tile.count(views.len(), &mut work);
            continue;
        }
        if windows {
            for (&y, &x) in rows.iter().flat_map(|y| columns.iter().map(move |x| (y, x))) {
                let tile = tile(z, y, x);
                run(&tile, &mut |first, block| {
                    output.write_window([z.core + first, y.core, x.core], &block)
                })?;
                tile.count(views.len(), &mut work);
            }
            continue;
        }
        let mut slab = Block::zeros([z.core_length, height, width], classes);
        for &y in &rows {
            for &x in &columns {
                let tile = tile(z, y, x);
                run(&tile, &mut |first, block| {
                    slab.insert([first, y.core, x.core], &block);
                    Ok(())
                })?;
                tile.count(views.len(), &mut work);
            }
        }
        output.write_block(&slab)?;
    }
    progress.end();
    Ok(work)
}

/// Where the planes of a tile go.
struct Pass<'a, F> {
    /// Planes of the core that have gone there.
    given: &'a mut usize,
    progress: &'a dyn Progress,
    take: &'a mut F,
}

#[derive(Debug, Clone, Copy)]
struct Tile {
    z: Stretch,
    y: Stretch,
    x: Stretch,
    chunk: usize,
    skip: Skip,
    reach: Reach,
    with_scores: bool,
}

impl Tile {
    /// The core's mean scores over all views, and their labels.
    fn average(&self, views: &[View<'_>], input: &Input<'_>, progress: &dyn Progress) -> Result<Block> {
        let [depth, _, width] = input.shape();
        let (straight, turned_input) = (
            Self {
                with_scores: true,
                ..*self
            },
            input.half_turned(),
        );
        let turned = Self {
            z: self.z.reversed(self.reach, 0, depth),
            x: self.x.reversed(self.reach, 2, width),
            ..straight
        };
        let classes = views.first().map_or(0, |view| view.net.classes());
        let planes = self.z.core_length;
        let mut sums = Array4::<f32>::zeros((classes, planes, self.y.core_length, self.x.core_length));
        for view in views {
            let (tile, input) = if view.turned {
                (turned, &turned_input)
            } else {
                (straight, input)
            };
            tile.run(view.net, input, progress, |first, block| {
                let Some(mut scores) = block.scores else {
                    return Ok(());
                };
                let mut place = first..first + scores.dim().1;
                if view.turned {
                    scores.invert_axis(Axis(1));
                    scores.invert_axis(Axis(3));
                    place = planes - place.end..planes - place.start;
                }
                let mut sums = sums.slice_mut(s![.., place, .., ..]);
                sums += &scores;
                Ok(())
            })?;
        }
        sums /= views.len() as f32;
        Ok(Block {
            labels: labels_of(&sums.view()),
            scores: self.with_scores.then_some(sums),
        })
    }

    /// Sweeps over the tile along z and gives the planes of its core in order, each with its place in the core. Where
    /// memory runs out it begins anew with fewer planes at once, and goes on giving where it was.
    fn run(
        &self,
        net: &UNet,
        input: &Input<'_>,
        progress: &dyn Progress,
        mut take: impl FnMut(usize, Block) -> Result<()>,
    ) -> Result<()> {
        let (mut chunk, mut skip) = (self.chunk.min(self.z.window_length), self.skip);
        let mut given = 0;
        loop {
            let mut pass = Pass {
                given: &mut given,
                progress,
                take: &mut take,
            };
            match self.sweep(net, input, chunk, skip, &mut pass) {
                Err(error) if error.is_out_of_memory() && chunk > THINNEST => {
                    chunk = (chunk / 2).next_multiple_of(THINNEST);
                }
                Err(error) if error.is_out_of_memory() && skip == Skip::Keep => skip = Skip::Recompute,
                result => return result,
            }
        }
    }

    fn sweep(
        &self,
        net: &UNet,
        input: &Input<'_>,
        chunk: usize,
        skip: Skip,
        pass: &mut Pass<'_, impl FnMut(usize, Block) -> Result<()>>,
    ) -> Result<()> {
        let z = self.z;
        let window_end = z.window + z.window_length;
        let mut sweep = net.sweep(skip)?;
        let mut decided = z.window;
        for first in (z.window..window_end).step_by(chunk) {
            pass.progress.check()?;
            let planes = chunk.min(window_end - first);
            let voxels = self.read(net, input, first, planes)?;
            sweep.push(&voxels, first + planes == window_end, |logits| {
                let first = decided;
                decided += logits.dim(2)?;
                self.give(&logits, first, pass)
            })?;
        }
        Ok(())
    }

    /// Planes of the window.
    fn read(&self, net: &UNet, input: &Input<'_>, first: usize, planes: usize) -> Result<Tensor> {
        input.read(
            [first, self.y.window, self.x.window].map(|voxel| voxel as isize),
            [planes, self.y.window_length, self.x.window_length],
            net.device(),
        )
    }

    /// Passes on what belongs to the core, and has not been given yet, of logits from plane `first` on.
    fn give(
        &self,
        logits: &Tensor,
        first: usize,
        pass: &mut Pass<'_, impl FnMut(usize, Block) -> Result<()>>,
    ) -> Result<()> {
        let Self { z, y, x, .. } = self;
        let (core, end) = (
            z.core + *pass.given..z.core + z.core_length,
            first + logits.dim(2)?,
        );
        let part = core.start.max(first)..core.end.min(end);
        if part.is_empty() {
            return Ok(());
        }
        let region = Region::new(
            [part.start - first, y.core - y.window, x.core - x.window],
            [part.len(), y.core_length, x.core_length],
        );
        let block = Block::of_logits(logits, region, self.with_scores)?;
        (pass.take)(part.start - z.core, block)?;
        *pass.given = part.end - z.core;
        pass.progress.advance(region.voxels() as u64);
        Ok(())
    }

    /// The same tile turned has windows of nearly the same size.
    fn count(&self, views: usize, work: &mut Work) {
        work.tiles += 1;
        let voxels = self.z.window_length * self.y.window_length * self.x.window_length;
        work.computed_voxels += (views * voxels) as u64;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use deepfinder_core::{NoProgress, Volume};
    use deepfinder_net::{Metadata, Weights};
    use ndarray::Array3;

    use super::*;
    use crate::InferError;

    /// Labels of a tile whose memory runs out where `full` says so: at that call, with that many planes at once.
    fn labels_of_tile(mut full: impl FnMut(usize) -> bool) -> (Vec<usize>, Vec<u8>) {
        let weights = Weights::initial(3, 1, Metadata::for_classes(["a", "b"])).unwrap();
        let net = UNet::new(&weights, &Device::Cpu).unwrap();
        let voxels = Array3::from_shape_fn((24, 8, 8), |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 13) as f32);
        let tomogram = Volume::new(voxels);
        let input = Input::new(&tomogram, &NoProgress).unwrap();
        let reach = Reach::of(net.precision());
        let tile = Tile {
            z: stretches(reach, 0, 24, 24)[0],
            y: stretches(reach, 1, 8, 8)[0],
            x: stretches(reach, 2, 8, 8)[0],
            chunk: 8,
            skip: Skip::Keep,
            reach,
            with_scores: false,
        };
        let (mut calls, mut firsts, mut labels) = (0, Vec::new(), Vec::new());
        tile.run(&net, &input, &NoProgress, |first, block| {
            calls += 1;
            if full(calls) {
                let said = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into();
                return Err(InferError::Tensor(candle_core::Error::Cuda(said)));
            }
            firsts.push(first);
            labels.extend(block.labels);
            Ok(())
        })
        .unwrap();
        (firsts, labels)
    }

    #[test]
    fn a_tile_goes_on_where_memory_ran_out() {
        let (_, expected) = labels_of_tile(|_| false);
        assert_eq!(expected.len(), 24 * 8 * 8);
        for when in [&[1][..], &[2], &[1, 2, 3], &[2, 4]] {
            let (firsts, labels) = labels_of_tile(|call| when.contains(&call));
            assert!(firsts.is_sorted_by(|a, b| a < b), "{when:?}: {firsts:?}");
            assert_eq!(labels, expected, "{when:?}");
        }
    }

    #[test]
    fn other_errors_are_not_retried() {
        let error = InferError::Tensor(candle_core::Error::Msg("no".to_owned()));
        assert!(!error.is_out_of_memory());
    }
}
