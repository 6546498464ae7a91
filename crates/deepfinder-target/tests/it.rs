//! Targets against a reference written as the definition reads: every particle, every voxel, one thread.

use std::collections::BTreeMap;

use deepfinder_core::{
    CancelToken, CoreError, Label, LabelMap, NoProgress, Particle, ParticleList, Rotation, Volume, VoxelSize,
};
use deepfinder_target::{
    ClassOrder, ParticleShape, SphereCentre, TargetError, TargetParams, TargetReport, draw_target,
    write_target,
};
use ndarray::Array3;
use proptest::prelude::*;

/// Every voxel that a particle has, `[z, y, x]`, inside the tomogram or not.
fn voxels_of(particle: &Particle, params: &TargetParams) -> Vec<[i64; 3]> {
    let [x, y, z] = particle.position;
    let mut voxels = Vec::new();
    match &params.shapes[&particle.label] {
        ParticleShape::Sphere { radius_voxels } => {
            let centre = match params.centre {
                SphereCentre::SubVoxel => [z, y, x],
                SphereCentre::Truncated => [z.trunc(), y.trunc(), x.trunc()],
            };
            let [az, ay, ax] = centre.map(|c| (c - radius_voxels).floor() as i64);
            let [bz, by, bx] = centre.map(|c| (c + radius_voxels).ceil() as i64);
            for voxel in boxed([az, ay, ax], [bz, by, bx]) {
                let squared: f64 = (0..3).map(|i| (voxel[i] as f64 - centre[i]).powi(2)).sum();
                if squared <= radius_voxels * radius_voxels {
                    voxels.push(voxel);
                }
            }
        }
        ParticleShape::Mask(mask) => {
            let side = mask.shape()[0] as i64;
            let centre = side as f64 / 2.0;
            let back = particle.rotation.unwrap_or(Rotation::IDENTITY).inverse();
            for [vz, vy, vx] in boxed([0; 3], [side - 1; 3]) {
                let offset = [vx, vy, vz].map(|i| i as f64 - centre);
                let [px, py, pz] = back.apply(offset).map(|c| c + centre);
                if trilinear(mask, [pz, py, px]) >= 0.5 {
                    let half = side / 2;
                    voxels.push([
                        vz - half + z.round() as i64,
                        vy - half + y.round() as i64,
                        vx - half + x.round() as i64,
                    ]);
                }
            }
        }
    }
    voxels
}

fn boxed([az, ay, ax]: [i64; 3], [bz, by, bx]: [i64; 3]) -> impl Iterator<Item = [i64; 3]> {
    (az..=bz).flat_map(move |z| (ay..=by).flat_map(move |y| (ax..=bx).map(move |x| [z, y, x])))
}

fn trilinear(mask: &Volume<u8>, point: [f64; 3]) -> f64 {
    let side = mask.shape()[0] as i64;
    let floor = point.map(|c| c.floor() as i64);
    boxed([0; 3], [1; 3])
        .map(|corner| {
            let voxel: [i64; 3] = std::array::from_fn(|i| floor[i] + corner[i]);
            let weight: f64 = (0..3).map(|i| 1.0 - (point[i] - voxel[i] as f64).abs()).product();
            let inside = voxel.iter().all(|i| (0..side).contains(i));
            let set = inside && mask.voxels[voxel.map(|i| i as usize)] != 0;
            if set { weight } else { 0.0 }
        })
        .sum()
}

fn reference(shape: [usize; 3], particles: &ParticleList, params: &TargetParams) -> (LabelMap, TargetReport) {
    let mut order: Vec<usize> = (0..particles.len()).collect();
    if params.order == ClassOrder::BySizeDescending {
        let size = |i: usize| params.shapes[&particles[i].label].size_voxels();
        order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
    }
    let mut map = Array3::zeros(shape);
    let mut report = TargetReport::default();
    for index in order {
        let (mut inside, mut outside) = (0, 0);
        for voxel in voxels_of(&particles[index], params) {
            if (0..3).all(|i| (0..shape[i] as i64).contains(&voxel[i])) {
                map[voxel.map(|i| i as usize)] = particles[index].label;
                inside += 1;
            } else {
                outside += 1;
            }
        }
        match (inside, outside) {
            (0, 0) => report.empty.push(index),
            (0, _) => report.outside.push(index),
            (_, 0) => report.drawn += 1,
            (_, _) => {
                report.drawn += 1;
                report.partly_outside.push(index);
            }
        }
    }
    for indices in [&mut report.empty, &mut report.outside, &mut report.partly_outside] {
        indices.sort_unstable();
    }
    (Volume::new(map), report)
}

fn blob(side: usize, seed: u64) -> Volume<u8> {
    // Ragged, lopsided, different on every axis: a wrong axis order or direction can't hide.
    let mut blob = Volume::new(Array3::from_shape_fn((side, side, side), |(z, y, x)| {
        let [dz, dy, dx] = [z, y, x].map(|i| i as f64 - side as f64 / 2.0);
        let wave = (0.9 * dx + 0.4 * dy * dx + seed as f64).sin() + (1.3 * dz).cos();
        u8::from(dz * dz / 2.0 + dy * dy + dx.powi(2) * 1.5 + wave * 3.0 < (side * side) as f64 / 9.0)
    }));
    blob.voxels[[side / 2; 3]] = 1;
    blob
}

fn particle() -> impl Strategy<Value = Particle> {
    let position = prop::array::uniform3(prop_oneof![
        -12.0..32.0f64,
        (-24..64i32).prop_map(|half| f64::from(half) / 2.0)
    ]);
    let rotation = prop::option::weighted(0.8, (0.0..360.0f64, 0.0..360.0f64, 0.0..180.0f64));
    (position, 1..=4u8, rotation).prop_map(|(position, label, angles)| {
        let rotation = angles.map(|(phi, psi, the)| Rotation::from_zxz_degrees(phi, psi, the));
        Particle::new(position, label).with_rotation(rotation)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn threads_and_reference_agree(
        shape in prop::array::uniform3(1..24usize),
        particles in prop::collection::vec(particle(), 0..30),
        radii in (0.3..2.0f64, 2.0..6.0f64),
        sides in (3..12usize, 3..12usize),
        quirks in (any::<bool>(), any::<bool>()),
    ) {
        let params = TargetParams {
            shapes: BTreeMap::from([
                (1, ParticleShape::Sphere { radius_voxels: radii.0 }),
                (2, ParticleShape::Sphere { radius_voxels: radii.1 }),
                (3, ParticleShape::Mask(blob(sides.0, 1))),
                (4, ParticleShape::Mask(blob(sides.1, 2))),
            ]),
            order: if quirks.0 { ClassOrder::AsListed } else { ClassOrder::BySizeDescending },
            centre: if quirks.1 { SphereCentre::SubVoxel } else { SphereCentre::Truncated },
        };
        let particles = ParticleList::from(particles);
        let (expected, expected_report) = reference(shape, &particles, &params);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (target, mut report) =
                pool.install(|| draw_target(shape, &particles, &params, None, &NoProgress)).unwrap();
            prop_assert_eq!(&target, &expected);
            let mut slabs: Vec<Array3<Label>> = Vec::new();
            let (streamed, counts) = pool
                .install(|| write_target(shape, &particles, &params, None, &mut slabs, &NoProgress))
                .unwrap();
            let views: Vec<_> = slabs.iter().map(|slab| slab.view()).collect();
            prop_assert_eq!(&ndarray::concatenate(ndarray::Axis(0), &views).unwrap(), &expected.voxels);
            prop_assert_eq!(&counts[..], &deepfinder_core::count_labels(expected.voxels.as_slice().unwrap())[..]);
            prop_assert_eq!(&streamed, &report);
            report.tight_masks.clear();
            prop_assert_eq!(&report, &expected_report);
        }
    }
}

#[allow(clippy::unwrap_used, reason = "a helper of tests")]
fn draw(shape: [usize; 3], particles: Vec<Particle>, params: &TargetParams) -> (LabelMap, TargetReport) {
    draw_target(shape, &ParticleList::from(particles), params, None, &NoProgress).unwrap()
}

fn labelled(map: &LabelMap, label: Label) -> Vec<[usize; 3]> {
    let found = map.voxels.indexed_iter().filter(|&(_, &voxel)| voxel == label);
    found.map(|((z, y, x), _)| [z, y, x]).collect()
}

/// The mask holds its centre and one voxel two steps along +x; where the second goes is known by hand.
#[test]
fn rotation_is_active_from_particle_to_tomogram() {
    let mut mask = Array3::zeros((8, 8, 8));
    mask[[4, 4, 4]] = 1;
    mask[[4, 4, 6]] = 1;
    let params = TargetParams::new([(1, ParticleShape::Mask(Volume::new(mask)))]);
    for (rotation, arm) in [
        (None, [10, 10, 12]),
        // phi and psi by 90°: x → y.
        (Some(Rotation::from_zxz_degrees(90.0, 0.0, 0.0)), [10, 12, 10]),
        (Some(Rotation::from_zxz_degrees(0.0, 90.0, 0.0)), [10, 12, 10]),
        // x → y by phi, then y → z by the.
        (Some(Rotation::from_zxz_degrees(90.0, 0.0, 90.0)), [12, 10, 10]),
        // x stays x under the, then x → y by psi: the other order would end on z.
        (Some(Rotation::from_zxz_degrees(0.0, 90.0, 90.0)), [10, 12, 10]),
        (Some(Rotation::from_zxz_degrees(0.0, 180.0, 0.0)), [10, 10, 8]),
    ] {
        let particle = Particle::new([10.2, 9.8, 10.4], 1).with_rotation(rotation);
        let (map, _) = draw([21, 21, 21], vec![particle], &params);
        let mut expected = vec![[10, 10, 10], arm];
        expected.sort_unstable();
        assert_eq!(labelled(&map, 1), expected, "{rotation:?}");
    }
}

#[test]
fn spheres_hold_the_voxels_within_the_radius() {
    let params = TargetParams::new([(1, ParticleShape::Sphere { radius_voxels: 1.0 })]);
    let (map, _) = draw([5, 5, 5], vec![Particle::new([2.0, 2.0, 2.0], 1)], &params);
    assert_eq!(labelled(&map, 1).len(), 7, "the boundary belongs to the sphere");

    let between = vec![Particle::new([2.5, 2.0, 2.0], 1)];
    let (map, _) = draw([5, 5, 5], between.clone(), &params);
    assert_eq!(labelled(&map, 1), [[2, 2, 2], [2, 2, 3]]);
    let truncated = TargetParams {
        centre: SphereCentre::Truncated,
        ..params
    };
    let (map, _) = draw([5, 5, 5], between, &truncated);
    assert_eq!(labelled(&map, 1).len(), 7);
}

#[test]
fn points_are_half_as_large_as_their_particles_and_no_smaller_than_a_block() {
    for (particle, ball) in [(9.0, 4.5), (4.0, 2.0), (1.5, 2.0)] {
        let expected = ParticleShape::Sphere { radius_voxels: ball };
        assert_eq!(ParticleShape::point(particle), expected);
    }
    // Wherever the particle lies, whole blocks of 2³ voxels have its label.
    for centre in [10.0, 10.25, 10.5, 11.0] {
        let params = TargetParams::new([(1, ParticleShape::point(2.0))]);
        let (map, _) = draw([22, 22, 22], vec![Particle::new([centre; 3], 1)], &params);
        let blocks = map.voxels.exact_chunks([2, 2, 2]);
        let whole = blocks
            .into_iter()
            .filter(|block| block.iter().all(|label| *label == 1));
        assert!(whole.count() >= 1, "{centre}");
    }
}

#[test]
fn classes_are_drawn_in_the_order_given() {
    let shapes = || (1..=3).map(|label| (label, ParticleShape::Sphere { radius_voxels: 2.0 }));
    let particles: Vec<_> = [1, 2, 3, 1].map(|label| Particle::new([4.0; 3], label)).to_vec();
    let params = |order: &[u8]| TargetParams {
        order: ClassOrder::Classes(order.to_vec()),
        ..TargetParams::new(shapes())
    };
    for (order, on_top) in [
        (&[][..], 1),
        (&[2], 2),
        (&[1, 3], 3),
        (&[3, 2, 1], 1),
        (&[3, 1, 2], 2),
    ] {
        let (map, _) = draw([9, 9, 9], particles.clone(), &params(order));
        assert_eq!(map.voxels[[4, 4, 4]], on_top, "{order:?}");
    }
    let error = params(&[2, 1, 2]).check().unwrap_err();
    assert!(matches!(error, TargetError::OrderTwice { label: 2 }), "{error}");
    let error = params(&[2, 4]).check().unwrap_err();
    assert!(matches!(error, TargetError::OrderShape { label: 4 }), "{error}");
}

#[test]
fn later_particles_lie_on_top_unless_smaller_classes_should() {
    let mut params = TargetParams::new([
        (1, ParticleShape::Sphere { radius_voxels: 1.0 }),
        (2, ParticleShape::Sphere { radius_voxels: 3.0 }),
    ]);
    let particles = vec![Particle::new([4.0; 3], 1), Particle::new([4.0; 3], 2)];
    let (map, _) = draw([9, 9, 9], particles.clone(), &params);
    assert!(labelled(&map, 1).is_empty());
    params.order = ClassOrder::BySizeDescending;
    let (map, _) = draw([9, 9, 9], particles, &params);
    assert_eq!(labelled(&map, 1).len(), 7);
}

#[test]
fn the_initial_map_lies_underneath() {
    let size = VoxelSize::new(10.0).unwrap();
    let mut membrane = Volume::new(Array3::zeros((9, 9, 9))).with_voxel_size(size);
    membrane.voxels.slice_mut(ndarray::s![.., 4, ..]).fill(5);
    membrane.origin_angstrom = [1.0, 2.0, 3.0];
    let params = TargetParams::new([(1, ParticleShape::Sphere { radius_voxels: 2.0 })]);
    let mut particles = ParticleList::from(vec![Particle::new([4.0; 3], 1)]);
    let (map, _) = draw_target([9, 9, 9], &particles, &params, Some(&membrane), &NoProgress).unwrap();
    assert_eq!((map.voxels[[4, 4, 4]], map.voxels[[0, 4, 4]]), (1, 5));
    let mut slabs = Vec::new();
    let (_, counts) = write_target(
        [9, 9, 9],
        &particles,
        &params,
        Some(&membrane),
        &mut slabs,
        &NoProgress,
    )
    .unwrap();
    assert_eq!(slabs, std::slice::from_ref(&map.voxels));
    assert_eq!(counts[1] + counts[5] + counts[0], 729);
    assert_eq!(
        (map.voxel_size, map.origin_angstrom),
        (Some(size), [1.0, 2.0, 3.0])
    );

    let error = draw_target([9, 9, 8], &particles, &params, Some(&membrane), &NoProgress).unwrap_err();
    assert!(matches!(error, TargetError::InitialShape { .. }), "{error}");
    particles.voxel_size = Some(VoxelSize::new(13.7).unwrap());
    let error = draw_target([9, 9, 9], &particles, &params, Some(&membrane), &NoProgress).unwrap_err();
    assert!(matches!(error, TargetError::VoxelSize { .. }), "{error}");
}

#[test]
fn what_lies_outside_is_reported() {
    let mut full = Volume::new(blob(8, 1).voxels);
    full.voxels.fill(1);
    let params = TargetParams::new([
        (1, ParticleShape::Sphere { radius_voxels: 2.0 }),
        (2, ParticleShape::Mask(full)),
        (3, ParticleShape::Sphere { radius_voxels: 0.4 }),
    ]);
    let positions = [
        ([10.0, 10.0, 10.0], 1),
        ([1.0, 10.0, 10.0], 1),
        ([-3.0, 10.0, 10.0], 1),
        ([10.0, 10.0, 1e300], 1),
        ([10.0, 10.0, 18.0], 2),
        ([-1e300, 10.0, 18.0], 2),
        ([10.5, 10.5, 10.0], 3),
    ];
    let particles = positions.map(|(position, label)| Particle::new(position, label));
    let (_, report) = draw([20, 20, 20], particles.to_vec(), &params);
    assert_eq!(report.drawn, 3);
    assert_eq!(report.partly_outside, [1, 4]);
    assert_eq!(report.outside, [2, 3, 5]);
    assert_eq!(report.empty, [6]);
    assert_eq!(report.tight_masks, [2]);
}

#[test]
fn what_can_not_be_drawn_is_named() {
    let sphere = |radius_voxels| TargetParams::new([(1, ParticleShape::Sphere { radius_voxels })]);
    let mask = |shape| TargetParams::new([(1, ParticleShape::Mask(Volume::new(Array3::zeros(shape))))]);
    let fail = |particles: Vec<Particle>, params: &TargetParams| {
        draw_target([8, 8, 8], &particles.into(), params, None, &NoProgress)
            .unwrap_err()
            .to_string()
    };
    let at = |label| Particle::new([1.0; 3], label);
    for (error, words) in [
        (
            fail(vec![at(3), at(1), at(7), at(3)], &sphere(1.0)),
            "class 3 (2 particles), class 7 (1 particles)",
        ),
        (fail(vec![at(1)], &sphere(f64::NAN)), "radius of class 1"),
        (fail(vec![at(1)], &sphere(0.0)), "radius of class 1"),
        (fail(vec![at(1)], &mask((8, 8, 6))), "must be a cube"),
        (fail(vec![at(1)], &mask((8, 8, 8))), "mask of class 1 is empty"),
        (
            fail(vec![Particle::new([1.0, f64::NAN, 1.0], 1)], &sphere(1.0)),
            "must be finite",
        ),
        (
            fail(
                vec![],
                &TargetParams::new([(0, ParticleShape::Sphere { radius_voxels: 1.0 })]),
            ),
            "background",
        ),
    ] {
        assert!(error.contains(words), "{error}");
    }
    let huge = draw_target(
        [usize::MAX, 2, 1],
        &vec![].into(),
        &sphere(1.0),
        None,
        &NoProgress,
    );
    assert!(matches!(huge, Err(TargetError::TooLarge { .. })));
}

#[test]
fn it_can_be_cancelled() {
    let token = CancelToken::default();
    token.cancel();
    let params = TargetParams::default();
    let error = draw_target([8, 8, 8], &ParticleList::default(), &params, None, &token).unwrap_err();
    assert!(
        matches!(error, TargetError::Core(CoreError::Cancelled)),
        "{error}"
    );
}
