use serde_json::json;

use crate::client::{Answer, BALLS, Bench, SHAPE, voxel};

fn fact(answer: &Answer, name: &str) -> usize {
    let line = answer
        .head
        .lines()
        .find(|line| line.to_lowercase().starts_with(name))
        .unwrap();
    line.split_once(": ").unwrap().1.parse().unwrap()
}

#[test]
fn slices_are_those_of_the_file() {
    let bench = Bench::project();
    let [depth, height, width] = SHAPE;
    for (axis, rows, columns) in [("z", height, width), ("y", depth, width), ("x", depth, height)] {
        let path = format!("/api/tomograms/one/slice?layer=tomogram&axis={axis}&index=7&low=0&high=255");
        let answer = bench.get(&path).ok();
        assert_eq!(
            (fact(&answer, "x-height"), fact(&answer, "x-width")),
            (rows, columns)
        );
        assert_eq!(answer.body.len(), rows * columns);
        for (row, column) in [(0, 0), (3, 5), (rows - 1, columns - 1)] {
            let at = match axis {
                "z" => [7, row, column],
                "y" => [row, 7, column],
                _ => [row, column, 7],
            };
            assert_eq!(
                f32::from(answer.body[row * columns + column]),
                voxel(at),
                "{axis} {row} {column}"
            );
        }
    }
    let labels = bench
        .get("/api/tomograms/one/slice?layer=labels&axis=z&index=9")
        .ok();
    let ([x, y, _], label) = BALLS[0];
    assert_eq!(labels.body[y as usize * width + x as usize], label);
}

#[test]
fn senseless_slices_are_refused() {
    let bench = Bench::project();
    let slice = "/api/tomograms/one/slice?layer=tomogram&axis=z&index=0";
    for (path, status) in [
        (format!("{slice}&low=1&high=1"), 400),
        (format!("{slice}&low=NaN&high=1"), 400),
        (format!("{slice}&low=0&high=1&more=1"), 400),
        (slice.replace("axis=z", "axis=w") + "&low=0&high=1", 400),
        (slice.replace("=tomogram", "=sorrow") + "&low=0&high=1", 400),
        (slice.replace("/one/", "/none/") + "&low=0&high=1", 404),
        (slice.replace("=tomogram", "=score-1") + "&low=0&high=1", 404),
        (slice.replace("index=0", "index=-1") + "&low=0&high=1", 400),
    ] {
        let answer = bench.get(&path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

#[test]
fn a_new_label_map_is_seen_at_once() {
    let bench = Bench::project();
    let path = "/api/tomograms/one/slice?layer=labels&axis=z&index=0";
    assert_eq!(bench.get(path).ok().body[0], 0);
    let labels = deepfinder_core::Volume::new(ndarray::Array3::from_elem(SHAPE, 2_u8));
    deepfinder_io::write_volume(&bench.path("output/labels/one.mrc"), &labels).unwrap();
    assert_eq!(bench.get(path).ok().body[0], 2);
    let info = bench.get("/api/tomograms/one").ok().json();
    assert_eq!(info["shape_zyx"], json!(SHAPE));
    assert_eq!(info["radii_voxels"], json!({ "1": 3.0, "2": 3.0 }));
}

#[test]
fn clusters_of_points_are_looked_for_as_such() {
    let bench = Bench::project();
    let radius = || bench.get("/api/tomograms/one").ok().json()["pick_radius_voxels"].clone();
    assert_eq!(radius(), json!(3.0));
    let edit = json!({ "target": { "points": true, "point_radius": 1.5 } });
    assert_eq!(
        bench.send("PUT", "/api/project", &edit).ok().json()["target"]["points"],
        json!(true)
    );
    assert_eq!(radius(), json!(1.5));
}

#[test]
fn crops_and_blocks_are_cut_at_the_edge() {
    let bench = Bench::project();
    let request =
        json!({ "positions": [[0, 0, 0], [14, 12, 10], [1e6, 0, 0]], "side": 8, "low": 0, "high": 255 });
    let crops = bench.send("POST", "/api/tomograms/one/crops", &request).ok();
    assert_eq!(crops.body.len(), 3 * 64);
    assert_eq!(crops.body[0], 0, "outside is black");
    let mean = (9..12).map(|z| voxel([z, 12, 14])).sum::<f32>() / 3.0;
    assert_eq!(crops.body[64 + 4 * 8 + 4], mean as u8);
    assert!(crops.body[128..].iter().all(|byte| *byte == 0));
    let block = bench.get("/api/tomograms/one/block?layer=labels").ok();
    assert_eq!(
        (block.body.len(), fact(&block, "x-step")),
        (SHAPE.iter().product(), 1)
    );
    assert_eq!(bench.get("/api/tomograms/one/block?layer=tomogram").status, 400);
}
