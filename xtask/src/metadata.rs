//! What `cargo metadata` says of a workspace, cut down to what the checks read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The answer of `cargo metadata --format-version 1`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    #[serde(default)]
    pub(crate) target_directory: PathBuf,
    /// Who was chosen for each dependency; absent under `--no-deps`.
    pub(crate) resolve: Option<Resolve>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// The registry or repository it came from; `None` for a folder on this machine.
    pub(crate) source: Option<String>,
    #[serde(default)]
    pub(crate) manifest_path: PathBuf,
    #[serde(default)]
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

/// A line of a manifest; `name` is the package's own name, whatever the manifest renames it to.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_is_normal")]
    pub(crate) kind: Kind,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Normal,
    Build,
    Dev,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Debug, Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<NodeKind>,
}

#[derive(Debug, Deserialize)]
struct NodeKind {
    #[serde(default, deserialize_with = "null_is_normal")]
    kind: Kind,
}

/// `cargo metadata` writes a normal dependency's kind as `null`.
fn null_is_normal<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Ok(Option::<Kind>::deserialize(deserializer)?.unwrap_or_default())
}

impl Metadata {
    /// The manifests alone: needs no network and no lock file.
    pub(crate) fn of_manifests(root: &Path) -> Result<Self> {
        Self::ask(root, &["--offline", "--no-deps"])
    }

    /// The manifests and the whole tree of dependencies, for every platform.
    pub(crate) fn of_everything(root: &Path) -> Result<Self> {
        Self::ask(root, &[])
    }

    fn ask(root: &Path, options: &[&str]) -> Result<Self> {
        let output = cargo(root)
            .args(["metadata", "--format-version", "1"])
            .args(options)
            .stderr(Stdio::inherit())
            .output()
            .context("cargo metadata doesn't start")?;
        if !output.status.success() {
            bail!(
                "cargo metadata fails in {}: see its message above",
                root.display()
            );
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata answers in a form unknown here")
    }

    /// The packages of the workspace itself.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }
}

impl Package {
    /// Names of the dependencies of these kinds.
    pub(crate) fn named(&self, kinds: &[Kind]) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .filter(|dep| kinds.contains(&dep.kind))
            .map(|dep| dep.name.as_str())
    }
}

impl Resolve {
    /// Ids of all packages that `id` is built from, development dependencies left out.
    pub(crate) fn reach<'a>(&'a self, id: &'a str) -> BTreeSet<&'a str> {
        let nodes: BTreeMap<&str, &Node> = self.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut reached = BTreeSet::new();
        let mut waiting = vec![id];
        while let Some(next) = waiting.pop() {
            let Some(node) = nodes.get(next) else { continue };
            for dep in &node.deps {
                let is_built = dep.dep_kinds.iter().any(|found| found.kind != Kind::Dev);
                if is_built && reached.insert(dep.pkg.as_str()) {
                    waiting.push(&dep.pkg);
                }
            }
        }
        reached
    }
}

/// The cargo that runs us, at work in `root`.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The workspace whose `xtask` folder this program was built from.
pub(crate) fn own_workspace() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = xtask.parent().context("xtask stands in no workspace")?;
    Ok(root.to_path_buf())
}
