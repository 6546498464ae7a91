//! Who may touch the file system and who may write to the terminal, read off the sources of our crates.
//!
//! A plain search for words, not a proof: it finds what one writes without thinking of the rule. Comments are passed
//! over, and so is what follows `#[cfg(test)]`, which by our custom is the end of a file, or `#![cfg(test)]`, which makes
//! all of it tests. Tests, examples and this program itself may do as they like.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::metadata::{Metadata, Package};
use crate::report::Complaints;

/// Something that few of our crates may do.
struct Rule {
    /// What gives it away.
    words: &'static [&'static str],
    /// Crates that may, and the folder of their `src` that may (`""` for all of it).
    to: &'static [(&'static str, &'static str)],
    why: &'static str,
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule {
        words: &["std::fs", "fs::", "File::open", "File::create", "OpenOptions", "tempfile::"],
        to: &[("deepfinder-io", ""), ("deepfinder-pipeline", ""), ("deepfinder-train", "checkpoint")],
        why: "only io, pipeline and the checkpoints of train touch the file system",
    },
    Rule {
        words: &["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout()", "stderr()"],
        to: &[("deepfinder-cli", "")],
        why: "only cli writes to the terminal; log with `tracing` or return it",
    },
];

/// Ours that nobody is built on: they may do as they like.
const FREE: &[&str] = &["deepfinder-tests", "xtask"];

/// Adds a complaint for each line that does what its crate may not.
///
/// # Errors
/// If a source can't be read.
pub(crate) fn check(root: &Path, metadata: &Metadata, complaints: &mut Complaints) -> Result<()> {
    for member in metadata
        .members()
        .filter(|member| !FREE.contains(&member.name.as_str()))
    {
        let sources = member.manifest_path.with_file_name("src");
        for path in rust_files(&sources)? {
            let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let inside = path.strip_prefix(&sources).unwrap_or(&path);
            let shown = path.strip_prefix(root).unwrap_or(&path);
            for (line, word, why) in forbidden(member, inside, &source) {
                complaints.add(format!(
                    "{}:{line}: `{word}` in `{}`: {why}",
                    shown.display(),
                    member.name
                ));
            }
        }
    }
    Ok(())
}

/// `(line, word, why not)` of a source of that crate, `inside` its `src`.
fn forbidden<'a>(
    member: &'a Package,
    inside: &'a Path,
    source: &'a str,
) -> impl Iterator<Item = (usize, &'static str, &'static str)> + 'a {
    let rules = RULES.iter().filter(|rule| {
        let mut to = rule.to.iter();
        !to.any(|(name, folder)| *name == member.name && inside.starts_with(folder))
    });
    rules.flat_map(move |rule| {
        let lines = (1..).zip(source.lines());
        lines
            .take_while(|(_, line)| !matches!(line.trim(), "#[cfg(test)]" | "#![cfg(test)]"))
            .filter_map(move |(number, line)| {
                let code = line.split("//").next().unwrap_or_default();
                let word = rule.words.iter().find(|word| stands_in(code, word))?;
                Some((number, *word, rule.why))
            })
    })
}

/// Is the word there, and not as the end of a longer one?
fn stands_in(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(line, word)` of a source of that crate.
    fn found(name: &str, inside: &str, source: &str) -> Vec<(usize, &'static str)> {
        let member = serde_json::json!({ "id": name, "name": name, "license": null, "source": null });
        let member: Package = serde_json::from_value(member).unwrap();
        let found = forbidden(&member, Path::new(inside), source);
        found.map(|(line, word, _)| (line, word)).collect()
    }

    #[test]
    fn files_and_prints_are_found() {
        for (code, word) in [
            ("use std::fs;", "std::fs"),
            ("    let text = fs::read(path)?;", "fs::"),
            ("File::open(path)", "File::open"),
            ("    println!(\"{x}\");", "println!"),
            ("let _ = eprintln!();", "eprintln!"),
            ("std::io::stdout().flush()", "stdout()"),
        ] {
            let source = format!("//! Doc.\n{code}\n");
            assert_eq!(found("deepfinder-core", "lib.rs", &source), [(2, word)]);
        }
    }

    #[test]
    fn who_may_may() {
        let files = "use std::fs::File;\n";
        assert_eq!(found("deepfinder-io", "volume/mod.rs", files), []);
        assert_eq!(found("deepfinder-pipeline", "run.rs", files), []);
        assert_eq!(found("deepfinder-train", "checkpoint/folder.rs", files), []);
        assert_eq!(found("deepfinder-train", "session.rs", files), [(1, "std::fs")]);
        assert_eq!(found("deepfinder-cli", "main.rs", files), [(1, "std::fs")]);
        assert_eq!(found("deepfinder-cli", "main.rs", "println!();"), []);
        assert_eq!(
            found("deepfinder-pipeline", "run.rs", "println!();"),
            [(1, "println!")]
        );
    }

    #[test]
    fn comments_tests_and_longer_words_pass() {
        let source =
            "/// std::fs::read\nlet x = defs::of(y); // fs::read\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(found("deepfinder-core", "lib.rs", source), []);
        let source = "//! A file of tests.\n#![cfg(test)]\nuse std::fs;\n";
        assert_eq!(found("deepfinder-core", "lib.rs", source), []);
    }
}
