//! The `deepfinder` program: parses the command line, calls the pipeline, prints what came of it.

mod arguments;
mod browser;
mod commands;
mod formats;
mod progress;
mod report;
mod simulation;
mod tables;
mod values;

use std::process::ExitCode;

use clap::Parser;
use deepfinder_core::CancelToken;
use deepfinder_pipeline::PipelineError;
use deepfinder_studio::StudioError;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{Cli, with_json_joined};

/// Exit code where the input or the request is at fault.
const BAD_INPUT: u8 = 2;
/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse_from(with_json_joined(std::env::args_os()));
    start_log(cli.global.verbose);
    let cancel = CancelToken::default();
    match set_up(&cli, &cancel).and_then(|()| commands::run(&cli, &cancel)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::error(&error);
            match error.downcast_ref() {
                Some(PipelineError::Cancelled) => ExitCode::from(INTERRUPTED),
                Some(_) => ExitCode::from(BAD_INPUT),
                None if error.is::<StudioError>() => ExitCode::from(BAD_INPUT),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .without_time()
        .init();
}

fn set_up(cli: &Cli, cancel: &CancelToken) -> anyhow::Result<()> {
    if let Some(threads) = cli.global.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()?;
    }
    let token = cancel.clone();
    // The first Ctrl-C asks the work to end well; the second ends the program.
    ctrlc::set_handler(move || {
        if token.is_cancelled() {
            std::process::exit(INTERRUPTED.into());
        }
        token.cancel();
    })?;
    Ok(())
}
