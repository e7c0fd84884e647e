//! What is kept of the rows of one group until all have been read.

use super::forecast::{Forecast, Losses};
use crate::calendar::Instant;
use kronos_models::metrics::Errors;
use std::collections::{BTreeMap, HashMap};

/// A sum and how many it is of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; `None` of nothing.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// A loss beside that of another forecast of the same points.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paired {
    /// The loss.
    pub loss: Mean,
    /// That of the other.
    pub other: Mean,
}

impl Paired {
    fn add(&mut self, loss: f64, other: f64) {
        self.loss.add(loss);
        self.other.add(other);
    }
}

/// Differences of a loss and the benchmark's, by cutoff.
pub type Differences = BTreeMap<Instant, Mean>;

/// A move foretold and the move that came.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// Number of the series within the group.
    pub series: usize,
    /// Foretold, from the last value before the cutoff.
    pub foretold: f64,
    /// What came.
    pub came: f64,
    /// The last value before the cutoff, in the unit of the call.
    pub last: f64,
}

/// Sums and values of one group.
#[derive(Debug, Default)]
pub struct Group {
    /// Point errors.
    pub errors: Errors,
    /// Absolute error, beside that of the last value.
    pub absolute: Paired,
    /// The same, beside that of the benchmark.
    pub against: Paired,
    /// Mean pinball loss, where both have quantiles of as many levels.
    pub pinball: Paired,
    /// CRPS.
    pub crps: Paired,
    /// Interval score.
    pub interval: Paired,
    /// Mean pinball loss of all rows.
    pub quantile_loss: Mean,
    /// Sum of |actual| of the rows with quantiles.
    pub magnitude: f64,
    /// Levels of the quantiles of the rows, while all have the same.
    pub levels: Option<Vec<f64>>,
    /// Whether rows have quantiles of different levels.
    pub mixed_levels: bool,
    /// CRPS of all rows.
    pub all_crps: Mean,
    /// Rows inside their interval.
    pub inside: u64,
    /// Width of the interval.
    pub width: Mean,
    /// Interval score of all rows.
    pub winkler: Mean,
    /// Level of the intervals, while all have the same.
    pub level: Option<f64>,
    /// Pairs of signs: (foretold up, came up).
    pub signs: Vec<(bool, bool)>,
    /// Differences of absolute errors.
    pub by_cutoff: Differences,
    /// Differences of pinball losses.
    pub pinball_by_cutoff: Differences,
    /// Latest time forecast from a cutoff.
    pub reach: BTreeMap<Instant, Instant>,
    /// Moves by cutoff and step.
    pub moves: BTreeMap<(Instant, i32), Vec<Move>>,
    /// Places in the distribution forecast, in the order read.
    pub places: Vec<f64>,
    /// Outcomes per gap between quantiles.
    pub bins: Vec<u64>,
    /// Share inside by time.
    pub inside_by_time: BTreeMap<Instant, Mean>,
    /// Rows that the model may know the outcome of.
    pub contaminated: u64,
    /// Rows without an outcome, or that cannot be measured in the unit of the call.
    pub unscored: u64,
    /// Series by name.
    pub series: HashMap<String, usize>,
    /// Rows with an outcome in cells that not all models have.
    pub dropped: u64,
}

impl Group {
    /// Adds a forecast, with what it lost and what the benchmark lost in the same cell.
    pub fn add(&mut self, forecast: &Forecast, losses: Option<&Losses>, benchmark: Option<&Losses>) {
        self.contaminated += u64::from(forecast.contaminated == Some(true));
        let Some(losses) = losses else {
            self.unscored += 1;
            return;
        };
        let count = self.series.len();
        let series = match self.series.get(&forecast.series) {
            Some(&series) => series,
            None => *self.series.entry(forecast.series.clone()).or_insert(count),
        };
        self.errors.add(losses.actual, losses.forecast, losses.scale);
        let reach = self.reach.entry(forecast.cutoff).or_insert(forecast.ts);
        *reach = (*reach).max(forecast.ts);
        if let Some(last) = losses.last {
            self.compare(forecast, losses, last, series);
        }
        self.quantiles(forecast, losses);
        self.intervals(forecast, losses);
        if let Some(crps) = losses.crps {
            self.all_crps.add(crps);
        }
        self.places.extend(forecast.pit);
        if let Some(benchmark) = benchmark {
            self.measure(forecast.cutoff, losses, benchmark);
        }
    }

    fn measure(&mut self, cutoff: Instant, losses: &Losses, benchmark: &Losses) {
        let [own, other] = [losses, benchmark].map(|losses| (losses.actual - losses.forecast).abs());
        self.against.add(own, other);
        self.by_cutoff.entry(cutoff).or_default().add(own - other);
        if let (Some((own, levels)), Some((other, others))) = (losses.pinball, benchmark.pinball)
            && levels == others
        {
            self.pinball.add(own, other);
            self.pinball_by_cutoff.entry(cutoff).or_default().add(own - other);
        }
        if let (Some(own), Some(other)) = (losses.crps, benchmark.crps) {
            self.crps.add(own, other);
        }
        if let (Some((.., own)), Some((.., other))) = (losses.interval, benchmark.interval) {
            self.interval.add(own, other);
        }
    }

    /// The last value stays: the naive forecast needs no row of its own.
    fn compare(&mut self, forecast: &Forecast, losses: &Losses, last: f64, series: usize) {
        let (own, naive) = ((losses.actual - losses.forecast).abs(), (losses.actual - last).abs());
        self.absolute.add(own, naive);
        let (foretold, came) = (losses.forecast - last, losses.actual - last);
        if foretold != 0.0 && came != 0.0 {
            self.signs.push((foretold > 0.0, came > 0.0));
        }
        let place = (forecast.cutoff, forecast.step);
        self.moves.entry(place).or_default().push(Move { series, foretold, came, last });
    }

    fn quantiles(&mut self, forecast: &Forecast, losses: &Losses) {
        let (Some((loss, _)), Some((quantiles, levels))) = (losses.pinball, &forecast.quantiles) else {
            return;
        };
        match &self.levels {
            None => self.levels = Some(levels.clone()),
            Some(others) => self.mixed_levels |= others != levels,
        }
        self.quantile_loss.add(loss);
        self.magnitude += losses.actual.abs();
        let Some(actual) = forecast.actual else { return };
        self.bins.resize(self.bins.len().max(levels.len() + 1), 0);
        let below = quantiles.iter().filter(|&&quantile| quantile < actual).count();
        self.bins[below] += 1;
    }

    fn intervals(&mut self, forecast: &Forecast, losses: &Losses) {
        let (Some((inside, width, score)), Some((.., level))) = (losses.interval, forecast.interval) else {
            return;
        };
        self.level = match (self.width.count(), self.level) {
            (0, _) => Some(level),
            (_, same) => same.filter(|&same| same == level),
        };
        self.inside += u64::from(inside);
        self.width.add(width);
        self.winkler.add(score);
        self.inside_by_time.entry(forecast.ts).or_default().add(f64::from(u8::from(inside)));
    }

    /// How many successive cutoffs, itself included, share shocks with a forecast: those that lie before the last time it
    /// is of.
    pub fn overlap(&self) -> usize {
        let cutoffs: Vec<Instant> = self.reach.keys().copied().collect();
        let overlapping = |(place, (_, reach)): (usize, (&Instant, &Instant))| {
            cutoffs[place + 1..].partition_point(|cutoff| cutoff <= reach)
        };
        self.reach.iter().enumerate().map(overlapping).max().unwrap_or(0) + 1
    }
}
