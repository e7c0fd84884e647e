//! Forecasts without weights: what any model has to beat.
//!
//! Each is a random walk of its own kind with normal innovations, so that its interval grows as theory says and every
//! level has a quantile in closed form. Several targets are forecast one by one; covariates are ignored, for these models
//! know nothing that could use them.
//!
//! # Source
//! Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, § 5.2 (the methods) and § 5.5 (the
//! standard deviations of their forecasts).

use crate::error::{ModelError, Result};
use crate::metrics::{crps_lognormal, crps_normal};
use crate::series::{QuantileForecast, SeriesRequest};
use statrs::distribution::{ContinuousCDF, Normal};

/// A model without weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// The last value stays.
    Naive,
    /// The value of the same place in the last season returns.
    SeasonalNaive,
    /// The line from the first to the last value goes on.
    Drift,
    /// The last value stays; returns are as volatile as those of the last [`RETURNS`] steps.
    HistVol,
}

/// Returns that [`Baseline::HistVol`] takes the volatility from: a month of trading days.
pub const RETURNS: usize = 20;

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Naive, Self::SeasonalNaive, Self::Drift, Self::HistVol];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SeasonalNaive => "seasonal_naive",
            Self::Drift => "drift",
            Self::HistVol => "hist_vol",
        }
    }

    /// The baseline of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|baseline| baseline.name() == name)
    }

    /// Forecasts every target of a request at ascending `levels`.
    ///
    /// # Units
    /// `season`: steps after which the pattern returns; for [`Baseline::SeasonalNaive`] only, at least 1.
    /// # Errors
    /// What [`SeriesRequest::validate`] says; [`ModelError::ContextTooShort`] for a target with fewer values than the
    /// spread of its steps can be told from; [`ModelError::InvalidParameter`] for a season of 0, for a level outside
    /// (0, 1), and for a price that is not positive under [`Baseline::HistVol`], which needs logarithms.
    pub fn forecast(
        self,
        request: &SeriesRequest,
        season: usize,
        levels: &[f64],
    ) -> Result<QuantileForecast> {
        let deviates = normal_deviates(levels)?;
        let read = |steps: Vec<Outlook>| {
            let step = |deviate: f64| steps.iter().map(|step| step.quantile(deviate)).collect();
            deviates.iter().map(|&deviate| step(deviate)).collect()
        };
        let values = self.outlooks(request, season)?.into_iter().map(read).collect();
        let forecast = QuantileForecast { levels: levels.to_vec(), values };
        forecast.check_finite().map(|()| forecast)
    }

    /// The whole distribution of every target and step: `[target][step]`.
    ///
    /// # Errors
    /// As for [`Baseline::forecast`], levels aside.
    pub fn outlooks(self, request: &SeriesRequest, season: usize) -> Result<Vec<Vec<Outlook>>> {
        request.validate()?;
        let target = |target: &Vec<f64>| {
            let walk = self.walk(target, season)?;
            Ok((1..=request.horizon).map(|step| walk.outlook(step)).collect())
        };
        request.targets.iter().map(target).collect()
    }

    fn walk(self, target: &[f64], season: usize) -> Result<Walk> {
        match self {
            Self::Naive => {
                let values = present(target, 2)?;
                let sigma = spread(values.windows(2).map(|pair| pair[1] - pair[0]), 0.0);
                Ok(Walk::Level {
                    last: values[values.len() - 1],
                    slope: 0.0,
                    sigma,
                    drift_from: f64::INFINITY,
                })
            }
            Self::Drift => {
                let values = present(target, 3)?;
                let steps = (values.len() - 1) as f64;
                let (first, last) = (values[0], values[values.len() - 1]);
                let slope = (last - first) / steps;
                let sigma = spread(values.windows(2).map(|pair| pair[1] - pair[0] - slope), 1.0);
                Ok(Walk::Level { last, slope, sigma, drift_from: steps })
            }
            Self::SeasonalNaive => seasonal(target, season),
            Self::HistVol => volatile(target, RETURNS),
        }
    }
}

/// What [`Baseline::HistVol`] believes of the step `step` ahead, with the volatility of the last `returns` steps.
///
/// # Errors
/// As for [`Baseline::forecast`].
pub fn hist_vol(target: &[f64], returns: usize, step: usize) -> Result<Outlook> {
    volatile(target, returns).map(|walk| walk.outlook(step))
}

fn volatile(target: &[f64], returns: usize) -> Result<Walk> {
    let values = present(target, 2)?;
    if let Some(value) = values.iter().find(|value| **value <= 0.0) {
        let expected = "positive under hist_vol".into();
        return Err(ModelError::InvalidParameter { name: "target", expected, got: value.to_string() });
    }
    let recent = &values[values.len().saturating_sub(returns + 1)..];
    let sigma = spread(recent.windows(2).map(|pair| (pair[1] / pair[0]).ln()), 0.0);
    Ok(Walk::Price { last: values[values.len() - 1], sigma })
}

/// What is known of a target's steps.
enum Walk {
    /// `last` + `slope` · h, with a variance of σ²·h·(1 + h / `drift_from`).
    Level { last: f64, slope: f64, sigma: f64, drift_from: f64 },
    /// The last season, oldest first, with a variance of σ² per season begun.
    Season { last: Vec<f64>, sigma: f64 },
    /// `last` times the exponential of a walk without drift.
    Price { last: f64, sigma: f64 },
}

impl Walk {
    fn outlook(&self, step: usize) -> Outlook {
        let h = step as f64;
        match self {
            Self::Level { last, slope, sigma, drift_from } => {
                Outlook::Normal { mean: last + slope * h, sd: sigma * (h * (1.0 + h / drift_from)).sqrt() }
            }
            Self::Season { last, sigma } => {
                let seasons = step.div_ceil(last.len()) as f64;
                Outlook::Normal { mean: last[(step - 1) % last.len()], sd: sigma * seasons.sqrt() }
            }
            Self::Price { last, sigma } => Outlook::LogNormal { median: *last, sigma: sigma * h.sqrt() },
        }
    }
}

/// What a baseline believes of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outlook {
    /// A normal distribution.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        sd: f64,
    },
    /// `median` times the exponential of a normal distribution about 0.
    LogNormal {
        /// Its median.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
}

impl Outlook {
    /// The quantiles at levels in (0, 1).
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for levels that do not ascend or lie outside.
    pub fn quantiles(self, levels: &[f64]) -> Result<Vec<f64>> {
        Ok(normal_deviates(levels)?.into_iter().map(|deviate| self.quantile(deviate)).collect())
    }

    /// The quantile at the level whose standard normal quantile is `deviate`.
    fn quantile(self, deviate: f64) -> f64 {
        match self {
            Self::Normal { mean, sd } => mean + sd * deviate,
            Self::LogNormal { median, sigma } => median * (sigma * deviate).exp(),
        }
    }

    /// The CRPS of an outcome; `None` where the distribution has no spread.
    pub fn crps(self, actual: f64) -> Option<f64> {
        match self {
            Self::Normal { mean, sd } => crps_normal(actual, mean, sd),
            Self::LogNormal { median, sigma } => crps_lognormal(actual, median.ln(), sigma),
        }
    }

    /// The probability of at most `actual`; `None` where the distribution has no spread.
    pub fn cdf(self, actual: f64) -> Option<f64> {
        let normal = Normal::standard();
        match self {
            Self::Normal { mean, sd } if sd > 0.0 => Some(normal.cdf((actual - mean) / sd)),
            Self::LogNormal { median, sigma } if sigma > 0.0 && actual > 0.0 => {
                Some(normal.cdf((actual / median).ln() / sigma))
            }
            Self::LogNormal { sigma, .. } if sigma > 0.0 => Some(0.0),
            Self::Normal { .. } | Self::LogNormal { .. } => None,
        }
    }
}

/// The values that are there, at least `needed` of them.
///
/// A step over missing values counts as one: the spread then errs on the wide side.
fn present(target: &[f64], needed: usize) -> Result<Vec<f64>> {
    let values: Vec<f64> = target.iter().copied().filter(|value| !value.is_nan()).collect();
    if values.len() < needed {
        Err(ModelError::ContextTooShort { needed, got: values.len() })
    } else {
        Ok(values)
    }
}

fn seasonal(target: &[f64], season: usize) -> Result<Walk> {
    if season == 0 {
        let expected = "at least 1".into();
        return Err(ModelError::InvalidParameter { name: "season", expected, got: "0".into() });
    }
    // The latest value of each place in the season; one that was never there cannot be forecast.
    let last: Option<Vec<f64>> = (0..season)
        .map(|place| {
            target
                .iter()
                .rev()
                .skip(season - 1 - place)
                .step_by(season)
                .copied()
                .find(|value| !value.is_nan())
        })
        .collect();
    let steps = || {
        target.iter().skip(season).zip(target).map(|(now, before)| now - before).filter(|step| !step.is_nan())
    };
    match last {
        Some(last) if steps().next().is_some() => Ok(Walk::Season { last, sigma: spread(steps(), 0.0) }),
        _ => Err(ModelError::ContextTooShort {
            needed: season + 1,
            got: target.iter().filter(|v| !v.is_nan()).count(),
        }),
    }
}

/// Root mean square of residuals, with `parameters` estimated from them.
fn spread(residuals: impl Iterator<Item = f64>, parameters: f64) -> f64 {
    let (sum, count) =
        residuals.fold((0.0, 0.0), |(sum, count), residual| (sum + residual * residual, count + 1.0));
    (sum / (count - parameters)).sqrt()
}

fn normal_deviates(levels: &[f64]) -> Result<Vec<f64>> {
    crate::quantile::QuantileLevels::new(levels.to_vec())?;
    let normal = Normal::standard();
    // The median is the point forecast and carries no error of the inverse.
    Ok(levels.iter().map(|&level| if level == 0.5 { 0.0 } else { normal.inverse_cdf(level) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 97.5 % point of the standard normal distribution, from any table.
    const TWO_SIGMA: f64 = 1.959_963_984_540_054;

    fn forecast(baseline: Baseline, target: &[f64], season: usize, horizon: usize) -> Vec<Vec<f64>> {
        let request = SeriesRequest::univariate(target.to_vec(), horizon);
        baseline.forecast(&request, season, &[0.025, 0.5, 0.975]).unwrap().values.remove(0)
    }

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9 * expected.abs().max(1.0), "{got} {expected}");
    }

    #[test]
    fn naive_by_hand() {
        // Steps 1, −1, 2: σ² = 2.
        let values = forecast(Baseline::Naive, &[1.0, 2.0, f64::NAN, 1.0, 3.0], 1, 4);
        assert_eq!(values[1], [3.0; 4]);
        close(values[2][0], 3.0 + TWO_SIGMA * 2f64.sqrt());
        close(values[0][3], 3.0 - TWO_SIGMA * 8f64.sqrt());
    }

    #[test]
    fn drift_by_hand() {
        // Slope 1, residuals 1, −1, 0 of 3 steps with one parameter: σ² = 1.
        let values = forecast(Baseline::Drift, &[0.0, 2.0, 2.0, 3.0], 1, 2);
        assert_eq!(values[1], [4.0, 5.0]);
        close(values[2][1], 5.0 + TWO_SIGMA * (2.0f64 * (1.0 + 2.0 / 3.0)).sqrt());
    }

    #[test]
    fn seasonal_naive_by_hand() {
        // Seasonal steps 10, 10, 10 (one is missing): σ = 10.
        let values =
            forecast(Baseline::SeasonalNaive, &[1.0, 2.0, 11.0, f64::NAN, 21.0, 22.0, 31.0, 32.0], 2, 3);
        assert_eq!(values[1], [31.0, 32.0, 31.0]);
        close(values[2][0], 31.0 + TWO_SIGMA * 10.0);
        close(values[2][2], 31.0 + TWO_SIGMA * 10.0 * 2f64.sqrt());
    }

    #[test]
    fn hist_vol_by_hand_and_only_of_the_last_returns() {
        let mut prices = vec![1.0, 1000.0];
        prices.extend((0..=RETURNS).map(|i| if i % 2 == 0 { 100.0 } else { 100.0 * 0.01f64.exp() }));
        let values = forecast(Baseline::HistVol, &prices, 1, 4);
        assert_eq!(values[1], [100.0; 4]);
        close(values[2][3], 100.0 * (TWO_SIGMA * 0.02).exp());
        assert!(values[0].iter().all(|&value| value > 0.0));
    }

    #[test]
    fn outcomes_have_a_place_and_a_score_in_the_distribution() {
        let target: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i % 5)).collect();
        for baseline in Baseline::ALL {
            let request = SeriesRequest::univariate(target.clone(), 3);
            let quantile = baseline.forecast(&request, 7, &[0.3]).unwrap().values[0][0][2];
            let outlook = baseline.outlooks(&request, 7).unwrap()[0][2];
            assert!((outlook.cdf(quantile).unwrap() - 0.3).abs() < 1e-9, "{baseline:?}");
            let near = outlook.crps(outlook.quantile(0.0)).unwrap();
            assert!(near > 0.0 && near < outlook.crps(quantile * 2.0).unwrap(), "{baseline:?}");
        }
        let certain = Outlook::Normal { mean: 1.0, sd: 0.0 };
        assert_eq!((certain.cdf(1.0), certain.crps(1.0)), (None, None));
        assert_eq!(Outlook::LogNormal { median: 1.0, sigma: 1.0 }.cdf(-1.0), Some(0.0));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let refused = |baseline: Baseline, target: &[f64], season| {
            let request = SeriesRequest::univariate(target.to_vec(), 1);
            baseline.forecast(&request, season, &[0.5]).unwrap_err().to_string()
        };
        assert!(refused(Baseline::Naive, &[1.0, f64::NAN], 1).contains("needs 2"));
        assert!(refused(Baseline::Drift, &[1.0, 2.0], 1).contains("needs 3"));
        assert!(refused(Baseline::SeasonalNaive, &[1.0, 2.0], 2).contains("needs 3"));
        assert!(refused(Baseline::SeasonalNaive, &[1.0, 2.0], 0).contains("season"));
        assert!(refused(Baseline::HistVol, &[1.0, 0.0, 2.0], 1).contains("positive"));
    }
}
