#![no_main]

libfuzzer_sys::fuzz_target!(
    init: deepfinder_fuzz::volume_seeds(&["mrc", "mrc.gz", "mrc.bz2"]),
    |bytes: &[u8]| deepfinder_fuzz::volume("mrc", bytes)
);
