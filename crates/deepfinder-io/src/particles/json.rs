//! JSON lists: values by name, with the place of whatever is wrong.

use deepfinder_core::Rotation;
use serde_json::Value;

use super::fields::{Fields, Input};
use crate::{IoError, Result};

pub(super) fn parse(input: &Input<'_>) -> Result<Value> {
    serde_json::from_str(input.text()?).map_err(|error| {
        let what = format!("this is no JSON: {error}");
        IoError::malformed(input.path, format!("line {}", error.line()), what)
    })
}

/// A finite number of an object or array.
pub(super) fn number(fields: &Fields<'_>, value: Option<&Value>, name: &str) -> Result<f64> {
    match value.and_then(Value::as_f64) {
        Some(number) if number.is_finite() => Ok(number),
        _ => Err(fields.wrong(format!(
            "{name} is {}, not a finite number",
            value.map_or("missing".to_owned(), brief)
        ))),
    }
}

/// `{"x": …, "y": …, "z": …}`.
pub(super) fn location(fields: &Fields<'_>, value: Option<&Value>) -> Result<[f64; 3]> {
    let mut position = [0.0; 3];
    for (axis, coordinate) in ["x", "y", "z"].into_iter().zip(&mut position) {
        let value = value.and_then(|location| location.get(axis));
        *coordinate = number(fields, value, &format!("location.{axis}"))?;
    }
    Ok(position)
}

/// The three rows of a rotation matrix; more columns are left alone.
pub(super) fn rotation(fields: &Fields<'_>, value: &Value, name: &str) -> Result<Rotation> {
    let mut matrix = [[0.0; 3]; 3];
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, entry) in row.iter_mut().enumerate() {
            let value = value.get(i).and_then(|row| row.get(j));
            *entry = number(fields, value, &format!("{name}[{i}][{j}]"))?;
        }
    }
    Rotation::from_matrix(matrix).ok_or_else(|| {
        fields.wrong(format!(
            "{name} is no rotation: its rows must be orthogonal, of length 1, and not mirror"
        ))
    })
}

/// A value, cut to what a message can hold.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
