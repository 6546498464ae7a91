//! Particle lists: one module a format, each with its conventions at the top, joined by the table in [`format`].

mod av3;
mod bild;
mod boxes;
mod cbox;
mod cmm;
mod coords;
mod copick;
mod csv;
mod deepfinder_xml;
mod dynamo;
mod eman;
mod fields;
mod format;
mod guess;
mod imod;
mod json;
mod list;
mod options;
mod portal;
mod pytom_xml;
mod relion;
mod relion_write;
mod star;
mod stopgap;
mod text;
mod tomograms;
mod write;
mod xlsx;
mod xml;

pub use copick::{CopickObject, CopickProject, CopickRun};
pub use format::{
    FormatEntry, Holds, ParticleFormat, is_particle_list, particle_formats, read_particle_file,
    read_particles,
};
pub use list::ParticleFile;
pub use options::{Euler, Origin, ReadOptions, WriteOptions};
pub use tomograms::{TomogramFrame, TomogramTable};
pub use write::{encode_particles, write_particle_file, write_particles};

use list::Draft;

/// What a format's reader gives.
type Parsed = crate::Result<Draft>;
