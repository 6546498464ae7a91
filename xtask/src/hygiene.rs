//! House rules that can be read off the files: shared lints, a crate doc, nothing of one machine in what git tracks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::{Metadata, Package};
use crate::report::Complaints;

/// Adds a complaint for each broken house rule.
///
/// # Errors
/// If a file can't be read.
pub(crate) fn check(root: &Path, metadata: &Metadata, complaints: &mut Complaints) -> Result<()> {
    for member in metadata.members() {
        check_manifest(member, complaints)?;
        check_crate_docs(member, complaints)?;
    }
    for path in tracked_files(root)? {
        let absolute = root.join(&path);
        // A link may point at a folder, and a file git knows may just have been deleted.
        if !absolute.is_file() {
            continue;
        }
        let contents = fs::read(&absolute).with_context(|| absolute.display().to_string())?;
        for (line, found) in machine_traces(&contents) {
            complaints.add(format!(
                "{}:{line}: `{found}` belongs to one machine",
                path.display()
            ));
        }
        if path.file_name().is_some_and(|name| name == "Cargo.lock") {
            for source in foreign_sources(&String::from_utf8_lossy(&contents)) {
                complaints.add(format!("{}: `{source}` is not crates.io", path.display()));
            }
        }
    }
    Ok(())
}

fn check_manifest(member: &Package, complaints: &mut Complaints) -> Result<()> {
    let manifest = fs::read_to_string(&member.manifest_path)
        .with_context(|| member.manifest_path.display().to_string())?;
    if !shares_lints(&manifest)? {
        complaints.add(format!(
            "`{}`: Cargo.toml lacks `[lints] workspace = true`",
            member.name
        ));
    }
    Ok(())
}

fn check_crate_docs(member: &Package, complaints: &mut Complaints) -> Result<()> {
    let roots = member
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"));
    for target in roots {
        let source =
            fs::read_to_string(&target.src_path).with_context(|| target.src_path.display().to_string())?;
        if !opens_with_doc(&source) {
            complaints.add(format!(
                "`{}`: {} doesn't open with a `//!` doc",
                member.name,
                target.src_path.display()
            ));
        }
    }
    Ok(())
}

fn shares_lints(manifest: &str) -> Result<bool> {
    let manifest: toml::Table = manifest.parse()?;
    Ok(manifest.get("lints").and_then(|lints| lints.get("workspace")) == Some(&toml::Value::Boolean(true)))
}

fn opens_with_doc(source: &str) -> bool {
    source
        .lines()
        .find(|line| !line.trim().is_empty())
        .is_some_and(|line| line.starts_with("//!"))
}

/// Starts of absolute paths, cut in two so that this file does not name them itself.
const MACHINE_PATHS: &[(&str, &str)] = &[
    ("/wor", "k/"),
    ("/roo", "t/"),
    ("/tm", "p/"),
    ("/hom", "e/"),
    ("/User", "s/"),
];

/// Ends of host names that only one network knows.
const PRIVATE_HOSTS: &[&str] = &[
    ".internal",
    ".local",
    ".localdomain",
    ".lan",
    ".corp",
    ".intranet",
];

/// `(line, what)` of every absolute path of a machine and every address inside a private network.
fn machine_traces(contents: &[u8]) -> Vec<(usize, String)> {
    let mut traces = Vec::new();
    for (number, line) in contents.split(|byte| *byte == b'\n').enumerate() {
        for (head, tail) in MACHINE_PATHS {
            let path = format!("{head}{tail}");
            if let Some(at) = starts_of(line, path.as_bytes()).find(|at| !continues_a_path(line, *at)) {
                traces.push((number + 1, word_at(line, at)));
            }
        }
        for at in starts_of(line, b"://") {
            if is_private_host(&host_at(line, at + 3)) {
                traces.push((number + 1, word_at(line, at + 3)));
            }
        }
    }
    traces
}

fn starts_of<'a>(line: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    line.windows(pattern.len())
        .enumerate()
        .filter(move |(_, window)| *window == pattern)
        .map(|(at, _)| at)
}

/// Is what stands at `at` the middle of a longer path or address, as in `site.org/home/`?
fn continues_a_path(line: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_some_and(|before| line[before].is_ascii_alphanumeric() || b"._-~*/}".contains(&line[before]))
}

fn word_at(line: &[u8], at: usize) -> String {
    let rest = &line[at..];
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_graphic() || b"\"'`<>()".contains(byte))
        .unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end.min(60)]).into_owned()
}

fn host_at(line: &[u8], at: usize) -> String {
    let rest = &line[at..];
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b".-".contains(byte))
        .unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase()
}

fn is_private_host(host: &str) -> bool {
    let is_address = host.contains('.') && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_address || PRIVATE_HOSTS.iter().any(|end| host.ends_with(end))
}

/// Sources in a lock file other than crates.io: a mirror or a repository that a fresh machine may not reach.
fn foreign_sources(lock: &str) -> Vec<&str> {
    lock.lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .map(|source| source.trim_matches('"'))
        .filter(|source| *source != CRATES_IO)
        .collect()
}

/// How lock files and metadata write crates.io, whatever protocol or mirror the downloads came through.
pub(crate) const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What git tracks, relative to `root`; outside a repository, every file that is no build output.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    if !root.join(".git").exists() {
        let mut files = Vec::new();
        collect_files(root, Path::new(""), &mut files)?;
        return Ok(files);
    }
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z"])
        .output()
        .context("git doesn't start")?;
    if !output.status.success() {
        bail!("git ls-files fails: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a tracked file's name is not UTF-8")?;
    Ok(names.split_terminator('\0').map(PathBuf::from).collect())
}

fn collect_files(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let absolute = root.join(folder);
    for entry in fs::read_dir(&absolute).with_context(|| absolute.display().to_string())? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            files.push(path);
        } else if entry.file_name() != "target" {
            collect_files(root, &path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_found() {
        for (head, tail) in MACHINE_PATHS {
            let text = format!("fine\nsee \"{head}{tail}someone/x.mrc\" there\n");
            assert_eq!(
                machine_traces(text.as_bytes()),
                [(2, format!("{head}{tail}someone/x.mrc"))]
            );
        }
    }

    #[test]
    fn parts_of_longer_paths_and_public_addresses_pass() {
        for (head, tail) in MACHINE_PATHS {
            for text in [
                format!("https://site.org{head}{tail}page"),
                format!("../shared{head}{tail}x"),
                format!("${{DIR}}{head}{tail}x"),
            ] {
                assert_eq!(machine_traces(text.as_bytes()), [], "{text}");
            }
        }
        assert_eq!(
            machine_traces(b"https://doi.org/10.1038/s41592-021-01275-4 https://crates.io"),
            []
        );
    }

    #[test]
    fn traces_in_binary_files_are_found() {
        let (head, tail) = MACHINE_PATHS[0];
        let bytes = [b"\0\xff\n\x01 ", format!("{head}{tail}run").as_bytes(), b"\0\xfe"].concat();
        assert_eq!(machine_traces(&bytes), [(2, format!("{head}{tail}run"))]);
    }

    #[test]
    fn private_hosts_are_found() {
        for host in ["10.1.2.3", "registry.internal", "Mirror.LAN"] {
            let text = format!("registry = \"sparse+https:{}{host}:8080/index/\"", "//");
            assert_eq!(
                machine_traces(text.as_bytes()),
                [(1, format!("{host}:8080/index/"))]
            );
        }
    }

    #[test]
    fn a_mirror_in_the_lock_file_is_found() {
        let lock = format!("source = \"{CRATES_IO}\"\nsource = \"sparse+https://mirror.org/index/\"\n");
        assert_eq!(foreign_sources(&lock), ["sparse+https://mirror.org/index/"]);
    }

    #[test]
    fn shared_lints_are_read_in_either_form() {
        for manifest in ["[lints]\nworkspace = true", "lints.workspace = true"] {
            assert!(shares_lints(manifest).unwrap(), "{manifest}");
        }
        for manifest in [
            "",
            "[lints]\nworkspace = false",
            "[lints.rust]\nunsafe_code = \"deny\"",
            "[package.metadata]\nworkspace = true",
        ] {
            assert!(!shares_lints(manifest).unwrap(), "{manifest}");
        }
    }

    #[test]
    fn a_crate_opens_with_its_doc() {
        assert!(opens_with_doc("\n//! What it is.\nmod a;"));
        for source in ["", "mod a;\n//! late", "// a comment", "/// an item's"] {
            assert!(!opens_with_doc(source), "{source}");
        }
    }
}
