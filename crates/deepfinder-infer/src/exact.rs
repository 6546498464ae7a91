use candle_core::Tensor;
use deepfinder_core::{Progress, Region};
use deepfinder_net::{Skip, UNet};

use crate::Result;
use crate::input::Input;
use crate::output::{Block, Output};
use crate::tiling::{Stretch, Tiling, stretches};

/// What a plan did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Tiles or patches.
    pub tiles: usize,
    /// Voxels that went through the network.
    pub computed_voxels: u64,
}

/// Runs the network over tiles whose margins cover what it looks at.
pub(crate) fn run(
    net: &UNet,
    input: &Input<'_>,
    tiling: Tiling,
    output: &mut Output<'_, '_>,
    progress: &dyn Progress,
) -> Result<Work> {
    let [depth, height, width] = input.shape();
    let [core_z, core_y, core_x] = tiling.core;
    let (rows, columns) = (stretches(1, height, core_y), stretches(2, width, core_x));
    let (classes, windows) = (output.score_maps(), output.takes_windows());
    let tile = |z, y, x| Tile {
        z,
        y,
        x,
        chunk: tiling.chunk,
        skip: tiling.skip,
        with_scores: classes.is_some(),
    };
    let mut work = Work::default();
    progress.begin("segmenting", (depth * height * width) as u64, "voxels");
    for z in stretches(0, depth, core_z) {
        // One tile spans the planes: they can be written as they come.
        if let ([y], [x]) = (&rows[..], &columns[..]) {
            let tile = tile(z, *y, *x);
            tile.run(net, input, progress, |_, block| output.write_block(&block))?;
            tile.count(&mut work);
            continue;
        }
        if windows {
            for (&y, &x) in rows.iter().flat_map(|y| columns.iter().map(move |x| (y, x))) {
                let tile = tile(z, y, x);
                tile.run(net, input, progress, |first, block| {
                    output.write_window([z.core + first, y.core, x.core], &block)
                })?;
                tile.count(&mut work);
            }
            continue;
        }
        let mut slab = Block::zeros([z.core_length, height, width], classes);
        for &y in &rows {
            for &x in &columns {
                let tile = tile(z, y, x);
                tile.run(net, input, progress, |first, block| {
                    slab.insert([first, y.core, x.core], &block);
                    Ok(())
                })?;
                tile.count(&mut work);
            }
        }
        output.write_block(&slab)?;
    }
    progress.end();
    Ok(work)
}

struct Tile {
    z: Stretch,
    y: Stretch,
    x: Stretch,
    chunk: usize,
    skip: Skip,
    with_scores: bool,
}

impl Tile {
    /// Sweeps over the tile along z and gives the planes of its core in order, each with its place in the core.
    fn run(
        &self,
        net: &UNet,
        input: &Input<'_>,
        progress: &dyn Progress,
        mut take: impl FnMut(usize, Block) -> Result<()>,
    ) -> Result<()> {
        let z = self.z;
        let window_end = z.window + z.window_length;
        let mut sweep = net.sweep(self.skip)?;
        let mut decided = z.window;
        for first in (z.window..window_end).step_by(self.chunk) {
            progress.check()?;
            let planes = self.chunk.min(window_end - first);
            let voxels = self.read(net, input, first, planes)?;
            sweep.push(&voxels, first + planes == window_end, |logits| {
                let first = decided;
                decided += logits.dim(2)?;
                self.give(&logits, first, progress, &mut take)
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

    /// Passes on what belongs to the core of logits from plane `first` on.
    fn give(
        &self,
        logits: &Tensor,
        first: usize,
        progress: &dyn Progress,
        take: &mut impl FnMut(usize, Block) -> Result<()>,
    ) -> Result<()> {
        let Self { z, y, x, .. } = self;
        let (core, end) = (z.core..z.core + z.core_length, first + logits.dim(2)?);
        let part = core.start.max(first)..core.end.min(end);
        if part.is_empty() {
            return Ok(());
        }
        let region = Region::new(
            [part.start - first, y.core - y.window, x.core - x.window],
            [part.len(), y.core_length, x.core_length],
        );
        take(
            part.start - core.start,
            Block::of_logits(logits, region, self.with_scores)?,
        )?;
        progress.advance(region.voxels() as u64);
        Ok(())
    }

    fn count(&self, work: &mut Work) {
        work.tiles += 1;
        let voxels = self.z.window_length * self.y.window_length * self.x.window_length;
        work.computed_voxels += voxels as u64;
    }
}
