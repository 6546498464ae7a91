use deepfinder_infer::Plan;
use ndarray::{Array3, Array4, s};

use crate::{CLASSES, argmax, net, noise, normalised, run, scores_of};

/// The plan as it is described, without any economy: patches of the padded tomogram are summed in whole volumes.
#[test]
fn patches_are_averaged_as_described() {
    let (shape, patch) = ([7, 6, 8], 56);
    let tomogram = noise(shape, 4);
    let padded = shape.map(|side| side + 50);
    let input = normalised(&tomogram, 25, padded);
    let net = net();
    let mut sums = Array4::<f32>::zeros((CLASSES, padded[0], padded[1], padded[2]));
    let mut counts = Array3::<f32>::zeros(padded);
    for (z, y, x) in [(0, 0, 0), (0, 0, 2), (1, 0, 0), (1, 0, 2)] {
        let part = input.slice(s![z..z + patch, y..y + patch, x..x + patch]);
        let scores = scores_of(&net, &part.as_standard_layout().to_owned());
        let kept = [z, y, x].map(|start| start + 25..start + patch - 25);
        let [kz, ky, kx] = kept;
        let mut sum = sums.slice_mut(s![.., kz.clone(), ky.clone(), kx.clone()]);
        sum += &scores.slice(s![.., 25..-25, 25..-25, 25..-25]);
        counts.slice_mut(s![kz, ky, kx]).mapv_inplace(|n| n + 1.0);
    }
    let expected = (sums / counts)
        .slice(s![.., 25..-25, 25..-25, 25..-25])
        .to_owned();

    let (labels, scores, report) = run(&net, &tomogram, Plan::Reference { patch }, 1 << 30);
    let largest = (&scores - &expected)
        .mapv(f32::abs)
        .fold(0.0_f32, |a, b| a.max(*b));
    assert!(largest < 1e-6, "{largest}");
    assert_eq!(labels, argmax(&scores));
    assert_eq!((report.tiles, report.computed_voxels), (4, 4 * 56_u64.pow(3)));
}
