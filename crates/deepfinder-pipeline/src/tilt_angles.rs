use std::path::Path;

use deepfinder_match::{Tilt, TiltScheme};
use deepfinder_sim::TiltSeriesParams;

use crate::{PipelineError, Result};

/// A tilt series as a file of its tilts says it: a line for each image, with the tilt in degrees and, where they are known, the
/// electrons per Å² that the specimen had seen at the middle of its exposure, and its underfocus in µm. IMOD's `.tlt`
/// files are such lists without the last two. Lines that begin with # are comments.
///
/// Without exposures those of the settings count, shared from the tilt nearest 0° outwards.
///
/// # Errors
/// For a file that cannot be read, a line that is no tilt, lines of different lengths, and fewer than two tilts.
pub(crate) fn read_tilts(path: &Path, settings: &TiltSeriesParams) -> Result<TiltScheme> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PipelineError::file(path, "the tilts cannot be read", source))?;
    let rows = rows(&text).map_err(|what| PipelineError::input(format!("{}: {what}", path.display())))?;
    let degrees: Vec<f64> = rows.iter().map(|row| row[0]).collect();
    let mut tilts = Tilt::dose_symmetric(&degrees, settings.exposure);
    for (tilt, row) in tilts.iter_mut().zip(&rows) {
        tilt.exposure = row.get(1).copied().unwrap_or(tilt.exposure);
        tilt.defocus_um = row.get(2).copied();
    }
    Ok(TiltScheme {
        tilts,
        ..settings.scheme()
    })
}

fn rows(text: &str) -> Result<Vec<Vec<f64>>, String> {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let row: Vec<f64> = line
            .split([' ', '\t', ','])
            .filter(|word| !word.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        let is_tilt = (1..=3).contains(&row.len()) && row.iter().all(|number| number.is_finite());
        if !is_tilt || !(-90.0..=90.0).contains(&row[0]) {
            return Err(format!(
                "line {}: `{line}` is no tilt: write degrees from −90 to 90, then exposure in e/Å² and underfocus in µm \
                 where they are known",
                number + 1
            ));
        }
        if rows.first().is_some_and(|first| first.len() != row.len()) {
            return Err(format!(
                "line {}: it has {} numbers, the first line has {}: give all lines as many",
                number + 1,
                row.len(),
                rows[0].len()
            ));
        }
        rows.push(row);
    }
    if rows.len() < 2 {
        return Err("a tilt series has two tilts at least, a line each".to_owned());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilts_come_alone_or_with_exposure_and_defocus() {
        assert_eq!(
            rows(" -60.00\n-57\n\n# the rest\n 0\n").unwrap(),
            [[-60.0], [-57.0], [0.0]]
        );
        assert_eq!(
            rows("3, 10, 2.5\n0\t4\t2.4\n").unwrap(),
            [[3.0, 10.0, 2.5], [0.0, 4.0, 2.4]]
        );
        for (text, said) in [
            ("1\nx\n", "line 2: `x`"),
            ("1\n2 3\n", "line 2: it has 2 numbers"),
            ("95\n", "line 1"),
            ("1 2 3 4\n", "line 1"),
            ("1 nan\n", "line 1"),
            ("# nothing\n5\n", "two tilts"),
        ] {
            let error = rows(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
