use super::{
    super::{
        Element,
        loss::{ClassLoss, ROWS, class_gradient, class_slopes, class_sums, class_value},
    },
    ELEMENTS, from_bytes, replay, to_bytes,
    voxels::tolerance,
    whole_numbers,
};

pub(super) fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn to_doubles(bytes: &[u8]) -> Vec<f64> {
    let values = bytes.as_chunks::<8>().0;
    values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * expected.abs().max(1.0),
            "{i}: {found} {expected}"
        );
    }
}

#[test]
fn the_sums_of_a_loss_and_its_gradient_are_right() {
    for (voxels, channels) in [(1, 2), (5000, 3), (333, 13), (40, 256)] {
        let logits: Vec<f32> = whole_numbers(voxels * channels, 7)
            .iter()
            .zip(whole_numbers(voxels * channels, 8))
            .map(|(a, b)| a + b / 2.0)
            .collect();
        let labels: Vec<u8> = whole_numbers(voxels, 9)
            .iter()
            .enumerate()
            .map(|(i, value)| ((i + (value + 1.0) as usize) % channels) as u8)
            .collect();
        // Slopes of each class: by p everywhere, by p at the label, by −log p there, by −log p everywhere.
        let mut slopes: Vec<f32> = (0..4 * channels).map(|i| (i % 7) as f32 / 8.0 - 0.25).collect();
        slopes.push(slopes[3 * channels..].iter().sum());

        let mut sums = vec![0.0_f64; ROWS * channels];
        let mut gradient = Vec::new();
        for (logits, &label) in logits.chunks_exact(channels).zip(&labels) {
            let label = usize::from(label);
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let p: Vec<f64> = logits
                .iter()
                .map(|logit| f64::from(*logit).exp() / total)
                .collect();
            let highest = (0..channels)
                .rev()
                .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
                .unwrap();
            for channel in 0..channels {
                sums[channel] += p[channel];
                sums[6 * channels + channel] -= p[channel].ln();
            }
            sums[channels + label] += p[label];
            sums[2 * channels + label] -= p[label].ln();
            sums[3 * channels + label] += 1.0;
            sums[4 * channels + highest] += 1.0;
            sums[5 * channels + label] += f64::from(u8::from(highest == label));
            // dL/dz_c = Σ_k dL/dp_k · p_k · (δ_ck − p_c), and p_c − δ_ck of −log p_k.
            let by_p = |k: usize| {
                let at_label = if k == label { slopes[channels + k] } else { 0.0 };
                f64::from(slopes[k] + at_label)
            };
            let by_log = |k: usize| {
                let at_label = if k == label { slopes[2 * channels + k] } else { 0.0 };
                f64::from(at_label + slopes[3 * channels + k])
            };
            for c in 0..channels {
                let own = |k: usize| if k == c { 1.0 } else { 0.0 };
                let through: f64 = (0..channels).map(|k| by_p(k) * p[k] * (own(k) - p[c])).sum();
                let pull: f64 = (0..channels).map(|k| by_log(k) * (p[c] - own(k))).sum();
                gradient.push((through + pull) as f32);
            }
        }
        for element in ELEMENTS {
            let bytes = [to_bytes(element, &logits), labels.clone()];
            for smoothed in [true, false] {
                let program = class_sums(element, voxels, channels, smoothed).unwrap();
                if let Some(found) = replay(&program, &bytes, 8 * program.output) {
                    let mut expected = sums.clone();
                    if !smoothed {
                        expected[6 * channels..].fill(0.0);
                    }
                    assert_near(&to_doubles(&found), &expected, 1e-6);
                }
            }
            let bytes = [&bytes[..], &[to_bytes(Element::F32, &slopes)]].concat();
            let program = class_gradient(element, voxels, channels).unwrap();
            let found = replay(&program, &bytes, gradient.len() * element.bytes());
            let found = found.map(|bytes| from_bytes(element, &bytes));
            for (found, expected) in found.iter().flatten().zip(&gradient) {
                // Of sums of up to 256 slopes.
                let allowed =
                    tolerance(element) * expected.abs().max(1.0) * if channels > 100 { 8.0 } else { 1.0 };
                assert!((found - expected).abs() <= allowed, "{found} {expected}");
            }
        }
    }
}

const LOSS: ClassLoss = ClassLoss {
    dice_weight: 1.0,
    cross_entropy_weight: 1.0,
    alpha: 0.5,
    beta: 0.5,
    smoothing: 1.0,
    focal: 1.0,
    label_smoothing: 0.0,
};

/// The loss that follows from sums.
fn loss_of(sums: &[f64], weights: &[f64], loss: &ClassLoss) -> f64 {
    let channels = weights.len();
    let row = |row: usize| &sums[row * channels..(row + 1) * channels];
    let [mass, overlap, surprise, truth, doubt] = [row(0), row(1), row(2), row(3), row(6)];
    let mut dice = 0.0;
    let (mut entropy, mut weight) = (0.0, 0.0);
    for c in 0..channels {
        let (wrongly, missed) = (mass[c] - overlap[c], truth[c] - overlap[c]);
        let index = (overlap[c] + loss.smoothing)
            / (overlap[c] + loss.alpha * wrongly + loss.beta * missed + loss.smoothing);
        dice += if index.is_nan() {
            1.0
        } else {
            (1.0 - index)
                .max(if loss.focal < 1.0 { 1e-6 } else { 0.0 })
                .powf(loss.focal)
        };
        let (sure, spread) = (1.0 - loss.label_smoothing, loss.label_smoothing / channels as f64);
        entropy += weights[c] * (sure * surprise[c] + spread * doubt[c]);
        weight += weights[c] * truth[c];
    }
    loss.dice_weight * dice + loss.cross_entropy_weight * entropy / weight
}

#[test]
fn the_loss_and_its_slopes_follow_from_the_sums() {
    // Classes that are found in part, not at all, all but right, and that are nowhere.
    let channels = 5;
    let sums = [
        [900.0, 50.0, 40.0, 30.0, 0.0],
        [800.0, 10.0, 0.5, 29.999_999_9, 0.0],
        [120.0, 90.0, 300.0, 0.001, 0.0],
        [850.0, 60.0, 70.0, 30.0, 0.0],
        [900.0, 40.0, 40.0, 30.0, 0.0],
        [790.0, 20.0, 2.0, 30.0, 0.0],
        [2e3, 4e3, 5e3, 6e3, 7e3],
    ]
    .concat();
    let equal = [1.0; 5];
    let weights = [0.25, 1.0, 2.0, 3.0, 4.0];
    let cases = [
        (LOSS, false),
        (
            ClassLoss {
                cross_entropy_weight: 0.0,
                smoothing: 0.0,
                ..LOSS
            },
            false,
        ),
        (
            ClassLoss {
                label_smoothing: 0.1,
                focal: 0.75,
                ..LOSS
            },
            true,
        ),
        (
            ClassLoss {
                dice_weight: 0.7,
                cross_entropy_weight: 2.0,
                alpha: 0.3,
                beta: 0.9,
                focal: 2.0,
                ..LOSS
            },
            true,
        ),
    ];
    for (loss, weighted) in cases {
        let used = if weighted { weights } else { equal };
        let mut inputs = vec![doubles(&sums)];
        if weighted {
            inputs.push(doubles(&weights));
        }
        let program = class_value(channels, weighted, &loss).unwrap();
        let Some(found) = replay(&program, &inputs, 8 * program.output) else {
            return;
        };
        let expected = [&[loss_of(&sums, &used, &loss)], &sums[3 * channels..6 * channels]].concat();
        assert_near(&to_doubles(&found), &expected, 1e-12);

        let program = class_slopes(channels, weighted, &loss).unwrap();
        let found = replay(&program, &inputs, 4 * program.output).unwrap();
        let slopes = from_bytes(Element::F32, &found);
        // By Σp, by Σp at the label, by Σ −log p there, by Σ −log p everywhere: rows of the sums.
        for (slope, row) in [0, 1, 2, 6].into_iter().enumerate() {
            for c in 0..channels {
                // What is all but right is too steep for differences, and what is nowhere teaches nothing.
                if c == 3 && row < 2 || c == 4 {
                    continue;
                }
                let at = |change: f64| {
                    let mut sums = sums.clone();
                    sums[row * channels + c] += change;
                    loss_of(&sums, &used, &loss)
                };
                let expected = (at(1e-4) - at(-1e-4)) / 2e-4;
                let found = f64::from(slopes[slope * channels + c]);
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{loss:?} {row} {c}: {found} {expected}"
                );
            }
        }
        let all: f32 = slopes[3 * channels..4 * channels].iter().sum();
        assert_eq!(slopes[4 * channels], all);
        assert!(slopes.iter().all(|slope| slope.is_finite()));
    }
}
