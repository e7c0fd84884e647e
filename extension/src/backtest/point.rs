//! One row of a backtest, and how the outcomes of models become rows.

use crate::calendar::Instant;
use kronos_models::baselines::Outlook;
use kronos_models::forecast::summarise;
use kronos_models::metrics::{crps_paths, crps_quantiles, randomised_rank};
use kronos_models::quantile::QuantileLevels;
use kronos_models::random::Stream;
use kronos_models::status::Status;
use kronos_time::Origin;
use std::rc::Rc;

/// A forecast made at a past cutoff beside what came, or the reason there is none.
#[derive(Debug, Clone, Default)]
pub struct Point {
    /// Key of the series.
    pub series: Option<Rc<str>>,
    /// The target; none in a row with a status.
    pub target: Option<Rc<str>>,
    /// `name@digest`, or the name of a baseline.
    pub model_version: Rc<str>,
    /// The window.
    pub origin: Option<Origin>,
    /// End of the last row used.
    pub cutoff: Option<Instant>,
    /// Start of the row forecast, or of the first row at fault.
    pub ts: Option<Instant>,
    /// 1 for the first row after the cutoff.
    pub step: Option<i32>,
    /// What came.
    pub actual: Option<f64>,
    /// Point forecast.
    pub forecast: Option<f64>,
    /// Ends of the interval.
    pub interval: Option<(f64, f64)>,
    /// Quantiles in the order of the levels asked for.
    pub quantiles: Vec<f64>,
    /// Whether the model may have been trained on what is scored; `None`: nobody knows.
    pub contaminated: Option<bool>,
    /// Why there is no forecast.
    pub status: Option<Status>,
    /// The last value before the cutoff.
    pub last_value: Option<f64>,
    /// Mean absolute difference of values a season apart, in the context.
    pub scale: Option<f64>,
    /// Continuous ranked probability score.
    pub crps: Option<f64>,
    /// Place of the outcome in the distribution forecast.
    pub pit: Option<f64>,
    /// Probability of a value above the last.
    pub prob_up: Option<f64>,
}

/// What is known of one window before the model has answered.
#[derive(Debug, Default)]
pub struct Window {
    /// None for a series without windows.
    pub origin: Option<Origin>,
    /// What came, by target and step.
    pub actuals: Vec<Vec<f64>>,
    /// Last value by target.
    pub last: Vec<Option<f64>>,
    /// Scale by target.
    pub scale: Vec<Option<f64>>,
    /// The rows of the baselines.
    pub beside: Vec<Point>,
}

impl Window {
    /// A row of one target and step, without a forecast yet.
    pub fn point(&self, base: &Point, target: usize, name: &Rc<str>, step: usize, ts: Instant) -> Point {
        Point {
            target: Some(name.clone()),
            origin: self.origin,
            ts: Some(ts),
            step: i32::try_from(step + 1).ok(),
            actual: self.actuals.get(target).and_then(|steps| finite(*steps.get(step)?)),
            last_value: self.last.get(target).copied().flatten(),
            scale: self.scale.get(target).copied().flatten(),
            ..base.clone()
        }
    }
}

/// Values that are there.
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// How the levels of a quantile forecast are laid out: lower, point, upper, those asked for, the model's own.
#[derive(Debug, Clone)]
pub struct Layout {
    /// How many are asked for.
    pub asked: usize,
    /// The model's own levels.
    pub own: Vec<f64>,
}

impl Layout {
    /// Fills in what quantiles say, in their layout.
    pub fn fill(&self, point: &mut Point, quantiles: &[f64]) {
        let [lower, middle, upper, rest @ ..] = quantiles else { return };
        let (asked, own) = rest.split_at(self.asked.min(rest.len()));
        point.forecast = Some(*middle);
        point.interval = Some((*lower, *upper));
        point.quantiles = asked.to_vec();
        point.crps = point.actual.and_then(|actual| crps_quantiles(actual, own, &self.own));
    }
}

/// Adds what only a whole distribution says.
pub fn fill_outlook(point: &mut Point, outlook: Outlook) {
    if let Some(actual) = point.actual {
        point.crps = outlook.crps(actual);
        point.pit = outlook.cdf(actual);
    }
}

/// What sample paths of one window say, step by step, in the numbers that `kronos.forecast()` gives.
pub struct Drawn<'a> {
    /// The paths.
    pub paths: &'a kronos_models::bars::BarPaths,
    /// Close of the last bar used.
    pub last_close: f64,
    /// Width of the interval.
    pub level: f64,
    /// Levels asked for.
    pub levels: &'a QuantileLevels,
    /// Randomness of the rank among paths.
    pub stream: Stream,
}

impl Drawn<'_> {
    /// Fills in the rows of the scored steps; `points` are those of the steps from `first` on.
    pub fn fill(&self, points: &mut [Point], first: usize) {
        let mut levels = vec![0.5];
        levels.extend(self.levels.as_slice().iter().filter(|&&level| level != 0.5));
        levels.sort_by(f64::total_cmp);
        let middle = levels.iter().position(|&level| level == 0.5).unwrap_or(0);
        let asked: Vec<usize> = self
            .levels
            .as_slice()
            .iter()
            .filter_map(|wanted| levels.iter().position(|level| level == wanted))
            .collect();
        let Ok(levels) = QuantileLevels::new(levels) else { return };
        let steps = summarise(self.paths, self.last_close, self.level, &levels);
        for (step, (point, summary)) in points.iter_mut().zip(steps.into_iter().skip(first)).enumerate() {
            // With one path its close is all there is.
            point.forecast = Some(summary.mean[3]);
            let Some(spread) = summary.spread else { continue };
            point.forecast = Some(spread.quantiles[middle]);
            point.interval = Some((spread.lower, spread.upper));
            point.quantiles = asked.iter().map(|&at| spread.quantiles[at]).collect();
            point.prob_up = Some(spread.prob_up);
            if let Some(actual) = point.actual {
                let step = first + step;
                let closes: Vec<f64> =
                    (0..self.paths.samples()).map(|path| self.paths.bar(path, step)[3]).collect();
                let uniform = self.stream.uniform(u32::MAX, step as u32, 0);
                point.crps = crps_paths(actual, &closes);
                point.pit = randomised_rank(actual, &closes, uniform);
            }
        }
    }
}
