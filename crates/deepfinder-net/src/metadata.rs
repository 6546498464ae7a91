use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ARCHITECTURE, ARCHITECTURE_VERSION, Head, NetError, Result};

/// What [`Metadata::normalisation`] says of networks that take a whole tomogram (or patch) at mean 0 and population
/// standard deviation 1.
pub const ZERO_MEAN_UNIT_DEVIATION: &str = "zero-mean-unit-deviation";

/// Classes of the published SHREC'19 weights, labels 1 to 12 (their voxels are 10 Å).
pub const SHREC19_CLASSES: [&str; 12] = [
    "1bxn", "1qvr", "1s3x", "1u6g", "2cg9", "3cf3", "3d2f", "3gl1", "3h84", "3qm1", "4b4t", "4d8q",
];

/// Name of a class, and the label that the network gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassName {
    /// Label, from 1.
    pub label: u8,
    /// Name, as the user writes it.
    pub name: String,
}

/// What weights are for: kept beside them in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// The classes, without background. Empty where they are not known.
    pub classes: Vec<ClassName>,
    /// Voxel edge of the tomograms it was trained on, in Å.
    pub voxel_size_angstrom: Option<f32>,
    /// How the input must be normalised; default [`ZERO_MEAN_UNIT_DEVIATION`].
    pub normalisation: String,
    /// Kind of network; default [`ARCHITECTURE`].
    pub architecture: String,
    /// Version of that kind; default [`ARCHITECTURE_VERSION`].
    pub architecture_version: u32,
    /// Where the network ends. Default: on the full level.
    pub head: Head,
    /// Anything else worth keeping (how it was trained, say).
    pub extra: BTreeMap<String, String>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            voxel_size_angstrom: None,
            normalisation: ZERO_MEAN_UNIT_DEVIATION.to_owned(),
            architecture: ARCHITECTURE.to_owned(),
            architecture_version: ARCHITECTURE_VERSION,
            head: Head::default(),
            extra: BTreeMap::new(),
        }
    }
}

impl Metadata {
    /// Metadata of a network for classes with these names and labels 1, 2, ….
    pub fn for_classes<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let classes = (1..=u8::MAX)
            .zip(names)
            .map(|(label, name)| ClassName {
                label,
                name: name.into(),
            })
            .collect();
        Self {
            classes,
            ..Self::default()
        }
    }

    /// # Errors
    /// Where the architecture is another, the classes contradict each other or do not fit that number of scores
    /// (background among them), or the voxel size is no length.
    pub(crate) fn check(&self, scores: usize) -> Result<()> {
        if self.architecture != ARCHITECTURE || self.architecture_version > ARCHITECTURE_VERSION {
            return Err(NetError::Architecture {
                architecture: self.architecture.clone(),
                version: self.architecture_version,
            });
        }
        for (i, class) in self.classes.iter().enumerate() {
            let earlier = &self.classes[..i];
            if class.label == 0 || class.name.is_empty() {
                let what = format!("class `{}` has label {}", class.name, class.label);
                return Err(NetError::Metadata { what });
            }
            if let Some(other) = earlier
                .iter()
                .find(|other| other.label == class.label || other.name == class.name)
            {
                let what = format!(
                    "classes `{}` (label {}) and `{}` (label {}) share a label or name",
                    other.name, other.label, class.name, class.label
                );
                return Err(NetError::Metadata { what });
            }
        }
        let expected = self
            .classes
            .iter()
            .map(|class| usize::from(class.label) + 1)
            .max();
        if let Some(expected) = expected
            && expected != scores
        {
            return Err(NetError::Classes {
                expected,
                found: scores,
            });
        }
        match self.voxel_size_angstrom {
            Some(size) if !(size.is_finite() && size > 0.0) => Err(NetError::Metadata {
                what: format!("a voxel size of {size} Å"),
            }),
            _ => Ok(()),
        }
    }
}

/// The metadata as they stand in a file: a struct of its own, so that the public one may change.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredMetadata {
    architecture: String,
    architecture_version: u32,
    /// Files of before have none.
    #[serde(default, skip_serializing_if = "Head::is_full")]
    head: Head,
    normalisation: String,
    voxel_size_angstrom: Option<f32>,
    classes: Vec<StoredClass>,
    #[serde(default)]
    extra: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct StoredClass {
    label: u8,
    name: String,
}

impl From<&Metadata> for StoredMetadata {
    fn from(metadata: &Metadata) -> Self {
        Self {
            architecture: metadata.architecture.clone(),
            architecture_version: metadata.architecture_version,
            head: metadata.head,
            normalisation: metadata.normalisation.clone(),
            voxel_size_angstrom: metadata.voxel_size_angstrom,
            classes: metadata
                .classes
                .iter()
                .map(|class| StoredClass {
                    label: class.label,
                    name: class.name.clone(),
                })
                .collect(),
            extra: metadata.extra.clone(),
        }
    }
}

impl From<StoredMetadata> for Metadata {
    fn from(stored: StoredMetadata) -> Self {
        Self {
            classes: stored
                .classes
                .into_iter()
                .map(|StoredClass { label, name }| ClassName { label, name })
                .collect(),
            voxel_size_angstrom: stored.voxel_size_angstrom,
            normalisation: stored.normalisation,
            architecture: stored.architecture,
            architecture_version: stored.architecture_version,
            head: stored.head,
            extra: stored.extra,
        }
    }
}
