use candle_conv3d::{Transfers, add_softmax_channels, channels_last_zeros};
use candle_core::{DType, Tensor};
use deepfinder_core::{Progress, Region};
use deepfinder_net::{Skip, Sweep, UNet};

use crate::Result;
use crate::output::{Piece, ranges};
use crate::streams::{Source, Window};
use crate::tiling::{Reach, Stretch, THINNEST};

/// A way to look at the tomogram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub net: &'a UNet,
    /// Turned by 180° about y.
    pub turned: bool,
}

/// What all tiles share.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Of the tomogram.
    pub shape: [usize; 3],
    pub transfers: &'a Transfers,
    pub progress: &'a dyn Progress,
}

/// Where the planes of a tile go.
struct Pass<'a, F> {
    /// Planes of the core that have gone there.
    given: &'a mut usize,
    /// What will be read after the tile.
    next: Option<Window>,
    context: Context<'a>,
    take: &'a mut F,
}

/// A piece of the tomogram that goes through the network by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    pub z: Stretch,
    pub y: Stretch,
    pub x: Stretch,
    /// Of the tomogram turned about y.
    pub turned: bool,
    /// Planes that go through the network at once.
    pub chunk: usize,
    pub skip: Skip,
    pub reach: Reach,
    pub with_scores: bool,
}

impl Tile {
    /// The same core of the tomogram as the view sees it.
    pub(crate) fn seen_by(&self, view: &View<'_>, [depth, _, width]: [usize; 3]) -> Self {
        if !view.turned {
            return *self;
        }
        Self {
            z: self.z.reversed(self.reach, 0, depth),
            x: self.x.reversed(self.reach, 2, width),
            turned: true,
            ..*self
        }
    }

    /// The core's mean scores over all views, and their labels, a few planes at a time, each with its place in the core.
    /// They are added up where the networks are. `next` is what will be read then.
    pub(crate) fn average(
        &self,
        views: &[View<'_>],
        source: &mut Source<'_>,
        next: Option<Window>,
        context: Context<'_>,
        mut take: impl FnMut(usize, Piece) -> Result<()>,
    ) -> Result<()> {
        let Some(first) = views.first() else {
            return Ok(());
        };
        let seen = |view: &View<'_>| self.seen_by(view, context.shape);
        let planes = self.z.core_length;
        let shape = [
            1,
            first.net.classes(),
            planes,
            self.y.core_length,
            self.x.core_length,
        ];
        let device = first.net.device();
        let sums = channels_last_zeros(shape, DType::F32, device)?;
        for (index, view) in views.iter().enumerate() {
            let next = views
                .get(index + 1)
                .map(|view| seen(view).first_window())
                .or(next);
            seen(view).walk(view.net, source, next, context, |first, logits, part| {
                let depth = part.shape[0];
                let to = if view.turned {
                    planes - first - depth
                } else {
                    first
                };
                Ok(add_softmax_channels(
                    &sums,
                    logits,
                    &ranges(&part),
                    to,
                    view.turned,
                )?)
            })?;
        }
        let count = Tensor::new(&[views.len() as f32], device)?;
        for first in (0..planes).step_by(Sweep::LOGITS_AT_ONCE) {
            let planes = Sweep::LOGITS_AT_ONCE.min(planes - first);
            // As it lies in memory.
            let sums = sums.narrow(2, first, planes)?.permute((0, 2, 3, 4, 1))?;
            let means = sums.broadcast_div(&count)?.permute((0, 4, 1, 2, 3))?;
            take(
                first,
                Piece::of_scores(&means, self.with_scores, context.transfers)?,
            )?;
        }
        Ok(())
    }

    /// Gives the planes of its core in order, each with its place in the core.
    pub(crate) fn run(
        &self,
        net: &UNet,
        source: &mut Source<'_>,
        next: Option<Window>,
        context: Context<'_>,
        mut take: impl FnMut(usize, Piece) -> Result<()>,
    ) -> Result<()> {
        self.walk(net, source, next, context, |first, logits, part| {
            let piece = Piece::of_logits(logits, part, self.with_scores, context.transfers)?;
            take(first, piece)
        })
    }

    /// Sweeps over the tile along z and gives logits with the box of them that belongs to the core, in order, each with its
    /// first plane in the core. Where memory runs out it begins anew with fewer planes at once, and goes on giving where
    /// it was.
    fn walk(
        &self,
        net: &UNet,
        source: &mut Source<'_>,
        next: Option<Window>,
        context: Context<'_>,
        mut take: impl FnMut(usize, &Tensor, Region) -> Result<()>,
    ) -> Result<()> {
        let (mut chunk, mut skip) = (self.chunk, self.skip);
        let mut given = 0;
        loop {
            let mut pass = Pass {
                given: &mut given,
                next,
                context,
                take: &mut take,
            };
            match self.sweep(net, source, chunk, skip, &mut pass) {
                Err(error) if error.is_out_of_memory() && chunk > THINNEST => {
                    chunk = (chunk.min(self.z.window_length) / 2).next_multiple_of(THINNEST);
                }
                Err(error) if error.is_out_of_memory() && skip == Skip::Keep => skip = Skip::Recompute,
                result => return result,
            }
        }
    }

    fn sweep(
        &self,
        net: &UNet,
        source: &mut Source<'_>,
        chunk: usize,
        skip: Skip,
        pass: &mut Pass<'_, impl FnMut(usize, &Tensor, Region) -> Result<()>>,
    ) -> Result<()> {
        let z = self.z;
        let window_end = z.window + z.window_length;
        let mut sweep = net.sweep(skip)?;
        let mut decided = z.window;
        let mut window = self.window(z.window, chunk);
        loop {
            pass.context.progress.check()?;
            let end = window.start[0] + window.shape[0];
            let is_last = end == window_end;
            let next = (!is_last).then(|| self.window(end, chunk));
            let voxels = source.read(window, next.or(pass.next))?;
            sweep.push(&voxels, is_last, |logits| {
                let first = decided;
                decided += logits.dim(2)?;
                self.give(&logits, first, pass)
            })?;
            match next {
                Some(next) => window = next,
                None => return Ok(()),
            }
        }
    }

    /// As many planes of the window as go through the network at once, from plane `first` on.
    fn window(&self, first: usize, chunk: usize) -> Window {
        let planes = chunk.min(self.z.window + self.z.window_length - first);
        Window {
            turned: self.turned,
            start: [first, self.y.window, self.x.window],
            shape: [planes, self.y.window_length, self.x.window_length],
        }
    }

    /// What is read of it first.
    pub(crate) fn first_window(&self) -> Window {
        self.window(self.z.window, self.chunk)
    }

    pub(crate) fn window_voxels(&self) -> usize {
        self.z.window_length * self.y.window_length * self.x.window_length
    }

    /// Passes on what belongs to the core, and has not been given yet, of logits from plane `first` on.
    fn give(
        &self,
        logits: &Tensor,
        first: usize,
        pass: &mut Pass<'_, impl FnMut(usize, &Tensor, Region) -> Result<()>>,
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
        (pass.take)(part.start - z.core, logits, region)?;
        *pass.given = part.end - z.core;
        pass.context.progress.advance(region.voxels() as u64);
        Ok(())
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
    use crate::input::Input;
    use crate::streams::{Pace, stream};
    use crate::tiling::stretches;

    /// Labels of a tile whose memory runs out where `full` says so: at that call, with that many planes at once.
    fn labels_of_tile(pace: Pace, mut full: impl FnMut(usize) -> bool + Send) -> (Vec<usize>, Vec<u8>) {
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
            turned: false,
            chunk: 8,
            skip: Skip::Keep,
            reach,
            with_scores: false,
        };
        let transfers = Transfers::new(&Device::Cpu);
        let context = Context {
            shape: input.shape(),
            transfers: &transfers,
            progress: &NoProgress,
        };
        let (mut calls, mut firsts, mut labels) = (0, Vec::new(), Vec::new());
        let put = |first: &usize, piece: Piece| {
            firsts.push(*first);
            labels.extend(piece.wait()?.labels);
            Ok(())
        };
        stream(pace, &input, &transfers, put, |source, put| {
            // What it believes comes next is never asked for.
            tile.run(
                &net,
                source,
                Some(tile.first_window()),
                context,
                |first, piece| {
                    calls += 1;
                    if full(calls) {
                        let said = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into();
                        return Err(InferError::Tensor(candle_core::Error::Cuda(said)));
                    }
                    put(first, piece)
                },
            )
        })
        .unwrap();
        (firsts, labels)
    }

    #[test]
    fn a_tile_goes_on_where_memory_ran_out() {
        let (_, expected) = labels_of_tile(Pace::InTurn, |_| false);
        assert_eq!(expected.len(), 24 * 8 * 8);
        for pace in [Pace::InTurn, Pace::Beside] {
            for when in [&[][..], &[1], &[2], &[1, 2, 3], &[2, 4]] {
                let (firsts, labels) = labels_of_tile(pace, |call| when.contains(&call));
                assert!(firsts.is_sorted_by(|a, b| a < b), "{pace:?} {when:?}: {firsts:?}");
                assert_eq!(labels, expected, "{pace:?} {when:?}");
            }
        }
    }

    #[test]
    fn other_errors_are_not_retried() {
        let error = InferError::Tensor(candle_core::Error::Msg("no".to_owned()));
        assert!(!error.is_out_of_memory());
    }
}
