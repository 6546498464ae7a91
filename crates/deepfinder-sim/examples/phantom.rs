//! Simulates the demo's tomogram and writes a picture of it: noise-free, with noise, and the label map, through
//! the middle along z, y and x.
//!
//! `cargo run --release -p deepfinder-sim --example phantom -- [PICTURE.png] [SEED] [Z Y X]`

use std::error::Error;
use std::fs::File;
use std::path::Path;

use deepfinder_core::{NoProgress, Volume, VoxelSize};
use deepfinder_sim::{DEMO_CLASSES, Noise, SimParams, Simulation, Template, simulate};
use ndarray::{Array2, Array3, Axis, concatenate};

/// Grey-levels of the labels, far apart.
const PALETTE: [[u8; 3]; 8] = [
    [0, 0, 0],
    [228, 87, 86],
    [76, 120, 168],
    [84, 162, 75],
    [238, 202, 59],
    [178, 121, 162],
    [255, 157, 166],
    [157, 117, 93],
];

#[allow(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let picture = arguments.first().map_or("phantom.png", String::as_str);
    let seed = arguments.get(1).map_or(Ok(1), |seed| seed.parse())?;
    let mut params = SimParams::demo(seed);
    for (side, argument) in params.shape.iter_mut().zip(arguments.iter().skip(2)) {
        *side = argument.parse()?;
    }
    // As crowded as the demo, whatever the size.
    params.particles_per_class =
        params.particles_per_class * params.shape.iter().product::<usize>() / 1_000_000;

    let templates = DEMO_CLASSES
        .map(read_template)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let start = std::time::Instant::now();
    let noisy = simulate(&templates, &params, &NoProgress)?;
    println!("{:?} in {:.2} s", params.shape, start.elapsed().as_secs_f64());
    for (label, particles) in noisy.particles.count_by_label() {
        println!("{:3} of {}", particles, noisy.classes.name_of(label));
    }
    let quiet = simulate(
        &templates,
        &SimParams {
            noise: Noise::None,
            ..params
        },
        &NoProgress,
    )?;
    write_picture(Path::new(picture), &quiet, &noisy)?;
    println!("{picture}");
    Ok(())
}

fn read_template(class: &str) -> Result<Template, Box<dyn Error>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/templates"));
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(class) && name.ends_with(".mrc.gz") {
            let density = mrc::open(&path)?.convert::<f32>().to_ndarray()?;
            let density = Volume::new(density).with_voxel_size(VoxelSize::new(10.0)?);
            return Ok(Template::new(class, density));
        }
    }
    Err(format!("no template of {class} in {}", folder.display()).into())
}

/// One row of slices for each axis: z (x to the right, y down), y (x, z), x (y, z).
fn write_picture(path: &Path, quiet: &Simulation, noisy: &Simulation) -> Result<(), Box<dyn Error>> {
    let rows = (0..3)
        .map(|axis| {
            let grey = |volume: &Volume<f32>| middle(&volume.voxels, axis);
            let labels = middle(&noisy.labels.voxels, axis).mapv(|label| PALETTE[usize::from(label) % 8]);
            concatenate(
                Axis(1),
                &[
                    shade(&grey(&quiet.tomogram)).view(),
                    shade(&grey(&noisy.tomogram)).view(),
                    labels.view(),
                ],
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let width = rows.iter().map(Array2::ncols).max().unwrap_or(0);
    let height = rows.iter().map(Array2::nrows).sum::<usize>();
    let mut pixels = vec![[255_u8; 3]; width * height];
    for (line, row) in pixels
        .chunks_mut(width)
        .zip(rows.iter().flat_map(|row| row.outer_iter()))
    {
        line.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
    }
    let mut encoder = png::Encoder::new(File::create(path)?, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(pixels.as_flattened())?;
    Ok(())
}

fn middle<T: Clone>(volume: &Array3<T>, axis: usize) -> Array2<T> {
    volume
        .index_axis(Axis(axis), volume.len_of(Axis(axis)) / 2)
        .to_owned()
}

/// Mean ± 3 standard deviations to black … white.
fn shade(slice: &Array2<f32>) -> Array2<[u8; 3]> {
    let mean = slice.mean().unwrap_or(0.0);
    let deviation = slice.std(0.0).max(f32::MIN_POSITIVE);
    slice.mapv(|v| [(127.5 + (v - mean) / deviation * 42.5).clamp(0.0, 255.0) as u8; 3])
}
