//! Speed tables: builds in release, then runs each benchmark that stands.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::{Metadata, cargo};

/// `(crate, example)`: programs that print a table of their own.
const EXAMPLES: &[(&str, &str)] = &[
    ("candle-conv3d", "throughput"),
    ("deepfinder-train", "training_speed"),
];

/// Runs every benchmark of the workspace at `root`; their tables go to standard output.
///
/// # Errors
/// If one can't be built or fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    print_machine();
    for (package, example) in EXAMPLES {
        let selection = ["--release", "--package", package, "--example", example];
        succeed(cargo(root).arg("build").args(selection))?;
        println!("\n== {package}: {example}");
        succeed(cargo(root).args(["run", "--quiet"]).args(selection))?;
    }
    bench_program(root)
}

/// `deepfinder bench`, where the program has that command.
fn bench_program(root: &Path) -> Result<()> {
    succeed(cargo(root).args(["build", "--release", "--package", "deepfinder-cli"]))?;
    let program = Metadata::of_manifests(root)?
        .target_directory
        .join("release")
        .join(format!("deepfinder{}", std::env::consts::EXE_SUFFIX));
    let help = Command::new(&program)
        .args(["bench", "--help"])
        .output()
        .context("deepfinder doesn't start")?;
    if !help.status.success() {
        return Ok(());
    }
    println!("\n== deepfinder bench");
    succeed(Command::new(&program).current_dir(root).arg("bench"))
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
