use std::path::{Path, PathBuf};

use candle_core::Device;
use deepfinder_core::{Class, ClassTable, Label, VoxelSize};
use deepfinder_net::{UNet, Weights};

use crate::error::OnFile;
use crate::{PipelineError, Result};

/// Relative difference of voxel sizes up to which a model is used without a word: what headers round away.
const VOXEL_SIZE_TOLERANCE: f32 = 0.02;

/// What weights keep beside them of the targets they learnt from, where these were [`POINTS`].
const TARGETS: &str = "targets";
const POINTS: &str = "points";

/// The same weights, which say whether what they learn is small balls at the particles' centres.
pub(crate) fn learning_points(weights: Weights, points: bool) -> deepfinder_net::Result<Weights> {
    let mut metadata = weights.metadata().clone();
    metadata.extra.remove(TARGETS);
    if points {
        metadata.extra.insert(TARGETS.to_owned(), POINTS.to_owned());
    }
    weights.with_metadata(metadata)
}

/// A trained network's weights, and the file they came from.
pub struct Model {
    /// The file.
    pub path: PathBuf,
    /// The weights and what is known of them.
    pub weights: Weights,
}

impl Model {
    /// Reads weights: this program's `.safetensors`, or the published Keras `.h5`.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no weights of this network.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|source| PipelineError::file(path, "the weights cannot be read", source))?;
        Self::from_bytes(path, bytes)
    }

    /// The model in a file's bytes.
    ///
    /// # Errors
    /// Where they are no weights of this network.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            weights: Weights::from_bytes(bytes).on(path)?,
        })
    }

    /// The network, ready to run.
    ///
    /// # Errors
    /// Where the weights cannot be put on the device.
    pub fn network(&self, device: &Device) -> Result<UNet> {
        UNet::new(&self.weights, device).on(&self.path)
    }

    /// Whether it learnt small balls at the particles' centres, so that its labels are such.
    pub(crate) fn learnt_points(&self) -> bool {
        let targets = self.weights.metadata().extra.get(TARGETS);
        targets.is_some_and(|targets| targets == POINTS)
    }

    /// The classes it scores.
    pub fn classes(&self) -> ClassTable {
        let named = self.weights.metadata().classes.iter();
        let classes = named
            .map(|class| Class {
                label: class.label,
                name: class.name.clone(),
                radius_voxels: None,
            })
            .collect::<Vec<_>>();
        let numbered =
            || ClassTable::numbered(Label::try_from(self.weights.scores() - 1).unwrap_or(Label::MAX));
        ClassTable::new(classes)
            .ok()
            .filter(|table| !table.classes().is_empty())
            .unwrap_or_else(numbered)
    }

    /// The voxel size it learned from.
    pub fn voxel_size(&self) -> Option<VoxelSize> {
        self.weights
            .metadata()
            .voxel_size_angstrom
            .and_then(|angstrom| VoxelSize::new(angstrom).ok())
    }

    /// # Errors
    /// [`PipelineError::VoxelSizeMismatch`] where the model learned from another voxel size and that is not forced.
    pub fn check_voxel_size(&self, tomogram: &Path, found: Option<VoxelSize>, force: bool) -> Result<()> {
        match (self.voxel_size(), found) {
            (Some(learned), Some(found)) if !learned.agrees_with(found, VOXEL_SIZE_TOLERANCE) => {
                let mismatch = PipelineError::VoxelSizeMismatch {
                    tomogram: tomogram.to_owned(),
                    tomogram_angstrom: found.angstrom(),
                    model: self.path.clone(),
                    model_angstrom: learned.angstrom(),
                };
                if force {
                    tracing::warn!("{mismatch} (given: going on)");
                    Ok(())
                } else {
                    Err(mismatch)
                }
            }
            (Some(learned), None) => {
                tracing::warn!(
                    "{}: the file does not say its voxel size; the model learned from voxels of {learned}",
                    tomogram.display()
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
