//! Builds the fuzz targets with libFuzzer's instrumentation, seeds them, and runs them.
//!
//! As `cargo fuzz` does it, but with the stable compiler and no sanitizer: our readers have no `unsafe` code, and
//! what they allocate is counted by the targets themselves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::metadata::cargo;

#[derive(Args)]
pub(crate) struct FuzzArguments {
    /// Targets to run [default: all in `fuzz/fuzz_targets`]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each is run
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

impl FuzzArguments {
    /// All targets, each that long.
    pub(crate) fn all(seconds: u32) -> Self {
        Self {
            targets: Vec::new(),
            seconds,
        }
    }
}

/// What makes code tell libFuzzer where it went.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Targets that need the feature `network`, whose crates take many minutes to compile.
const OF_NETWORK: [&str; 2] = ["project", "weights"];

/// Bytes of the longest input: the readers' small valid files are shorter.
const MAX_LENGTH: usize = 8192;

/// Builds and runs the targets one after the other. What libFuzzer says goes to `fuzz/artifacts/TARGET.log`, inputs
/// that are findings to `fuzz/artifacts/TARGET-…`.
///
/// # Errors
/// If a target does not build, or finds something.
pub(crate) fn run(root: &Path, arguments: &FuzzArguments) -> Result<()> {
    let folder = root.join("fuzz");
    let targets = match arguments.targets.as_slice() {
        [] => all_targets(&folder)?,
        some => some.to_vec(),
    };
    let programs = build(root, &folder, &targets)?;
    let mut findings = Vec::new();
    for target in &targets {
        let (is_clean, summary) = fuzz(&folder, &programs, target, arguments.seconds)?;
        println!("{target:<16}{summary}");
        if !is_clean {
            findings.push(target.as_str());
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "found something: {}. The inputs and what was said of them are in {}",
        findings.join(", "),
        folder.join("artifacts").display()
    )
}

fn all_targets(folder: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}

/// The folder of the programs.
fn build(root: &Path, folder: &Path, targets: &[String]) -> Result<PathBuf> {
    let host = host()?;
    let mut command = cargo(root);
    command
        .env("RUSTFLAGS", INSTRUMENTATION)
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        // With a target named, what runs while building (procedural macros) is not instrumented.
        .args(["--target", &host, "--target-dir", "fuzz/target"]);
    for target in targets {
        command.args(["--bin", target]);
    }
    if targets.iter().any(|target| OF_NETWORK.contains(&target.as_str())) {
        command.args(["--features", "network"]);
    }
    if !command.status().context("cargo does not start")?.success() {
        bail!("the fuzz targets do not build (libFuzzer needs a C++ compiler)");
    }
    Ok(folder.join("target").join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("rustc does not start")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

/// Whether a target ran clean, and what it did.
fn fuzz(folder: &Path, programs: &Path, target: &str, seconds: u32) -> Result<(bool, String)> {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts");
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = artifacts.join(format!("{target}.log"));
    let mut command = Command::new(programs.join(format!("{target}{}", std::env::consts::EXE_SUFFIX)));
    command
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_LENGTH}"))
        .args([
            "-timeout=30",
            "-rss_limit_mb=2048",
            "-use_value_profile=1",
            "-print_final_stats=1",
        ])
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .env("FUZZ_SEEDS", &corpus)
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let dictionary = folder.join("dictionaries").join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // Every input goes through a file: in memory where there is such a disk.
    if Path::new("/dev/shm").is_dir() {
        command.env("TMPDIR", "/dev/shm");
    }
    let status = command
        .status()
        .with_context(|| format!("{target} does not start"))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let number = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim).to_owned()
    };
    let runs = number("stat::number_of_executed_units:");
    let coverage = said.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:");
        words.nth(1)
    });
    let summary = format!(
        "{runs:>10} inputs in {seconds} s, {:>6} places of the code reached, {}",
        coverage.unwrap_or("?"),
        if status.success() {
            "clean".to_owned()
        } else {
            format!("FOUND SOMETHING ({status}): {}", log.display())
        }
    );
    Ok((status.success(), summary))
}
