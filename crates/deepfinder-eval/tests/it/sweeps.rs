use deepfinder_core::{Particle, ParticleList};
use deepfinder_eval::{EvalError, EvaluateParams, Mode, SweepBy, evaluate, sweep};

/// Five particles of two classes, each picked; and as many wrong picks of lower score and smaller size.
fn lists() -> (ParticleList, ParticleList) {
    let truth: Vec<Particle> = (0..5)
        .map(|i| Particle::new([20.0 * f64::from(i), 0.0, 0.0], 1 + (i % 2) as u8))
        .collect();
    let mut picks = Vec::new();
    for (i, particle) in truth.iter().enumerate() {
        let mut right = particle.clone();
        right.score = Some(0.5 + 0.1 * i as f32);
        right.size_voxels = Some(100 + i as u64);
        let mut wrong = Particle::new([particle.position[0] + 9.0, 0.0, 0.0], particle.label);
        wrong.score = Some(0.1 + 0.05 * i as f32);
        wrong.size_voxels = Some(10 + i as u64);
        picks.extend([right, wrong]);
    }
    (truth.into(), picks.into())
}

#[test]
fn the_best_threshold_parts_right_from_wrong() {
    let (truth, picks) = lists();
    let params = EvaluateParams::new(Mode::one_to_one(3.0));
    for (by, best) in [(SweepBy::Score, 0.5), (SweepBy::Size, 100.0)] {
        let sweep = sweep(&truth, &picks, &params, by, 100).unwrap();
        assert_eq!(sweep.points.len(), 10);
        let all = evaluate(&truth, &picks, &params).unwrap().pooled;
        assert_eq!(
            (sweep.points[0].micro, &sweep.points[0].classes),
            (all.micro, &all.classes)
        );
        let found = sweep.best.unwrap();
        assert_eq!((found.threshold, found.f_beta), (best, 1.0));
        assert_eq!(sweep.best_of_class.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert!(sweep.best_of_class.values().all(|best| best.f_beta == 1.0));
        let recalls: Vec<f64> = sweep.curve(None).iter().map(|point| point.1.recall).collect();
        assert!(recalls.is_sorted_by(|a, b| a >= b));
        assert_eq!(sweep.curve(Some(2)).len(), 10);
        assert!(serde_json::to_string(&sweep).unwrap().starts_with("{\"by\":\"s"));
    }
}

#[test]
fn points_may_be_few_and_the_first_keeps_all() {
    let (truth, picks) = lists();
    let params = EvaluateParams::new(Mode::one_to_one(3.0));
    let sweep = sweep(&truth, &picks, &params, SweepBy::Size, 2).unwrap();
    assert!(sweep.points.len() <= 4);
    assert_eq!(
        (sweep.points[0].threshold, sweep.points[0].micro.recall),
        (10.0, 1.0)
    );
}

#[test]
fn what_is_missing_is_said() {
    let (truth, mut picks) = lists();
    let params = EvaluateParams::new(Mode::one_to_one(3.0));
    picks[3].score = None;
    let error = sweep(&truth, &picks, &params, SweepBy::Score, 10).unwrap_err();
    assert!(matches!(
        error,
        EvalError::Missing {
            index: 3,
            what: "score",
            ..
        }
    ));
    let nothing = sweep(&truth, &ParticleList::default(), &params, SweepBy::Score, 10).unwrap();
    assert!(nothing.points.is_empty() && nothing.best.is_none());
}
