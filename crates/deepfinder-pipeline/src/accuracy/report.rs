use std::fmt::Write as _;

use serde::Serialize;

/// What an accuracy benchmark found.
#[derive(Debug, Clone, Serialize)]
pub struct AccuracyReport {
    /// Name of its size.
    pub size: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Shape of the tomograms, `(z, y, x)`.
    pub shape: [usize; 3],
    /// Iterations of the networks of all classes.
    pub training_iterations: usize,
    /// The classes.
    pub classes: Vec<ParticleClass>,
    /// The methods.
    pub methods: Vec<MethodScores>,
    /// Mean F1 over the number of particles that the network of all classes (shapes) learnt from.
    pub training_size: Vec<CurvePoint>,
    /// Mean F1 of the validation's voxels over iterations, of the same network.
    pub iterations: Vec<CurvePoint>,
}

/// A class that is looked for.
#[derive(Debug, Clone, Serialize)]
pub struct ParticleClass {
    /// Its name.
    pub name: String,
    /// Its mass.
    pub kilodalton: f64,
    /// Its size group.
    pub group: SizeGroup,
    /// Particles in the tomogram that is looked into.
    pub particles: usize,
}

/// Particles by mass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeGroup {
    /// Below 200 kDa.
    Small,
    /// 200 to 600 kDa.
    Medium,
    /// Above 600 kDa.
    Large,
}

impl SizeGroup {
    /// The groups from large to small.
    const ALL: [Self; 3] = [Self::Large, Self::Medium, Self::Small];

    pub(super) fn of(kilodalton: f64) -> Self {
        match kilodalton {
            ..200.0 => Self::Small,
            ..=600.0 => Self::Medium,
            _ => Self::Large,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// How well a method finds each class.
#[derive(Debug, Clone, Serialize)]
pub struct MethodScores {
    /// Its name.
    pub name: String,
    /// In the order of the report's classes; `None` for a class that it does not look for.
    pub classes: Vec<Option<ClassScores>>,
}

/// How well a class is found: one to one within its radius.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ClassScores {
    /// Part of the picks that is right.
    pub precision: f64,
    /// Part of the particles that was found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CurvePoint {
    /// Particles or iterations.
    pub at: f64,
    /// Mean F1 of the classes.
    pub mean_f1: f64,
}

impl MethodScores {
    /// Mean F1 of those classes that it looks for; `None` where it looks for none.
    pub fn mean_f1(&self, of: impl Fn(usize) -> bool) -> Option<f64> {
        let chosen = self.classes.iter().enumerate().filter(|(class, _)| of(*class));
        let scores: Vec<f64> = chosen.filter_map(|(_, scores)| Some((*scores)?.f1)).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

impl AccuracyReport {
    /// The tables as Markdown.
    pub fn to_markdown(&self) -> String {
        let [depth, height, width] = self.shape;
        let mut text = format!(
            "# Accuracy, size {}, seed {}\n\nF1 (precision / recall), one to one within each class's radius, in a simulated \
             tomogram of {depth}×{height}×{width} voxels that no method has seen. Networks of all classes learnt for {} \
             iterations.\n\n",
            self.size, self.seed, self.training_iterations
        );
        let names: Vec<&str> = self.methods.iter().map(|method| method.name.as_str()).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| class | kDa | group | particles | {} |",
            names.join(" | ")
        );
        let _ = writeln!(text, "|---|---|---|---|{}", "---|".repeat(names.len()));
        for (i, class) in self.classes.iter().enumerate() {
            let cells: Vec<String> = self
                .methods
                .iter()
                .map(|method| cell(method.classes[i]))
                .collect();
            let _ = writeln!(
                text,
                "| {} | {:.0} | {} | {} | {} |",
                class.name,
                class.kilodalton,
                class.group.name(),
                class.particles,
                cells.join(" | ")
            );
        }
        let mut means = |what: &str, of: &dyn Fn(usize) -> bool| {
            let cells = self.methods.iter().map(|method| {
                let mean = method.mean_f1(of);
                mean.map_or_else(|| "–".to_owned(), |mean| format!("{mean:.2}"))
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(text, "| {what} | | | | {} |", cells.join(" | "));
        };
        for group in SizeGroup::ALL {
            if self.classes.iter().any(|class| class.group == group) {
                means(&format!("**{}, mean**", group.name()), &|i| {
                    self.classes[i].group == group
                });
            }
        }
        means("**all, mean**", &|_| true);
        for (title, first, points) in [
            (
                "Size of the training set",
                "particles learnt from",
                &self.training_size,
            ),
            (
                "Iterations (voxels of the validation tomogram)",
                "iterations",
                &self.iterations,
            ),
        ] {
            if points.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n## {title}\n\n| {first} | mean F1 |\n|---|---|");
            for point in points {
                let _ = writeln!(text, "| {:.0} | {:.2} |", point.at, point.mean_f1);
            }
        }
        text
    }
}

fn cell(scores: Option<ClassScores>) -> String {
    scores.map_or_else(
        || "–".to_owned(),
        |scores| {
            format!(
                "{:.2} ({:.2} / {:.2})",
                scores.f1, scores.precision, scores.recall
            )
        },
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn example() -> AccuracyReport {
        let class = |name: &str, kilodalton| ParticleClass {
            name: name.to_owned(),
            kilodalton,
            group: SizeGroup::of(kilodalton),
            particles: 7,
        };
        let found = |f1| {
            Some(ClassScores {
                precision: 1.0,
                recall: 0.5,
                f1,
            })
        };
        let method = |name: &str, classes| MethodScores {
            name: name.to_owned(),
            classes,
        };
        AccuracyReport {
            size: "tiny".to_owned(),
            seed: 3,
            shape: [4, 5, 6],
            training_iterations: 10,
            classes: vec![class("a", 1900.0), class("b", 200.0), class("c", 199.0)],
            methods: vec![
                method("shapes", vec![found(0.9), found(0.6), found(0.3)]),
                method("others", vec![found(0.8), None, None]),
            ],
            training_size: vec![CurvePoint {
                at: 7.0,
                mean_f1: 0.25,
            }],
            iterations: Vec::new(),
        }
    }

    #[test]
    fn tables_have_a_row_for_each_class_and_group() {
        let text = example().to_markdown();
        for row in [
            "| class | kDa | group | particles | shapes | others |",
            "| a | 1900 | large | 7 | 0.90 (1.00 / 0.50) | 0.80 (1.00 / 0.50) |",
            "| b | 200 | medium | 7 | 0.60 (1.00 / 0.50) | – |",
            "| **small, mean** | | | | 0.30 | – |",
            "| **all, mean** | | | | 0.60 | 0.80 |",
            "| 7 | 0.25 |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(!text.contains("Iterations ("), "an empty curve is left out");
    }
}
