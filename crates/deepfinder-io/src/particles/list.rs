use std::collections::BTreeMap;
use std::path::PathBuf;

use deepfinder_core::{Class, ClassTable, Label, ParticleList};

use super::{ParticleFormat, TomogramTable};

/// A particle list with what its file says beside the particles, and what had to be assumed to read it.
#[derive(Debug, Clone)]
pub struct ParticleFile {
    /// The particles: positions in voxels, voxel 0's centre at 0.
    pub particles: ParticleList,
    /// Names of classes, where the file gives them.
    pub classes: ClassTable,
    /// Sizes of the tomograms the particles lie in, as far as they are known.
    pub tomograms: TomogramTable,
    /// Where the list comes from.
    pub source: PathBuf,
    /// The format it was read in.
    pub format: ParticleFormat,
    /// What was assumed and what was left out, in sentences for the user.
    pub notes: Vec<String>,
}

/// A list as its reader makes it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) list: ParticleList,
    pub(super) names: BTreeMap<Label, String>,
    pub(super) notes: Vec<String>,
    /// The format by its content, where the reader is one of a family.
    pub(super) format: Option<ParticleFormat>,
    /// Positions count from the middle of the tomogram, whose size is unknown.
    pub(super) is_centred: bool,
}

impl Draft {
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Class names as a table; a name that stands for two labels is kept once.
    pub(super) fn classes(&self) -> ClassTable {
        let mut seen = Vec::new();
        let classes = self.names.iter().filter_map(|(&label, name)| {
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            Some(Class {
                label,
                name: name.clone(),
                radius_voxels: None,
            })
        });
        ClassTable::new(classes.collect()).unwrap_or_default()
    }
}

impl From<ParticleList> for Draft {
    fn from(list: ParticleList) -> Self {
        Self {
            list,
            ..Self::default()
        }
    }
}
