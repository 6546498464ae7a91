#![no_main]

libfuzzer_sys::fuzz_target!(init: deepfinder_fuzz::project_seeds(), |bytes: &[u8]| deepfinder_fuzz::project(bytes));
