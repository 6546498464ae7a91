//! Bad input ends with exit code 2 and a message that says what, where and what to do; nothing is written.
#![allow(clippy::unwrap_used, reason = "tests")]

use deepfinder_core::{Volume, VoxelSize};
use deepfinder_io::write_mrc;
use deepfinder_tests::Bench;
use ndarray::Array3;

/// A folder with a small tomogram, a constant one, one with a NaN, picks and weights.
fn bench() -> Bench {
    let bench = Bench::default();
    let ten = VoxelSize::new(10.0).unwrap();
    let noise = Array3::from_shape_fn((12, 16, 20), |(z, y, x)| ((z * 7 + y * 5 + x * 3) % 11) as f32);
    let mut broken = noise.clone();
    broken[[3, 4, 5]] = f32::NAN;
    write_mrc(&bench.path("tomo.mrc"), &Volume::new(noise).with_voxel_size(ten)).unwrap();
    write_mrc(&bench.path("nan.mrc"), &Volume::new(broken).with_voxel_size(ten)).unwrap();
    write_mrc(
        &bench.path("constant.mrc"),
        &Volume::new(Array3::from_elem((8, 8, 8), 3.0_f32)),
    )
    .unwrap();
    bench.write("picks.csv", "class,x,y,z\n1,5,5,5\n1,10,8,6\n");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/model.safetensors");
    std::fs::copy(model, bench.path("model.safetensors")).unwrap();
    bench
}

/// Runs a command line that must be refused with all of these words, and leave nothing behind.
fn refused(bench: &Bench, arguments: &str, said: &[&str]) {
    let before = bench.files();
    bench.run(arguments).refused(said);
    assert_eq!(bench.files(), before, "{arguments} left something behind");
}

#[test]
fn the_accuracy_benchmark_refuses_seeds_and_sizes_that_it_cannot_take() {
    let bench = bench();
    let measure = |arguments: &str, said: &[&str]| {
        refused(&bench, &format!("bench-accuracy -o found {arguments}"), said);
    };
    measure("--size huge", &["`huge`", "small, medium or full"]);
    measure("--seed 1 --seeds 1,2", &["--seed", "--seeds", "use one of them"]);
    measure("--seeds 2,2", &["[2, 2]", "only once"]);
    measure("--recipes --only none", &["`none`", "`half-turn`"]);
}

#[test]
fn segment_refuses_what_it_cannot_segment() {
    let bench = bench();
    bench.write("empty.mrc", "");
    let whole = std::fs::read(bench.path("tomo.mrc")).unwrap();
    bench.write("truncated.mrc", &whole[..whole.len() / 2]);
    bench.write("text.safetensors", "these are no weights");
    let segment = |tomogram: &str, said: &[&str]| {
        refused(
            &bench,
            &format!("segment {tomogram} -w model.safetensors -o out.mrc"),
            &[&[tomogram], said].concat(),
        );
    };
    segment("missing.mrc", &["No such file"]);
    segment("empty.mrc", &["empty"]);
    segment("truncated.mrc", &["bytes"]);
    segment("nan.mrc", &["NaN"]);
    segment("constant.mrc", &["all voxels"]);
    refused(
        &bench,
        "segment tomo.mrc -w missing.safetensors -o out.mrc",
        &["missing.safetensors"],
    );
    refused(
        &bench,
        "segment tomo.mrc -w text.safetensors -o out.mrc",
        &["text.safetensors"],
    );
    refused(
        &bench,
        "segment tomo.mrc -w model.safetensors -o out.mrc --patch 18",
        &["multiple", "4"],
    );
    refused(
        &bench,
        "segment tomo.mrc -w model.safetensors -o out.mrc --plan reference --patch 50",
        &["54"],
    );
    refused(
        &bench,
        "segment tomo.mrc -w model.safetensors -o nowhere/out.mrc",
        &["nowhere"],
    );
    refused(
        &bench,
        "segment tomo.mrc -w model.safetensors -o tomo.mrc",
        &["tomo.mrc", "overwrite"],
    );
    refused(
        &bench,
        "segment tomo.mrc -w model.safetensors -o out.mrc --device cuda:0",
        &["cuda:0"],
    );
}

#[test]
fn a_model_of_another_voxel_size_needs_force() {
    let bench = bench();
    let segment = "segment tomo.mrc -w model.safetensors -o out.mrc --voxel-size 14";
    refused(&bench, segment, &["14 Å", "10 Å", "--force"]);
    bench.run(&format!("{segment} --force")).success();
    assert!(bench.path("out.mrc").exists());
}

#[test]
fn pick_says_what_it_needs() {
    let bench = bench();
    refused(&bench, "pick tomo.mrc -o picks.xml", &["--radius"]);
    refused(&bench, "pick nan.mrc -o picks.xml --radius 3", &["nan.mrc"]);
    refused(
        &bench,
        "pick constant.mrc -o picks.xml --radius 30A",
        &["voxel size"],
    );
    refused(&bench, "pick tomo.mrc -o picks.docx --radius 3", &["picks.docx"]);
    refused(
        &bench,
        "pick tomo.mrc -o picks.xml --method peaks --radius 3",
        &["score maps", "--scores"],
    );
    refused(&bench, "pick tomo.mrc -o picks.xml --radius=-3", &["--radius"]);
    refused(
        &bench,
        "pick tomo.mrc -o picks.xml --method magic --radius 3",
        &["magic"],
    );
}

#[test]
fn target_refuses_particles_without_a_shape() {
    let bench = bench();
    bench.write("classes.csv", "class,x,y,z\n1,5,5,5\n2,6,6,6\n");
    bench.write("zero.csv", "class,x,y,z\n0,5,5,5\n");
    bench.write("words.csv", "class,x,y,z\n1,5,five,5\n");
    refused(
        &bench,
        "target classes.csv --like tomo.mrc --radius 1=3 -o t.mrc",
        &["2"],
    );
    refused(
        &bench,
        "target zero.csv --like tomo.mrc --radius 1=3 -o t.mrc",
        &["zero.csv", "line 2"],
    );
    refused(
        &bench,
        "target words.csv --like tomo.mrc --radius 1=3 -o t.mrc",
        &["words.csv", "line 2", "five"],
    );
    refused(
        &bench,
        "target picks.csv --like tomo.mrc --radius ribosome=3 -o t.mrc",
        &["ribosome"],
    );
    for (order, said) in [("1,1", "twice"), ("1,2", "class 2"), ("1,membrane", "membrane")] {
        refused(
            &bench,
            &format!("target picks.csv --like tomo.mrc --radius 1=3 --order {order} -o t.mrc"),
            &["order", said][usize::from(order.ends_with('e'))..],
        );
    }
    bench
        .run("target picks.csv --like tomo.mrc --radius 1=30A -o t.mrc")
        .success();
}

#[test]
fn evaluate_refuses_what_it_cannot_report() {
    let bench = bench();
    let evaluate = "evaluate picks.csv picks.csv --radius 2";
    refused(
        &bench,
        &format!("{evaluate} --json nowhere/report.json"),
        &["nowhere"],
    );
    refused(
        &bench,
        &format!("{evaluate} --json=picks.csv"),
        &["picks.csv", ".json"],
    );
    refused(&bench, "evaluate picks.csv --radius 2 --json", &["PICKS"]);
}

#[test]
fn projects_are_checked_before_training() {
    let bench = bench();
    bench.write(
        "deepfinder.toml",
        "version = 1\n[[class]]\nlabel = 1\nname = 'a'\nradius = 3\ncolour = 'red'\n",
    );
    refused(&bench, "train .", &["deepfinder.toml", "colour"]);
    refused(&bench, "train missing", &["missing"]);
    let project = |extra: &str| {
        format!(
            "version = 1\n[[class]]\nlabel = 1\nname = 'a'\nradius = 3\n[train]\npatch = 8\n\
             [[tomogram]]\nname = 't'\nfile = 'tomo.mrc'\nsplit = 'train'\n{extra}"
        )
    };
    bench.write("deepfinder.toml", project("[target]\norder = ['a', 'b']\n"));
    refused(&bench, "run .", &["deepfinder.toml", "order", "`b`"]);
    bench.write("deepfinder.toml", project("[target]\norder = ['a', '1']\n"));
    refused(&bench, "run .", &["order", "`a` twice"]);
    bench.write("deepfinder.toml", project(""));
    refused(&bench, "train . -o run", &["`t`", "target"]);
    bench
        .run("target picks.csv --like tomo.mrc --radius 1=3 -o t.mrc")
        .success();
    bench.write("deepfinder.toml", project("target = 't.mrc'\n"));
    refused(&bench, "train . -o run", &["`t`", "picks"]);
    bench.write("far.csv", "class,x,y,z\n1,5,5,500\n");
    bench.write(
        "deepfinder.toml",
        project("target = 't.mrc'\npicks = 'far.csv'\n"),
    );
    refused(&bench, "train . -o run", &["`t`", "500"]);
    bench.write(
        "deepfinder.toml",
        project("target = 't.mrc'\npicks = 'picks.csv'\n"),
    );
    refused(&bench, "train . -o run --patch 10", &["patch", "4"]);
}

#[cfg(unix)]
#[test]
fn a_write_that_fails_half_way_leaves_nothing() {
    let bench = bench();
    let before = bench.files();
    // The shell's limit on file sizes stands in for a full disk: with the signal ignored, writing fails.
    let program = bench.command([""]).get_program().to_owned();
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" segment tomo.mrc -w model.safetensors -o out.mrc";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("out.mrc"), "{message}");
    assert_eq!(bench.files(), before);
}
