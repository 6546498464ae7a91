use deepfinder_io::{ReadOptions, read_particles};
use serde_json::{Value, json};

use crate::client::{BALLS, Bench};

const ANNOTATIONS: &str = "/api/tomograms/one/lists/annotations";

fn particles(list: &Value) -> usize {
    list["particles"].as_array().unwrap().len()
}

#[test]
fn what_is_acknowledged_is_on_the_disk() {
    let bench = Bench::project();
    let list = bench.get(ANNOTATIONS).ok().json();
    assert_eq!(
        (particles(&list), list["file"].as_str()),
        (BALLS.len(), Some("one.xml"))
    );
    let one = json!([{ "x": 1.5, "y": 2, "z": 3, "label": 2 }]);
    let change = json!({ "revision": list["revision"], "particles": one });
    let saved = bench.send("PUT", ANNOTATIONS, &change).ok().json();
    let written = read_particles(&bench.path("one.xml"), &ReadOptions::default()).unwrap();
    assert_eq!(
        (written.len(), written[0].position, written[0].label),
        (1, [1.5, 2.0, 3.0], 2)
    );
    let again = bench.get(ANNOTATIONS).ok().json();
    assert_eq!(again["revision"], saved["revision"]);
    assert_eq!(particles(&again), 1);
}

#[test]
fn a_list_that_changed_outside_is_not_overwritten() {
    let bench = Bench::project();
    let list = bench.get(ANNOTATIONS).ok().json();
    let outside = "<objlist>\n<object class_label=\"1\" x=\"5\" y=\"6\" z=\"7\"/>\n</objlist>";
    std::fs::write(bench.path("one.xml"), outside).unwrap();
    let change = json!({ "revision": list["revision"], "particles": [] });
    let refused = bench.send("PUT", ANNOTATIONS, &change);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("changed by another program")
    );
    assert_eq!(std::fs::read_to_string(bench.path("one.xml")).unwrap(), outside);
}

#[test]
fn senseless_particles_change_nothing() {
    let bench = Bench::project();
    let list = bench.get(ANNOTATIONS).ok().json();
    let before = std::fs::read(bench.path("one.xml")).unwrap();
    for particle in [
        json!({ "x": 1, "y": 2, "z": 3, "label": 0 }),
        json!({ "x": 1, "y": 2, "z": 3, "label": 300 }),
        json!({ "x": 1e300, "y": 2, "z": 3, "label": 1 }),
        json!({ "x": 1, "y": 2, "label": 1 }),
        json!({ "x": 1, "y": 2, "z": 3, "label": 1, "sorrow": 1 }),
    ] {
        let change = json!({ "revision": list["revision"], "particles": [particle] });
        assert!(
            [400, 422].contains(&bench.send("PUT", ANNOTATIONS, &change).status),
            "{particle}"
        );
    }
    assert_eq!(std::fs::read(bench.path("one.xml")).unwrap(), before);
}

#[test]
fn annotations_of_a_tomogram_without_any_are_named_in_the_project() {
    let bench = Bench::project();
    let path = "/api/tomograms/other/lists/annotations";
    let list = bench.get(path).ok().json();
    assert_eq!((particles(&list), list["revision"].as_str()), (0, Some("")));
    let change = json!({ "revision": "", "particles": [{ "x": 1, "y": 2, "z": 3, "label": 1 }] });
    bench.send("PUT", path, &change).ok();
    let text = std::fs::read_to_string(bench.path("deepfinder.toml")).unwrap();
    assert!(text.contains("picks = \"annotations/other.xml\""), "{text}");
    assert_eq!(particles(&bench.get(path).ok().json()), 1);
    let splits = json!({ "tomograms": [{ "name": "other", "split": "validate" }] });
    let project = bench.send("PUT", "/api/project", &splits).ok().json();
    assert_eq!(project["tomograms"][1]["split"], "validate");
    let senseless = json!({ "classes": [] });
    assert_eq!(bench.send("PUT", "/api/project", &senseless).status, 422);
}

#[test]
fn a_tomogram_alone_is_annotated_beside_itself_and_becomes_a_project() {
    let bench = Bench::tomogram();
    let project = bench.get("/api/project").ok().json();
    assert_eq!(
        (project["file"].as_str(), project["first"].as_str()),
        (None, Some("one"))
    );
    let change = json!({ "revision": "", "particles": [{ "x": 1, "y": 2, "z": 3, "label": 1 }] });
    bench.send("PUT", ANNOTATIONS, &change).ok();
    assert!(bench.path("one.xml").is_file() && !bench.path("deepfinder.toml").exists());
    let job = bench.send("POST", "/api/job", &json!({ "stage": "targets" }));
    assert!(
        job.status == 400 && job.text().contains("no project"),
        "{}",
        job.text()
    );
    let classes = json!({ "classes": [{ "label": 1, "name": "ribosome", "radius": 4 }] });
    let project = bench.send("PUT", "/api/project", &classes).ok().json();
    assert!(
        project["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("deepfinder.toml"))
    );
    assert_eq!(project["classes"][0]["name"], "ribosome");
    assert!(bench.path("deepfinder.toml").is_file());
}

#[test]
fn verdicts_on_picks_are_kept_as_lists() {
    let bench = Bench::project();
    for which in ["accepted", "rejected"] {
        let path = format!("/api/tomograms/one/lists/{which}");
        let change =
            json!({ "revision": "", "particles": [{ "x": 1, "y": 2, "z": 3, "label": 1, "score": 0.5 }] });
        bench.send("PUT", &path, &change).ok();
        assert!(bench.path(&format!("output/{which}/one.xml")).is_file());
        let list = bench.get(&path).ok().json();
        assert_eq!(list["particles"][0]["score"], 0.5);
    }
    let lists = bench.get("/api/lists").ok().json();
    assert_eq!(
        lists,
        json!(["one.xml", "output/accepted/one.xml", "output/rejected/one.xml"])
    );
}
