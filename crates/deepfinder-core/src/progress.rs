use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{CoreError, Result};

/// Where long work tells how far it is, and learns that it should stop.
///
/// Implementations must be cheap: `advance` is called from worker threads.
pub trait Progress: Send + Sync {
    /// A piece of work begins: what it is, in how many steps, of which unit (`voxels`, `iterations`, …).
    fn begin(&self, what: &str, total: u64, unit: &'static str);

    /// That many steps are done.
    fn advance(&self, steps: u64);

    /// Something worth a word beside the bar (a loss, say); replaces the last one.
    fn note(&self, _text: &str) {}

    /// The piece of work is over.
    fn end(&self) {}

    /// Whether the work should stop soon.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// # Errors
    /// [`CoreError::Cancelled`] where the work should stop.
    fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(CoreError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Nobody watches, and nobody stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _what: &str, _total: u64, _unit: &'static str) {}

    fn advance(&self, _steps: u64) {}
}

/// A flag that stops long work; its clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Progress for CancelToken {
    fn begin(&self, _what: &str, _total: u64, _unit: &'static str) {}

    fn advance(&self, _steps: u64) {}

    fn is_cancelled(&self) -> bool {
        self.is_cancelled()
    }
}
