//! The commands as a biologist strings them together.
#![allow(clippy::unwrap_used, reason = "tests")]

use deepfinder_tests::{Bench, shared};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Names of the stages of a run.
fn stages_of(run: &Value) -> Vec<&str> {
    let stages = run["stages"].as_array().unwrap().iter();
    stages.map(|stage| stage["stage"].as_str().unwrap()).collect()
}

/// The network of the demo, for simulated tomograms.
const DEMO_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/model.safetensors");

/// A simulated project whose training is over in no time.
fn short_project() -> Bench {
    let bench = Bench::default();
    bench
        .run("simulate -o project --tomograms 1 --shape 40,48,48 --particles 1 --seed 3")
        .success();
    let toml = std::fs::read_to_string(bench.path("project/deepfinder.toml")).unwrap();
    let short = "[train]\nepochs = 1\nsteps_per_epoch = 2\nbatch = 1\npatch = 16";
    bench.write("project/deepfinder.toml", toml.replace("[train]", short));
    bench
}

#[test]
fn a_run_takes_over_what_was_trained_as_its_project_says() {
    let bench = short_project();
    let trains = |bench: &Bench| {
        let plan = json(&bench.run("run project --dry-run --json").success());
        plan["stages"][0]["skipped"] == false
    };
    bench.run("train project -o project/other --epochs 1").success();
    assert!(trains(&bench), "that went elsewhere");
    bench.run("train project").success();
    assert!(!trains(&bench));
}

#[test]
fn a_simulated_project_runs_to_the_end_and_then_has_nothing_to_do() {
    let bench = short_project();
    let plan = json(&bench.run("run project --dry-run --json").success());
    assert!(
        plan["stages"]
            .as_array()
            .unwrap()
            .iter()
            .all(|stage| stage["skipped"] == false)
    );
    assert_eq!(stages_of(&plan), ["train", "segment", "pick", "evaluate"]);
    bench
        .run("report project")
        .refused(&["nothing to report", "deepfinder run"]);
    assert!(!bench.path("project/output").exists());

    let done = json(&bench.run("run project --json").success());
    assert_eq!(stages_of(&done), stages_of(&plan));
    for product in [
        "train/best.safetensors",
        "train/curves.svg",
        "evaluation.json",
        "slices/tomo3.png",
    ] {
        assert!(bench.path("project/output").join(product).exists(), "{product}");
    }

    let page = json(&bench.run("report project --json").success());
    let shown: Vec<_> = page["sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap())
        .collect();
    for section in ["learning curves", "scores", "confusion matrix", "slices"] {
        assert!(shown.contains(&section), "{section} is not in {shown:?}");
    }
    let html = std::fs::read_to_string(bench.path("project/output/report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("data:image/png;base64,iVBOR"));
    // Nothing is fetched from anywhere: the one address names the SVG format.
    let addresses = html.matches("http").count() - html.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(addresses, 0);

    let again = json(&bench.run("run project --json").success());
    let stages = again["stages"].as_array().unwrap();
    assert!(
        stages
            .iter()
            .all(|s| s["skipped"] == true || s["stage"] == "evaluate"),
        "{stages:?}"
    );
}

#[test]
fn init_finds_the_picks_beside_tomograms() {
    let bench = Bench::default();
    bench
        .run("simulate -o made --tomograms 1 --shape 32,32,32 --particles 1")
        .success();
    for (from, to) in [
        ("tomo1.mrc", "a.mrc"),
        ("tomo1_particles.xml", "a.xml"),
        ("tomo2.mrc", "b.mrc"),
    ] {
        std::fs::copy(bench.path("made").join(from), bench.path(to)).unwrap();
    }
    bench.run("init . -t a.mrc -t b.mrc -c ribosome=120A").success();
    let info = json(&bench.run("info deepfinder.toml --json").success());
    assert_eq!(info["tomograms"]["a"], "train");
    assert_eq!(info["tomograms"]["b"], "test");
    assert_eq!(info["classes"]["1"], "ribosome");
    bench.run("init . -t a.mrc").refused(&["deepfinder.toml"]);
}

#[test]
fn an_empty_project_shows_how_to_add_a_tomogram() {
    let bench = Bench::default();
    bench.run("init .").success();
    bench.run("run . --dry-run").refused(&["train"]);
    let toml = std::fs::read_to_string(bench.path("deepfinder.toml")).unwrap();
    let (head, example) = toml.split_once("# [[tomogram]]").unwrap();
    let example = example.replace("\n# ", "\n");
    bench.write("deepfinder.toml", format!("{head}[[tomogram]]{example}"));
    let info = json(&bench.run("info deepfinder.toml --json").success());
    assert_eq!(info["tomograms"]["tomo1"], "train");
    assert_eq!(info["missing"], serde_json::json!(["tomo1.mrc", "tomo1.xml"]));
}

#[test]
fn a_run_is_neither_overwritten_nor_resumed_from_nothing() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 1 --shape 32,32,32 --particles 1")
        .success();
    let train = "train p --steps-per-epoch 2 --batch 1 --patch 16";
    bench.run(&format!("{train} -o whole --epochs 2")).success();
    bench
        .run(&format!("{train} -o whole --epochs 2"))
        .refused(&["whole", "resume"]);
    bench
        .run(&format!("{train} -o other --epochs 2 --resume"))
        .refused(&["other"]);
}

#[test]
fn score_maps_give_particles_by_their_peaks() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 0 --shape 48,64,64 --particles 1 --seed 5")
        .success();
    std::fs::copy(DEMO_MODEL, bench.path("p/model.safetensors")).unwrap();
    // The last one is the one to test with.
    bench
        .run("segment p/tomo2.mrc -w p/model.safetensors -o labels.mrc --scores scores")
        .success();
    bench
        .run("pick scores -o peaks.xml --method peaks --radius 4 --min-score 0.5")
        .success();
    let score = |picks: &str| {
        let report = bench.run(&format!(
            "evaluate p/tomo2_particles.xml {picks} --radius 4 --json"
        ));
        json(&report.success())["pooled"]["localisation"]["recall"]
            .as_f64()
            .unwrap()
    };
    assert!(score("peaks.xml") >= 0.6, "{}", score("peaks.xml"));
    let info = json(&bench.run("info peaks.xml --json").success());
    assert_eq!(info["particles"], info["with_score"]);

    let toml = std::fs::read_to_string(bench.path("p/deepfinder.toml")).unwrap();
    let toml = toml
        .replace("[segment]", "[segment]\nweights = \"model.safetensors\"")
        .replace("method = \"mean-shift\"", "method = \"peaks\"\nradius = 4");
    bench.write("p/deepfinder.toml", toml);
    let done = json(&bench.run("run p --json").success());
    assert_eq!(stages_of(&done), ["segment", "pick", "evaluate"]);
    assert!(score("p/output/picks/tomo2.xml") >= 0.6);
}

#[test]
fn of_two_near_particles_the_better_is_picked_whatever_their_classes() {
    let bench = Bench::default();
    for (name, second) in [("same.mrc", 1_u8), ("other.mrc", 2)] {
        let mut labels = ndarray::Array3::zeros((12, 12, 12));
        labels.slice_mut(ndarray::s![2..5, 2..5, 2..5]).fill(1);
        labels.slice_mut(ndarray::s![2..4, 2..4, 7..9]).fill(second);
        deepfinder_io::write_mrc(&bench.path(name), &deepfinder_core::Volume::new(labels)).unwrap();
        let pick = format!("pick {name} -o picks.xml --method components --json --min-distance");
        let picked = |distance: &str| json(&bench.run(&format!("{pick} {distance}")).success());
        assert_eq!(picked("4")["particles"], 2, "{name}");
        assert_eq!(picked("5")["by_label"], serde_json::json!({ "1": 1 }), "{name}");
    }
}

#[test]
fn a_report_goes_to_the_screen_or_to_a_file() {
    let bench = Bench::default();
    let lists = ["truth.csv", "picks.csv"];
    let list = "class,x,y,z\n1,5,5,5\n1,20,8,6\n";
    for name in lists {
        bench.write(name, list);
    }
    let printed = bench
        .run("evaluate truth.csv picks.csv --radius 2 --json")
        .success();
    assert_eq!(json(&printed)["pooled"]["localisation"]["f1"], 1.0);
    // No list is taken for the file to write.
    for line in [
        "evaluate --json truth.csv picks.csv --radius 2",
        "--json evaluate truth.csv picks.csv --radius 2",
    ] {
        assert_eq!(bench.run(line).success(), printed);
    }
    assert_eq!(bench.files(), ["picks.csv", "truth.csv"]);
    for line in [
        "evaluate truth.csv picks.csv --radius 2 --json r.json",
        "evaluate --json=r.json truth.csv picks.csv --radius 2",
    ] {
        let table = bench.run(line).success();
        assert!(table.contains("any class") && table.contains("r.json"), "{table}");
        assert_eq!(std::fs::read_to_string(bench.path("r.json")).unwrap(), printed);
        std::fs::remove_file(bench.path("r.json")).unwrap();
    }
    assert!(
        lists
            .iter()
            .all(|name| std::fs::read_to_string(bench.path(name)).unwrap() == list)
    );
}

#[test]
fn the_order_of_classes_says_which_lies_on_top() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 0 --shape 32,32,32 --particles 1")
        .success();
    bench.write("picks.csv", "class,x,y,z\n1,16,16,16\n2,16,16,16\n");
    let target = "target picks.csv --like p/tomo1.mrc --radius a=4 --radius 2=4 --class a=1 -o t.mrc --json";
    let labels = |order: &str| {
        let summary = json(&bench.run(&format!("{target} {order}")).success());
        let labels = summary["voxels_by_label"].as_object().unwrap();
        labels.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(labels(""), ["0", "2"]);
    assert_eq!(labels("--order 2,a"), ["0", "1"]);
    assert_eq!(labels("--order a"), ["0", "1"]);

    // A project says the same, and its targets are made anew when it changes.
    std::fs::rename(bench.path("picks.csv"), bench.path("p/picks.csv")).unwrap();
    let run = |order: &str| {
        bench.write(
            "p/deepfinder.toml",
            format!(
                "version = 1\n{order}[[class]]\nlabel = 1\nname = 'a'\nradius = 4\n[[class]]\nlabel = 2\nname = 'b'\n\
                 radius = 4\n[train]\nepochs = 1\nsteps_per_epoch = 1\nbatch = 1\npatch = 8\n\
                 [[tomogram]]\nname = 't'\nfile = 'tomo1.mrc'\nsplit = 'train'\npicks = 'picks.csv'\n"
            ),
        );
        bench.run("run p").success();
        let info = json(&bench.run("info p/output/targets/t.mrc --json").success());
        info["labels"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(run(""), ["0", "2"]);
    assert_eq!(run("[target]\norder = ['b', 'a']\n"), ["0", "1"]);
}

/// Balls of half the radius, and clusters of which a quarter of these is enough.
#[test]
fn targets_of_points_are_small_balls() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 0 --shape 32,32,32 --particles 1")
        .success();
    bench.write("p/picks.csv", "class,x,y,z\n1,16,16,16\n");
    let drawn = |options: &str| {
        let target = format!("target p/picks.csv --like p/tomo1.mrc --radius 1={options} -o t.mrc --json");
        json(&bench.run(&target).success())["voxels_by_label"]["1"].clone()
    };
    let (large, small) = (drawn("8"), drawn("4"));
    assert_eq!(drawn("8 --points"), small);
    assert_ne!(large, small);
    bench
        .run("target p/picks.csv --like p/tomo1.mrc --points -o t.mrc")
        .refused(&["--radius"]);
    bench
        .run("target p/picks.csv --like p/tomo1.mrc --radius 1=-3 --points -o t.mrc")
        .refused(&["-3"]);

    let run = |settings: &str| {
        bench.write(
            "p/deepfinder.toml",
            format!(
                "version = 1\n{settings}[[class]]\nlabel = 1\nname = 'a'\nradius = 8\n[train]\nepochs = 1\n\
                 steps_per_epoch = 1\nbatch = 1\npatch = 8\nhead = 'half'\n[[tomogram]]\nname = 't'\nfile = 'tomo1.mrc'\n\
                 split = 'train'\npicks = 'picks.csv'\n"
            ),
        );
        bench.run("run p").success();
        json(&bench.run("info p/output/targets/t.mrc --json").success())["labels"]["1"].clone()
    };
    assert_eq!(run(""), large);
    assert_eq!(run("[target]\npoints = true\n"), small);
    assert_eq!(run("[target]\npoints = true\npoint_radius = 8\n"), large);
    let info = json(&bench.run("info p/output/train/best.safetensors --json").success());
    assert_eq!(info["head"], "half");
    assert_eq!(info["extra"]["targets"], "points");
}

#[test]
fn a_missing_voxel_size_is_said_once() {
    let bench = Bench::default();
    let without = |name: &str| {
        let voxels =
            ndarray::Array3::from_shape_fn((16, 16, 16), |(z, y, x)| ((z * 7 + y * 5 + x * 3) % 11) as f32);
        deepfinder_io::write_mrc(&bench.path(name), &deepfinder_core::Volume::new(voxels)).unwrap();
    };
    bench.write("picks.csv", "class,x,y,z\n1,8,8,8\n");
    let tomograms = ["one", "two", "three"].map(|name| {
        without(&format!("{name}.mrc"));
        bench
            .run(&format!("target picks.csv --like {name}.mrc --radius 1=3 -o {name}_t.mrc"))
            .success();
        format!(
            "[[tomogram]]\nname = '{name}'\nfile = '{name}.mrc'\nsplit = 'train'\npicks = 'picks.csv'\ntarget = '{name}_t.mrc'\n"
        )
    });
    let classes = "version = 1\n[[class]]\nlabel = 1\nname = 'a'\nradius = 3\n[train]\npatch = 8\n";
    let project = format!("{classes}{}", tomograms.concat());
    bench.write("deepfinder.toml", &project);
    let plan = bench.run("train . --dry-run");
    plan.success();
    assert_eq!(
        plan.stderr().matches("voxel size").count(),
        1,
        "{}",
        plan.stderr()
    );
    assert!(
        plan.stderr().contains("3 of 3") && plan.stderr().contains("one, two, three"),
        "{}",
        plan.stderr()
    );
    bench.write(
        "deepfinder.toml",
        project.replace("split =", "voxel_size = 10\nsplit ="),
    );
    let plan = bench.run("train . --dry-run --device cpu");
    plan.success();
    assert_eq!(plan.stderr(), "");
    for (flag, expected) in [
        ("--residual", serde_json::json!("Residual")),
        ("--residual=false", serde_json::Value::Null),
    ] {
        let plan = bench.run(&format!("train --dry-run --device cpu --json {flag} ."));
        assert_eq!(json(&plan.success())["params"]["parametrisation"], expected);
    }
    let plan = bench.run("train --dry-run --device cpu --json --head half .");
    assert_eq!(json(&plan.success())["head"], "half");
}

#[test]
fn the_published_classes_have_their_names() {
    let Some(shared) = shared() else { return };
    let bench = Bench::default();
    std::fs::copy(
        shared.join("weights/deepfinder_shrec19.h5"),
        bench.path("shrec19.h5"),
    )
    .unwrap();
    let info = json(&bench.run("info shrec19.h5 --json").success());
    assert_eq!(
        (&info["classes"]["1"], &info["classes"]["12"]),
        (&"1bxn".into(), &"4d8q".into())
    );
    bench
        .run("simulate -o p --tomograms 0 --shape 32,32,32 --particles 1")
        .success();
    let segmented = bench
        .run("segment p/tomo2.mrc -w shrec19.h5 -o labels.mrc")
        .success();
    let classes = info["classes"].as_object().unwrap().values();
    assert!(
        classes
            .into_iter()
            .any(|name| segmented.contains(name.as_str().unwrap())),
        "{segmented}"
    );
    assert!(!segmented.contains("class 1"), "{segmented}");
}

#[test]
fn convert_and_info_agree() {
    let bench = Bench::default();
    bench.write(
        "picks.csv",
        "class,x,y,z,phi,psi,the,score\n1,1.25,2.5,3.125,10,20,30,0.5\n2,4,5,6,,,,\n",
    );
    bench.run("convert picks.csv picks.xml").success();
    bench.run("convert picks.xml again.csv --swap-xz").success();
    let info = json(&bench.run("info again.csv --json").success());
    assert_eq!(
        (&info["particles"], &info["with_rotation"]),
        (&Value::from(2), &Value::from(1))
    );
    assert_eq!(info["first_xyz"], serde_json::json!([3.125, 2.5, 1.25]));
    bench.run("convert picks.csv never.xml --dry-run").success();
    assert!(!bench.path("never.xml").exists());
}

#[test]
fn the_shrec19_scorer_agrees_with_the_published_figures() {
    let Some(shared) = shared() else { return };
    let bench = Bench::default();
    let classes = [
        "1bxn", "1qvr", "1s3x", "1u6g", "2cg9", "3cf3", "3d2f", "3gl1", "3h84", "3qm1", "4b4t", "4d8q",
    ];
    let mut arguments: Vec<String> = ["evaluate", "--radius", "10", "--mode", "shrec", "--zyx", "--json"]
        .map(String::from)
        .to_vec();
    for (i, class) in classes.iter().enumerate() {
        arguments.extend(["--class".to_owned(), format!("{class}={}", i + 1)]);
    }
    for file in ["particle_locations_model_9.txt", "tomo9_objlist_raw.xml"] {
        arguments.push(shared.join("shrec19").join(file).display().to_string());
    }
    let output = bench.command(&arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = json(&String::from_utf8_lossy(&output.stdout));
    let rounded = |name: &str| (1000.0 * report["pooled"]["localisation"][name].as_f64().unwrap()).round();
    assert_eq!((rounded("recall"), rounded("precision")), (878.0, 849.0));
}

#[test]
fn two_pickers_are_set_side_by_side() {
    let bench = Bench::default();
    bench.write("a.csv", "class,x,y,z\n1,10,10,10\n1,30,10,10\n2,20,20,12\n");
    bench.write("b.csv", "class,x,y,z\n1,11,10,10\n2,21,21,12\n2,5,30,12\n");
    let found = json(
        &bench
            .run("consensus a.csv b.csv --radius 3 -o parts --json")
            .success(),
    );
    assert_eq!(
        (
            &found["all"]["both"],
            &found["all"]["only_a"],
            &found["all"]["only_b"]
        ),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(found["files"].as_array().unwrap().len(), 6);
    let union = json(&bench.run("info parts/union.xml --json").success());
    assert_eq!(union["particles"], 4);
    let svg = std::fs::read_to_string(bench.path("parts/consensus.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("only A"));
    // What was found is not overwritten by what it is compared with.
    bench
        .run("consensus parts/both.xml b.csv --radius 3 -o parts")
        .refused(&["parts/both.xml", "overwrite"]);
    bench
        .run("consensus a.csv b.csv --radius 30A")
        .refused(&["30 Å", "--voxel-size"]);
}
