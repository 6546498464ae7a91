use std::collections::HashMap;

/// Points in the cells of a cubic grid, to which more may be added: finds those within a fixed reach of a place.
#[derive(Debug)]
pub(crate) struct PointGrid {
    reach: f64,
    cells: HashMap<[i64; 3], Vec<([f64; 3], usize)>>,
}

impl PointGrid {
    pub(crate) fn new(reach: f64) -> Self {
        Self {
            reach,
            cells: HashMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, point: [f64; 3], item: usize) {
        self.cells
            .entry(self.cell(point))
            .or_default()
            .push((point, item));
    }

    /// Whether a point within the reach, the surface included, satisfies `wanted(item, squared distance)`.
    pub(crate) fn any_within(&self, place: [f64; 3], mut wanted: impl FnMut(usize, f64) -> bool) -> bool {
        let [a, b, c] = self.cell(place);
        let neighbours =
            (-1..=1).flat_map(|i| (-1..=1).flat_map(move |j| (-1..=1).map(move |k| [a + i, b + j, c + k])));
        neighbours
            .filter_map(|cell| self.cells.get(&cell))
            .flatten()
            .any(|&(point, item)| {
                let squared = squared_distance(place, point);
                squared <= self.reach * self.reach && wanted(item, squared)
            })
    }

    fn cell(&self, point: [f64; 3]) -> [i64; 3] {
        point.map(|coordinate| (coordinate / self.reach).floor() as i64)
    }
}

pub(crate) fn squared_distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    let [p, q, r] = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    p * p + q * q + r * r
}
