//! C and C++ that the tests compile.

#![cfg(test)]

use std::{
    path::{Path, PathBuf},
    process::{self, Command},
};

/// A source of this crate made into a file of that name; nothing where there is no compiler, neither the one that the
/// environment's variable names nor the system's.
fn compiled([variable, usual]: [&str; 2], arguments: &[&str], source: &str, name: &str) -> Option<PathBuf> {
    let compiler = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    Command::new(&compiler).arg("--version").output().ok()?;
    let file = std::env::temp_dir().join(format!("conv3d-{name}-{}", process::id()));
    let built = Command::new(&compiler)
        .args(arguments)
        .arg("-o")
        .arg(&file)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Some(file)
}

/// A program of a C++ source.
pub(super) fn program(source: &str, arguments: &[&str], name: &str) -> Option<PathBuf> {
    compiled(["CXX", "c++"], arguments, source, name)
}

/// A library of a C source, with those definitions.
pub(super) fn library(source: &str, definitions: &[&str], name: &str) -> Option<PathBuf> {
    let arguments = [&["-shared", "-fPIC", "-O2", "-pthread"], definitions].concat();
    let file = compiled(["CC", "cc"], &arguments, source, name);
    if file.is_none() {
        eprintln!("skipped: no C compiler here to make a library with");
    }
    file
}
