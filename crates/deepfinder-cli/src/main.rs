//! The `deepfinder` program.

fn main() {}
