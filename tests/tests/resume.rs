//! A training that is stopped or killed goes on as if nothing had happened.
#![expect(clippy::unwrap_used, reason = "tests")]
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use deepfinder_tests::Bench;
use serde_json::Value;

const TRAIN: &str = "train p --epochs 3 --steps-per-epoch 2 --batch 1 --patch 16";

/// Starts a training and waits until it says that this epoch is done.
fn started(bench: &Bench, arguments: &str, epoch: usize) -> Child {
    let mut command = bench.command(format!("{TRAIN} -vv {arguments}").split_whitespace());
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mark = format!("epoch={epoch} ");
    let mut said = String::new();
    while !said.lines().last().is_some_and(|line| line.contains(&mark)) {
        assert!(
            lines.read_line(&mut said).unwrap() > 0,
            "it ended before epoch {epoch}:\n{said}"
        );
    }
    child
}

/// Lets it end; gives its exit code, if it was not killed.
fn ended(mut child: Child) -> Option<i32> {
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    child.wait().unwrap().code()
}

/// What a run learned, without the time it took.
fn learned(bench: &Bench, run: &str) -> (Vec<Vec<u8>>, Vec<Value>) {
    let files = ["last.safetensors", "best.safetensors"];
    let weights = files.map(|file| std::fs::read(bench.path(run).join(file)).unwrap());
    let metrics = std::fs::read_to_string(bench.path(run).join("metrics.jsonl")).unwrap();
    let metrics = metrics.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("seconds");
        line
    });
    (weights.to_vec(), metrics.collect())
}

#[test]
fn a_training_goes_on_bit_by_bit_after_ctrl_c_and_after_a_kill() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 1 --shape 32,32,32 --particles 1 --seed 4")
        .success();
    // Without validation it is quick.
    let toml = std::fs::read_to_string(bench.path("p/deepfinder.toml")).unwrap();
    bench.write("p/deepfinder.toml", toml.replace("\"validate\"", "\"test\""));
    bench.run(&format!("{TRAIN} -o whole")).success();

    // Ctrl-C ends it well, within an epoch.
    let child = started(&bench, "-o stopped", 1);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    assert_eq!(ended(child), Some(130));
    assert!(learned(&bench, "stopped").1.len() < learned(&bench, "whole").1.len());
    // A kill leaves it no time for anything.
    let mut child = started(&bench, "-o stopped --resume", 2);
    child.kill().unwrap();
    assert_eq!(ended(child), None);
    bench.run(&format!("{TRAIN} -o stopped --resume")).success();

    let [whole, stopped] = ["whole", "stopped"].map(|run| learned(&bench, run));
    assert!(whole.0 == stopped.0, "the weights differ");
    assert_eq!(whole.1, stopped.1);
}
