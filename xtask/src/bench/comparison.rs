//! What was measured, round by round, and the table of it.

use std::fmt;

/// In what a measurement is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// More is better.
    MvoxelsPerSecond,
    /// Less is better.
    Seconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::MvoxelsPerSecond => "Mvoxel/s",
            Self::Seconds => "s",
        }
    }
}

/// One thing that we and a peer do, measured in turn: what else a machine does changes from minute to minute, so that only
/// what was measured side by side can be compared.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    pub(super) what: String,
    pub(super) dtype: String,
    pub(super) unit: Unit,
    pub(super) peer: Option<String>,
    /// Ours and the peer's best, where it could do it.
    pub(super) rounds: Vec<(f64, Option<f64>)>,
    /// Share of what products from registers reach, in percent, where that is known.
    pub(super) ceiling_share: Option<f64>,
}

impl Comparison {
    pub(super) fn ours(&self) -> Option<f64> {
        median(self.rounds.iter().map(|(ours, _)| *ours))
    }

    fn theirs(&self) -> Option<f64> {
        median(self.rounds.iter().filter_map(|(_, theirs)| *theirs))
    }

    /// How many times faster ours is: the least, the middle and the greatest of the rounds.
    fn ratios(&self) -> Option<[f64; 3]> {
        let ratios = self.rounds.iter().filter_map(|(ours, theirs)| {
            theirs.map(|theirs| match self.unit {
                Unit::MvoxelsPerSecond => ours / theirs,
                Unit::Seconds => theirs / ours,
            })
        });
        let ratios: Vec<f64> = ratios.collect();
        let least = ratios.iter().copied().reduce(f64::min)?;
        let greatest = ratios.iter().copied().reduce(f64::max)?;
        Some([least, median(ratios)?, greatest])
    }
}

/// The middle one, or the mean of the two there.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// A table, a line for each.
pub(super) struct Table<'a>(pub(super) &'a [Comparison]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:<6} {:>9} {:>9} {:<9} {:<22} {:>7}  peer",
            "what", "dtype", "ours", "peer", "", "ratio", "ceiling"
        )?;
        for line in self.0 {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
            let ratio = line.ratios().map_or_else(
                || "-".to_owned(),
                |[least, middle, greatest]| format!("{middle:.2} x ({least:.2}-{greatest:.2})"),
            );
            let share = line
                .ceiling_share
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.0} %"));
            writeln!(
                f,
                "{:<14} {:<6} {:>9} {:>9} {:<9} {:<22} {:>7}  {}",
                line.what,
                line.dtype,
                number(line.ours()),
                number(line.theirs()),
                line.unit.name(),
                ratio,
                share,
                line.peer.as_deref().unwrap_or("-")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_rounds_and_say_how_far_they_spread() {
        let mut line = Comparison {
            what: "infer".to_owned(),
            dtype: "f32".to_owned(),
            unit: Unit::MvoxelsPerSecond,
            peer: Some("torch 2".to_owned()),
            rounds: vec![(2.0, Some(1.0)), (6.0, Some(1.5)), (3.0, Some(1.0)), (9.0, None)],
            ceiling_share: Some(41.6),
        };
        assert_eq!(line.ratios(), Some([2.0, 3.0, 4.0]));
        assert_eq!(line.ours(), Some(4.5));
        let table = Table(std::slice::from_ref(&line)).to_string();
        assert!(
            table.contains("3.00 x (2.00-4.00)") && table.contains("42 %"),
            "{table}"
        );
        line.unit = Unit::Seconds;
        assert_eq!(line.ratios(), Some([0.25, 1.0 / 3.0, 0.5]));
        line.rounds = vec![(9.0, None)];
        assert_eq!(line.ratios(), None);
    }
}
