//! Simulations against what their documentation says, and against a tomogram that another program made.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::path::{Path, PathBuf};

use deepfinder_core::{
    CancelToken, CoreError, Label, NoProgress, Particle, ParticleList, Rotation, Volume, VoxelSize,
};
use deepfinder_sim::{
    Contrast, DEMO_CLASSES, Interpolation, Noise, Optics, SimError, SimParams, Simulation, Template,
    TiltRange, TiltSeries, TiltSeriesParams, Truth, TruthWriters, simulate, simulate_particles,
    simulate_tilt_series,
};
use ndarray::{Array3, Zip};

/// Templates of these classes from a folder, at 10 Å.
fn read_templates(folder: &Path, classes: &[&str]) -> Vec<Template> {
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let named = |class: &&str| {
        let is_it = |file: &&PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with(class);
        let file = files.iter().find(is_it).unwrap();
        Template::new(*class, read_mrc(file))
    };
    classes.iter().map(named).collect()
}

fn read_mrc(file: &Path) -> Volume<f32> {
    let (reader, _) = mrc::Reader::open_permissive(file).unwrap();
    let voxels = reader.convert::<f32>().to_ndarray().unwrap();
    Volume::new(voxels).with_voxel_size(VoxelSize::new(10.0).unwrap())
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/templates")
}

fn demo_templates() -> Vec<Template> {
    read_templates(&fixtures(), &DEMO_CLASSES)
}

fn quiet(shape: [usize; 3]) -> SimParams {
    SimParams {
        shape,
        tilt: None,
        noise: Noise::None,
        padding_voxels: 0,
        ..SimParams::default()
    }
}

/// A rod along +x from the centre with a knob along +y: no rotation but the identity maps it to itself.
fn hook() -> Template {
    let mut density = Array3::zeros((16, 16, 16));
    density.slice_mut(ndarray::s![8, 8, 8..13]).fill(1.0);
    density.slice_mut(ndarray::s![8, 8..11, 12]).fill(1.0);
    Template::new("hook", Volume::new(density))
}

fn labelled(simulation: &Simulation, label: Label) -> Vec<[usize; 3]> {
    let voxels = simulation.labels.voxels.indexed_iter();
    voxels
        .filter(|&(_, &voxel)| voxel == label)
        .map(|((z, y, x), _)| [z, y, x])
        .collect()
}

#[test]
fn particles_turn_from_their_frame_to_the_tomograms() {
    let params = SimParams {
        mask_fraction: 0.5,
        ..quiet([24; 3])
    };
    // x → y and y → z.
    let rotation = Rotation::from_zxz_degrees(90.0, 0.0, 90.0);
    assert!(rotation.apply([1.0, 0.0, 0.0])[2] > 0.999 && rotation.apply([0.0, 1.0, 0.0])[0] < -0.999);
    for interpolation in [Interpolation::Linear, Interpolation::Cubic] {
        let params = SimParams {
            interpolation,
            ..params.clone()
        };
        let one = |rotation| {
            let particles = vec![Particle::new([12.0, 11.0, 10.0], 1).with_rotation(rotation)];
            simulate_particles(&[hook()], &particles.into(), &params, &NoProgress).unwrap()
        };
        let mut straight: Vec<_> = (12..17).map(|x| [10, 11, x]).collect();
        straight.extend([[10, 12, 16], [10, 13, 16]]);
        straight.sort_unstable();
        assert_eq!(labelled(&one(None), 1), straight);
        // The rod goes up along z, the knob back along x.
        let mut turned: Vec<_> = (10..15).map(|z| [z, 11, 12]).collect();
        turned.extend([[14, 11, 11], [14, 11, 10]]);
        turned.sort_unstable();
        let simulation = one(Some(rotation));
        assert_eq!(labelled(&simulation, 1), turned);
        assert_eq!(simulation.particles[0].size_voxels, Some(7));
        assert!(
            simulation.tomogram.voxels[[12, 11, 12]] < -0.99,
            "particles are dark"
        );
        let light = SimParams {
            contrast: Contrast::Light,
            ..params.clone()
        };
        let light = simulate_particles(&[hook()], &simulation.particles, &light, &NoProgress).unwrap();
        assert!(
            Zip::from(&light.tomogram.voxels)
                .and(&simulation.tomogram.voxels)
                .all(|a, b| *a == -b)
        );
    }
}

#[test]
fn random_particles_lie_inside_and_apart() {
    let templates = demo_templates();
    let params = SimParams {
        particles_per_class: 3,
        gap_voxels: 2.0,
        seed: 11,
        ..quiet([64, 72, 81])
    };
    let simulation = simulate(&templates, &params, &NoProgress).unwrap();
    assert!(simulation.shortfall.is_empty());
    assert_eq!(simulation.particles.len(), 15);
    let counts = simulation.particles.count_by_label();
    assert!((1..=5).all(|label| counts[&label] == 3), "{counts:?}");
    assert_eq!(
        simulation.tomogram.voxel_size,
        Some(VoxelSize::new(10.0).unwrap())
    );

    let ids = &simulation.particle_ids.voxels;
    for (id, particle) in (1_u16..).zip(simulation.particles.iter()) {
        // Drawn in full: as many voxels as the particle has alone in a volume large enough.
        let alone = vec![Particle {
            position: particle.position.map(|c| c.fract() + 24.0),
            ..particle.clone()
        }];
        let alone = simulate_particles(&templates, &alone.into(), &quiet([50; 3]), &NoProgress).unwrap();
        assert_eq!(
            particle.size_voxels, alone.particles[0].size_voxels,
            "particle {id}"
        );
        let mine = ids
            .iter()
            .zip(&simulation.labels.voxels)
            .filter(|(i, _)| **i == id);
        assert!(mine.clone().all(|(_, &label)| label == particle.label));
        assert_eq!(Some(mine.count() as u64), particle.size_voxels);
    }
    // Within the gap of a voxel there is no other particle.
    for ((z, y, x), &id) in ids.indexed_iter().filter(|(_, id)| **id != 0) {
        let near = ids.slice(ndarray::s![
            z..(z + 2).min(64),
            y..(y + 2).min(72),
            x..(x + 2).min(81)
        ]);
        assert!(near.iter().all(|&other| other == 0 || other == id));
    }
}

#[test]
fn the_seed_decides_and_threads_do_not() {
    let templates = demo_templates();
    let run = |seed, threads| {
        let params = SimParams {
            shape: [45, 50, 61],
            particles_per_class: 1,
            crowders: 10,
            low_pass_angstrom: Some(25.0),
            ..SimParams::demo(seed)
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| simulate(&templates, &params, &NoProgress))
            .unwrap()
    };
    let first = run(1, 1);
    assert_eq!(first, run(1, 3));
    let other = run(2, 1);
    assert_ne!(first.particles, other.particles);
    assert_ne!(first.tomogram, other.tomogram);
    assert!(first.tomogram.voxels.iter().all(|voxel| voxel.is_finite()));
}

fn variance(voxels: &Array3<f32>) -> f64 {
    voxels.mapv(f64::from).var(0.0)
}

#[test]
fn noise_has_the_ratio_that_was_asked_for() {
    let templates = demo_templates();
    let with = |noise, tilt| {
        let params = SimParams {
            noise,
            tilt,
            padding_voxels: 7,
            particles_per_class: 1,
            ..quiet([40, 44, 51])
        };
        simulate(&templates, &params, &NoProgress).unwrap()
    };
    let wedge = Some(TiltRange::symmetric(50.0));
    for (noise, tilt) in [
        (Noise::Filtered { snr: 0.25 }, wedge),
        (Noise::Filtered { snr: 0.25 }, None),
        (Noise::White { snr: 0.25 }, wedge),
    ] {
        let (clean, noisy) = (with(Noise::None, tilt), with(noise, tilt));
        assert_eq!(
            clean.particles, noisy.particles,
            "noise leaves the placement alone"
        );
        let difference = &noisy.tomogram.voxels - &clean.tomogram.voxels;
        let ratio = variance(&clean.tomogram.voxels) / variance(&difference);
        assert!((ratio - 0.25).abs() < 1e-3, "{noise:?}: {ratio}");
    }
}

#[test]
fn the_missing_wedge_smears_along_the_beam() {
    let ball = Array3::from_shape_fn((16, 16, 16), |(z, y, x)| {
        let squared: f32 = [z, y, x].map(|i| (i as f32 - 8.0).powi(2)).iter().sum();
        (5.0 - squared.sqrt()).clamp(0.0, 1.0)
    });
    let params = SimParams {
        tilt: Some(TiltRange::symmetric(60.0)),
        ..quiet([48; 3])
    };
    let particles = ParticleList::from(vec![Particle::new([24.0; 3], 1)]);
    let templates = [Template::new("ball", Volume::new(ball))];
    let simulation = simulate_particles(&templates, &particles, &params, &NoProgress).unwrap();
    let image = &simulation.tomogram.voxels;
    // Just outside the ball: shadow above and below, and a light fringe beside it, but nothing along the tilt axis.
    let [above, beside, along_axis] = [image[[30, 24, 24]], image[[24, 24, 30]], image[[24, 30, 24]]];
    assert!(above < -0.1 && beside > 0.0, "above {above}, beside {beside}");
    assert!(
        above < along_axis,
        "above {above}, along the tilt axis {along_axis}"
    );
}

#[test]
fn crowded_volumes_say_so() {
    let templates = demo_templates();
    let params = SimParams {
        particles_per_class: 20,
        attempts: 30,
        ..quiet([40; 3])
    };
    let simulation = simulate(&templates, &params, &NoProgress).unwrap();
    let missing: usize = simulation.shortfall.values().sum();
    assert!(missing > 0);
    assert_eq!(simulation.particles.len() + missing, 100);

    let error = simulate(
        &templates,
        &SimParams {
            shape: [8; 3],
            ..params
        },
        &NoProgress,
    )
    .unwrap_err();
    assert!(matches!(error, SimError::NoRoom { .. }), "{error}");
}

#[test]
fn crowders_have_density_and_no_label() {
    let params = SimParams {
        particles_per_class: 0,
        crowders: 9,
        ..quiet([40; 3])
    };
    let simulation = simulate(&[hook()], &params, &NoProgress).unwrap();
    assert!(simulation.particles.is_empty() && simulation.labels.voxels.iter().all(|&label| label == 0));
    let dark = simulation.tomogram.voxels.iter().filter(|&&v| v < -0.3).count();
    assert!(dark > 300, "{dark}");
}

#[test]
fn what_makes_no_sense_is_named() {
    let templates = [hook()];
    let particle = |label, x| ParticleList::from(vec![Particle::new([x, 5.0, 5.0], label)]);
    let check = |params: SimParams, particles: ParticleList, words: &str| {
        let error = simulate_particles(&templates, &particles, &params, &NoProgress)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    };
    let base = quiet([20; 3]);
    check(base.clone(), particle(2, 5.0), "label 2");
    check(base.clone(), particle(0, 5.0), "label 0");
    check(base.clone(), particle(1, f64::NAN), "must be finite");
    let noisy = SimParams {
        noise: Noise::Filtered { snr: 1.0 },
        ..base.clone()
    };
    check(noisy.clone(), ParticleList::default(), "phantom is empty");
    for (params, words) in [
        (
            SimParams {
                shape: [0, 5, 5],
                ..base.clone()
            },
            "shape is [0, 5, 5]",
        ),
        (
            SimParams {
                shape: [usize::MAX / 2, 5, 5],
                ..base.clone()
            },
            "larger than this machine",
        ),
        (
            SimParams {
                noise: Noise::White { snr: 0.0 },
                ..base.clone()
            },
            "snr is 0",
        ),
        (
            SimParams {
                mask_fraction: 1.5,
                ..base.clone()
            },
            "mask_fraction",
        ),
        (
            SimParams {
                gap_voxels: f64::NAN,
                ..base.clone()
            },
            "gap_voxels",
        ),
        (
            SimParams {
                attempts: 0,
                ..base.clone()
            },
            "attempts",
        ),
        (
            SimParams {
                tilt: Some(TiltRange::symmetric(-5.0)),
                ..base.clone()
            },
            "tilt is 5° to -5°",
        ),
        (
            SimParams {
                low_pass_angstrom: Some(30.0),
                ..base.clone()
            },
            "need a voxel size",
        ),
    ] {
        check(params, particle(1, 5.0), words);
    }
    let none = simulate(&[], &base, &NoProgress);
    assert!(matches!(none, Err(SimError::TemplateCount { found: 0 })));
    let other = SimParams {
        voxel_size: Some(VoxelSize::new(13.7).unwrap()),
        ..base.clone()
    };
    let error = simulate(&demo_templates(), &other, &NoProgress).unwrap_err();
    assert!(matches!(error, SimError::VoxelSize { .. }), "{error}");
    let many = SimParams {
        particles_per_class: 70_000,
        ..base.clone()
    };
    let error = simulate(&templates, &many, &NoProgress).unwrap_err();
    assert!(matches!(error, SimError::TooManyParticles { .. }), "{error}");

    let token = CancelToken::default();
    token.cancel();
    let cancelled = simulate_particles(&templates, &particle(1, 5.0), &base, &token);
    assert!(matches!(cancelled, Err(SimError::Core(CoreError::Cancelled))));
}

/// Pearson's correlation of the voxels of a mask.
fn correlation(a: &Volume<f32>, b: &Volume<f32>, mask: &Array3<bool>) -> f64 {
    let mut sums = [0.0; 6];
    Zip::from(&a.voxels)
        .and(&b.voxels)
        .and(mask)
        .for_each(|&a, &b, &inside| {
            if inside {
                let (a, b) = (f64::from(a), f64::from(b));
                for (sum, term) in sums.iter_mut().zip([1.0, a, b, a * a, b * b, a * b]) {
                    *sum += term;
                }
            }
        });
    let [n, a, b, aa, bb, ab] = sums;
    (n * ab - a * b) / ((n * aa - a * a) * (n * bb - b * b)).sqrt()
}

/// The voxels within 12 of a particle.
fn near(particles: &[Particle], shape: [usize; 3]) -> Array3<bool> {
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let voxel = [x, y, z].map(|i| i as f64);
        particles.iter().any(|particle| {
            let squared: f64 = (0..3).map(|i| (particle.position[i] - voxel[i]).powi(2)).sum();
            squared <= 144.0
        })
    })
}

/// A phantom of 60 particles of twelve classes that was made with NumPy: the same particles with the same
/// rotations must look the same, and with any other convention less so.
#[test]
fn conventions_agree_with_the_parity_phantom() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !shared.exists() {
        eprintln!("skipped: ../shared not here");
        return;
    }
    let classes = [
        "1bxn", "1qvr", "1s3x", "1u6g", "2cg9", "3cf3", "3d2f", "3gl1", "3h84", "3qm1", "4b4t", "4d8q",
    ];
    let templates = read_templates(&shared.join("templates"), &classes);
    let expected = read_mrc(&shared.join("parity/volume.mrc"));
    let truth = std::fs::read_to_string(shared.join("parity/truth.csv")).unwrap();
    let particles: Vec<Particle> = truth
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
            let row = |i: usize| [fields[4 + 3 * i], fields[5 + 3 * i], fields[6 + 3 * i]];
            let rotation = Rotation::from_matrix([row(0), row(1), row(2)]).unwrap();
            Particle::new([fields[1], fields[2], fields[3]], fields[0] as Label).with_rotation(rotation)
        })
        .collect();
    let params = SimParams {
        tilt: Some(TiltRange::symmetric(60.0)),
        ..quiet([96, 112, 128])
    };
    let around = near(&particles, params.shape);
    let variant = |turn: &dyn Fn(Rotation) -> Rotation| {
        let mut particles = ParticleList::from(particles.clone());
        for particle in particles.iter_mut() {
            let rotation = turn(particle.rotation.unwrap());
            // That program turns the 48³ maps about 23.5, half a voxel from their centre of mass.
            let centre = rotation.apply([0.5; 3]);
            particle.position = std::array::from_fn(|i| particle.position[i] + centre[i]);
            particle.rotation = Some(rotation);
        }
        let simulation = simulate_particles(&templates, &particles, &params, &NoProgress).unwrap();
        correlation(&simulation.tomogram, &expected, &around)
    };
    let right = variant(&|rotation| rotation);
    let others = [
        ("inverse", variant(&Rotation::inverse)),
        ("x and z exchanged", variant(&Rotation::with_x_and_z_swapped)),
        (
            "both",
            variant(&|rotation| rotation.inverse().with_x_and_z_swapped()),
        ),
        ("none", variant(&|_| Rotation::IDENTITY)),
    ];
    eprintln!("right {right:.4}, {others:.4?}");
    assert!(right > 0.8, "{right}");
    for (name, other) in others {
        assert!(right > other + 0.05, "{name}: {other} against {right}");
    }
}

#[test]
fn the_demo_has_room_for_all_its_particles() {
    let templates = demo_templates();
    for seed in 0..4 {
        let params = SimParams {
            tilt: None,
            noise: Noise::None,
            ..SimParams::demo(seed)
        };
        let simulation = simulate(&templates, &params, &NoProgress).unwrap();
        assert!(
            simulation.shortfall.is_empty(),
            "seed {seed}: {:?}",
            simulation.shortfall
        );
    }
}

/// Series, truth, labels, particle numbers and tomogram.
type Tomography = (TiltSeries, Truth, Array3<Label>, Array3<u16>, Array3<f32>);

/// Everything that a tilt series gives, at the size of a test.
fn tomography(
    params: &SimParams,
    microscope: &TiltSeriesParams,
    threads: usize,
) -> Result<Tomography, SimError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let (mut labels, mut particle_ids, mut tomogram) = (Vec::new(), Vec::new(), Vec::new());
        let mut writers = TruthWriters {
            labels: &mut labels,
            particle_ids: &mut particle_ids,
        };
        let templates = demo_templates();
        let (series, truth) =
            simulate_tilt_series(&templates, None, params, microscope, &mut writers, &NoProgress)?;
        series.reconstruct(params.shape, microscope, &mut tomogram, &NoProgress)?;
        Ok((
            series,
            truth,
            joined(&labels),
            joined(&particle_ids),
            joined(&tomogram),
        ))
    })
}

fn joined<T: Clone>(slabs: &[Array3<T>]) -> Array3<T> {
    let views: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
    ndarray::concatenate(ndarray::Axis(0), &views).unwrap()
}

#[test]
fn a_tilt_series_shows_the_same_specimen_as_the_quick_way() {
    let params = SimParams {
        particles_per_class: 1,
        seed: 4,
        ..quiet([40, 48, 52])
    };
    let clean = TiltSeriesParams {
        step_degrees: 5.0,
        optics: None,
        exposure: 0.0,
        snr: None,
        ..TiltSeriesParams::default()
    };
    let (series, truth, labels, ids, tomogram) = tomography(&params, &clean, 2).unwrap();
    let quick = SimParams {
        tilt: Some(clean.tilt),
        padding_voxels: 16,
        ..params.clone()
    };
    let quick = simulate(&demo_templates(), &quick, &NoProgress).unwrap();
    assert_eq!(truth.particles, quick.particles);
    assert_eq!((truth.classes, truth.shortfall), (quick.classes, quick.shortfall));
    assert_eq!(labels, quick.labels.voxels);
    assert_eq!(ids, quick.particle_ids.voxels);
    let everywhere = Array3::from_elem(params.shape, true);
    let agreement = correlation(&Volume::new(tomogram), &quick.tomogram, &everywhere);
    assert!(agreement > 0.95, "{agreement}");
    // Wide enough for every tilt, and nothing is lost on the way.
    assert_eq!(series.tilts_degrees.len(), 25);
    let masses: Vec<f64> = series
        .images
        .outer_iter()
        .map(|image| image.iter().map(|v| f64::from(*v)).sum())
        .collect();
    for mass in &masses {
        assert!((mass / masses[12] - 1.0).abs() < 1e-4, "{masses:?}");
    }
}

#[test]
fn the_microscope_makes_matter_dark_and_adds_the_noise_asked_for() {
    let params = SimParams {
        particles_per_class: 1,
        crowders: 3,
        gold_beads: 1,
        membranes: 1,
        seed: 5,
        ..quiet([56, 64, 60])
    };
    let quiet_microscope = TiltSeriesParams {
        step_degrees: 10.0,
        snr: None,
        ..TiltSeriesParams::default()
    };
    let noisy_microscope = TiltSeriesParams {
        snr: Some(0.2),
        ..quiet_microscope.clone()
    };
    let (clean, truth, labels, _, tomogram) = tomography(&params, &quiet_microscope, 1).unwrap();
    let (noisy, ..) = tomography(&params, &noisy_microscope, 3).unwrap();
    assert_eq!(
        noisy,
        tomography(&params, &noisy_microscope, 1).unwrap().0,
        "threads change nothing"
    );
    // Where particles are, it is darker than elsewhere.
    let mean = |inside: bool| {
        let chosen = tomogram
            .iter()
            .zip(&labels)
            .filter(|(_, label)| (**label != 0) == inside);
        let values: Vec<f64> = chosen.map(|(voxel, _)| f64::from(*voxel)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    assert!(mean(true) < mean(false), "{} {}", mean(true), mean(false));
    assert!(!truth.particles.is_empty());
    let noise = &noisy.images - &clean.images;
    let margin = (noise.dim().2 - 60) / 2;
    let signal: f64 = clean
        .images
        .outer_iter()
        .map(|image| {
            image
                .slice(ndarray::s![.., margin..margin + 60])
                .mapv(f64::from)
                .var(0.0)
        })
        .sum::<f64>()
        / clean.tilts_degrees.len() as f64;
    let ratio = signal / variance(&noise);
    assert!((ratio / 0.2 - 1.0).abs() < 0.03, "{ratio}");
    // A solvent that varies is seen where nothing else is.
    let grainy = SimParams {
        grain: 0.5,
        ..params.clone()
    };
    let (grainy, ..) = tomography(&grainy, &quiet_microscope, 2).unwrap();
    assert!(variance(&(&grainy.images - &clean.images)) > 0.0);
}

#[test]
fn microscopes_that_make_no_sense_are_named() {
    let params = quiet([16; 3]);
    let base = TiltSeriesParams::default();
    let optics = |change: fn(&mut Optics)| {
        let mut optics = Optics::default();
        change(&mut optics);
        TiltSeriesParams {
            optics: Some(optics),
            ..TiltSeriesParams::default()
        }
    };
    for (microscope, words) in [
        (
            TiltSeriesParams {
                step_degrees: 0.0,
                ..base.clone()
            },
            "step_degrees",
        ),
        (
            TiltSeriesParams {
                snr: Some(f64::NAN),
                ..base.clone()
            },
            "snr",
        ),
        (
            TiltSeriesParams {
                tilt: TiltRange::symmetric(95.0),
                ..base.clone()
            },
            "95",
        ),
        (optics(|o| o.voltage_kv = 0.0), "voltage_kv"),
        (optics(|o| o.defocus_um = f64::INFINITY), "defocus_um"),
        (optics(|o| o.amplitude_contrast = 1.5), "amplitude_contrast"),
    ] {
        let error = tomography(&params, &microscope, 1).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let thin = SimParams {
        membranes: 2,
        ..quiet([16, 64, 64])
    };
    let error = tomography(&thin, &base, 1).unwrap_err().to_string();
    assert!(error.contains("membranes"), "{error}");
    let mut writers = (Vec::new(), Vec::new());
    let mut writers = TruthWriters {
        labels: &mut writers.0,
        particle_ids: &mut writers.1,
    };
    let unknown = simulate_tilt_series(&[hook()], None, &params, &base, &mut writers, &NoProgress);
    assert!(matches!(unknown, Err(SimError::UnknownVoxelSize)));
}
