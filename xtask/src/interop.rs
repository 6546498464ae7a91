//! Holds what `deepfinder convert` writes against the Python packages that other programs read it with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::{Metadata, cargo};

/// What reads our files.
const PACKAGES: [&str; 10] = [
    "starfile",
    "mrcfile",
    "emfile",
    "imodmodel",
    "copick",
    "zarr",
    "h5py",
    "tifffile",
    "openpyxl",
    "scipy",
];

const PICKS: &str = "class,x,y,z,phi,psi,the,score,tomogram,voxel_size_angstrom\n\
    1,100.25,50.5,30.125,10,20,30,0.5,TS_01,10\n2,40,20,10,0,0,0,0.25,TS_01,10\n";

const TOMOGRAMS: &str = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesPixelSize #2\n_rlnTomoSizeX #3\n\
    _rlnTomoSizeY #4\n_rlnTomoSizeZ #5\nTS_01 2.0 2000 1500 1000\n";

/// Conversions: input, output, further arguments.
const CONVERSIONS: [(&str, &str, &str); 18] = [
    ("picks.csv", "relion5.star", "--tomograms tomograms.star"),
    ("picks.csv", "relion4.star", "--to relion4"),
    ("picks.csv", "stopgap.star", "--to stopgap"),
    ("picks.csv", "av3.em", ""),
    ("picks.csv", "imod.mod", ""),
    ("picks.csv", "picks.xlsx", ""),
    ("picks.csv", "picks.cbox", ""),
    (
        "picks.csv",
        "copick.json",
        "--class ribosome=1 --class proteasome=2",
    ),
    ("labels.npy", "copick.json", "--tomogram TS_01 --voxel-size 10"),
    ("volume.npy", "volume.mrc", "--voxel-size 10"),
    ("volume.mrc", "volume.mrc.gz", ""),
    ("volume.mrc", "volume.em", ""),
    ("volume.mrc", "volume.h5", ""),
    ("volume.mrc", "volume.tif", ""),
    ("volume.mrc", "volume.zarr", ""),
    ("volume.mrc", "volume05.zarr", "--ome-zarr 0.5"),
    ("volume.zarr", "volume.npy", ""),
    ("volume05.zarr", "again.mrc", ""),
];

/// Makes a file of each format with the program, and checks them in a virtual environment outside the workspace
/// (`INTEROP_PYTHON` names another interpreter that has the packages).
///
/// # Errors
/// If there is no Python, a package cannot be installed, or one of them reads something else than was written.
pub(crate) fn run(root: &Path) -> Result<()> {
    let built = cargo(root)
        .args(["build", "--package", "deepfinder-cli"])
        .status()?;
    if !built.success() {
        bail!("the program does not build");
    }
    let target = Metadata::of_manifests(root)?.target_directory;
    let program = target
        .join("debug")
        .join(format!("deepfinder{}", std::env::consts::EXE_SUFFIX));
    let folder = target.join("interop");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    write_inputs(&folder)?;
    for (input, output, more) in CONVERSIONS {
        let mut convert = Command::new(&program);
        convert.current_dir(&folder).args(["convert", input, output]);
        succeed(convert.args(more.split_whitespace()))?;
    }
    let script = root.join("tests/interop/check.py");
    succeed(Command::new(python()?).arg(script).arg(&folder))
}

/// An interpreter that has the packages.
fn python() -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("INTEROP_PYTHON") {
        return Ok(python.into());
    }
    let environment = std::env::temp_dir().join("deepfinder-interop");
    let python = environment.join("bin/python");
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(PACKAGES),
    )?;
    Ok(python)
}

fn write_inputs(folder: &Path) -> Result<()> {
    fs::write(folder.join("picks.csv"), PICKS)?;
    fs::write(folder.join("tomograms.star"), TOMOGRAMS)?;
    let voxels: Vec<u8> = (0..6 * 7 * 8_u16)
        .flat_map(|voxel| f32::from(voxel).to_le_bytes())
        .collect();
    fs::write(folder.join("volume.npy"), npy("<f4", "(6, 7, 8)", &voxels)?)?;
    let labels: Vec<u8> = (0..60).collect();
    fs::write(folder.join("labels.npy"), npy("|u1", "(3, 4, 5)", &labels)?)?;
    let config = serde_json::json!({
        "config_type": "filesystem", "name": "interop", "description": "", "version": "1.0.0",
        "overlay_root": format!("local://{}/overlay", folder.display()), "overlay_fs_args": {"auto_mkdir": true},
        "pickable_objects": [
            {"name": "ribosome", "is_particle": true, "label": 1, "color": [255, 0, 0, 255], "radius": 120.0},
            {"name": "proteasome", "is_particle": true, "label": 2, "color": [0, 255, 0, 255], "radius": 80.0},
        ],
    });
    fs::write(folder.join("copick.json"), config.to_string())?;
    Ok(())
}

/// An array of `NumPy`, version 1.
fn npy(descr: &str, shape: &str, voxels: &[u8]) -> Result<Vec<u8>> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).context("a header of NPY")?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(voxels);
    Ok(bytes)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} does not start"))?;
    if status.success() {
        return Ok(());
    }
    bail!("{command:?} failed")
}
