//! A training on a GPU, rehearsed without one: what a step asks for, and whether it learns what the processor does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context, Result, bail};

use crate::cuda::{cuda_cargo, scripts, stand_in, succeed, target, wrapper};

/// Launches of a training step of the default recipe that are not exceeded unnoticed.
const MOST_LAUNCHES: i64 = 300;

/// Iterations of two runs; their difference tells of iterations alone.
const COUNTED: [i64; 2] = [3, 13];

/// Iterations that are run by the emulator, where each takes seconds.
const RUN: i64 = 3;

/// How far what they came to may be from the processor's, relatively, by what volumes are computed in. In bf16 a GPU rounds
/// logits, biases and gradients of weights too, and Adam's first steps are as long for small gradients as for large ones.
const TOLERANCES: [(&str, f64); 2] = [("f32", 1e-4), ("bf16", 6e-2)];

type Numbers<T> = BTreeMap<String, T>;

/// Counts launches, copies and memory of a training step, and holds a few iterations, run thread by thread on the processor,
/// against the processor's own.
///
/// # Errors
/// Where a C++ compiler is missing, the training fails on the stand-in, there are more launches than there should be, or it
/// learns something else.
pub(crate) fn rehearse(root: &Path) -> Result<()> {
    let home = stand_in(root)?;
    let stage = Stage {
        libraries: driver(root)?,
        program: target(root).join("debug/examples/training_steps"),
    };
    let mut build = cuda_cargo(root, &home, &wrapper(root)?)?;
    build.args(["build", "--package", "deepfinder-train", "--features", "cuda"]);
    build.args(["--example", "training_steps"]);
    succeed(&mut build).context("the training does not compile")?;
    count(&stage)?;
    compare(&stage)
}

struct Stage {
    /// Where the stand-in is.
    libraries: PathBuf,
    program: PathBuf,
}

impl Stage {
    /// What a training comes to, and what it asked for.
    fn train(&self, iterations: i64, arguments: &[&str], run: bool) -> Result<(Numbers<f64>, Numbers<i64>)> {
        let file = self.libraries.join("counts.txt");
        let mut program = Process::new(&self.program);
        program.arg(iterations.to_string()).args(arguments);
        program.env("LD_LIBRARY_PATH", &self.libraries);
        program.env("CUDA_STAND_IN_COUNTS", &file);
        // The processor's fast algorithm in f32 rounds otherwise than sums of products, which a GPU adds up.
        program.env("DEEPFINDER_ISA", "scalar");
        if run {
            program.env("CUDA_STAND_IN_RUN", "1");
        }
        let output = program.output().context("the training does not start")?;
        if !output.status.success() {
            bail!(
                "the training fails ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let counts = match fs::read_to_string(&file) {
            Ok(lines) => numbers(&lines),
            // Nothing was asked of a GPU.
            Err(_) => Numbers::new(),
        };
        let _ = fs::remove_file(&file);
        Ok((numbers(&String::from_utf8_lossy(&output.stdout)), counts))
    }
}

/// Lines of a name and a number.
fn numbers<T: std::str::FromStr>(lines: &str) -> Numbers<T> {
    let lines = lines.lines().filter_map(|line| {
        let (name, number) = line.rsplit_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    lines.collect()
}

/// A folder with the stand-in under the names of NVIDIA's libraries.
fn driver(root: &Path) -> Result<PathBuf> {
    let folder = target(root).join("driver");
    fs::create_dir_all(&folder)?;
    let library = folder.join("libcuda.so");
    let mut compiler = Process::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler.args([
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-DEMULATED",
        "-U_FORTIFY_SOURCE",
    ]);
    compiler.args(["-Wall", "-Wno-unknown-pragmas", "-I"]);
    compiler.arg(root.join("crates/candle-conv3d/kernels"));
    compiler.arg("-o").arg(&library);
    succeed(
        compiler
            .arg(scripts(root).join("driver-stand-in.cpp"))
            .arg("-lpthread"),
    )?;
    for name in ["libcublas.so", "libcurand.so"] {
        // The very same file, so that there is one set of counts.
        let link = folder.join(name);
        let _ = fs::remove_file(&link);
        fs::hard_link(&library, &link).with_context(|| format!("{}", link.display()))?;
    }
    Ok(folder)
}

fn count(stage: &Stage) -> Result<()> {
    let per_step = |arguments: &[&str]| -> Result<Numbers<i64>> {
        let [few, many] = [
            stage.train(COUNTED[0], arguments, false)?.1,
            stage.train(COUNTED[1], arguments, false)?.1,
        ];
        let per_step = many.into_iter().map(|(name, count)| {
            let more = count - few.get(&name).copied().unwrap_or(0);
            (name, more / (COUNTED[1] - COUNTED[0]))
        });
        Ok(per_step.filter(|(_, count)| *count > 0).collect())
    };
    let (plain, averaged) = (per_step(&["gpu", "bf16"])?, per_step(&["gpu", "bf16", "ema"])?);
    println!("an iteration of the default recipe in bf16, and one with a moving average beside it:");
    let mut rows: Vec<(i64, i64, &str)> = averaged
        .iter()
        .map(|(name, count)| (*count, plain.get(name).copied().unwrap_or(0), name.as_str()))
        .collect();
    rows.sort_unstable_by(|a, b| b.cmp(a));
    for (with_average, count, name) in rows {
        println!("{count:6} {with_average:6}  {name}");
    }
    let [plain, averaged] = [&plain, &averaged].map(|counts| {
        let launches = counts.iter().filter(|(name, _)| name.starts_with("launch "));
        launches.map(|(_, count)| count).sum::<i64>()
    });
    println!("{plain:6} {averaged:6}  launches in all");
    if averaged > MOST_LAUNCHES {
        bail!(
            "{averaged} launches, where {MOST_LAUNCHES} are the most that is expected: is something done to each \
             parameter by itself?"
        );
    }
    Ok(())
}

fn compare(stage: &Stage) -> Result<()> {
    println!("after {RUN} iterations, on the emulated GPU and on the processor:");
    for (precision, tolerance) in TOLERANCES {
        let (there, _) = stage.train(RUN, &["gpu", precision, "ema"], true)?;
        let (here, _) = stage.train(RUN, &["cpu", precision, "ema"], false)?;
        if here.is_empty() {
            bail!("the training tells nothing");
        }
        for (name, expected) in here {
            let found = there.get(&name).copied().unwrap_or(f64::NAN);
            let off = (found - expected).abs() / expected.abs();
            println!("{precision:>5} {name:>9}: {found:.6} and {expected:.6}");
            if off.is_nan() || off > tolerance {
                bail!("they differ by {off:.1e} of it, where {tolerance:.0e} is the most");
            }
        }
    }
    Ok(())
}
