use std::path::{Path, PathBuf};

use deepfinder_core::{Label, LabelMap, ParticleList, Volume};
use deepfinder_io::{ReadOptions, read_label_map, read_particles, write_mrc, write_particles};
use deepfinder_train::{EpochMetrics, RunFolder};

use super::Bench;
use super::report::{AccuracyReport, ClassScores, CurvePoint, MethodScores, ParticleClass, SizeGroup};
use crate::init::write_project;
use crate::stamps::Stamp;
use crate::templates::{TemplateSource, load_templates};
use crate::train::epochs_of_run;
use crate::{
    Evaluation, Length, PROJECT_FILE, PipelineError, Project, ProjectClass, ProjectTomogram, Result,
    RunOptions, Split, TrainSettings, run_project,
};

/// Radii in voxels of the spheres that the authors of the published weights took, by the weights' labels from 1.
const PUBLISHED_RADII: [f64; 12] = [6.0, 6.0, 3.0, 6.0, 6.0, 7.0, 6.0, 4.0, 4.0, 3.0, 10.0, 8.0];

impl Bench<'_> {
    /// All methods; each is handed on as soon as it is scored, with those before it.
    pub(super) fn measure(
        &mut self,
        report_so_far: impl Fn(&AccuracyReport) -> Result<()>,
    ) -> Result<AccuracyReport> {
        let size = &self.job.size;
        let mut report = AccuracyReport {
            size: size.name.clone(),
            seed: self.job.seed,
            shape: size.shape,
            training_iterations: 0,
            classes: self.classes()?,
            methods: Vec::new(),
            training_size: Vec::new(),
            iterations: Vec::new(),
        };
        let shapes = self.project("shapes", Targets::Shapes, size.training)?;
        let scores = self.network("multi-class, shapes", &shapes)?;
        let epochs = epochs_of_run(&RunFolder::new(shapes.output_path("train")))?;
        report.training_iterations = epochs.last().map_or(0, |epoch| epoch.step as usize);
        let point = |epoch: &EpochMetrics| CurvePoint {
            at: epoch.step as f64,
            mean_f1: epoch.decisive().mean_f1,
        };
        report.iterations = epochs.iter().map(point).collect();
        let all = size_point(&shapes, &scores)?;
        report.methods.push(scores);
        report_so_far(&report)?;
        for (folder, targets) in [("spheres", Targets::Spheres), ("points", Targets::Points)] {
            let project = self.project(folder, targets, self.job.size.training)?;
            report
                .methods
                .push(self.network(&format!("multi-class, {folder}"), &project)?);
            report_so_far(&report)?;
        }
        let matching = self.template_matching(&report.classes)?;
        report.methods.extend(matching);
        report_so_far(&report)?;
        report.methods.push(self.one_class_at_a_time()?);
        report_so_far(&report)?;
        if let Some(weights) = self.job.published.clone() {
            report.methods.push(self.published(&weights)?);
        }
        for tomograms in self.job.size.fewer.clone() {
            let project = self.project(format!("shapes-{tomograms}"), Targets::Shapes, tomograms)?;
            let scores = self.network("fewer", &project)?;
            report.training_size.push(size_point(&project, &scores)?);
        }
        report.training_size.push(all);
        report_so_far(&report)?;
        Ok(report)
    }

    pub(super) fn classes(&self) -> Result<Vec<ParticleClass>> {
        let templates = load_templates(&self.job.size.classes, &crate::StructureOptions::default())?;
        let counts = self.truth(Split::Test)?.count_by_label();
        let classes = (1..=Label::MAX).zip(&templates).map(|(label, template)| {
            let kilodalton = f64::from(template.density.voxels.iter().sum::<f32>());
            ParticleClass {
                name: template.name.clone(),
                kilodalton,
                group: SizeGroup::of(kilodalton),
                particles: counts.get(&label).copied().unwrap_or(0),
            }
        });
        Ok(classes.collect())
    }

    /// The particles of the one tomogram of a split.
    pub(super) fn truth(&self, split: Split) -> Result<ParticleList> {
        let tomogram = self.tomogram(split)?;
        let Some(picks) = &tomogram.picks else {
            return Err(PipelineError::input(
                "the benchmark's tomogram has no list of particles",
            ));
        };
        Ok(read_particles(
            &self.data.resolve(picks),
            &ReadOptions::default(),
        )?)
    }

    /// A project in a folder of its own, over the simulated tomograms, with the first of those to learn from.
    pub(super) fn project(
        &self,
        name: impl AsRef<Path>,
        targets: Targets,
        training: usize,
    ) -> Result<Project> {
        let mut project = self.empty_project(&name)?;
        project.classes.clone_from(&self.data.classes);
        project.train = self.job.size.train.clone();
        project.train.seed = Some(self.job.seed);
        let mut learnt_from = 0;
        // A project may lie some folders deep.
        let depth = name.as_ref().components().count();
        let to_data = PathBuf::from("../".repeat(depth)).join("data");
        for tomogram in &self.data.tomograms {
            if tomogram.split == Split::Train {
                learnt_from += 1;
                if learnt_from > training {
                    continue;
                }
            }
            let beside = |path: &PathBuf| to_data.join(path);
            project.tomograms.push(ProjectTomogram {
                file: beside(&tomogram.file),
                picks: tomogram.picks.as_ref().map(beside),
                target: tomogram
                    .target
                    .as_ref()
                    .filter(|_| targets == Targets::Shapes)
                    .map(beside),
                ..tomogram.clone()
            });
        }
        project.target.points = targets == Targets::Points;
        written(project)
    }

    fn empty_project(&self, name: impl AsRef<Path>) -> Result<Project> {
        let folder = self.job.folder.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|source| PipelineError::file(&folder, "the folder cannot be made", source))?;
        Ok(Project::new(&folder))
    }

    /// Runs a project and scores it by the benchmark's classes.
    pub(super) fn network(&self, name: &str, project: &Project) -> Result<MethodScores> {
        let options = RunOptions {
            precision: self.job.precision,
            ..RunOptions::default()
        };
        let summary = run_project(project, options, std::slice::from_ref(self.device), self.progress)?;
        let Some(Evaluation::Particles { report, .. }) = summary.evaluation else {
            return Err(PipelineError::input("the benchmark has nothing to score"));
        };
        let table = project.class_table(None)?;
        let classes = self.data.classes.iter().map(|class| {
            let label = table.by_name(&class.name)?.label;
            let row = report.pooled.classes.iter().find(|row| row.label == label);
            Some(row.map_or(
                ClassScores {
                    precision: 0.0,
                    recall: 0.0,
                    f1: 0.0,
                },
                |row| ClassScores {
                    precision: row.scores.precision,
                    recall: row.scores.recall,
                    f1: row.scores.f1,
                },
            ))
        });
        Ok(MethodScores {
            name: name.to_owned(),
            classes: classes.collect(),
        })
    }

    /// A network for each class, as if the others were not there.
    fn one_class_at_a_time(&mut self) -> Result<MethodScores> {
        let mut scores = Vec::new();
        for class in self.data.classes.clone() {
            let project = self.project_of_class(&class)?;
            let found = self.network("one", &project)?;
            scores.push(found.classes.into_iter().flatten().next());
        }
        Ok(MethodScores {
            name: "one class at a time".to_owned(),
            classes: scores,
        })
    }

    /// A project with one class of the simulated tomograms, whose label becomes 1.
    fn project_of_class(&mut self, class: &ProjectClass) -> Result<Project> {
        let mut project = self.empty_project(format!("only-{}", class.name))?;
        project.classes.push(ProjectClass {
            label: 1,
            ..class.clone()
        });
        project.train = TrainSettings {
            epochs: Some(self.job.size.single_class_epochs),
            seed: Some(self.job.seed),
            ..self.job.size.train.clone()
        };
        for tomogram in self.data.tomograms.clone() {
            let [picks, target] = ["particles.xml", "labels.mrc"]
                .map(|ending| PathBuf::from(format!("{}_{ending}", tomogram.name)));
            if let Some(path) = &tomogram.picks {
                let path = self.data.resolve(path);
                self.made(&project.resolve(&picks), &path, || {
                    let mut list = read_particles(&path, &ReadOptions::default())?;
                    list.particles.retain(|particle| particle.label == class.label);
                    list.particles.iter_mut().for_each(|particle| particle.label = 1);
                    Ok(write_particles(&project.resolve(&picks), &list)?)
                })?;
            }
            if let Some(path) = &tomogram.target {
                let path = self.data.resolve(path);
                self.made(&project.resolve(&target), &path, || {
                    let Volume {
                        voxels, voxel_size, ..
                    } = read_label_map(&path)?;
                    let own: LabelMap = Volume::new(voxels.mapv(|label| u8::from(label == class.label)));
                    Ok(write_mrc(
                        &project.resolve(&target),
                        &own.with_voxel_size(voxel_size),
                    )?)
                })?;
            }
            project.tomograms.push(ProjectTomogram {
                file: Path::new("../data").join(&tomogram.file),
                picks: Some(picks),
                target: Some(target),
                ..tomogram
            });
        }
        written(project)
    }

    /// Makes a file of another, unless it is there and was made of just that.
    pub(super) fn made(
        &mut self,
        product: &Path,
        from: &Path,
        make: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let stamp = Stamp::new("accuracy").file(from);
        if !self.stamps.is_current(product, &stamp) {
            make()?;
            self.stamps.record(product, &stamp)?;
        }
        Ok(())
    }

    /// The published network, whose classes are all of SHREC'19; particles of the simulated tomogram keep theirs.
    fn published(&mut self, weights: &Path) -> Result<MethodScores> {
        let mut project = self.empty_project("published")?;
        let names: Vec<String> = TemplateSource::shrec19()
            .iter()
            .map(|source| source.name().to_owned())
            .collect();
        for ((label, name), radius) in (1..=Label::MAX).zip(&names).zip(PUBLISHED_RADII) {
            let own = self.data.classes.iter().find(|class| class.name == *name);
            project.classes.push(ProjectClass {
                label,
                name: name.clone(),
                radius: own.map_or(Length::Voxels(radius), |class| class.radius),
                mask: None,
            });
        }
        project.segment.weights = Some(
            std::path::absolute(weights)
                .map_err(|source| PipelineError::file(weights, "there is no such file", source))?,
        );
        let tomogram = self.tomogram(Split::Test)?.clone();
        let picks = PathBuf::from("particles.xml");
        if let Some(path) = &tomogram.picks {
            let labels: Vec<Option<Label>> = self
                .data
                .classes
                .iter()
                .map(|class| project.classes.iter().find(|other| other.name == class.name))
                .map(|class| class.map(|class| class.label))
                .collect();
            let path = self.data.resolve(path);
            self.made(&project.resolve(&picks), &path, || {
                let mut list = read_particles(&path, &ReadOptions::default())?;
                list.particles.retain_mut(|particle| {
                    let known = labels.get(usize::from(particle.label) - 1).copied().flatten();
                    particle.label = known.unwrap_or(particle.label);
                    known.is_some()
                });
                Ok(write_particles(&project.resolve(&picks), &list)?)
            })?;
        }
        project.tomograms.push(ProjectTomogram {
            file: Path::new("../data").join(&tomogram.file),
            picks: Some(picks),
            target: None,
            ..tomogram
        });
        let project = written(project)?;
        self.network("published weights", &project)
    }
}

/// What networks learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Targets {
    /// The particles' own shapes.
    Shapes,
    /// A sphere for each particle, as large.
    Spheres,
    /// A small ball at each particle's centre.
    Points,
}

/// Writes a project's file, unless it says the same already.
pub(super) fn written(project: Project) -> Result<Project> {
    let path = project.folder.join(PROJECT_FILE);
    let same = Project::read(&path)
        .ok()
        .and_then(|old| Some(old.to_toml().ok()? == project.to_toml().ok()?));
    if same != Some(true) {
        write_project(&path, &project)?;
    }
    Ok(project)
}

/// A point of the curve over the size of the training set.
fn size_point(project: &Project, scores: &MethodScores) -> Result<CurvePoint> {
    let mut particles = 0;
    for tomogram in project.tomograms_for(Split::Train) {
        if let Some(picks) = &tomogram.picks {
            particles += read_particles(&project.resolve(picks), &ReadOptions::default())?.len();
        }
    }
    Ok(CurvePoint {
        at: particles as f64,
        mean_f1: scores.mean_f1(|_| true).unwrap_or(0.0),
    })
}
