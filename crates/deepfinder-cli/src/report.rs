//! Everything that is printed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this module is the program's voice"
)]

use std::path::Path;

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use deepfinder_pipeline::{
    AccuracyOverSeeds, AccuracyReport, Averaged, BenchRow, ConsensusSummary, ConvertJob, Converted,
    DemoSummary, DeviceCheck, DeviceReport, Ended, Evaluation, FileSummary, HtmlReport, Matched, Picked,
    PipelineError, Project, RecipesReport, RunSummary, SegmentSummary, SimulateSummary, TargetSummary,
    TrainOutcome, TrainPlan, write_file_atomically,
};
use deepfinder_studio::Studio;
use serde_json::{Value, json};

use crate::arguments::Json;
use crate::formats::FormatTables;
use crate::tables::{
    converted_list, describe, evaluation, fields, part_averages, right_align, size_in_words, table,
};

/// Prints results: for people, or as JSON.
pub(crate) struct Printer {
    pub(crate) json: Option<Json>,
}

/// Says what went wrong, with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors quote their cause already.
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    eprintln!("error: {said}");
}

impl Printer {
    /// Prints one or the other, and writes the JSON where a file was named.
    fn print(&self, json: &Value, text: impl FnOnce() -> String) -> Result<()> {
        let pretty = || serde_json::to_string_pretty(json);
        match &self.json {
            None => println!("{}", text().trim_end()),
            Some(Json::Printed) => println!("{}", pretty()?),
            Some(Json::File(path)) => {
                write_file_atomically(path, format!("{}\n", pretty()?).as_bytes())
                    .map_err(PipelineError::from)?;
                println!("{}\nwrote {}", text().trim_end(), path.display());
            }
        }
        Ok(())
    }

    pub(crate) fn accuracy(&self, folder: &Path, report: &AccuracyReport) -> Result<()> {
        self.tables(
            &serde_json::to_value(report)?,
            &report.to_markdown(),
            &folder.join("accuracy.md"),
        )
    }

    pub(crate) fn accuracy_over_seeds(&self, folder: &Path, report: &AccuracyOverSeeds) -> Result<()> {
        self.tables(
            &serde_json::to_value(report)?,
            &report.to_markdown(),
            &folder.join("accuracy.md"),
        )
    }

    pub(crate) fn recipes(&self, folder: &Path, report: &RecipesReport) -> Result<()> {
        self.tables(
            &serde_json::to_value(report)?,
            &report.to_markdown(),
            &folder.join("recipes.md"),
        )
    }

    /// A report's tables, and the file that has them.
    fn tables(&self, json: &Value, tables: &str, file: &Path) -> Result<()> {
        self.print(json, || format!("{tables}\nwrote {}", file.display()))
    }

    pub(crate) fn demo(&self, summary: &DemoSummary) -> Result<()> {
        self.print(&serde_json::to_value(summary)?, || {
            let files = [
                ("tomogram", &summary.tomogram),
                ("label map", &summary.labels),
                ("picks", &summary.picks),
                ("picture", &summary.picture),
                ("project", &summary.project),
            ];
            let files: String = files
                .map(|(what, path)| format!("  {what:<10} {}\n", path.display()))
                .concat();
            format!("{}\n{files}", evaluation(&summary.evaluation))
        })
    }

    pub(crate) fn studio(&self, studio: &Studio) -> Result<()> {
        let url = studio.url();
        self.print(&json!({ "url": url }), || {
            let warning = if studio.is_loopback() {
                ""
            } else {
                "\nWARNING: other machines can reach this address. Whoever has it with its token can read and change this \
                 project, and what is sent is not encrypted: prefer a tunnel (ssh -L)."
            };
            format!("studio: {url}{warning}\nCtrl-C ends it.")
        })
    }

    pub(crate) fn init(&self, path: &Path, project: &Project) -> Result<()> {
        let json = json!({ "project": path, "tomograms": project.tomograms.len(), "classes": project.classes.len() });
        self.print(&json, || {
            let mut table = table(["tomogram", "split", "picks"]);
            for tomogram in &project.tomograms {
                let picks = tomogram.picks.as_ref().map_or("none".to_owned(), |picks| picks.display().to_string());
                table.add_row([tomogram.name.clone(), format!("{:?}", tomogram.split).to_lowercase(), picks]);
            }
            let rows = if project.tomograms.is_empty() { String::new() } else { format!("{table}\n\n") };
            format!(
                "{rows}wrote {}\nlook at it (classes, radii, what each tomogram is for), then: deepfinder run {}",
                path.display(),
                path.parent().unwrap_or(Path::new(".")).display()
            )
        })
    }

    pub(crate) fn target(&self, summary: &TargetSummary) -> Result<()> {
        self.print(&serde_json::to_value(summary)?, || {
            let mut table = table(["label", "voxels"]);
            for (label, voxels) in &summary.voxels_by_label {
                table.add_row([label.to_string(), voxels.to_string()]);
            }
            let outside = match summary.outside.len() {
                0 => String::new(),
                n => format!("; {n} lie outside the tomogram and were left out"),
            };
            format!(
                "{table}\n\ndrew {} particles{outside}\nwrote {}",
                summary.particles,
                summary.output.display()
            )
        })
    }

    pub(crate) fn train_plan(&self, plan: &TrainPlan) -> Result<()> {
        let list = |tomograms: &[_]| -> Vec<String> { tomograms.iter().map(describe).collect() };
        let (training, validation) = (list(&plan.training), list(&plan.validation));
        let json = json!({
            "run": plan.run, "training": training, "validation": validation, "params": serde_json::to_value(&plan.params)?,
            "head": plan.initial.head(),
        });
        self.print(&json, || {
            let params = &plan.params;
            let shared = match plan.devices.len() {
                1 => String::new(),
                devices => format!(" shared by {devices} devices"),
            };
            format!(
                "would train into {}\n  on        {}\n  judged by {}\n  {} epochs of {} iterations, each of {} patches of {}³ voxels{}, learning rate {}",
                plan.run.display(),
                training.join(", "),
                if validation.is_empty() { "the training patches (no tomogram is split = \"validate\")".to_owned() } else { validation.join(", ") },
                params.epochs, params.steps_per_epoch, params.batch, params.patch, shared, params.learning_rate,
            )
        })
    }

    pub(crate) fn trained(&self, run: &Path, outcome: &TrainOutcome) -> Result<()> {
        let weights = run.join("best.safetensors");
        let rate = outcome.times.megavoxels_per_second();
        let ended = match outcome.ended {
            Ended::Completed => "completed",
            Ended::NoImprovement => "no improvement",
            Ended::Cancelled => "cancelled",
        };
        let json = json!({
            "run": run, "ended": ended, "epochs": outcome.epochs, "iterations": outcome.steps,
            "best_epoch": outcome.best.map(|best| best.epoch), "best_mean_f1": outcome.best.map(|best| best.mean_f1),
            "mvoxels_per_second": rate, "weights": weights,
        });
        self.print(&json, || {
            let best = outcome.best.map_or(String::new(), |best| {
                format!(
                    "\nbest after epoch {}: mean F1 of the classes {:.3} (voxels)\nweights {}",
                    best.epoch,
                    best.mean_f1,
                    weights.display()
                )
            });
            let resume = match outcome.ended {
                Ended::Cancelled => "\nstopped; go on with the same command and --resume",
                Ended::NoImprovement => "\nended early: the validation no longer improved",
                Ended::Completed => "",
            };
            // They are drawn epoch by epoch.
            let curves = match outcome.epochs {
                0 => String::new(),
                _ => format!("\ncurves {}", run.join("curves.svg").display()),
            };
            format!(
                "{} epochs, {} iterations, {rate:.2} Mvoxel/s{best}{resume}{curves}",
                outcome.epochs, outcome.steps
            )
        })
    }

    pub(crate) fn segmented(&self, summaries: &[SegmentSummary]) -> Result<()> {
        if let [summary] = summaries {
            return self.print(&serde_json::to_value(summary)?, || {
                let mut table = table(["class", "voxels"]);
                for (class, voxels) in &summary.voxels_by_class {
                    table.add_row([class.clone(), voxels.to_string()]);
                }
                let [depth, height, width] = summary.shape;
                format!(
                    "{table}\n\n{depth} × {height} × {width} voxels (z, y, x) in {:.1} s, {:.2} Mvoxel/s ({:.2} computed for each)\nwrote {}",
                    summary.seconds, summary.mvoxels_per_second, summary.computed_per_voxel, summary.labels.display()
                )
            });
        }
        self.print(&serde_json::to_value(summaries)?, || {
            let mut table = table(["label map", "voxels (z, y, x)", "classes", "seconds", "Mvoxel/s"]);
            for summary in summaries {
                let [depth, height, width] = summary.shape;
                // Background is there too.
                let found = summary.voxels_by_class.iter().skip(1);
                let found: Vec<_> = found.map(|(class, voxels)| format!("{class} {voxels}")).collect();
                table.add_row([
                    summary.labels.display().to_string(),
                    format!("{depth} × {height} × {width}"),
                    found.join(", "),
                    format!("{:.1}", summary.seconds),
                    format!("{:.2}", summary.mvoxels_per_second),
                ]);
            }
            table.to_string()
        })
    }

    pub(crate) fn picked(&self, output: &Path, picked: &Picked) -> Result<()> {
        let counts = picked.particles.count_by_label();
        let json = json!({
            "picks": output, "particles": picked.particles.len(), "found": picked.found,
            "by_label": counts.iter().map(|(label, n)| (label.to_string(), *n)).collect::<std::collections::BTreeMap<_, _>>(),
            "seconds": picked.seconds,
        });
        self.print(&json, || {
            let mut table = table(["label", "particles"]);
            for (label, n) in &counts {
                table.add_row([label.to_string(), n.to_string()]);
            }
            let dropped = match picked.found - picked.particles.len() {
                0 => String::new(),
                n => format!(" ({n} more were dropped)"),
            };
            format!(
                "{table}\n\n{} particles{dropped} in {:.2} s\nwrote {}",
                picked.particles.len(),
                picked.seconds,
                output.display()
            )
        })
    }

    pub(crate) fn matched(&self, matched: &Matched) -> Result<()> {
        self.print(&serde_json::to_value(matched)?, || {
            let scores: Vec<f32> = matched
                .particles
                .iter()
                .filter_map(|particle| particle.score)
                .collect();
            let range = match (scores.first(), scores.last()) {
                (Some(best), Some(worst)) => format!(", scores from {best:.3} down to {worst:.3}"),
                _ => String::new(),
            };
            let rejected = match matched.rejected {
                0 => String::new(),
                n => format!("; {n} that another density explains better were left out"),
            };
            format!(
                "{} rotations in {:.1} s, {:.1} million scores a second\n\
                 scores have a standard deviation of {:.4}; a particle is what scores {:.3} or more\n\
                 {} particles{range}{rejected}\nwrote {}",
                matched.rotations,
                matched.seconds,
                matched.mscores_per_second,
                matched.standard_deviation,
                matched.min_score,
                matched.count,
                matched.picks.display()
            )
        })
    }

    pub(crate) fn averaged(&self, averaged: &Averaged) -> Result<()> {
        self.print(&serde_json::to_value(averaged)?, || {
            let mut rounds = table(["round", "step", "reference to", "mean score", "half-sets agree to"]);
            let voxels = |frequency: f64| format!("{:.1} voxels", 1.0 / frequency);
            for (number, round) in averaged.iterations.iter().enumerate() {
                rounds.add_row([
                    (number + 1).to_string(),
                    format!("{}°", round.step_degrees),
                    voxels(round.frequency),
                    format!("{:.3}", round.mean_score),
                    voxels(round.crossing.unwrap_or(0.5)),
                ]);
            }
            let rounds = if averaged.iterations.is_empty() { String::new() } else { format!("{rounds}\n\n") };
            let unit = if averaged.resolution_angstrom.is_some() { "Å" } else { "voxels" };
            let mut curves = table(["FSC", "0.143", "0.5"]);
            for curve in &averaged.curves {
                let name = if curve.curve == "randomised" { "masked, random phases" } else { curve.curve };
                let resolutions = [curve.at_gold_standard, curve.at_half].map(|at| format!("{at:.1} {unit}"));
                curves.add_row(std::iter::once(name.to_owned()).chain(resolutions));
            }
            for more in &averaged.with_more_particles {
                let resolutions = [more.at_gold_standard, more.at_half].map(|at| format!("{at:.1} {unit}"));
                let name = format!("expected of {} times as many", more.times);
                curves.add_row(std::iter::once(name).chain(resolutions));
            }
            right_align(&mut curves);
            let outside = match averaged.outside {
                0 => String::new(),
                n => format!("; {n} whose box reaches outside the tomogram were left out"),
            };
            let files: Vec<String> = [&averaged.map, &averaged.halves[0], &averaged.halves[1], &averaged.mask]
                .into_iter()
                .chain(&averaged.fsc)
                .chain([&averaged.picks])
                .map(|path| format!("wrote {}\n", path.display()))
                .collect();
            format!(
                "{rounds}{} particles in a box of {}³ voxels{outside}; the mask has {} voxels\n\n{curves}\n\n{}",
                averaged.particles,
                averaged.box_voxels,
                averaged.mask_voxels,
                files.concat()
            )
        })
    }

    pub(crate) fn evaluated(&self, found: &Evaluation) -> Result<()> {
        self.print(&serde_json::to_value(found)?, || evaluation(found))
    }

    pub(crate) fn consensus(&self, found: &ConsensusSummary) -> Result<()> {
        self.print(&serde_json::to_value(found)?, || {
            let mut rows = table([
                "class",
                "both",
                "only A",
                "only B",
                "A confirmed",
                "B confirmed",
                "both / either",
            ]);
            let all = ("all".to_owned(), &found.all);
            let classes = found
                .classes
                .iter()
                .map(|row| (found.names.name_of(row.label), row));
            for (name, row) in classes.chain([all]) {
                let counts = [row.both, row.only_a, row.only_b].map(|count| count.to_string());
                let parts =
                    [row.a_confirmed, row.b_confirmed, row.agreement].map(|part| format!("{part:.3}"));
                rows.add_row(std::iter::once(name).chain(counts).chain(parts));
            }
            right_align(&mut rows);
            let files = found
                .files
                .iter()
                .map(|path| format!("\nwrote {}", path.display()));
            let averages = part_averages(found);
            format!("{rows}\n{}{averages}", files.collect::<Vec<_>>().concat())
        })
    }

    pub(crate) fn reported(&self, report: &HtmlReport) -> Result<()> {
        self.print(&serde_json::to_value(report)?, || {
            let missing = match report.missing.as_slice() {
                [] => String::new(),
                missing => format!("\nnot there yet: {}", missing.join(", ")),
            };
            format!(
                "shows {}{missing}\nwrote {}",
                report.sections.join(", "),
                report.report.display()
            )
        })
    }

    pub(crate) fn converted(&self, job: &ConvertJob, converted: &Converted) -> Result<()> {
        let json = serde_json::to_value(converted)?;
        self.print(&json, || {
            let (what, notes) = match converted {
                Converted::Volume {
                    shape_zyx: [z, y, x],
                    voxel_size_angstrom,
                    notes,
                } => {
                    let size = size_in_words(*voxel_size_angstrom);
                    (
                        format!("a volume of {z} × {y} × {x} voxels (z, y, x), {size}"),
                        notes,
                    )
                }
                Converted::Particles { notes, .. } => (converted_list(converted, job.dry_run), notes),
            };
            let verb = if job.dry_run { "would write" } else { "wrote" };
            let notes = match notes.as_slice() {
                [] => String::new(),
                notes => format!("assumed, and not kept:\n  {}\n", notes.join("\n  ")),
            };
            format!("{what}\n{notes}{verb} {}", job.output.display())
        })
    }

    pub(crate) fn formats(&self, markdown: bool) -> Result<()> {
        let tables = FormatTables::new();
        self.print(&tables.json(), || {
            if markdown {
                tables.markdown()
            } else {
                tables.text()
            }
        })
    }

    pub(crate) fn devices(&self, devices: &[DeviceReport]) -> Result<()> {
        self.print(&serde_json::to_value(devices)?, || {
            let mut table = table(["device", "usable", ""]);
            for device in devices {
                let usable = if device.usable { "yes" } else { "no" };
                table.add_row([&device.name, usable, &device.what]);
            }
            table.to_string()
        })
    }

    pub(crate) fn device_checks(&self, checks: &[DeviceCheck]) -> Result<()> {
        self.print(&serde_json::to_value(checks)?, || {
            let mut table = table(["check", "difference", "allowed", "holds"]);
            for check in checks {
                table.add_row([
                    check.what.clone(),
                    format!("{:.1e}", check.found),
                    format!("{:.1e}", check.allowed),
                    if check.holds() { "yes" } else { "NO" }.to_owned(),
                ]);
            }
            table.to_string()
        })
    }

    pub(crate) fn measured(&self, rows: &[BenchRow]) -> Result<()> {
        self.print(&serde_json::to_value(rows)?, || {
            let mut table = table(["what", "precision", "device", "images", "seconds", "Mvoxel/s"]);
            for row in rows {
                let [images, side] = row.shape;
                table.add_row([
                    row.what.to_owned(),
                    row.dtype.to_owned(),
                    row.device.clone(),
                    format!("{images} of {side}³"),
                    format!("{:.3}", row.seconds),
                    format!("{:.3}", row.mvoxels_per_second),
                ]);
            }
            table.to_string()
        })
    }

    pub(crate) fn file(&self, path: &Path, summary: &FileSummary) -> Result<()> {
        let mut json = serde_json::to_value(summary)?;
        if let Value::Object(fields) = &mut json {
            fields.insert("file".to_owned(), json!(path));
        }
        self.print(&json, || {
            let mut table = Table::new();
            table.load_style(NOTHING);
            fields(&mut table, "", &json);
            table.to_string()
        })
    }

    pub(crate) fn simulated(&self, summary: &SimulateSummary) -> Result<()> {
        self.print(&serde_json::to_value(summary)?, || {
            let mut table = table(["tomogram", "split", "particles"]);
            for tomogram in &summary.tomograms {
                let split = format!("{:?}", tomogram.split).to_lowercase();
                table.add_row([tomogram.name.clone(), split, tomogram.particles.to_string()]);
            }
            let folder = summary.project.parent().unwrap_or(Path::new("."));
            format!(
                "{table}\n\nwrote {}\nnext: deepfinder run {}",
                summary.project.display(),
                folder.display()
            )
        })
    }

    pub(crate) fn run(&self, summary: &RunSummary, dry_run: bool) -> Result<()> {
        self.print(&serde_json::to_value(summary)?, || {
            let mut table = table(["stage", "of", "", "product"]);
            for stage in &summary.stages {
                let state = match (stage.skipped, dry_run) {
                    (true, _) => "up to date",
                    (false, true) => "to do",
                    (false, false) => "done",
                };
                table.add_row([
                    stage.stage,
                    &stage.subject,
                    state,
                    &stage.product.display().to_string(),
                ]);
            }
            let scores = summary
                .evaluation
                .as_ref()
                .map_or(String::new(), |found| format!("\n\n{}", evaluation(found)));
            format!("{table}{scores}")
        })
    }
}
