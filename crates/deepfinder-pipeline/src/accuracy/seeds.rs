//! The benchmark over several seeds: means, and how far seeds differ.

use std::fmt::Write as _;

use candle_core::Device;
use deepfinder_core::Progress;
use deepfinder_io::write_file_atomically;
use serde::Serialize;

use super::report::AccuracyReport;
use super::{AccuracyJob, bench_accuracy, figures, mean, spread};
use crate::{PipelineError, Result};

/// What an accuracy benchmark found with several seeds.
#[derive(Debug, Clone, Serialize)]
pub struct AccuracyOverSeeds {
    /// One report for each seed, all of one size.
    pub reports: Vec<AccuracyReport>,
}

/// Runs [`bench_accuracy`] with each seed, in a folder of its own inside the job's, `seed-N`. After each, `accuracy.json`,
/// `accuracy.md` and `accuracy.svg` say what the seeds so far gave together; it goes on where it stopped.
///
/// # Errors
/// As [`bench_accuracy`]; where there is no seed, or one twice.
pub fn bench_accuracy_over_seeds(
    job: &AccuracyJob,
    seeds: &[u64],
    device: &Device,
    progress: &dyn Progress,
) -> Result<AccuracyOverSeeds> {
    let unique: std::collections::BTreeSet<&u64> = seeds.iter().collect();
    if seeds.is_empty() || unique.len() < seeds.len() {
        return Err(PipelineError::input(format!(
            "the seeds {seeds:?}: there must be one at least, and each only once"
        )));
    }
    let mut all = AccuracyOverSeeds { reports: Vec::new() };
    for seed in seeds {
        let one = AccuracyJob {
            folder: job.folder.join(format!("seed-{seed}")),
            seed: *seed,
            ..job.clone()
        };
        all.reports.push(bench_accuracy(&one, device, progress)?);
        let write = |name: &str, text: &str| write_file_atomically(&job.folder.join(name), text.as_bytes());
        let json =
            serde_json::to_string_pretty(&all).map_err(|error| PipelineError::input(error.to_string()))?;
        write("accuracy.json", &json)?;
        write("accuracy.md", &all.to_markdown())?;
        write("accuracy.svg", &figures::classes_svg(&all.reports)?)?;
    }
    Ok(all)
}

impl AccuracyOverSeeds {
    /// The table as Markdown: F1 of each class and method as mean ± standard deviation over the seeds, and what the first
    /// method gains over each other with the same seed.
    pub fn to_markdown(&self) -> String {
        let Some(first) = self.reports.first() else {
            return String::new();
        };
        let [depth, height, width] = first.shape;
        let seeds: Vec<u64> = self.reports.iter().map(|report| report.seed).collect();
        let mut text = format!(
            "# Accuracy, size {}, seeds {seeds:?}\n\nF1 as mean ± standard deviation over the seeds, one to one within each class's \
             radius, in simulated tomograms of {depth}×{height}×{width} voxels that no method has seen. Networks of all classes \
             learnt for {} iterations.\n\n",
            first.size, first.training_iterations
        );
        let names: Vec<&str> = first.methods.iter().map(|method| method.name.as_str()).collect();
        // Writing to a String cannot fail.
        let mut row = |cells: &[String]| {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        let with_names = |title: &[&str]| -> Vec<String> {
            title
                .iter()
                .chain(&names)
                .map(|name| (*name).to_owned())
                .collect()
        };
        let head = with_names(&["class", "kDa", "particles"]);
        row(&head);
        row(&vec!["---".to_owned(); head.len()]);
        for (i, class) in first.classes.iter().enumerate() {
            let particles = self
                .reports
                .iter()
                .map(|report| report.classes[i].particles as f64);
            let mut cells = vec![
                class.name.clone(),
                format!("{:.0}", class.kilodalton),
                format!("{:.0}", mean(particles)),
            ];
            cells.extend(
                (0..names.len()).map(|method| spread(&self.f1(method, |class| class == i), 2, false)),
            );
            row(&cells);
        }
        let mut cells = ["**mean**", "", ""].map(str::to_owned).to_vec();
        cells.extend((0..names.len()).map(|method| spread(&self.f1(method, |_| true), 2, false)));
        row(&cells);
        let mut cells = ["gain of the first", "", "", ""].map(str::to_owned).to_vec();
        let ours = self.f1(0, |_| true);
        cells.extend((1..names.len()).map(|method| {
            let theirs = self.f1(method, |_| true);
            let gains: Vec<f64> = ours
                .iter()
                .zip(theirs)
                .map(|(ours, theirs)| ours - theirs)
                .collect();
            spread(&gains, 2, true)
        }));
        row(&cells);
        text
    }

    /// Mean F1 of those classes with each seed.
    fn f1(&self, method: usize, of: impl Fn(usize) -> bool) -> Vec<f64> {
        let of = &of;
        let scores = self
            .reports
            .iter()
            .filter_map(|report| report.methods.get(method)?.mean_f1(of));
        scores.collect()
    }
}

#[cfg(test)]
mod tests {
    use deepfinder_core::NoProgress;

    use super::*;
    use crate::accuracy::report::tests::example;
    use crate::accuracy::tests::tiny;

    #[test]
    fn seeds_give_means_spreads_and_gains() {
        let mut second = example();
        let classes = second.methods.iter_mut().flat_map(|method| &mut method.classes);
        classes.flatten().for_each(|scores| scores.f1 -= 0.2);
        let all = AccuracyOverSeeds {
            reports: vec![example(), second],
        };
        let text = all.to_markdown();
        for row in [
            "| class | kDa | particles | shapes | others |",
            "| --- | --- | --- | --- | --- |",
            "| a | 1900 | 7 | 0.80 ± 0.14 | 0.70 ± 0.14 |",
            "| b | 200 | 7 | 0.50 ± 0.14 | – |",
            "| **mean** |  |  | 0.50 ± 0.14 | 0.70 ± 0.14 |",
            "| gain of the first |  |  |  | -0.20 ± 0.00 |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }

    #[test]
    fn each_seed_has_a_folder_and_all_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let job = tiny(folder.path());
        let run = |seeds: &[u64]| bench_accuracy_over_seeds(&job, seeds, &Device::Cpu, &NoProgress);
        let all = run(&[5, 6]).unwrap();
        assert_eq!(all.reports.len(), 2);
        assert_ne!(
            std::fs::read(folder.path().join("seed-5/data/tomo1.mrc")).unwrap(),
            std::fs::read(folder.path().join("seed-6/data/tomo1.mrc")).unwrap()
        );
        let text = std::fs::read_to_string(folder.path().join("accuracy.md")).unwrap();
        assert_eq!(text, all.to_markdown());
        let error = run(&[5, 5]).unwrap_err().to_string();
        assert!(error.contains("only once"), "{error}");
    }
}
