//! The crates of others: their licences, where they come from, and whether candle hides behind one of them.
//!
//! Reads `deny.toml`, so that this check and `cargo deny` share one list of licences. What only `cargo deny` knows
//! (security advisories) is left to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::hygiene::CRATES_IO;
use crate::layers::{is_candle, is_candle_free};
use crate::licences;
use crate::metadata::{Metadata, Package};
use crate::report::Complaints;

/// Reads the whole tree of dependencies of the workspace at `root` and checks it.
///
/// # Errors
/// If a crate breaks a rule; each is printed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = Metadata::of_everything(root)?;
    let allowed = allowed_licences(root)?;
    let mut complaints = Complaints::default();
    for package in &metadata.packages {
        check_origin(package, &allowed, &mut complaints);
    }
    check_candle(&metadata, &mut complaints)?;
    let count = metadata.packages.len() - metadata.members().count();
    complaints.conclude(&format!(
        "dependencies hold: {count} crates of others, all from crates.io under allowed licences"
    ))
}

#[derive(Deserialize)]
struct Deny {
    licenses: DenyLicenses,
}

#[derive(Deserialize)]
struct DenyLicenses {
    allow: BTreeSet<String>,
}

fn allowed_licences(root: &Path) -> Result<BTreeSet<String>> {
    let path = root.join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let deny: Deny = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(deny.licenses.allow)
}

fn check_origin(package: &Package, allowed: &BTreeSet<String>, complaints: &mut Complaints) {
    let Package { name, version, .. } = package;
    if package
        .source
        .as_deref()
        .is_some_and(|source| source != CRATES_IO)
    {
        complaints.add(format!("{name} {version} doesn't come from crates.io"));
    }
    match &package.license {
        None => complaints.add(format!("{name} {version} states no licence")),
        Some(licence) if !licences::is_allowed(licence, allowed) => {
            complaints.add(format!(
                "{name} {version} is under `{licence}`, which deny.toml doesn't allow"
            ));
        }
        Some(_) => {}
    }
}

/// The manifests of our crates are `check-layers`' part; this follows the crates of others too.
fn check_candle(metadata: &Metadata, complaints: &mut Complaints) -> Result<()> {
    let Some(resolve) = &metadata.resolve else {
        bail!("cargo metadata gives no tree of dependencies")
    };
    for member in metadata.members().filter(|member| is_candle_free(&member.name)) {
        let reached = resolve.reach(&member.id);
        let seen = metadata
            .packages
            .iter()
            .find(|package| is_candle(&package.name) && reached.contains(package.id.as_str()));
        if let Some(seen) = seen {
            complaints.add(format!(
                "`{}` must never see candle, but is built on `{}`",
                member.name, seen.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tree(arrows: &[(&str, &str, Value)]) -> Metadata {
        let names: BTreeSet<&str> = arrows.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        let packages: Vec<Value> = names
            .iter()
            .map(|name| json!({ "id": name, "name": name }))
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = arrows
                    .iter()
                    .filter(|(from, _, _)| from == name)
                    .map(|(_, to, kind)| json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] }))
                    .collect();
                json!({ "id": name, "deps": deps })
            })
            .collect();
        let members: Vec<&&str> = names
            .iter()
            .filter(|name| name.starts_with("deepfinder"))
            .collect();
        let metadata =
            json!({ "packages": packages, "workspace_members": members, "resolve": { "nodes": nodes } });
        serde_json::from_value(metadata).unwrap()
    }

    fn complaints_about(arrows: &[(&str, &str, Value)]) -> Vec<String> {
        let mut complaints = Complaints::default();
        check_candle(&tree(arrows), &mut complaints).unwrap();
        complaints.lines().to_vec()
    }

    #[test]
    fn candle_behind_a_crate_of_others_is_found() {
        let complaints = complaints_about(&[
            ("deepfinder-eval", "plotting", json!(null)),
            ("plotting", "candle-core", json!("build")),
            ("candle-core", "plotting", json!(null)),
        ]);
        assert_eq!(
            complaints,
            ["`deepfinder-eval` must never see candle, but is built on `candle-core`"]
        );
    }

    #[test]
    fn the_tests_of_others_and_the_crates_of_the_network_are_free() {
        let complaints = complaints_about(&[
            ("deepfinder-eval", "plotting", json!(null)),
            ("plotting", "candle-core", json!("dev")),
            ("deepfinder-net", "candle-core", json!(null)),
        ]);
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn origins_are_checked() {
        let allowed = BTreeSet::from(["MIT".to_owned()]);
        let mut complaints = Complaints::default();
        for (name, source, license) in [
            ("good", json!(CRATES_IO), json!("MIT OR Apache-2.0")),
            ("ours", json!(null), json!("MIT")),
            (
                "forked",
                json!("git+https://github.com/someone/forked"),
                json!("MIT"),
            ),
            ("bound", json!(CRATES_IO), json!("GPL-3.0-only")),
            ("silent", json!(CRATES_IO), json!(null)),
        ] {
            let package =
                json!({ "id": name, "name": name, "version": "1.0.0", "source": source, "license": license });
            check_origin(
                &serde_json::from_value(package).unwrap(),
                &allowed,
                &mut complaints,
            );
        }
        let [forked, bound, silent] = complaints.lines() else {
            panic!("{complaints:?}")
        };
        assert!(forked.contains("forked 1.0.0 doesn't come"), "{forked}");
        assert!(bound.contains("bound 1.0.0 is under `GPL-3.0-only`"), "{bound}");
        assert!(silent.contains("silent 1.0.0 states no licence"), "{silent}");
    }
}
