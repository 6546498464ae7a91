//! What takes too long for every change: the readers fuzzed, our files read by other programs, particles found, a training on a
//! GPU rehearsed.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::fuzz::{self, FuzzArguments};
use crate::interop;
use crate::metadata::{Metadata, cargo};
use crate::rehearsal;

/// Seconds that each target is fuzzed.
const FUZZ_SECONDS: u32 = 60;

/// The small accuracy benchmark's network of all classes finds this much at least, as the mean F1 over the classes. Over
/// the seeds of training it finds 0.89 to 0.98.
const LEAST_F1: f64 = 0.7;

/// Runs all of it over the workspace at `root`, up to the first that fails: an hour or two on two cores.
///
/// # Errors
/// If a step fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    println!("== interop");
    interop::run(root)?;
    println!("== rehearsal");
    rehearsal::rehearse(root)?;
    println!("== accuracy");
    find_particles(root)?;
    println!("== fuzz");
    fuzz::run(root, &FuzzArguments::all(FUZZ_SECONDS))
}

fn find_particles(root: &Path) -> Result<()> {
    let folder = Metadata::of_manifests(root)?.target_directory.join("weekly");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let status = cargo(root)
        .args(["run", "--release", "--package", "deepfinder-cli", "--"])
        .args(["bench-accuracy", "--size", "small", "--out"])
        .arg(&folder)
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("the accuracy benchmark fails ({status})");
    }
    let path = folder.join("accuracy.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (method, found) = mean_f1(&text).with_context(|| path.display().to_string())?;
    if found < LEAST_F1 {
        bail!("{method}: a mean F1 of {found:.3}, where it should be {LEAST_F1} at least");
    }
    println!("{method}: mean F1 {found:.3}");
    Ok(())
}

/// The first method of a report, and the mean F1 of its classes.
fn mean_f1(report: &str) -> Result<(String, f64)> {
    #[derive(serde::Deserialize)]
    struct Report {
        methods: Vec<Method>,
    }
    #[derive(serde::Deserialize)]
    struct Method {
        name: String,
        classes: Vec<Option<Class>>,
    }
    #[derive(serde::Deserialize)]
    struct Class {
        f1: f64,
    }

    let report: Report = serde_json::from_str(report)?;
    let first = report.methods.into_iter().next().context("no method")?;
    let scores: Vec<f64> = first.classes.iter().flatten().map(|class| class.f1).collect();
    if scores.is_empty() {
        bail!("{} looked for nothing", first.name);
    }
    Ok((first.name, scores.iter().sum::<f64>() / scores.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_the_first_method() {
        let class = |f1: f64| format!(r#"{{"precision": 1.0, "recall": 0.5, "f1": {f1}}}"#);
        let methods = format!(
            r#"{{"methods": [{{"name": "ours", "classes": [{}, null, {}]}}, {{"name": "other", "classes": []}}]}}"#,
            class(0.5),
            class(1.0)
        );
        assert_eq!(mean_f1(&methods).unwrap(), ("ours".to_owned(), 0.75));
        assert!(mean_f1(r#"{"methods": []}"#).is_err());
        assert!(mean_f1(r#"{"methods": [{"name": "ours", "classes": [null]}]}"#).is_err());
    }
}
