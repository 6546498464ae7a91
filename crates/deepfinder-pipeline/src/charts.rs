use deepfinder_core::{ClassTable, Label};
use deepfinder_eval::Sweep;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::canvas::class_colour;
use crate::{PipelineError, Result};

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Histograms to a row.
const COLUMNS: usize = 3;
const BINS: usize = 16;

/// Precision over recall of each class as the threshold rises, as an SVG picture.
///
/// # Errors
/// Where it cannot be drawn.
pub(crate) fn precision_recall_svg(sweep: &Sweep, classes: &ClassTable) -> Result<String> {
    let mut svg = String::new();
    drawn(draw_precision_recall(&mut svg, sweep, classes))?;
    Ok(svg)
}

/// What the axes of histograms span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Each its own values.
    Own,
    /// All the same, from 0 to the greatest value: to be compared.
    FromZero,
}

/// A histogram for each class `(name, label, values)`, none of them empty, as one SVG picture.
///
/// # Errors
/// Where it cannot be drawn.
pub(crate) fn histograms_svg(classes: &[(String, Label, Vec<f64>)], span: Span) -> Result<String> {
    let mut svg = String::new();
    drawn(draw_histograms(&mut svg, classes, span))?;
    Ok(svg)
}

fn drawn(result: Drawn) -> Result<()> {
    result.map_err(|error| PipelineError::input(format!("the chart cannot be drawn: {error}")))
}

fn colour(label: Label) -> RGBColor {
    let [r, g, b] = class_colour(label);
    RGBColor(r, g, b)
}

/// What stands at the axis of what is counted, epochs or tomograms: there is no half of one.
pub(crate) fn count_label(count: f64) -> String {
    if count.fract() == 0.0 {
        count.to_string()
    } else {
        String::new()
    }
}

fn draw_precision_recall(svg: &mut String, sweep: &Sweep, classes: &ClassTable) -> Drawn {
    let area = SVGBackend::with_string(svg, (720, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..1.02, 0.0..1.02)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("recall")
        .y_desc("precision")
        .draw()?;
    for label in sweep.best_of_class.keys().copied() {
        let curve = sweep.curve(Some(label));
        let points: Vec<(f64, f64)> = curve
            .iter()
            // Beyond the last pick of the class there is no precision.
            .filter(|(_, scores)| scores.true_positives + scores.false_positives > 0)
            .map(|(_, scores)| (scores.recall, scores.precision))
            .collect();
        let colour = colour(label);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(classes.name_of(label))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

fn draw_histograms(svg: &mut String, classes: &[(String, Label, Vec<f64>)], span: Span) -> Drawn {
    let greatest = classes.iter().flat_map(|(_, _, values)| values).copied();
    let shared = (span == Span::FromZero).then(|| (0.0, greatest.fold(0.0, f64::max)));
    let rows = classes.len().div_ceil(COLUMNS);
    let area = SVGBackend::with_string(svg, (900, 210 * rows as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, (name, label, values)) in area.split_evenly((rows, COLUMNS)).iter().zip(classes) {
        let span = shared.unwrap_or_else(|| least_and_greatest(values));
        draw_histogram(panel, name, *label, values, span)?;
    }
    area.present()?;
    Ok(())
}

fn least_and_greatest(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| {
            (low.min(v), high.max(v))
        })
}

fn draw_histogram(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    name: &str,
    label: Label,
    values: &[f64],
    (low, high): (f64, f64),
) -> Drawn {
    // One value alone is a bar too.
    let width = ((high - low) / BINS as f64).max(1.0);
    let mut counts = [0_u32; BINS];
    for &value in values {
        counts[(((value - low) / width) as usize).min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1);
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("{name}: {}", values.len()), ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(32)
        .build_cartesian_2d(low..low + width * BINS as f64, 0..most + 1)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(4)
        .y_labels(4)
        .x_label_formatter(&|size| format!("{size:.0}"))
        .draw()?;
    let bars = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(bin, count)| {
            let left = low + width * bin as f64;
            Rectangle::new([(left, 0), (left + width, *count)], colour(label).filled())
        });
    chart.draw_series(bars)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::{Particle, ParticleList};
    use deepfinder_eval::{EvaluateParams, Mode, SweepBy, sweep};

    #[test]
    fn charts_have_a_mark_for_each_value() {
        let sizes = vec![
            ("a".to_owned(), 1, vec![10.0, 11.0, 40.0]),
            ("b".to_owned(), 2, vec![7.0]),
        ];
        let [own, shared] = [Span::Own, Span::FromZero].map(|span| histograms_svg(&sizes, span).unwrap());
        let [r, g, b] = class_colour(1);
        let colour = format!("fill=\"#{r:02X}{g:02X}{b:02X}\"");
        for svg in [&own, &shared] {
            assert!(svg.starts_with("<svg") && svg.contains("a: 3") && svg.contains("b: 1"));
            assert_eq!(svg.matches(&colour).count(), 2);
        }
        assert_ne!(own, shared);
    }

    #[test]
    fn curves_have_a_point_for_each_threshold() {
        let particle = |x: f64, score: f32| {
            let mut particle = Particle::new([x, 0.0, 0.0], 1);
            particle.score = Some(score);
            particle
        };
        let truth = ParticleList::from(vec![particle(0.0, 1.0), particle(20.0, 1.0)]);
        let picks = ParticleList::from(vec![particle(1.0, 0.9), particle(50.0, 0.5), particle(20.0, 0.3)]);
        let params = EvaluateParams::new(Mode::one_to_one(3.0));
        let sweep = sweep(&truth, &picks, &params, SweepBy::Score, 10).unwrap();
        let svg = precision_recall_svg(&sweep, &ClassTable::numbered(1)).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("class 1"));
    }
}
