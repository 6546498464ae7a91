//! How long a search takes: correlations of noise with a ball, and what the paper's search would take at that rate.
//!
//! `cargo run --release -p deepfinder-match --example speed -- [SIDE] [TEMPLATE_SIDE] [ROTATIONS]`

use std::error::Error;
use std::time::Instant;

use deepfinder_core::{NoProgress, Symmetry, Volume, orientations};
use deepfinder_match::{MatchParams, match_template};
use ndarray::Array3;

/// The ribosomes of the paper's dataset 2 (Methods, "Description of template matching"): a template of 40³ voxels.
const PAPER_VOXELS: f64 = 928.0 * 928.0 * 464.0;
const PAPER_ROTATIONS: f64 = 7112.0;
const PAPER_CORE_HOURS: f64 = 26.0 * 32.0;

#[allow(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (side, template_side, count) = (argument(152)?, argument(40)?, argument(60)?);
    let tomogram = Volume::new(Array3::from_shape_fn([side; 3], |(z, y, x)| {
        ((z * 7919 + y * 104_729 + x * 1_299_709) % 1009) as f32
    }));
    let half = template_side as f32 / 2.0;
    let template = Volume::new(Array3::from_shape_fn([template_side; 3], |(z, y, x)| {
        let squared: f32 = [z, y, x].map(|i| (i as f32 - half).powi(2)).iter().sum();
        (0.7 * half - squared.sqrt()).clamp(0.0, 1.0)
    }));
    let rotations = orientations(12.85, Symmetry::C1)?;
    let rotations = &rotations[..count.min(rotations.len())];
    let params = MatchParams {
        mask_radius_voxels: Some(f64::from(half) - 2.0),
        ..MatchParams::default()
    };
    let start = Instant::now();
    let (mut scores, mut best) = (Vec::new(), Vec::new());
    let report = match_template(
        &tomogram,
        &template,
        rotations,
        &params,
        &mut scores,
        &mut best,
        &NoProgress,
    )?;
    let seconds = start.elapsed().as_secs_f64();
    let threads = rayon::current_num_threads();
    let rate = report.trials as f64 / seconds;
    let core_hours = PAPER_VOXELS * PAPER_ROTATIONS / rate * threads as f64 / 3600.0;
    println!(
        "{side}³ voxels, box of {}³, {} rotations, {} tiles, {threads} threads: {seconds:.1} s, {:.1} million scores a second",
        report.box_voxels,
        report.rotations,
        report.tiles,
        rate / 1e6
    );
    println!(
        "928 × 928 × 464 voxels in 7112 rotations would take {core_hours:.0} core hours; the paper: {PAPER_CORE_HOURS:.0}"
    );
    Ok(())
}
