#![no_main]

use deepfinder_fuzz::Family;

libfuzzer_sys::fuzz_target!(
    init: deepfinder_fuzz::list_seeds(Family::Av3),
    |bytes: &[u8]| deepfinder_fuzz::list(Family::Av3, bytes)
);
