use std::fmt::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deepfinder_core::{BACKGROUND, ClassTable, ParticleList};
use deepfinder_eval::{Detection, Scores, SweepBy, sweep};
use deepfinder_io::{ReadOptions, check_writable, read_particles, write_file_atomically};
use deepfinder_train::RunFolder;
use serde::Serialize;

use crate::charts::{Span, histograms_svg, precision_recall_svg};
use crate::curves::training_curves_svg;
use crate::error::OnFile;
use crate::evaluate::{evaluate_lists, params, pooled};
use crate::membrane_distance::{PickedTomogram, median, membrane_distances};
use crate::project_jobs::{evaluated_pairs, picks_path, slices_path};
use crate::{
    Evaluation, PipelineError, Project, ProjectTomogram, Result, Split, epochs_of_run, open_tomogram,
    tomogram_options,
};

/// Thresholds of a class that a precision-recall curve is drawn through, at most.
const POINTS_PER_CLASS: usize = 60;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
h1,h2{font-weight:600}h2{margin-top:2em;border-bottom:1px solid #ddd}table{border-collapse:collapse}\
td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}\
img,svg{max-width:100%;height:auto}figure{margin:1em 0}figcaption,.note{color:#666}.matrix td+td{text-align:center}";

/// A report that was written.
#[derive(Debug, Clone, Serialize)]
pub struct HtmlReport {
    /// The page.
    pub report: PathBuf,
    /// What it shows.
    pub sections: Vec<&'static str>,
    /// What a run of the project has not given yet.
    pub missing: Vec<&'static str>,
}

/// A report to write.
#[derive(Debug, Clone, Default)]
pub struct ReportJob {
    /// The page; `report.html` in the project's output where none is given.
    pub output: Option<PathBuf>,
    /// Masks of membranes, with the name of the tomogram they belong to; it may be missing where one tomogram was picked.
    pub membranes: Vec<(Option<String>, PathBuf)>,
}

/// Writes one self-contained HTML page about what a project's run made: learning curves, scores, confusion matrix,
/// precision-recall curves, slices, sizes and distances to membranes. It opens in any browser, without a server and without the project.
///
/// # Errors
/// Where nothing was made yet, something that was made cannot be read, or the page cannot be written.
pub fn report_project(project: &Project, job: &ReportJob) -> Result<HtmlReport> {
    let path = job
        .output
        .clone()
        .unwrap_or_else(|| project.output_path("report.html"));
    let mut sections: Vec<(&'static str, Option<String>)> = vec![
        ("learning curves", learning(project)?),
        ("scores", None),
        ("confusion matrix", None),
        ("precision and recall", None),
        ("slices", slices(project)?),
        ("sizes", sizes(project)?),
    ];
    // Most projects have none, and then it is not missing.
    if let Some(html) = membranes(project, job)? {
        sections.push(("distance to membranes", Some(html)));
    }
    if let Some(scored) = scores(project)? {
        for (section, html) in sections[1..4].iter_mut().zip(scored) {
            section.1 = Some(html).filter(|html| !html.is_empty());
        }
    }
    if sections.iter().all(|(_, section)| section.is_none()) {
        return Err(PipelineError::input(format!(
            "{}: there is nothing to report yet; run the project first: deepfinder run {}",
            project.output_path("").display(),
            project.folder.display()
        )));
    }
    check_writable(&path)?;
    write_file_atomically(&path, page(project, &sections).as_bytes())?;
    let named = |made: bool| {
        let some = sections.iter().filter(|(_, section)| section.is_some() == made);
        some.map(|(name, _)| *name).collect()
    };
    Ok(HtmlReport {
        report: path,
        sections: named(true),
        missing: named(false),
    })
}

fn page(project: &Project, sections: &[(&'static str, Option<String>)]) -> String {
    let folder = project
        .folder
        .canonicalize()
        .unwrap_or_else(|_| project.folder.clone());
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = escaped(&name);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>DeepFinder: {name}</title>\
         <style>{STYLE}</style></head><body>\n<h1>DeepFinder: {name}</h1>\n{}",
        overview(project)
    );
    for (title, section) in sections {
        if let Some(section) = section {
            let mut letters = title.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            let title: String = first.into_iter().chain(letters).collect();
            let _ = write!(html, "<h2>{title}</h2>\n{section}\n");
        }
    }
    html + "</body></html>\n"
}

/// The tomograms and classes of the project.
fn overview(project: &Project) -> String {
    let classes: Vec<_> = project
        .classes
        .iter()
        .map(|class| {
            vec![
                class.name.clone(),
                class.label.to_string(),
                class.radius.to_string(),
            ]
        })
        .collect();
    let tomograms: Vec<_> = project
        .tomograms
        .iter()
        .map(|tomogram| {
            let split = match tomogram.split {
                Split::Train => "train",
                Split::Validate => "validate",
                Split::Test => "test",
            };
            vec![tomogram.name.clone(), split.to_owned()]
        })
        .collect();
    format!(
        "{}<br>{}",
        table(&["class", "label", "radius"], &classes),
        table(&["tomogram", "for"], &tomograms)
    )
}

fn learning(project: &Project) -> Result<Option<String>> {
    let run = RunFolder::new(project.output_path("train"));
    if !run.metrics().exists() {
        return Ok(None);
    }
    let epochs = epochs_of_run(&run)?;
    if epochs.is_empty() {
        return Ok(None);
    }
    let best = epochs.iter().rfind(|epoch| epoch.best);
    let said = best.map_or(String::new(), |best| {
        format!(
            "Best after epoch {}: mean F1 of the classes {:.3}, counted in voxels.",
            best.epoch,
            best.decisive().mean_f1
        )
    });
    Ok(Some(figure(&training_curves_svg(&epochs)?, &said)))
}

/// The tomograms that were picked, with their lists.
fn picked(project: &Project) -> impl Iterator<Item = (&ProjectTomogram, PathBuf)> {
    project
        .tomograms_for(Split::Test)
        .map(|tomogram| (tomogram, picks_path(project, tomogram)))
        .filter(|(_, picks)| picks.exists())
}

/// Scores, confusion matrix and precision-recall curves of the test tomograms that have annotations.
fn scores(project: &Project) -> Result<Option<[String; 3]>> {
    let evaluated: Vec<_> = picked(project)
        .filter(|(tomogram, _)| tomogram.picks.is_some())
        .collect();
    if evaluated.is_empty() {
        return Ok(None);
    }
    let (pairs, job) = evaluated_pairs(project, &evaluated)?;
    let Evaluation::Particles { classes, report } = evaluate_lists(&pairs, &job)? else {
        return Ok(None);
    };
    let (truth, picks) = pooled(&pairs);
    let by = if picks.iter().all(|pick| pick.score.is_some()) {
        SweepBy::Score
    } else {
        SweepBy::Size
    };
    let curves = if picks.is_empty()
        || picks
            .iter()
            .any(|pick| pick.score.is_none() && pick.size_voxels.is_none())
    {
        String::new()
    } else {
        let sweep = sweep(&truth, &picks, &params(&job)?, by, POINTS_PER_CLASS).on(&project.folder)?;
        let what = match by {
            SweepBy::Score => "score",
            SweepBy::Size => "cluster size in voxels",
        };
        let best = sweep.best.map_or(String::new(), |best| {
            format!(
                " All classes together are best (F1 {:.3}) from a {what} of {} on.",
                best.f_beta,
                (1000.0 * best.threshold).round() / 1000.0
            )
        });
        let caption = format!("A point for each threshold on the {what}, a line for each class.{best}");
        figure(&precision_recall_svg(&sweep, &classes)?, &caption)
    };
    Ok(Some([
        detection_table(&classes, &report.pooled),
        confusion_table(&classes, &report.pooled),
        curves,
    ]))
}

fn detection_table(classes: &ClassTable, found: &Detection) -> String {
    let counts = |scores: &Scores| {
        let found = scores.true_positives;
        [
            found + scores.false_negatives,
            found + scores.false_positives,
            found,
        ]
        .map(|n| n.to_string())
    };
    let ratios =
        |scores: &Scores| [scores.precision, scores.recall, scores.f1].map(|value| format!("{value:.3}"));
    let distance = |scores: &Scores| {
        let mean = scores.mean_distance_voxels;
        mean.map_or("–".to_owned(), |mean| format!("{mean:.2}"))
    };
    let row = |name: String, scores: &Scores| {
        let cells = counts(scores)
            .into_iter()
            .chain(ratios(scores))
            .chain([distance(scores)]);
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = found
        .classes
        .iter()
        .map(|class| row(classes.name_of(class.label), &class.scores))
        .collect();
    let mean = &found.macro_average;
    let ratios = [mean.precision, mean.recall, mean.f1].map(|value| format!("{value:.3}"));
    let empty = || std::iter::repeat_n(String::new(), 3);
    let mean = std::iter::once("mean of classes".to_owned())
        .chain(empty())
        .chain(ratios);
    rows.push(mean.chain([String::new()]).collect());
    rows.push(row("any class".to_owned(), &found.localisation));
    table(
        &[
            "class",
            "particles",
            "picks",
            "found",
            "precision",
            "recall",
            "F1",
            "distance (voxels)",
        ],
        &rows,
    )
}

/// Rows are true classes, columns what they were picked as; the darker, the larger a part of the row.
fn confusion_table(classes: &ClassTable, found: &Detection) -> String {
    let confusion = &found.confusion;
    let name = |label, none: &str| {
        let name = if label == BACKGROUND {
            none.to_owned()
        } else {
            classes.name_of(label)
        };
        escaped(&name)
    };
    let mut html = "<table class=\"matrix\"><tr><th>true \\ picked as</th>".to_owned();
    for &label in &confusion.labels {
        let _ = write!(html, "<th>{}</th>", name(label, "missed"));
    }
    html += "</tr>\n";
    for (&label, counts) in confusion.labels.iter().zip(&confusion.counts) {
        let _ = write!(html, "<tr><td>{}</td>", name(label, "no particle"));
        let total = counts.iter().sum::<u64>().max(1) as f64;
        for (&picked, &count) in confusion.labels.iter().zip(counts) {
            let part = count as f64 / total;
            // Blue where it is right, orange where it is not.
            let colour = if picked == label { "0,114,178" } else { "213,94,0" };
            let shown = if count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            let _ = write!(
                html,
                "<td style=\"background:rgba({colour},{:.2})\">{shown}</td>",
                0.6 * part
            );
        }
        html += "</tr>\n";
    }
    html + "</table>"
}

fn slices(project: &Project) -> Result<Option<String>> {
    let mut html = String::new();
    for (tomogram, _) in picked(project) {
        let path = slices_path(project, tomogram);
        if !path.exists() {
            continue;
        }
        let png = std::fs::read(&path)
            .map_err(|source| PipelineError::file(&path, "the picture cannot be read", source))?;
        let image = format!(
            "<img alt=\"slices of {0}\" src=\"data:image/png;base64,{1}\">",
            escaped(&tomogram.name),
            STANDARD.encode(png)
        );
        let caption = format!(
            "{}: rings are picks, white dots annotated particles.",
            tomogram.name
        );
        html += &figure(&image, &caption);
    }
    Ok(Some(html).filter(|html| !html.is_empty()))
}

/// How large the picked clusters are, class by class.
fn sizes(project: &Project) -> Result<Option<String>> {
    let mut particles = Vec::new();
    for (_, picks) in picked(project) {
        particles.extend(read_particles(&picks, &ReadOptions::default())?.particles);
    }
    let classes: Vec<_> = project
        .classes
        .iter()
        .map(|class| {
            let of_class = particles.iter().filter(|particle| particle.label == class.label);
            let sizes: Vec<f64> = of_class
                .filter_map(|p| p.size_voxels.map(|size| size as f64))
                .collect();
            (class.name.clone(), class.label, sizes)
        })
        .filter(|(_, _, sizes)| !sizes.is_empty())
        .collect();
    if classes.is_empty() {
        return Ok(None);
    }
    let counted = ParticleList::from(particles).len();
    let caption = format!("Voxels of the clusters that the {counted} picks came from.");
    Ok(Some(figure(&histograms_svg(&classes, Span::Own)?, &caption)))
}

/// How far the picks lie from membranes, class by class.
fn membranes(project: &Project, job: &ReportJob) -> Result<Option<String>> {
    let picked = picked(project)
        .map(|(tomogram, picks)| {
            let list = read_particles(&picks, &ReadOptions::default())?;
            let options = tomogram_options(tomogram)?;
            let reader = open_tomogram(&project.resolve(&tomogram.file), options)?;
            Ok(PickedTomogram {
                tomogram,
                voxel_size: reader.voxel_size().or(list.voxel_size),
                particles: list.particles,
                shape: reader.shape(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let Some(found) = membrane_distances(project, &picked, &job.membranes)? else {
        return Ok(None);
    };
    let medians: Vec<String> = found
        .classes
        .iter()
        .map(|(name, _, distances)| format!("{name} {:.1}", median(distances)))
        .collect();
    let caption = format!(
        "Distance of the picks' centres to the nearest voxel of a membrane, in {}; 0 is inside. Medians: {}. Membranes of: {}.",
        found.unit,
        medians.join(", "),
        found.tomograms.join(", ")
    );
    Ok(Some(figure(
        &histograms_svg(&found.classes, Span::FromZero)?,
        &caption,
    )))
}

fn figure(picture: &str, caption: &str) -> String {
    format!(
        "<figure>{picture}<figcaption>{}</figcaption></figure>\n",
        escaped(caption)
    )
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        let cells: Vec<_> = cells
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect();
        format!("<tr>{}</tr>\n", cells.concat())
    };
    let mut html = cells("th", &mut header.iter().copied());
    for row in rows {
        html += &cells("td", &mut row.iter().map(String::as_str));
    }
    format!("<table>{html}</table>\n")
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        let rows = vec![vec!["<script>".to_owned()]];
        assert_eq!(
            table(&["a"], &rows),
            "<table><tr><th>a</th></tr>\n<tr><td>&lt;script&gt;</td></tr>\n</table>\n"
        );
    }
}
