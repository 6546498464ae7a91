//! Particle lists: one module a format, joined by the table in [`format`].

mod csv;
mod deepfinder_xml;
mod fields;
mod format;
mod text;

use std::path::Path;

use deepfinder_core::{ClassTable, ParticleList};

pub use format::{ParticleFormat, read_particles, write_particles};

/// How to read a particle list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadOptions {
    /// The format; `None` (default) tells it from the content, then from the extension.
    pub format: Option<ParticleFormat>,
    /// Exchanges x and z after reading: for lists of DeepFinder from before 2020, where x is the slowest axis.
    pub swap_xz: bool,
    /// Classes by which names in the list, such as PDB ids, become labels. Lists with numbers need none.
    pub classes: ClassTable,
}

/// What a format's reader gets.
struct Input<'a> {
    path: &'a Path,
    text: &'a str,
    classes: &'a ClassTable,
}

type Parsed = crate::Result<ParticleList>;
