#![no_main]

libfuzzer_sys::fuzz_target!(
    init: deepfinder_fuzz::volume_seeds(&["tif"]),
    |bytes: &[u8]| deepfinder_fuzz::volume("tif", bytes)
);
