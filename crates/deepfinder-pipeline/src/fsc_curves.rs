use deepfinder_average::{FSC_GOLD_STANDARD, FSC_HALF, Fsc, FscCurves};
use plotters::prelude::*;

use crate::{PipelineError, Result};

/// The curves by their names, that to read a resolution from last.
pub(crate) fn curves(fsc: &FscCurves) -> [(&'static str, &Fsc); 4] {
    [
        ("unmasked", &fsc.unmasked),
        ("masked", &fsc.masked),
        ("randomised", &fsc.randomised),
        ("corrected", &fsc.corrected),
    ]
}

/// The curves as a table.
pub(crate) fn fsc_csv(fsc: &FscCurves, voxel_size_angstrom: Option<f64>) -> String {
    let curves = curves(fsc);
    let names = curves.map(|(name, _)| format!(",fsc_{name}"));
    let mut csv = format!("frequency_per_voxel,resolution_angstrom{}\n", names.concat());
    let lines = fsc
        .corrected
        .frequencies
        .iter()
        .enumerate()
        .map(|(shell, frequency)| {
            let resolution = voxel_size_angstrom
                .filter(|_| *frequency > 0.0)
                .map_or(String::new(), |size| format!("{:.3}", size / frequency));
            let correlations = curves.map(|(_, curve)| format!(",{:.6}", curve.correlations[shell]));
            format!("{frequency:.6},{resolution}{}\n", correlations.concat())
        });
    csv.extend(lines);
    csv
}

/// The curves as a picture, with both thresholds.
pub(crate) fn fsc_svg(fsc: &FscCurves, voxel_size_angstrom: Option<f64>) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, fsc, voxel_size_angstrom)
        .map_err(|error| PipelineError::input(format!("the curve cannot be drawn: {error}")))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    fsc: &FscCurves,
    voxel_size_angstrom: Option<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    // Blue to read from; the colours of others are told apart in grey and by those who see fewer colours.
    const COLOURS: [RGBColor; 4] = [
        RGBColor(150, 150, 150),
        RGBColor(230, 159, 0),
        RGBColor(204, 121, 167),
        RGBColor(0, 114, 178),
    ];
    let area = SVGBackend::with_string(svg, (640, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let curves = curves(fsc);
    let lowest = curves.iter().flat_map(|(_, curve)| &curve.correlations);
    let lowest = lowest.copied().fold(-0.1, f64::min);
    let said = match voxel_size_angstrom {
        Some(size) => format!(
            "{:.1} Å at 0.143, {:.1} Å at 0.5",
            fsc.corrected.resolution_angstrom(FSC_GOLD_STANDARD, size),
            fsc.corrected.resolution_angstrom(FSC_HALF, size)
        ),
        None => "Fourier shell correlation of the half-sets".to_owned(),
    };
    let mut chart = ChartBuilder::on(&area)
        .caption(said, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..0.5, lowest..1.0)?;
    let label = |frequency: &f64| match voxel_size_angstrom {
        Some(size) if *frequency > 0.0 => format!("1/{:.0} Å", size / frequency),
        Some(_) => "0".to_owned(),
        None => format!("{frequency:.1}"),
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(6)
        .x_label_formatter(&label)
        .x_desc(if voxel_size_angstrom.is_some() {
            "resolution"
        } else {
            "cycles per voxel"
        })
        .y_desc("FSC")
        .draw()?;
    for threshold in [FSC_GOLD_STANDARD, FSC_HALF] {
        chart.draw_series(LineSeries::new(
            [(0.0, threshold), (0.5, threshold)],
            RGBColor(200, 200, 200),
        ))?;
    }
    for ((name, curve), colour) in curves.into_iter().zip(COLOURS) {
        let width = if name == "corrected" { 3 } else { 1 };
        // What was not drawn anew is the masked curve itself.
        let first = match (name, fsc.randomised_from) {
            ("randomised", Some(from)) => from,
            ("randomised", None) => continue,
            _ => 0.0,
        };
        let points = curve
            .frequencies
            .iter()
            .copied()
            .zip(curve.correlations.iter().copied());
        let points = points.filter(|(frequency, _)| *frequency >= first);
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(width)))?
            .label(if name == "randomised" {
                "masked, random phases"
            } else {
                name
            })
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(width)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}
