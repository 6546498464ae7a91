//! Values of options: from what a user writes to what it means.

use std::path::PathBuf;

use deepfinder_core::TiltRange;
use deepfinder_pipeline::{OmeZarr, ParticleFormat, particle_formats};

/// `HALF` or `MIN,MAX`.
pub(crate) fn tilt(text: &str) -> Result<TiltRange, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let range = match text.split_once(',') {
        None => number(text).map(TiltRange::symmetric),
        Some((min, max)) => number(min)
            .zip(number(max))
            .map(|(min_degrees, max_degrees)| TiltRange {
                min_degrees,
                max_degrees,
            }),
    };
    let range = range.ok_or_else(|| format!("`{text}` must be one number of degrees, or two: MIN,MAX"))?;
    range.check().map_err(|error| error.to_string())?;
    Ok(range)
}

/// `NAME=VALUE`.
pub(crate) fn named<T: std::str::FromStr>(text: &str) -> Result<(String, T), String>
where
    T::Err: std::fmt::Display,
{
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` must have the form NAME=VALUE"))?;
    Ok((
        name.to_owned(),
        value.parse().map_err(|error| format!("{error}"))?,
    ))
}

/// `FILE`, or `NAME=FILE` of a tomogram's name.
pub(crate) fn membrane(text: &str) -> Result<(Option<String>, PathBuf), String> {
    match text.split_once('=') {
        Some(("", _) | (_, "")) => Err(format!("`{text}` must have the form FILE or TOMOGRAM=FILE")),
        Some((name, file)) => Ok((Some(name.to_owned()), file.into())),
        None => Ok((None, text.into())),
    }
}

/// A format of particle lists by the name that users give it.
pub(crate) fn format(text: &str) -> Result<ParticleFormat, String> {
    ParticleFormat::by_id(text).ok_or_else(|| {
        let known: Vec<&str> = particle_formats().iter().map(|entry| entry.id).collect();
        format!("`{text}` is no format: use {}", known.join(", "))
    })
}

pub(crate) fn ome_zarr(text: &str) -> Result<OmeZarr, String> {
    match text {
        "0.4" => Ok(OmeZarr::V04),
        "0.5" => Ok(OmeZarr::V05),
        _ => Err(format!("`{text}` is no version that is written: use 0.4 or 0.5")),
    }
}

/// `Z,Y,X`.
pub(crate) fn shape(text: &str) -> Result<[usize; 3], String> {
    let sides: Option<Vec<usize>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
    sides
        .and_then(|sides| sides.try_into().ok())
        .ok_or_else(|| format!("`{text}` must be three numbers of voxels: Z,Y,X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilts_are_one_number_or_two() {
        assert_eq!(tilt("57"), Ok(TiltRange::symmetric(57.0)));
        let range = tilt("-40, 60").unwrap();
        assert_eq!((range.min_degrees, range.max_degrees), (-40.0, 60.0));
        assert!(
            tilt("60,-40").is_err() && tilt("x").is_err() && tilt("1,2,3").is_err() && tilt("95").is_err()
        );
    }

    #[test]
    fn names_and_values() {
        assert_eq!(shape("4, 5,6"), Ok([4, 5, 6]));
        assert!(shape("4,5").is_err() && shape("4,5,x").is_err());
        assert_eq!(named::<u8>("ribosome=2").unwrap(), ("ribosome".to_owned(), 2));
        assert_eq!(membrane("m.mrc"), Ok((None, "m.mrc".into())));
        assert_eq!(membrane("t1=m.mrc"), Ok((Some("t1".to_owned()), "m.mrc".into())));
        assert!(membrane("=m.mrc").is_err() && membrane("t1=").is_err());
        assert!(named::<u8>("ribosome").is_err() && named::<u8>("ribosome=x").is_err());
    }
}
