//! Automation of the workspace: `cargo xtask validate` is what a change must pass, the other commands are its parts.
//!
//! Nothing here depends on the crates it checks, so that it builds in seconds and runs when they do not.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

mod bench;
mod browser;
mod cuda;
mod dependencies;
mod fuzz;
mod hygiene;
mod interop;
mod layers;
mod licences;
mod metadata;
mod reach;
mod rehearsal;
mod report;
mod validate;
mod weekly;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Automation of the DeepFinder workspace",
    disable_version_flag = true
)]
struct Arguments {
    /// Workspace to look at [default: the one this program was built from]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything a change must pass: fmt, layers, dependencies, clippy, doc, cuda, tests
    Validate,
    /// The arrows between our crates, who touches files and terminal, and the house rules that can be read off the files
    CheckLayers,
    /// Licences and sources of every crate we build on, and what reaches candle through them
    CheckDependencies,
    /// Build in release and print the speed tables
    Bench(bench::BenchArguments),
    /// Builds for NVIDIA GPUs, on machines with and without one
    Cuda {
        #[command(subcommand)]
        command: cuda::Command,
    },
    /// Build the studio's page anew, compare it with the committed one, and drive it in Chromium
    Browser,
    /// Read with the Python packages of other programs what `deepfinder convert` writes
    Interop,
    /// Build the fuzz targets of the readers of outside bytes, and run each
    Fuzz(fuzz::FuzzArguments),
    /// What takes too long for every change: interop, the small accuracy benchmark, fuzz
    Weekly,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let root = match arguments.root {
        Some(root) => root,
        None => metadata::own_workspace()?,
    };
    match arguments.command {
        Command::Validate => validate::run(&root),
        Command::CheckLayers => layers::run(&root),
        Command::CheckDependencies => dependencies::run(&root),
        Command::Bench(arguments) => bench::run(&root, &arguments),
        Command::Cuda { command } => cuda::run(&root, &command),
        Command::Browser => browser::run(&root),
        Command::Interop => interop::run(&root),
        Command::Fuzz(arguments) => fuzz::run(&root, &arguments),
        Command::Weekly => weekly::run(&root),
    }
}
