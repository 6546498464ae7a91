use deepfinder_core::{CoreError, Label};

/// The result of clustering.
pub type Result<T, E = ClusterError> = std::result::Result<T, E>;

/// What can be wrong with the parameters or the particles.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A parameter outside its range.
    #[error("{name} must be {expected}, found {found}")]
    Parameter {
        /// The parameter, as its field is called.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// A filter by something that a particle does not have.
    #[error(
        "particle {index} (class {label}) has no {what}, so it can't be filtered by it: \
         mean-shift, components and DBSCAN give sizes, peaks give scores"
    )]
    Missing {
        /// Its place in the list, from 0.
        index: usize,
        /// Its class.
        label: Label,
        /// `size` or `score`.
        what: &'static str,
    },
    /// Reading the volume failed, or the work was cancelled.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// # Errors
/// [`ClusterError::Parameter`] unless `found` is positive and finite.
pub(crate) fn check_positive(name: &'static str, found: f64) -> Result<()> {
    if found.is_finite() && found > 0.0 {
        Ok(())
    } else {
        Err(ClusterError::Parameter {
            name,
            expected: "a positive, finite number",
            found: found.to_string(),
        })
    }
}
