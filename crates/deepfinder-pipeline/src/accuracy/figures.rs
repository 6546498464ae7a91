use plotters::prelude::*;

use super::report::AccuracyReport;
use super::{deviation, mean};
use crate::canvas::class_colour;
use crate::charts::count_label;
use crate::{PipelineError, Result};

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// F1 of each class as a group of bars, one for each method: its mean over the reports of several seeds, with their standard
/// deviation to both sides.
pub(super) fn classes_svg(reports: &[AccuracyReport]) -> Result<String> {
    let mut svg = String::new();
    if let Some(first) = reports.first() {
        drawn(draw_classes(&mut svg, first, reports))?;
    }
    Ok(svg)
}

/// Mean F1 over something.
pub(super) fn curve_svg(x: &str, y: &str, points: impl Iterator<Item = (f64, f64)>) -> Result<String> {
    let points: Vec<(f64, f64)> = points.collect();
    let mut svg = String::new();
    drawn(draw_curve(&mut svg, x, y, &points))?;
    Ok(svg)
}

fn drawn(result: Drawn) -> Result<()> {
    result.map_err(|error| PipelineError::input(format!("the figure cannot be drawn: {error}")))
}

fn colour(method: usize) -> RGBColor {
    let [r, g, b] = class_colour((method + 1) as u8);
    RGBColor(r, g, b)
}

fn draw_classes(svg: &mut String, report: &AccuracyReport, reports: &[AccuracyReport]) -> Drawn {
    let (classes, methods) = (report.classes.len(), report.methods.len());
    let width = (160 + 24 * classes * (methods + 1)).max(480) as u32;
    let area = SVGBackend::with_string(svg, (width, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        // Room for the legend above the bars.
        .build_cartesian_2d(0.0..classes as f64, 0.0..1.4)?;
    let name_at = |x: &f64| {
        let class = report.classes.get(x.floor() as usize);
        let centred = (x.fract() - 0.5).abs() < 1e-6;
        class
            .filter(|_| centred)
            .map_or_else(String::new, |class| class.name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(2 * classes + 1)
        .x_label_formatter(&name_at)
        // F1 ends at 1, the axis does not.
        .y_label_formatter(&|y| {
            if *y < 1.1 {
                format!("{y:.1}")
            } else {
                String::new()
            }
        })
        .y_desc("F1")
        .draw()?;
    let bar = 0.8 / methods.max(1) as f64;
    for (i, method) in report.methods.iter().enumerate() {
        let colour = colour(i);
        // Where each bar begins, and F1 with each seed.
        let scores = (0..classes).map(|class| {
            let of_class = |report: &AccuracyReport| Some((*report.methods.get(i)?.classes.get(class)?)?.f1);
            let f1: Vec<f64> = reports.iter().filter_map(of_class).collect();
            (class as f64 + 0.1 + i as f64 * bar, f1)
        });
        let scores: Vec<(f64, Vec<f64>)> = scores.filter(|(_, f1)| !f1.is_empty()).collect();
        let bars = scores.iter().map(|(left, f1)| {
            let top = mean(f1.iter().copied());
            Rectangle::new([(*left, 0.0), (left + 0.9 * bar, top)], colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(method.name.clone())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        let whiskers = scores.iter().filter(|(_, f1)| f1.len() > 1).map(|(left, f1)| {
            let (middle, centre) = (left + 0.45 * bar, mean(f1.iter().copied()));
            let ends = [centre - deviation(f1), centre + deviation(f1)];
            PathElement::new(ends.map(|end| (middle, end)).to_vec(), BLACK.stroke_width(2))
        });
        chart.draw_series(whiskers)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

fn draw_curve(svg: &mut String, x: &str, y: &str, points: &[(f64, f64)]) -> Drawn {
    let area = SVGBackend::with_string(svg, (560, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let last = points.iter().fold(1.0, |last: f64, point| last.max(point.0));
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..1.05 * last, 0.0..1.02)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|x| count_label(*x))
        .draw()?;
    let colour = colour(0);
    chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::report::tests::example;

    #[test]
    fn every_score_has_a_bar_and_every_point_a_mark() {
        let svg = classes_svg(&[example()]).unwrap();
        let filled = |method: usize| {
            let RGBColor(r, g, b) = colour(method);
            svg.matches(&format!("fill=\"#{r:02X}{g:02X}{b:02X}\"")).count()
        };
        // Each method's bars and its mark in the legend.
        assert_eq!((filled(0), filled(1)), (4, 2));
        assert!(svg.contains("shapes") && svg.contains("F1"));
        let lines = |reports: &[AccuracyReport]| classes_svg(reports).unwrap().matches("<polyline").count();
        assert_eq!(
            lines(&[example(), example()]) - lines(&[example()]),
            4,
            "a whisker a bar"
        );
        let svg = curve_svg("iterations", "F1", [(10.0, 0.1), (20.0, 0.4)].into_iter()).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("\n10\n"), "iterations are counted: {svg}");
    }
}
