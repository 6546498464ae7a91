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
    if let Some(reason) = why_no_gpu(&bench) {
        for command in ["train project", "check-device", SMALL] {
            let refused = bench.run(&format!("{command} --device cuda:0,cuda:1"));
            refused.refused(&[&format!("cuda:0: {reason}")]);
        }
    }
    // Several share what can be shared, and are never taken for one.
    for (devices, said) in [
        ("cuda:0,cuda:0", "twice"),
        ("cuda:0,cpu", "must all be GPUs"),
        ("auto,cuda:0", "must all be GPUs"),
        ("cuda:0,", "`` is no device"),
        ("cuda:4095,cuda:4096", "cuda:4095: "),
    ] {
        for command in [
            "segment t.mrc -w w.safetensors -o l.mrc",
            "run project",
            "train project",
            SMALL,
        ] {
            let refused = bench.run(&format!("{command} --device {devices}"));
            refused.refused(&[said]);
        }
    }
    bench
        .run("demo --out d --device cuda:0,cuda:1")
        .refused(&["names several devices", "`train`, `segment`, `run`"]);
    assert_eq!(bench.files(), [""; 0]);
}

#[test]
fn several_tomograms_are_segmented_into_a_folder() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 1 --shape 32,32,32 --particles 1 --seed 5")
        .success();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/model.safetensors");
    std::fs::copy(model, bench.path("model.safetensors")).unwrap();
    let segment = "segment p/tomo1.mrc p/tomo2.mrc -w model.safetensors --device cpu";
    bench
        .run(&format!("{segment} -o labels.mrc"))
        .refused(&["labels.mrc", "folder"]);
    let table = bench
        .run(&format!("{segment} -o labels --scores scores"))
        .success();
    assert!(
        table.contains("labels/tomo1.mrc") && table.contains("labels/tomo2.mrc"),
        "{table}"
    );
    for name in ["tomo1", "tomo2"] {
        assert!(bench.path(&format!("scores/{name}/class0.mrc")).is_file());
        let alone = format!("segment p/{name}.mrc -w model.safetensors --device cpu -o alone.mrc");
        bench.run(&alone).success();
        let [one, of_two] = ["alone.mrc".to_owned(), format!("labels/{name}.mrc")]
            .map(|file| std::fs::read(bench.path(&file)).unwrap());
        assert!(one == of_two, "{name}");
    }
    let said = bench.run(&format!("{segment} -o again --json")).success();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said[1]["labels"], "again/tomo2.mrc");
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
