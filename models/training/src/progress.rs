//! How far a run has come and how long it will still take, by a clock that the caller brings.

use std::time::Duration;

/// Weight of the newest pace in the smoothed one.
const SMOOTHING: f64 = 0.05;

/// The pace of a run.
#[derive(Debug, Clone)]
pub struct Progress {
    total: u64,
    last: Option<(u64, Duration)>,
    /// Smoothed seconds per step.
    pace: Option<f64>,
}

impl Progress {
    /// A run of `total` steps.
    pub fn new(total: u64) -> Self {
        Self { total, last: None, pace: None }
    }

    /// Takes note that `step` steps were done `elapsed` after some fixed instant.
    ///
    /// The first note of a resumed run has the steps done before: they do not count towards its pace.
    pub fn note(&mut self, step: u64, elapsed: Duration) {
        if let Some((before, at)) = self.last.filter(|(before, _)| *before < step) {
            let pace = elapsed.saturating_sub(at).as_secs_f64() / (step - before) as f64;
            self.pace = Some(self.pace.map_or(pace, |smooth| smooth + SMOOTHING * (pace - smooth)));
        }
        self.last = Some((step, elapsed));
    }

    /// An estimate of the time that is left; nothing before two notes.
    pub fn left(&self) -> Option<Duration> {
        let (step, _) = self.last?;
        self.pace.map(|pace| Duration::from_secs_f64(pace * self.total.saturating_sub(step) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_pace_is_told_exactly_and_a_resumed_run_does_not_count_the_past() {
        let mut progress = Progress::new(1000);
        let mut left = |step, seconds| {
            progress.note(step, Duration::from_secs(seconds));
            progress.left()
        };
        assert_eq!(left(500, 7), None);
        assert_eq!(left(510, 27), Some(Duration::from_secs(980)));
        // A step that took 12 seconds moves the pace of 2 by a twentieth of the difference.
        let seconds = left(511, 39).unwrap().as_secs_f64();
        assert!((seconds - 489.0 * 2.5).abs() < 1e-9);
        assert_eq!(left(1000, 40), Some(Duration::ZERO));
    }
}
