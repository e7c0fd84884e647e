//! Knobs that the training of every family has: the loop, the optimiser, the learning rate, the split of the rows.

use kronos_models::{ModelError, Result};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Knobs of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Seed of everything random.
    pub seed: i64,
    /// Optimiser steps.
    pub steps: u64,
    /// Windows of one pass.
    pub batch: usize,
    /// Passes whose gradients are averaged into one step.
    pub accumulate: usize,
    /// The optimiser.
    pub optimiser: AdamWOptions,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Largest global norm of a gradient; `false`: any.
    #[serde(deserialize_with = "or_none")]
    pub clip: Option<f64>,
    /// Steps from one evaluation to the next.
    pub evaluate_every: u64,
    /// Evaluations in a row without a better one after which the run ends; `false`: it does not.
    #[serde(deserialize_with = "or_none")]
    pub patience: Option<u32>,
    /// Decay per step of the running mean of the weights, which is validated and kept in place of the last weights;
    /// `false`: no mean is taken. Early in a run the decay is smaller, so that the first weights are soon forgotten.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "or_none")]
    pub average: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 1000,
            batch: 64,
            accumulate: 1,
            optimiser: AdamWOptions::default(),
            schedule: Schedule::PLATEAU,
            clip: Some(1.0),
            evaluate_every: 100,
            patience: Some(20),
            average: None,
        }
    }
}

/// A number, or `false` or null for none: a job is written in TOML too, which has no null.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number, or false for none")]
    enum Given<T> {
        Number(T),
        Whether(bool),
    }
    match Option::deserialize(from)? {
        Some(Given::Number(number)) => Ok(Some(number)),
        None | Some(Given::Whether(false)) => Ok(None),
        Some(Given::Whether(true)) => Err(D::Error::custom("expected a number, or false for none")),
    }
}

impl Options {
    /// Checks every knob.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for the first that is outside its domain.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("steps", self.steps),
            ("batch", self.batch as u64),
            ("accumulate", self.accumulate as u64),
            ("evaluate_every", self.evaluate_every),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(invalid(name, "at least 1", 0));
        }
        if let Some(clip) = self.clip.filter(|clip| clip.is_nan() || *clip <= 0.0) {
            return Err(invalid("clip", "above 0", clip));
        }
        if let Some(decay) = self.average.filter(|decay| !(0.0..1.0).contains(decay)) {
            return Err(invalid("average", "at least 0 and below 1", decay));
        }
        self.optimiser.validate()?;
        self.schedule.validate()
    }
}

/// Knobs of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWOptions {
    /// The learning rate that the schedule scales.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Share of a weight that is taken away per unit of learning rate, apart from the gradient.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamWOptions {
    /// Checks every knob.
    ///
    /// # Errors
    /// As [`Options::validate`].
    pub fn validate(&self) -> Result<()> {
        let positive = |name, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(invalid(name, "above 0", value)),
        };
        positive("learning_rate", self.learning_rate)?;
        positive("epsilon", self.epsilon)?;
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(invalid(name, "at least 0 and below 1", beta));
            }
        }
        match self.weight_decay >= 0.0 && self.weight_decay.is_finite() {
            true => Ok(()),
            false => Err(invalid("weight_decay", "at least 0", self.weight_decay)),
        }
    }
}

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

    /// Checks every knob.
    fn validate(&self) -> Result<()> {
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
}

/// Microseconds of a day, the unit of [`SplitRule`]'s spans.
pub const DAY: i64 = 86_400_000_000;

/// How every series of a panel is split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitRule {
    /// Least share of a series' rows that is held out.
    pub holdout: f64,
    /// Least span of time that is held out, in microseconds.
    pub holdout_span: Option<i64>,
    /// From here on rows are test rows, for all series alike; absent: the later half of each series' hold-out.
    pub test_from: Option<i64>,
    /// Rows left out between two parts; at least the horizon.
    pub purge: usize,
}

impl SplitRule {
    /// A fifth and a year of daily rows held out, a purge of one horizon.
    pub fn daily(horizon: usize) -> Self {
        Self { holdout: 0.2, holdout_span: Some(365 * DAY), test_from: None, purge: horizon }
    }

    /// A fifth of the rows held out, a purge of one horizon: for bars shorter than a day.
    pub fn intraday(horizon: usize) -> Self {
        Self { holdout_span: None, ..Self::daily(horizon) }
    }
}

/// A parameter outside its domain.
pub(crate) fn invalid(name: &'static str, expected: impl Into<String>, got: impl ToString) -> ModelError {
    ModelError::InvalidParameter { name, expected: expected.into(), got: got.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_that_is_false_is_none_and_one_that_is_absent_has_its_default() {
        let read = |text: &str| serde_json::from_str::<Options>(text).map_err(|error| error.to_string());
        let none = Options { clip: None, patience: None, average: None, ..Options::default() };
        assert_eq!(read(r#"{"clip": false, "patience": false, "average": null}"#).unwrap(), none);
        assert_eq!(read("{}").unwrap(), Options::default());
        let some = read(r#"{"clip": 2, "patience": 3, "average": 0.5}"#).unwrap();
        assert_eq!((some.clip, some.patience, some.average), (Some(2.0), Some(3), Some(0.5)));
        assert!(read(r#"{"patience": true}"#).unwrap_err().contains("false for none"));
        assert!(read(r#"{"patience": -1}"#).is_err());
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
