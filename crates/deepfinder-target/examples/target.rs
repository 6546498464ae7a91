//! Draws a crowded tomogram of spheres and shapes and tells how long it took.
//!
//! `cargo run --release -p deepfinder-target --example target`

use std::time::Instant;

use deepfinder_core::{NoProgress, Particle, ParticleList, Rotation, Volume};
use deepfinder_target::{ClassOrder, ParticleShape, TargetError, TargetParams, draw_target};
use ndarray::Array3;

#[allow(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), TargetError> {
    const PARTICLES: usize = 2500;
    let shape = [464, 928, 928];
    // A lattice with golden-ratio steps: spread evenly, no generator needed.
    let along = |i: usize, step: f64, side: usize| ((i as f64 * step).fract() * side as f64).floor();
    let particles = ParticleList::from(
        (0..PARTICLES)
            .map(|i| {
                let position = [
                    along(i, 0.618_034, shape[2]),
                    along(i, 0.754_878, shape[1]),
                    along(i, 0.819_173, shape[0]),
                ];
                let rotation = Rotation::from_zxz_degrees(i as f64 * 7.0, i as f64 * 11.0, i as f64 * 13.0);
                Particle::new(position, (i % 12 + 1) as u8).with_rotation(rotation)
            })
            .collect::<Vec<_>>(),
    );

    let radii = [6.0, 6.0, 3.0, 6.0, 6.0, 7.0, 6.0, 4.0, 4.0, 3.0, 10.0, 8.0];
    let spheres =
        TargetParams::new((1..).zip(radii.map(|radius_voxels| ParticleShape::Sphere { radius_voxels })));
    let shapes = TargetParams {
        order: ClassOrder::BySizeDescending,
        ..TargetParams::new((1..).zip(radii.map(|radius| ParticleShape::Mask(rod(radius)))))
    };
    for (name, params) in [("spheres", spheres), ("shapes", shapes)] {
        let start = Instant::now();
        let (target, report) = draw_target(shape, &particles, &params, None, &NoProgress)?;
        let seconds = start.elapsed().as_secs_f64();
        let foreground = target.voxels.iter().filter(|&&label| label != 0).count();
        println!(
            "{name}: {} drawn, {} cut by the border, {foreground} voxels, {seconds:.3} s",
            report.drawn,
            report.partly_outside.len()
        );
    }
    Ok(())
}

/// An ellipsoid twice as long as thick, in a cube of 40.
fn rod(radius: f64) -> Volume<u8> {
    Volume::new(Array3::from_shape_fn((40, 40, 40), |(z, y, x)| {
        let [dz, dy, dx] = [z, y, x].map(|i| (i as f64 - 20.0) / radius);
        u8::from(dz * dz + 4.0 * (dy * dy + dx * dx) <= 2.0)
    }))
}
