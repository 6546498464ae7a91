//! Simulated particles of known poses: their average, its resolution, and poses that were off and come back.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use deepfinder_average::{AverageError, AverageParams, FSC_GOLD_STANDARD, Fsc, Source, average};
use deepfinder_core::{
    CancelToken, CoreError, NoProgress, Particle, ParticleList, Rotation, Symmetry, TiltRange, Volume,
    VoxelSize,
};
use deepfinder_density::{Fft3, frequency, soft_ball, wedge};
use deepfinder_sim::{Contrast, Noise, SimParams, Simulation, Template, simulate_particles};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIDE: usize = 24;

/// Four balls of different sizes at the corners of an irregular tetrahedron, in a box as the averages'.
fn density() -> Volume<f32> {
    let balls = [
        ([-5.0, 0.0, -2.0], 3.0_f32),
        ([4.0, -1.0, -1.0], 2.5),
        ([4.0, 5.0, 1.0], 2.0),
        ([1.0, 0.0, 6.0], 2.0),
    ];
    let voxels = Array3::from_shape_fn((SIDE, SIDE, SIDE), |(z, y, x)| {
        let soft = |(centre, radius): &([f32; 3], f32)| {
            let offset = [x as f32 - 12.0, y as f32 - 12.0, z as f32 - 12.0];
            let squared: f32 = (0..3).map(|axis| (offset[axis] - centre[axis]).powi(2)).sum();
            (radius + 0.5 - squared.sqrt()).clamp(0.0, 1.0)
        };
        balls.iter().map(soft).sum()
    });
    Volume::new(voxels).with_voxel_size(VoxelSize::new(10.0).unwrap())
}

/// Particles a box apart in random orientations, off the voxels' centres.
fn simulated(density: Volume<f32>, per_axis: [usize; 3], snr: f64, seed: u64) -> Simulation {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut particles = Vec::new();
    let [depth, height, width] = per_axis;
    for i in 0..depth * height * width {
        let cell = [i % width, i / width % height, i / width / height];
        let position = cell.map(|c| (SIDE * c + SIDE / 2) as f64 + rng.random_range(-0.4..0.4) + 2.0);
        particles.push(Particle::new(position, 1).with_rotation(Rotation::random(&mut rng)));
    }
    let params = SimParams {
        shape: per_axis.map(|n| SIDE * n + 4),
        contrast: Contrast::Light,
        noise: Noise::Filtered { snr },
        seed,
        ..SimParams::default()
    };
    let templates = [Template::new("tetrahedron", density)];
    simulate_particles(&templates, &ParticleList::from(particles), &params, &NoProgress).unwrap()
}

fn source(simulation: &Simulation) -> Source<'_> {
    Source {
        tomogram: &simulation.tomogram,
        particles: &simulation.particles,
    }
}

#[test]
fn an_average_of_known_poses_is_as_good_as_its_half_sets_say() {
    let simulation = simulated(density(), [2, 4, 4], 0.3, 1);
    let params = AverageParams {
        iterations: 0,
        ..AverageParams::new(SIDE)
    };
    let result = average(&[source(&simulation)], None, &params, &NoProgress).unwrap();
    assert_eq!((result.outside, result.particles[0].len()), (0, 32));
    assert_eq!(result.particles[0], simulation.particles.particles);
    assert_eq!(result.map.voxel_size.unwrap().angstrom(), 10.0);

    // Rosenthal and Henderson 2003: of half-sets that correlate by FSC, the whole correlates with the truth by
    // √(2 FSC / (1 + FSC)).
    let mask = soft_ball(SIDE, 8.0, 3.0);
    let with_truth = Fsc::of(&result.map.voxels, &density().voxels, &mask).unwrap();
    let mut compared = 0;
    for (shell, &half_sets) in result.fsc.masked.correlations.iter().enumerate().skip(1) {
        if half_sets > 0.3 {
            let expected = (2.0 * half_sets / (1.0 + half_sets)).sqrt();
            let found = with_truth.correlations[shell];
            assert!(found > expected - 0.12, "shell {shell}: {found} for {expected}");
            compared += 1;
        }
    }
    assert!(compared >= 4, "{:?}", result.fsc.masked.correlations);

    // Poses of no particle: the half-sets agree in nothing.
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut wrong = simulation.particles.clone();
    for particle in wrong.iter_mut() {
        particle.rotation = Some(Rotation::random(&mut rng));
    }
    let wrong = [Source {
        tomogram: &simulation.tomogram,
        particles: &wrong,
    }];
    let wrong = average(&wrong, None, &params, &NoProgress).unwrap();
    let crossing = |fsc: &Fsc| fsc.crossing(FSC_GOLD_STANDARD).unwrap_or(0.5);
    assert!(
        crossing(&wrong.fsc.corrected) < 0.6 * crossing(&result.fsc.corrected),
        "{:?}",
        wrong.fsc
    );
}

/// What half-sets of so many particles should correlate by in their whole boxes: in each shell S / (S + N), the power of the
/// density over that and the noise's, which falls with the number of particles that measured a coefficient.
fn expected_fsc(simulation: &Simulation, noise_free: &Simulation, of_half: f64) -> Vec<f64> {
    let noise = &simulation.tomogram.voxels - &noise_free.tomogram.voxels;
    let variance = noise.mapv(|voxel| f64::from(voxel).powi(2)).mean().unwrap();
    let fft = Fft3::new([SIDE; 3]);
    let mut spectrum = fft.spectrum();
    fft.forward(&density().voxels, &mut spectrum).unwrap();
    let measured = f64::from(
        wedge([SIDE; 3], TiltRange::symmetric(60.0), Rotation::IDENTITY)
            .mean()
            .unwrap(),
    );
    // The noise's variance comes from the coefficients that are measured alone, and a particle measures as many.
    let noise = variance * (SIDE * SIDE * SIDE) as f64 / measured / (of_half * measured);
    let mut shells = vec![(0.0, 0.0); SIDE / 2 + 1];
    for ((z, y, x), coefficient) in spectrum.indexed_iter() {
        let k = [z, y, x].map(|i| frequency(i, SIDE));
        let radius = k.iter().map(|k| k * k).sum::<f64>().sqrt();
        if let Some(shell) = shells.get_mut((SIDE as f64 * radius).round() as usize) {
            let weight = if x == 0 || 2 * x == SIDE { 1.0 } else { 2.0 };
            shell.0 += weight * f64::from(coefficient.norm_sqr());
            shell.1 += weight * noise;
        }
    }
    shells
        .iter()
        .map(|(signal, noise)| signal / (signal + noise))
        .collect()
}

#[test]
fn the_resolution_is_what_signal_and_number_of_particles_allow() {
    for (per_axis, snr) in [([2, 4, 5], 0.1), ([2, 5, 5], 0.02)] {
        let simulation = simulated(density(), per_axis, snr, 8);
        let noise_free = simulated(density(), per_axis, 1e9, 8);
        let count: usize = per_axis.iter().product();
        let params = AverageParams {
            iterations: 0,
            ..AverageParams::new(SIDE)
        };
        let result = average(&[source(&simulation)], None, &params, &NoProgress).unwrap();
        let expected = expected_fsc(&simulation, &noise_free, count as f64 / 2.0);
        let pairs = result.fsc.unmasked.correlations.iter().zip(&expected).skip(2);
        let differences: Vec<f64> = pairs.map(|(found, expected)| found - expected).collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        let most = differences.iter().fold(0.0_f64, |most, d| most.max(d.abs()));
        assert!(
            mean.abs() < 0.05 && most < 0.25,
            "{:?} for {expected:?}",
            result.fsc.unmasked
        );
    }
}

/// Mean angle in degrees and mean distance in voxels to the true poses.
fn errors(found: &[Particle], truth: &[Particle]) -> (f64, f64) {
    let pairs = found.iter().zip(truth);
    let sum = pairs.fold((0.0, 0.0), |(angle, distance), (a, b)| {
        (
            angle + a.rotation.unwrap().angle_to(b.rotation.unwrap()),
            distance + a.distance(b),
        )
    });
    (sum.0 / truth.len() as f64, sum.1 / truth.len() as f64)
}

#[test]
fn poses_that_were_off_come_back() {
    let simulation = simulated(density(), [1, 3, 4], 0.5, 3);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut off = simulation.particles.clone();
    for particle in off.iter_mut() {
        let turn = Rotation::from_rotation_vector(std::array::from_fn(|_| rng.random_range(-8.0..8.0)));
        particle.rotation = particle.rotation.map(|rotation| rotation.then(turn));
        particle.position = particle
            .position
            .map(|coordinate| coordinate + rng.random_range(-1.5..1.5));
    }
    let params = AverageParams {
        iterations: 2,
        step_degrees: 6.0,
        max_shift_voxels: 3.0,
        ..AverageParams::new(SIDE)
    };
    let sources = [Source {
        tomogram: &simulation.tomogram,
        particles: &off,
    }];
    let result = average(&sources, Some(&density()), &params, &NoProgress).unwrap();
    let before = errors(&off, &simulation.particles);
    let after = errors(&result.particles[0], &simulation.particles);
    assert!(
        after.0 < 4.5 && after.0 < 0.6 * before.0,
        "{before:?} to {after:?}"
    );
    assert!(
        after.1 < 0.5 && after.1 < 0.4 * before.1,
        "{before:?} to {after:?}"
    );
    assert_eq!(result.iterations.len(), 2);
    assert_eq!(result.iterations[1].step_degrees, 3.0);
    assert!(result.iterations[1].mean_score > 0.3, "{:?}", result.iterations);
}

#[test]
fn particles_without_orientation_are_oriented_by_a_reference() {
    let simulation = simulated(density(), [1, 1, 3], 2.0, 5);
    let mut bare = simulation.particles.clone();
    bare.iter_mut().for_each(|particle| particle.rotation = None);
    let params = AverageParams {
        iterations: 1,
        step_degrees: 30.0,
        max_shift_voxels: 2.0,
        initial_frequency: 0.15,
        ..AverageParams::new(SIDE)
    };
    let sources = [Source {
        tomogram: &simulation.tomogram,
        particles: &bare,
    }];
    let result = average(&sources, Some(&density()), &params, &NoProgress).unwrap();
    for (found, truth) in result.particles[0].iter().zip(simulation.particles.iter()) {
        let angle = found.rotation.unwrap().angle_to(truth.rotation.unwrap());
        assert!(angle <= 30.0, "{angle}°");
    }
    let ended = average(&sources, None, &params, &NoProgress);
    assert!(matches!(ended, Err(AverageError::NoRotation { found: 3 })));
}

#[test]
fn symmetry_is_imposed_and_threads_do_not_matter() {
    // Four rods about z.
    let cross = Array3::from_shape_fn((SIDE, SIDE, SIDE), |(z, y, x)| {
        let [z, y, x] = [z, y, x].map(|i| (i as f32 - 12.0).abs());
        f32::from(u8::from(
            z < 3.0 && ((x < 2.0 && y < 8.0) || (y < 2.0 && x < 8.0)),
        ))
    });
    let simulation = simulated(Volume::new(cross), [1, 2, 3], 0.5, 6);
    let run = |symmetry: &str, threads: usize| {
        let params = AverageParams {
            iterations: 1,
            step_degrees: 4.0,
            symmetry: symmetry.parse::<Symmetry>().unwrap(),
            ..AverageParams::new(SIDE)
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| average(&[source(&simulation)], None, &params, &NoProgress).unwrap())
    };
    // How much a map differs from itself after a quarter turn about z.
    let asymmetry = |map: &Array3<f32>| {
        let voxels = map
            .indexed_iter()
            .filter(|((z, y, x), _)| *z > 2 && (3..22).contains(y) && (3..22).contains(x));
        let (mut difference, mut power) = (0.0, 0.0);
        for ((z, y, x), &voxel) in voxels {
            difference += (voxel - map[[z, x, SIDE - y]]).powi(2);
            power += voxel.powi(2);
        }
        difference / power
    };
    let (free, imposed) = (run("C1", 2), run("C4", 1));
    assert!(asymmetry(&imposed.map.voxels) < 0.05 && asymmetry(&free.map.voxels) > 0.1);
    assert!(asymmetry(&imposed.halves[0].voxels) < 0.05);
    let again = run("C4", 3);
    assert_eq!(
        (again.map, again.fsc, again.particles),
        (imposed.map, imposed.fsc, imposed.particles)
    );
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let tomogram = Volume::new(Array3::from_shape_fn((24, 24, 24), |(z, y, x)| {
        (z * y + x) as f32
    }));
    let oriented = |at: [f64; 3]| Particle::new(at, 1).with_rotation(Rotation::IDENTITY);
    let refuse = |tomogram: &Volume<f32>,
                  particles: &[Particle],
                  reference: Option<&Volume<f32>>,
                  params: &AverageParams| {
        let sources = [Source { tomogram, particles }];
        average(&sources, reference, params, &NoProgress)
            .unwrap_err()
            .to_string()
    };
    let params = AverageParams::new(16);
    let two = [oriented([12.0; 3]), oriented([13.0, 12.0, 11.0])];
    let one_outside = [oriented([12.0; 3]), oriented([3.0, 12.0, 11.0])];
    assert!(refuse(&tomogram, &one_outside, None, &params).contains("1 particles have their whole box"));
    assert!(refuse(&tomogram, &two, None, &AverageParams::new(15)).contains("side_voxels is 15"));
    let with_voxel = |at: [usize; 3], value: f32| {
        let mut map = Array3::zeros([24; 3]);
        map[at] = value;
        Volume::new(map)
    };
    let off_centre = refuse(&tomogram, &two, Some(&with_voxel([3, 12, 12], 1.0)), &params);
    assert!(
        off_centre.contains("[24, 24, 24]") && off_centre.contains(" 0 %"),
        "{off_centre}"
    );
    let empty = refuse(&tomogram, &two, Some(&with_voxel([12; 3], 0.0)), &params);
    assert!(empty.contains("not empty"), "{empty}");
    let other = Volume::new(Array3::zeros((8, 8, 8))).with_voxel_size(VoxelSize::new(13.0).unwrap());
    let ten = tomogram.clone().with_voxel_size(VoxelSize::new(10.0).unwrap());
    assert!(refuse(&ten, &two, Some(&other), &params).contains("10 Å and of 13 Å"));
    let mut broken = tomogram.clone();
    broken.voxels[[12, 12, 12]] = f32::INFINITY;
    assert!(refuse(&broken, &two, None, &params).contains("NaN or infinite"));
    let constant = Volume::new(Array3::from_elem((24, 24, 24), 1.0));
    assert!(refuse(&constant, &two, None, &params).contains("same everywhere"));

    let cancel = CancelToken::default();
    cancel.cancel();
    let sources = [Source {
        tomogram: &tomogram,
        particles: &two,
    }];
    let ended = average(&sources, None, &params, &cancel);
    assert!(matches!(ended, Err(AverageError::Core(CoreError::Cancelled))));
}
