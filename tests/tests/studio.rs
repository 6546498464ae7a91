//! The studio as a program: what it prints, and the command lines that it says do the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use deepfinder_tests::Bench;
use serde_json::{Value, json};

/// A running studio of the project `p`.
struct Studio {
    child: Child,
    host: String,
    token: String,
}

impl Studio {
    fn start(bench: &Bench) -> Self {
        let mut command = bench.command("studio p --no-open --port 0".split(' '));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let url = line.strip_prefix("studio: http://").unwrap();
        let (host, token) = url.split_once("/?token=").unwrap();
        Self {
            host: host.to_owned(),
            token: token.to_owned(),
            child,
        }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.host).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nX-Studio-Token: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.host,
            self.token,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_lines_of_the_page_do_what_they_say() {
    let bench = Bench::default();
    bench
        .run("simulate -o p --tomograms 1 --shape 32,32,32 --particles 1 --seed 4")
        .success();
    let project = std::fs::read_to_string(bench.path("p/deepfinder.toml")).unwrap();
    let train = "[train]\nepochs = 1\nsteps_per_epoch = 1\nbatch = 1\npatch = 16\n";
    // Targets are to be made from the picks.
    let lines = project
        .lines()
        .filter(|line| !line.starts_with("target = ") && *line != "[train]");
    let without = lines.collect::<Vec<_>>().join("\n");
    std::fs::write(bench.path("p/deepfinder.toml"), format!("{without}\n{train}")).unwrap();
    let studio = Studio::start(&bench);
    let name = project
        .rsplit("name = \"")
        .next()
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let run = |line: &str| {
        let words = line.strip_prefix("deepfinder ").unwrap();
        assert!(!words.contains('\''), "{line}: no word here needs quotes");
        bench.run(words).success();
    };
    let dry = |stage: &str| {
        let work = json!({ "stage": stage, "tomogram": name, "dry_run": true });
        let lines = studio.post("/api/job", &work)["commands"]
            .as_array()
            .unwrap()
            .clone();
        lines
            .iter()
            .map(|line| line.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // Folders that the page makes by itself.
    for folder in ["targets", "labels", "picks"] {
        std::fs::create_dir_all(bench.path("p/output").join(folder)).unwrap();
    }
    let targets = dry("targets");
    assert_eq!(targets.len(), 2, "{targets:?}");
    for stage in ["targets", "train", "segment", "pick"] {
        for line in dry(stage) {
            run(&line);
        }
    }
    let compare = json!({ "a": "annotations", "b": "annotations", "radius": 3 });
    for what in ["evaluate", "consensus"] {
        let answer = studio.post(&format!("/api/tomograms/{name}/{what}"), &compare);
        run(answer["command"].as_str().unwrap());
    }
    let export = json!({ "what": { "list": "annotations" }, "format": "relion5" });
    run(
        studio.post(&format!("/api/tomograms/{name}/export"), &export)["command"]
            .as_str()
            .unwrap(),
    );
}

#[test]
fn what_cannot_be_opened_is_refused() {
    let bench = Bench::default();
    bench.write("a.mrc", b"");
    bench.run("studio a.mrc --no-open").refused(&["a.mrc", "empty"]);
    bench.run("studio nothing --no-open").refused(&["nothing"]);
    bench.run("studio --no-open").refused(&["deepfinder init"]);
}
