#![no_main]

libfuzzer_sys::fuzz_target!(
    init: deepfinder_fuzz::volume_seeds(&["h5"]),
    |bytes: &[u8]| deepfinder_fuzz::volume("h5", bytes)
);
