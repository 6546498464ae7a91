use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deepfinder_core::{Class, ClassTable, Label, VoxelSize};
use deepfinder_net::Head;
use deepfinder_target::point_radius;
use serde::{Deserialize, Serialize};

use crate::{Length, PickMethod, PipelineError, Result};

/// The version of the project file that this program writes.
pub const PROJECT_VERSION: u32 = 1;

/// The project file's usual name.
pub const PROJECT_FILE: &str = "deepfinder.toml";

/// A project: its classes, its tomograms, and how each stage is to run.
///
/// Paths are relative to the project file's folder. Unknown keys are errors, so that a misspelt setting is never
/// silently ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Version of the file's layout: 1.
    pub version: u32,
    /// Where results go.
    #[serde(default = "default_output")]
    pub output: PathBuf,
    /// The kinds of particles.
    #[serde(rename = "class", default)]
    pub classes: Vec<ProjectClass>,
    /// The tomograms.
    #[serde(rename = "tomogram", default, skip_serializing_if = "Vec::is_empty")]
    pub tomograms: Vec<ProjectTomogram>,
    /// Settings of targets.
    #[serde(default, skip_serializing_if = "TargetSettings::is_default")]
    pub target: TargetSettings,
    /// Settings of training.
    #[serde(default)]
    pub train: TrainSettings,
    /// Settings of segmentation.
    #[serde(default)]
    pub segment: SegmentSettings,
    /// Settings of picking.
    #[serde(default)]
    pub pick: PickSettings,
    /// Settings of evaluation.
    #[serde(default)]
    pub evaluate: EvaluateSettings,
    /// The folder that relative paths start from.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// A class of a project.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectClass {
    /// Label, from 1.
    pub label: Label,
    /// Name.
    pub name: String,
    /// Radius of a particle: of its sphere in the target, and of its cluster when picking.
    pub radius: Length,
    /// A binary volume of the particle's shape, for targets of shapes instead of spheres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<PathBuf>,
}

/// What a tomogram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The network learns from it.
    Train,
    /// Training is judged by it.
    Validate,
    /// It is segmented and picked; evaluated where there are annotations.
    Test,
}

/// A tomogram of a project.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectTomogram {
    /// Name: of its results, and in lists that span several tomograms.
    pub name: String,
    /// The tomogram.
    pub file: PathBuf,
    /// What it is for.
    pub split: Split,
    /// Its annotated particles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picks: Option<PathBuf>,
    /// Its target label map; made from the picks where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// A label map that the target is drawn onto (membranes, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<PathBuf>,
    /// The list's x is the slowest axis (`DeepFinder` lists before 2020).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swap_xz: bool,
    /// The particles are bright: multiply the voxels by −1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
    /// Voxel size in Å, where the file says none or a wrong one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voxel_size: Option<f32>,
}

/// Settings of targets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetSettings {
    /// Classes in the order in which they are drawn: later ones lie on top where particles overlap, those not named
    /// beneath them all. Where it is empty, later particles of the list lie on top.
    pub order: Vec<String>,
    /// Draw a small ball at each particle's centre instead of its sphere: half as large, and of 2 voxels at least. Where
    /// clusters become particles, they are as small. A class with a mask has its shape none the less.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub points: bool,
    /// Radius of these balls, the same for all classes without a mask, instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point_radius: Option<Length>,
}

impl TargetSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of training; what is not given is the recipe's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// `default` or `paper`.
    pub recipe: Option<String>,
    /// Number of epochs.
    pub epochs: Option<usize>,
    /// Iterations an epoch.
    pub steps_per_epoch: Option<usize>,
    /// Patches a batch.
    pub batch: Option<usize>,
    /// Side of a patch in voxels, a multiple of 4.
    pub patch: Option<usize>,
    /// Adam's learning rate.
    pub learning_rate: Option<f64>,
    /// `constant` or `cosine`: how the learning rate goes on after the warm-up.
    pub schedule: Option<String>,
    /// Weight of the cross-entropy beside the Dice loss; 0 leaves it out.
    pub cross_entropy: Option<f64>,
    /// Label smoothing of the cross-entropy, in [0, 1).
    pub label_smoothing: Option<f64>,
    /// Exponent of the focal Tversky loss; 1 is the Dice loss.
    pub focal: Option<f64>,
    /// Decay of the moving average of the weights, which is then what is kept; 0 keeps the weights themselves.
    pub ema: Option<f64>,
    /// Learn kernels that are standardised and have residual branches, instead of the kernels themselves.
    pub residual: Option<bool>,
    /// Where the network ends: on the `full` level, or on the `half` one, so that 2³ voxels share their scores.
    pub head: Option<Head>,
    /// Parameter of mixup's beta distribution; 0 mixes no patches.
    pub mixup: Option<f64>,
    /// Share of the patches that lie away from particles, in [0, 1).
    pub negatives: Option<f64>,
    /// Contrast of patches changes by a factor of 1 ± up to this.
    pub contrast: Option<f32>,
    /// Brightness of patches changes by up to ± this many standard deviations.
    pub brightness: Option<f32>,
    /// White noise of up to this many standard deviations is added to patches.
    pub noise: Option<f32>,
    /// Patches are blurred by up to this many voxels.
    pub blur: Option<f32>,
    /// Epochs without improvement after which training ends.
    pub patience: Option<usize>,
    /// Seed of everything random.
    pub seed: Option<u64>,
    /// Weights to start from.
    pub start_from: Option<PathBuf>,
}

impl TrainSettings {
    /// These settings where the others say nothing.
    #[must_use]
    pub fn overridden_by(&self, others: &Self) -> Self {
        Self {
            recipe: others.recipe.clone().or_else(|| self.recipe.clone()),
            epochs: others.epochs.or(self.epochs),
            steps_per_epoch: others.steps_per_epoch.or(self.steps_per_epoch),
            batch: others.batch.or(self.batch),
            patch: others.patch.or(self.patch),
            learning_rate: others.learning_rate.or(self.learning_rate),
            schedule: others.schedule.clone().or_else(|| self.schedule.clone()),
            cross_entropy: others.cross_entropy.or(self.cross_entropy),
            label_smoothing: others.label_smoothing.or(self.label_smoothing),
            focal: others.focal.or(self.focal),
            ema: others.ema.or(self.ema),
            residual: others.residual.or(self.residual),
            head: others.head.or(self.head),
            mixup: others.mixup.or(self.mixup),
            negatives: others.negatives.or(self.negatives),
            contrast: others.contrast.or(self.contrast),
            brightness: others.brightness.or(self.brightness),
            noise: others.noise.or(self.noise),
            blur: others.blur.or(self.blur),
            patience: others.patience.or(self.patience),
            seed: others.seed.or(self.seed),
            start_from: others.start_from.clone().or_else(|| self.start_from.clone()),
        }
    }
}

/// Settings of segmentation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentSettings {
    /// Weights to use instead of those trained by the project.
    pub weights: Option<PathBuf>,
    /// More weights: the scores of all are averaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ensemble: Vec<PathBuf>,
    /// Average the scores with those of the tomogram turned by 180° about the tilt axis y.
    pub half_turn: bool,
    /// Write score maps too.
    pub scores: bool,
    /// The published program's overlapping patches of this side instead of the exact plan.
    pub reference_patch: Option<usize>,
}

/// Settings of picking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PickSettings {
    /// How voxels become particles.
    pub method: PickMethod,
    /// Radius of a cluster; the mean of the class radii, weighted by volume, where none is given.
    pub radius: Option<Length>,
    /// Clusters of fewer voxels are dropped; where none is given, those below a quarter of their class's ball.
    pub min_size: Option<u64>,
    /// Peaks below this score are dropped.
    pub min_score: f32,
    /// Smallest sizes (lowest scores of peaks) are tuned on the validation tomograms, class by class, instead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tuned: bool,
}

impl Default for PickSettings {
    fn default() -> Self {
        Self {
            method: PickMethod::default(),
            radius: None,
            min_size: None,
            min_score: 0.5,
            tuned: false,
        }
    }
}

/// Settings of evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSettings {
    /// Distance up to which a pick finds a particle; each class's own radius where none is given.
    pub radius: Option<Length>,
}

impl Project {
    /// An empty project in a folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            version: PROJECT_VERSION,
            output: default_output(),
            classes: Vec::new(),
            tomograms: Vec::new(),
            target: TargetSettings::default(),
            train: TrainSettings::default(),
            segment: SegmentSettings::default(),
            pick: PickSettings::default(),
            evaluate: EvaluateSettings::default(),
            folder: folder.to_owned(),
        }
    }

    /// Reads a project file, or the `deepfinder.toml` of a folder.
    ///
    /// # Errors
    /// [`PipelineError::Project`] for a file that is missing, no TOML, of another version, or inconsistent.
    pub fn read(path: &Path) -> Result<Self> {
        let path = if path.is_dir() {
            path.join(PROJECT_FILE)
        } else {
            path.to_owned()
        };
        let text = std::fs::read_to_string(&path).map_err(|source| {
            PipelineError::file(
                &path,
                "the project file cannot be read (make one with `deepfinder init`)",
                source,
            )
        })?;
        Self::parse(&text, &path)
    }

    /// The project in the text of a file at that path.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self> {
        let fail = |what: String| PipelineError::Project {
            path: path.to_owned(),
            what,
        };
        let mut project: Self = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        path.parent()
            .unwrap_or(Path::new(""))
            .clone_into(&mut project.folder);
        project.check().map_err(fail)?;
        Ok(project)
    }

    /// The project file's text.
    ///
    /// # Errors
    /// [`PipelineError::Input`] where a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| PipelineError::input(error.to_string()))
    }

    fn check(&self) -> Result<(), String> {
        if self.version != PROJECT_VERSION {
            return Err(format!(
                "this is a project of version {}, and this program reads version {PROJECT_VERSION}",
                self.version
            ));
        }
        if self.classes.is_empty() {
            return Err("there is no class: add a [[class]] with label, name and radius".to_owned());
        }
        let classes: Vec<_> = self
            .classes
            .iter()
            .map(|class| Class {
                label: class.label,
                name: class.name.clone(),
                radius_voxels: None,
            })
            .collect();
        let classes = ClassTable::new(classes).map_err(|error| error.to_string())?;
        let mut ordered = BTreeSet::new();
        for name in &self.target.order {
            let Some(class) = classes.by_name(name) else {
                return Err(format!("`order` of [target] names `{name}`, which is no class"));
            };
            if !ordered.insert(class.label) {
                return Err(format!(
                    "`order` of [target] names the class `{}` twice",
                    class.name
                ));
            }
        }
        if self.target.point_radius.is_some() && !self.target.points {
            return Err("`point_radius` of [target] says nothing without `points = true`".to_owned());
        }
        let mut names = BTreeSet::new();
        for tomogram in &self.tomograms {
            let name = &tomogram.name;
            if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
                return Err(format!(
                    "`{name}` cannot name a tomogram: its results are files of that name"
                ));
            }
            if !names.insert(name) {
                return Err(format!("two tomograms are called `{name}`"));
            }
        }
        Ok(())
    }

    /// A path of the project file, from where we are.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A path below the output folder.
    pub fn output_path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.resolve(&self.output).join(relative)
    }

    /// The tomogram of that name.
    ///
    /// # Errors
    /// [`PipelineError::Input`] where there is none.
    pub fn tomogram(&self, name: &str) -> Result<&ProjectTomogram> {
        let found = self.tomograms.iter().find(|tomogram| tomogram.name == name);
        found.ok_or_else(|| PipelineError::input(format!("the project has no tomogram called `{name}`")))
    }

    /// The tomograms of a split.
    pub fn tomograms_for(&self, split: Split) -> impl Iterator<Item = &ProjectTomogram> {
        self.tomograms
            .iter()
            .filter(move |tomogram| tomogram.split == split)
    }

    /// The tomograms that a network learns from or is judged by.
    pub fn tomograms_for_training(&self) -> impl Iterator<Item = &ProjectTomogram> {
        [Split::Train, Split::Validate]
            .into_iter()
            .flat_map(|split| self.tomograms_for(split))
    }

    /// Radius in voxels of what labels have of a particle of that class: the particle's, or that of the ball at its centre
    /// where they are points.
    ///
    /// # Errors
    /// [`PipelineError::Input`] for a radius in Å where the voxel size is unknown.
    pub(crate) fn label_radius(
        &self,
        class: &ProjectClass,
        points: bool,
        voxel_size: Option<VoxelSize>,
    ) -> Result<f64> {
        let points = points && class.mask.is_none();
        match self.target.point_radius.filter(|_| points) {
            Some(radius) => radius.in_voxels(voxel_size),
            None if points => Ok(point_radius(class.radius.in_voxels(voxel_size)?)),
            None => class.radius.in_voxels(voxel_size),
        }
    }

    /// The class table, with radii in voxels of that size.
    ///
    /// # Errors
    /// [`PipelineError::Input`] for a radius in Å where the voxel size is unknown.
    pub fn class_table(&self, voxel_size: Option<VoxelSize>) -> Result<ClassTable> {
        let classes = self
            .classes
            .iter()
            .map(|class| {
                let radius = class.radius.in_voxels(voxel_size)?;
                Ok(Class {
                    label: class.label,
                    name: class.name.clone(),
                    radius_voxels: Some(radius as f32),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        ClassTable::new(classes).map_err(|error| PipelineError::input(error.to_string()))
    }
}

fn default_output() -> PathBuf {
    "output".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        version = 1
        [[class]]
        label = 1
        name = "ribosome"
        radius = "120 A"
        [[tomogram]]
        name = "a"
        file = "a.mrc"
        split = "train"
        picks = "a.xml"
        [pick]
        method = "components"
        radius = 6
    "#;

    fn parse(text: &str) -> Result<Project> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROJECT_FILE);
        std::fs::write(&path, text).unwrap();
        Project::read(folder.path())
    }

    #[test]
    fn a_project_survives_being_written() {
        let project = parse(EXAMPLE).unwrap();
        let again = parse(&project.to_toml().unwrap()).unwrap();
        assert_eq!(again.classes[0].radius, Length::Angstrom(120.0));
        assert_eq!(again.pick.radius, Some(Length::Voxels(6.0)));
        assert_eq!(again.tomograms_for(Split::Train).count(), 1);
        let classes = again.class_table(VoxelSize::new(10.0).ok()).unwrap();
        assert_eq!(classes.classes()[0].radius_voxels, Some(12.0));
    }

    #[test]
    fn mistakes_are_named() {
        for (wrong, right, said) in [
            ("version = 1", "version = 9", "version 9"),
            ("label = 1", "label = 0", "label 0"),
            ("radius = 6", "radios = 6", "radios"),
            ("name = \"a\"", "name = \"../a\"", "cannot name"),
            ("\"120 A\"", "\"-1\"", "not a length"),
            ("split = \"train\"", "split = \"trian\"", "trian"),
            ("[pick]", "[train]\nhead = \"quarter\"\n[pick]", "quarter"),
            ("[pick]", "[target]\npoint_radius = 3\n[pick]", "points = true"),
        ] {
            let error = parse(&EXAMPLE.replacen(wrong, right, 1)).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(PROJECT_FILE), "{error}");
        }
        assert!(parse("version = 1").unwrap_err().to_string().contains("no class"));
    }
}
