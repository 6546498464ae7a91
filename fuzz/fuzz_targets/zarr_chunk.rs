#![no_main]

libfuzzer_sys::fuzz_target!(init: deepfinder_fuzz::zarr_chunk_seeds(), |bytes: &[u8]| deepfinder_fuzz::zarr_chunk(bytes));
