#![no_main]

libfuzzer_sys::fuzz_target!(init: deepfinder_fuzz::weights_seeds(), |bytes: &[u8]| deepfinder_fuzz::weights(bytes));
