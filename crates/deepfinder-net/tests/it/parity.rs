//! The published weights against TensorFlow. They may not be copied here, so these run only beside `../shared`.

use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use deepfinder_net::{Metadata, SHREC19_CLASSES, UNet, Weights};

fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(file);
    if !path.exists() {
        eprintln!("skipped: ../shared not here");
        return None;
    }
    Some(path)
}

/// An f32 array of an npz file (a zip archive), from its member's own header on: 30 bytes, name, extra field, deflated
/// contents. The shape is known, so only the values are read, behind NumPy's header.
fn array(npz: &Path, name: &str, shape: &[usize]) -> Tensor {
    let file = std::fs::read(npz).unwrap();
    let at = file
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .unwrap();
    assert_eq!(file[at - 30..][..4], *b"PK\x03\x04");
    let extra = usize::from(u16::from_le_bytes([file[at - 2], file[at - 1]]));
    let mut bytes = Vec::new();
    flate2::read::DeflateDecoder::new(&file[at + name.len() + extra..])
        .read_to_end(&mut bytes)
        .unwrap();
    let values = shape.iter().product::<usize>();
    let (words, _) = bytes[bytes.len() - 4 * values..].as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Scores of one normalised patch, against TensorFlow's `[classes, z, y, x]`.
fn check(weights: &str, patch: &str, metadata: Metadata, scores: usize) {
    let (Some(weights), Some(patch)) = (shared(weights), shared(patch)) else {
        return;
    };
    let weights = Weights::from_keras(std::fs::read(weights).unwrap(), metadata).unwrap();
    assert_eq!(
        (weights.scores(), weights.parameters()),
        (scores, 902_928 + 33 * scores)
    );
    let net = UNet::new(&weights, &Device::Cpu).unwrap();
    let input = array(&patch, "patch.npy", &[1, 1, 56, 56, 56]);
    let expected = array(&patch, "scores.npy", &[scores, 56, 56, 56]);
    let found = candle_conv3d::softmax_channels(&net.forward(&input).unwrap()).unwrap();
    let difference = (found.squeeze(0).unwrap() - expected).unwrap();
    let largest = difference
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    eprintln!("largest difference of a score: {largest:e}");
    assert!(largest < 1e-4, "{largest}");
}

#[test]
fn shrec19_scores_are_tensorflows() {
    let metadata = Metadata {
        voxel_size_angstrom: Some(10.0),
        ..Metadata::for_classes(SHREC19_CLASSES)
    };
    check(
        "weights/deepfinder_shrec19.h5",
        "parity/patch_shrec19.npz",
        metadata,
        13,
    );
}

#[test]
fn chlamydomonas_scores_are_tensorflows() {
    check(
        "weights/deepfinder_chlamydomonas.h5",
        "parity/patch_chlamy.npz",
        Metadata::default(),
        4,
    );
}

#[test]
fn the_shrec19_weights_are_recognised() {
    let Some(path) = shared("weights/deepfinder_shrec19.h5") else {
        return;
    };
    let weights = Weights::from_bytes(std::fs::read(path).unwrap()).unwrap();
    let names: Vec<_> = weights
        .metadata()
        .classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    assert_eq!(names, SHREC19_CLASSES);
    assert_eq!(weights.metadata().voxel_size_angstrom, Some(10.0));
    let path = shared("weights/deepfinder_chlamydomonas.h5").unwrap();
    let weights = Weights::from_bytes(std::fs::read(path).unwrap()).unwrap();
    assert_eq!(weights.metadata(), &Metadata::default());
}

#[test]
fn published_weights_with_other_classes_are_refused() {
    let Some(path) = shared("weights/deepfinder_shrec19.h5") else {
        return;
    };
    let error =
        Weights::from_keras(std::fs::read(path).unwrap(), Metadata::for_classes(["ribosome"])).unwrap_err();
    assert!(error.to_string().contains("13"), "{error}");
}
