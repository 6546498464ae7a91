//! EMAN2's `info/<tomogram>_info.json`.
//!
//! `boxes_3d` holds `[x, y, z, "tomobox", score, class]`. Positions are in unbinned pixels of `apix_unbin` Å and count from
//! n//2 of the tomogram, the middle rounded down, where `apix_unbin` is given; in files of before 2019 without it they
//! count from the first voxel. `class_list` names the classes, which count from 0: class 0 is label 1 here. No
//! orientations.

use deepfinder_core::{Particle, VoxelSize};
use serde_json::{Map, Value, json};

use super::Parsed;
use super::fields::Input;
use super::json::{number, parse};
use super::list::Draft;
use super::write::Output;
use super::{Origin, TomogramFrame};
use crate::{IoError, Result};

const BOXES: &str = "boxes_3d";
const PIXEL: &str = "apix_unbin";
const CLASSES: &str = "class_list";

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let info = parse(input)?;
    let Some(boxes) = info.get(BOXES).and_then(Value::as_array) else {
        let what = "no boxes_3d: this info file of EMAN2 holds no particles";
        return Err(IoError::unsupported(input.path, what));
    };
    let mut draft = Draft::default();
    let place = || PIXEL.to_owned();
    let fields = input.fields(&place);
    let pixel = info
        .get(PIXEL)
        .map(|value| number(&fields, Some(value), PIXEL))
        .transpose()?;
    let pixel = pixel
        .map(|edge| VoxelSize::new(edge as f32).map_err(|error| fields.wrong(error.to_string())))
        .transpose()?;
    let frame = input.options.tomograms.get(None);
    let size = input
        .options
        .voxel_size
        .or(frame.and_then(|frame| frame.voxel_size))
        .or(pixel);
    let is_centred = pixel.is_some() && input.options.origin != Some(Origin::Corner);
    let middle = match (is_centred, frame) {
        (false, _) => [0.0; 3],
        (true, Some(frame)) => half(frame, size),
        (true, None) if input.options.is_preview => {
            draft.note("positions count from the middle of the tomogram, whose size is not known");
            [0.0; 3]
        }
        (true, None) => {
            let what = "positions count from the middle of the tomogram, whose size the file does not say: give the tomogram (--tomograms)";
            return Err(IoError::unsupported(input.path, what));
        }
    };
    let scale = match (pixel, size) {
        (Some(pixel), Some(size)) => f64::from(pixel.angstrom()) / f64::from(size.angstrom()),
        _ => 1.0,
    };
    for (index, entry) in boxes.iter().enumerate() {
        let place = || format!("box {}", index + 1);
        let fields = input.fields(&place);
        let mut position = [0.0; 3];
        for (axis, coordinate) in position.iter_mut().enumerate() {
            *coordinate = number(&fields, entry.get(axis), "a position")? * scale + middle[axis];
        }
        let class = entry.get(5).and_then(Value::as_u64);
        let name = class.and_then(|class| info.get(CLASSES)?.get(class.to_string())?.get("name")?.as_str());
        let label = match (name, class) {
            (Some(name), _) => fields.named_class(name, &mut draft)?,
            (None, Some(class)) => fields.foreign_class(Some(&class.saturating_add(1).to_string()))?,
            (None, None) => fields.foreign_class(None)?,
        };
        let mut particle = Particle::new(position, label);
        particle.score = entry
            .get(4)
            .and_then(Value::as_f64)
            .map(|score| score as f32)
            .filter(|s| s.is_finite());
        draft.list.particles.push(particle);
    }
    draft.list.voxel_size = size;
    if let Some(pixel) = pixel {
        draft.note(format!(
            "positions were in unbinned pixels of {pixel}, counted from the tomogram's middle n//2"
        ));
    }
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> Result<String> {
    let Some(frame) = output.tomograms.get(None) else {
        let what = "EMAN2 counts from the middle of the tomogram, whose size is not known: give the tomogram (--tomograms)";
        return Err(output.cannot(what));
    };
    let Some(size) = output.list.voxel_size else {
        return Err(output.cannot("EMAN2 needs the voxel size, which is not known: give it (--voxel-size)"));
    };
    let middle = half(frame, Some(size));
    let mut classes = Map::new();
    for &label in output.list.count_by_label().keys() {
        let name = json!({"name": output.class_name(label), "boxsize": 32});
        classes.insert((label - 1).to_string(), name);
    }
    let boxes: Vec<Value> = output
        .list
        .iter()
        .map(|particle| {
            let [x, y, z]: [f64; 3] = std::array::from_fn(|axis| particle.position[axis] - middle[axis]);
            json!([
                x,
                y,
                z,
                "tomobox",
                particle.score.unwrap_or(0.0),
                particle.label - 1
            ])
        })
        .collect();
    let info = json!({PIXEL: size.angstrom(), BOXES: boxes, CLASSES: classes});
    Ok(format!("{info:#}\n"))
}

/// n//2 of the tomogram, `(x, y, z)` in voxels of that size.
fn half(frame: &TomogramFrame, size: Option<VoxelSize>) -> [f64; 3] {
    let [z, y, x] = frame.shape_in(size);
    [x, y, z].map(|n| (n.round() / 2.0).floor())
}
