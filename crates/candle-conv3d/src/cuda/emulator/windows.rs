use super::{
    super::{
        Element,
        windows::{window_labels, window_voxels},
    },
    from_bytes, replay, to_bytes, whole_numbers,
};
use crate::windows::{WindowPlace, windows_here};

/// Windows inside a volume, across its borders, turned, scaled; of two volumes, one of which is thinner than they are.
fn places(side: usize) -> Vec<WindowPlace> {
    let inside = WindowPlace {
        offset: 0,
        size: [20, 18, 22],
        start: [3, 1, 2],
        turned: false,
        scale: 1.0,
        shift: 0.0,
    };
    let thin = WindowPlace {
        offset: 20 * 18 * 22,
        size: [3, 17, 1],
        start: [(3 - side as i32).div_euclid(2), 2, -4],
        ..inside
    };
    vec![
        inside,
        WindowPlace {
            turned: true,
            ..inside
        },
        thin,
        WindowPlace {
            scale: 1.1,
            shift: -0.3,
            turned: true,
            ..thin
        },
    ]
}

#[test]
fn windows_are_those_of_the_cpu() {
    let voxels = 20 * 18 * 22 + 3 * 17;
    let labels: Vec<u8> = whole_numbers(voxels, 3).iter().map(|v| (v + 1.0) as u8).collect();
    let whole: Vec<f32> = whole_numbers(voxels, 1)
        .iter()
        .zip(whole_numbers(voxels, 2))
        .map(|(a, b)| 40.0 * a + b + 3.0)
        .collect();
    let constant = vec![7.5; voxels];
    let broken: Vec<f32> = whole
        .iter()
        .enumerate()
        .map(|(i, v)| v * 0.37 + (i % 11) as f32 * 1e-3)
        .collect();
    // A part and its rest; of 8³ voxels, whose mean is exact, all sums are exact.
    for (side, values, exact) in [
        (8, &whole, true),
        (16, &constant, true),
        (12, &broken, false),
        (20, &broken, false),
    ] {
        let places = places(side);
        let table: Vec<u8> = places.iter().flat_map(|place| place.to_bytes()).collect();
        let (expected, expected_labels) = windows_here(values, &labels, &places, side);
        let program = window_voxels(voxels, places.len(), side).unwrap();
        let inputs = [to_bytes(Element::F32, values), table.clone()];
        let Some(found) = replay(&program, &inputs, 4 * program.output) else {
            return;
        };
        let found = from_bytes(Element::F32, &found);
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // In another order the sums may be off in the last place of an f64, and the rounding to f32 with them.
            let near = (found - expected).abs() <= f32::EPSILON * expected.abs().max(1.0);
            let same = found.to_bits() == expected.to_bits();
            assert!(same || near && !exact, "{side} {i}: {found} {expected}");
        }
        let program = window_labels(voxels, places.len(), side).unwrap();
        let found = replay(&program, &[labels.clone(), table], program.output).unwrap();
        assert!(found == expected_labels);
    }
}
