//! Turns published Keras weights into a safetensors file with names for its classes:
//!
//! ```text
//! cargo run -p deepfinder-net --example import -- deepfinder_shrec19.h5 shrec19.safetensors
//! ```

use deepfinder_net::{Metadata, SHREC19_CLASSES, Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &paths[..] else {
        return Err("usage: import WEIGHTS.h5 WEIGHTS.safetensors".into());
    };
    let metadata = Metadata {
        voxel_size_angstrom: Some(10.0),
        ..Metadata::for_classes(SHREC19_CLASSES)
    };
    let weights = Weights::from_keras(std::fs::read(from)?, metadata)?;
    std::fs::write(to, weights.to_safetensors()?)?;
    Ok(())
}
