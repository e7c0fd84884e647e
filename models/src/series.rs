//! What a model of single numbers is asked and what it answers: series, covariates, quantiles.

use crate::ask::{Ask, LARGEST, Values};
use crate::error::{ModelError, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// One series to forecast: its targets, and the covariates that inform them.
///
/// All histories have the same length and end at the same point in time; NaN is a missing value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SeriesRequest {
    /// The variates to forecast, oldest value first; at least one.
    pub targets: Vec<Vec<f64>>,
    /// Covariates whose future is not known.
    pub past_covariates: Vec<Vec<f64>>,
    /// Covariates whose future is known, in whole or in part.
    pub known_covariates: Vec<KnownCovariate>,
    /// Steps to forecast.
    pub horizon: usize,
}

/// A covariate with a known future.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KnownCovariate {
    /// As long as the targets.
    pub past: Vec<f64>,
    /// As long as the horizon; NaN where it is not known after all.
    pub future: Vec<f64>,
}

impl SeriesRequest {
    /// A series of one target and no covariates.
    pub fn univariate(target: Vec<f64>, horizon: usize) -> Self {
        Self { targets: vec![target], horizon, ..Self::default() }
    }

    /// What is numeric of an ask, for models that know no categories: to them one is a missing number.
    pub fn of_numbers(ask: &Ask) -> Self {
        let numbers = |values: &Values| match values {
            Values::Numbers(numbers) => numbers.clone(),
            Values::Categories(categories) => categories.iter().map(|_| f64::NAN).collect(),
        };
        let known = |covariate: &crate::ask::KnownCovariate| KnownCovariate {
            past: numbers(&covariate.past),
            future: numbers(&covariate.future),
        };
        let past = ask.past.iter().chain(&ask.statics);
        Self {
            targets: ask.targets.iter().map(|target| target.values.clone()).collect(),
            past_covariates: past.map(|covariate| numbers(&covariate.values)).collect(),
            known_covariates: ask.known.iter().map(known).collect(),
            horizon: ask.horizon,
        }
    }

    /// The newest `context` values of the targets of an ask, for a family that reads nothing else.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for covariates.
    pub(crate) fn of_targets(ask: &Ask, context: usize, family: &'static str) -> Result<Self> {
        if ask.covariates() > 0 {
            return Err(ModelError::Unsupported { family, capability: "covariates".into() });
        }
        let newest = |values: &[f64]| values[values.len().saturating_sub(context)..].to_vec();
        let targets = ask.targets.iter().map(|target| newest(&target.values)).collect();
        Ok(Self { targets, horizon: ask.horizon, ..Self::default() })
    }

    /// Points of history.
    pub fn context_len(&self) -> usize {
        self.targets.first().map_or(0, Vec::len)
    }

    /// Checks what every model asks of a request.
    ///
    /// # Errors
    /// [`ModelError::ShapeMismatch`] for histories or futures of another length, [`ModelError::ContextTooShort`] for an
    /// empty history, [`ModelError::InvalidParameter`] for a horizon of 0 or no target, and
    /// [`ModelError::MissingValue`] for a value that is infinite or above [`LARGEST`].
    pub fn validate(&self) -> Result<()> {
        if self.horizon == 0 || self.targets.is_empty() {
            let name = if self.horizon == 0 { "horizon" } else { "targets" };
            return Err(ModelError::InvalidParameter {
                name,
                expected: "at least 1".into(),
                got: "0".into(),
            });
        }
        let length = self.context_len();
        if length == 0 {
            return Err(ModelError::ContextTooShort { needed: 1, got: 0 });
        }
        let histories = self.targets.iter().map(|target| ("target", target));
        let past = self.past_covariates.iter().map(|covariate| ("past covariate", covariate));
        let known =
            self.known_covariates.iter().map(|covariate| ("history of a future covariate", &covariate.past));
        let futures = self.known_covariates.iter().map(|covariate| ("future covariate", &covariate.future));
        let histories = histories.chain(past).chain(known).map(|(what, values)| (what, values, length));
        for (what, values, expected) in
            histories.chain(futures.map(|(what, values)| (what, values, self.horizon)))
        {
            if values.len() != expected {
                return Err(ModelError::ShapeMismatch { what, got: values.len(), expected });
            }
            if let Some(index) = values.iter().position(|value| value.abs() > LARGEST) {
                return Err(ModelError::MissingValue { what, index });
            }
        }
        Ok(())
    }
}

/// Quantiles of the targets, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantileForecast {
    /// The levels: a model's own ascend, others are as they were asked for.
    pub levels: Vec<f64>,
    /// [target][level][step], in the unit of the target.
    pub values: Vec<Vec<Vec<f64>>>,
}

impl QuantileForecast {
    /// The quantiles at other levels, none above that of a higher level.
    ///
    /// A network may let quantiles cross. They are put in order first, which moves them closer to the truth on average,
    /// then read off between the two nearest levels.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for a level outside the range of the forecast's own: beyond the outermost
    /// quantile a model says nothing about the tail.
    /// # Source
    /// Chernozhukov, Fernández-Val and Galichon, "Quantile and probability curves without crossing", Econometrica 78
    /// (2010), for the ordering.
    pub fn at(&self, levels: &[f64], between: Between) -> Result<Self> {
        let (first, last) = self.range();
        if let Some(level) = levels.iter().find(|level| !(first..=last).contains(*level)) {
            let expected = format!("between {first} and {last}, the outermost levels of the model");
            return Err(ModelError::InvalidParameter {
                name: "quantile level",
                expected,
                got: level.to_string(),
            });
        }
        let place = |levels: &[f64]| levels.iter().map(|&level| between.place(level)).collect::<Vec<f64>>();
        let (own, places) = (place(&self.levels), place(levels));
        let read = |target: &Vec<Vec<f64>>| {
            let mut out = vec![Vec::with_capacity(target.first().map_or(0, Vec::len)); levels.len()];
            for step in 0..target.first().map_or(0, Vec::len) {
                let mut column: Vec<f64> = target.iter().map(|values| values[step]).collect();
                column.sort_by(f64::total_cmp);
                for (out, &place) in out.iter_mut().zip(&places) {
                    out.push(interpolate(&own, &column, place));
                }
            }
            out
        };
        Ok(Self { levels: levels.to_vec(), values: self.values.iter().map(read).collect() })
    }

    /// Lowest and highest level.
    pub fn range(&self) -> (f64, f64) {
        (self.levels.first().copied().unwrap_or(f64::NAN), self.levels.last().copied().unwrap_or(f64::NAN))
    }

    /// Finds the first step with a value that is not a number or infinite.
    pub(crate) fn check_finite(&self) -> Result<()> {
        let horizon = self.values.iter().flatten().map(Vec::len).max().unwrap_or(0);
        let unusable = |step: &usize| {
            self.values
                .iter()
                .flatten()
                .any(|values| values.get(*step).is_some_and(|value| !value.is_finite()))
        };
        match (0..horizon).find(unusable) {
            Some(step) => Err(ModelError::NonFinite { step: step + 1 }),
            None => Ok(()),
        }
    }
}

/// What quantiles are linear in between two levels of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// In the level, as the references of Chronos read them.
    Levels,
    /// In the normal score of the level, Φ⁻¹: exact where the distribution is normal, while a straight line in the level puts the
    /// quantiles between two far ones too far out.
    Scores,
}

impl Between {
    fn place(self, level: f64) -> f64 {
        match self {
            Self::Levels => level,
            Self::Scores => Normal::standard().inverse_cdf(level),
        }
    }
}

/// The value at `level` of the piecewise linear curve through (`levels`, `values`), constant beyond its ends.
///
/// `levels` ascend; where several are equal to `level`, the last of them counts.
pub fn interpolate(levels: &[f64], values: &[f64], level: f64) -> f64 {
    let above = levels.partition_point(|&knot| knot <= level);
    match (above.checked_sub(1), values.get(above)) {
        (None, first) => first.copied().unwrap_or(f64::NAN),
        (Some(below), None) => values.get(below).copied().unwrap_or(f64::NAN),
        (Some(below), Some(next)) => {
            let weight = (level - levels[below]) / (levels[above] - levels[below]);
            values[below] + (next - values[below]) * weight
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_between_are_linear_and_crossed_quantiles_are_put_in_order() {
        let forecast = QuantileForecast {
            levels: vec![0.1, 0.5, 0.9],
            values: vec![vec![vec![1.0, 5.0], vec![3.0, 4.0], vec![9.0, 6.0]]],
        };
        let read = forecast.at(&[0.1, 0.3, 0.5, 0.8, 0.9], Between::Levels).unwrap();
        let column = |step: usize| read.values[0].iter().map(|values| values[step]).collect::<Vec<_>>();
        for (got, expected) in column(0).into_iter().zip([1.0, 2.0, 3.0, 7.5, 9.0]) {
            assert!((got - expected).abs() < 1e-12);
        }
        for (got, expected) in column(1).into_iter().zip([4.0, 4.5, 5.0, 5.75, 6.0]) {
            assert!((got - expected).abs() < 1e-12);
        }
        for between in [Between::Levels, Between::Scores] {
            assert!([0.05, 0.95, f64::NAN].iter().all(|level| forecast.at(&[*level], between).is_err()));
        }
    }

    /// Quantiles of a normal distribution at the levels that N-BEATS models are trained for; deviates from any table.
    #[test]
    fn in_normal_scores_every_level_of_a_normal_distribution_is_exact() {
        let deviates = [-1.644_853_626_951_472_7, -0.674_489_750_196_081_7, 0.0, 0.674_489_750_196_081_7];
        let values = deviates.map(|z| vec![100.0 + 3.0 * z]).to_vec();
        let forecast = QuantileForecast { levels: vec![0.05, 0.25, 0.5, 0.75], values: vec![values.clone()] };
        let wanted = [
            (0.1, -1.281_551_565_544_600_4),
            (0.4, -0.253_347_103_135_799_8),
            (0.6, 0.253_347_103_135_799_8),
        ];
        let read = forecast.at(&wanted.map(|(level, _)| level), Between::Scores).unwrap();
        for (got, (level, z)) in read.values[0].iter().zip(wanted) {
            assert!((got[0] - (100.0 + 3.0 * z)).abs() < 1e-9, "{level}: {got:?}");
        }
        // A straight line in the level has 8.0 % of the distribution below its tenth percentile: Φ(−1.402).
        let linear = forecast.at(&[0.1], Between::Levels).unwrap().values[0][0][0];
        assert!(((linear - 100.0) / 3.0 + 1.402_262_657).abs() < 1e-6, "{linear}");
        assert_eq!(forecast.at(&forecast.levels, Between::Scores).unwrap().values[0], values);
    }

    #[test]
    fn requests_that_no_model_can_take_are_refused() {
        let good = SeriesRequest {
            targets: vec![vec![1.0, f64::NAN]],
            past_covariates: vec![vec![0.0, 1.0]],
            known_covariates: vec![KnownCovariate { past: vec![0.0, 1.0], future: vec![2.0, f64::NAN, 1.0] }],
            horizon: 3,
        };
        good.validate().unwrap();
        let with = |change: fn(&mut SeriesRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request.validate().unwrap_err().to_string()
        };
        assert!(with(|r| r.horizon = 0).contains("horizon"));
        assert!(with(|r| r.targets.clear()).contains("targets"));
        assert!(with(|r| r.targets[0].clear()).contains("context has 0 points"));
        assert!(
            with(|r| r.past_covariates[0].truncate(1)).contains("past covariate has length 1, expected 2")
        );
        assert!(with(|r| r.known_covariates[0].future.truncate(2)).contains("expected 3"));
        assert!(
            with(|r| r.targets[0][1] = f64::INFINITY)
                .contains("target is not finite or too large at position 1")
        );
    }
}
