use std::collections::BTreeMap;

use deepfinder_core::{
    Class, ClassTable, Label, LabelMap, Moments, ParticleList, Progress, Rotation, Volume, VoxelSize,
};
use ndarray::{Array3, Axis, Zip};
use rayon::prelude::*;

use crate::distractors::Distractors;
use crate::filter::{self, Filter};
use crate::noise::{self, PLACEMENT_STREAM};
use crate::phantom::{self, Figure, Phantom};
use crate::place::{self, Placement};
use crate::template::{Pose, Sampler};
use crate::{Contrast, Noise, Result, SimError, SimParams, Template};

/// A simulated tomogram and the truth about it; volumes are `(z, y, x)` and of one shape.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Simulation {
    /// What the microscope shows: the templates' density (kDa a voxel, say), filtered, with noise.
    pub tomogram: Volume<f32>,
    /// Label of each voxel, before any filter.
    pub labels: LabelMap,
    /// Number of the particle that a voxel belongs to: 1 for the first of the list, 0 for none.
    pub particle_ids: Volume<u16>,
    /// The particles with their rotations and the number of voxels that they have in the label map.
    pub particles: ParticleList,
    /// The templates' names by label, with the radius of the ball that has as many voxels as the mask.
    pub classes: ClassTable,
    /// Particles of each class that found no room; empty where all were placed.
    pub shortfall: BTreeMap<Label, usize>,
}

/// Simulates a tomogram with randomly placed particles.
///
/// Each class gets `particles_per_class` particles in uniformly random places and orientations. The masks of two
/// particles don't overlap and keep the gap; all of a mask lies inside the volume. Where attempts run out, fewer
/// are placed, and [`Simulation::shortfall`] says so. The list goes from classes with large masks to small ones.
///
/// # Errors
/// As [`SimParams::check`]; [`SimError::TemplateCount`], [`SimError::Template`], [`SimError::VoxelSize`],
/// [`SimError::UnknownVoxelSize`], [`SimError::TooManyParticles`], [`SimError::NoRoom`], [`SimError::NoSignal`];
/// `Cancelled`.
pub fn simulate(templates: &[Template], params: &SimParams, progress: &dyn Progress) -> Result<Simulation> {
    let scene = Scene::new(templates, params)?;
    let placement = scene.place_at_random(params, progress)?;
    scene.finish(placement, params, progress)
}

/// Simulates a tomogram with these particles in these places.
///
/// Particle labels count the templates from 1; a particle without a rotation is not rotated. Nothing keeps
/// particles from overlapping or from lying outside: densities add up, the labels of later ones lie on top, and
/// what is outside is lost. `particles_per_class`, `crowders`, `membranes`, `gold_beads`, `gap_voxels` and `attempts` are
/// not used.
///
/// # Errors
/// As [`simulate`], and [`SimError::UnknownClass`], [`SimError::Position`]; never `NoRoom`.
pub fn simulate_particles(
    templates: &[Template],
    particles: &ParticleList,
    params: &SimParams,
    progress: &dyn Progress,
) -> Result<Simulation> {
    let scene = Scene::new(templates, params)?;
    let placement = scene.place_as_told(particles)?;
    scene.finish(placement, params, progress)
}

fn check_number(found: usize) -> Result<()> {
    if found > usize::from(u16::MAX) {
        return Err(SimError::TooManyParticles { found });
    }
    Ok(())
}

/// What all ways of simulating need, checked.
pub(crate) struct Scene {
    samplers: Vec<Sampler>,
    distractors: Distractors,
    pub(crate) classes: ClassTable,
    pub(crate) voxel_size: Option<VoxelSize>,
    filter: Filter,
    /// Largest density of all templates.
    pub(crate) densest: f32,
}

impl Scene {
    pub(crate) fn place_at_random(&self, params: &SimParams, progress: &dyn Progress) -> Result<Placement> {
        check_number(self.samplers.len().saturating_mul(params.particles_per_class))?;
        let mut rng = noise::generator(params.seed, PLACEMENT_STREAM);
        place::place(&self.samplers, &self.distractors, params, &mut rng, progress)
    }

    pub(crate) fn place_as_told(&self, particles: &ParticleList) -> Result<Placement> {
        check_number(particles.len())?;
        let templates = self.samplers.len();
        for (index, particle) in particles.iter().enumerate() {
            let (label, position) = (particle.label, particle.position);
            if label == 0 || usize::from(label) > templates {
                return Err(SimError::UnknownClass {
                    index,
                    label,
                    templates,
                });
            }
            if position.iter().any(|coordinate| !coordinate.is_finite()) {
                return Err(SimError::Position { index, position });
            }
        }
        Ok(Placement {
            particles: particles.particles.clone(),
            distractors: Vec::new(),
            shortfall: BTreeMap::new(),
        })
    }

    /// Everything that is drawn: particles with their numbers, then what has none.
    pub(crate) fn figures(&self, placement: &Placement) -> Vec<Figure<'_>> {
        let numbered = (1..=u16::MAX)
            .zip(&placement.particles)
            .filter_map(|(id, particle)| {
                let sampler = self.samplers.get(usize::from(particle.label).checked_sub(1)?)?;
                let rotation = particle.rotation.unwrap_or(Rotation::IDENTITY);
                let pose = Pose::new(sampler, particle.position, rotation);
                let label = particle.label;
                Some(Figure { pose, label, id })
            });
        let unnumbered = placement
            .distractors
            .iter()
            .map(|&(kind, position, rotation)| Figure {
                pose: Pose::new(&self.distractors.samplers[kind], position, rotation),
                label: 0,
                id: 0,
            });
        numbered.chain(unnumbered).collect()
    }

    pub(crate) fn new(templates: &[Template], params: &SimParams) -> Result<Self> {
        params.check()?;
        let found = templates.len();
        let last = Label::try_from(found).map_err(|_| SimError::TemplateCount { found })?;
        if last == 0 {
            return Err(SimError::TemplateCount { found });
        }
        let sampler =
            |template: &Template| Sampler::new(template, params.interpolation, params.mask_fraction);
        let samplers: Vec<Sampler> = templates.iter().map(sampler).collect::<Result<_>>()?;
        let classes = (1..=last)
            .zip(templates.iter().zip(&samplers))
            .map(|(label, (template, sampler))| Class {
                label,
                name: template.name.clone(),
                radius_voxels: Some((3.0 * sampler.mask.len() as f32 / (4.0 * std::f32::consts::PI)).cbrt()),
            });
        let classes = ClassTable::new(classes.collect())?;
        let densest = samplers
            .iter()
            .fold(0.0, |a: f32, sampler| a.max(sampler.maximum));
        let voxel_size = common_voxel_size(templates, params.voxel_size)?;
        let half_frequency = match (params.low_pass_angstrom, voxel_size) {
            (None, _) => None,
            (Some(_), None) => return Err(SimError::UnknownVoxelSize),
            (Some(resolution), Some(size)) => Some(f64::from(size.angstrom()) / resolution),
        };
        let filter = Filter {
            tilt: params.tilt,
            half_frequency,
        };
        let distractors = Distractors::new(params, densest, voxel_size)?;
        Ok(Self {
            samplers,
            distractors,
            classes,
            voxel_size,
            filter,
            densest,
        })
    }

    /// From places to tomogram.
    fn finish(self, placement: Placement, params: &SimParams, progress: &dyn Progress) -> Result<Simulation> {
        let figures = self.figures(&placement);
        let mut phantom = Phantom::empty(params.shape);
        progress.begin("drawing particles", params.shape[0] as u64, "planes");
        let drawn = phantom.draw(0, &figures, sign(params.contrast), progress);
        progress.end();
        drawn?;
        let Phantom { signal, labels, ids } = phantom;
        let mut particles = placement.particles;
        let mut counts = vec![0; particles.len() + 1];
        phantom::count_ids(&ids, &mut counts);
        for (particle, &voxels) in particles.iter_mut().zip(&counts[1..]) {
            particle.size_voxels = Some(voxels);
        }
        let tomogram = image(signal, &self.filter, params, progress)?;
        let volume = |voxels| Volume::new(voxels).with_voxel_size(self.voxel_size);
        Ok(Simulation {
            tomogram: volume(tomogram),
            labels: Volume::new(labels).with_voxel_size(self.voxel_size),
            particle_ids: Volume::new(ids).with_voxel_size(self.voxel_size),
            particles: ParticleList {
                particles,
                voxel_size: self.voxel_size,
            },
            classes: self.classes,
            shortfall: placement.shortfall,
        })
    }
}

/// The one voxel size that templates and parameters agree on.
fn common_voxel_size(templates: &[Template], asked: Option<VoxelSize>) -> Result<Option<VoxelSize>> {
    let mut expected = asked;
    for template in templates {
        match (expected, template.density.voxel_size) {
            (Some(expected), Some(found)) if !expected.agrees_with(found, 0.01) => {
                let name = template.name.clone();
                return Err(SimError::VoxelSize {
                    name,
                    found,
                    expected,
                });
            }
            (known, found) => expected = known.or(found),
        }
    }
    Ok(expected)
}

/// How densities count in the specimen.
pub(crate) fn sign(contrast: Contrast) -> f32 {
    match contrast {
        Contrast::Dark => -1.0,
        Contrast::Light => 1.0,
    }
}

/// What the microscope makes of the specimen: filters and noise.
fn image(
    signal: Array3<f32>,
    filter: &Filter,
    params: &SimParams,
    progress: &dyn Progress,
) -> Result<Array3<f32>> {
    let shape @ [depth, height, width] = params.shape;
    let filtered = |what: &str, fill: filter::FillRow<'_>| {
        filter::apply(filter, shape, params.padding_voxels, what, fill, progress)
    };
    let mut tomogram = if filter.is_identity() {
        signal
    } else {
        filtered("filtering the signal", &|z, y, row| {
            if z < depth && y < height {
                let source = signal.slice(ndarray::s![z, y, ..]);
                row[..width]
                    .iter_mut()
                    .zip(source)
                    .for_each(|(to, from)| *to = *from);
            }
        })?
    };
    let (snr, noise) = match params.noise {
        Noise::None => return Ok(tomogram),
        Noise::Filtered { snr } if !filter.is_identity() => {
            // Rows of the padding are numbered too, and none twice.
            let rows = 2 * (height + params.padding_voxels) as u64;
            let noise = filtered("filtering the noise", &|z, y, row| {
                noise::fill_row(params.seed, z as u64 * rows + y as u64, row);
            })?;
            (snr, noise)
        }
        Noise::Filtered { snr } | Noise::White { snr } => (snr, white_noise(shape, params.seed)),
    };
    let (signal_variance, noise_variance) = (variance(&tomogram), variance(&noise));
    // A volume of one voxel has no spread either.
    if !(signal_variance > 0.0 && noise_variance > 0.0) {
        return Err(SimError::NoSignal);
    }
    let scale = (signal_variance / (snr * noise_variance)).sqrt() as f32;
    Zip::from(&mut tomogram)
        .and(&noise)
        .par_for_each(|voxel, noise| *voxel += scale * noise);
    Ok(tomogram)
}

fn white_noise(shape: [usize; 3], seed: u64) -> Array3<f32> {
    let mut noise = Array3::zeros(shape);
    noise
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .for_each(|(z, mut plane)| {
            for (y, mut row) in plane.axis_iter_mut(Axis(0)).enumerate() {
                if let Some(row) = row.as_slice_mut() {
                    noise::fill_row(seed, (z * shape[1] + y) as u64, row);
                }
            }
        });
    noise
}

/// Population variance; planes are added up in order, whoever sums them.
fn variance(volume: &Array3<f32>) -> f64 {
    let planes: Vec<Moments> = volume
        .axis_iter(Axis(0))
        .into_par_iter()
        .map(|plane| Moments::of(plane.iter()))
        .collect();
    planes
        .into_iter()
        .fold(Moments::default(), Moments::merge)
        .standard_deviation()
        .powi(2)
}
