//! What a change must pass, cheapest step first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::metadata::cargo;
use crate::{cuda, dependencies, layers};

type Step = (&'static str, fn(&Path) -> Result<()>);

const STEPS: &[Step] = &[
    ("fmt", check_format),
    ("layers", layers::run),
    ("dependencies", dependencies::run),
    ("clippy", run_clippy),
    ("doc", build_docs),
    ("cuda", cuda::check),
    ("tests", run_tests),
];

/// Runs all steps over the workspace at `root`, up to the first that fails.
///
/// # Errors
/// If a step fails; the message names it.
pub(crate) fn run(root: &Path) -> Result<()> {
    let start = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let step_start = Instant::now();
        step(root)
            .with_context(|| format!("validate stops at `{name}` after {}", in_words(start.elapsed())))?;
        times.push(format!("{name} {}", in_words(step_start.elapsed())));
    }
    println!(
        "== all good in {} ({})",
        in_words(start.elapsed()),
        times.join(", ")
    );
    Ok(())
}

fn check_format(root: &Path) -> Result<()> {
    succeed(
        cargo(root).args(["fmt", "--all", "--check"]),
        "`cargo fmt` mends this",
    )
}

fn run_clippy(root: &Path) -> Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    succeed(cargo(root).args(arguments), "clippy finds something, see above")
}

fn build_docs(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    succeed(&mut command, "rustdoc finds something, see above")
}

fn run_tests(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cargo test doesn't start")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("the output of cargo test is not text")?;
            println!("{line}");
            tally.read(&line);
        }
    }
    let status = child.wait().context("cargo test is lost")?;
    println!("{tally}");
    if !status.success() {
        bail!("tests fail: {}", tally.failures());
    }
    if tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn succeed(command: &mut Command, otherwise: &str) -> Result<()> {
    let name = command
        .get_args()
        .next()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let status = command
        .status()
        .with_context(|| format!("cargo {name} doesn't start"))?;
    if !status.success() {
        bail!("cargo {name} fails ({status}): {otherwise}");
    }
    Ok(())
}

/// Sum over the closing lines of all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    programs: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    failing: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.programs += 1;
            self.passed += count_before(counts, "passed");
            self.failed += count_before(counts, "failed");
            self.ignored += count_before(counts, "ignored");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failing.push(name.to_owned());
        }
    }

    fn failures(&self) -> String {
        if self.failing.is_empty() {
            return "some could not be built or run, see above".to_owned();
        }
        self.failing.join(", ")
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            programs,
            passed,
            failed,
            ignored,
            ..
        } = self;
        write!(
            f,
            "tests in all: {passed} passed; {failed} failed; {ignored} ignored ({programs} test programs)"
        )
    }
}

/// The number in front of `word` in `ok. 12 passed; 0 failed; …`.
fn count_before(counts: &str, word: &str) -> usize {
    counts
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test volume::tests::window ... ok",
            "test volume::tests::mean ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.12s",
            "test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 1 filtered out; finished in 61.00s",
        ] {
            tally.read(line);
        }
        let failing = vec!["volume::tests::mean".to_owned()];
        assert_eq!(
            tally,
            Tally {
                programs: 2,
                passed: 42,
                failed: 1,
                ignored: 2,
                failing
            }
        );
        assert_eq!(
            tally.to_string(),
            "tests in all: 42 passed; 1 failed; 2 ignored (2 test programs)"
        );
    }

    #[test]
    fn times_read_well() {
        assert_eq!(in_words(Duration::from_secs(59)), "59 s");
        assert_eq!(in_words(Duration::from_secs(754)), "12 min 34 s");
    }
}
