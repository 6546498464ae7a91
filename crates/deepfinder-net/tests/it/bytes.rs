use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use deepfinder_net::{ClassName, Head, Metadata, NetError, Weights};
use proptest::prelude::*;

use crate::{message, same, weights, weights_to};

static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| weights(4, 1).to_safetensors().unwrap());

#[test]
fn a_file_holds_weights_and_metadata() {
    let metadata = Metadata {
        voxel_size_angstrom: Some(13.68),
        extra: [("recipe".to_owned(), "paper, 3 \"epochs\"".to_owned())].into(),
        ..Metadata::for_classes(["membrane", "ribosome ø"])
    };
    let written = Weights::initial(3, 5, metadata).unwrap();
    let bytes = written.to_safetensors().unwrap();
    assert_eq!(bytes, written.to_safetensors().unwrap());
    let read = Weights::from_bytes(bytes).unwrap();
    assert!(same(&written, &read));
    assert_eq!(read.metadata().voxel_size_angstrom, Some(13.68));
    assert_eq!(read.metadata().classes[1].name, "ribosome ø");
}

#[test]
fn seeds_decide() {
    assert!(same(&weights(3, 9), &weights(3, 9)));
    assert!(!same(&weights(3, 9), &weights(3, 10)));
    for scores in [0, 1, 257] {
        assert!(matches!(
            Weights::initial(scores, 0, Metadata::default()),
            Err(NetError::Scores { .. })
        ));
    }
}

#[test]
fn glorot_limits_and_zero_biases() {
    let weights = weights(13, 3);
    let values = |name: &str| {
        weights.tensors()[name]
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    let limit = (6.0_f32 / (27.0 * (80.0 + 32.0))).sqrt();
    let kernel = values("full.decode.0.weight");
    assert!(kernel.iter().all(|w| w.abs() <= limit));
    let variance = kernel.iter().map(|w| w * w).sum::<f32>() / kernel.len() as f32;
    assert!(
        (variance / (limit * limit / 3.0) - 1.0).abs() < 0.02,
        "{variance}"
    );
    assert!(values("head.bias").iter().all(|b| *b == 0.0));
}

#[test]
fn parameters_are_counted() {
    for scores in [2, 4, 13, 256] {
        let metadata = Metadata::default();
        let weights = Weights::initial(scores, 0, metadata).unwrap();
        assert_eq!(weights.parameters(), 902_928 + 33 * scores);
        if scores < 14 {
            assert_eq!(
                weights_to(Head::Half, scores, 0).parameters(),
                787_616 + 49 * scores
            );
        }
    }
}

#[test]
fn a_file_says_where_its_network_ends() {
    let written = weights_to(Head::Half, 3, 5);
    assert!(!written.tensors().contains_key("full.upsample.weight"));
    let bytes = written.to_safetensors().unwrap();
    let read = Weights::from_bytes(bytes.clone()).unwrap();
    assert!(same(&written, &read) && read.head() == Head::Half);
    // Files of before do not say it.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let full = weights(3, 5);
    assert!(text(&bytes).contains(r#"\"head\":\"half\""#));
    assert!(!text(&full.to_safetensors().unwrap()).contains(r#"\"head\":"#));
    // What is said must fit the tensors.
    for (weights, head) in [(written, Head::Full), (full, Head::Half)] {
        let metadata = Metadata {
            head,
            ..weights.metadata().clone()
        };
        let tensors = weights.tensors().clone();
        let error = Weights::from_tensors(tensors, metadata.clone()).unwrap_err();
        assert!(error.to_string().contains("another network"), "{error}");
        let error = weights.with_metadata(metadata).unwrap_err().to_string();
        assert!(
            error.contains("on the half level") && error.contains("on the full level"),
            "{error}"
        );
    }
    let error = "quarter".parse::<Head>().unwrap_err().to_string();
    assert!(
        error.contains("`quarter`") && error.contains("full or half"),
        "{error}"
    );
}

#[test]
fn classes_must_fit_the_head() {
    let error = Weights::initial(4, 0, Metadata::for_classes(["a", "b"])).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Classes {
                expected: 3,
                found: 4
            }
        ),
        "{error}"
    );
    for (label, name) in [(0, "b"), (1, "b"), (3, "a")] {
        let mut metadata = Metadata::for_classes(["a"]);
        let name = name.to_owned();
        metadata.classes.push(ClassName { label, name });
        assert!(Weights::initial(4, 0, metadata).is_err(), "{label}");
    }
    let metadata = Metadata {
        voxel_size_angstrom: Some(f32::NAN),
        ..Metadata::default()
    };
    assert!(matches!(
        Weights::initial(2, 0, metadata),
        Err(NetError::Metadata { .. })
    ));
}

#[test]
fn other_networks_are_refused() {
    let good = weights(3, 1);
    let with = |name: &str, tensor: Option<Tensor>| {
        let mut tensors = good.tensors().clone();
        match tensor {
            Some(tensor) => tensors.insert(name.to_owned(), tensor),
            None => tensors.remove(name),
        };
        Weights::from_tensors(tensors, good.metadata().clone()).unwrap_err()
    };
    let zeros = |shape: &[usize], dtype| Some(Tensor::zeros(shape, dtype, &Device::Cpu).unwrap());

    let error = with("quarter.2.weight", zeros(&[64, 48, 3, 3, 3], DType::F32));
    let text = message(&error);
    assert!(matches!(error, NetError::Shape { .. }), "{text}");
    assert!(
        text.contains("quarter.2.weight") && text.contains("[64, 64, 3, 3, 3]") && text.contains("48"),
        "{text}"
    );
    let error = with("head.bias", None);
    assert!(matches!(error, NetError::MissingTensor { .. }), "{error}");
    let error = with("full.bias", zeros(&[1], DType::F32));
    assert!(matches!(error, NetError::UnexpectedTensor { .. }), "{error}");
    let error = with("quarter.0.bias", zeros(&[64], DType::F64));
    assert!(matches!(error, NetError::ElementType { .. }), "{error}");
    let nan = Tensor::full(f32::NAN, 64, &Device::Cpu).unwrap();
    let error = with("quarter.0.bias", Some(nan));
    assert!(matches!(error, NetError::NonFinite { .. }), "{error}");

    let metadata = Metadata {
        architecture_version: 2,
        ..good.metadata().clone()
    };
    assert!(matches!(
        good.with_metadata(metadata),
        Err(NetError::Architecture { version: 2, .. })
    ));
}

#[test]
fn strangers_are_told_apart() {
    for bytes in [&b""[..], b"hello", &[0; 64]] {
        assert!(matches!(
            Weights::from_bytes(bytes.to_vec()),
            Err(NetError::UnknownFormat)
        ));
    }
    // A safetensors file of another program.
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![1], &[7]).unwrap();
    let bytes = safetensors::serialize([("x", view)], None).unwrap();
    assert!(matches!(
        Weights::from_bytes(bytes),
        Err(NetError::Metadata { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn truncated_files_are_errors(length in 0.0..1.0f64) {
        let length = (FILE.len() as f64 * length) as usize;
        prop_assert!(Weights::from_bytes(FILE[..length].to_vec()).is_err());
        prop_assert!(Weights::from_safetensors(&FILE[..length.min(4000)]).is_err());
    }

    /// A changed header is refused, or (a class's name, say) still makes sense; it never panics.
    #[test]
    fn damaged_headers_never_panic(at in 0..4000usize, byte in any::<u8>()) {
        let mut bytes = FILE.clone();
        bytes[at] = byte;
        if let Ok(weights) = Weights::from_bytes(bytes) {
            prop_assert_eq!(weights.parameters(), 902_928 + 33 * 4);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Weights::from_safetensors(&bytes).is_err());
        prop_assert!(Weights::from_bytes(bytes).is_err());
    }

    #[test]
    fn any_claimed_header_length_is_survived(length in any::<u64>()) {
        let mut bytes = FILE.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        prop_assert_eq!(Weights::from_safetensors(&bytes).is_ok(), FILE.starts_with(&length.to_le_bytes()));
    }
}
