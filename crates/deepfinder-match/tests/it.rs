//! Templates planted in tomograms are found in their places and orientations; noise is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use deepfinder_core::{
    CancelToken, CoreError, NoProgress, Particle, ParticleList, Rotation, Symmetry, TiltRange, Volume,
    VoxelSize, orientations,
};
use deepfinder_match::{MatchError, MatchParams, MatchReport, Tilt, TiltScheme, match_template};
use deepfinder_sim::{
    Contrast, Noise, SimParams, Template, TiltSeriesParams, TruthWriters, simulate_particles,
    simulate_tilt_series,
};
use ndarray::{Array3, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Four balls of different sizes at the corners of an irregular tetrahedron: no rotation maps it nearly to itself.
fn tetrahedron() -> Volume<f32> {
    let balls = [
        ([-5.0, 0.0, -2.0], 3.5_f32),
        ([4.0, -1.0, -1.0], 2.5),
        ([4.5, 6.0, 1.0], 2.0),
        ([1.0, 0.0, 6.0], 2.0),
    ];
    Volume::new(Array3::from_shape_fn((20, 20, 20), |(z, y, x)| {
        let soft = |(centre, radius): &([f32; 3], f32)| {
            let offset = [x as f32 - 10.0, y as f32 - 10.0, z as f32 - 10.0];
            let squared: f32 = (0..3).map(|axis| (offset[axis] - centre[axis]).powi(2)).sum();
            (radius + 0.5 - squared.sqrt()).clamp(0.0, 1.0)
        };
        balls.iter().map(soft).sum()
    }))
}

fn found(
    tomogram: &Volume<f32>,
    template: &Volume<f32>,
    rotations: &[Rotation],
    params: &MatchParams,
) -> (Array3<f32>, Array3<f32>, MatchReport) {
    let (mut scores, mut best) = (Vec::new(), Vec::new());
    let report = match_template(
        tomogram,
        template,
        rotations,
        params,
        &mut scores,
        &mut best,
        &NoProgress,
    )
    .unwrap();
    let whole = |slabs: Vec<Array3<f32>>| {
        let views: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
        ndarray::concatenate(ndarray::Axis(0), &views).unwrap()
    };
    (whole(scores), whole(best), report)
}

/// Voxels above a threshold that no neighbour exceeds, `[x, y, z]` with their score, best first.
fn peaks(scores: &Array3<f32>, threshold: f64) -> Vec<([usize; 3], f32)> {
    let (depth, height, width) = scores.dim();
    let around = |i: usize, n: usize| i.saturating_sub(1)..(i + 2).min(n);
    let mut peaks: Vec<_> = scores
        .indexed_iter()
        .filter(|(_, score)| f64::from(**score) > threshold)
        .filter(|((z, y, x), score)| {
            let near = scores.slice(s![around(*z, depth), around(*y, height), around(*x, width)]);
            near.iter().all(|other| other <= score)
        })
        .map(|((z, y, x), score)| ([x, y, z], *score))
        .collect();
    peaks.sort_by(|a, b| b.1.total_cmp(&a.1));
    peaks
}

#[test]
fn planted_particles_are_found_in_place_and_orientation() {
    let step = 25.0;
    let tilt = Some(TiltRange::symmetric(60.0));
    let rotations = orientations(step, Symmetry::C1).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let particles: Vec<_> = [[12.0, 13.0, 12.0], [33.0, 14.0, 11.0]]
        .into_iter()
        .map(|position| Particle::new(position, 1).with_rotation(Rotation::random(&mut rng)))
        .collect();
    let params = SimParams {
        shape: [24, 26, 46],
        tilt,
        contrast: Contrast::Light,
        noise: Noise::Filtered { snr: 1.0 },
        seed: 5,
        ..SimParams::default()
    };
    let templates = [Template::new("tetrahedron", tetrahedron())];
    let simulation = simulate_particles(
        &templates,
        &ParticleList::from(particles.clone()),
        &params,
        &NoProgress,
    )
    .unwrap();
    let params = MatchParams {
        tilt,
        ..MatchParams::default()
    };
    let (scores, best, report) = found(&simulation.tomogram, &tetrahedron(), &rotations, &params);
    assert_eq!(report.rotations, rotations.len());

    let peaks = peaks(&scores, report.threshold(0.1));
    assert!(
        peaks.len() >= particles.len(),
        "{peaks:?} above {}",
        report.threshold(0.1)
    );
    for particle in &particles {
        let near = peaks.iter().find(|(place, _)| {
            (0..3).all(|axis| (place[axis] as f64 - particle.position[axis]).abs() <= 1.0)
        });
        let ([x, y, z], score) = near.unwrap_or_else(|| panic!("{:?} was not found", particle.position));
        let rotation = rotations[best[[*z, *y, *x]] as usize];
        let angle = rotation.angle_to(particle.rotation.unwrap());
        assert!(angle <= step && *score > 0.3, "{angle}° off, score {score}");
    }
    // Whatever else there is, is worse.
    assert!(peaks.iter().take(particles.len()).all(|(place, _)| {
        particles
            .iter()
            .any(|p| (0..3).all(|axis| (place[axis] as f64 - p.position[axis]).abs() <= 1.0))
    }));
}

#[test]
fn a_template_that_knows_the_tilt_series_fits_better() {
    let ten = VoxelSize::new(10.0).unwrap();
    let density = tetrahedron().with_voxel_size(ten);
    let rotation = Rotation::from_zxz_degrees(40.0, 20.0, 70.0);
    let particles = ParticleList::from(vec![
        Particle::new([24.0, 22.0, 20.0], 1).with_rotation(Some(rotation)),
    ]);
    let params = SimParams {
        shape: [40, 44, 48],
        ..SimParams::default()
    };
    for (flip_phases, step_degrees) in [(true, 3.0), (false, 12.0)] {
        let microscope = TiltSeriesParams {
            flip_phases,
            step_degrees,
            snr: None,
            ..TiltSeriesParams::default()
        };
        let (mut labels, mut ids, mut tomogram) = (Vec::new(), Vec::new(), Vec::new());
        let mut writers = TruthWriters {
            labels: &mut labels,
            particle_ids: &mut ids,
        };
        let templates = [Template::new("tetrahedron", density.clone())];
        let (series, _) = simulate_tilt_series(
            &templates,
            Some(&particles),
            &params,
            &microscope,
            &mut writers,
            &NoProgress,
        )
        .unwrap();
        series
            .reconstruct(params.shape, &microscope, &mut tomogram, &NoProgress)
            .unwrap();
        let views: Vec<_> = tomogram.iter().map(|slab: &Array3<f32>| slab.view()).collect();
        let tomogram =
            Volume::new(ndarray::concatenate(ndarray::Axis(0), &views).unwrap()).with_voxel_size(Some(ten));
        // The microscope makes matter dark.
        let dark = density.like(density.voxels.mapv(|voxel| -voxel));
        let score = |scheme| {
            let params = MatchParams {
                scheme,
                ..MatchParams::default()
            };
            f64::from(found(&tomogram, &dark, &[rotation], &params).0[[20, 22, 24]])
        };
        let (known, wedge_alone) = (score(Some(microscope.scheme())), score(None));
        assert!(
            known > 0.9 && known > wedge_alone + 0.1,
            "{known} against {wedge_alone}"
        );
    }
}

#[test]
fn neither_threads_nor_tiles_matter() {
    let template = tetrahedron();
    let tomogram = Volume::new(Array3::from_shape_fn((21, 37, 30), |(z, y, x)| {
        ((z * 37 + y * 101 + x * 13 + x * y) % 29) as f32
    }));
    let rotations = &orientations(60.0, Symmetry::C1).unwrap()[..10];
    let run = |threads: usize, tile_voxels: usize| {
        let pool = pool_of(threads);
        let params = MatchParams {
            tile_voxels,
            ..MatchParams::default()
        };
        pool.install(|| found(&tomogram, &template, rotations, &params))
    };
    let (scores, best, report) = run(1, 192);
    let (other_scores, other_best, other_report) = run(3, 192);
    assert_eq!(
        (&scores, &best, &report),
        (&other_scores, &other_best, &other_report)
    );
    assert_eq!(report.tiles, 1);

    let (tiled, _, tiled_report) = run(2, 16);
    assert!(tiled_report.tiles > 1 && tiled_report.trials == report.trials);
    assert!(scores.iter().zip(&tiled).all(|(a, b)| (a - b).abs() < 1e-4));
    assert!((tiled_report.standard_deviation - report.standard_deviation).abs() < 1e-6);
}

fn pool_of(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

#[test]
fn noise_reaches_the_threshold_as_seldom_as_it_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let noise = Volume::new(Array3::from_shape_simple_fn((40, 40, 40), || {
        (0..12)
            .map(|_| rand::RngExt::random::<f32>(&mut rng))
            .sum::<f32>()
            - 6.0
    }));
    let rotations = orientations(60.0, Symmetry::C1).unwrap();
    let (scores, _, report) = found(&noise, &tetrahedron(), &rotations, &MatchParams::default());
    assert_eq!(report.trials, 64_000 * rotations.len() as u64);
    let above = |false_alarms: f64| {
        let threshold = report.threshold(false_alarms);
        scores
            .iter()
            .filter(|score| f64::from(**score) > threshold)
            .count()
    };
    // Neighbouring voxels and rotations reach it together, so that there are fewer than that, and not none.
    assert!((20..=1000).contains(&above(1000.0)), "{}", above(1000.0));
    assert!(above(0.01) == 0, "{}", above(0.01));
}

#[test]
fn a_score_is_a_correlation_coefficient() {
    // The template itself, as the tomogram: 1 in its middle, whatever is added or multiplied.
    let template = tetrahedron();
    let tomogram = Volume::new(template.voxels.mapv(|voxel| 3.0 - 7.0 * voxel));
    let params = MatchParams {
        tilt: None,
        mask_radius_voxels: Some(7.0),
        ..MatchParams::default()
    };
    let dark = Volume::new(template.voxels.mapv(|voxel| -voxel));
    let (scores, _, _) = found(&tomogram, &dark, &[Rotation::IDENTITY], &params);
    assert!(
        (scores[[10, 10, 10]] - 1.0).abs() < 1e-4,
        "{}",
        scores[[10, 10, 10]]
    );
    let (scores, _, _) = found(&tomogram, &template, &[Rotation::IDENTITY], &params);
    assert!((scores[[10, 10, 10]] + 1.0).abs() < 1e-4);
    assert!(scores.iter().all(|score| score.abs() <= 1.0 + 1e-4));
}

#[test]
fn what_cannot_be_matched_is_refused() {
    let ten = VoxelSize::new(10.0).unwrap();
    let tomogram = || Volume::new(Array3::from_shape_fn((8, 8, 8), |(z, y, x)| (z * y + x) as f32));
    let refuse =
        |tomogram: &Volume<f32>, template: &Volume<f32>, params: &MatchParams, rotations: &[Rotation]| {
            let (mut scores, mut best) = (Vec::new(), Vec::new());
            let error = match_template(
                tomogram,
                template,
                rotations,
                params,
                &mut scores,
                &mut best,
                &NoProgress,
            );
            assert!(scores.is_empty() && best.is_empty());
            error.unwrap_err().to_string()
        };
    let (params, one) = (MatchParams::default(), [Rotation::IDENTITY]);
    let mut broken = tomogram();
    broken.voxels[[1, 2, 3]] = f32::NAN;
    assert!(refuse(&broken, &tetrahedron(), &params, &one).contains("1 voxels that are NaN"));
    let constant = Volume::new(Array3::from_elem((8, 8, 8), 4.0));
    assert!(refuse(&constant, &tetrahedron(), &params, &one).contains("nothing to find"));
    assert!(refuse(&tomogram(), &tetrahedron(), &params, &[]).contains("0 rotations"));
    let other = tetrahedron().with_voxel_size(VoxelSize::new(13.0).unwrap());
    assert!(refuse(&tomogram().with_voxel_size(ten), &other, &params, &one).contains("13 Å"));
    let low_pass = MatchParams {
        low_pass_angstrom: Some(30.0),
        ..params.clone()
    };
    assert!(refuse(&tomogram(), &tetrahedron(), &low_pass, &one).contains("voxel size"));
    let scheme = |degrees: &[f64], exposure| MatchParams {
        scheme: Some(TiltScheme {
            tilts: Tilt::dose_symmetric(degrees, exposure),
            optics: None,
            phases_flipped: true,
        }),
        ..params.clone()
    };
    assert!(refuse(&tomogram(), &tetrahedron(), &scheme(&[0.0], 0.0), &one).contains("two tilts"));
    assert!(refuse(&tomogram(), &tetrahedron(), &scheme(&[0.0, 95.0], 0.0), &one).contains("90°"));
    assert!(refuse(&tomogram(), &tetrahedron(), &scheme(&[0.0, 3.0], 50.0), &one).contains("voxel size"));
    let tilt = MatchParams {
        tilt: Some(TiltRange::symmetric(-3.0)),
        ..params.clone()
    };
    assert!(refuse(&tomogram(), &tetrahedron(), &tilt, &one).contains("no range"));
    let flat = Volume::new(Array3::from_elem((40, 40, 40), 1.0));
    let small = MatchParams {
        mask_radius_voxels: Some(3.0),
        tilt: None,
        ..params
    };
    assert!(refuse(&tomogram(), &flat, &small, &one).contains("same everywhere"));
}

#[test]
fn a_search_can_be_cancelled() {
    let tomogram = Volume::new(Array3::from_shape_fn((8, 8, 8), |(z, y, x)| (z * y + x) as f32));
    let cancel = CancelToken::default();
    cancel.cancel();
    let (mut scores, mut best) = (Vec::new(), Vec::new());
    let ended = match_template(
        &tomogram,
        &tetrahedron(),
        &[Rotation::IDENTITY],
        &MatchParams::default(),
        &mut scores,
        &mut best,
        &cancel,
    );
    assert!(matches!(ended, Err(MatchError::Core(CoreError::Cancelled))));
}
