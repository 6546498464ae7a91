//! Runs the real `check-layers` over copies of this workspace: its manifests, with empty sources.

#![allow(clippy::unwrap_used, reason = "a test that can't set itself up fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

#[test]
fn this_workspace_holds_its_layers() {
    let copy = copy_of_the_workspace();
    let output = check_layers(copy.path());
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn a_forbidden_arrow_is_refused() {
    for (from, to, words) in [
        (
            "deepfinder-core",
            "deepfinder-io",
            "forbidden arrow: `deepfinder-core` must not depend on `deepfinder-io`",
        ),
        (
            "deepfinder-io",
            "deepfinder-net",
            "forbidden arrow: `deepfinder-io` must not depend on `deepfinder-net`",
        ),
        (
            "deepfinder-net",
            "deepfinder-core",
            "forbidden arrow: `deepfinder-net` must not depend on `deepfinder-core`",
        ),
        (
            "candle-conv3d",
            "deepfinder-core",
            "forbidden arrow: `candle-conv3d` must not depend on `deepfinder-core`",
        ),
        (
            "deepfinder-eval",
            "deepfinder-net",
            "`deepfinder-eval` must never see candle, but sees `candle-",
        ),
        (
            "deepfinder-sim",
            "candle-core",
            "`deepfinder-sim` must never see candle, but names `candle-core`",
        ),
        (
            "deepfinder-train",
            "anyhow",
            "`deepfinder-train` must not depend on `anyhow`",
        ),
        (
            "deepfinder-pipeline",
            "indicatif",
            "`deepfinder-pipeline` must not depend on `indicatif`",
        ),
    ] {
        let copy = copy_of_the_workspace();
        let manifest = copy.path().join("crates").join(from).join("Cargo.toml");
        edit(
            &manifest,
            "\n[dependencies]\n",
            &format!("\n[dependencies]\n{to}.workspace = true\n"),
        );
        let output = check_layers(copy.path());
        assert!(!output.status.success(), "{from} -> {to} passes");
        assert!(
            errors(&output).contains(words),
            "{from} -> {to}: {}",
            errors(&output)
        );
    }
}

#[test]
fn a_crate_without_a_place_is_refused() {
    let copy = copy_of_the_workspace();
    let folder = copy.path().join("crates/deepfinder-new");
    write(&folder.join("src/lib.rs"), "//! New.\n");
    write(
        &folder.join("Cargo.toml"),
        "[package]\nname = \"deepfinder-new\"\n\n[lints]\nworkspace = true\n",
    );
    let output = check_layers(copy.path());
    assert!(!output.status.success());
    assert!(
        errors(&output).contains("the crate `deepfinder-new` has no place in the layers"),
        "{}",
        errors(&output)
    );
}

#[test]
fn broken_house_rules_are_refused() {
    let copy = copy_of_the_workspace();
    let core = copy.path().join("crates/deepfinder-core");
    edit(&core.join("Cargo.toml"), "[lints]\nworkspace = true\n", "");
    write(&core.join("src/lib.rs"), "// no doc\n");
    write(
        &copy.path().join("fixtures/make.sh"),
        &format!("cd {}{}\n", "/hom", "e/me/tomograms"),
    );
    let output = check_layers(copy.path());
    assert!(!output.status.success());
    for words in [
        "lacks `[lints] workspace = true`",
        "doesn't open with a `//!` doc",
        "make.sh:1: `",
    ] {
        assert!(
            errors(&output).contains(words),
            "{words:?} is not in {}",
            errors(&output)
        );
    }
}

#[test]
fn a_crate_that_reads_files_or_prints_is_refused() {
    let copy = copy_of_the_workspace();
    let source = "//! Empty.\n\nfn read() {\n    std::fs::read(\"a\").ok();\n    println!();\n}\n";
    for name in ["deepfinder-cluster", "deepfinder-io", "deepfinder-cli"] {
        write(
            &copy.path().join(format!("crates/{name}/src/more/deep.rs")),
            source,
        );
    }
    let output = check_layers(copy.path());
    assert!(!output.status.success());
    let place = |name: &str, line| {
        Path::new("crates")
            .join(name)
            .join(format!("src/more/deep.rs:{line}: "))
    };
    for (name, line, refused) in [
        ("deepfinder-cluster", 4, true),
        ("deepfinder-cluster", 5, true),
        ("deepfinder-io", 4, false),
        ("deepfinder-io", 5, true),
        ("deepfinder-cli", 4, true),
        ("deepfinder-cli", 5, false),
    ] {
        let place = place(name, line).display().to_string();
        assert_eq!(
            errors(&output).contains(&place),
            refused,
            "{place}{}",
            errors(&output)
        );
    }
}

fn check_layers(root: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("check-layers")
        .arg("--root")
        .arg(root)
        .output()
        .unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every manifest of this workspace, and for each target a source of one line.
fn copy_of_the_workspace() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copy = TempDir::new().unwrap();
    let place = |path: &Path| copy.path().join(path.strip_prefix(root).unwrap());
    copy_file(&root.join("Cargo.toml"), &place(&root.join("Cargo.toml")));
    let metadata = cargo_metadata(root);
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = path_of(&package["manifest_path"]);
        copy_file(&manifest, &place(&manifest));
        for target in package["targets"].as_array().unwrap() {
            write(&place(&path_of(&target["src_path"])), "//! Empty.\n");
        }
    }
    copy
}

fn cargo_metadata(root: &Path) -> Value {
    let arguments = ["metadata", "--format-version", "1", "--offline", "--no-deps"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn path_of(value: &Value) -> PathBuf {
    PathBuf::from(value.as_str().unwrap())
}

fn copy_file(from: &Path, to: &Path) {
    write(to, &fs::read_to_string(from).unwrap());
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    write(path, &text.replacen(from, to, 1));
}
