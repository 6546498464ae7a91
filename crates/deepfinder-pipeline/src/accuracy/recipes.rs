//! What each part of a recipe is worth: one network for each and for each seed, all on the same tomograms.

use std::path::PathBuf;

use deepfinder_core::{NoProgress, Progress};
use deepfinder_eval::label_map_scores;
use deepfinder_io::write_file_atomically;
use serde::Serialize;

use super::methods::{Targets, written};
use super::recipe_report::{RecipeRun, RecipesReport};
use super::{AccuracyJob, Bench};
use crate::error::OnFile;
use crate::train::train_params;
use crate::{
    Device, Head, PickMethod, PipelineError, Project, Result, Split, TrainSettings, labels_path,
    open_label_map,
};

/// A recipe that is compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What it sets beside the benchmark's size.
    pub train: TrainSettings,
    /// Whether it learns from small balls at the particles' centres instead of shapes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub points: bool,
    /// Another way to look into the tomogram by the networks of another recipe, for which nothing is learnt anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looking: Option<Looking>,
}

/// A way to look into a tomogram by networks that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Looking {
    /// The recipe whose networks look.
    #[serde(rename = "networks_of")]
    pub networks: &'static str,
    /// The scores are averaged with those of the tomogram turned about the tilt axis.
    pub half_turn: bool,
    /// The scores are averaged with those of the network with the next seed.
    pub with_next_seed: bool,
    /// How voxels become particles.
    pub method: PickMethod,
    /// Thresholds are tuned on the validation tomogram.
    pub tuned: bool,
}

/// The recipe that is changed in one thing, and that others are compared with.
const BASE: &str = "--recipe default";

/// Recipes with targets of points, whose networks are looked through by peaks too.
const POINTS: &str = "points";
const HALF_POINTS: &str = "half head, points";

fn by_name(recipe: &str) -> TrainSettings {
    TrainSettings {
        recipe: Some(recipe.to_owned()),
        ..TrainSettings::default()
    }
}

/// A named change of settings.
type Change<T> = (&'static str, fn(&mut T));

/// All recipes: the default, the paper's, and the default with one thing changed.
fn recipes() -> Vec<Recipe> {
    let recipe = |name: &str, train, looking| Recipe {
        name: name.to_owned(),
        train,
        points: false,
        looking,
    };
    let mut recipes = vec![
        recipe(BASE, by_name("default"), None),
        recipe("--recipe paper", by_name("paper"), None),
    ];
    let changes: [Change<TrainSettings>; 10] = [
        ("without cross-entropy", |s| s.cross_entropy = Some(0.0)),
        ("constant rate", |s| s.schedule = Some("constant".to_owned())),
        ("plain kernels", |s| s.residual = Some(false)),
        ("plain kernels, constant rate", |s| {
            (s.residual, s.schedule) = (Some(false), Some("constant".to_owned()));
        }),
        ("label smoothing 0.1", |s| s.label_smoothing = Some(0.1)),
        ("focal 0.75", |s| s.focal = Some(0.75)),
        ("ema 0.98", |s| s.ema = Some(0.98)),
        ("intensity augmentation", |s| {
            (s.contrast, s.brightness) = (Some(0.2), Some(0.2));
            (s.noise, s.blur) = (Some(0.3), Some(0.5));
        }),
        ("mixup 0.2", |s| s.mixup = Some(0.2)),
        ("negatives 0.2", |s| s.negatives = Some(0.2)),
    ];
    for (name, change) in changes {
        let mut train = by_name("default");
        change(&mut train);
        recipes.push(recipe(name, train, None));
    }
    for (name, head, points) in [
        ("half head", Head::Half, false),
        (POINTS, Head::Full, true),
        (HALF_POINTS, Head::Half, true),
    ] {
        let train = TrainSettings {
            head: Some(head).filter(|head| !head.is_full()),
            ..by_name("default")
        };
        recipes.push(Recipe {
            points,
            ..recipe(name, train, None)
        });
    }
    let ways: [Change<Looking>; 6] = [
        ("half-turn", |l| l.half_turn = true),
        ("ensemble of 2", |l| l.with_next_seed = true),
        ("tuned thresholds", |l| l.tuned = true),
        ("peaks", |l| l.method = PickMethod::Peaks),
        ("peaks, tuned thresholds", |l| {
            (l.method, l.tuned) = (PickMethod::Peaks, true);
        }),
        ("half-turn, ensemble of 2, tuned thresholds", |l| {
            (l.half_turn, l.with_next_seed, l.tuned) = (true, true, true);
        }),
    ];
    for (name, change) in ways {
        let mut looking = Looking {
            networks: BASE,
            ..Looking::default()
        };
        change(&mut looking);
        recipes.push(recipe(name, by_name("default"), Some(looking)));
    }
    for (name, networks, tuned) in [
        ("points, peaks", POINTS, false),
        ("points, peaks, tuned thresholds", POINTS, true),
        ("half head, points, peaks", HALF_POINTS, false),
        ("half head, points, peaks, tuned thresholds", HALF_POINTS, true),
    ] {
        let looking = Looking {
            networks,
            method: PickMethod::Peaks,
            tuned,
            ..Looking::default()
        };
        recipes.push(Recipe {
            points: true,
            ..recipe(name, by_name("default"), Some(looking))
        });
    }
    recipes
}

/// Measures what each part of a recipe is worth: trains a network by each recipe and with each seed on the same simulated
/// tomograms, as long and with as many voxels an iteration, and scores it on the tomogram that none has seen.
///
/// The folder's simulated tomograms are those of [`bench_accuracy`](crate::bench_accuracy) with the same size and seed.
/// `recipes.json` and `recipes.md` are written after each network, so that a benchmark that is cut short says what it has
/// measured; it goes on where it stopped.
///
/// # Errors
/// As [`bench_accuracy`](crate::bench_accuracy); where there is no seed, or a name in `only` is none of a recipe.
pub fn bench_recipes(
    job: &AccuracyJob,
    seeds: &[u64],
    only: &[String],
    device: &Device,
    progress: &dyn Progress,
) -> Result<RecipesReport> {
    let chosen = chosen(only)?;
    if seeds.is_empty() {
        return Err(PipelineError::input(
            "recipes are compared over at least one seed",
        ));
    }
    let bench = Bench::begin(job, device, progress)?;
    let mut report = RecipesReport::new(job, &bench.classes()?, seeds, &chosen);
    // All recipes with the first seed come first: a benchmark that is cut short compares them all. Networks of all seeds are
    // there before two are averaged.
    for learns in [true, false] {
        for (seed, recipe) in seeds
            .iter()
            .flat_map(|seed| chosen.iter().map(move |recipe| (seed, recipe)))
        {
            if recipe.looking.is_none() != learns {
                continue;
            }
            let run = bench.recipe(recipe, *seed, seeds)?;
            tracing::info!("{}, seed {seed}: F1 {:.3}", recipe.name, run.mean_f1());
            report.add(&recipe.name, run);
            let write =
                |name: &str, text: &str| write_file_atomically(&job.folder.join(name), text.as_bytes());
            let json = serde_json::to_string_pretty(&report)
                .map_err(|error| PipelineError::input(error.to_string()))?;
            write("recipes.json", &json)?;
            write("recipes.md", &report.to_markdown())?;
        }
    }
    Ok(report)
}

/// The recipes of those names, or all.
fn chosen(only: &[String]) -> Result<Vec<Recipe>> {
    let all = recipes();
    if let Some(unknown) = only
        .iter()
        .find(|name| all.iter().all(|recipe| recipe.name != **name))
    {
        let names: Vec<String> = all.iter().map(|recipe| format!("`{}`", recipe.name)).collect();
        return Err(PipelineError::input(format!(
            "`{unknown}` is no recipe that is compared: there are {}",
            names.join(", ")
        )));
    }
    // Those whose networks others look through come too.
    let needed: Vec<&str> = all
        .iter()
        .filter(|recipe| only.contains(&recipe.name))
        .filter_map(|recipe| Some(recipe.looking?.networks))
        .chain([BASE])
        .collect();
    let wanted = |recipe: &Recipe| {
        only.is_empty() || needed.contains(&recipe.name.as_str()) || only.contains(&recipe.name)
    };
    Ok(all.into_iter().filter(wanted).collect())
}

impl Bench<'_> {
    fn recipe(&self, recipe: &Recipe, seed: u64, seeds: &[u64]) -> Result<RecipeRun> {
        let project = self.recipe_project(recipe, seed, seeds)?;
        let classes = self.network(&recipe.name, &project)?.classes;
        Ok(RecipeRun {
            seed,
            classes: classes.into_iter().flatten().collect(),
            // Balls at the centres are no shapes.
            voxel_dice: if recipe.points {
                None
            } else {
                Some(self.voxel_dice(&project)?)
            },
        })
    }

    fn recipe_project(&self, recipe: &Recipe, seed: u64, seeds: &[u64]) -> Result<Project> {
        let folder_of = |name: &str, seed: u64| format!("{}-{seed}", folder_name(name));
        let folder = PathBuf::from("recipes").join(folder_of(&recipe.name, seed));
        let targets = if recipe.points {
            Targets::Points
        } else {
            Targets::Shapes
        };
        let mut project = self.project(&folder, targets, self.job.size.training)?;
        project.train = TrainSettings {
            seed: Some(seed),
            ..self.job.size.train.overridden_by(&recipe.train)
        };
        if let Some(looking) = recipe.looking {
            let weights = |seed| {
                PathBuf::from(format!(
                    "../{}/output/train/best.safetensors",
                    folder_of(looking.networks, seed)
                ))
            };
            project.segment.weights = Some(weights(seed));
            if looking.with_next_seed {
                let later = seeds.iter().cycle().skip_while(|other| **other != seed).nth(1);
                project.segment.ensemble = later.into_iter().map(|seed| weights(*seed)).collect();
            }
            project.segment.half_turn = looking.half_turn;
            project.pick.method = looking.method;
            project.pick.tuned = looking.tuned;
        }
        // A setting that makes no sense is found before the hours of the others.
        train_params(&project.train)?.check().on(&project.folder)?;
        written(project)
    }

    /// Mean Dice of the classes' voxels in the tomogram that is looked into.
    fn voxel_dice(&self, project: &Project) -> Result<f64> {
        let truth = self.tomogram(Split::Test)?;
        let Some(target) = &truth.target else {
            return Err(PipelineError::input("the benchmark's tomogram has no label map"));
        };
        let path = labels_path(project, project.tomogram(&truth.name)?);
        let truth = open_label_map(&self.data.resolve(target))?;
        let found = open_label_map(&path)?;
        let report = label_map_scores(truth.as_ref(), found.as_ref(), &NoProgress).on(&path)?;
        Ok(report.mean_dice)
    }
}

/// A name that can be a folder's.
fn folder_name(name: &str) -> String {
    let words = name
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::accuracy::tests::tiny;

    #[test]
    fn recipes_make_sense_and_differ_in_folder_and_settings() {
        let recipes = recipes();
        let folders: BTreeSet<String> = recipes.iter().map(|recipe| folder_name(&recipe.name)).collect();
        assert_eq!(folders.len(), recipes.len());
        let base = train_params(&recipes[0].train).unwrap();
        for recipe in &recipes[1..] {
            let params = train_params(&recipe.train).unwrap();
            params.check().unwrap();
            let same = params == base && recipe.train.head.is_none() && !recipe.points;
            // What only looks in another way is the recipe whose networks look.
            match recipe.looking {
                None => assert!(!same, "{}", recipe.name),
                Some(looking) => {
                    let other = recipes.iter().find(|other| other.name == looking.networks);
                    let other = other.unwrap();
                    assert_eq!(
                        (params == base, recipe.points),
                        (true, other.points),
                        "{}",
                        recipe.name
                    );
                    assert!(other.looking.is_none());
                }
            }
        }
        let names = |only: &str| -> Vec<String> {
            let chosen = chosen(&[only.to_owned()]).unwrap();
            chosen.into_iter().map(|recipe| recipe.name).collect()
        };
        assert_eq!(
            names("half head, points, peaks"),
            [BASE, HALF_POINTS, "half head, points, peaks"]
        );
        let one = chosen(&["ema 0.98".to_owned()]).unwrap();
        assert_eq!(one.len(), 2, "and the base, to compare with");
        let error = chosen(&["emma".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("`emma`") && error.contains("`mixup 0.2`"),
            "{error}"
        );
    }

    #[test]
    fn recipes_are_compared_on_one_set_of_tomograms() {
        let folder = tempfile::tempdir().unwrap();
        let job = tiny(folder.path());
        let only = [
            "--recipe paper",
            "half-turn, ensemble of 2, tuned thresholds",
            "peaks, tuned thresholds",
            "half head, points, peaks",
        ]
        .map(ToOwned::to_owned);
        let run = || bench_recipes(&job, &[3, 4], &only, &Device::Cpu, &NoProgress).unwrap();
        let report = run();
        let text = std::fs::read_to_string(folder.path().join("recipes.md")).unwrap();
        assert_eq!(text, report.to_markdown());
        for row in [
            "| --recipe default | 2 |",
            "| --recipe paper | 2 |",
            "| half-turn, ensemble of 2, tuned thresholds | 2 |",
        ] {
            assert!(text.contains(row), "{text}");
        }
        assert!(
            text.contains("| half head, points | 2 |") && text.contains("| – | – |"),
            "{text}"
        );
        let learnt = folder.path().join("recipes/half-head-points-3/output");
        let weights = learnt.join("train/best.safetensors");
        assert_eq!(crate::Model::read(&weights).unwrap().weights.head(), Head::Half);
        assert!(learnt.join("targets/tomo1.mrc").exists());
        let looked = folder.path().join("recipes/peaks-tuned-thresholds-4/output");
        assert!(looked.join("thresholds.json").exists() && !looked.join("train").exists());
        let weights = folder
            .path()
            .join("recipes/recipe-paper-4/output/train/best.safetensors");
        let made = || std::fs::metadata(&weights).unwrap().modified().unwrap();
        let before = made();
        let again = run();
        assert_eq!(made(), before, "nothing was made again");
        let json = |report: &RecipesReport| serde_json::to_value(report).unwrap();
        assert_eq!(json(&again), json(&report));
        let none = bench_recipes(&job, &[], &[], &Device::Cpu, &NoProgress);
        assert!(none.is_err());
    }
}
