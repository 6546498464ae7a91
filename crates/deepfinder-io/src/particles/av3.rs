//! Motif lists of AV3 and TOM: an EM file of 20 × N numbers.
//!
//! Rows, counted from 1: 1 score, 4 number of the particle, 5 number of the tomogram, 8–10 position, 11–13 shift in
//! voxels (added), 17 phi, 18 psi, 19 theta, 20 class. Positions are MATLAB's: the first voxel is 1.
//! ZXZ angles in degrees, `R = Rz(psi) · Rx(theta) · Rz(phi)` from particle to tomogram. No voxel size.

use deepfinder_core::{Particle, Rotation};

use super::Parsed;
use super::fields::Input;
use super::list::Draft;
use super::write::Output;
use crate::em::{EmHeader, HEADER_BYTES};
use crate::{ElementType, IoError, Result};

/// Numbers of a particle.
const ROWS: usize = 20;

/// What the first voxel is called.
const FIRST_VOXEL: f64 = 1.0;

/// Whether these are the bytes of a motif list, and not of a volume.
pub(super) fn is_list(bytes: &[u8]) -> bool {
    EmHeader::parse(bytes).is_some_and(|header| header.shape[0] == 1 && header.shape[2] == ROWS)
}

pub(super) fn read(input: &Input<'_>) -> Parsed {
    let header =
        EmHeader::parse(input.bytes).filter(|header| header.shape[0] == 1 && header.shape[2] == ROWS);
    let Some(header) = header else {
        let what = "a motif list is an EM file of 20 × N numbers, and this is none";
        return Err(IoError::malformed(input.path, "EM header", what));
    };
    let particles = header.shape[1];
    if (input.bytes.len() as u128) < header.bytes_needed() {
        return Err(IoError::Truncated {
            path: input.path.to_owned(),
            promised: format!("its EM header promises {ROWS} × {particles} numbers"),
            needed: header.bytes_needed(),
            found: input.bytes.len() as u64,
        });
    }
    let width = match header.element {
        Some(ElementType::F32) => 4,
        Some(ElementType::F64) => 8,
        _ => {
            let what = "a motif list holds floating-point numbers (EM types 5 and 9)";
            return Err(IoError::malformed(input.path, "EM header, byte 3", what));
        }
    };
    let number = |bytes: &[u8]| -> f64 {
        let mut word = [0; 8];
        word[..width].copy_from_slice(bytes);
        if header.is_big_endian {
            word[..width].reverse();
        }
        if width == 4 {
            f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        } else {
            f64::from_le_bytes(word)
        }
    };
    let mut draft = Draft::default();
    let records = input.bytes[HEADER_BYTES..].chunks_exact(ROWS * width);
    for (index, record) in records.take(particles).enumerate() {
        let place = || format!("particle {}", index + 1);
        let fields = input.fields(&place);
        let row = |row: usize| number(&record[(row - 1) * width..row * width]);
        let finite = |name: &str, number: usize| {
            let value = row(number);
            if value.is_finite() {
                Ok(value)
            } else {
                Err(fields.wrong(format!("{name} (row {number}) is {value}, not a finite number")))
            }
        };
        let mut position = [0.0; 3];
        for (axis, coordinate) in position.iter_mut().enumerate() {
            *coordinate = finite("the position", 8 + axis)? + finite("the shift", 11 + axis)? - FIRST_VOXEL;
        }
        let label = fields.foreign_class(Some(&row(20).to_string()))?;
        let [phi, psi, the] = [finite("phi", 17)?, finite("psi", 18)?, finite("theta", 19)?];
        fields.doubt_angles(&[phi, psi, the]);
        let rotation = match input.options.euler {
            Some(euler) => euler.rotation([phi, psi, the]),
            None => Rotation::from_zxz_degrees(phi, psi, the),
        };
        let mut particle = Particle::new(position, label).with_rotation(rotation);
        particle.score = Some(row(1) as f32).filter(|score| score.is_finite());
        particle.tomogram = Some(row(5).to_string().into());
        draft.list.particles.push(particle);
    }
    draft.note("positions count from 1 in this format, and shifts (rows 11 to 13) were added to them");
    input.note_unclassed(&mut draft);
    Ok(draft)
}

pub(super) fn write(output: &mut Output<'_>) -> Result<Vec<u8>> {
    let shape = [1, output.list.len(), ROWS];
    let header = EmHeader::encode(shape, ElementType::F32);
    let header = header.ok_or_else(|| output.cannot("a motif list of no particles cannot be written"))?;
    let tomograms = output.tomogram_numbers();
    let mut bytes = header.to_vec();
    for (index, (particle, tomogram)) in output.list.iter().zip(tomograms).enumerate() {
        let [phi, psi, the] = particle.rotation.map_or([0.0; 3], Rotation::to_zxz_degrees);
        let [x, y, z] = particle.position.map(|value| value + FIRST_VOXEL);
        // The shift holds what the position, rounded as programs want it, leaves over.
        let rounded = [x, y, z].map(f64::round);
        let mut rows = [0.0; ROWS];
        rows[0] = f64::from(particle.score.unwrap_or(0.0));
        rows[3] = (index + 1) as f64;
        rows[4] = tomogram as f64;
        rows[7..10].copy_from_slice(&rounded);
        rows[10..13].copy_from_slice(&[x - rounded[0], y - rounded[1], z - rounded[2]]);
        rows[16..19].copy_from_slice(&[phi, psi, the]);
        rows[19] = f64::from(particle.label);
        bytes.extend(rows.iter().flat_map(|&value| (value as f32).to_le_bytes()));
    }
    Ok(bytes)
}
