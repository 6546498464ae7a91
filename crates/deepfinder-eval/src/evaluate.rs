use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deepfinder_core::{Label, Particle, ParticleList, Region as Window, VolumeReader};
use serde::Serialize;

use crate::error::{EvalError, Result};
use crate::matching::{Assignment, Classes, Region, assign, candidates, of_classes};
use crate::radius::Radius;
use crate::scores::Detection;
use crate::tally::Tally;

/// When a pick is right.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// Each pick is matched to at most one particle of its class within the radius, and each particle to one pick.
    OneToOne {
        /// How far a pick may be from its particle.
        radius: Radius,
        /// Which matches are made where there is a choice.
        assignment: Assignment,
    },
    /// As the SHREC challenge counts: each pick hits the particle it lies in, here the nearest within the radius
    /// ([`evaluate_occupancy`] takes the true shapes instead).
    ///
    /// Localisation: a particle is found when it is hit at least once; recall = found / particles, precision =
    /// found / picks. A particle's class is that of its first hit as listed, background without one.
    Shrec {
        /// How far a pick may be from the particle it hits.
        radius: Radius,
    },
    /// A pick is right inside the bounding box of a particle of its class, one to one (DeepFinder paper, Methods).
    BoundingBox {
        /// Half the edge of a particle's box.
        half_edge: Radius,
    },
    /// As the CZII challenge counts: one to one within half the particle's radius, F4, weights for classes.
    ///
    /// The challenge's own script counts a pick twice that lies within reach of two particles of its class; here it
    /// counts once.
    Czii {
        /// The particles' radii.
        radius: Radius,
        /// Weights of classes in [`Detection::weighted_f_beta`]; 1 for those not given.
        weights: BTreeMap<Label, f64>,
    },
}

impl Mode {
    /// Optimal one-to-one matches within a radius in voxels.
    pub fn one_to_one(radius_voxels: impl Into<Radius>) -> Self {
        Self::OneToOne {
            radius: radius_voxels.into(),
            assignment: Assignment::default(),
        }
    }

    /// What reports call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OneToOne { .. } => "one-to-one",
            Self::Shrec { .. } => "shrec",
            Self::BoundingBox { .. } => "bounding-box",
            Self::Czii { .. } => "czii",
        }
    }

    const fn radius(&self) -> &Radius {
        match self {
            Self::OneToOne { radius, .. } | Self::Shrec { radius } | Self::Czii { radius, .. } => radius,
            Self::BoundingBox { half_edge } => half_edge,
        }
    }
}

/// How to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateParams {
    /// When a pick is right.
    pub mode: Mode,
    /// How much more recall weighs than precision in Fβ. Default 1, in CZII mode 4.
    pub beta: f64,
}

impl EvaluateParams {
    /// The mode with its usual β.
    pub fn new(mode: Mode) -> Self {
        let beta = if matches!(mode, Mode::Czii { .. }) {
            4.0
        } else {
            1.0
        };
        Self { mode, beta }
    }

    fn check(&self) -> Result<()> {
        self.mode.radius().check()?;
        if self.beta.is_finite() && self.beta > 0.0 {
            Ok(())
        } else {
            Err(EvalError::Parameter {
                name: "beta",
                expected: "a positive number",
                found: self.beta,
            })
        }
    }

    const fn weights(&self) -> Option<&BTreeMap<Label, f64>> {
        match &self.mode {
            Mode::Czii { weights, .. } => Some(weights),
            _ => None,
        }
    }
}

/// How picks agree with the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`Mode::name`].
    pub mode: &'static str,
    /// The β of `f_beta`.
    pub beta: f64,
    /// All tomograms together: counts are added before ratios are taken.
    pub pooled: Detection,
    /// Each tomogram by itself.
    pub tomograms: Vec<TomogramReport>,
}

/// How one tomogram's picks agree with the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TomogramReport {
    /// Its name, where the lists say.
    pub tomogram: Option<String>,
    /// The scores.
    pub detection: Detection,
}

/// Sets picks against true particles.
///
/// Positions of both are voxels of the same grid. Where either list spans several tomograms, picks are set against the
/// particles of their own; where each has one at most, it is taken to be the same, whatever it is called.
///
/// # Errors
/// Where a radius is missing or none, or a particle of several tomograms does not say which is its own.
pub fn evaluate(truth: &ParticleList, picks: &ParticleList, params: &EvaluateParams) -> Result<Report> {
    params.check()?;
    let tallies = by_tomogram(truth, picks, ["truth", "picks"])?
        .into_iter()
        .map(|tomogram| Ok((tomogram.name.clone(), tally(&tomogram, &params.mode)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(report(
        &tallies,
        params.mode.name(),
        params.beta,
        params.weights(),
    ))
}

/// Sets the picks of one tomogram against true particles in SHREC's way, by the volume that they occupy.
///
/// `occupancy` holds 0 where there is no particle and i where the i-th of `truth` is, counted from 1; a pick hits what
/// is in the voxel that its position rounds to. β is 1.
///
/// # Errors
/// [`EvalError::Occupancy`] for a value that is no particle's number, and where reading fails.
pub fn evaluate_occupancy<T: Copy + Into<f64>>(
    truth: &[Particle],
    occupancy: &dyn VolumeReader<T>,
    picks: &[Particle],
) -> Result<Report> {
    let shape = occupancy.shape();
    let mut hits = Vec::with_capacity(picks.len());
    for pick in picks {
        let rounded = pick.position.map(f64::round);
        let inside = (0..3).all(|axis| rounded[axis] >= 0.0 && rounded[axis] < shape[2 - axis] as f64);
        if !inside {
            hits.push(None);
            continue;
        }
        let voxel = [2, 1, 0].map(|axis| rounded[axis] as usize);
        let window = occupancy.read_window(Window::new(voxel, [1; 3]))?;
        let found: f64 = window[[0, 0, 0]].into();
        if !(found >= 0.0 && found <= truth.len() as f64 && found.fract() == 0.0) {
            return Err(EvalError::Occupancy {
                found,
                voxel,
                particles: truth.len(),
            });
        }
        let hit = (found as usize).checked_sub(1);
        hits.push(hit.map(|particle| (particle, truth[particle].distance(pick))));
    }
    let name = truth.first().and_then(|particle| particle.tomogram.clone());
    let tally = Tally::of_hits(truth, picks, &hits);
    Ok(report(&[(name, tally)], "shrec", 1.0, None))
}

fn report(
    tallies: &[(Option<Arc<str>>, Tally)],
    mode: &'static str,
    beta: f64,
    weights: Option<&BTreeMap<Label, f64>>,
) -> Report {
    let mut pooled = Tally::default();
    for (_, tally) in tallies {
        pooled.add(tally);
    }
    let tomograms = tallies.iter().map(|(name, tally)| TomogramReport {
        tomogram: name.as_deref().map(str::to_owned),
        detection: tally.detection(beta, weights),
    });
    Report {
        mode,
        beta,
        pooled: pooled.detection(beta, weights),
        tomograms: tomograms.collect(),
    }
}

/// The lists' part of one tomogram.
pub(crate) struct Tomogram {
    name: Option<Arc<str>>,
    pub(crate) truth: Vec<Particle>,
    pub(crate) picks: Vec<Particle>,
}

/// Both lists, tomogram by tomogram; `names` is what a complaint calls them.
pub(crate) fn by_tomogram(
    truth: &ParticleList,
    picks: &ParticleList,
    names: [&'static str; 2],
) -> Result<Vec<Tomogram>> {
    let tomograms = |list: &ParticleList| list.iter().map(|p| p.tomogram.clone()).collect::<BTreeSet<_>>();
    let (of_truth, of_picks) = (tomograms(truth), tomograms(picks));
    if of_truth.len() <= 1 && of_picks.len() <= 1 {
        return Ok(vec![Tomogram {
            name: of_truth.into_iter().chain(of_picks).flatten().next(),
            truth: truth.particles.clone(),
            picks: picks.particles.clone(),
        }]);
    }
    for (name, list) in names.into_iter().zip([truth, picks]) {
        if let Some(index) = list.iter().position(|particle| particle.tomogram.is_none()) {
            return Err(EvalError::NoTomogram { list: name, index });
        }
    }
    let of = |list: &ParticleList, name: &Option<Arc<str>>| {
        list.iter()
            .filter(|particle| particle.tomogram == *name)
            .cloned()
            .collect()
    };
    Ok(of_truth
        .union(&of_picks)
        .map(|name| Tomogram {
            name: name.clone(),
            truth: of(truth, name),
            picks: of(picks, name),
        })
        .collect())
}

fn tally(tomogram: &Tomogram, mode: &Mode) -> Result<Tally> {
    let Tomogram { truth, picks, .. } = tomogram;
    let (factor, region, assignment) = match mode {
        Mode::OneToOne { assignment, .. } => (1.0, Region::Ball, *assignment),
        Mode::Shrec { .. } => (1.0, Region::Ball, Assignment::Optimal),
        Mode::BoundingBox { .. } => (1.0, Region::Box, Assignment::Optimal),
        Mode::Czii { .. } => (0.5, Region::Ball, Assignment::Optimal),
    };
    let any_class = candidates(truth, picks, &mode.radius().of_each(truth, factor)?, region);
    if matches!(mode, Mode::Shrec { .. }) {
        let mut hits: Vec<Option<(usize, f64)>> = vec![None; picks.len()];
        for candidate in any_class {
            let hit = &mut hits[candidate.pick];
            // Candidates come by particle, so the first of equally near ones stays.
            if hit.is_none_or(|(_, nearest)| candidate.distance < nearest) {
                *hit = Some((candidate.truth, candidate.distance));
            }
        }
        return Ok(Tally::of_hits(truth, picks, &hits));
    }
    let same_class = of_classes(&any_class, truth, picks, Classes::Same);
    Ok(Tally::of_matches(
        truth,
        picks,
        &assign(&same_class, picks, assignment),
        &assign(&any_class, picks, assignment),
    ))
}
