use std::str::FromStr;

use deepfinder_sim::{Optics, TiltSeriesParams};

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
    /// Vesicles without label.
    pub membranes: usize,
    /// Gold beads without label.
    pub gold_beads: usize,
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
            membranes: 0,
            gold_beads: 0,
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

    /// A likeness of a real comparison that two cores finish: five classes, of which two pairs are alike (1qvr and 3cf3 are
    /// hexameric rings of nearly the same mass, 1u6g and 2cg9 long and small), among proteins of no class, vesicles and gold.
    ///
    /// Noise and contrast are those at which the published weights find as much in the simulated test tomogram of SHREC'19 as
    /// in the real one, the same standard deviation in each pixel of the images; gold has most of their variance, hence the
    /// ratio. Each network learns for 600 iterations of 4 × 32³.
    pub fn medium() -> Self {
        let small = Self::small();
        Self {
            name: "medium".to_owned(),
            shape: [64, 128, 128],
            classes: ["4b4t", "1qvr", "3cf3", "1u6g", "2cg9"]
                .map(TemplateSource::built_in)
                .into(),
            crowders: 60,
            membranes: 2,
            gold_beads: 3,
            training: 3,
            fewer: Vec::new(),
            microscope: TiltSeriesParams {
                optics: Some(Optics {
                    amplitude_contrast: 1.0,
                    ..Optics::default()
                }),
                snr: Some(20.0),
                ..TiltSeriesParams::default()
            },
            train: TrainSettings {
                epochs: Some(12),
                ..small.train
            },
            single_class_epochs: 12,
            ..small
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
            membranes: 0,
            gold_beads: 0,
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
            "medium" => Ok(Self::medium()),
            "full" => Ok(Self::full()),
            _ => Err(PipelineError::input(format!(
                "`{text}` is no size of this benchmark: use small, medium or full"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_goes_by_its_name() {
        for name in ["small", "medium", "full"] {
            assert_eq!(name.parse::<AccuracySize>().unwrap().name, name);
        }
        let error = "huge".parse::<AccuracySize>().unwrap_err().to_string();
        assert!(error.contains("small, medium or full"), "{error}");
        // One class at a time sees as much as all together, or the comparison would say nothing.
        let AccuracySize {
            train,
            single_class_epochs,
            ..
        } = AccuracySize::medium();
        assert_eq!(train.epochs, Some(single_class_epochs));
    }
}
