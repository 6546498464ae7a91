//! What the end-to-end tests share: the real program, run in a folder of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this crate is test code"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The program, built as the tests are.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // The test executable lies in target/PROFILE/deps.
        let deps = std::env::current_exe().expect("a test has an executable");
        let profile = deps
            .ancestors()
            .nth(2)
            .expect("it lies in target/PROFILE/deps")
            .to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "deepfinder-cli",
            "--manifest-path",
        ]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "the program does not build"
        );
        profile.join(format!("deepfinder{}", std::env::consts::EXE_SUFFIX))
    })
}

/// A folder in which the program runs; gone with the test.
pub struct Bench {
    folder: TempDir,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
        }
    }
}

impl Bench {
    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).expect("the temporary folder is writable");
        path
    }

    /// The program with arguments, to be run in the folder.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// Runs the program with space-separated arguments.
    pub fn run(&self, arguments: &str) -> Finished {
        self.run_with(&[], arguments)
    }

    /// Runs it with these variables in its environment; without those that have no value.
    pub fn run_with(&self, variables: &[(&str, Option<&str>)], arguments: &str) -> Finished {
        let mut command = self.command(arguments.split_whitespace());
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("the program starts");
        Finished {
            arguments: arguments.to_owned(),
            output,
        }
    }

    /// Names of the files in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the temporary folder is readable");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

/// How a run of the program ended.
pub struct Finished {
    arguments: String,
    output: Output,
}

impl Finished {
    /// The exit code.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// Standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Asserts that it ended well; gives its standard output.
    pub fn success(&self) -> String {
        assert_eq!(
            self.code(),
            Some(0),
            "{}\n{}{}",
            self.arguments,
            self.stdout(),
            self.stderr()
        );
        self.stdout()
    }

    /// Asserts that it refused its input (exit code 2, no panic) with a message that says all of that.
    pub fn refused(&self, said: &[&str]) {
        let message = self.stderr();
        assert_eq!(
            self.code(),
            Some(2),
            "{}\n{}{message}",
            self.arguments,
            self.stdout()
        );
        for text in said {
            assert!(
                message.contains(text),
                "{}: `{text}` is not in\n{message}",
                self.arguments
            );
        }
        assert!(!message.contains("panicked"), "{message}");
    }
}

/// The folder of test data beside the repository; `None` (said once) where it is not there.
pub fn shared() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    if !folder.is_dir() {
        eprintln!("skipped: ../shared/data is not here");
        return None;
    }
    Some(folder.to_owned())
}
