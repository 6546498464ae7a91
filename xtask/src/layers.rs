//! The arrows between our crates, as one table; ARCHITECTURE.md argues them.
//!
//! Arrows are read from the manifests: normal and build dependencies, optional ones and those of other platforms included.
//! Development dependencies are looser: the tests and examples of a crate may use any other crate of ours that does not
//! itself rest on it, except `deepfinder-pipeline` and what stands above it; but a crate that never sees candle never sees
//! it in its tests either, and `candle-conv3d` sees none of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::hygiene;
use crate::metadata::{Kind, Metadata, Package};
use crate::reach;
use crate::report::Complaints;

/// What one crate may be built on.
struct Layer {
    name: &'static str,
    /// Crates of ours that its manifest may name.
    ours: Ours,
    /// May it, or anything it is built on, be built on candle?
    candle: Candle,
}

enum Ours {
    Only(&'static [&'static str]),
    /// The end-to-end tests: nothing is built on them.
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Candle {
    Seen,
    Never,
}

use Candle::{Never, Seen};
use Ours::{Any, Only};

const CORE: &str = "deepfinder-core";
const PIPELINE: &str = "deepfinder-pipeline";
const STUDIO: &str = "deepfinder-studio";
const CLI: &str = "deepfinder-cli";
const TESTS: &str = "deepfinder-tests";
const XTASK: &str = "xtask";

/// Lowest first.
#[rustfmt::skip]
const LAYERS: &[Layer] = &[
    Layer { name: CORE,                 ours: Only(&[]),                                        candle: Never },
    Layer { name: "deepfinder-io",      ours: Only(&[CORE]),                                    candle: Never },
    Layer { name: "deepfinder-target",  ours: Only(&[CORE]),                                    candle: Never },
    Layer { name: "deepfinder-cluster", ours: Only(&[CORE]),                                    candle: Never },
    Layer { name: "deepfinder-eval",    ours: Only(&[CORE]),                                    candle: Never },
    Layer { name: "deepfinder-density", ours: Only(&[CORE]),                                    candle: Never },
    Layer { name: "deepfinder-sim",     ours: Only(&[CORE, "deepfinder-density"]),              candle: Never },
    Layer { name: "deepfinder-match",   ours: Only(&[CORE, "deepfinder-density"]),              candle: Never },
    Layer { name: "deepfinder-average", ours: Only(&[CORE, "deepfinder-density"]),              candle: Never },
    Layer { name: "candle-conv3d",      ours: Only(&[]),                                        candle: Seen },
    Layer { name: "deepfinder-net",     ours: Only(&["candle-conv3d"]),                         candle: Seen },
    Layer { name: "deepfinder-train",   ours: Only(&["candle-conv3d", "deepfinder-net", CORE]), candle: Seen },
    Layer { name: "deepfinder-infer",   ours: Only(&["candle-conv3d", "deepfinder-net", CORE]), candle: Seen },
    Layer { name: PIPELINE,             ours: Only(&[
        CORE, "deepfinder-io", "deepfinder-target", "deepfinder-cluster", "deepfinder-eval", "deepfinder-sim",
        "deepfinder-match", "deepfinder-average", "candle-conv3d", "deepfinder-net", "deepfinder-train",
        "deepfinder-infer",
    ]),                                                                                         candle: Seen },
    Layer { name: STUDIO,               ours: Only(&[CORE, PIPELINE]),                          candle: Seen },
    Layer { name: CLI,                  ours: Only(&[CORE, PIPELINE, STUDIO]),                  candle: Seen },
    Layer { name: TESTS,                ours: Any,                                              candle: Seen },
    Layer { name: XTASK,                ours: Only(&[]),                                        candle: Never },
];

/// Crates of others that few of ours may name in `[dependencies]` or `[build-dependencies]`.
struct Reserved {
    names: &'static [&'static str],
    /// Ours that may name them.
    to: &'static [&'static str],
    why: &'static str,
}

#[rustfmt::skip]
const RESERVED: &[Reserved] = &[
    Reserved {
        names: &["candle-core", "candle-nn"],
        to: &["candle-conv3d", "deepfinder-net", "deepfinder-train", "deepfinder-infer", PIPELINE, TESTS],
        why: "tensors live in the network's crates",
    },
    Reserved { names: &["indicatif", "comfy-table"], to: &[CLI], why: "only the program writes to the terminal" },
    Reserved { names: &["anyhow"], to: &[CLI, XTASK], why: "libraries have error enums of their own" },
    Reserved { names: &["axum", "tokio"], to: &[STUDIO], why: "only the studio serves" },
    Reserved { names: &["clap"], to: &[CLI, XTASK], why: "only the program parses arguments" },
];

/// Reads the manifests under `root` and checks arrows and house rules.
///
/// # Errors
/// If any of them is broken; each is printed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = Metadata::of_manifests(root)?;
    let mut complaints = Complaints::default();
    check(&metadata, &mut complaints);
    hygiene::check(root, &metadata, &mut complaints)?;
    reach::check(root, &metadata, &mut complaints)?;
    complaints.conclude(&format!(
        "layers hold: {} crates, every arrow in the table",
        metadata.members().count()
    ))
}

/// Adds a complaint for each arrow that the tables don't allow.
pub(crate) fn check(metadata: &Metadata, complaints: &mut Complaints) {
    let members: BTreeMap<&str, &Package> = metadata
        .members()
        .map(|member| (member.name.as_str(), member))
        .collect();
    for member in members.values() {
        let Some(layer) = layer_of(&member.name) else {
            complaints.add(format!(
                "the crate `{}` has no place in the layers: add a row to LAYERS in xtask/src/layers.rs, and argue it in ARCHITECTURE.md",
                member.name
            ));
            continue;
        };
        check_ours(member, layer, &members, complaints);
        check_tests(member, layer, &members, complaints);
        check_reserved(member, layer, complaints);
        check_candle(member, layer, &members, complaints);
    }
}

/// Is this a crate of candle's family? Ours, `candle-conv3d`, is of it: whoever is built on ours is built on candle.
pub(crate) fn is_candle(name: &str) -> bool {
    name.starts_with("candle-")
}

/// May this crate of ours never be built on candle?
pub(crate) fn is_candle_free(name: &str) -> bool {
    layer_of(name).is_some_and(|layer| layer.candle == Never)
}

fn layer_of(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == name)
}

fn check_ours(
    member: &Package,
    layer: &Layer,
    members: &BTreeMap<&str, &Package>,
    complaints: &mut Complaints,
) {
    let Only(allowed) = layer.ours else { return };
    for name in member.named(&[Kind::Normal, Kind::Build]) {
        let is_ours = layer_of(name).is_some() || members.contains_key(name);
        if is_ours && !allowed.contains(&name) {
            complaints.add(format!(
                "forbidden arrow: `{}` must not depend on `{name}` (allowed: {})",
                member.name,
                if allowed.is_empty() {
                    "no crate of ours".to_owned()
                } else {
                    allowed.join(", ")
                }
            ));
        }
    }
}

fn check_tests(
    member: &Package,
    layer: &Layer,
    members: &BTreeMap<&str, &Package>,
    complaints: &mut Complaints,
) {
    if matches!(layer.ours, Any) {
        return;
    }
    for name in member.named(&[Kind::Dev]) {
        if layer_of(name).is_none() && !members.contains_key(name) {
            continue;
        }
        let reason = if [PIPELINE, STUDIO, CLI, TESTS, XTASK].contains(&name) {
            Some("that stands above the stages")
        } else if member.name == "candle-conv3d" {
            Some("this crate sees none of ours")
        } else if reach(name, members).contains(member.name.as_str()) {
            Some("that rests on this crate itself")
        } else {
            None
        };
        if let Some(reason) = reason {
            complaints.add(format!(
                "forbidden arrow: the tests of `{}` must not depend on `{name}`: {reason}",
                member.name
            ));
        }
    }
}

fn check_reserved(member: &Package, layer: &Layer, complaints: &mut Complaints) {
    for reserved in RESERVED
        .iter()
        .filter(|reserved| !reserved.to.contains(&layer.name))
    {
        for name in member
            .named(&[Kind::Normal, Kind::Build])
            .filter(|name| reserved.names.contains(name))
        {
            complaints.add(format!(
                "`{}` must not depend on `{name}`: {} (allowed: {})",
                member.name,
                reserved.why,
                reserved.to.join(", ")
            ));
        }
    }
}

fn check_candle(
    member: &Package,
    layer: &Layer,
    members: &BTreeMap<&str, &Package>,
    complaints: &mut Complaints,
) {
    if layer.candle == Seen {
        return;
    }
    for name in member.named(&[Kind::Normal, Kind::Build, Kind::Dev]) {
        if is_candle(name) {
            complaints.add(format!(
                "`{}` must never see candle, but names `{name}`",
                member.name
            ));
        } else if let Some(seen) = reach(name, members).into_iter().find(|seen| is_candle(seen)) {
            complaints.add(format!(
                "`{}` must never see candle, but sees `{seen}` through `{name}`",
                member.name
            ));
        }
    }
}

/// Names of all crates that the member `name` is built on, as far as the manifests of the workspace tell.
fn reach<'a>(name: &str, members: &BTreeMap<&'a str, &'a Package>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&'a Package> = members.get(name).copied().into_iter().collect();
    while let Some(package) = waiting.pop() {
        for dep in package.named(&[Kind::Normal, Kind::Build]) {
            if reached.insert(dep) {
                waiting.extend(members.get(dep).copied());
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A workspace of `(crate, [(dependency, kind)])`; kind is `null`, `"build"` or `"dev"` as cargo writes it.
    fn complaints_about(crates: &[(&str, &[(&str, Value)])]) -> Vec<String> {
        let packages: Vec<Value> = crates
            .iter()
            .map(|(name, dependencies)| {
                let dependencies: Vec<Value> =
                    dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
                json!({ "id": name, "name": name, "license": null, "source": null, "dependencies": dependencies })
            })
            .collect();
        let ids: Vec<&str> = crates.iter().map(|(name, _)| *name).collect();
        let metadata = json!({ "packages": packages, "workspace_members": ids, "resolve": null });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let mut complaints = Complaints::default();
        check(&metadata, &mut complaints);
        complaints.lines().to_vec()
    }

    #[track_caller]
    fn assert_one_complaint(crates: &[(&str, &[(&str, Value)])], words: &[&str]) {
        let complaints = complaints_about(crates);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        for word in words {
            assert!(
                complaints[0].contains(word),
                "{word:?} is not in {:?}",
                complaints[0]
            );
        }
    }

    #[test]
    fn the_intended_arrows_pass() {
        let complaints = complaints_about(&[
            (CORE, &[("ndarray", json!(null)), ("proptest", json!("dev"))]),
            ("deepfinder-io", &[(CORE, json!(null)), ("mrc", json!(null))]),
            ("candle-conv3d", &[("candle-core", json!(null))]),
            (
                "deepfinder-net",
                &[("candle-conv3d", json!(null)), ("candle-nn", json!(null))],
            ),
            (
                "deepfinder-infer",
                &[("deepfinder-net", json!(null)), (CORE, json!(null))],
            ),
            (
                PIPELINE,
                &[("deepfinder-infer", json!(null)), ("deepfinder-io", json!(null))],
            ),
            (
                CLI,
                &[
                    (PIPELINE, json!(null)),
                    ("anyhow", json!(null)),
                    ("indicatif", json!(null)),
                ],
            ),
            (
                TESTS,
                &[
                    ("deepfinder-net", json!("dev")),
                    (PIPELINE, json!(null)),
                    ("candle-core", json!("dev")),
                ],
            ),
            (XTASK, &[("anyhow", json!(null)), ("clap", json!(null))]),
        ]);
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn every_arrow_outside_the_table_is_forbidden() {
        for from in LAYERS {
            let Only(allowed) = from.ours else { continue };
            for to in LAYERS.iter().filter(|to| to.name != from.name) {
                let manifest = [(from.name, &[(to.name, json!(null))][..])];
                let arrow = format!(
                    "forbidden arrow: `{}` must not depend on `{}`",
                    from.name, to.name
                );
                let is_forbidden = complaints_about(&manifest)
                    .iter()
                    .any(|complaint| complaint.contains(&arrow));
                assert_eq!(
                    is_forbidden,
                    !allowed.contains(&to.name),
                    "{} -> {}",
                    from.name,
                    to.name
                );
            }
        }
    }

    #[test]
    fn rows_point_only_at_rows_above_them() {
        for (place, layer) in LAYERS.iter().enumerate() {
            let Only(allowed) = layer.ours else { continue };
            for name in allowed {
                let above = LAYERS.iter().position(|other| other.name == *name).unwrap();
                assert!(above < place, "{} -> {name}", layer.name);
                assert!(
                    layer.candle == Seen || is_candle_free(name),
                    "{} sees candle through {name}",
                    layer.name
                );
            }
        }
    }

    #[test]
    fn build_dependencies_are_arrows_too() {
        assert_one_complaint(
            &[("deepfinder-io", &[("deepfinder-eval", json!("build"))])],
            &["io", "eval"],
        );
    }

    #[test]
    fn a_crate_without_a_row_is_told_to_get_one() {
        assert_one_complaint(
            &[("deepfinder-new", &[])],
            &["`deepfinder-new`", "xtask/src/layers.rs"],
        );
    }

    #[test]
    fn a_member_without_a_row_is_no_dependency() {
        let complaints = complaints_about(&[("helpers", &[]), (CORE, &[("helpers", json!(null))])]);
        assert!(
            complaints
                .iter()
                .any(|complaint| complaint.contains("must not depend on `helpers`")),
            "{complaints:?}"
        );
    }

    #[test]
    fn candle_is_kept_out() {
        for name in ["candle-core", "candle-nn", "candle-flash-attn"] {
            for kind in [json!(null), json!("build"), json!("dev")] {
                let complaints = complaints_about(&[("deepfinder-cluster", &[(name, kind)])]);
                assert!(
                    complaints
                        .iter()
                        .any(|complaint| complaint.contains("never see candle")),
                    "{complaints:?}"
                );
            }
        }
    }

    #[test]
    fn candle_is_kept_out_behind_our_own_crates() {
        let complaints = complaints_about(&[
            ("candle-conv3d", &[("candle-core", json!(null))]),
            ("deepfinder-net", &[("candle-conv3d", json!(null))]),
            ("deepfinder-eval", &[("deepfinder-net", json!("dev"))]),
        ]);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(
            complaints[0].contains("through `deepfinder-net`"),
            "{complaints:?}"
        );
    }

    #[test]
    fn some_crates_are_reserved() {
        for name in ["indicatif", "comfy-table", "anyhow", "clap"] {
            assert_one_complaint(&[(PIPELINE, &[(name, json!(null))])], &[name, CLI]);
        }
    }

    #[test]
    fn tests_may_look_sideways_but_not_up_nor_in_a_circle() {
        let sideways = [
            ("deepfinder-sim", &[][..]),
            ("deepfinder-cluster", &[("deepfinder-sim", json!("dev"))][..]),
        ];
        assert_eq!(complaints_about(&sideways), Vec::<String>::new());
        assert_one_complaint(
            &[("deepfinder-sim", &[(CLI, json!("dev"))])],
            &["above the stages"],
        );
        assert_one_complaint(
            &[("candle-conv3d", &[(CORE, json!("dev"))])],
            &["sees none of ours"],
        );
        let circle = [
            ("deepfinder-sim", &[(CORE, json!(null))][..]),
            (CORE, &[("deepfinder-sim", json!("dev"))][..]),
        ];
        assert_one_complaint(&circle, &["rests on this crate itself"]);
    }
}
