use std::ops::RangeInclusive;

use deepfinder_core::{Rotation, Volume};
use ndarray::Array3;

/// Outside every tomogram, and small enough that sums of coordinates neither overflow nor lose a voxel.
const FAR_AWAY: f64 = (1_u64 << 50) as f64;

/// A class's mask, ready to be sampled between its voxels.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    side: usize,
    /// For each cell between voxels `i − 1` and `i` on every axis, its eight corners as bits, x fastest.
    /// Most cells are all inside or all outside: these need no interpolation.
    cells: Array3<u8>,
    /// No voxel of the mask is further than this from the centre of rotation.
    radius: f64,
}

impl Mask {
    /// Takes a cubic mask.
    pub(crate) fn new(mask: &Volume<u8>) -> Self {
        let side = mask.voxels.dim().0;
        let centre = side as f64 / 2.0;
        let mut cells = Array3::zeros((side + 1, side + 1, side + 1));
        let mut radius_squared: f64 = 0.0;
        for ((z, y, x), &voxel) in mask.voxels.indexed_iter() {
            if voxel == 0 {
                continue;
            }
            let squared = [z, y, x].map(|i| (i as f64 - centre).powi(2)).iter().sum();
            radius_squared = radius_squared.max(squared);
            for corner in 0..8 {
                let (dz, dy, dx) = (corner >> 2 & 1, corner >> 1 & 1, corner & 1);
                cells[[z + 1 - dz, y + 1 - dy, x + 1 - dx]] |= 1 << corner;
            }
        }
        Self {
            side,
            cells,
            radius: radius_squared.sqrt(),
        }
    }

    /// Whether a rotation may turn part of it out of its cube.
    pub(crate) fn may_leave_its_cube(&self) -> bool {
        // The cube's near face lies side / 2 before the centre of rotation, its far face a voxel closer.
        self.radius > self.side as f64 / 2.0 - 1.0
    }

    /// The mask between its voxels, at `(z, y, x)`; zero around it.
    fn sample(&self, point: [f64; 3]) -> f64 {
        let floor = point.map(f64::floor);
        let limit = self.side as f64;
        if floor.iter().any(|&i| !(-1.0..limit).contains(&i)) {
            return 0.0;
        }
        match self.cells[floor.map(|i| (i + 1.0) as usize)] {
            0 => 0.0,
            u8::MAX => 1.0,
            corners => {
                let [z, y, x]: [f64; 3] = std::array::from_fn(|axis| point[axis] - floor[axis]);
                let corner = |bit: u8| f64::from(corners >> bit & 1);
                let edge = |bit: u8| corner(bit) * (1.0 - x) + corner(bit + 1) * x;
                let face = |bit: u8| edge(bit) * (1.0 - y) + edge(bit + 2) * y;
                face(0) * (1.0 - z) + face(4) * z
            }
        }
    }
}

/// A mask, turned as a particle is and put on its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    mask: &'a Mask,
    /// Tomogram → particle, acting on `(x, y, z)`.
    particle_from_tomogram: [[f64; 3]; 3],
    /// The voxel that voxel 0 of the cube comes to lie on, `[z, y, x]`.
    corner: [i64; 3],
}

impl<'a> Stamp<'a> {
    pub(crate) fn new(mask: &'a Mask, [x, y, z]: [f64; 3], rotation: Rotation) -> Self {
        let centre_voxel = (mask.side / 2) as i64;
        Self {
            mask,
            particle_from_tomogram: rotation.inverse().matrix(),
            corner: [z, y, x].map(|c| c.round().clamp(-FAR_AWAY, FAR_AWAY) as i64 - centre_voxel),
        }
    }

    /// The coordinates on an axis between which all its voxels lie.
    pub(crate) fn extent(&self, axis: usize) -> RangeInclusive<i64> {
        let centre = self.mask.side as f64 / 2.0;
        // Linear interpolation reaches one voxel further than the mask itself, √3 along a diagonal.
        let reach = self.mask.radius + 2.0;
        let first = (centre - reach).floor().max(0.0) as i64;
        let last = ((centre + reach).ceil() as i64).min(self.mask.side as i64 - 1);
        self.corner[axis] + first..=self.corner[axis] + last
    }

    /// Whether rotation and cut leave anything of it: a shape thinner than a voxel may vanish.
    pub(crate) fn has_voxels(&self) -> bool {
        let [planes, rows, columns] = [0, 1, 2].map(|axis| self.extent(axis));
        let middle = self.corner[0] + (self.mask.side / 2) as i64;
        // From the middle, where shapes tend to be.
        let mut nearest: Vec<i64> = planes.collect();
        nearest.sort_by_key(|plane| plane.abs_diff(middle));
        nearest.into_iter().any(|z| {
            rows.clone().any(|y| {
                let mut found = false;
                self.row(z, y, columns.clone(), |_| found = true);
                found
            })
        })
    }

    /// Calls `paint` with the x of every voxel of the row `(z, y)` among `columns`.
    pub(crate) fn row(&self, z: i64, y: i64, columns: RangeInclusive<i64>, mut paint: impl FnMut(i64)) {
        let centre = self.mask.side as f64 / 2.0;
        let [dz, dy] = [(z, 0), (y, 1)].map(|(i, axis)| (i - self.corner[axis]) as f64 - centre);
        let chord = (self.mask.radius + 2.0).powi(2) - dz * dz - dy * dy;
        if chord < 0.0 {
            return;
        }
        let reach = chord.sqrt();
        let first = self.corner[2] + (centre - reach).floor() as i64;
        let last = self.corner[2] + (centre + reach).ceil() as i64;
        for x in first.max(*columns.start())..=last.min(*columns.end()) {
            let dx = (x - self.corner[2]) as f64 - centre;
            let [px, py, pz] = self
                .particle_from_tomogram
                .map(|[rx, ry, rz]| rx * dx + ry * dy + rz * dz + centre);
            if self.mask.sample([pz, py, px]) >= 0.5 {
                paint(x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_linear_and_zero_around() {
        let mut voxels = Array3::zeros((2, 2, 2));
        voxels[[0, 1, 1]] = 7;
        let mask = Mask::new(&Volume::new(voxels));
        for (point, expected) in [
            ([0.0, 1.0, 1.0], 1.0),
            ([0.25, 1.0, 1.0], 0.75),
            ([0.25, 0.5, 1.0], 0.375),
            ([-0.5, 1.0, 1.0], 0.5),
            ([0.0, 1.25, 1.5], 0.375),
            ([0.0, 2.0, 1.0], 0.0),
            ([0.0, -1.5, 1.0], 0.0),
            ([f64::NAN, 1.0, 1.0], 0.0),
        ] {
            assert_eq!(mask.sample(point), expected, "{point:?}");
        }
    }

    #[test]
    fn full_cubes_may_be_cut_and_small_shapes_not() {
        let cube = |from: usize, to: usize| {
            let inside = from..to;
            Mask::new(&Volume::new(Array3::from_shape_fn((10, 10, 10), |(z, y, x)| {
                u8::from([z, y, x].iter().all(|i| inside.contains(i)))
            })))
        };
        assert!(cube(0, 10).may_leave_its_cube());
        assert!(!cube(4, 7).may_leave_its_cube());
    }
}
