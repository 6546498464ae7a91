//! The same work by us and by the peers that are on this machine: see `benches/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::comparison::{Comparison, Unit};

/// Operations of the network for a voxel, counted the direct way: forward, and with gradients.
const FLOP_PER_VOXEL: [(&str, f64); 2] = [("infer", 387.2e3), ("train", 3.0 * 387.2e3)];

/// A Python that may have a peer.
pub(super) struct Python(String);

impl Python {
    /// The one that a variable of the environment names, or the usual one.
    pub(super) fn of(variable: &str) -> Self {
        Self(std::env::var(variable).unwrap_or_else(|_| "python3".to_owned()))
    }

    /// Whether it has these modules.
    fn has(&self, modules: &str) -> bool {
        Command::new(&self.0)
            .args(["-c", &format!("import {modules}")])
            .output()
            .is_ok_and(|output| output.status.success())
    }

    fn script(&self, root: &Path, name: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(root.join("benches/peers").join(name));
        command
    }
}

/// What the comparisons need.
pub(super) struct Bench<'a> {
    pub(super) root: &'a Path,
    /// The program as it was built.
    pub(super) program: PathBuf,
    /// Files that are made on the way go there.
    pub(super) scratch: PathBuf,
    pub(super) rounds: usize,
}

impl Bench<'_> {
    fn ours(&self) -> Command {
        Command::new(&self.program)
    }

    /// The network, beside PyTorch's where it is there. `ceilings`: GFLOP/s by element type.
    pub(super) fn network(&self, python: &Python, ceilings: &[(&str, f64)]) -> Result<Vec<Comparison>> {
        let has_peer = python.has("torch");
        if !has_peer {
            println!("{} has no torch to compare with", python.0);
        }
        let mut comparisons: Vec<Comparison> = Vec::new();
        for _ in 0..self.rounds {
            let ours = rows(self.ours().args(["bench", "--json"]))?;
            let theirs = if has_peer {
                let options = ["--runs", "3", "--compile"];
                rows(python.script(self.root, "torch_unet.py").args(options))?
            } else {
                Vec::new()
            };
            for row in &ours {
                let Some(rate) = row.mvoxels_per_second else {
                    continue;
                };
                // Theirs are several ways of which users would take the best.
                let same = theirs
                    .iter()
                    .filter(|other| (&other.what, &other.dtype) == (&row.what, &row.dtype));
                let best = same.filter_map(|other| other.mvoxels_per_second).reduce(f64::max);
                let known = comparisons
                    .iter_mut()
                    .find(|known| (&known.what, &known.dtype) == (&row.what, &row.dtype));
                match known {
                    Some(known) => known.rounds.push((rate, best)),
                    None => comparisons.push(Comparison {
                        what: row.what.clone(),
                        dtype: row.dtype.clone(),
                        unit: Unit::MvoxelsPerSecond,
                        peer: theirs.iter().find_map(|row| row.peer.clone()),
                        rounds: vec![(rate, best)],
                        ceiling_share: None,
                    }),
                }
            }
        }
        for line in &mut comparisons {
            let operations = FLOP_PER_VOXEL.iter().find(|(what, _)| *what == line.what);
            let ceiling = ceilings.iter().find(|(dtype, _)| *dtype == line.dtype);
            line.ceiling_share = operations
                .zip(ceiling)
                .zip(line.ours())
                .map(|(((_, flop), (_, ceiling)), ours)| 100.0 * ours * flop / 1e3 / ceiling);
        }
        Ok(comparisons)
    }

    /// Mean-shift of a label map, beside scikit-learn's where it is there.
    pub(super) fn mean_shift(&self, python: &Python, labels: &Path) -> Result<Comparison> {
        const RADIUS: &str = "6";
        let has_peer = python.has("sklearn");
        let picks = self.scratch.join("picks.xml");
        let mut line = Comparison {
            what: "mean-shift".to_owned(),
            dtype: "f64".to_owned(),
            unit: Unit::Seconds,
            peer: None,
            rounds: Vec::new(),
            ceiling_share: None,
        };
        for _ in 0..self.rounds {
            let ours = seconds_of(self.ours().arg("pick").arg(labels).arg("-o").arg(&picks).args([
                "--radius",
                RADIUS,
                "--reference",
            ]))?;
            let theirs = if has_peer {
                single(
                    python
                        .script(self.root, "sklearn_mean_shift.py")
                        .arg(labels)
                        .arg(RADIUS),
                )?
            } else {
                Row::default()
            };
            line.peer = theirs.peer.or(line.peer);
            line.rounds.push((ours, theirs.seconds));
        }
        Ok(line)
    }

    /// A whole volume by the published weights: the exact plan, beside the published plan in TensorFlow where it is there.
    /// Once: the peer takes minutes.
    pub(super) fn whole_volume(
        &self,
        python: &Python,
        volume: &Path,
        weights: &Path,
    ) -> Result<(Comparison, PathBuf)> {
        let labels = self.scratch.join("labels.mrc");
        let ours = seconds_of(
            self.ours()
                .arg("segment")
                .arg(volume)
                .arg("-w")
                .arg(weights)
                .arg("-o")
                .arg(&labels)
                .args(["--precision", "f32"]),
        )?;
        let theirs = if python.has("tensorflow, h5py") {
            let array = self.scratch.join("labels.npy");
            single(
                python
                    .script(self.root, "tensorflow_patches.py")
                    .arg(volume)
                    .arg(weights)
                    .arg(array),
            )?
        } else {
            println!("{} has no tensorflow and h5py to compare with", python.0);
            Row::default()
        };
        let line = Comparison {
            what: "whole volume".to_owned(),
            dtype: "f32".to_owned(),
            unit: Unit::Seconds,
            peer: theirs.peer,
            rounds: vec![(ours, theirs.seconds)],
            ceiling_share: None,
        };
        Ok((line, labels))
    }

    /// A label map that can be made everywhere: the demo's.
    pub(super) fn demo_labels(&self) -> Result<PathBuf> {
        let folder = self.scratch.join("demo");
        if !folder.exists() {
            seconds_of(self.ours().arg("demo").arg("--out").arg(&folder))?;
        }
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.ends_with("labels.mrc") {
                    return Ok(path);
                }
            }
        }
        bail!("the demo left no label map")
    }
}

/// A row of a benchmark.
#[derive(Debug, Clone, Default, serde::Deserialize)]
struct Row {
    what: String,
    #[serde(default)]
    dtype: String,
    #[serde(default)]
    peer: Option<String>,
    /// Missing where the peer couldn't do it.
    #[serde(default)]
    mvoxels_per_second: Option<f64>,
    #[serde(default)]
    seconds: Option<f64>,
}

/// Runs a program that prints rows: a JSON array, or an object a line.
fn rows(command: &mut Command) -> Result<Vec<Row>> {
    parsed(&super::output_of(command)?).with_context(|| format!("what {command:?} prints"))
}

fn single(command: &mut Command) -> Result<Row> {
    let rows = rows(command)?;
    let row = rows.into_iter().next();
    row.with_context(|| format!("{command:?} prints nothing"))
}

fn parsed(text: &str) -> Result<Vec<Row>> {
    if text.trim_start().starts_with('[') {
        return Ok(serde_json::from_str(text)?);
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Of the whole program, from its start to its end.
fn seconds_of(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    super::output_of(command)?;
    Ok(begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_as_an_array_or_as_lines() {
        let row = r#"{"what": "infer", "dtype": "f32", "mvoxels_per_second": 0.5, "seconds": 1}"#;
        let failed = r#"{"what": "infer", "dtype": "bf16", "peer": "torch", "error": "no bf16 here"}"#;
        let array = parsed(&format!("[{row}]")).unwrap();
        assert_eq!(array[0].mvoxels_per_second, Some(0.5));
        let lines = parsed(&format!("{row}\n{failed}\n")).unwrap();
        assert_eq!((lines.len(), lines[1].mvoxels_per_second), (2, None));
        assert!(parsed("Traceback").is_err());
    }
}
