use std::str::FromStr;

use deepfinder_sim::TiltSeriesParams;

use crate::templates::TemplateSource;
use crate::{PipelineError, TrainSettings};

/// How large an accuracy benchmark is.
#[derive(Debug, Clone)]
pub struct AccuracySize {
    /// Its name.
    pub name: String,
    /// Size of each tomogram in voxels of 10 Å, `(z, y, x)`.
    pub shape: [usize; 3],
    /// The classes.
    pub classes: Vec<TemplateSource>,
    /// Particles of each class in each tomogram.
    pub particles_per_class: usize,
    /// Small proteins without label.
    pub crowders: usize,
    /// Tomograms to learn from.
    pub training: usize,
    /// Numbers of tomograms for the curve of F1 over the size of the training set; all of them are added.
    pub fewer: Vec<usize>,
    /// How the tilt series is taken.
    pub microscope: TiltSeriesParams,
    /// How networks of all classes are trained.
    pub train: TrainSettings,
    /// Epochs of a network of one class.
    pub single_class_epochs: usize,
    /// Angle between the orientations of template matching.
    pub match_step_degrees: f64,
}

impl AccuracySize {
    /// Three classes, one of each size group, in tomograms of 64×112×112, learnt for 300 iterations of 4 × 32³: about ten
    /// minutes on two cores. Long enough that some classes are found and others not yet.
    pub fn small() -> Self {
        Self {
            name: "small".to_owned(),
            shape: [64, 112, 112],
            classes: ["4b4t", "1qvr", "2cg9"].map(TemplateSource::built_in).into(),
            particles_per_class: 16,
            crowders: 30,
            training: 2,
            fewer: vec![1],
            microscope: TiltSeriesParams {
                snr: Some(4.0),
                ..TiltSeriesParams::default()
            },
            train: TrainSettings {
                epochs: Some(6),
                steps_per_epoch: Some(50),
                batch: Some(4),
                patch: Some(32),
                ..TrainSettings::default()
            },
            single_class_epochs: 6,
            match_step_degrees: 30.0,
        }
    }

    /// SHREC'19's own size: all twelve classes in ten tomograms of 200×512×512, trained as long as in the paper. For a GPU.
    pub fn full() -> Self {
        Self {
            name: "full".to_owned(),
            shape: [200, 512, 512],
            classes: TemplateSource::shrec19(),
            particles_per_class: 208,
            crowders: 1000,
            training: 8,
            fewer: vec![1, 2, 4],
            microscope: TiltSeriesParams {
                snr: Some(1.0),
                ..TiltSeriesParams::default()
            },
            train: TrainSettings {
                epochs: Some(100),
                steps_per_epoch: Some(100),
                batch: Some(25),
                patch: Some(56),
                ..TrainSettings::default()
            },
            single_class_epochs: 100,
            match_step_degrees: 12.0,
        }
    }
}

impl FromStr for AccuracySize {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "small" => Ok(Self::small()),
            "full" => Ok(Self::full()),
            _ => Err(PipelineError::input(format!(
                "`{text}` is no size of this benchmark: use small or full"
            ))),
        }
    }
}
