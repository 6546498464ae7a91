#![no_main]

use deepfinder_fuzz::Family;

libfuzzer_sys::fuzz_target!(
    init: deepfinder_fuzz::list_seeds(Family::Xlsx),
    |bytes: &[u8]| deepfinder_fuzz::list(Family::Xlsx, bytes)
);
