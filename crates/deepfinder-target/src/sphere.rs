use std::ops::RangeInclusive;

/// All voxels whose centre is at most `radius` from `centre`.
///
/// Coordinates are `[z, y, x]` here, as in the volume it is drawn into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sphere {
    centre: [f64; 3],
    radius: f64,
}

impl Sphere {
    pub(crate) fn new([x, y, z]: [f64; 3], radius: f64) -> Self {
        Self {
            centre: [z, y, x],
            radius,
        }
    }

    /// The coordinates on an axis between which all its voxels lie.
    pub(crate) fn extent(&self, axis: usize) -> RangeInclusive<i64> {
        // Rounded outwards, so that the distance alone decides; casts saturate, so that a sphere far away stays there.
        let first = (self.centre[axis] - self.radius).floor() as i64;
        let last = (self.centre[axis] + self.radius).ceil() as i64;
        first..=last
    }

    /// Calls `paint` with the x of every voxel of the row `(z, y)` among `columns`.
    pub(crate) fn row(&self, z: i64, y: i64, columns: RangeInclusive<i64>, mut paint: impl FnMut(i64)) {
        let beside = (z as f64 - self.centre[0]).powi(2) + (y as f64 - self.centre[1]).powi(2);
        let limit = self.radius * self.radius;
        for x in columns {
            if beside + (x as f64 - self.centre[2]).powi(2) <= limit {
                paint(x);
            }
        }
    }

    /// Whether it has voxels inside and outside a volume of that shape.
    ///
    /// A ball has a voxel in a box or half space of the lattice if and only if it has the one nearest to its
    /// centre, and that one is found axis by axis.
    pub(crate) fn reach(&self, shape: [usize; 3]) -> (bool, bool) {
        let nearest = self.centre.map(f64::round);
        if shape.contains(&0) {
            return (false, self.has(nearest));
        }
        let last = shape.map(|side| side as f64 - 1.0);
        let inside = self.has(std::array::from_fn(|axis| nearest[axis].clamp(0.0, last[axis])));
        let outside = (0..3).any(|axis| {
            let beyond = |coordinate| {
                let mut voxel = nearest;
                voxel[axis] = coordinate;
                self.has(voxel)
            };
            beyond(nearest[axis].min(-1.0)) || beyond(nearest[axis].max(last[axis] + 1.0))
        });
        (inside, outside)
    }

    fn has(&self, [z, y, x]: [f64; 3]) -> bool {
        let [cz, cy, cx] = self.centre;
        (z - cz).powi(2) + (y - cy).powi(2) + (x - cx).powi(2) <= self.radius * self.radius
    }
}
