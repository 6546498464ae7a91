use std::fmt::Write as _;

use serde::Serialize;

use super::recipes::Recipe;
use super::report::{ClassScores, ParticleClass};
use super::{AccuracyJob, mean, spread};

/// What the parts of a recipe are worth.
#[derive(Debug, Clone, Serialize)]
pub struct RecipesReport {
    /// Name of the benchmark's size.
    pub size: String,
    /// Seed of the simulated tomograms.
    pub data_seed: u64,
    /// Seeds of the trainings.
    pub seeds: Vec<u64>,
    /// Shape of the tomograms, `(z, y, x)`.
    pub shape: [usize; 3],
    /// The classes.
    pub classes: Vec<ParticleClass>,
    /// The recipes; the first is what others are compared with.
    pub recipes: Vec<RecipeRow>,
}

/// A recipe and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct RecipeRow {
    /// The recipe.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// One for each seed so far.
    pub runs: Vec<RecipeRun>,
}

/// One network.
#[derive(Debug, Clone, Serialize)]
pub struct RecipeRun {
    /// Seed of its training.
    pub seed: u64,
    /// How well it finds each class.
    pub classes: Vec<ClassScores>,
    /// Mean Dice of the classes' voxels; `None` where it was not their shapes that were learnt.
    pub voxel_dice: Option<f64>,
}

impl RecipeRun {
    /// Mean F1 of the classes.
    pub fn mean_f1(&self) -> f64 {
        mean(self.classes.iter().map(|class| class.f1))
    }
}

impl RecipesReport {
    pub(super) fn new(
        job: &AccuracyJob,
        classes: &[ParticleClass],
        seeds: &[u64],
        recipes: &[Recipe],
    ) -> Self {
        let row = |recipe: &Recipe| RecipeRow {
            recipe: recipe.clone(),
            runs: Vec::new(),
        };
        Self {
            size: job.size.name.clone(),
            data_seed: job.seed,
            seeds: seeds.to_vec(),
            shape: job.size.shape,
            classes: classes.to_vec(),
            recipes: recipes.iter().map(row).collect(),
        }
    }

    pub(super) fn add(&mut self, name: &str, run: RecipeRun) {
        if let Some(row) = self.recipes.iter_mut().find(|row| row.recipe.name == name) {
            row.runs.push(run);
        }
    }

    /// The table as Markdown: means over the seeds, their standard deviation, and the gain over the first recipe with the
    /// same seed.
    pub fn to_markdown(&self) -> String {
        let [depth, height, width] = self.shape;
        let classes: Vec<&str> = self.classes.iter().map(|class| class.name.as_str()).collect();
        let mut text = format!(
            "# Recipes, size {}, tomograms of seed {}\n\nMean ± standard deviation over the seeds {:?} of training, on a simulated \
             tomogram of {depth}×{height}×{width} voxels that no network has seen. F1 is that of the particles, one to one within \
             each class's radius; a gain is that over the first recipe with the same seed.\n\n| recipe | seeds | mean F1 | gain | \
             voxel Dice | gain | F1 of {} |\n|---|---|---|---|---|---|---|\n",
            self.size,
            self.data_seed,
            self.seeds,
            classes.join(" / "),
        );
        let Some(base) = self.recipes.first() else {
            return text;
        };
        for row in &self.recipes {
            let f1 = |run: &RecipeRun| Some(run.mean_f1());
            let dice = |run: &RecipeRun| run.voxel_dice;
            let values = |of: &dyn Fn(&RecipeRun) -> Option<f64>| -> Vec<f64> {
                row.runs.iter().filter_map(of).collect()
            };
            let per_class: Vec<String> = (0..classes.len())
                .map(|class| {
                    let scores: Vec<f64> = row
                        .runs
                        .iter()
                        .filter_map(|run| Some(run.classes.get(class)?.f1))
                        .collect();
                    if scores.is_empty() {
                        return "–".to_owned();
                    }
                    format!("{:.2}", mean(scores.into_iter()))
                })
                .collect();
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.recipe.name,
                row.runs.len(),
                spread(&values(&f1), 3, false),
                spread(&gains(base, row, f1), 3, true),
                spread(&values(&dice), 3, false),
                spread(&gains(base, row, dice), 3, true),
                per_class.join(" / "),
            );
        }
        text
    }
}

/// What a recipe gains over another, seed by seed.
fn gains(base: &RecipeRow, row: &RecipeRow, of: impl Fn(&RecipeRun) -> Option<f64>) -> Vec<f64> {
    let pairs = row.runs.iter().filter_map(|run| {
        let other = base.runs.iter().find(|other| other.seed == run.seed)?;
        Some(of(run)? - of(other)?)
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainSettings;
    use crate::accuracy::report::tests::example;

    #[test]
    fn gains_are_those_over_the_first_recipe_with_the_same_seed() {
        let recipe = |name: &str| Recipe {
            name: name.to_owned(),
            train: TrainSettings::default(),
            points: false,
            looking: None,
        };
        let run = |seed, f1: f64, voxel_dice| RecipeRun {
            seed,
            classes: [f1 + 0.1, f1, f1 - 0.1]
                .map(|f1| ClassScores {
                    precision: 1.0,
                    recall: 1.0,
                    f1,
                })
                .to_vec(),
            voxel_dice: Some(voxel_dice),
        };
        let mut report = RecipesReport {
            size: "tiny".to_owned(),
            data_seed: 1,
            seeds: vec![1, 2],
            shape: [4, 5, 6],
            classes: example().classes,
            recipes: ["base", "better", "not yet"]
                .map(|name| RecipeRow {
                    recipe: recipe(name),
                    runs: Vec::new(),
                })
                .to_vec(),
        };
        report.add("base", run(1, 0.5, 0.3));
        report.add("base", run(2, 0.7, 0.4));
        // Not in the order of the base's.
        report.add("better", run(2, 0.9, 0.4));
        report.add("better", run(1, 0.6, 0.5));
        let text = report.to_markdown();
        for row in [
            "| base | 2 | 0.600 ± 0.141 | +0.000 ± 0.000 | 0.350 ± 0.071 | +0.000 ± 0.000 | 0.70 / 0.60 / 0.50 |",
            "| better | 2 | 0.750 ± 0.212 | +0.150 ± 0.071 | 0.450 ± 0.071 | +0.100 ± 0.141 | 0.85 / 0.75 / 0.65 |",
            "| not yet | 0 | – | – | – | – | – / – / – |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }
}
