//! A list of complaints, printed together so that one run shows all there is to mend.

use std::fmt::Display;

use anyhow::{Result, bail};

/// Complaints found by one check.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Vec<String>);

impl Complaints {
    pub(crate) fn add(&mut self, complaint: impl Display) {
        self.0.push(complaint.to_string());
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }

    /// Prints `praise` if there are no complaints, else prints them all.
    ///
    /// # Errors
    /// If there is any complaint.
    pub(crate) fn conclude(self, praise: &str) -> Result<()> {
        if self.0.is_empty() {
            println!("{praise}");
            return Ok(());
        }
        for complaint in &self.0 {
            eprintln!("error: {complaint}");
        }
        bail!("{} to mend, listed above", self.0.len());
    }
}
