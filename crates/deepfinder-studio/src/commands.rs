//! The command line that does what the page does, so that nobody is tied to the page.

use std::fmt;
use std::path::{Path, PathBuf};

use deepfinder_core::ClassTable;
use deepfinder_pipeline::{
    ConvertJob, Length, PickJob, PickMethod, Plan, Project, SegmentJob, ShapeSource, TargetJob,
};

/// A command line of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    fn new(command: &str) -> Self {
        Self {
            words: vec!["deepfinder".to_owned(), command.to_owned()],
        }
    }

    fn word(mut self, word: impl fmt::Display) -> Self {
        self.words.push(word.to_string());
        self
    }

    fn path(self, path: &Path) -> Self {
        self.word(path.display())
    }

    fn option(self, name: &str, value: impl fmt::Display) -> Self {
        self.word(format_args!("--{name}")).word(value)
    }

    fn option_path(self, name: &str, path: &Path) -> Self {
        self.option(name, path.display())
    }

    fn classes(self, classes: &ClassTable) -> Self {
        let mut line = self;
        for class in classes.classes() {
            line = line.option("class", format_args!("{}={}", class.name, class.label));
        }
        line
    }
}

/// As a shell takes it.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@".contains(c);
            if !word.is_empty() && word.chars().all(is_plain) {
                write!(f, "{gap}{word}")?;
            } else {
                write!(f, "{gap}'{}'", word.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}

/// A length as one word.
fn length(length: Length) -> String {
    length.to_string().replace(' ', "")
}

pub(crate) fn target(job: &TargetJob) -> CommandLine {
    let mut line = CommandLine::new("target")
        .path(&job.picks)
        .option_path("like", &job.like);
    for (class, shape) in &job.shapes {
        line = match shape {
            // Whether they are points is said once for all.
            ShapeSource::Sphere(radius) | ShapeSource::Point(radius) => {
                line.option("radius", format_args!("{class}={}", length(*radius)))
            }
            ShapeSource::Mask(path) => line.option("mask", format_args!("{class}={}", path.display())),
        };
    }
    if job
        .shapes
        .iter()
        .any(|(_, shape)| matches!(shape, ShapeSource::Point(_)))
    {
        line = line.word("--points");
    }
    if !job.order.is_empty() {
        line = line.option("order", job.order.join(","));
    }
    if let Some(initial) = &job.initial {
        line = line.option_path("initial", initial);
    }
    if let Some(name) = &job.tomogram {
        line = line.option("tomogram", name);
    }
    if let Some(size) = job.voxel_size {
        line = line.option("voxel-size", size.angstrom());
    }
    if job.read.swap_xz {
        line = line.word("--swap-xz");
    }
    line.classes(&job.read.classes).option_path("output", &job.output)
}

pub(crate) fn train(project: &Path, goes_on: bool) -> CommandLine {
    let line = CommandLine::new("train").path(project);
    if goes_on { line.word("--resume") } else { line }
}

pub(crate) fn run(project: &Path) -> CommandLine {
    CommandLine::new("run").path(project)
}

pub(crate) fn segment(job: &SegmentJob, weights: &[PathBuf], [device, precision]: [&str; 2]) -> CommandLine {
    let mut line = CommandLine::new("segment").path(&job.tomogram);
    for weights in weights {
        line = line.option_path("weights", weights);
    }
    if job.half_turn {
        line = line.word("--half-turn");
    }
    if let Some(scores) = &job.scores {
        line = line.option_path("scores", scores);
    }
    if let Plan::Reference { patch } = job.plan {
        line = line.option("plan", "reference").option("patch", patch);
    }
    if job.options.invert {
        line = line.word("--invert");
    }
    if let Some(size) = job.options.voxel_size {
        line = line.option("voxel-size", size.angstrom());
    }
    if device != "auto" {
        line = line.option("device", device);
    }
    if precision != "auto" {
        line = line.option("precision", precision);
    }
    line.option_path("output", &job.labels)
}

/// Classes that have smallest sizes or lowest scores of their own are the project's affair: then its run is the same, and `pick` is not.
pub(crate) fn pick(job: &PickJob, project: &Path) -> CommandLine {
    if !job.min_size_of_class.is_empty() || !job.min_score_of_class.is_empty() {
        return run(project);
    }
    let mut line = CommandLine::new("pick")
        .path(&job.input)
        .option("method", job.method);
    if let Some(radius) = job.radius.filter(|_| job.method != PickMethod::Components) {
        line = line.option("radius", length(radius));
    }
    if job.min_size > 0 {
        line = line.option("min-size", job.min_size);
    }
    if job.method == PickMethod::Peaks {
        line = line.option("min-score", job.min_score);
    }
    if let Some(size) = job.voxel_size {
        line = line.option("voxel-size", size.angstrom());
    }
    if let Some(name) = &job.tomogram {
        line = line.option("tomogram", name);
    }
    line.option_path("output", &job.output)
}

pub(crate) fn evaluate(truth: &Path, picks: &Path, radius: Length, project: &Project) -> CommandLine {
    let mut line = CommandLine::new("evaluate")
        .path(truth)
        .path(picks)
        .option("radius", length(radius));
    for class in &project.classes {
        line = line.option("class", format_args!("{}={}", class.name, class.label));
    }
    line
}

pub(crate) fn consensus(a: &Path, b: &Path, radius: Length, any_class: bool) -> CommandLine {
    let line = CommandLine::new("consensus")
        .path(a)
        .path(b)
        .option("radius", length(radius));
    if any_class { line.word("--any-class") } else { line }
}

/// `to` and `beside`, the tomogram, are for lists.
pub(crate) fn convert(job: &ConvertJob, to: Option<&str>, beside: Option<&Path>) -> CommandLine {
    let mut line = CommandLine::new("convert").path(&job.input).path(&job.output);
    if let Some(format) = to {
        line = line.option("to", format);
    }
    if let Some(name) = &job.tomogram {
        line = line.option("tomogram", name);
    }
    if let Some(label) = job.only_class {
        line = line.option("only-class", label);
    }
    if let Some(size) = job.read.voxel_size.or(job.options.voxel_size) {
        line = line.option("voxel-size", size.angstrom());
    }
    if job.options.invert {
        line = line.word("--invert");
    }
    if let Some(tomogram) = beside {
        line = line.option_path("tomograms", tomogram);
    }
    line.classes(&job.read.classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        let line = CommandLine::new("train")
            .word("my project/it's")
            .word("")
            .word("a=1");
        assert_eq!(line.to_string(), r"deepfinder train 'my project/it'\''s' '' a=1");
    }
}
