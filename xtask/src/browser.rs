//! Builds the studio's page, holds it against the committed one, and drives it in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::{Metadata, cargo};

const WEB: &str = "crates/deepfinder-studio/web";

/// Builds page and program, and runs the browser's tests on them; screenshots go to `target/browser`.
///
/// `STUDIO_BROWSER` names the browser where it is not found as `chromium`.
///
/// # Errors
/// If npm or a browser is missing, the committed page is not what its sources give, or a test fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let web = root.join(WEB);
    if !web.join("node_modules").is_dir() {
        // Not `npm ci`: a lock file written on one system lacks the packages that are for others.
        let install = ["install", "--no-save", "--no-audit", "--no-fund"];
        succeed(Command::new("npm").current_dir(&web).args(install))
            .context("install Node.js 20 or later, with npm")?;
    }
    let target = Metadata::of_manifests(root)?.target_directory;
    let folder = target.join("browser");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let fresh = folder.join("dist");
    let npx = |arguments: &[&str]| succeed(Command::new("npx").current_dir(&web).args(arguments));
    npx(&["tsc", "--noEmit"])?;
    npx(&["vite", "build", "--outDir", &fresh.to_string_lossy()])?;
    compare(&web.join("dist"), &fresh)?;
    println!("the committed page is what its sources give");

    succeed(cargo(root).args(["build", "--workspace"]))?;
    let program = target
        .join("debug")
        .join(format!("deepfinder{}", std::env::consts::EXE_SUFFIX));
    let mut test = Command::new("node");
    test.current_dir(&web)
        .arg("test/browser.mjs")
        .arg(program)
        .arg(&folder)
        .arg(browser()?);
    succeed(&mut test)?;
    println!("screenshots: {}", folder.display());
    Ok(())
}

fn compare(committed: &Path, fresh: &Path) -> Result<()> {
    for entry in fs::read_dir(fresh)? {
        let name = entry?.file_name();
        let [old, new] = [committed, fresh].map(|folder| fs::read(folder.join(&name)).unwrap_or_default());
        if old != new {
            bail!(
                "{WEB}/dist/{} is not what its sources give: run `npm run build` there and commit it",
                name.display()
            );
        }
    }
    Ok(())
}

/// A browser that Playwright can drive.
fn browser() -> Result<PathBuf> {
    if let Some(browser) = std::env::var_os("STUDIO_BROWSER") {
        return Ok(browser.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    found.find(|path| path.is_file()).context(
        "there is no Chromium: install it (Debian: apt-get install chromium), or name one as STUDIO_BROWSER",
    )
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} does not start"))?;
    if status.success() {
        return Ok(());
    }
    bail!("{command:?} failed")
}
