//! IMOD's binary models (<https://bio3d.colorado.edu/imod/doc/binspec.html>), big-endian.
//!
//! Every point of every contour is a particle; an object is a class, its name the class's. Positions are IMOD's index
//! coordinates: the centre of the first voxel is at 0.5 in x and y, and at 0 in z. The voxel size is the header's, where
//! its unit is a length. Sizes of points, slicer angles, meshes and the order of a contour's points are not kept.

use deepfinder_core::{Particle, VoxelSize};

use super::Parsed;
use super::fields::{Fields, Input};
use super::format::Output;
use super::list::Draft;
use crate::{IoError, Result};

/// Where the centre of the first voxel is, `(x, y, z)`.
const FIRST_CENTRE: [f64; 3] = [0.5, 0.5, 0.0];

/// Bytes of the header behind its mark.
const HEADER_BYTES: usize = 232;
const OBJECT_BYTES: usize = 176;
const NAME_BYTES: usize = 64;

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let mut cursor = Cursor {
        bytes: input.bytes,
        at: 0,
    };
    let place = || "the model's header".to_owned();
    let fields = input.fields(&place);
    if cursor.take(8).is_none_or(|mark| !mark.starts_with(b"IMODV1.")) {
        return Err(fields.wrong("this is no IMOD model of version 1 (IMODV1.2)"));
    }
    let header = cursor
        .take(HEADER_BYTES)
        .ok_or_else(|| cut_short(input, "the header"))?;
    let mut draft = Draft::default();
    // Behind the name: four sizes, flags, four settings, offsets, scales, five settings, then pixel size and unit.
    draft.list.voxel_size = pixel_size(float(header, 208), integer(header, 212));
    let mut label = None;
    let mut objects: u64 = 0;
    let (mut sizes, mut angles, mut points_seen) = (0, 0, 0_u64);
    while let Some(tag) = cursor.take(4) {
        let at = cursor.at - 4;
        let place = || format!("byte {at}");
        let fields = input.fields(&place);
        match tag {
            b"IEOF" => break,
            b"OBJT" => {
                let object = cursor
                    .take(OBJECT_BYTES)
                    .ok_or_else(|| cut_short(input, "an object"))?;
                objects += 1;
                label = Some(class_of(&fields, object, objects, &mut draft)?);
            }
            b"CONT" => {
                let head = cursor.take(16).ok_or_else(|| cut_short(input, "a contour"))?;
                let count = usize::try_from(integer(head, 0)).unwrap_or(usize::MAX);
                let points = count.checked_mul(12).and_then(|bytes| cursor.take(bytes));
                let points =
                    points.ok_or_else(|| cut_short(input, &format!("a contour of {count} points")))?;
                let label = label.ok_or_else(|| fields.wrong("a contour before any object"))?;
                for point in points.chunks_exact(12) {
                    let mut position = [0.0; 3];
                    for (axis, coordinate) in position.iter_mut().enumerate() {
                        let value = f64::from(float(point, 4 * axis));
                        if !value.is_finite() {
                            return Err(
                                fields.wrong(format!("a point's coordinate is {value}, not a finite number"))
                            );
                        }
                        *coordinate = value - FIRST_CENTRE[axis];
                    }
                    draft.list.particles.push(Particle::new(position, label));
                    points_seen += 1;
                }
            }
            // The only chunk without its length: its numbers of vertices and indices give it.
            b"MESH" => {
                let head = cursor.take(16).ok_or_else(|| cut_short(input, "a mesh"))?;
                let [vertices, indices] =
                    [0, 4].map(|at| usize::try_from(integer(head, at)).unwrap_or(usize::MAX));
                let bytes = vertices
                    .checked_mul(12)
                    .and_then(|bytes| bytes.checked_add(indices.checked_mul(4)?));
                let mesh = bytes.and_then(|bytes| cursor.take(bytes));
                mesh.ok_or_else(|| cut_short(input, "a mesh"))?;
            }
            other => {
                let length = cursor.take(4).map(|length| integer(length, 0));
                let length = length.and_then(|length| usize::try_from(length).ok());
                let name = String::from_utf8_lossy(other).into_owned();
                let chunk = length.and_then(|length| cursor.take(length));
                chunk.ok_or_else(|| cut_short(input, &format!("the chunk `{name}`")))?;
                sizes += u32::from(other == b"SIZE");
                angles += u32::from(other == b"SLAN");
            }
        }
    }
    for (count, what) in [(sizes, "sizes of points"), (angles, "slicer angles")] {
        if count > 0 {
            draft.note(format!("not read: {what}"));
        }
    }
    if points_seen > 0 {
        draft.note(
            "the centre of the first voxel is at (0.5, 0.5, 0) in IMOD: half a voxel was taken off x and y",
        );
    }
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> Vec<u8> {
    let labels = output.list.count_by_label();
    let unnamed = |bytes: &mut Vec<u8>, name: &str, length: usize| {
        let end = name
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take_while(|&end| end < length)
            .last();
        let name = &name.as_bytes()[..end.unwrap_or(0)];
        bytes.extend_from_slice(name);
        bytes.resize(bytes.len() + length - name.len(), 0);
    };
    let mut bytes = b"IMODV1.2".to_vec();
    unnamed(&mut bytes, "DeepFinder", 128);
    let frame = output
        .tomograms
        .get(None)
        .map(|frame| frame.shape_in(output.list.voxel_size));
    let furthest = |axis: usize| {
        let points = output.list.iter().map(|particle| particle.position[axis]);
        points.fold(0.0, f64::max).ceil() + 1.0
    };
    for axis in 0..3 {
        let size = frame.map_or_else(|| furthest(axis), |shape| shape[2 - axis]);
        bytes.extend(((size as i32).max(1)).to_be_bytes());
    }
    bytes.extend((labels.len() as i32).to_be_bytes());
    // Flags as IMOD sets them for models on unflipped images, then settings of no meaning here.
    bytes.extend(0xf400_u32.to_be_bytes());
    bytes.extend(
        [1, 1, 0, 255]
            .iter()
            .flat_map(|setting: &i32| setting.to_be_bytes()),
    );
    bytes.extend(
        [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
            .iter()
            .flat_map(|value: &f32| value.to_be_bytes()),
    );
    bytes.extend(
        [0, 0, 0, 3, 128]
            .iter()
            .flat_map(|setting: &i32| setting.to_be_bytes()),
    );
    let (edge, unit) = match output.list.voxel_size {
        Some(size) => (size.angstrom() / 10.0, -9_i32),
        None => (1.0, 0),
    };
    bytes.extend(edge.to_be_bytes());
    bytes.extend(unit.to_be_bytes());
    bytes.resize(8 + HEADER_BYTES, 0);
    for &label in labels.keys() {
        bytes.extend(b"OBJT");
        unnamed(&mut bytes, &output.class_name(label), NAME_BYTES);
        bytes.resize(bytes.len() + NAME_BYTES, 0);
        let particles = output.list.iter().filter(|particle| particle.label == label);
        // One contour; scattered points (flag 1 << 9) and no lines.
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(0x200_u32.to_be_bytes());
        bytes.extend([0, 1].iter().flat_map(|setting: &i32| setting.to_be_bytes()));
        let colour = super::cmm::colour(label);
        bytes.extend(colour.iter().flat_map(|&value| (value as f32).to_be_bytes()));
        bytes.extend(5_i32.to_be_bytes());
        bytes.extend([1, 3, 1, 1, 0, 0, 0, 0]);
        bytes.extend([0, 0].iter().flat_map(|setting: &i32| setting.to_be_bytes()));
        let points: Vec<u8> = particles
            .flat_map(|particle| {
                (0..3).flat_map(|axis| ((particle.position[axis] + FIRST_CENTRE[axis]) as f32).to_be_bytes())
            })
            .collect();
        bytes.extend(b"CONT");
        bytes.extend(((points.len() / 12) as i32).to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(points);
    }
    bytes.extend(b"IEOF");
    bytes
}

/// The class of an object: its name's, or its number.
fn class_of(fields: &Fields<'_>, object: &[u8], number: u64, draft: &mut Draft) -> Result<u8> {
    let name = object[..NAME_BYTES]
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default();
    let name = String::from_utf8_lossy(name).trim().to_owned();
    let number = number.to_string();
    // Objects keep their numbers, unless the user says what a name shall be.
    let is_known = !name.is_empty() && fields.knows_class(&name);
    let label = fields.foreign_class(Some(if is_known { &name } else { &number }))?;
    if !name.is_empty() {
        draft.names.entry(label).or_insert(name);
    }
    Ok(label)
}

/// The voxel size of a pixel size and its unit, a power of ten of metres; 0 is pixels and 1 kilometres.
fn pixel_size(size: f32, unit: i32) -> Option<VoxelSize> {
    let metres = match unit {
        -12 | -10 | -9 | -6 | -3 | -2 => f64::from(size) * 10_f64.powi(unit),
        _ => return None,
    };
    VoxelSize::new((metres * 1e10) as f32).ok()
}

fn cut_short(input: &Input<'_>, what: &str) -> IoError {
    let place = format!("byte {}", input.bytes.len());
    IoError::malformed(
        input.path,
        place,
        format!("the model ends within {what}: it is cut short or damaged"),
    )
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }
}

fn integer(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(word(bytes, at))
}

fn float(bytes: &[u8], at: usize) -> f32 {
    f32::from_be_bytes(word(bytes, at))
}

fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    std::array::from_fn(|i| bytes.get(at + i).copied().unwrap_or(0))
}
