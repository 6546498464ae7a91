//! Prints what the header of a volume says: `cargo run -p deepfinder-io --example info -- tomogram.mrc`.
//! Without a file it writes a small one and shows that.

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::path::PathBuf;

use deepfinder_core::{Moments, Volume, VoxelSize};
use deepfinder_io::{open_volume, write_volume};
use ndarray::Array3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = if let Some(path) = std::env::args_os().nth(1) {
        PathBuf::from(path)
    } else {
        let path = folder.path().join("ramp.mrc");
        let voxels = Array3::from_shape_fn((16, 24, 32), |(z, y, x)| (z + y + x) as f32);
        let tomogram = Volume::new(voxels).with_voxel_size(VoxelSize::new(13.68)?);
        write_volume(&path, &tomogram)?;
        path
    };

    let file = open_volume(&path)?;
    let info = file.info();
    let [z, y, x] = info.shape;
    println!(
        "{}: {} volume of {}",
        path.display(),
        info.format,
        info.element_type
    );
    println!("  {x} × {y} × {z} voxels (x, y, z)");
    match info.voxel_size {
        Some(size) => println!("  voxel size {size}"),
        None => println!("  voxel size unknown"),
    }
    println!("  origin {:?} Å (x, y, z)", info.origin_angstrom);
    for warning in &info.warnings {
        println!("  note: {warning}");
    }

    // Read in slabs: the file need not fit into memory.
    let moments = Moments::of_volume(&file)?;
    println!(
        "  {} to {}, mean {:.6}, standard deviation {:.6}, {} voxels not finite",
        moments.min,
        moments.max,
        moments.mean,
        moments.standard_deviation(),
        moments.non_finite
    );
    Ok(())
}
