//! How good forecasts were: losses of single forecasts, and what a set of them says.
//!
//! Losses (absolute error, pinball, interval score, CRPS) are functions of one forecast and its outcome, so that a
//! reader can stream through a ledger of any size and keep sums. Statistics that need all values at once (tests, rank
//! correlations, calibration) take slices. A quantity that the values do not determine (no observation, no variance, no
//! scale) is `None`, never 0 or NaN: a score of zero would be read as perfection.
//!
//! # Source
//! Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007), unless a function
//! names another.

mod anomaly;
mod compare;
mod direction;
mod interval;
mod paths;
mod pit;
mod point;
mod quantile;

pub use anomaly::{Surprise, surprise};
pub use compare::{diebold_mariano, skill, spearman};
pub use direction::{pesaran_timmermann, wilson};
pub use interval::interval_score;
pub use paths::{crps_lognormal, crps_normal, crps_paths};
pub use pit::{chi_squared_bins, kolmogorov_smirnov, lag_one_autocorrelation, randomised_rank};
pub use point::{Errors, seasonal_scale};
pub use quantile::{CRPS_LEVELS, crps_quantiles, mean_pinball, pinball};

/// A test statistic and how likely one as extreme is under the null hypothesis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The statistic.
    pub statistic: f64,
    /// Its p-value.
    pub p_value: f64,
}

/// The arithmetic mean; `None` of nothing.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
