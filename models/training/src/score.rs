//! Scores of quantile forecasts.

use super::loss::pinball_of;
use serde::{Deserialize, Serialize};

/// What a number of a forecast is compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// ln(value / last value of the context): the same for a share of 3 and one of 3000.
    LogReturn,
    /// value − last value of the context.
    Change,
}

impl Unit {
    /// A value in this unit.
    pub fn of(self, value: f64, last: f64) -> f64 {
        match self {
            Self::LogReturn => (value / last).ln(),
            Self::Change => value - last,
        }
    }

    /// A forecast value in this unit; one below zero, where there is no logarithm, as low as can be told.
    pub fn of_forecast(self, value: f64, last: f64) -> f64 {
        match self {
            Self::LogReturn => self.of(value.max(last * 1e-6), last),
            Self::Change => self.of(value, last),
        }
    }
}

/// Scores over all windows and steps alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Steps scored.
    pub n: u64,
    /// Mean absolute error of the median.
    pub mae: f64,
    /// Twice the mean pinball loss over the mean absolute value: the scaled quantile loss `2·mean ρ / mean |y|`.
    ///
    /// It approaches the scaled continuous ranked probability score as levels grow; of three levels it is `wql3`, not
    /// comparable with one of nine.
    pub wql: f64,
    /// Share of the actual values between the outermost quantiles, bounds included.
    pub coverage: f64,
    /// Mean distance of the outermost quantiles.
    pub width: f64,
    /// Share of steps whose median moves to the side that the actual value moved to; actual values of 0 and medians of 0
    /// are not counted. Absent when none is left, as for a model that says "no change".
    pub directional_accuracy: Option<f64>,
}

/// Adds up scores.
#[derive(Debug, Clone)]
pub struct Scorer {
    levels: Vec<f64>,
    n: u64,
    absolute_error: f64,
    pinball: f64,
    absolute: f64,
    covered: u64,
    width: f64,
    right: u64,
    directed: u64,
}

impl Scorer {
    /// Scores of forecasts at ascending `levels`.
    pub fn new(levels: &[f64]) -> Self {
        Self {
            levels: levels.to_vec(),
            n: 0,
            absolute_error: 0.0,
            pinball: 0.0,
            absolute: 0.0,
            covered: 0,
            width: 0.0,
            right: 0,
            directed: 0,
        }
    }

    /// Takes one step: its quantiles in the order of the levels, and what came.
    pub fn add(&mut self, quantiles: impl Fn(usize) -> f64, actual: f64) {
        let last = self.levels.len() - 1;
        let median = match self.levels.iter().position(|level| *level == 0.5) {
            Some(middle) => quantiles(middle),
            None => kronos_models::series::interpolate(
                &self.levels,
                &(0..=last).map(&quantiles).collect::<Vec<_>>(),
                0.5,
            ),
        };
        let (lower, upper) = (quantiles(0), quantiles(last));
        self.n += 1;
        self.absolute_error += (actual - median).abs();
        self.absolute += actual.abs();
        let losses =
            self.levels.iter().enumerate().map(|(i, &level)| pinball_of(quantiles(i), actual, level));
        self.pinball += losses.sum::<f64>() / self.levels.len() as f64;
        self.covered += u64::from((lower..=upper).contains(&actual));
        self.width += upper - lower;
        if actual != 0.0 && median != 0.0 {
            self.directed += 1;
            self.right += u64::from((actual > 0.0) == (median > 0.0));
        }
    }

    /// The scores so far.
    pub fn score(&self) -> Score {
        let n = self.n as f64;
        Score {
            n: self.n,
            mae: self.absolute_error / n,
            wql: 2.0 * self.pinball / self.absolute,
            coverage: self.covered as f64 / n,
            width: self.width / n,
            directional_accuracy: (self.directed > 0).then(|| self.right as f64 / self.directed as f64),
        }
    }

    /// The mean pinball loss so far.
    pub fn pinball(&self) -> f64 {
        self.pinball / self.n as f64
    }

    /// The honest name of the scaled quantile loss: `wql3` for three levels.
    pub fn loss_name(&self) -> String {
        format!("wql{}", self.levels.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps at (0.05, 0.5, 0.95): (−1, 0.5, 1) against 2 and (−2, −1, 3) against −1.5.
    #[test]
    fn scores_by_hand() {
        let mut scorer = Scorer::new(&[0.05, 0.5, 0.95]);
        scorer.add(|i| [-1.0, 0.5, 1.0][i], 2.0);
        scorer.add(|i| [-2.0, -1.0, 3.0][i], -1.5);
        let score = scorer.score();
        // Losses: .05·3, .5·1.5, .95·1 and .05·.5, .5·.5, .05·4.5.
        let pinball: f64 = ((0.15 + 0.75 + 0.95) + (0.025 + 0.25 + 0.225)) / 6.0;
        assert!((scorer.pinball() - pinball).abs() < 1e-12);
        assert!((score.wql - 2.0 * pinball / 1.75).abs() < 1e-12);
        assert_eq!((score.n, score.mae, score.coverage, score.width), (2, 1.0, 0.5, 3.5));
        assert_eq!(score.directional_accuracy, Some(1.0));
        assert_eq!(scorer.loss_name(), "wql3");
    }
}
