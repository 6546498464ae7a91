use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{BALLS, Bench};

/// Begins work and waits for its end.
fn done(bench: &Bench, work: &Value) -> Value {
    bench.send("POST", "/api/job", work).ok();
    loop {
        let job = bench.get("/api/job").ok().json();
        if job["status"] != "running" {
            return job;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn targets_are_made_and_found_up_to_date() {
    let bench = Bench::project();
    let dry = bench
        .send(
            "POST",
            "/api/job",
            &json!({ "stage": "targets", "dry_run": true }),
        )
        .ok()
        .json();
    let line = dry["commands"][0].as_str().unwrap();
    assert!(
        line.starts_with("deepfinder target ") && line.contains("--radius 2=30A"),
        "{line}"
    );
    for skipped in [false, true] {
        let job = done(&bench, &json!({ "stage": "targets" }));
        assert_eq!(job["status"], "done", "{job}");
        assert_eq!(
            job["products"],
            json!([{ "stage": "target", "subject": "one", "skipped": skipped }])
        );
    }
    let slice = bench
        .get("/api/tomograms/one/slice?layer=target&axis=z&index=9")
        .ok();
    assert!(slice.body.contains(&1));
}

#[test]
fn picking_is_tried_out_and_then_kept() {
    let bench = Bench::project();
    let settings = json!({ "method": "components", "min_score": 0.5, "min_size": 5 });
    let found = bench
        .send("POST", "/api/tomograms/one/find", &settings)
        .ok()
        .json();
    assert_eq!(found["particles"].as_array().unwrap().len(), BALLS.len());
    assert!(found["particles"][0]["size"].as_u64().unwrap() > 50);
    assert!(
        found["command"]
            .as_str()
            .unwrap()
            .contains("--method components --min-size 5")
    );
    assert!(!bench.path("output/picks").exists(), "nothing is written");
    bench
        .send("PUT", "/api/project", &json!({ "pick": settings }))
        .ok();
    let job = done(&bench, &json!({ "stage": "pick", "tomogram": "one" }));
    assert_eq!(job["status"], "done", "{job}");
    let picks = bench.get("/api/tomograms/one/list?list=picks").ok().json();
    assert_eq!(picks["particles"].as_array().unwrap().len(), BALLS.len());

    let compare = json!({ "a": "annotations", "b": "picks", "radius": 2 });
    let scores = bench
        .send("POST", "/api/tomograms/one/evaluate", &compare)
        .ok()
        .json();
    assert!(
        scores["evaluation"].to_string().contains("\"f1\":1.0"),
        "{scores}"
    );
    let line = scores["command"].as_str().unwrap();
    assert!(
        line.starts_with("deepfinder evaluate ") && line.contains("--radius 2"),
        "{line}"
    );
    let consensus = bench
        .send("POST", "/api/tomograms/one/consensus", &compare)
        .ok()
        .json();
    assert_eq!(consensus["all"]["both"], json!(BALLS.len()));
    assert_eq!(consensus["particles"][0]["found_by"], "both");
}

#[test]
fn what_cannot_be_done_says_why() {
    let bench = Bench::project();
    for (work, said) in [
        (json!({ "stage": "segment", "tomogram": "one" }), "no weights"),
        (json!({ "stage": "pick", "tomogram": "other" }), "other.mrc"),
    ] {
        let answer = bench.send("POST", "/api/job", &work);
        let text = if answer.status == 200 {
            done_text(&bench)
        } else {
            answer.text()
        };
        assert!(text.contains(said), "{work}: {text}");
    }
    assert_eq!(
        bench
            .send("POST", "/api/job", &json!({ "stage": "sorrow" }))
            .status,
        422
    );
    let metrics = bench.get("/api/metrics").ok().json();
    assert_eq!(
        (
            metrics["count"].as_u64(),
            metrics["lines"].as_array().unwrap().len()
        ),
        (Some(0), 0)
    );
}

fn done_text(bench: &Bench) -> String {
    loop {
        let job = bench.get("/api/job").ok().json();
        if job["status"] != "running" {
            return job.to_string();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lists_and_volumes_go_to_every_format() {
    let bench = Bench::project();
    let formats = bench.get("/api/formats").ok().json();
    let particles = formats["particles"].as_array().unwrap();
    assert!(particles.len() > 15);
    let export = |what: Value, format: &Value| {
        let answer = bench.send(
            "POST",
            "/api/tomograms/one/export",
            &json!({ "what": what, "format": format }),
        );
        assert_eq!(answer.status, 200, "{format}: {}", answer.text());
        let made = answer.json();
        let file = made["file"].as_str().unwrap().to_owned();
        assert!(
            bench.path(&file).exists() && file.starts_with("output/export/"),
            "{file}"
        );
        made
    };
    for format in particles {
        let mut body = json!({ "what": { "list": "annotations" }, "format": format["id"] });
        if format["id"] == "copick" {
            // It keeps a file a class.
            let refused = bench.send("POST", "/api/tomograms/one/export", &body);
            assert!(
                refused.status == 422 && refused.text().contains("2 classes"),
                "{}",
                refused.text()
            );
            body["label"] = json!(1);
        }
        let answer = bench.send("POST", "/api/tomograms/one/export", &body);
        assert_eq!(answer.status, 200, "{format}: {}", answer.text());
        let file = answer.json()["file"].as_str().unwrap().to_owned();
        let kept = bench.get(&format!("/api/file?path={file}")).ok();
        assert!(kept.head.contains("attachment") && !kept.body.is_empty());
    }
    for format in formats["volumes"].as_array().unwrap() {
        export(json!({ "layer": "labels" }), &format["id"]);
    }
    let none = json!({ "what": { "layer": "labels" }, "format": "../../x" });
    assert_eq!(bench.send("POST", "/api/tomograms/one/export", &none).status, 400);
}

#[test]
fn news_come_as_events() {
    let bench = Bench::project();
    let answer = std::thread::scope(|scope| {
        let listening = scope.spawn(|| {
            use std::io::{BufRead, BufReader, Write};
            let address = bench.url.split('/').nth(2).unwrap();
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let request = format!(
                "GET /api/events HTTP/1.1\r\nHost: {address}\r\nX-Studio-Token: {}\r\n\r\n",
                bench.token
            );
            stream.write_all(request.as_bytes()).unwrap();
            let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
            lines.find(|line| line.contains("\"status\":\"done\"")).unwrap()
        });
        bench
            .send("POST", "/api/job", &json!({ "stage": "targets" }))
            .ok();
        listening.join().unwrap()
    });
    assert!(
        answer.starts_with("data:") && answer.contains("\"stage\":\"target\""),
        "{answer}"
    );
}
