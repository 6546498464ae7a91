use crate::correlate::Sums;

/// What was matched, and how the scores are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MatchReport {
    /// Rotations tried.
    pub rotations: usize,
    /// Side of the template's box in voxels: mask and rim.
    pub box_voxels: usize,
    /// Tiles that the tomogram was cut into.
    pub tiles: usize,
    /// Scores computed: voxels times rotations, flat places left out.
    pub trials: u64,
    /// Mean of all those scores, not of the best alone.
    pub mean: f64,
    /// Their standard deviation.
    pub standard_deviation: f64,
}

impl MatchReport {
    pub(crate) fn new(rotations: usize, box_voxels: usize, tiles: usize, sums: Sums) -> Self {
        let count = sums.count.max(1) as f64;
        let mean = sums.sum / count;
        Self {
            rotations,
            box_voxels,
            tiles,
            trials: sums.count,
            mean,
            standard_deviation: (sums.squares / count - mean * mean).max(0.0).sqrt(),
        }
    }

    /// How many standard deviations a score lies above the mean.
    pub fn deviations(&self, score: f64) -> f64 {
        (score - self.mean) / self.standard_deviation.max(f64::MIN_POSITIVE)
    }

    /// The score that noise reaches so many times (above 0) in the whole search.
    ///
    /// Scores of noise are normally distributed, so that of N independent trials N · erfc(t / √2) / 2 lie above t
    /// standard deviations (Rickgauer, Grigorieff and Denk 2017, eLife 6:e25648). Trials are counted as if all were
    /// independent and the deviation is that of all scores, the particles' own among them: both make the threshold
    /// rather too high. It knows noise alone: membranes, gold and other particles score higher than that
    /// ([`crate::compete`]).
    pub fn threshold(&self, false_alarms: f64) -> f64 {
        let tail = (false_alarms / self.trials.max(1) as f64).clamp(f64::MIN_POSITIVE, 0.5);
        self.mean + self.standard_deviation * normal_quantile(tail)
    }
}

/// The t above which lies that part, ½ at most, of a normal distribution.
fn normal_quantile(tail: f64) -> f64 {
    // erfc falls, and beyond 38 deviations it is 0 in an f64.
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let middle: f64 = 0.5 * (low + high);
        if 0.5 * libm::erfc(middle / std::f64::consts::SQRT_2) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (tail, expected) in [
            (0.5, 0.0),
            (0.158_655_253_931, 1.0),
            (0.025, 1.959_963_984_540),
            (2.866_515_719e-7, 5.0),
            (7.619_853_024e-24, 10.0),
        ] {
            let found = normal_quantile(tail);
            assert!((found - expected).abs() < 1e-8, "{found} for {expected}");
        }
    }

    #[test]
    fn fewer_false_alarms_need_a_higher_score() {
        let sums = Sums {
            count: 1_000_000,
            sum: 10_000.0,
            squares: 2_600.0,
        };
        let report = MatchReport::new(1, 9, 1, sums);
        assert!((report.mean - 0.01).abs() < 1e-12 && (report.standard_deviation - 0.05).abs() < 1e-12);
        assert!((report.threshold(158_655.253_931) - 0.06).abs() < 1e-9);
        assert!(report.threshold(1.0) > report.threshold(10.0));
        assert_eq!(report.threshold(1e12), report.mean);
    }
}
