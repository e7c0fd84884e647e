//! One forecast, and what it lost.

use super::options::{EvaluateOptions, Unit};
use crate::calendar::Instant;
use kronos_models::baselines::Outlook;
use kronos_models::metrics::{crps_quantiles, interval_score, mean_pinball};

/// One forecast that is scored.
#[derive(Debug, Default)]
pub struct Forecast {
    /// Values of the grouping columns.
    pub key: Vec<Option<String>>,
    /// Series.
    pub series: String,
    /// Target.
    pub target: String,
    /// Model.
    pub model_version: String,
    /// What else tells two forecasts of one point by one model apart.
    pub variant: (String, String),
    /// When it was written, where the rows say so.
    pub issued_at: Option<Instant>,
    /// Cutoff.
    pub cutoff: Instant,
    /// Time.
    pub ts: Instant,
    /// Step.
    pub step: i32,
    /// What came.
    pub actual: Option<f64>,
    /// Point forecast.
    pub forecast: f64,
    /// Interval with its level.
    pub interval: Option<(f64, f64, f64)>,
    /// Quantiles and their levels.
    pub quantiles: Option<(Vec<f64>, Vec<f64>)>,
    /// Whether the model may know the outcome.
    pub contaminated: Option<bool>,
    /// Last value before the cutoff.
    pub last_value: Option<f64>,
    /// Unit of the scaled error.
    pub scale: Option<f64>,
    /// CRPS from the whole distribution.
    pub crps: Option<f64>,
    /// Place in the whole distribution.
    pub pit: Option<f64>,
    /// What the benchmark that is computed believes.
    pub benchmark: Option<Outlook>,
}

/// What one forecast lost, in the unit of the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Losses {
    /// What came.
    pub actual: f64,
    /// What was said.
    pub forecast: f64,
    /// The last value before the cutoff.
    pub last: Option<f64>,
    /// Unit of the scaled error.
    pub scale: Option<f64>,
    /// Whether the outcome lay inside, width of the interval, interval score.
    pub interval: Option<(bool, f64, f64)>,
    /// Mean pinball loss, and over how many levels.
    pub pinball: Option<(f64, usize)>,
    /// CRPS.
    pub crps: Option<f64>,
}

impl Forecast {
    /// Whether another forecast is of the same cell: series, target, cutoff and time.
    pub fn is_of_one_cell(&self, other: &Self) -> bool {
        (&self.series, &self.target, self.cutoff, self.ts)
            == (&other.series, &other.target, other.cutoff, other.ts)
    }

    /// Whether another forecast is of the same kind, and made by the same calibration.
    pub fn is_of_one_variant(&self, other: &Self) -> bool {
        self.variant == other.variant
    }

    /// The point forecast that the last value stays, of the same cell.
    pub fn of_last_value(&self) -> Option<Self> {
        let last = self.last_value?;
        Some(Self { forecast: last, actual: self.actual, last_value: self.last_value, ..Self::default() })
    }

    /// What the benchmark that is computed says of the same cell, at the same levels.
    pub fn of_benchmark(&self) -> Option<Self> {
        let outlook = self.benchmark?;
        let median = outlook.quantiles(&[0.5]).ok()?;
        let interval = self.interval.and_then(|(_, _, level)| {
            let bounds = outlook.quantiles(&[(1.0 - level) / 2.0, (1.0 + level) / 2.0]).ok()?;
            Some((bounds[0], bounds[1], level))
        });
        let quantiles = self.quantiles.as_ref();
        let quantiles =
            quantiles.and_then(|(_, levels)| Some((outlook.quantiles(levels).ok()?, levels.clone())));
        Some(Self {
            forecast: median[0],
            interval,
            quantiles,
            crps: self.actual.and_then(|actual| outlook.crps(actual)),
            actual: self.actual,
            last_value: self.last_value,
            ..Self::default()
        })
    }

    /// What it lost; `None` while nothing has come, and in returns where a value is not positive.
    pub fn losses(&self, options: &EvaluateOptions) -> Option<Losses> {
        let base = match options.unit {
            Unit::Value => None,
            Unit::Return => Some(self.last_value.filter(|&last| last > 0.0)?),
        };
        let measure = |value: f64| match base {
            None => Some(value),
            Some(base) => (value > 0.0).then(|| (value / base).ln()),
        };
        let (actual, forecast) = (measure(self.actual?)?, measure(self.forecast)?);
        let interval = self.interval.and_then(|(lower, upper, level)| {
            let (lower, upper) = (measure(lower)?, measure(upper)?);
            let score = interval_score(actual, lower, upper, level);
            let inside = lower <= actual && actual <= upper;
            score.is_finite().then_some((inside, upper - lower, score))
        });
        let quantiles = self.quantiles.as_ref().and_then(|(quantiles, levels)| {
            Some((quantiles.iter().map(|&value| measure(value)).collect::<Option<Vec<f64>>>()?, levels))
        });
        let pinball = quantiles
            .as_ref()
            .and_then(|(quantiles, levels)| Some((mean_pinball(actual, quantiles, levels)?, levels.len())));
        // What a backtest took from the whole distribution is in the unit of the target.
        let crps = match options.unit {
            Unit::Value => self.crps,
            Unit::Return => None,
        };
        let crps = crps.or_else(|| {
            let (quantiles, levels) = quantiles.as_ref()?;
            crps_quantiles(actual, quantiles, levels)
        });
        let last = self.last_value.and_then(measure);
        let scale = self.scale.filter(|_| base.is_none());
        Some(Losses { actual, forecast, last, scale, interval, pinball, crps })
    }
}
