use deepfinder_core::{Moments, Progress, Region, Rotation, Volume, VolumeReader, VolumeWriter, VoxelSize};
use deepfinder_density::Fft3;
use ndarray::{Array3, s};
use rayon::prelude::*;

use crate::correlate::{Best, Sums, Tile, Worker};
use crate::template::Template;
use crate::tiling::Axis;
use crate::{MatchError, MatchParams, MatchReport, Result};

/// Relative difference of voxel sizes up to which a template fits a tomogram: what headers round away.
const VOXEL_SIZE_TOLERANCE: f32 = 0.02;

/// The rotations are numbered in an f32, which counts so far without a gap.
const MOST_ROTATIONS: usize = 1 << 24;

/// Correlates a template in all rotations with a tomogram.
///
/// `scores` takes the best correlation coefficient of each voxel, `best_rotations` the number (from 0) of the rotation
/// that gave it, both slab after slab. The template's centre is at `side / 2` on every axis, and it must have the
/// tomogram's contrast: dark where particles are dark. Outside, the tomogram is taken to be its mean; where it is flat
/// under the mask the score is 0.
///
/// # Errors
/// As [`MatchParams::check`]; [`MatchError::Template`], [`MatchError::VoxelSize`], [`MatchError::UnknownVoxelSize`],
/// [`MatchError::Rotations`], [`MatchError::Tomogram`] where it is constant or not finite; where reading or writing
/// fails; `Cancelled`.
pub fn match_template(
    tomogram: &dyn VolumeReader<f32>,
    template: &Volume<f32>,
    rotations: &[Rotation],
    params: &MatchParams,
    scores: &mut dyn VolumeWriter<f32>,
    best_rotations: &mut dyn VolumeWriter<f32>,
    progress: &dyn Progress,
) -> Result<MatchReport> {
    params.check()?;
    if !(1..=MOST_ROTATIONS).contains(&rotations.len()) {
        return Err(MatchError::Rotations {
            found: rotations.len(),
        });
    }
    let voxel_size = common_voxel_size(template.voxel_size, tomogram.voxel_size())?;
    let angstrom = match voxel_size {
        None if params.needs_voxel_size() => return Err(MatchError::UnknownVoxelSize),
        None => 1.0,
        Some(size) => f64::from(size.angstrom()),
    };
    let template = Template::new(template, angstrom, params)?;
    check_rotations(&template, rotations[0])?;
    let moments = Moments::of_volume(tomogram)?;
    check_tomogram(&moments)?;

    let side = template.side();
    let [depth, height, width] = tomogram.shape();
    let axes = [depth, height, width].map(|length| Axis::new(length, side, params.tile_voxels));
    let search = Search {
        tomogram,
        fft: Fft3::new(axes.map(|axis| axis.transform)),
        template,
        rotations,
        moments,
    };
    let tiles: usize = axes.iter().map(|axis| axis.starts().count()).product();
    progress.begin("matching", (tiles * rotations.len()) as u64, "rotations");
    let mut sums = Sums::default();
    for z in axes[0].starts() {
        let planes = axes[0].tile_at(z);
        let mut slab_scores = Array3::zeros((planes, height, width));
        let mut slab_rotations = Array3::zeros((planes, height, width));
        for y in axes[1].starts() {
            for x in axes[2].starts() {
                let shape = [planes, axes[1].tile_at(y), axes[2].tile_at(x)];
                let (best, of_tile) = search.tile(Region::new([z, y, x], shape), progress)?;
                sums.add(of_tile);
                let place = s![.., y..y + shape[1], x..x + shape[2]];
                // Where nothing was compared there is no score.
                slab_scores.slice_mut(place).assign(
                    &best
                        .scores
                        .mapv(|score| if score.is_finite() { score } else { 0.0 }),
                );
                slab_rotations.slice_mut(place).assign(
                    &best
                        .rotations
                        .mapv(|number| if number == u32::MAX { 0.0 } else { number as f32 }),
                );
            }
        }
        scores.write_slab(slab_scores.view())?;
        best_rotations.write_slab(slab_rotations.view())?;
    }
    progress.end();
    Ok(MatchReport::new(
        rotations.len(),
        search.template.side(),
        tiles,
        sums,
    ))
}

/// What all tiles share.
struct Search<'a> {
    tomogram: &'a dyn VolumeReader<f32>,
    fft: Fft3,
    template: Template,
    rotations: &'a [Rotation],
    moments: Moments,
}

impl Search<'_> {
    /// The best of all rotations in a region of the tomogram. Each thread takes every n-th rotation, n being their number:
    /// what comes out does not depend on it.
    fn tile(&self, region: Region, progress: &dyn Progress) -> Result<(Best, Sums)> {
        let tile = Tile::new(&self.fft, &self.template, &self.voxels(region)?, region.shape)?;
        let threads = rayon::current_num_threads().clamp(1, self.rotations.len());
        let done: Vec<(Best, Vec<Sums>)> = (0..threads)
            .into_par_iter()
            .map(|first| {
                let mut worker = Worker::new(&self.fft, &self.template, tile.shape());
                let mut sums = Vec::new();
                for (number, rotation) in self.rotations.iter().enumerate().skip(first).step_by(threads) {
                    progress.check()?;
                    sums.push(worker.score(&tile, number as u32, *rotation)?);
                    progress.advance(1);
                }
                Ok((worker.best, sums))
            })
            .collect::<Result<_>>()?;
        let mut total = Sums::default();
        for number in 0..self.rotations.len() {
            total.add(done[number % threads].1[number / threads]);
        }
        let mut done = done.into_iter();
        let mut best = done
            .next()
            .map_or_else(|| Best::new(region.shape), |(best, _)| best);
        done.for_each(|(other, _)| best.merge(&other));
        Ok((best, total))
    }

    /// The voxels of a region and half a box around it, with mean 0 and spread 1; 0 outside the tomogram.
    fn voxels(&self, region: Region) -> Result<Array3<f32>> {
        let reach = self.template.side() / 2;
        let volume = self.tomogram.shape();
        let start = region.start.map(|first| first.saturating_sub(reach));
        let end: [usize; 3] = std::array::from_fn(|axis| (region.end()[axis] + reach).min(volume[axis]));
        let shape = std::array::from_fn(|axis| end[axis] - start[axis]);
        let window = self.tomogram.read_window(Region::new(start, shape))?;
        let (mean, deviation) = (self.moments.mean, self.moments.standard_deviation());
        let mut voxels = Array3::zeros(region.shape.map(|side| side + 2 * reach));
        // Voxel `first − reach` of the tomogram is the first of the box.
        let [z, y, x] = std::array::from_fn(|axis| start[axis] + reach - region.start[axis]);
        let [dz, dy, dx] = shape;
        voxels
            .slice_mut(s![z..z + dz, y..y + dy, x..x + dx])
            .assign(&window.mapv(|voxel| ((f64::from(voxel) - mean) / deviation) as f32));
        Ok(voxels)
    }
}

fn common_voxel_size(template: Option<VoxelSize>, tomogram: Option<VoxelSize>) -> Result<Option<VoxelSize>> {
    if let (Some(template), Some(tomogram)) = (template, tomogram)
        && !template.agrees_with(tomogram, VOXEL_SIZE_TOLERANCE)
    {
        return Err(MatchError::VoxelSize { template, tomogram });
    }
    Ok(tomogram.or(template))
}

/// Found before the long work: a template of which its mask shows nothing.
fn check_rotations(template: &Template, first: Rotation) -> Result<()> {
    let mut prepared = Array3::zeros([template.side(); 3]);
    if template.prepare(first, &mut template.workspace(), &mut prepared)? {
        Ok(())
    } else {
        Err(MatchError::Template {
            what: "is the same everywhere under its mask",
        })
    }
}

fn check_tomogram(moments: &Moments) -> Result<()> {
    let what = if moments.non_finite > 0 {
        format!(
            "holds {} voxels that are NaN or infinite: mend them first",
            moments.non_finite
        )
    } else if moments.is_constant() {
        "is the same everywhere: there is nothing to find".to_owned()
    } else {
        return Ok(());
    };
    Err(MatchError::Tomogram { what })
}
