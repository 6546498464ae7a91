//! The whole way through the library: simulate a tomogram, segment it, pick its particles, score them.
//!
//! `cargo run --release -p deepfinder-pipeline --example find_particles`

use std::path::Path;

use deepfinder_core::NoProgress;
use deepfinder_pipeline::{
    EvaluateJob, Evaluation, Length, Model, PickJob, Plan, Precision, Project, ReadOptions, SegmentJob,
    SimParams, SimulateJob, TomogramOptions, device, evaluate_files, pick_particles, segment_tomogram,
    simulate_project,
};

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);

    // One tomogram to test with, none to train on: the demo's model is there already.
    let params = SimParams {
        shape: [64, 64, 64],
        particles_per_class: 2,
        ..SimParams::demo(7)
    };
    let simulated = simulate_project(&SimulateJob::new(folder.path(), params), &NoProgress)?;
    let project = Project::read(&simulated.project)?;
    let tomogram = project.resolve(&project.tomograms[0].file);

    let weights = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/demo/model.safetensors"
    );
    let job = SegmentJob {
        tomogram,
        options: TomogramOptions::default(),
        labels: path("labels.mrc"),
        scores: None,
        plan: Plan::default(),
        half_turn: false,
        precision: Precision::F32,
        force: false,
    };
    let model = Model::read(Path::new(weights))?;
    let segmented = segment_tomogram(&job, std::slice::from_ref(&model), &device("auto")?, &NoProgress)?;
    println!("voxels: {:?}", segmented.voxels_by_class);

    let picks = PickJob {
        radius: Some(Length::Voxels(8.0)),
        min_size: 150,
        ..PickJob::new(&segmented.labels, &path("picks.xml"))
    };
    let picked = pick_particles(&picks, &NoProgress)?;
    println!("{} particles", picked.particles.len());

    let job = EvaluateJob {
        radius: Some(Length::Voxels(6.0)),
        classes: model.classes(),
        ..EvaluateJob::default()
    };
    let truth = path("tomo1_particles.xml");
    if let Evaluation::Particles { classes, report } =
        evaluate_files(&truth, &picks.output, &ReadOptions::default(), &job)?
    {
        for class in &report.pooled.classes {
            println!("{}: F1 {:.2}", classes.name_of(class.label), class.scores.f1);
        }
    }
    Ok(())
}
