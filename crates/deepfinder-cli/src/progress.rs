use std::sync::Mutex;
use std::time::Duration;

use deepfinder_core::{CancelToken, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bars on the terminal's standard error; silent where that is no terminal.
pub(crate) struct Bars {
    cancel: CancelToken,
    bar: Mutex<ProgressBar>,
}

impl Bars {
    /// Bars whose work stops when the token is cancelled.
    pub(crate) fn new(cancel: CancelToken) -> Self {
        Self {
            cancel,
            bar: Mutex::new(ProgressBar::hidden()),
        }
    }

    fn bar(&self) -> ProgressBar {
        // A poisoned lock holds a bar all the same.
        match self.bar.lock() {
            Ok(bar) => bar.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: u64, unit: &'static str) {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = format!(
            "{{prefix:>18}} {{bar:30}} {{percent:>3}} %  {{human_pos}}/{{human_len}} {unit}  {{elapsed}} + {{eta}}  {{msg}}"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        if let Ok(mut current) = self.bar.lock() {
            *current = bar;
        }
    }

    fn advance(&self, steps: u64) {
        self.bar().inc(steps);
    }

    fn note(&self, text: &str) {
        self.bar().set_message(text.to_owned());
    }

    fn end(&self) {
        self.bar().finish();
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
