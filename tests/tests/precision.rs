//! bf16 against f32 on the volume of the parity test: the labels and the picks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use deepfinder_core::{Label, ParticleList};
use deepfinder_io::{ReadOptions, read_label_map, read_particles};
use deepfinder_tests::{Bench, shared};
use ndarray::Array3;

fn labels(path: &Path) -> Array3<Label> {
    read_label_map(path).unwrap().voxels
}

/// Segments the volume and picks, with this precision.
fn run(bench: &Bench, data: &Path, precision: &str) -> (Array3<Label>, ParticleList) {
    let of = |file: &str| data.join(file).display().to_string();
    let (volume, weights) = (of("parity/volume.mrc"), of("weights/deepfinder_shrec19.h5"));
    bench
        .run(&format!(
            "segment {volume} -w {weights} -o {precision}.mrc --precision {precision} --force"
        ))
        .success();
    bench
        .run(&format!(
            "pick {precision}.mrc -o {precision}.csv --radius 8 --min-size 100"
        ))
        .success();
    let picks = read_particles(&bench.path(&format!("{precision}.csv")), &ReadOptions::default()).unwrap();
    (labels(&bench.path(&format!("{precision}.mrc"))), picks)
}

#[test]
fn bf16_gives_the_labels_and_picks_of_f32() {
    let Some(data) = shared() else { return };
    let bench = Bench::default();
    let [(single, of_single), (half, of_half)] =
        ["f32", "bf16"].map(|precision| run(&bench, &data, precision));
    assert_ne!(single, half, "they are computed differently");

    // Voxels that are foreground or touch it.
    let (mut near, mut same) = (0_u32, 0_u32);
    let reach = |index: usize, length: usize| index.saturating_sub(1)..(index + 2).min(length);
    for ((z, y, x), label) in single.indexed_iter() {
        let (d, h, w) = single.dim();
        let around = single.slice(ndarray::s![reach(z, d), reach(y, h), reach(x, w)]);
        if around.iter().any(|label| *label > 0) {
            near += 1;
            same += u32::from(half[[z, y, x]] == *label);
        }
    }
    assert!(near > 100_000);
    let share = f64::from(same) / f64::from(near);
    assert!(share > 0.998, "{share} of {near} voxels");

    assert!(of_single.len() > 50);
    assert_eq!(of_single.len(), of_half.len());
    for particle in of_single.iter() {
        let distance = of_half
            .iter()
            .filter(|other| other.label == particle.label)
            .map(|other| {
                let square = |axis: usize| (other.position[axis] - particle.position[axis]).powi(2);
                (square(0) + square(1) + square(2)).sqrt()
            })
            .fold(f64::INFINITY, f64::min);
        assert!(distance < 0.2, "{particle:?} is {distance} voxels off");
    }
}

#[test]
fn an_unknown_precision_is_refused() {
    let bench = Bench::default();
    bench
        .run("bench --precision f16")
        .refused(&["`f16` is no precision", "bf16"]);
}
