use deepfinder_core::{Label, Particle, ParticleList, Volume};
use deepfinder_eval::{
    Assignment, EvalError, EvaluateParams, Mode, Radius, Report, evaluate, evaluate_occupancy,
};
use ndarray::Array3;
use proptest::prelude::*;

fn list(particles: &[(f64, Label)]) -> ParticleList {
    let place = |&(x, label): &(f64, Label)| Particle::new([x, 5.0, 5.0], label);
    ParticleList::from(particles.iter().map(place).collect::<Vec<_>>())
}

/// True positives, false positives and false negatives of a class.
fn counts(report: &Report, label: Label) -> [u64; 3] {
    let row = report.pooled.classes.iter().find(|row| row.label == label);
    let scores = row.unwrap().scores;
    [
        scores.true_positives,
        scores.false_positives,
        scores.false_negatives,
    ]
}

fn localisation(report: &Report) -> [u64; 3] {
    let scores = report.pooled.localisation;
    [
        scores.true_positives,
        scores.false_positives,
        scores.false_negatives,
    ]
}

fn truth() -> ParticleList {
    list(&[(10.0, 1), (20.0, 1), (30.0, 2), (40.0, 2)])
}

/// Two on the first particle, one of the wrong class on the third, one nowhere.
fn picks() -> ParticleList {
    list(&[(11.0, 1), (13.0, 1), (30.0, 1), (70.0, 2), (42.0, 2)])
}

#[test]
fn one_to_one_counts_a_second_pick_as_wrong() {
    let report = evaluate(&truth(), &picks(), &EvaluateParams::new(Mode::one_to_one(4.0))).unwrap();
    assert_eq!((counts(&report, 1), counts(&report, 2)), ([1, 2, 1], [1, 1, 1]));
    assert_eq!(localisation(&report), [3, 2, 1]);
    let pooled = &report.pooled;
    assert_eq!(
        (
            pooled.micro.true_positives,
            pooled.micro.precision,
            pooled.micro.recall
        ),
        (2, 0.4, 0.5)
    );
    assert!((pooled.macro_average.f1 - 0.45).abs() < 1e-12);
    assert_eq!(pooled.micro.mean_distance_voxels, Some(1.5));
    assert_eq!(pooled.micro.rms_distance_voxels, Some(2.5_f64.sqrt()));
    assert_eq!(pooled.confusion.labels, [0, 1, 2]);
    assert_eq!(pooled.confusion.counts, [[0, 1, 1], [1, 1, 0], [0, 1, 1]]);
}

#[test]
fn shrec_counts_particles_by_their_first_hit() {
    let mode = Mode::Shrec { radius: 4.0.into() };
    let report = evaluate(&truth(), &picks(), &EvaluateParams::new(mode)).unwrap();
    // 3 of 4 particles hit by 5 picks; the second pick on a particle and the one nowhere are no false class.
    assert_eq!(localisation(&report), [3, 2, 1]);
    assert_eq!((counts(&report, 1), counts(&report, 2)), ([1, 1, 1], [1, 0, 1]));
    assert_eq!(report.pooled.confusion.counts, [[0, 0, 1], [1, 1, 0], [0, 1, 1]]);
}

#[test]
fn shrec_takes_the_true_shapes_where_it_has_them() {
    let mut occupancy = Volume::new(Array3::<u16>::zeros((11, 11, 60)));
    for (i, particle) in truth().iter().enumerate() {
        let x = particle.position[0] as usize;
        occupancy
            .voxels
            .slice_mut(ndarray::s![3..8, 3..8, x - 2..=x + 2])
            .fill(1 + i as u16);
    }
    let report = evaluate_occupancy(&truth(), &occupancy, &picks()).unwrap();
    // x = 13 is outside the first particle, so one pick more misses.
    assert_eq!(localisation(&report), [3, 2, 1]);
    assert_eq!(report.pooled.confusion.counts, [[0, 1, 1], [1, 1, 0], [0, 1, 1]]);
    assert_eq!(
        (report.mode, report.pooled.localisation.mean_distance_voxels),
        ("shrec", Some(1.0))
    );
    occupancy.voxels[[5, 5, 11]] = 5;
    let error = evaluate_occupancy(&truth(), &occupancy, &picks()).unwrap_err();
    assert!(matches!(
        error,
        EvalError::Occupancy {
            voxel: [5, 5, 11],
            particles: 4,
            ..
        }
    ));
}

#[test]
fn boxes_have_corners() {
    let truth = ParticleList::from(vec![Particle::new([10.0, 10.0, 10.0], 1)]);
    let picks = ParticleList::from(vec![Particle::new([13.0, 7.0, 12.9], 1)]);
    let right = |mode| {
        evaluate(&truth, &picks, &EvaluateParams::new(mode))
            .unwrap()
            .pooled
            .micro
            .true_positives
    };
    assert_eq!(
        right(Mode::BoundingBox {
            half_edge: 3.0.into()
        }),
        1
    );
    assert_eq!(
        right(Mode::BoundingBox {
            half_edge: 2.9.into()
        }),
        0
    );
    assert_eq!(right(Mode::one_to_one(3.0)), 0);
}

#[test]
fn czii_takes_half_the_radius_and_weighs_classes() {
    let mode = Mode::Czii {
        radius: Radius::PerClass([(1, 4.0), (2, 3.9)].into()),
        weights: [(1, 2.0), (2, 1.0)].into(),
    };
    let report = evaluate(&truth(), &picks(), &EvaluateParams::new(mode)).unwrap();
    assert_eq!((counts(&report, 1), counts(&report, 2)), ([1, 2, 1], [0, 2, 2]));
    let f4 = 17.0 / (17.0 + 16.0 + 2.0);
    assert_eq!((report.mode, report.beta), ("czii", 4.0));
    assert!((report.pooled.weighted_f_beta.unwrap() - f4 * 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn tomograms_are_apart_and_pooled() {
    let named = |mut particles: ParticleList, name: &str| {
        for particle in &mut *particles {
            particle.tomogram = Some(name.into());
        }
        particles.particles
    };
    let both = |a: ParticleList, b: ParticleList| ParticleList::from([named(a, "a"), named(b, "b")].concat());
    let params = EvaluateParams::new(Mode::one_to_one(4.0));
    let report = evaluate(
        &both(truth(), truth()),
        &both(picks(), list(&[(40.0, 2)])),
        &params,
    )
    .unwrap();
    let names: Vec<_> = report
        .tomograms
        .iter()
        .map(|t| t.tomogram.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let single = evaluate(&truth(), &picks(), &params).unwrap();
    assert_eq!(report.tomograms[0].detection, single.pooled);
    assert_eq!((counts(&report, 1), counts(&report, 2)), ([1, 2, 3], [2, 1, 2]));
    // One tomogram on each side is the same one, whatever it is called; of several, each pick must say its own.
    let renamed = evaluate(&named(truth(), "9").into(), &picks(), &params).unwrap();
    assert_eq!(renamed.pooled, single.pooled);
    let error = evaluate(&both(truth(), truth()), &picks(), &params).unwrap_err();
    assert!(matches!(
        error,
        EvalError::NoTomogram {
            list: "picks",
            index: 0
        }
    ));
}

#[test]
fn nothing_is_no_error_and_no_nan() {
    let empty = ParticleList::default();
    for (truth, picks) in [(&empty, &empty), (&truth(), &empty), (&empty, &picks())] {
        for mode in [
            Mode::one_to_one(3.0),
            Mode::Shrec { radius: 3.0.into() },
            Mode::BoundingBox {
                half_edge: 3.0.into(),
            },
            Mode::Czii {
                radius: 3.0.into(),
                weights: [].into(),
            },
        ] {
            let report = evaluate(truth, picks, &EvaluateParams::new(mode)).unwrap();
            let json = serde_json::to_string(&report).unwrap();
            // A ratio that is no number would be null.
            assert!(!json.contains("precision\":null") && !json.contains("f1\":null"));
            assert_eq!(
                (report.pooled.micro.f1, report.pooled.localisation.recall),
                (0.0, 0.0)
            );
        }
    }
}

#[test]
fn reports_are_json() {
    let report = evaluate(&truth(), &picks(), &EvaluateParams::new(Mode::one_to_one(4.0))).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["mode"], "one-to-one");
    assert_eq!(json["pooled"]["classes"][0]["label"], 1);
    assert_eq!(json["pooled"]["classes"][0]["false_positives"], 2);
    assert_eq!(json["pooled"]["micro"]["recall"], 0.5);
    assert_eq!(json["tomograms"][0]["detection"]["macro"]["f1"], 0.45);
}

fn particles() -> impl Strategy<Value = ParticleList> {
    prop::collection::vec((prop::array::uniform3(0.0..20.0f64), 1..4u8, 0.0..1.0f32), 0..25).prop_map(
        |found| {
            let particle = |(position, label, score)| {
                let mut particle = Particle::new(position, label);
                particle.score = Some(score);
                particle
            };
            ParticleList::from(found.into_iter().map(particle).collect::<Vec<_>>())
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_particle_and_pick_is_counted_once(truth in particles(), picks in particles(), radius in 0.5..9.0f64) {
        let by = |assignment| {
            let mode = Mode::OneToOne { radius: radius.into(), assignment };
            evaluate(&truth, &picks, &EvaluateParams::new(mode)).unwrap().pooled
        };
        let optimal = by(Assignment::Optimal);
        for pooled in [&optimal, &by(Assignment::GreedyByScore)] {
            for row in &pooled.classes {
                let counts = &row.scores;
                prop_assert_eq!(counts.true_positives + counts.false_negatives, row.truth);
                prop_assert_eq!(counts.true_positives + counts.false_positives, row.picks);
            }
            let confused: u64 = pooled.confusion.counts.iter().flatten().sum();
            let localised = &pooled.localisation;
            prop_assert_eq!(
                confused,
                localised.true_positives + localised.false_positives + localised.false_negatives
            );
            prop_assert!(pooled.micro.true_positives <= optimal.micro.true_positives);
            prop_assert!(localised.mean_distance_voxels.is_none_or(|distance| distance <= radius));
        }
        // Without classes there is more to choose from. That a greedy choice gains by it is not promised.
        prop_assert!(optimal.localisation.true_positives >= optimal.micro.true_positives);
    }
}
