//! Compiles the GPU's kernels where the feature `cuda` asks for them: machine code for each kind of GPU since 2020 and PTX,
//! which the driver compiles, for those to come.

use std::{env, path::PathBuf, process::Command};

/// Kinds of GPU with machine code of their own: A100; RTX 30; RTX 40 and L4; H100 and H200; RTX 50.
const KINDS: [&str; 5] = ["80", "86", "89", "90", "120"];

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let of_home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc = of_home
        .filter(|path| path.exists())
        .unwrap_or_else(|| "nvcc".into());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?).join("conv3d.fatbin");
    let mut command = Command::new(&nvcc);
    // Packed as tightly as can be, a quarter of what it is else: the driver unpacks a kind's code once.
    command.args(["-fatbin", "-O3", "-std=c++17", "--compress-mode=size"]);
    for kind in KINDS {
        command.arg(format!("-gencode=arch=compute_{kind},code=sm_{kind}"));
    }
    // The oldest, so that every newer GPU takes it.
    command.arg("-gencode=arch=compute_80,code=compute_80");
    command.arg("-o").arg(&out).arg("kernels/conv3d.cu");
    let status = command.status().map_err(|error| {
        format!(
            "the feature `cuda` needs NVIDIA's compiler, and {} does not start ({error}): set CUDA_HOME, or run \
             `cargo xtask cuda setup` and build with `cargo xtask cuda build`",
            nvcc.display()
        )
    })?;
    if !status.success() {
        return Err(format!(
            "{} fails on kernels/conv3d.cu, see above",
            nvcc.display()
        ));
    }
    // A driver must know the version that the kernels were compiled with.
    let said = Command::new(&nvcc).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said.ok().as_deref().and_then(version_of);
    let version = version.ok_or_else(|| format!("{} --version names no release", nvcc.display()))?;
    println!("cargo::rustc-env=CONV3D_CUDA_VERSION={version}");
    Ok(())
}

/// 13000 of "… release 13.0, …".
fn version_of(said: &str) -> Option<u32> {
    let (_, release) = said.split_once("release ")?;
    let (major, rest) = release.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(1000 * major.parse::<u32>().ok()? + 10 * minor.parse::<u32>().ok()?)
}
