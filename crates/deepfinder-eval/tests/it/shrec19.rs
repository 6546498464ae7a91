use std::path::Path;

use deepfinder_core::{Particle, ParticleList};
use deepfinder_eval::{EvaluateParams, Mode, evaluate};

const SHREC19: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/shrec19");
const CLASSES: [&str; 12] = [
    "1bxn", "1qvr", "1s3x", "1u6g", "2cg9", "3cf3", "3d2f", "3gl1", "3h84", "3qm1", "4b4t", "4d8q",
];

fn truth(text: &str) -> ParticleList {
    let particle = |line: &str| {
        let mut columns = line.split_whitespace();
        let name = columns.next()?;
        let label = 1 + CLASSES.iter().position(|&class| class == name)?;
        let [z, y, x] = [(); 3].map(|()| columns.next().unwrap().parse().unwrap());
        Some(Particle::new([x, y, z], label as u8))
    };
    ParticleList::from(text.lines().filter_map(particle).collect::<Vec<_>>())
}

fn picks(xml: &str) -> ParticleList {
    let particle = |object: &str| {
        let value = |name: &str| {
            let start = object.find(&format!(" {name}=\""))? + name.len() + 3;
            object[start..].split('"').next()?.parse::<f64>().ok()
        };
        let mut particle = Particle::new(
            [value("x")?, value("y")?, value("z")?],
            value("class_label")? as u8,
        );
        particle.size_voxels = value("cluster_size").map(|size| size as u64);
        Some(particle)
    };
    ParticleList::from(
        xml.split("<object ")
            .skip(1)
            .filter_map(|object| particle(&format!(" {object}")))
            .collect::<Vec<_>>(),
    )
}

/// The published list of SHREC'19's test tomogram: recall 0.878 and precision 0.849 within 10 voxels.
///
/// Both ways to count localisation whatever the class give them: one-to-one, and particles hit at least once.
#[test]
fn the_published_list_scores_as_published() {
    let folder = Path::new(SHREC19);
    if !folder.exists() {
        eprintln!("skipped: ../shared not here");
        return;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let truth = truth(&read("particle_locations_model_9.txt"));
    let raw = picks(&read("tomo9_objlist_raw.xml"));
    assert_eq!((truth.len(), raw.len()), (2540, 2624));
    for mode in [Mode::one_to_one(10.0), Mode::Shrec { radius: 10.0.into() }] {
        let report = evaluate(&truth, &raw, &EvaluateParams::new(mode)).unwrap();
        let found = report.pooled.localisation;
        assert_eq!(found.true_positives, 2229, "{}", report.mode);
        assert!((found.recall - 0.878).abs() < 5e-4 && (found.precision - 0.849).abs() < 5e-4);
        assert_eq!(report.pooled.micro.true_positives, 1428, "{}", report.mode);
    }
}
