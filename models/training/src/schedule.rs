//! The learning rate of every step.

use kronos_job::regime::Schedule;
use std::f64::consts::PI;

/// What a plateau schedule remembers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// Product of the reductions so far.
    pub factor: f64,
    /// Best loss of an evaluation.
    pub best: f64,
    /// Evaluations since.
    pub stale: u32,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 1.0, best: f64::INFINITY, stale: 0 }
    }
}

impl Plateau {
    /// The learning rate of step `step` (from 0) of `steps`, for a full rate of `rate`.
    ///
    /// The reductions of a plateau are what this remembers; the others are functions of the step alone.
    pub fn rate(&self, schedule: &Schedule, rate: f64, step: u64, steps: u64) -> f64 {
        let (at, total) = (step as f64, steps as f64);
        let half_cosine =
            |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (PI * share).cos());
        match *schedule {
            Schedule::Constant => rate,
            Schedule::OneCycle { warmup, divisor, final_divisor } => {
                let first = rate / divisor;
                let (peak, last) = (warmup * total - 1.0, total - 1.0);
                if at <= peak && peak > 0.0 {
                    half_cosine(first, rate, at / peak)
                } else {
                    half_cosine(rate, first / final_divisor, ((at - peak) / (last - peak)).min(1.0))
                }
            }
            Schedule::Plateau { minimum, .. } => (rate * self.factor).max(minimum.min(rate)),
            Schedule::Cosine { warmup, minimum } => match at / (warmup * total) {
                up if up < 1.0 => rate * (at + 1.0) / (warmup * total).max(1.0),
                _ => half_cosine(rate, minimum, down(at, total, warmup)),
            },
            Schedule::Linear { warmup } => match at / (warmup * total) {
                up if up < 1.0 => rate * (at + 1.0) / (warmup * total).max(1.0),
                _ => rate * (1.0 - down(at, total, warmup)),
            },
        }
    }

    /// Takes the outcome of an evaluation.
    pub fn evaluated(&mut self, schedule: &Schedule, loss: f64) {
        let Schedule::Plateau { factor, patience, .. } = *schedule else { return };
        // A gain of less than a ten-thousandth is noise: the threshold of PyTorch's ReduceLROnPlateau.
        if loss < self.best * (1.0 - 1e-4) {
            (self.best, self.stale) = (loss, 0);
            return;
        }
        self.stale += 1;
        if self.stale > patience {
            self.factor *= factor;
            self.stale = 0;
        }
    }
}

/// Share of the way down after a warm-up.
fn down(at: f64, total: f64, warmup: f64) -> f64 {
    let from = warmup * total;
    ((at - from) / (total - from)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| Plateau::default().rate(&schedule, 0.1, step, steps)).collect()
    }

    /// Ten steps with a warm-up of 0.3: the peak is at step 2, and the ends are 0.1/25 and 0.1/25/1e4. Between them
    /// PyTorch's formula at a half and a quarter of the way.
    #[test]
    fn one_cycle_by_hand() {
        let rates = rates(Schedule::ONE_CYCLE, 10);
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        close(rates[0], 0.004);
        close(rates[1], (0.004 + 0.1) / 2.0);
        close(rates[2], 0.1);
        close(rates[9], 0.004 / 1e4);
        let share: f64 = 1.0 / 7.0;
        close(rates[3], 4e-7 + (0.1 - 4e-7) / 2.0 * (1.0 + (PI * share).cos()));
    }

    #[test]
    fn plateaus_by_hand() {
        let schedule = Schedule::Plateau { factor: 0.1, patience: 1, minimum: 1e-5 };
        let mut plateau = Plateau::default();
        let mut rate = |loss: f64| {
            plateau.evaluated(&schedule, loss);
            plateau.rate(&schedule, 1e-3, 0, 1)
        };
        // The second loss without improvement exceeds the patience of one.
        let got: Vec<f64> =
            [1.0, 0.9, 0.95, 0.899_99, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6].map(&mut rate).to_vec();
        let expected = [1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5, 1e-5, 1e-5];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    #[test]
    fn warm_up_and_way_down() {
        let linear = rates(Schedule::Linear { warmup: 0.2 }, 10);
        assert!((linear[0] - 0.05).abs() < 1e-12 && (linear[1] - 0.1).abs() < 1e-12);
        assert!((linear[2] - 0.1).abs() < 1e-12 && (linear[6] - 0.05).abs() < 1e-12);
        let cosine = rates(Schedule::Cosine { warmup: 0.0, minimum: 0.02 }, 10);
        assert!((cosine[0] - 0.1).abs() < 1e-12 && (cosine[5] - 0.06).abs() < 1e-12);
        assert!(cosine.windows(2).all(|pair| pair[1] < pair[0]) && cosine[9] > 0.02);
        assert_eq!(rates(Schedule::Constant, 3), [0.1; 3]);
    }
}
