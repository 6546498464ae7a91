//! Scores a list of picks and finds the cluster size below which picks are best dropped.
//!
//! `cargo run -p deepfinder-eval --example score_picks`

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use deepfinder_core::{Particle, ParticleList};
use deepfinder_eval::{EvaluateParams, Mode, SweepBy, evaluate, sweep};

fn main() -> Result<(), deepfinder_eval::EvalError> {
    let places = [
        [20.0, 20.0, 20.0],
        [60.0, 20.0, 20.0],
        [20.0, 60.0, 20.0],
        [60.0, 60.0, 20.0],
    ];
    let truth: ParticleList = places.map(|place| Particle::new(place, 1)).to_vec().into();
    let pick = |[x, y, z]: [f64; 3], size| {
        let mut pick = Particle::new([x + 1.5, y, z], 1);
        pick.size_voxels = Some(size);
        pick
    };
    let picks: ParticleList = vec![
        pick(places[0], 800),
        pick(places[1], 750),
        pick(places[3], 400),
        pick([40.0; 3], 30),
    ]
    .into();

    let params = EvaluateParams::new(Mode::one_to_one(5.0));
    let report = evaluate(&truth, &picks, &params)?;
    println!("class  truth  picks  precision  recall     F1");
    for row in &report.pooled.classes {
        let scores = &row.scores;
        println!(
            "{:5}  {:5}  {:5}  {:9.3}  {:6.3}  {:5.3}",
            row.label, row.truth, row.picks, scores.precision, scores.recall, scores.f1
        );
    }
    if let Some(best) = sweep(&truth, &picks, &params, SweepBy::Size, 50)?.best {
        println!(
            "F1 is best, {:.3}, for clusters of at least {} voxels",
            best.f_beta, best.threshold
        );
    }
    Ok(())
}
