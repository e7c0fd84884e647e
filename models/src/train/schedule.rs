//! The learning rate of every step.

use super::error::{Result, invalid};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate changes over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Up from the rate over `divisor` in the first `warmup` share of the steps, then down to the starting rate over
    /// `final_divisor`, both along a half cosine.
    OneCycle {
        /// Share of the steps that go up.
        warmup: f64,
        /// Full rate over first rate.
        divisor: f64,
        /// First rate over last rate.
        final_divisor: f64,
    },
    /// Multiplied by `factor` after more than `patience` evaluations in a row without a better one, never below `minimum`.
    Plateau {
        /// Multiplier, below 1.
        factor: f64,
        /// Evaluations without improvement that are borne.
        patience: u32,
        /// Least rate.
        minimum: f64,
    },
    /// Up linearly in the first `warmup` share of the steps, then down along a half cosine to `minimum`.
    Cosine {
        /// Share of the steps that go up.
        warmup: f64,
        /// Last rate.
        minimum: f64,
    },
    /// Up linearly in the first `warmup` share of the steps, then down linearly to zero.
    Linear {
        /// Share of the steps that go up.
        warmup: f64,
    },
}

impl Schedule {
    /// PyTorch's defaults of a one-cycle schedule.
    pub const ONE_CYCLE: Self = Self::OneCycle { warmup: 0.3, divisor: 25.0, final_divisor: 1e4 };

    /// Halves after ten evaluations without improvement, down to 1e-5.
    pub const PLATEAU: Self = Self::Plateau { factor: 0.5, patience: 10, minimum: 1e-5 };

    pub(super) fn validate(&self) -> Result<()> {
        let share = |warmup: f64| match (0.0..=1.0).contains(&warmup) {
            true => Ok(()),
            false => Err(invalid("warmup", "between 0 and 1", warmup)),
        };
        match *self {
            Self::Constant => Ok(()),
            Self::OneCycle { warmup, divisor, final_divisor } => {
                if !(divisor >= 1.0 && final_divisor >= 1.0) {
                    return Err(invalid("divisor", "at least 1", divisor.min(final_divisor)));
                }
                share(warmup)
            }
            Self::Plateau { factor, minimum, .. } => {
                if !(factor > 0.0 && factor < 1.0) {
                    return Err(invalid("factor", "between 0 and 1", factor));
                }
                if minimum < 0.0 || minimum.is_nan() {
                    return Err(invalid("minimum", "at least 0", minimum));
                }
                Ok(())
            }
            Self::Cosine { warmup, .. } | Self::Linear { warmup } => share(warmup),
        }
    }

    /// The learning rate of step `step` (from 0) of `steps`, for a full rate of `rate`.
    ///
    /// A plateau's reductions are in `plateau`; the others are functions of the step alone.
    pub fn rate(&self, rate: f64, step: u64, steps: u64, plateau: &Plateau) -> f64 {
        let (at, total) = (step as f64, steps as f64);
        let half_cosine =
            |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (PI * share).cos());
        match *self {
            Self::Constant => rate,
            Self::OneCycle { warmup, divisor, final_divisor } => {
                let first = rate / divisor;
                let (peak, last) = (warmup * total - 1.0, total - 1.0);
                if at <= peak && peak > 0.0 {
                    half_cosine(first, rate, at / peak)
                } else {
                    half_cosine(rate, first / final_divisor, ((at - peak) / (last - peak)).min(1.0))
                }
            }
            Self::Plateau { minimum, .. } => (rate * plateau.factor).max(minimum.min(rate)),
            Self::Cosine { warmup, minimum } => match at / (warmup * total) {
                up if up < 1.0 => rate * (at + 1.0) / (warmup * total).max(1.0),
                _ => half_cosine(rate, minimum, down(at, total, warmup)),
            },
            Self::Linear { warmup } => match at / (warmup * total) {
                up if up < 1.0 => rate * (at + 1.0) / (warmup * total).max(1.0),
                _ => rate * (1.0 - down(at, total, warmup)),
            },
        }
    }

    /// Takes the outcome of an evaluation.
    pub fn evaluated(&self, loss: f64, plateau: &mut Plateau) {
        let Self::Plateau { factor, patience, .. } = *self else { return };
        // A gain of less than a ten-thousandth is noise: the threshold of PyTorch's ReduceLROnPlateau.
        if loss < plateau.best * (1.0 - 1e-4) {
            (plateau.best, plateau.stale) = (loss, 0);
            return;
        }
        plateau.stale += 1;
        if plateau.stale > patience {
            plateau.factor *= factor;
            plateau.stale = 0;
        }
    }
}

/// Share of the way down after a warm-up.
fn down(at: f64, total: f64, warmup: f64) -> f64 {
    let from = warmup * total;
    ((at - from) / (total - from)).clamp(0.0, 1.0)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| schedule.rate(0.1, step, steps, &Plateau::default())).collect()
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
            schedule.evaluated(loss, &mut plateau);
            schedule.rate(1e-3, 0, 1, &plateau)
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

    #[test]
    fn knobs_out_of_range_are_refused() {
        for schedule in [
            Schedule::OneCycle { warmup: 1.5, divisor: 25.0, final_divisor: 1e4 },
            Schedule::OneCycle { warmup: 0.5, divisor: 0.0, final_divisor: 1e4 },
            Schedule::Plateau { factor: 1.0, patience: 1, minimum: 0.0 },
            Schedule::Plateau { factor: 0.5, patience: 1, minimum: f64::NAN },
            Schedule::Linear { warmup: f64::NAN },
        ] {
            assert!(schedule.validate().is_err(), "{schedule:?}");
        }
    }
}
