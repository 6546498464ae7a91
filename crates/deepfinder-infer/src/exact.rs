use candle_conv3d::Transfers;
use deepfinder_core::Progress;

use crate::input::Input;
use crate::output::{Block, Output, Piece};
use crate::streams::{Pace, stream};
use crate::tile::{Context, Tile, View};
use crate::tiling::{Tiling, stretches};
use crate::{InferError, Result};

/// What a plan did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Tiles or patches.
    pub tiles: usize,
    /// Voxels that went through the network.
    pub computed_voxels: u64,
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
    pace: Pace,
    output: &mut Output<'_, '_>,
    progress: &dyn Progress,
) -> Result<Work> {
    let Some(first_view) = views.first() else {
        return Err(InferError::NoNetwork);
    };
    let [depth, height, width] = input.shape();
    let classes = output.score_maps();
    let along = |axis, length| stretches(tiling.reach, axis, length, tiling.core[axis]);
    let (rows, columns) = (along(1, height), along(2, width));
    let mut tiles = Vec::new();
    for z in along(0, depth) {
        for &y in &rows {
            tiles.extend(columns.iter().map(|&x| Tile {
                z,
                y,
                x,
                turned: false,
                chunk: tiling.chunk,
                skip: tiling.skip,
                reach: tiling.reach,
                with_scores: classes.is_some(),
            }));
        }
    }
    let order = if rows.len() == 1 && columns.len() == 1 {
        Order::Planes
    } else if output.takes_windows() {
        Order::Windows
    } else {
        Order::Slabs(None)
    };
    let mut placement = Placement {
        output,
        order,
        plane: [height, width],
        classes,
    };
    let voxels = depth * height * width * views.len();
    progress.begin("segmenting", voxels as u64, "voxels");
    let transfers = Transfers::new(first_view.net.device());
    let context = Context {
        shape: input.shape(),
        transfers: &transfers,
        progress,
    };
    stream(
        pace,
        input,
        &transfers,
        |(tile, first): &(Tile, usize), piece| placement.put(tile, *first, piece),
        |source, put| {
            for (index, tile) in tiles.iter().enumerate() {
                let next = tiles.get(index + 1);
                let next = next.map(|tile| tile.seen_by(first_view, context.shape).first_window());
                if let [View { net, turned: false }] = views {
                    let put = |first, piece| put((*tile, first), piece);
                    tile.run(net, source, next, context, put)?;
                } else {
                    let put = |first, piece| put((*tile, first), piece);
                    tile.average(views, source, next, context, put)?;
                }
            }
            Ok(())
        },
    )?;
    progress.end();
    let windows = tiles.iter().map(|tile| views.len() * tile.window_voxels());
    Ok(Work {
        tiles: tiles.len(),
        computed_voxels: windows.sum::<usize>() as u64,
    })
}

/// Where the pieces of tiles go, in the order of the tiles.
struct Placement<'o, 'a, 'b> {
    output: &'o mut Output<'a, 'b>,
    order: Order,
    /// Height and width of the tomogram.
    plane: [usize; 2],
    /// Scores per voxel, where they are wanted.
    classes: Option<usize>,
}

/// How pieces are written.
enum Order {
    /// One tile spans the planes: they can be written as they come.
    Planes,
    /// Each where it belongs.
    Windows,
    /// Planes wait until the tiles beside them are there.
    Slabs(Option<Block>),
}

impl Placement<'_, '_, '_> {
    /// A piece of a tile, from that plane of its core on.
    fn put(&mut self, tile: &Tile, first: usize, piece: Piece) -> Result<()> {
        let block = piece.wait()?;
        let Tile { z, y, x, .. } = tile;
        match &mut self.order {
            Order::Planes => self.output.write_block(&block),
            Order::Windows => {
                let start = [z.core + first, y.core, x.core];
                self.output.write_window(start, &block)
            }
            Order::Slabs(slab) => {
                let [height, width] = self.plane;
                let slab_of_tile =
                    slab.get_or_insert_with(|| Block::zeros([z.core_length, height, width], self.classes));
                slab_of_tile.insert([first, y.core, x.core], &block);
                let is_last = first + block.labels.dim().0 == z.core_length
                    && y.core + y.core_length == height
                    && x.core + x.core_length == width;
                match slab.take_if(|_| is_last) {
                    Some(slab) => self.output.write_block(&slab),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use candle_core::Device;
    use deepfinder_core::{
        CancelToken, CoreError, NoProgress, Region, Volume, VolumeReader, VolumeWriter, VoxelSize,
    };
    use deepfinder_net::{Metadata, Skip, UNet, Weights};
    use ndarray::{Array3, ArrayView3};

    use super::*;
    use crate::tiling::Reach;

    fn net(seed: u64) -> UNet {
        let weights = Weights::initial(3, seed, Metadata::for_classes(["a", "b"])).unwrap();
        UNet::new(&weights, &Device::Cpu).unwrap()
    }

    fn tomogram([depth, height, width]: [usize; 3]) -> Volume<f32> {
        let voxel = |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 13) as f32;
        Volume::new(Array3::from_shape_fn((depth, height, width), voxel))
    }

    /// Labels and score maps as they were written.
    type Written = (Vec<Array3<u8>>, Vec<Vec<Array3<f32>>>);

    /// All that is written of a tomogram that is cut along each axis.
    fn written(
        pace: Pace,
        views: &[View<'_>],
        tomogram: &dyn VolumeReader<f32>,
        progress: &dyn Progress,
    ) -> Result<Written> {
        let input = Input::new(tomogram, &NoProgress)?;
        let (mut labels, mut scores) = (Vec::new(), vec![Vec::new(); 3]);
        let mut maps: Vec<&mut dyn VolumeWriter<f32>> = scores.iter_mut().map(|map| map as _).collect();
        let mut output = Output::new(&mut labels, &mut maps, 3);
        let tiling = Tiling {
            core: [8, 12, 8],
            chunk: 4,
            skip: Skip::Recompute,
            reach: Reach::of(views[0].net.precision()),
        };
        run(views, &input, tiling, pace, &mut output, progress)?;
        Ok((labels, scores))
    }

    #[test]
    fn reading_and_writing_beside_the_network_change_nothing() {
        let (one, other) = (net(1), net(2));
        let view = |net, turned| View { net, turned };
        let tomogram = tomogram([20, 16, 12]);
        for views in [
            &[view(&one, false)][..],
            &[view(&one, true), view(&other, false), view(&one, false)],
        ] {
            let of = |pace| written(pace, views, &tomogram, &NoProgress).unwrap();
            let (labels, scores) = of(Pace::InTurn);
            assert_eq!(labels.iter().map(Array3::len).sum::<usize>(), 20 * 16 * 12);
            assert!(of(Pace::Beside) == (labels, scores));
        }
    }

    /// A tomogram that can be read three times, and a result that cannot be written.
    struct Broken(Volume<f32>, AtomicUsize);

    impl VolumeReader<f32> for Broken {
        fn shape(&self) -> [usize; 3] {
            self.0.shape()
        }

        fn voxel_size(&self) -> Option<VoxelSize> {
            None
        }

        fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<f32>> {
            if self.1.fetch_add(1, Ordering::Relaxed) == 3 {
                return Err(failure("torn"));
            }
            self.0.read_window(region)
        }
    }

    impl VolumeWriter<u8> for Broken {
        fn write_slab(&mut self, _: ArrayView3<'_, u8>) -> deepfinder_core::Result<()> {
            Err(failure("full"))
        }
    }

    fn failure(what: &str) -> CoreError {
        CoreError::Stream {
            what: what.to_owned(),
            source: std::io::Error::other("on purpose").into(),
        }
    }

    #[test]
    fn what_fails_beside_the_network_is_said() {
        let net = net(1);
        let views = [View {
            net: &net,
            turned: false,
        }];
        let whole = tomogram([20, 16, 12]);
        let said = |error: InferError| error.to_string();
        for pace in [Pace::InTurn, Pace::Beside] {
            let torn = Broken(whole.clone(), AtomicUsize::new(0));
            let error = said(written(pace, &views, &torn, &NoProgress).unwrap_err());
            assert!(error.contains("torn"), "{pace:?}: {error}");
            let cancelled = CancelToken::default();
            cancelled.cancel();
            let error = written(pace, &views, &whole, &cancelled).unwrap_err();
            assert!(
                matches!(error, InferError::Core(CoreError::Cancelled)),
                "{error:?}"
            );

            let input = Input::new(&whole, &NoProgress).unwrap();
            let (mut full, mut none) = (Broken(whole.clone(), AtomicUsize::new(0)), []);
            let mut output = Output::new(&mut full, &mut none, 3);
            let tiling = Tiling {
                core: [4, 16, 12],
                chunk: 4,
                skip: Skip::Keep,
                reach: Reach::of(net.precision()),
            };
            let error = run(&views, &input, tiling, pace, &mut output, &NoProgress)
                .err()
                .unwrap();
            assert!(said(error).contains("full"), "{pace:?}");
        }
    }
}
