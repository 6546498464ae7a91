use deepfinder_core::{CancelToken, CoreError, LabelMap, NoProgress, Volume};
use deepfinder_eval::{EvalError, label_map_scores};
use ndarray::Array3;
use proptest::prelude::*;

fn map(labels: &[u8], shape: [usize; 3]) -> LabelMap {
    Volume::new(Array3::from_shape_vec(shape, labels.to_vec()).unwrap())
}

#[test]
fn scores_follow_their_definitions() {
    let truth = map(&[0, 0, 1, 1, 1, 1, 7, 7], [2, 2, 2]);
    let predicted = map(&[0, 1, 1, 1, 0, 0, 7, 3], [2, 2, 2]);
    let report = label_map_scores(&truth, &predicted, &NoProgress).unwrap();
    let rows: Vec<_> = report
        .classes
        .iter()
        .map(|row| (row.label, row.truth, row.predicted, row.shared))
        .collect();
    assert_eq!(rows, [(0, 2, 3, 1), (1, 4, 3, 2), (3, 0, 1, 0), (7, 2, 1, 1)]);
    let first = report.classes[1];
    assert_eq!(
        (first.dice, first.iou, first.precision, first.recall),
        (4.0 / 7.0, 0.4, 2.0 / 3.0, 0.5)
    );
    assert_eq!(
        (
            report.accuracy,
            report.confusion.count(1, 0),
            report.confusion.count(7, 3)
        ),
        (0.5, 2, 1)
    );
    assert!((report.mean_dice - (4.0 / 7.0 + 0.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
    assert!(serde_json::to_value(&report).unwrap()["classes"][1]["dice"].is_f64());
}

#[test]
fn maps_must_be_of_one_tomogram() {
    let (a, b) = (map(&[0; 8], [2, 2, 2]), map(&[0; 8], [1, 2, 4]));
    assert!(matches!(
        label_map_scores(&a, &b, &NoProgress),
        Err(EvalError::Shapes { .. })
    ));
    let cancelled = CancelToken::default();
    cancelled.cancel();
    assert!(matches!(
        label_map_scores(&a, &a, &cancelled),
        Err(EvalError::Core(CoreError::Cancelled))
    ));
    let empty = map(&[], [0, 0, 0]);
    assert_eq!(
        label_map_scores(&empty, &empty, &NoProgress).unwrap().mean_dice,
        0.0
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn counts_are_those_of_a_loop(
        voxels in prop::collection::vec((0..4u8, 0..4u8), 3 * 5 * 7),
    ) {
        let (truth, predicted): (Vec<u8>, Vec<u8>) = voxels.iter().copied().unzip();
        let report =
            label_map_scores(&map(&truth, [3, 5, 7]), &map(&predicted, [3, 5, 7]), &NoProgress).unwrap();
        for t in 0..4 {
            for p in 0..4 {
                let expected = voxels.iter().filter(|&&pair| pair == (t, p)).count();
                prop_assert_eq!(report.confusion.count(t, p), expected as u64);
            }
        }
    }
}
