//! Speed tables: builds in release, then runs each benchmark that stands.

mod comparison;
mod peers;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::comparison::Table;
use self::peers::{Bench, Python};
use crate::metadata::{Metadata, cargo};

#[derive(Args)]
pub(crate) struct BenchArguments {
    /// How often we and a peer are measured in turn
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

/// Runs the benchmarks of the workspace at `root` and of the peers that are there; tables go to standard output.
///
/// # Errors
/// If one can't be built or fails.
pub(crate) fn run(root: &Path, arguments: &BenchArguments) -> Result<()> {
    print_machine();
    // Together, so that what they share is built once.
    let packages = ["--package", "candle-conv3d", "--package", "deepfinder-cli"];
    let targets = ["--example", "throughput", "--bin", "deepfinder"];
    succeed(
        cargo(root)
            .args(["build", "--release"])
            .args(packages)
            .args(targets),
    )?;
    let target = Metadata::of_manifests(root)?.target_directory;
    let built = |name: &str| {
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        target.join("release").join(name)
    };

    let mut ceilings = Vec::new();
    for dtype in ["f32", "bf16"] {
        println!("\n== layer by layer, {dtype}");
        let output = output_of(Command::new(built("examples/throughput")).arg(dtype))?;
        print!("{output}");
        ceilings.extend(peak(&output).map(|peak| (dtype, peak)));
    }

    let scratch = target.join("bench");
    std::fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let bench = Bench {
        root,
        program: built("deepfinder"),
        scratch,
        rounds: arguments.rounds.max(1),
    };
    let python = Python::of("PEERS_PYTHON");
    println!("\n== beside the peers of this machine (see benches/peers/README.md)");
    let mut lines = bench.network(&python, &ceilings)?;
    let shared = root.join("../shared/data");
    let volume = shared.join("parity/volume.mrc");
    let weights = shared.join("weights/deepfinder_shrec19.h5");
    let labels = if volume.exists() && weights.exists() {
        let (line, labels) = bench.whole_volume(&Python::of("PEERS_TENSORFLOW"), &volume, &weights)?;
        lines.push(line);
        labels
    } else {
        println!(
            "skipped: the published weights are not in ../shared/data; mean-shift is of the demo's labels"
        );
        bench.demo_labels()?
    };
    lines.push(bench.mean_shift(&python, &labels)?);
    print!("{}", Table(&lines));
    Ok(())
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("{command:?} doesn't start"))?;
    if !output.status.success() {
        bail!("{command:?} fails ({})", output.status);
    }
    String::from_utf8(output.stdout).context("output that is no text")
}

/// The peak in GFLOP/s that the first line of `throughput` says, where it could measure one.
fn peak(output: &str) -> Option<f64> {
    let (_, peak) = output.lines().next()?.split_once(", peak ")?;
    let peak = peak.strip_suffix(" GFLOP/s")?.parse::<f64>().ok()?;
    (peak > 0.0).then_some(peak)
}

fn print_machine() {
    let cores =
        std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| cpu_model(&text));
    println!(
        "{}, {cores} threads",
        model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
    );
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} doesn't start"))?;
    if !status.success() {
        bail!("{command:?} fails ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_read_where_there_are_any() {
        assert_eq!(
            peak("1 x 56³ voxels, F32, avx512, 2 threads, peak 274 GFLOP/s\nconv3"),
            Some(274.0)
        );
        assert_eq!(
            peak("1 x 56³ voxels, BF16, avx2, 2 threads, peak NaN GFLOP/s"),
            None
        );
        assert_eq!(peak(""), None);
    }
}
