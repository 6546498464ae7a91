use std::sync::LazyLock;

use deepfinder_net::{Metadata, NetError, Weights};
use proptest::prelude::*;

use crate::keras_file::{ORDER, keras_file};
use crate::{message, same, weights};

static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| keras_file(&weights(3, 2), 0, &ORDER));

#[test]
fn the_classes_of_an_own_model_are_not_guessed() {
    let file = keras_file(&weights(13, 2), 0, &ORDER);
    assert_eq!(
        Weights::from_bytes(file).unwrap().metadata(),
        &Metadata::default()
    );
}

#[test]
fn a_model_reads_wherever_its_numbering_starts() {
    let written = weights(5, 8);
    for first in [0, 1, 7, 93] {
        let read =
            Weights::from_keras(keras_file(&written, first, &ORDER), written.metadata().clone()).unwrap();
        assert!(same(&written, &read), "numbered from {first}");
    }
}

#[test]
fn the_kind_of_a_file_is_seen() {
    let read = Weights::from_bytes(FILE.clone()).unwrap();
    assert_eq!((read.scores(), read.metadata().classes.len()), (3, 0));
}

#[test]
fn the_wrong_number_of_classes_is_named() {
    let error = Weights::from_keras(FILE.clone(), Metadata::for_classes(["a", "b", "c"])).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Classes {
                expected: 4,
                found: 3
            }
        ),
        "{error}"
    );
    assert!(message(&error).contains("head"));
}

#[test]
fn other_models_are_refused() {
    let net = weights(3, 1);
    let error = Weights::from_keras(keras_file(&net, 1, &ORDER[..14]), Metadata::default()).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::LayerCount {
                expected: 15,
                found: 14
            }
        ),
        "{error}"
    );
    let mut swapped = ORDER;
    swapped.swap(3, 4);
    let error = Weights::from_keras(keras_file(&net, 1, &swapped), Metadata::default()).unwrap_err();
    let text = message(&error);
    assert!(matches!(error, NetError::Shape { .. }), "{text}");
    assert!(
        text.contains("conv3d_4") && text.contains("half.encode.1") && text.contains("[3, 3, 3, 48, 48]"),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn truncated_files_are_errors(length in 0.0..1.0f64) {
        let length = (FILE.len() as f64 * length) as usize;
        prop_assert!(Weights::from_keras(FILE[..length].to_vec(), Metadata::default()).is_err());
    }

    /// Most of the file is numbers; its first and last kilobytes hold the structure.
    #[test]
    fn damaged_files_never_panic(at in 0..8192usize, from_end in any::<bool>(), byte in any::<u8>()) {
        let mut bytes = FILE.clone();
        let at = if from_end { bytes.len() - 1 - at } else { at };
        bytes[at] = byte;
        if let Ok(weights) = Weights::from_keras(bytes, Metadata::default()) {
            prop_assert_eq!(weights.scores(), 3);
        }
    }
}
