//! Where the network runs, and what is said where it cannot. Most machines that run this have no GPU.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use deepfinder_tests::Bench;
use serde_json::Value;

const SMALL: &str = "bench --cube 12 --batch 1 --patch 8 --runs 1 --scores 3";

/// Why this machine has no GPU for us; nothing where it has one.
fn why_no_gpu(bench: &Bench) -> Option<String> {
    let listed = bench.run("info --devices --json").success();
    let devices: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let name = |device: &Value| device["name"].as_str().unwrap().to_owned();
    assert!(
        name(&devices[0]) == "cpu" && devices[0]["usable"] == true,
        "{listed}"
    );
    let cuda = devices
        .iter()
        .find(|device| name(device).starts_with("cuda"))
        .unwrap();
    if cuda["usable"] == true {
        eprintln!("skipped: this machine has a GPU");
        return None;
    }
    let reason = cuda["what"].as_str().unwrap().to_owned();
    assert!(reason.len() > 10, "{listed}");
    Some(reason)
}

#[test]
fn auto_says_once_why_it_runs_on_the_processor() {
    let bench = Bench::default();
    let Some(reason) = why_no_gpu(&bench) else { return };
    for arguments in [SMALL.to_owned(), format!("{SMALL} --device auto")] {
        let finished = bench.run(&arguments);
        let table = finished.success();
        assert!(table.contains("cpu") && !table.contains("cuda"), "{table}");
        let said = finished.stderr();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("processor")).collect();
        assert!(lines.len() == 1 && lines[0].contains(&reason), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // Who asks for the processor is told nothing.
    let finished = bench.run(&format!("{SMALL} --device cpu"));
    finished.success();
    assert!(!finished.stderr().contains("processor"), "{}", finished.stderr());
}

#[test]
fn a_gpu_that_cannot_be_had_is_refused_with_the_reason() {
    let bench = Bench::default();
    if let Some(reason) = why_no_gpu(&bench) {
        for device in ["cuda", "cuda:0", "cuda:1"] {
            bench
                .run(&format!("{SMALL} --device {device}"))
                .refused(&[&format!("{device}: {reason}"), "--device cpu or auto"]);
            bench
                .run(&format!("demo --out d --device {device}"))
                .refused(&[device, &reason]);
        }
    }
    // No machine has that many.
    bench
        .run(&format!("{SMALL} --device cuda:4096"))
        .refused(&["cuda:4096: "]);
    for device in ["gpu", "cuda:", "cuda:x", "cpu:1"] {
        let refused = bench.run(&format!("{SMALL} --device {device}"));
        refused.refused(&[&format!("`{device}` is no device"), "auto, cpu, cuda or cuda:N"]);
    }
    assert_eq!(bench.files(), [""; 0]);
}

#[test]
fn the_suite_for_gpus_runs_on_the_processor_too() {
    let bench = Bench::default();
    let checks = bench.run("check-device --device cpu --json").success();
    let checks: Vec<Value> = serde_json::from_str(&checks).unwrap();
    assert!(checks.len() > 10);
    for check in &checks {
        assert_eq!(check["found"], 0.0, "{check}");
    }
    bench
        .run("check-device --device cuda:4096")
        .refused(&["cuda:4096"]);
}
