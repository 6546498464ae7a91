use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deepfinder_core::{CancelToken, Progress};
use indicatif::{FormattedDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far the work is, on standard error: a bar on a terminal, else a line now and then, for the log of a batch job.
pub(crate) struct Bars {
    cancel: CancelToken,
    terminal: bool,
    shown: Mutex<Shown>,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Lines),
}

impl Bars {
    /// Bars whose work stops when the token is cancelled.
    pub(crate) fn new(cancel: CancelToken) -> Self {
        Self {
            cancel,
            terminal: std::io::stderr().is_terminal(),
            shown: Mutex::new(Shown::Bar(ProgressBar::hidden())),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // A poisoned lock holds a bar all the same.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: u64, unit: &'static str) {
        *self.shown() = if self.terminal {
            Shown::Bar(bar(what, total, unit))
        } else {
            Shown::Lines(Lines::new(what, total, unit, Instant::now()))
        };
    }

    fn advance(&self, steps: u64) {
        match &mut *self.shown() {
            Shown::Bar(bar) => bar.inc(steps),
            Shown::Lines(lines) => say(lines.advance(steps, Instant::now())),
        }
    }

    fn note(&self, text: &str) {
        match &mut *self.shown() {
            Shown::Bar(bar) => bar.set_message(text.to_owned()),
            Shown::Lines(lines) => text.clone_into(&mut lines.note),
        }
    }

    fn end(&self) {
        match &*self.shown() {
            Shown::Bar(bar) => bar.finish(),
            Shown::Lines(lines) => say(lines.end(Instant::now())),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

fn bar(what: &str, total: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = format!(
        "{{prefix:>18}} {{bar:30}} {{percent:>3}} %  {{human_pos}}/{{human_len}} {unit}  {{elapsed}} + {{eta}}  {{msg}}"
    );
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn say(line: Option<String>) {
    if let Some(line) = line {
        // Where nobody can read it, the work goes on all the same.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Work shorter than this leaves no line.
const FIRST_LINE: Duration = Duration::from_secs(1);
/// Time from one line to the next.
const NEXT_LINE: Duration = Duration::from_secs(30);

/// A piece of work told in lines.
struct Lines {
    what: String,
    total: u64,
    unit: &'static str,
    note: String,
    done: u64,
    began: Instant,
    /// The first steps come at once where work goes on that was begun earlier: the speed is that of the others.
    first: Option<(Instant, u64)>,
    said: Option<Instant>,
}

impl Lines {
    fn new(what: &str, total: u64, unit: &'static str, now: Instant) -> Self {
        Self {
            what: what.to_owned(),
            total,
            unit,
            note: String::new(),
            done: 0,
            began: now,
            first: None,
            said: None,
        }
    }

    /// The line to say after these steps, if one is due.
    fn advance(&mut self, steps: u64, now: Instant) -> Option<String> {
        self.done += steps;
        let (start, done) = *self.first.get_or_insert((now, self.done));
        let due = self.said.map_or(self.began + FIRST_LINE, |said| said + NEXT_LINE);
        if now < due || self.done >= self.total {
            return None;
        }
        self.said = Some(now);
        let percent = 100 * self.done / self.total.max(1);
        let elapsed = FormattedDuration(now - self.began);
        if self.done == done {
            // The first step says nothing of the speed.
            return Some(self.line(&format!("{percent} %, {elapsed}")));
        }
        let seconds_a_step = (now - start).as_secs_f64() / (self.done - done) as f64;
        let left = seconds_a_step * self.total.saturating_sub(self.done) as f64;
        let left = FormattedDuration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
        Some(self.line(&format!("{percent} %, {elapsed}, {left} left")))
    }

    /// The last line, where the work took its time.
    fn end(&self, now: Instant) -> Option<String> {
        let elapsed = now - self.began;
        (elapsed >= FIRST_LINE).then(|| self.line(&format!("ended after {}", FormattedDuration(elapsed))))
    }

    fn line(&self, state: &str) -> String {
        let Self {
            what,
            total,
            unit,
            note,
            done,
            ..
        } = self;
        let gap = if note.is_empty() { "" } else { " · " };
        format!("{what}: {done}/{total} {unit}, {state}{gap}{note}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut lines = Lines::new("training", 1000, "iterations", start);
        // Resumed at iteration 500.
        assert_eq!(lines.advance(500, at(0.1)), None);
        lines.note = "loss 0.4".to_owned();
        let line = "training: 510/1000 iterations, 51 %, 00:00:10, 00:08:05 left · loss 0.4";
        assert_eq!(lines.advance(10, at(10.0)).as_deref(), Some(line));
        assert_eq!(lines.advance(10, at(39.9)), None);
        assert!(lines.advance(10, at(40.1)).is_some());
        let line = "training: 530/1000 iterations, ended after 00:00:50 · loss 0.4";
        assert_eq!(lines.end(at(50.0)).as_deref(), Some(line));
    }

    #[test]
    fn one_step_says_nothing_of_the_time_left() {
        let start = Instant::now();
        let mut lines = Lines::new("drawing", 8, "planes", start);
        let line = lines.advance(2, start + Duration::from_secs(7));
        assert_eq!(line.as_deref(), Some("drawing: 2/8 planes, 25 %, 00:00:07"));
    }

    #[test]
    fn short_work_leaves_no_line() {
        let start = Instant::now();
        let mut lines = Lines::new("drawing", 2, "planes", start);
        assert_eq!(lines.advance(1, start), None);
        assert_eq!(lines.advance(1, start + Duration::from_millis(900)), None);
        assert_eq!(lines.end(start + Duration::from_millis(900)), None);
    }
}
