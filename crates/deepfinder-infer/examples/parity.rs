//! Segments the phantom of `../shared/data/parity` with the published weights, by the reference plan against
//! TensorFlow's scores and by the exact plan for its speed:
//!
//! ```text
//! cargo run --release -p deepfinder-infer --example parity -- ../shared/data [exact|reference]
//! ```
//!
//! The reference plan is 100 patches of 80³: 51 Mvoxel.

#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::io::Read;
use std::path::Path;

use candle_core::Device;
use deepfinder_core::{Progress, Volume, VolumeWriter};
use deepfinder_infer::{Plan, SegmentParams, segment};
use deepfinder_net::{Metadata, SHREC19_CLASSES, UNet, Weights};
use ndarray::Array3;

type BoxError = Box<dyn std::error::Error>;

/// The phantom's shape, `(z, y, x)`.
const SHAPE: [usize; 3] = [96, 112, 128];
const VOXELS: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, which) = match &arguments[..] {
        [folder] => (Path::new(folder), ""),
        [folder, which] => (Path::new(folder), which.as_str()),
        _ => return Err("usage: parity SHARED/data [exact|reference]".into()),
    };
    let weights = std::fs::read(folder.join("weights/deepfinder_shrec19.h5"))?;
    let weights = Weights::from_keras(weights, Metadata::for_classes(SHREC19_CLASSES))?;
    let net = UNet::new(&weights, &Device::Cpu)?;
    // The phantom's header is a plain one of 1024 bytes, its voxels are f32; deepfinder-io reads any.
    let bytes = std::fs::read(folder.join("parity/volume.mrc"))?;
    let (words, _) = bytes[1024..].as_chunks::<4>();
    let voxels = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let tomogram = Volume::new(Array3::from_shape_vec(SHAPE, voxels)?);

    let npz = folder.join("parity/tf_shrec19.npz");
    let expected = entry(&npz, "labels.npy", VOXELS)?;
    if which != "reference" {
        let exact = run(&net, &tomogram, Plan::default())?;
        println!(
            "  labels agree with the reference plan on {:.3} % of voxels",
            percent(&exact.labels, &expected)
        );
    }
    if which != "exact" {
        let reference = run(&net, &tomogram, Plan::Reference { patch: 80 })?;
        println!(
            "  labels agree with TensorFlow on {:.4} % of voxels",
            percent(&reference.labels, &expected)
        );
        let halves = entry(&npz, "scores.npy", 2 * VOXELS * net.classes())?;
        let (halves, _) = halves.as_chunks::<2>();
        let differences = || {
            let pairs = halves.iter().zip(&reference.scores);
            pairs.map(|(half, score)| (half::f16::from_le_bytes(*half).to_f32() - score).abs())
        };
        let mean = differences().map(f64::from).sum::<f64>() / halves.len() as f64;
        println!(
            "  scores differ by {mean:.2e} on average, {:.2e} at most (TensorFlow's are kept as f16)",
            differences().fold(0.0, f32::max)
        );
    }
    Ok(())
}

struct Found {
    labels: Vec<u8>,
    /// `[class, z, y, x]`
    scores: Vec<f32>,
}

fn run(net: &UNet, tomogram: &Volume<f32>, plan: Plan) -> Result<Found, BoxError> {
    let params = SegmentParams {
        plan,
        ..SegmentParams::default()
    };
    let mut labels: Vec<Array3<u8>> = Vec::new();
    let mut maps: Vec<Vec<Array3<f32>>> = vec![Vec::new(); net.classes()];
    let mut writers: Vec<&mut dyn VolumeWriter<f32>> = Vec::new();
    // The exact plan is timed as it is mostly used: labels alone.
    if plan != Plan::default() {
        for map in &mut maps {
            writers.push(map);
        }
    }
    let report = segment(net, tomogram, &params, &mut labels, &mut writers, &Terminal)?;
    println!(
        "{plan:?}: {} tiles, {:.2} Mvoxel computed for {:.2} in {:.1} s: {:.3} Mvoxel/s through the network, {:.3} of tomogram",
        report.tiles,
        report.computed_voxels as f64 / 1e6,
        report.voxels as f64 / 1e6,
        report.seconds,
        report.computed_voxels as f64 / 1e6 / report.seconds,
        report.voxels as f64 / 1e6 / report.seconds,
    );
    println!("  voxels per label: {:?}", report.voxels_per_label);
    Ok(Found {
        labels: labels.into_iter().flatten().collect(),
        scores: maps.into_iter().flatten().flatten().collect(),
    })
}

/// The last bytes of a member of an npz file (a zip archive): its values, behind NumPy's header. A member begins with
/// 30 bytes, its name, an extra field; its deflated contents follow.
fn entry(npz: &Path, name: &str, length: usize) -> Result<Vec<u8>, BoxError> {
    let file = std::fs::read(npz)?;
    let at = file
        .windows(name.len())
        .position(|window| window == name.as_bytes());
    let at = at
        .filter(|at| *at >= 30)
        .ok_or("the archive has no such member")?;
    let extra = usize::from(u16::from_le_bytes([file[at - 2], file[at - 1]]));
    let mut bytes = Vec::new();
    flate2::read::DeflateDecoder::new(&file[at + name.len() + extra..]).read_to_end(&mut bytes)?;
    let header = bytes.len().checked_sub(length).ok_or("the array is too short")?;
    Ok(bytes.split_off(header))
}

fn percent(found: &[u8], expected: &[u8]) -> f64 {
    let same = found.iter().zip(expected).filter(|(a, b)| a == b).count();
    100.0 * same as f64 / expected.len() as f64
}

/// Says how far it is, a line per piece of work.
struct Terminal;

impl Progress for Terminal {
    fn begin(&self, what: &str, total: u64, unit: &'static str) {
        println!("{what}: {total} {unit}");
    }

    fn advance(&self, _steps: u64) {}
}
