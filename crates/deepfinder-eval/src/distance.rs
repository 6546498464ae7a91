use deepfinder_core::{Label, Region, VolumeReader};
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

use crate::Result;

/// Voxels read at a time.
const SLAB_VOXELS: usize = 1 << 23;

/// How far each position `(x, y, z)` lies from the nearest voxel of some labels (a membrane, say), in voxels: 0 in such a
/// voxel, else to its centre. `None` where the label map has no such voxel.
///
/// The label map is read a few planes at a time, and is never whole in memory.
///
/// # Errors
/// Where reading fails.
pub fn distances_to_labels(
    labels: &dyn VolumeReader<Label>,
    is_meant: impl Fn(Label) -> bool + Sync,
    positions: &[[f64; 3]],
) -> Result<Option<Vec<f64>>> {
    let [depth, height, width] = labels.shape();
    let planes = (SLAB_VOXELS / (height * width).max(1)).max(1);
    let mut squared = vec![f64::INFINITY; positions.len()];
    let mut is_there = false;
    for first in (0..depth).step_by(planes) {
        let region = Region::new([first, 0, 0], [planes.min(depth - first), height, width]);
        let slab = labels.read_window(region)?.mapv(&is_meant);
        let surface = surface(&slab.view(), first);
        if surface.is_empty() {
            continue;
        }
        is_there = true;
        let last = first + slab.dim().0 - 1;
        squared
            .par_iter_mut()
            .zip(positions)
            .for_each(|(nearest, position)| {
                let away = (first as f64 - position[2])
                    .max(position[2] - last as f64)
                    .max(0.0);
                if away * away >= *nearest {
                    return;
                }
                *nearest = if is_inside(&slab, first, *position) {
                    0.0
                } else {
                    surface.iter().fold(*nearest, |nearest, voxel| {
                        let squares = (0..3).map(|axis| (f64::from(voxel[axis]) - position[axis]).powi(2));
                        nearest.min(squares.sum())
                    })
                };
            });
    }
    Ok(is_there.then(|| squared.into_iter().map(f64::sqrt).collect()))
}

fn is_inside(slab: &Array3<bool>, first: usize, [x, y, z]: [f64; 3]) -> bool {
    let place = [z - first as f64, y, x].map(f64::round);
    place.iter().all(|coordinate| *coordinate >= 0.0)
        && slab.get(place.map(|coordinate| coordinate as usize)) == Some(&true)
}

/// The voxels `(x, y, z)` of a slab that have a face which is not meant, or lie at the slab's border: of all voxels
/// one of these is nearest to a position outside them.
fn surface(slab: &ArrayView3<'_, bool>, first: usize) -> Vec<[f32; 3]> {
    let (planes, height, width) = slab.dim();
    let rows: Vec<[f32; 3]> = (0..planes * height)
        .into_par_iter()
        .flat_map_iter(|row| {
            let (z, y) = (row / height, row % height);
            (0..width).filter_map(move |x| {
                let has = |z: usize, y: usize, x: usize| slab.get([z, y, x]) == Some(&true);
                let is_buried = || {
                    has(z.wrapping_sub(1), y, x)
                        && has(z + 1, y, x)
                        && has(z, y.wrapping_sub(1), x)
                        && has(z, y + 1, x)
                        && has(z, y, x.wrapping_sub(1))
                        && has(z, y, x + 1)
                };
                (slab[[z, y, x]] && !is_buried()).then_some([x as f32, y as f32, (first + z) as f32])
            })
        })
        .collect();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::Volume;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_nearest_voxel_decides(
            shape in prop::array::uniform3(1..9_usize),
            seeds in prop::collection::vec(0..729_usize, 0..60),
            positions in prop::collection::vec(prop::array::uniform3(-3.0..12.0_f64), 1..6),
        ) {
            let mut labels = Array3::zeros(shape);
            let voxels = labels.len();
            for seed in seeds {
                let voxel = seed % voxels;
                labels[[voxel / (shape[1] * shape[2]), voxel / shape[2] % shape[1], voxel % shape[2]]] = 2;
            }
            let found = distances_to_labels(&Volume::new(labels.clone()), |label| label == 2, &positions).unwrap();
            let meant: Vec<[f64; 3]> = labels
                .indexed_iter()
                .filter(|(_, label)| **label == 2)
                .map(|((z, y, x), _)| [x as f64, y as f64, z as f64])
                .collect();
            prop_assert_eq!(found.is_some(), !meant.is_empty());
            for (position, found) in positions.iter().zip(found.unwrap_or_default()) {
                let inside = meant.contains(&position.map(f64::round));
                let nearest = meant.iter().map(|voxel| {
                    (0..3).map(|axis| (voxel[axis] - position[axis]).powi(2)).sum::<f64>().sqrt()
                });
                let expected = if inside { 0.0 } else { nearest.fold(f64::INFINITY, f64::min) };
                prop_assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn slabs_change_nothing() {
        // More voxels than are read at a time: a sheet in the last plane.
        struct Sheet;
        impl VolumeReader<Label> for Sheet {
            fn shape(&self) -> [usize; 3] {
                [5, 2000, 1500]
            }
            fn voxel_size(&self) -> Option<deepfinder_core::VoxelSize> {
                None
            }
            fn read_window(&self, region: Region) -> deepfinder_core::Result<Array3<Label>> {
                let last = region.end()[0] == 5;
                let mut window = Array3::zeros(region.shape);
                if last {
                    window
                        .index_axis_mut(ndarray::Axis(0), region.shape[0] - 1)
                        .fill(1);
                }
                Ok(window)
            }
        }
        let positions = [[700.0, 900.0, 1.0], [3.0, 5.0, 4.2], [-3.0, 0.0, 0.0]];
        let found = distances_to_labels(&Sheet, |label| label == 1, &positions)
            .unwrap()
            .unwrap();
        assert_eq!(found, [3.0, 0.0, 5.0]);
        assert_eq!(
            distances_to_labels(&Sheet, |label| label == 9, &positions).unwrap(),
            None
        );
    }
}
