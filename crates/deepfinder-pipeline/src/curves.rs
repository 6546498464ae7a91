use deepfinder_train::EpochMetrics;
use plotters::prelude::*;

use crate::charts::count_label;
use crate::{PipelineError, Result};

/// The curves of a training run as an SVG picture: losses above, mean F1 of the classes below.
///
/// # Errors
/// Where there is no epoch to draw.
pub fn training_curves_svg(epochs: &[EpochMetrics]) -> Result<String> {
    let Some(last) = epochs.last() else {
        return Err(PipelineError::input(
            "there are no curves before the first epoch has ended",
        ));
    };
    let curve = |of: &dyn Fn(&EpochMetrics) -> Option<f64>| -> Vec<(f64, f64)> {
        epochs
            .iter()
            .filter_map(|epoch| Some((epoch.epoch as f64, of(epoch)?)))
            .collect()
    };
    let training = curve(&|epoch| Some(epoch.training.loss));
    let validation = curve(&|epoch| Some(epoch.validation.as_ref()?.loss));
    let scores = curve(&|epoch| Some(epoch.decisive().mean_f1));
    let top = training
        .iter()
        .chain(&validation)
        .map(|point| point.1)
        .fold(0.0, f64::max)
        .max(1e-6);
    let mut svg = String::new();
    draw(
        &mut svg,
        0.0..last.epoch.max(2) as f64,
        top,
        &training,
        &validation,
        &scores,
    )
    .map_err(|error| PipelineError::input(format!("the curves cannot be drawn: {error}")))?;
    Ok(svg)
}

type Series = [(f64, f64)];

fn draw(
    svg: &mut String,
    epochs: std::ops::Range<f64>,
    top: f64,
    losses: &Series,
    validation: &Series,
    scores: &Series,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, (800, 640)).into_drawing_area();
    area.fill(&WHITE)?;
    let (upper, lower) = area.split_vertically(320);
    let blue = RGBColor(0, 114, 178);
    let orange = RGBColor(213, 94, 0);
    let mut chart = ChartBuilder::on(&upper)
        .caption("loss", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d(epochs.clone(), 0.0..1.05 * top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("epoch")
        .x_label_formatter(&|x| count_label(*x))
        .draw()?;
    for (series, colour, name) in [(losses, blue, "training"), (validation, orange, "validation")] {
        chart
            .draw_series(LineSeries::new(series.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        // Where a falling loss is not.
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    let mut chart = ChartBuilder::on(&lower)
        .caption("mean F1 of the classes (voxels)", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d(epochs, 0.0..1.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("epoch")
        .x_label_formatter(&|x| count_label(*x))
        .draw()?;
    chart.draw_series(LineSeries::new(scores.iter().copied(), orange.stroke_width(2)))?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use deepfinder_train::SplitMetrics;

    use super::*;

    #[test]
    fn curves_are_drawn() {
        let split = |loss, mean_f1| SplitMetrics {
            loss,
            accuracy: 0.9,
            mean_f1,
            classes: Vec::new(),
        };
        let epoch = |epoch: u64| EpochMetrics {
            epoch,
            step: 10 * epoch,
            seconds: 1.0,
            training: split(3.0 / epoch as f64, 0.1),
            validation: (epoch > 1).then(|| split(2.0, 0.2)),
            best: true,
        };
        let svg = training_curves_svg(&[epoch(1), epoch(2), epoch(3)]).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.matches("<polyline").count() >= 3 && svg.contains("validation")
        );
        assert!(training_curves_svg(&[]).is_err());
    }
}
