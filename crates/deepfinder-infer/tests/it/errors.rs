use std::sync::atomic::{AtomicU64, Ordering};

use deepfinder_core::{
    CancelToken, CoreError, NoProgress, Progress, Region, Volume, VolumeReader, VolumeWriter, VoxelSize,
};
use deepfinder_infer::{InferError, Plan, SegmentParams, segment};
use ndarray::{Array3, ArrayView3};

use crate::{net, noise};

fn error(tomogram: &dyn VolumeReader<f32>, plan: Plan) -> InferError {
    let params = SegmentParams {
        plan,
        ..SegmentParams::default()
    };
    let mut labels: Vec<Array3<u8>> = Vec::new();
    let error = segment(&net(), tomogram, &params, &mut labels, &mut [], &NoProgress).unwrap_err();
    assert!(labels.is_empty(), "something was written before the error");
    error
}

#[test]
fn unusable_tomograms_are_refused() {
    let exact = Plan::default();
    let constant = Volume::new(Array3::from_elem((4, 5, 6), 0.7));
    assert!(matches!(error(&constant, exact), InferError::Constant { .. }));
    let empty = Volume::new(Array3::zeros((0, 5, 6)));
    assert!(matches!(error(&empty, exact), InferError::Empty { .. }));
    let mut broken = noise([4, 5, 6], 1);
    broken.voxels[[1, 2, 3]] = f32::NAN;
    broken.voxels[[3, 0, 0]] = f32::INFINITY;
    let error = error(&broken, exact);
    assert!(
        matches!(
            error,
            InferError::NonFinite {
                non_finite: 2,
                voxels: 120
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("replace them"));
}

#[test]
fn unusable_plans_are_refused() {
    let tomogram = noise([20, 40, 40], 1);
    for tile in [[0, 8, 8], [8, 6, 8], [8, 8, 1]] {
        let plan = Plan::Exact { tile: Some(tile) };
        assert!(matches!(error(&tomogram, plan), InferError::Tile { .. }));
    }
    for patch in [0, 4, 52, 54, 57, 81] {
        let plan = Plan::Reference { patch };
        assert!(
            matches!(error(&tomogram, plan), InferError::Patch { .. }),
            "{patch}"
        );
    }
    let error = error(&tomogram, Plan::Reference { patch: 72 });
    assert!(
        matches!(
            error,
            InferError::PatchTooLarge {
                padded: [70, 90, 90],
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn score_maps_are_none_or_one_per_class() {
    let mut map: Vec<Array3<f32>> = Vec::new();
    let mut labels: Vec<Array3<u8>> = Vec::new();
    let tomogram = noise([4, 4, 4], 1);
    let params = SegmentParams::default();
    let result = segment(
        &net(),
        &tomogram,
        &params,
        &mut labels,
        &mut [&mut map],
        &NoProgress,
    );
    assert!(matches!(
        result,
        Err(InferError::ScoreMaps {
            expected: 3,
            found: 1
        })
    ));
}

/// A writer that has no room, or asks to stop.
struct Full<'a>(Option<&'a CancelToken>);

impl VolumeWriter<u8> for Full<'_> {
    fn write_slab(&mut self, _planes: ArrayView3<'_, u8>) -> deepfinder_core::Result<()> {
        match self.0 {
            Some(token) => {
                token.cancel();
                Ok(())
            }
            None => Err(CoreError::Stream {
                what: "labels.mrc".to_owned(),
                source: "the disk is full".into(),
            }),
        }
    }
}

#[test]
fn cancelling_ends_the_work() {
    let tomogram = noise([8, 6, 6], 1);
    // Each plan has planes left to compute when the first ones are written.
    for plan in [
        Plan::Exact {
            tile: Some([4, 8, 8]),
        },
        Plan::Reference { patch: 56 },
    ] {
        let params = SegmentParams {
            plan,
            ..SegmentParams::default()
        };
        let before = CancelToken::default();
        before.cancel();
        let mut labels: Vec<Array3<u8>> = Vec::new();
        let result = segment(&net(), &tomogram, &params, &mut labels, &mut [], &before);
        assert!(matches!(result, Err(InferError::Core(CoreError::Cancelled))));
        assert!(labels.is_empty());

        let token = CancelToken::default();
        let result = segment(
            &net(),
            &tomogram,
            &params,
            &mut Full(Some(&token)),
            &mut [],
            &token,
        );
        assert!(matches!(result, Err(InferError::Core(CoreError::Cancelled))));
    }
}

#[test]
fn writers_errors_come_through() {
    let tomogram = noise([4, 4, 4], 1);
    let params = SegmentParams::default();
    let result = segment(&net(), &tomogram, &params, &mut Full(None), &mut [], &NoProgress);
    assert!(matches!(result, Err(InferError::Core(CoreError::Stream { .. }))));
}

/// Counts what is read and reported.
#[derive(Default)]
struct Watch {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Watch {
    fn begin(&self, _what: &str, total: u64, _unit: &'static str) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }
}

#[test]
fn progress_reaches_its_end() {
    let tomogram = noise([21, 18, 9], 1);
    for tile in [None, Some([8, 16, 64])] {
        let watch = Watch::default();
        let params = SegmentParams {
            plan: Plan::Exact { tile },
            ..SegmentParams::default()
        };
        let mut labels: Vec<Array3<u8>> = Vec::new();
        segment(&net(), &tomogram, &params, &mut labels, &mut [], &watch).unwrap();
        let [total, done] = [&watch.total, &watch.done].map(|n| n.load(Ordering::Relaxed));
        assert_eq!((total, done), (21 * 18 * 9, total));
    }
}

/// A tomogram that remembers the largest window asked of it.
struct Lazy(Volume<f32>, AtomicU64);

impl VolumeReader<f32> for Lazy {
    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }

    fn voxel_size(&self) -> Option<VoxelSize> {
        None
    }

    fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<f32>> {
        self.1.fetch_max(region.voxels() as u64, Ordering::Relaxed);
        self.0.read_window(region)
    }
}

// The moments are gathered from slabs of many planes: forget those.
struct AfterMoments<'a>(&'a Lazy);
impl Progress for AfterMoments<'_> {
    fn begin(&self, _what: &str, _total: u64, _unit: &'static str) {
        self.0.1.store(0, Ordering::Relaxed);
    }
    fn advance(&self, _steps: u64) {}
}

#[test]
fn the_network_reads_by_windows() {
    let tomogram = Lazy(noise([160, 8, 8], 1), AtomicU64::new(0));
    let params = SegmentParams {
        workspace_bytes: 1,
        ..SegmentParams::default()
    };
    let mut labels: Vec<Array3<u8>> = Vec::new();
    segment(
        &net(),
        &tomogram,
        &params,
        &mut labels,
        &mut [],
        &AfterMoments(&tomogram),
    )
    .unwrap();
    assert_eq!(tomogram.1.load(Ordering::Relaxed), 2 * 8 * 8);
    assert!(labels.len() > 10, "planes are written as they come");
}
