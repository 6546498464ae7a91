//! Speed tables: builds in release, then runs each benchmark that stands.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::{Metadata, cargo};

/// Runs the benchmarks of the workspace at `root` and of the peers that are there; tables go to standard output.
///
/// # Errors
/// If one can't be built or fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    print_machine();
    let layers = [
        "--release",
        "--package",
        "candle-conv3d",
        "--example",
        "throughput",
    ];
    succeed(cargo(root).arg("build").args(layers))?;
    succeed(cargo(root).args(["build", "--release", "--package", "deepfinder-cli"]))?;

    let mut ceilings = Vec::new();
    for dtype in ["f32", "bf16"] {
        println!("\n== layer by layer, {dtype}");
        let output = output_of(
            cargo(root)
                .args(["run", "--quiet"])
                .args(layers)
                .args(["--", dtype]),
        )?;
        print!("{output}");
        ceilings.extend(peak(&output).map(|peak| (dtype, peak)));
    }

    let program = Metadata::of_manifests(root)?
        .target_directory
        .join("release")
        .join(format!("deepfinder{}", std::env::consts::EXE_SUFFIX));
    // Ours before and after the peer: what else the machine does changes from minute to minute.
    let mut ours = measure(Command::new(&program).args(["bench", "--json"]))?;
    let python = std::env::var("PEERS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let peer = Command::new(&python)
        .args(["-c", "import torch"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !peer {
        println!(
            "\n== deepfinder bench ({python} has no torch to compare with: see benches/peers/README.md)"
        );
        print_rates(&ours, &[], &ceilings);
        return Ok(());
    }
    let script = root.join("benches/peers/torch_unet.py");
    let theirs = measure(
        Command::new(&python)
            .arg(&script)
            .args(["--runs", "3", "--compile"]),
    )?;
    ours.extend(measure(Command::new(&program).args(["bench", "--json"]))?);
    println!("\n== deepfinder bench, and the best that PyTorch does with the same network");
    print_rates(&ours, &theirs, &ceilings);
    Ok(())
}

/// A row of a benchmark.
#[derive(Debug, Clone, serde::Deserialize)]
struct Rate {
    what: String,
    dtype: String,
    #[serde(default)]
    peer: Option<String>,
    /// Missing where the peer couldn't do it.
    #[serde(default)]
    mvoxels_per_second: Option<f64>,
}

/// Runs a program that prints rows: a JSON array, or an object a line.
fn measure(command: &mut Command) -> Result<Vec<Rate>> {
    let text = output_of(command)?;
    rates(&text).with_context(|| format!("what {command:?} prints"))
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

/// Operations of the network for a voxel, counted the direct way: forward, and with gradients.
const FLOP_PER_VOXEL: [(&str, f64); 2] = [("infer", 387.2e3), ("train", 3.0 * 387.2e3)];

fn rates(text: &str) -> Result<Vec<Rate>> {
    if text.trim_start().starts_with('[') {
        return Ok(serde_json::from_str(text)?);
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// One line for each thing measured: ours and the peer's best, how many times faster ours is, and its share of what
/// products from registers reach (`ceilings`, GFLOP/s by element type).
fn print_rates(ours: &[Rate], theirs: &[Rate], ceilings: &[(&str, f64)]) {
    println!(
        "{:8} {:6} {:>14} {:>14} {:>7} {:>16}",
        "what", "dtype", "ours Mvox/s", "peer Mvox/s", "ratio", "share of ceiling"
    );
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for rate in ours.iter().chain(theirs) {
        let key = (rate.what.as_str(), rate.dtype.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let same = |rates: &[Rate]| -> Vec<f64> {
            let same = rates
                .iter()
                .filter(|rate| (rate.what.as_str(), rate.dtype.as_str()) == key);
            same.filter_map(|rate| rate.mvoxels_per_second).collect()
        };
        // Ours is one way run several times, theirs several ways of which users would take the best.
        let rates = same(ours);
        let ours = (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64);
        let peer = same(theirs).into_iter().reduce(f64::max);
        let show = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.3}"));
        let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
        let operations = FLOP_PER_VOXEL.iter().find(|(what, _)| *what == key.0);
        let ceiling = ceilings.iter().find(|(dtype, _)| *dtype == key.1);
        let share = operations
            .zip(ceiling)
            .zip(ours)
            .map(|(((_, flop), (_, ceiling)), ours)| 100.0 * ours * flop / 1e3 / ceiling);
        println!(
            "{:8} {:6} {:>14} {:>14} {:>7} {:>16}",
            key.0,
            key.1,
            show(ours),
            show(peer),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2} x")),
            share.map_or_else(|| "-".to_owned(), |share| format!("{share:.0} %"))
        );
    }
    if let Some(peer) = theirs.iter().find_map(|rate| rate.peer.as_ref()) {
        println!("peer: {peer}");
    }
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
    fn rows_come_as_an_array_or_as_lines() {
        let row = r#"{"what": "infer", "dtype": "f32", "mvoxels_per_second": 0.5, "seconds": 1}"#;
        let failed = r#"{"what": "infer", "dtype": "bf16", "peer": "torch", "error": "no bf16 here"}"#;
        let array = rates(&format!("[{row}]")).unwrap();
        assert_eq!(array[0].mvoxels_per_second, Some(0.5));
        let lines = rates(&format!("{row}\n{failed}\n")).unwrap();
        assert_eq!((lines.len(), lines[1].mvoxels_per_second), (2, None));
        assert!(rates("Traceback").is_err());
    }

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
