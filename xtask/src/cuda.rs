//! Builds for NVIDIA GPUs: the compiler, the program, what a machine with a GPU is given, and a check without any.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::metadata::cargo;
use crate::rehearsal;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Install NVIDIA's compiler with pip (100 MB) into the target folder
    Setup,
    /// Build the program, stripped, for machines with and without CUDA
    Build,
    /// Build, and gather what a machine with a GPU needs to run the GPU suite and the benchmarks
    Bundle,
    /// Type-check the CUDA code, with a stand-in for NVIDIA's compiler; kernels too where the compiler is set up
    Check,
    /// Train with a stand-in for a GPU: count what a step asks for, and compare what it learns with the processor
    Rehearse,
}

/// A bundle is carried to other machines.
const MOST_BUNDLE_BYTES: u64 = 60 << 20;

/// # Errors
/// Where a tool is missing or fails; the message says which.
pub(crate) fn run(root: &Path, command: &Command) -> Result<()> {
    match command {
        Command::Setup => setup(root),
        Command::Build => build(root).map(|program| println!("{}", program.display())),
        Command::Bundle => bundle(root),
        Command::Check => check(root),
        Command::Rehearse => rehearsal::rehearse(root),
    }
}

/// Target folder of CUDA builds: their crates have other features, and would replace those of the usual builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join("target/cuda")
}

/// NVIDIA's compiler and headers: what `CUDA_HOME` names, else what `setup` installed.
fn toolkit(root: &Path) -> Option<PathBuf> {
    let of_environment = std::env::var_os("CUDA_HOME").map(PathBuf::from);
    let installed = root.join("target/cuda-toolkit/cuda");
    of_environment
        .into_iter()
        .chain([installed])
        .find(|home| home.join("bin/nvcc").exists())
}

pub(crate) fn scripts(root: &Path) -> PathBuf {
    root.join("xtask/cuda")
}

pub(crate) fn succeed(command: &mut Process) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("{name} does not start"))?;
    if !status.success() {
        bail!("{name} fails ({status}), see above");
    }
    Ok(())
}

fn setup(root: &Path) -> Result<()> {
    let folder = root.join("target/cuda-toolkit");
    let script = scripts(root).join("setup.sh");
    succeed(Process::new("sh").arg(script).arg(&folder))
        .context("the compiler could not be installed: it needs Python 3 with pip, and PyPI")?;
    println!("CUDA_HOME is {}", folder.join("cuda").display());
    Ok(())
}

/// Cargo with another compiler wrapper and target folder, for CUDA at that place.
pub(crate) fn cuda_cargo(root: &Path, home: &Path, wrapper: &Path) -> Result<Process> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([home.join("bin")].into_iter().chain(std::env::split_paths(&path)))
        .context("PATH cannot be extended")?;
    let mut command = cargo(root);
    command
        .env("CUDA_HOME", home)
        .env("CUDA_PATH", home)
        .env("CUDA_ROOT", home)
        .env("PATH", path)
        // PTX of the oldest kind that is supported: the driver compiles it for every newer one.
        .env("CUDA_COMPUTE_CAP", "80")
        .env("RUSTC_WRAPPER", wrapper)
        .env("CARGO_TARGET_DIR", target(root));
    Ok(command)
}

/// A script that the system starts by its path: the bits that say so can get lost on the way here.
fn executable(from: &Path, to: &Path) -> Result<PathBuf> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(to.to_owned())
}

pub(crate) fn wrapper(root: &Path) -> Result<PathBuf> {
    executable(&scripts(root).join("rustc.sh"), &target(root).join("rustc.sh"))
}

/// The stripped program.
fn build(root: &Path) -> Result<PathBuf> {
    let home = toolkit(root).context("no nvcc: run `cargo xtask cuda setup`, or set CUDA_HOME")?;
    let mut command = cuda_cargo(root, &home, &wrapper(root)?)?;
    command.env("CARGO_PROFILE_RELEASE_STRIP", "true").args([
        "build",
        "--release",
        "--package",
        "deepfinder-cli",
        "--features",
        "cudnn,nccl",
    ]);
    succeed(&mut command)?;
    Ok(target(root).join("release/deepfinder"))
}

fn bundle(root: &Path) -> Result<()> {
    let program = build(root)?;
    let folder = target(root).join("bundle");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("parity"))?;
    executable(&program, &folder.join("deepfinder"))?;
    executable(&scripts(root).join("suite.sh"), &folder.join("suite.sh"))?;
    let copy = |from: PathBuf, to: PathBuf| {
        fs::copy(&from, &to).with_context(|| format!("{} to {}", from.display(), to.display()))
    };
    let peers = root.join("benches/peers");
    copy(peers.join("torch_unet.py"), folder.join("torch_unet.py"))?;
    // Published data that we may not hand on with the sources; without it the suite leaves that step out.
    let shared = root.join("../shared/data");
    for (from, name) in [
        ("parity/volume.mrc", "volume.mrc"),
        ("weights/deepfinder_shrec19.h5", "deepfinder_shrec19.h5"),
    ] {
        let from = shared.join(from);
        if from.exists() {
            copy(from, folder.join("parity").join(name))?;
        } else {
            println!("skipped: ../shared/data not here, so the bundle lacks {name}");
        }
    }
    let bytes = bytes_of(&folder)?;
    if bytes > MOST_BUNDLE_BYTES {
        bail!(
            "the bundle has {} MiB, at most {} are allowed",
            bytes >> 20,
            MOST_BUNDLE_BYTES >> 20
        );
    }
    println!(
        "{} ({} MiB): on a machine with a GPU run `sh suite.sh`",
        folder.display(),
        bytes >> 20
    );
    Ok(())
}

fn bytes_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            bytes_of(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

/// Libraries that candle's build scripts name to the linker.
const LIBRARIES: [&str; 8] = [
    "cuda", "cublas", "cublasLt", "curand", "nvrtc", "cudart", "cudnn", "nccl",
];

/// A folder like that of NVIDIA's compiler, for builds whose kernels are not run.
pub(crate) fn stand_in(root: &Path) -> Result<PathBuf> {
    let home = target(root).join("stand-in");
    executable(&scripts(root).join("nvcc-stand-in.sh"), &home.join("bin/nvcc"))?;
    fs::create_dir_all(home.join("lib64"))?;
    for library in LIBRARIES {
        fs::write(home.join(format!("lib64/lib{library}.a")), "!<arch>\n")?;
    }
    Ok(home)
}

/// # Errors
/// Where the CUDA code or, where there is a compiler for them, the kernels do not compile.
pub(crate) fn check(root: &Path) -> Result<()> {
    let home = stand_in(root)?;
    let mut command = cuda_cargo(root, &home, &wrapper(root)?)?;
    command.args(["clippy", "--workspace", "--exclude", "xtask", "--all-targets"]);
    let features = "deepfinder-cli/cudnn,deepfinder-cli/nccl";
    command.args(["--features", features, "--", "--deny", "warnings"]);
    succeed(&mut command).context("the CUDA code does not compile")?;
    if let Some(home) = toolkit(root) {
        return compile_kernels(root, &home);
    }
    println!("skipped: the kernels are not compiled without nvcc (`cargo xtask cuda setup`)");
    Ok(())
}

/// Our kernels by the real compiler, for the oldest and the newest kind of GPU.
fn compile_kernels(root: &Path, home: &Path) -> Result<()> {
    let mut command = Process::new(home.join("bin/nvcc"));
    command
        .current_dir(root.join("crates/candle-conv3d"))
        .args(["-fatbin", "-O3", "-std=c++17", "-Werror=all-warnings"])
        .args([
            "-gencode=arch=compute_80,code=sm_80",
            "-gencode=arch=compute_120,code=sm_120",
        ])
        .arg("-o")
        .arg(target(root).join("conv3d.fatbin"))
        .arg("kernels/conv3d.cu");
    succeed(&mut command).context("the kernels do not compile")
}
