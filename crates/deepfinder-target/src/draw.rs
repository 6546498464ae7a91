use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use deepfinder_core::{
    Label, LabelMap, ParticleList, Progress, Rotation, Volume, VolumeWriter, count_labels,
};
use ndarray::{Array3, ArrayViewMut3, Axis, s};
use rayon::prelude::*;

use crate::mask::{Mask, Stamp};
use crate::sphere::Sphere;
use crate::{ParticleShape, Result, SphereCentre, TargetError, TargetParams};

/// Planes that a thread draws at a time: many slabs, so that no core waits for a crowded one, and small ones, so that
/// what was drawn is counted while it is in the core's cache.
const SLAB_PLANES: usize = 2;

/// Planes that are drawn, counted and written in one go by [`write_target`].
const WRITTEN_PLANES: usize = 16;

/// What became of the particles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TargetReport {
    /// Number of particles with at least one voxel in the tomogram (another may lie on top of it).
    pub drawn: usize,
    /// Indices of particles that lie wholly outside the tomogram, ascending.
    pub outside: Vec<usize>,
    /// Indices of particles that lost voxels beyond the tomogram's border, ascending.
    pub partly_outside: Vec<usize>,
    /// Indices of particles without a single voxel, ascending: spheres that slip between voxel centres.
    pub empty: Vec<usize>,
    /// Classes whose mask comes so near to the faces of its cube that a rotation may have cut it.
    pub tight_masks: Vec<Label>,
}

/// Draws particles into a label map of that shape, `(z, y, x)`.
///
/// It begins as `initial`, or as background; particles follow in the order of `params`, each over what was
/// there. Voxels outside are dropped. A particle without a rotation is drawn unrotated. The voxel size is
/// that of `initial` or, without one, of the list.
///
/// # Errors
/// As [`TargetParams::check`]; [`TargetError::NoShape`] naming the classes of particles that have no shape;
/// [`TargetError::Position`], [`TargetError::InitialShape`], [`TargetError::VoxelSize`],
/// [`TargetError::TooLarge`]; `Cancelled`.
pub fn draw_target(
    shape: [usize; 3],
    particles: &ParticleList,
    params: &TargetParams,
    initial: Option<&LabelMap>,
    progress: &dyn Progress,
) -> Result<(LabelMap, TargetReport)> {
    let masks = check(particles, params)?;
    let mut target = background(shape, particles, initial)?;
    let figures = figures(particles, params, &masks);
    progress.begin("drawing the target", shape[0] as u64, "planes");
    let drawn: Result<()> = target
        .voxels
        .axis_chunks_iter_mut(Axis(0), SLAB_PLANES)
        .into_par_iter()
        .enumerate()
        .try_for_each(|(i, slab)| {
            progress.check()?;
            let planes = slab.len_of(Axis(0)) as u64;
            draw_slab(slab, i * SLAB_PLANES, &figures);
            progress.advance(planes);
            Ok(())
        });
    progress.end();
    drawn?;
    Ok((target, report(shape, particles, params, &masks)))
}

/// Draws particles as [`draw_target`] does, and writes the label map as it is drawn: it is never whole in memory, and
/// some planes are drawn while those before them are written. Gives the number of voxels of each label too.
///
/// # Errors
/// As [`draw_target`], and where writing fails.
pub fn write_target(
    shape: [usize; 3],
    particles: &ParticleList,
    params: &TargetParams,
    initial: Option<&LabelMap>,
    target: &mut dyn VolumeWriter<Label>,
    progress: &dyn Progress,
) -> Result<(TargetReport, [u64; 256])> {
    let masks = check(particles, params)?;
    check_initial(shape, particles, initial)?;
    let figures = figures(particles, params, &masks);
    let [depth, height, width] = shape;
    let mut buffers = [(); 2].map(|()| Array3::zeros((WRITTEN_PLANES.min(depth), height, width)));
    let [ready, next] = &mut buffers;
    let (mut ready, mut next) = (ready, next);
    let mut ready_planes = 0;
    let mut counts = [0; 256];
    progress.begin("drawing the target", depth as u64, "planes");
    for first in (0..depth).step_by(WRITTEN_PLANES) {
        let planes = WRITTEN_PLANES.min(depth - first);
        let (drawn, written) = rayon::join(
            || {
                draw_planes(
                    &mut next.slice_mut(s![..planes, .., ..]),
                    first,
                    &figures,
                    initial,
                    progress,
                )
            },
            || match ready_planes {
                0 => Ok(()),
                planes => target.write_slab(ready.slice(s![..planes, .., ..])),
            },
        );
        written?;
        add(&mut counts, &drawn?);
        std::mem::swap(&mut ready, &mut next);
        ready_planes = planes;
        progress.advance(planes as u64);
    }
    target.write_slab(ready.slice(s![..ready_planes, .., ..]))?;
    progress.end();
    Ok((report(shape, particles, params, &masks), counts))
}

/// Draws planes of a target from the beginning, and counts their labels.
fn draw_planes(
    planes: &mut ArrayViewMut3<'_, Label>,
    first_plane: usize,
    figures: &[(Label, Figure<'_>)],
    initial: Option<&LabelMap>,
    progress: &dyn Progress,
) -> Result<[u64; 256]> {
    let slabs = planes.axis_chunks_iter_mut(Axis(0), SLAB_PLANES).into_par_iter();
    slabs
        .enumerate()
        .map(|(i, mut slab)| {
            progress.check()?;
            let first = first_plane + i * SLAB_PLANES;
            match initial {
                None => slab.fill(0),
                Some(initial) => {
                    let end = first + slab.len_of(Axis(0));
                    slab.assign(&initial.voxels.slice(s![first..end, .., ..]));
                }
            }
            draw_slab(slab.view_mut(), first, figures);
            Ok(count_labels(slab.as_slice().unwrap_or_default()))
        })
        .try_reduce(
            || [0; 256],
            |mut all, slab| {
                add(&mut all, &slab);
                Ok(all)
            },
        )
}

fn add(all: &mut [u64; 256], some: &[u64; 256]) {
    all.iter_mut().zip(some).for_each(|(all, some)| *all += some);
}

/// Looks whether everything can be drawn, and makes the masks ready.
fn check(particles: &ParticleList, params: &TargetParams) -> Result<BTreeMap<Label, Mask>> {
    params.check()?;
    params.check_particles(particles)?;
    let masks = params.shapes.iter().filter_map(|(&label, shape)| match shape {
        ParticleShape::Mask(mask) => Some((label, Mask::new(mask))),
        ParticleShape::Sphere { .. } => None,
    });
    Ok(masks.collect())
}

/// The particles in the order in which they are drawn.
fn figures<'a>(
    particles: &ParticleList,
    params: &TargetParams,
    masks: &'a BTreeMap<Label, Mask>,
) -> Vec<(Label, Figure<'a>)> {
    params
        .drawing_order(particles)
        .into_iter()
        .filter_map(|index| figure(particles, index, params, masks))
        .collect()
}

/// Looks whether an initial label map fits, and the target into memory where there is none.
fn check_initial(shape: [usize; 3], particles: &ParticleList, initial: Option<&LabelMap>) -> Result<()> {
    let Some(initial) = initial else {
        return shape
            .iter()
            .try_fold(1_usize, |voxels, &side| voxels.checked_mul(side.max(1)))
            .filter(|&voxels| isize::try_from(voxels).is_ok())
            .map(|_| ())
            .ok_or(TargetError::TooLarge { shape });
    };
    if initial.shape() != shape {
        return Err(TargetError::InitialShape {
            expected: shape,
            found: initial.shape(),
        });
    }
    match (initial.voxel_size, particles.voxel_size) {
        (Some(initial), Some(particles)) if !initial.agrees_with(particles, 0.01) => {
            Err(TargetError::VoxelSize { initial, particles })
        }
        _ => Ok(()),
    }
}

/// What the target is before any particle is drawn.
fn background(shape: [usize; 3], particles: &ParticleList, initial: Option<&LabelMap>) -> Result<LabelMap> {
    check_initial(shape, particles, initial)?;
    let Some(initial) = initial else {
        return Ok(Volume::new(Array3::zeros(shape)).with_voxel_size(particles.voxel_size));
    };
    // A copy in C order, whatever the layout of the initial map.
    let voxels = initial.voxels.as_standard_layout().into_owned();
    Ok(initial
        .like(voxels)
        .with_voxel_size(initial.voxel_size.or(particles.voxel_size)))
}

/// A particle's shape in its place.
#[derive(Debug, Clone, Copy)]
enum Figure<'a> {
    Sphere(Sphere),
    Stamp(Stamp<'a>),
}

fn figure<'a>(
    particles: &ParticleList,
    index: usize,
    params: &TargetParams,
    masks: &'a BTreeMap<Label, Mask>,
) -> Option<(Label, Figure<'a>)> {
    let particle = particles.get(index)?;
    let figure = match params.shapes.get(&particle.label)? {
        &ParticleShape::Sphere { radius_voxels } => {
            let centre = match params.centre {
                SphereCentre::SubVoxel => particle.position,
                SphereCentre::Truncated => particle.position.map(f64::trunc),
            };
            Figure::Sphere(Sphere::new(centre, radius_voxels))
        }
        ParticleShape::Mask(_) => {
            let rotation = particle.rotation.unwrap_or(Rotation::IDENTITY);
            Figure::Stamp(Stamp::new(
                masks.get(&particle.label)?,
                particle.position,
                rotation,
            ))
        }
    };
    Some((particle.label, figure))
}

impl Figure<'_> {
    fn extent(&self, axis: usize) -> RangeInclusive<i64> {
        match self {
            Self::Sphere(sphere) => sphere.extent(axis),
            Self::Stamp(stamp) => stamp.extent(axis),
        }
    }

    fn row(&self, z: i64, y: i64, columns: RangeInclusive<i64>, paint: impl FnMut(i64)) {
        match self {
            Self::Sphere(sphere) => sphere.row(z, y, columns, paint),
            Self::Stamp(stamp) => stamp.row(z, y, columns, paint),
        }
    }

    /// Whether it has voxels inside and outside a volume of that shape.
    fn reach(&self, shape: [usize; 3]) -> (bool, bool) {
        let stamp = match self {
            Self::Sphere(sphere) => return sphere.reach(shape),
            Self::Stamp(stamp) => stamp,
        };
        let last = shape.map(|side| side as i64 - 1);
        let extents: [_; 3] = std::array::from_fn(|axis| stamp.extent(axis));
        if (0..3).any(|axis| *extents[axis].end() < 0 || *extents[axis].start() > last[axis]) {
            return (false, stamp.has_voxels());
        }
        let (mut inside, mut outside) = (false, false);
        for z in extents[0].clone() {
            for y in extents[1].clone() {
                let beside = (0..=last[0]).contains(&z) && (0..=last[1]).contains(&y);
                stamp.row(z, y, extents[2].clone(), |x| {
                    let here = beside && (0..=last[2]).contains(&x);
                    inside |= here;
                    outside |= !here;
                });
            }
        }
        (inside, outside)
    }
}

/// Draws all figures, in their order, as far as they lie in these planes.
fn draw_slab(mut slab: ArrayViewMut3<'_, Label>, first_plane: usize, figures: &[(Label, Figure<'_>)]) {
    let (planes, height, width) = slab.dim();
    let within = |extent: RangeInclusive<i64>, first: usize, length: usize| {
        let last = (first + length) as i64 - 1;
        (*extent.start()).max(first as i64)..=(*extent.end()).min(last)
    };
    for (label, figure) in figures {
        let rows = within(figure.extent(1), 0, height);
        let columns = within(figure.extent(2), 0, width);
        for z in within(figure.extent(0), first_plane, planes) {
            for y in rows.clone() {
                let mut row = slab.slice_mut(s![z as usize - first_plane, y as usize, ..]);
                figure.row(z, y, columns.clone(), |x| row[x as usize] = *label);
            }
        }
    }
}

fn report(
    shape: [usize; 3],
    particles: &ParticleList,
    params: &TargetParams,
    masks: &BTreeMap<Label, Mask>,
) -> TargetReport {
    let reaches: Vec<(bool, bool)> = (0..particles.len())
        .into_par_iter()
        .map(|index| {
            let Some((_, figure)) = figure(particles, index, params, masks) else {
                return (false, false);
            };
            let well_inside = (0..3).all(|axis| {
                let extent = figure.extent(axis);
                *extent.start() >= 0 && *extent.end() < shape[axis] as i64
            });
            match figure {
                // A stamp well inside loses nothing, and its first voxel is soon found.
                Figure::Stamp(stamp) if well_inside => (stamp.has_voxels(), false),
                _ => figure.reach(shape),
            }
        })
        .collect();
    let used = particles.count_by_label();
    let tight_masks = masks
        .iter()
        .filter(|(label, mask)| used.contains_key(label) && mask.may_leave_its_cube())
        .map(|(&label, _)| label);
    let mut report = TargetReport {
        tight_masks: tight_masks.collect(),
        ..TargetReport::default()
    };
    for (index, reach) in reaches.into_iter().enumerate() {
        match reach {
            (true, partly) => {
                report.drawn += 1;
                if partly {
                    report.partly_outside.push(index);
                }
            }
            (false, true) => report.outside.push(index),
            (false, false) => report.empty.push(index),
        }
    }
    report
}
