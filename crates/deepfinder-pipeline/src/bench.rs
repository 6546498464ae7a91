use std::{path::Path, sync::Arc, time::Instant};

use candle_core::Device;
use deepfinder_core::{Label, Particle, ParticleList, Progress, Volume};
use deepfinder_infer::{SegmentParams, segment};
use deepfinder_net::{Head, Metadata, Precision, UNet, Weights};
use deepfinder_train::{RunFolder, Start, TrainParams, TrainingTomogram, train_on};
use ndarray::Array3;
use serde::Serialize;

use crate::device::check_shared_training;
use crate::error::OnFile;
use crate::{PipelineError, Result, device_list, precision};

/// What to measure. The defaults are sizes that other programs' figures are given for.
#[derive(Debug, Clone)]
pub struct BenchJob {
    /// Where the network runs, as `--device` says it; on several, training alone is measured.
    pub device: String,
    /// What it computes with, as `--precision` says it; `auto` measures all that there are instructions for.
    pub precision: String,
    /// Side of the cube that is segmented, in voxels. Default 96.
    pub cube: usize,
    /// Patches of a training iteration. Default 4.
    pub batch: usize,
    /// Side of a training patch in voxels. Default 56.
    pub patch: usize,
    /// Scores per voxel, background among them. Default 13.
    pub scores: usize,
    /// Level that the network's last layer stands on. Default: full.
    pub head: Head,
    /// Runs of which the middle one counts. Default 5.
    pub runs: usize,
}

impl Default for BenchJob {
    fn default() -> Self {
        Self {
            device: "auto".to_owned(),
            precision: "auto".to_owned(),
            cube: 96,
            batch: 4,
            patch: 56,
            scores: 13,
            head: Head::default(),
            runs: 5,
        }
    }
}

/// How fast one thing goes on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct BenchRow {
    /// `infer` (a cube, from voxels to labels) or `train` (iterations, with all that belongs to them).
    pub what: &'static str,
    /// Element type that the network computes in.
    pub dtype: &'static str,
    /// Where it ran.
    pub device: String,
    /// Images, and the side of one in voxels.
    pub shape: [usize; 2],
    /// Of one run or iteration.
    pub seconds: f64,
    /// Voxels of the input in a second.
    pub mvoxels_per_second: f64,
}

/// Measures segmentation and training on noise, with weights drawn at random: neither changes the speed.
///
/// # Errors
/// Where a device is not there, several cannot work together or the sizes are none that the network takes.
pub fn bench(job: &BenchJob, progress: &dyn Progress) -> Result<Vec<BenchRow>> {
    if job.runs == 0 || job.batch == 0 {
        return Err(PipelineError::input(
            "a benchmark takes at least one run of one patch",
        ));
    }
    let devices = device_list(&job.device)?;
    check_shared_training(&devices)?;
    let device = &devices[0];
    let precisions = match job.precision.as_str() {
        "auto" => [Precision::F32, Precision::Bf16]
            .into_iter()
            .filter(|precision| precision.is_native(device))
            .collect(),
        name => vec![precision(name, device)?],
    };
    let mut rows = Vec::new();
    for precision in precisions {
        let row = |what, [images, side]: [usize; 2], seconds: f64| BenchRow {
            what,
            dtype: precision.name(),
            device: if device.is_cpu() { "cpu" } else { &job.device }.to_owned(),
            shape: [images, side],
            seconds,
            mvoxels_per_second: (images * side.pow(3)) as f64 / seconds / 1e6,
        };
        // Several share tomograms, of which a cube is one.
        if devices.len() == 1 {
            let seconds = seconds_of_segmentation(job, device, precision, progress)?;
            rows.push(row("infer", [1, job.cube], seconds));
        }
        let seconds = seconds_of_iteration(job, &devices, precision, progress)?;
        rows.push(row("train", [job.batch, job.patch], seconds));
    }
    Ok(rows)
}

/// What errors are about: no file.
const HERE: &str = "benchmark";

fn weights(job: &BenchJob) -> Result<Weights> {
    let metadata = Metadata {
        head: job.head,
        ..Metadata::default()
    };
    Weights::initial(job.scores, 0, metadata).on(Path::new(HERE))
}

fn seconds_of_segmentation(
    job: &BenchJob,
    device: &Device,
    precision: Precision,
    progress: &dyn Progress,
) -> Result<f64> {
    let here = Path::new(HERE);
    let net = UNet::new(&weights(job)?, device)
        .on(here)?
        .with_precision(precision);
    let cube = Volume::new(noise(job.cube));
    let mut seconds = Vec::new();
    // The first run touches memory for the first time.
    for _ in 0..=job.runs {
        let mut labels: Vec<Array3<Label>> = Vec::new();
        let start = Instant::now();
        segment(
            &net,
            &cube,
            &SegmentParams::default(),
            &mut labels,
            &mut [],
            progress,
        )
        .on(here)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&mut seconds[1..]))
}

fn seconds_of_iteration(
    job: &BenchJob,
    devices: &[Device],
    precision: Precision,
    progress: &dyn Progress,
) -> Result<f64> {
    let here = Path::new(HERE);
    let folder =
        tempfile::tempdir().map_err(|error| PipelineError::input(format!("no temporary folder: {error}")))?;
    let tomogram = {
        let voxels = noise(job.patch + 8);
        let classes = job.scores.max(1);
        let target = voxels.mapv(|value| ((value.abs() * 1e4) as usize % classes) as Label);
        TrainingTomogram {
            name: "noise".to_owned(),
            tomogram: Arc::new(Volume::new(voxels)),
            target: Arc::new(Volume::new(target)),
            particles: ParticleList::from(vec![Particle::new([(job.patch + 8) as f64 / 2.0; 3], 1)]),
        }
    };
    let params = TrainParams {
        epochs: 1,
        steps_per_epoch: job.runs,
        batch: job.batch,
        patch: job.patch,
        precision,
        ..TrainParams::default()
    };
    let run = RunFolder::new(folder.path().join("run"));
    let outcome = train_on(
        devices,
        &[tomogram],
        &[],
        weights(job)?,
        &params,
        &run,
        Start::Fresh,
        progress,
    )
    .on(here)?;
    let rate = outcome.times.megavoxels_per_second();
    Ok((job.batch * job.patch.pow(3)) as f64 / rate / 1e6)
}

/// Values in [-1, 1) without pattern.
fn noise(side: usize) -> Array3<f32> {
    let mut state = 1_u32;
    Array3::from_shape_simple_fn([side; 3], || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / (1_u32 << 31) as f32 - 1.0
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use deepfinder_core::NoProgress;

    use super::*;

    #[test]
    fn a_small_bench_gives_both_rows() {
        let job = BenchJob {
            cube: 12,
            batch: 1,
            patch: 8,
            scores: 3,
            runs: 1,
            precision: "f32".to_owned(),
            ..BenchJob::default()
        };
        let rows = bench(&job, &NoProgress).unwrap();
        assert_eq!(
            rows.iter().map(|row| row.what).collect::<Vec<_>>(),
            ["infer", "train"]
        );
        let auto = BenchJob {
            precision: "auto".to_owned(),
            ..job.clone()
        };
        assert!(bench(&auto, &NoProgress).unwrap().len() >= 2);
        assert!(
            rows.iter()
                .all(|row| row.seconds > 0.0 && row.mvoxels_per_second > 0.0)
        );
        let half = BenchJob {
            head: Head::Half,
            ..job.clone()
        };
        assert_eq!(bench(&half, &NoProgress).unwrap().len(), 2);
        let none = BenchJob { runs: 0, ..job };
        assert!(bench(&none, &NoProgress).is_err());
    }
}
