//! A tomogram, particles in it, and the class table that names them.
//!
//! `cargo run -p deepfinder-core --example vocabulary`

use deepfinder_core::{Class, ClassTable, CoreError, Particle, ParticleList, Rotation, Volume, VoxelSize};
use ndarray::Array3;

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), CoreError> {
    let size = VoxelSize::new(13.68)?;
    // Shapes are (z, y, x): 40 planes of 60 rows of 80 voxels.
    let mut tomogram = Volume::new(Array3::<f32>::zeros((40, 60, 80))).with_voxel_size(size);

    // Particles are dark. Positions are (x, y, z), the other way round than a voxel's index.
    let ribosome =
        Particle::new([70.0, 50.0, 30.0], 1).with_rotation(Rotation::from_zxz_degrees(30.0, 0.0, 90.0));
    if let Some(index) = tomogram.voxel_at(ribosome.position) {
        tomogram.voxels[index] = -1.0;
    }

    // 120 Å in voxels of this tomogram.
    let radius_voxels = 120.0 / size.angstrom();
    let classes = ClassTable::new(vec![Class {
        label: 1,
        name: "ribosome".to_owned(),
        radius_voxels: Some(radius_voxels),
    }])?;

    let picks = ParticleList::from(vec![ribosome, Particle::new([90.0, 10.0, 10.0], 1)]);
    let [depth, height, width] = tomogram.shape();
    println!("a tomogram of {depth} × {height} × {width} voxels (z, y, x) of {size}");
    for pick in picks.iter() {
        let inside = if tomogram.contains(pick.position) {
            "inside"
        } else {
            "outside"
        };
        let angstrom = pick.position.map(|voxels| voxels * f64::from(size.angstrom()));
        println!(
            "{} (radius {radius_voxels:.1} voxels) at {:?} voxels (x, y, z), {angstrom:.0?} Å: {inside}",
            classes.name_of(pick.label),
            pick.position
        );
    }
    // What was turned by a rotation is turned back by its inverse.
    if let Some(rotation) = picks[0].rotation {
        println!(
            "its axis points along {:.2?} (x, y, z)",
            rotation.apply([0.0, 0.0, 1.0])
        );
    }
    Ok(())
}
