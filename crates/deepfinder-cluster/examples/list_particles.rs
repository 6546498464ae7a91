//! Lists the particles of a label map as big as SHREC'19's, and says how long each method took.
//!
//! `cargo run --release -p deepfinder-cluster --example list_particles -- [RADIUS] [PARTICLES]`

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::time::Instant;

use deepfinder_cluster::{ComponentsParams, FilterParams, MeanShiftParams, filter};
use deepfinder_core::{Label, LabelMap, NoProgress, Volume};
use ndarray::Array3;

const SHAPE: [usize; 3] = [200, 512, 512];
const CLASSES: u64 = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let radius: f64 = arguments.next().map_or(Ok(6.0), |text| text.parse())?;
    let particles: u64 = arguments.next().map_or(Ok(2500), |text| text.parse())?;
    let labels = scattered_balls(particles);
    let foreground = labels.voxels.iter().filter(|&&label| label > 0).count();
    println!("{foreground} foreground voxels in {SHAPE:?}");

    let start = Instant::now();
    let picks = MeanShiftParams::new(radius)
        .check()?
        .cluster(&labels, &NoProgress)?;
    println!("mean-shift: {} particles in {:.3?}", picks.len(), start.elapsed());

    let start = Instant::now();
    let components = ComponentsParams::default()
        .check()?
        .cluster(&labels, &NoProgress)?;
    println!(
        "components: {} particles in {:.3?}",
        components.len(),
        start.elapsed()
    );

    let large = filter(picks, &FilterParams::min_size(100))?;
    println!("{} clusters of at least 100 voxels", large.len());
    if let Some(first) = large.first() {
        println!("the first: class {} at {:?}", first.label, first.position);
    }
    Ok(())
}

/// Balls of 3 to 8 voxels' radius, and one stray voxel in a thousand, as networks leave them.
fn scattered_balls(particles: u64) -> LabelMap {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        // Knuth's MMIX generator: good enough to scatter balls.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut voxels = Array3::zeros(SHAPE);
    for _ in 0..SHAPE.iter().product::<usize>() / 1000 {
        let place = SHAPE.map(|len| random(len as u64) as usize);
        voxels[place] = 1 + random(CLASSES) as Label;
    }
    for _ in 0..particles {
        let centre = SHAPE.map(|len| random(len as u64) as i64);
        let radius = 3 + random(6) as i64;
        let label = 1 + random(CLASSES) as Label;
        for dz in -radius..=radius {
            for dy in -radius..=radius {
                for dx in -radius..=radius {
                    let [z, y, x] = [centre[0] + dz, centre[1] + dy, centre[2] + dx];
                    if dz * dz + dy * dy + dx * dx <= radius * radius
                        && let Some(voxel) = voxels.get_mut([z as usize, y as usize, x as usize])
                    {
                        *voxel = label;
                    }
                }
            }
        }
    }
    Volume::new(voxels)
}
