use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use deepfinder_io::write_file_atomically;

use crate::{PipelineError, Result};

/// What each product of a project was made from, so that what is up to date is not made again.
///
/// A stamp is the text of everything that decides the product: settings, and name, size and time of the files it was
/// made from. Paths in a folder that may be moved as a whole are written as from there.
pub(crate) struct Stamps {
    path: PathBuf,
    /// That folder's, with the separator behind it.
    prefix: String,
    made_from: BTreeMap<String, String>,
}

impl Stamps {
    /// The stamps of an output folder of what lies in `whole`; none where nothing was made or the file is damaged (then all
    /// is made anew).
    pub(crate) fn read(folder: &Path, whole: &Path) -> Self {
        let path = folder.join("stamps.json");
        let made_from = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            prefix: whole.join("").display().to_string(),
            made_from: made_from.unwrap_or_default(),
        }
    }

    /// Whether a product is there and was made from just that.
    pub(crate) fn is_current(&self, product: &Path, stamp: &Stamp) -> bool {
        product.exists() && self.made_from.get(&self.key(product)) == Some(&self.portable(&stamp.0))
    }

    /// Remembers what a product was made from.
    pub(crate) fn record(&mut self, product: &Path, stamp: &Stamp) -> Result<()> {
        let (key, stamp) = (self.key(product), self.portable(&stamp.0));
        self.made_from.insert(key, stamp);
        let text = serde_json::to_vec_pretty(&self.made_from)
            .map_err(|error| PipelineError::input(format!("{}: {error}", self.path.display())))?;
        Ok(write_file_atomically(&self.path, &text)?)
    }

    fn key(&self, product: &Path) -> String {
        self.portable(&product.display().to_string())
    }

    /// The text with paths as from the folder that may be moved.
    fn portable(&self, text: &str) -> String {
        match self.prefix.as_str() {
            "" => text.to_owned(),
            prefix => text.replace(prefix, ""),
        }
    }
}

/// What a product is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(String);

impl Stamp {
    /// A product of this version of the program with these settings.
    pub(crate) fn new(settings: impl std::fmt::Debug) -> Self {
        Self(format!(
            "deepfinder {}\n{settings:?}\n",
            env!("CARGO_PKG_VERSION")
        ))
    }

    /// … with those settings too, where they are not what every product has.
    #[must_use]
    pub(crate) fn and(mut self, settings: impl std::fmt::Debug) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{settings:?}");
        self
    }

    /// … and of that file, as it is now.
    #[must_use]
    pub(crate) fn file(mut self, path: &Path) -> Self {
        let state = std::fs::metadata(path).ok().map(|meta| {
            let modified = meta
                .modified()
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            (meta.len(), modified.map(|time| time.as_nanos()))
        });
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{} {state:?}", path.display());
        self
    }

    /// … and of those files.
    #[must_use]
    pub(crate) fn files<'a>(self, paths: impl IntoIterator<Item = &'a Path>) -> Self {
        paths.into_iter().fold(self, Self::file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_current_until_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let [input, product] = ["input", "product"].map(|name| folder.path().join(name));
        std::fs::write(&input, "one").unwrap();
        let stamp = |radius: u32| Stamp::new(radius).file(&input);
        let mut stamps = Stamps::read(folder.path(), folder.path());
        stamps.record(&product, &stamp(6)).unwrap();
        let stamps = Stamps::read(folder.path(), folder.path());
        assert!(!stamps.is_current(&product, &stamp(6)), "it is not there");
        std::fs::write(&product, "made").unwrap();
        assert!(stamps.is_current(&product, &stamp(6)));
        assert!(!stamps.is_current(&product, &stamp(7)));
        std::fs::write(&input, "other").unwrap();
        assert!(!stamps.is_current(&product, &stamp(6)));
    }

    #[test]
    fn what_is_moved_as_a_whole_is_still_current() {
        let folder = tempfile::tempdir().unwrap();
        let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(before.join("output")).unwrap();
        std::fs::write(before.join("input"), "one").unwrap();
        std::fs::write(before.join("output/product"), "made").unwrap();
        let stamp = |project: &Path| Stamp::new(project.join("mask")).file(&project.join("input"));
        let product = |project: &Path| project.join("output/product");
        let mut stamps = Stamps::read(&before.join("output"), &before);
        stamps.record(&product(&before), &stamp(&before)).unwrap();
        std::fs::rename(&before, &after).unwrap();
        let stamps = Stamps::read(&after.join("output"), &after);
        assert!(stamps.is_current(&product(&after), &stamp(&after)));
        let elsewhere = stamp(&after).file(&folder.path().join("other"));
        assert!(!stamps.is_current(&product(&after), &elsewhere));
    }
}
