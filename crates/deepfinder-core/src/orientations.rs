use crate::{CoreError, Result, Rotation, Symmetry};

/// How much longer than asked a step may be, so that 12.857° is not divided once more for the sake of a rounding.
const TOLERANCE: f64 = 0.05;

/// Rotations that cover all orientations of a particle evenly: none is further than the step from one of them.
///
/// The product of directions and turns (Hopf coordinates, in which a uniform grid of both is uniform on SO(3): Yershova,
/// Jain, `LaValle` and Mitchell 2010, IJRR 29:801). The particle's z axis points along rings of equal tilt, a step apart, on
/// each of which it is a step apart again; about each direction the particle is turned by steps. A step of 19.95° gives
/// the 1 944 rotations that the DeepFinder paper states for it (Methods), one of 12.85° gives 7 224 (it states 7 112). Of an
/// n-fold axis about z only 360°/n of the turns are different, so that there are n times fewer. The identity comes first.
///
/// # Errors
/// [`CoreError::AngularStep`] unless the step lies above 0.5° (90 million rotations) and is 90° at most.
pub fn orientations(step_degrees: f64, symmetry: Symmetry) -> Result<Vec<Rotation>> {
    if !(0.5..=90.0).contains(&step_degrees) {
        return Err(CoreError::AngularStep { found: step_degrees });
    }
    let parts = |degrees: f64| (degrees / step_degrees - TOLERANCE).ceil().max(1.0) as usize;
    let sector = 360.0 / f64::from(symmetry.fold());
    let (rings, turns) = (parts(180.0), parts(sector));
    let mut rotations = Vec::new();
    for ring in 0..=rings {
        let the = 180.0 * ring as f64 / rings as f64;
        let around = parts(360.0 * the.to_radians().sin());
        for i in 0..around {
            let psi = 360.0 * i as f64 / around as f64;
            rotations.extend(
                (0..turns)
                    .map(|turn| Rotation::from_zxz_degrees(sector * turn as f64 / turns as f64, psi, the)),
            );
        }
    }
    Ok(rotations)
}

/// Rotations that lead away from the identity by at most `range_degrees`, a step apart: a cubic lattice of rotation
/// vectors, whose distances are those of the rotations as long as the range is small. The identity comes first.
///
/// # Errors
/// [`CoreError::AngularStep`] unless the step is above 0 and the range, 180° at most, holds 30 steps at most.
pub fn orientations_within(step_degrees: f64, range_degrees: f64) -> Result<Vec<Rotation>> {
    let steps = range_degrees / step_degrees;
    if !(step_degrees > 0.0 && (0.0..=180.0).contains(&range_degrees) && steps <= 30.0) {
        return Err(CoreError::AngularStep { found: step_degrees });
    }
    // Steps that fill the range exactly must not miss its rim by a rounding.
    let (reach, limit) = ((steps + 1e-9).floor() as i32, (steps + 1e-9).powi(2));
    let mut lattice = Vec::new();
    for z in -reach..=reach {
        for y in -reach..=reach {
            for x in -reach..=reach {
                let squared = x * x + y * y + z * z;
                if f64::from(squared) <= limit {
                    lattice.push((squared, [x, y, z]));
                }
            }
        }
    }
    lattice.sort_by_key(|(squared, _)| *squared);
    let turn = |i: i32| step_degrees * f64::from(i);
    Ok(lattice
        .into_iter()
        .map(|(_, vector)| Rotation::from_rotation_vector(vector.map(turn)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn nearest(rotations: &[Rotation], to: Rotation) -> f64 {
        rotations
            .iter()
            .map(|rotation| rotation.angle_to(to))
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_rotation_is_further_than_the_step() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        for step in [90.0, 75.0, 45.0, 37.0, 30.0, 19.95] {
            let rotations = orientations(step, Symmetry::C1).unwrap();
            assert_eq!(rotations[0], Rotation::IDENTITY);
            for _ in 0..200 {
                let found = nearest(&rotations, Rotation::random(&mut rng));
                assert!(found <= step, "{found}° at a step of {step}°");
            }
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_paper() {
        let count = |step| orientations(step, Symmetry::C1).unwrap().len();
        assert_eq!((count(19.95), count(12.85)), (1944, 7224));
    }

    #[test]
    fn they_are_spread_evenly() {
        // Of the uniform distribution, (α − sin α)/π lie within α of any rotation.
        let rotations = orientations(10.0, Symmetry::C1).unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        for _ in 0..20 {
            let centre = Rotation::random(&mut rng);
            let near = rotations.iter().filter(|r| r.angle_to(centre) <= 60.0).count();
            let alpha = 60_f64.to_radians();
            let expected = (alpha - alpha.sin()) / std::f64::consts::PI;
            let found = near as f64 / rotations.len() as f64;
            assert!((found / expected - 1.0).abs() < 0.1, "{found} for {expected}");
        }
    }

    #[test]
    fn symmetry_leaves_out_what_looks_the_same() {
        let symmetry: Symmetry = "C4".parse().unwrap();
        let rotations = orientations(30.0, symmetry).unwrap();
        assert_eq!(
            4 * rotations.len(),
            orientations(30.0, Symmetry::C1).unwrap().len()
        );
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        for _ in 0..100 {
            let wanted = Rotation::random(&mut rng);
            let found = symmetry
                .rotations()
                .into_iter()
                .map(|turn| nearest(&rotations, turn.then(wanted)));
            assert!(found.fold(f64::INFINITY, f64::min) <= 30.0);
        }
    }

    #[test]
    fn a_neighbourhood_is_filled_and_not_left() {
        let rotations = orientations_within(3.0, 9.0).unwrap();
        assert_eq!((rotations[0], rotations.len()), (Rotation::IDENTITY, 123));
        assert!(
            rotations
                .iter()
                .all(|r| r.angle_to(Rotation::IDENTITY) < 9.0 + 1e-6)
        );
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(6);
        let mut tried = 0;
        while tried < 50 {
            let wanted = Rotation::from_rotation_vector(std::array::from_fn(|_| {
                18.0 * rand::RngExt::random::<f64>(&mut rng) - 9.0
            }));
            if wanted.angle_to(Rotation::IDENTITY) < 7.0 {
                tried += 1;
                assert!(nearest(&rotations, wanted) <= 3.0);
            }
        }
        assert_eq!(orientations_within(3.0, 0.0).unwrap().len(), 1);
    }

    #[test]
    fn steps_that_lead_nowhere_are_refused() {
        for bad in [0.0, -1.0, 0.1, 91.0, f64::NAN] {
            assert!(orientations(bad, Symmetry::C1).is_err(), "{bad}");
        }
        for (step, range) in [(0.0, 5.0), (-1.0, 5.0), (0.1, 5.0), (1.0, -1.0), (f64::NAN, 5.0)] {
            assert!(orientations_within(step, range).is_err(), "{step} {range}");
        }
    }
}
