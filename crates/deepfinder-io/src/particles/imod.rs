//! IMOD's binary models (<https://bio3d.colorado.edu/imod/doc/binspec.html>), big-endian.
//!
//! Every point of every contour is a particle; an object is a class, its name the class's. Positions are IMOD's index
//! coordinates: the centre of the first voxel is at 0.5 in x and y, and at 0 in z. The voxel size is the header's, where
//! its unit is a length. Sizes of points, meshes and the order of a contour's points are not kept.
//!
//! Orientations are slicer angles (chunks `SLAN`: about x, y and z in degrees, and the place they were set at), of the point
//! nearest to their place. The slicer turns the volume about z, then y, then x, as `rotatevol` does, so that its window
//! shows the particle upright: `R = [Rx(x) · Ry(y) · Rz(z)]⁻¹` from particle to tomogram.

use std::collections::HashMap;

use deepfinder_core::{Particle, Rotation, VoxelSize};

use super::Parsed;
use super::fields::{Fields, Input};
use super::list::Draft;
use super::write::Output;
use crate::{IoError, Result};

/// Where the centre of the first voxel is, `(x, y, z)`.
const FIRST_CENTRE: [f64; 3] = [0.5, 0.5, 0.0];

/// Bytes of the header behind its mark.
const HEADER_BYTES: usize = 232;
const OBJECT_BYTES: usize = 176;
const NAME_BYTES: usize = 64;

/// Bytes of a chunk of slicer angles: a time, three angles, a place, a label.
const SLICER_BYTES: usize = 60;

/// How far from a point the place of its slicer angles may be, in voxels: whoever looks for the best view moves a little.
const REACH: f64 = 2.0;

/// Slicer angles, and the place they were set at, `(x, y, z)` from voxel 0's centre.
struct Slicer {
    place: [f64; 3],
    rotation: Rotation,
}

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
    let mut sizes = 0;
    let mut slicers = Vec::new();
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
                let chunk = chunk.ok_or_else(|| cut_short(input, &format!("the chunk `{name}`")))?;
                sizes += u32::from(other == b"SIZE");
                if other == b"SLAN" {
                    slicers.push(slicer(&fields, chunk)?);
                }
            }
        }
    }
    if sizes > 0 {
        draft.note("not read: sizes of points");
    }
    orient(&mut draft, &slicers);
    if !draft.list.is_empty() {
        draft.note(
            "the centre of the first voxel is at (0.5, 0.5, 0) in IMOD: half a voxel was taken off x and y",
        );
    }
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> Vec<u8> {
    // Objects are classes by their number, so that a class without particles is an object without points.
    let labels = 1..=output.list.count_by_label().keys().max().copied().unwrap_or(0);
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
    bytes.extend((labels.clone().count() as i32).to_be_bytes());
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
    for label in labels.clone() {
        let points: Vec<u8> = output
            .list
            .iter()
            .filter(|particle| particle.label == label)
            .flat_map(|particle| {
                (0..3).flat_map(|axis| ((particle.position[axis] + FIRST_CENTRE[axis]) as f32).to_be_bytes())
            })
            .collect();
        bytes.extend(b"OBJT");
        unnamed(&mut bytes, &output.class_name(label), NAME_BYTES);
        bytes.resize(bytes.len() + NAME_BYTES, 0);
        // A contour for the points; scattered points (flag 1 << 9) and no lines.
        bytes.extend(i32::from(!points.is_empty()).to_be_bytes());
        bytes.extend(0x200_u32.to_be_bytes());
        bytes.extend([0, 1].iter().flat_map(|setting: &i32| setting.to_be_bytes()));
        let colour = super::cmm::colour(label);
        bytes.extend(colour.iter().flat_map(|&value| (value as f32).to_be_bytes()));
        bytes.extend(5_i32.to_be_bytes());
        bytes.extend([1, 3, 1, 1, 0, 0, 0, 0]);
        bytes.extend([0, 0].iter().flat_map(|setting: &i32| setting.to_be_bytes()));
        if points.is_empty() {
            continue;
        }
        bytes.extend(b"CONT");
        bytes.extend(((points.len() / 12) as i32).to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(points);
    }
    // In the order of the points, so that those at one place keep theirs apart.
    for label in labels {
        for particle in output.list.iter().filter(|particle| particle.label == label) {
            if let Some(rotation) = particle.rotation {
                write_slicer(&mut bytes, particle.position, rotation);
            }
        }
    }
    bytes.extend(b"IEOF");
    bytes
}

/// The slicer angles of a chunk.
fn slicer(fields: &Fields<'_>, chunk: &[u8]) -> Result<Slicer> {
    let numbers: [f64; 6] = std::array::from_fn(|i| f64::from(float(chunk, 4 + 4 * i)));
    if chunk.len() < SLICER_BYTES || numbers.iter().any(|number| !number.is_finite()) {
        return Err(fields.wrong("slicer angles that are no six finite numbers: the model is damaged"));
    }
    let [x, y, z, place @ ..] = numbers;
    fields.doubt_angles(&[x, y, z]);
    let slicer_from_tomogram = Rotation::about_z(z)
        .then(Rotation::about_y(y))
        .then(Rotation::about_x(x));
    Ok(Slicer {
        place: std::array::from_fn(|axis| place[axis] - FIRST_CENTRE[axis]),
        rotation: slicer_from_tomogram.inverse(),
    })
}

/// Gives points the orientations that were set near them, each to the nearest that has none.
fn orient(draft: &mut Draft, slicers: &[Slicer]) {
    /// Points of a cell beyond these lie on top of each other.
    const MOST_IN_CELL: usize = 64;

    if slicers.is_empty() {
        return;
    }
    let cell = |position: [f64; 3]| position.map(|coordinate| (coordinate / REACH).floor() as i64);
    let mut cells: HashMap<[i64; 3], Vec<usize>> = HashMap::new();
    for (index, particle) in draft.list.iter().enumerate() {
        let members = cells.entry(cell(particle.position)).or_default();
        if members.len() < MOST_IN_CELL {
            members.push(index);
        }
    }
    let particles = &mut draft.list.particles;
    let mut lost = 0;
    for slicer in slicers {
        let [x, y, z] = cell(slicer.place);
        let steps = || -1..=1_i64;
        let around = steps().flat_map(|dz| steps().flat_map(move |dy| steps().map(move |dx| [dx, dy, dz])));
        let near = around.filter_map(|[dx, dy, dz]| {
            cells.get(&[x.saturating_add(dx), y.saturating_add(dy), z.saturating_add(dz)])
        });
        let distance = |index: usize| {
            let position = particles[index].position;
            let squares = (0..3).map(|axis| (position[axis] - slicer.place[axis]).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let nearest = near
            .flatten()
            .copied()
            .filter(|&index| particles[index].rotation.is_none())
            .map(|index| (distance(index), index))
            .filter(|(distance, _)| *distance <= REACH)
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        match nearest {
            Some((_, index)) => particles[index].rotation = Some(slicer.rotation),
            None => lost += 1,
        }
    }
    if lost < slicers.len() {
        draft.note("slicer angles became the orientations of the points they were set at");
    }
    if lost > 0 {
        draft.note(format!(
            "not read: {lost} slicer angles, with no point within {REACH} voxels"
        ));
    }
}

fn write_slicer(bytes: &mut Vec<u8>, position: [f64; 3], rotation: Rotation) {
    let [[m00, m01, m02], [_, m11, m12], [_, m21, m22]] = rotation.inverse().matrix();
    let y = m02.clamp(-1.0, 1.0).asin();
    // Where the view is along x, turns about x and z are the same.
    let is_locked = m02.abs() > 1.0 - 1e-9;
    let (x, z) = if is_locked {
        (m21.atan2(m11), 0.0)
    } else {
        ((-m12).atan2(m22), (-m01).atan2(m00))
    };
    bytes.extend(b"SLAN");
    bytes.extend((SLICER_BYTES as i32).to_be_bytes());
    bytes.extend(1_i32.to_be_bytes());
    let place = (0..3).map(|axis| position[axis] + FIRST_CENTRE[axis]);
    let numbers = [x, y, z].into_iter().map(f64::to_degrees).chain(place);
    bytes.extend(numbers.flat_map(|number| (number as f32).to_be_bytes()));
    bytes.extend([0; 32]);
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
