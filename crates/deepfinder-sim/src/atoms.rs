use std::f64::consts::{LN_2, PI, SQRT_2};

use deepfinder_core::{Atom, Volume, VoxelSize};
use ndarray::{Array3, Axis};
use rayon::prelude::*;

use crate::{Result, SimError};

/// Beyond so many standard deviations a Gaussian is left out; its mass is not, see [`density_of_atoms`].
const REACH_DEVIATIONS: f64 = 4.0;
/// Empty voxels around the molecule.
const RIM: usize = 2;
/// Largest side of a density in voxels.
const LARGEST_SIDE: usize = 1024;
/// Planes that a thread fills at a time.
const SLAB_PLANES: usize = 8;

/// The mass density in kDa a voxel of a molecule, seen at a resolution.
///
/// Each atom is a Gaussian whose Fourier transform has come down to ½ at 1 / resolution, integrated over each voxel, so
/// that the voxels add up to the molecule's mass whatever the voxel size. The centre of mass is at `side / 2` of an even
/// cube with two empty voxels around the molecule, as a [`Template`](crate::Template) needs it. Mass stands for the
/// potential that scatters: light atoms of biology scatter in proportion to it within some per cent.
///
/// # Errors
/// [`SimError::Atoms`] where there are none or they do not fit a cube of 1024 voxels; [`SimError::Parameter`] for a
/// resolution that is no length.
pub fn density_of_atoms(
    atoms: &[Atom],
    voxel_size: VoxelSize,
    resolution_angstrom: f64,
) -> Result<Volume<f32>> {
    if !(resolution_angstrom.is_finite() && resolution_angstrom > 0.0) {
        return Err(SimError::Parameter {
            name: "resolution_angstrom",
            found: resolution_angstrom.to_string(),
            expected: "a positive number of Å",
        });
    }
    let mass: f64 = atoms.iter().map(|atom| atom.mass_dalton).sum();
    if !(mass.is_finite() && mass > 0.0) {
        return Err(SimError::Atoms {
            what: "there is none with a mass".to_owned(),
        });
    }
    let voxel = f64::from(voxel_size.angstrom());
    let centre: [f64; 3] = std::array::from_fn(|axis| {
        atoms
            .iter()
            .map(|atom| atom.mass_dalton * atom.position_angstrom[axis])
            .sum::<f64>()
            / mass
    });
    // exp(−2 π² σ² k²) = ½ at k = 1 / resolution.
    let sigma = resolution_angstrom * (LN_2 / 2.0).sqrt() / PI / voxel;
    let reach = REACH_DEVIATIONS * sigma + 0.5;
    let offset = |atom: &Atom| -> [f64; 3] {
        std::array::from_fn(|axis| (atom.position_angstrom[axis] - centre[axis]) / voxel)
    };
    let furthest = atoms
        .iter()
        .flat_map(offset)
        .fold(0.0, |far: f64, part| far.max(part.abs()));
    let half = (furthest + reach).ceil() as usize + RIM;
    if 2 * half > LARGEST_SIDE {
        return Err(SimError::Atoms {
            what: format!(
                "they reach {:.0} Å from their middle, and a cube around them would have {} voxels of {voxel_size} a side",
                furthest * voxel,
                2 * half
            ),
        });
    }
    // Voxel `half` is the centre. Sorting by z lets a slab find its atoms.
    let mut placed: Vec<([f64; 3], f64)> = atoms
        .iter()
        .map(|atom| {
            (
                offset(atom).map(|part| part + half as f64),
                atom.mass_dalton / 1000.0,
            )
        })
        .collect();
    placed.sort_by(|a, b| a.0[2].total_cmp(&b.0[2]));
    let mut density = Array3::<f32>::zeros([2 * half; 3]);
    density
        .axis_chunks_iter_mut(Axis(0), SLAB_PLANES)
        .into_par_iter()
        .enumerate()
        .for_each(|(slab, mut planes)| {
            let first = slab * SLAB_PLANES;
            let last = first + planes.len_of(Axis(0)) - 1;
            let from = placed.partition_point(|(at, _)| at[2] < first as f64 - reach - 1.0);
            let to = placed.partition_point(|(at, _)| at[2] <= last as f64 + reach + 1.0);
            // Sums of many small parts: not in f32.
            let mut sums = planes.mapv(f64::from);
            for (position, kilodalton) in &placed[from..to] {
                let [x, y, z] = position.map(|at| Spread::of(at, sigma, reach));
                for (dz, wz) in z.weights.iter().enumerate() {
                    let plane = z.first + dz;
                    if !(first..=last).contains(&plane) {
                        continue;
                    }
                    for (dy, wy) in y.weights.iter().enumerate() {
                        let part = kilodalton * wz * wy;
                        for (dx, wx) in x.weights.iter().enumerate() {
                            sums[[plane - first, y.first + dy, x.first + dx]] += part * wx;
                        }
                    }
                }
            }
            planes.zip_mut_with(&sums, |voxel, sum| *voxel = *sum as f32);
        });
    Ok(Volume::new(density).with_voxel_size(voxel_size))
}

/// The parts of a Gaussian in the voxels along an axis; they add up to 1.
struct Spread {
    first: usize,
    weights: Vec<f64>,
}

impl Spread {
    fn of(at: f64, sigma: f64, reach: f64) -> Self {
        let first = (at - reach).floor().max(0.0) as usize;
        let last = (at + reach).ceil() as usize;
        let below = |edge: f64| libm::erf((edge - at) / (sigma * SQRT_2));
        let mut weights: Vec<f64> = (first..=last)
            .map(|voxel| below(voxel as f64 + 0.5) - below(voxel as f64 - 0.5))
            .collect();
        let all: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= all;
        }
        Self { first, weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn atom(position_angstrom: [f64; 3], mass_dalton: f64) -> Atom {
        Atom {
            position_angstrom,
            mass_dalton,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn mass_and_centre_are_kept(
            atoms in prop::collection::vec((prop::array::uniform3(-60.0..60.0f64), 1.0..60.0f64), 1..40),
            voxel in 2.0..15.0f32,
            resolution in 3.0..40.0f64,
        ) {
            let atoms: Vec<Atom> = atoms.into_iter().map(|(at, mass)| atom(at, mass)).collect();
            let mass: f64 = atoms.iter().map(|atom| atom.mass_dalton).sum::<f64>() / 1000.0;
            let density = density_of_atoms(&atoms, VoxelSize::new(voxel).unwrap(), resolution).unwrap();
            let side = density.shape()[0];
            prop_assert!(side.is_multiple_of(2) && density.shape() == [side; 3]);
            let mut sums = [0.0; 4];
            for ((z, y, x), &value) in density.voxels.indexed_iter() {
                let at = [1.0, x as f64, y as f64, z as f64];
                sums.iter_mut().zip(at).for_each(|(sum, at)| *sum += f64::from(value) * at);
            }
            prop_assert!((sums[0] / mass - 1.0).abs() < 1e-5);
            for sum in &sums[1..] {
                // A voxel's mass counts at its middle, which moves the centre by less than a part of a voxel.
                prop_assert!((sum / sums[0] - side as f64 / 2.0).abs() < 0.2);
            }
        }
    }

    #[test]
    fn an_atom_is_half_as_high_in_fourier_space_at_its_resolution() {
        let voxel = VoxelSize::new(2.0).unwrap();
        let density = density_of_atoms(&[atom([7.0, 8.0, 9.0], 1000.0)], voxel, 16.0).unwrap();
        let side = density.shape()[0] as f64;
        // Cycles per voxel; the voxel's own box lowers it by sinc(1/8).
        let k = 2.0 / 16.0;
        let box_of_voxel = (PI * k).sin() / (PI * k);
        let wave = density
            .voxels
            .indexed_iter()
            .map(|((_, _, x), &value)| f64::from(value) * (2.0 * PI * k * (x as f64 - side / 2.0)).cos());
        let found: f64 = wave.sum();
        assert!((found - 0.5 * box_of_voxel).abs() < 2e-3, "{found}");
    }

    #[test]
    fn what_is_no_molecule_is_refused() {
        let voxel = VoxelSize::new(1.0).unwrap();
        assert!(density_of_atoms(&[], voxel, 5.0).is_err());
        assert!(density_of_atoms(&[atom([0.0; 3], 12.0)], voxel, 0.0).is_err());
        let far = [atom([0.0; 3], 12.0), atom([5000.0, 0.0, 0.0], 12.0)];
        let error = density_of_atoms(&far, voxel, 5.0).unwrap_err().to_string();
        assert!(error.contains("2500 Å"), "{error}");
    }
}
