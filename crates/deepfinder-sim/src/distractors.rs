use std::ops::Range;

use deepfinder_core::{Volume, VoxelSize};
use deepfinder_density::Interpolation;
use ndarray::Array3;

use crate::template::Sampler;
use crate::{Result, SimError, SimParams, Template};

/// Radii of the crowders in voxels, taken in turn.
const CROWDER_RADII: [f64; 3] = [2.0, 2.75, 3.5];
/// How dense a crowder is, in parts of the densest template's maximum: as a typical particle inside.
const CROWDER_DENSITY: f64 = 0.6;
/// Radii of vesicles in Å, taken in turn.
const VESICLE_RADII: [f64; 3] = [180.0, 120.0, 250.0];
/// A bilayer is two leaflets whose head groups lie so far from its middle, in Å …
const LEAFLET_OFFSET: f64 = 18.0;
/// … each a Gaussian of this standard deviation, in Å …
const LEAFLET_SIGMA: f64 = 7.0;
/// … and as dense as that part of the densest template's maximum.
const LEAFLET_DENSITY: f64 = 0.7;
/// Radius of a gold bead in Å.
const GOLD_RADIUS: f64 = 50.0;
/// The density of gold over that of protein: 19.3 and 1.35 g/cm³.
const GOLD_DENSITY: f64 = 14.3;
/// From this part of its maximum on a distractor takes up room.
const MASK_FRACTION: f32 = 0.15;

/// What is in a specimen besides the particles that are looked for.
pub(crate) struct Distractors {
    pub(crate) samplers: Vec<Sampler>,
    pub(crate) crowders: Range<usize>,
    pub(crate) gold: Range<usize>,
    pub(crate) membranes: Range<usize>,
}

impl Distractors {
    /// Those that the parameters ask for.
    pub(crate) fn new(params: &SimParams, densest: f32, voxel_size: Option<VoxelSize>) -> Result<Self> {
        let densest = f64::from(densest);
        let mut samplers = Vec::new();
        let mut add = |radial: Vec<Radial<'_>>| {
            let first = samplers.len();
            for radial in radial {
                let template = radial.template();
                samplers.push(Sampler::new(&template, Interpolation::Linear, MASK_FRACTION)?);
            }
            Ok::<_, SimError>(first..samplers.len())
        };
        let ball = |radius: f64, density: f64| Radial {
            reach: radius,
            density: Box::new(move |r| density * densest * (radius + 0.5 - r).clamp(0.0, 1.0)),
        };
        let crowders = if params.crowders > 0 {
            add(CROWDER_RADII.map(|radius| ball(radius, CROWDER_DENSITY)).into())?
        } else {
            0..0
        };
        let (mut gold, mut membranes) = (0..0, 0..0);
        if params.gold_beads + params.membranes > 0 {
            let Some(size) = voxel_size else {
                return Err(SimError::UnknownVoxelSize);
            };
            let size = f64::from(size.angstrom());
            if params.gold_beads > 0 {
                gold = add(vec![ball(GOLD_RADIUS / size, GOLD_DENSITY)])?;
            }
            if params.membranes > 0 {
                let thinnest = params.shape.iter().min().copied().unwrap_or(0) as f64;
                let bilayer = |radius: f64| Radial {
                    reach: (radius + LEAFLET_OFFSET + 3.0 * LEAFLET_SIGMA) / size,
                    density: Box::new(move |r: f64| {
                        let leaflet =
                            |middle: f64| (-((r * size - middle) / LEAFLET_SIGMA).powi(2) / 2.0).exp();
                        LEAFLET_DENSITY
                            * densest
                            * (leaflet(radius - LEAFLET_OFFSET) + leaflet(radius + LEAFLET_OFFSET))
                    }),
                };
                let fit = VESICLE_RADII.map(bilayer).into_iter();
                membranes = add(fit
                    .filter(|vesicle| 2.0 * vesicle.reach + 2.0 < thinnest)
                    .collect())?;
                if membranes.is_empty() {
                    return Err(SimError::Parameter {
                        name: "membranes",
                        found: params.membranes.to_string(),
                        expected: "0 in a tomogram too thin for a vesicle of 120 Å radius",
                    });
                }
            }
        }
        Ok(Self {
            samplers,
            crowders,
            gold,
            membranes,
        })
    }
}

/// A density that depends on the distance from its centre alone; lengths in voxels.
struct Radial<'a> {
    reach: f64,
    density: Box<dyn Fn(f64) -> f64 + 'a>,
}

impl Radial<'_> {
    fn template(&self) -> Template {
        let half = self.reach.ceil() as usize + 2;
        let density = Array3::from_shape_fn([2 * half; 3], |(z, y, x)| {
            let squared: f64 = [z, y, x].map(|i| (i as f64 - half as f64).powi(2)).iter().sum();
            (self.density)(squared.sqrt()) as f32
        });
        Template::new("distractor", Volume::new(density))
    }
}
