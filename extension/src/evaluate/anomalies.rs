//! Outcomes beside the intervals that were forecast before them.
//!
//! Live forecasts of the ledger count as they were served, if they were written before the row that they are of had ended and
//! before the moment that is asked about; of an outcome counts what was known at that moment, once its row has ended.

use super::actuals::history;
use super::forecast::Forecast;
use super::options::{EvaluateOptions, Served};
use super::rows::{Columns, read};
use crate::calendar::{Calendars, Grid, Instant, infer_width};
use crate::call::{Input, SPACINGS, now};
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::Given;
use crate::relation::{Columns as RelationColumns, History, Named, Relation, Wanted, resolve};
use kronos_models::metrics::surprise;
use pgrx::check_for_interrupts;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

const KEYS: &[&str] = &["calendar", "known_at_col"];

/// An outcome and what was forecast for it; without the latter, why.
#[derive(Debug, Default)]
pub struct Anomaly {
    /// Series.
    pub series: String,
    /// Target.
    pub target: Option<String>,
    /// Start of the row.
    pub ts: Option<Instant>,
    /// What came.
    pub actual: Option<f64>,
    /// Point forecast.
    pub forecast: Option<f64>,
    /// Interval with its level.
    pub interval: Option<(f64, f64, f64)>,
    /// Whether what came lies outside.
    pub is_anomaly: Option<bool>,
    /// Distance in standard deviations.
    pub score: Option<f64>,
    /// Probability of an outcome nearer to the forecast.
    pub probability: Option<f64>,
    /// Model.
    pub model_version: String,
    /// Calibration that made the interval.
    pub calibration: Option<String>,
    /// End of the last row used.
    pub cutoff: Option<Instant>,
    /// Rows from the cutoff.
    pub step: Option<i32>,
    /// When the forecast was written.
    pub issued_at: Option<Instant>,
    /// Whether the model may know the outcome.
    pub contaminated: Option<bool>,
    /// Why there is no forecast.
    pub status: Option<&'static str>,
}

/// Fills in how far the outcome lies from the forecast.
pub fn measured(anomaly: Anomaly) -> Anomaly {
    let found = match (anomaly.actual, anomaly.forecast, anomaly.interval) {
        (Some(actual), Some(forecast), Some((lower, upper, level))) => {
            surprise(actual, forecast, lower, upper, level)
        }
        _ => None,
    };
    Anomaly {
        is_anomaly: found.map(|s| s.outside),
        score: found.and_then(|s| s.score),
        probability: found.map(|s| s.probability),
        ..anomaly
    }
}

/// Which forecasts of the ledger are asked for.
pub struct Outcomes<'a> {
    /// The relation with what came.
    pub input: Input<'a>,
    /// Only this target.
    pub target: Option<String>,
    /// Rows from the cutoff.
    pub step: i64,
    /// Only intervals of this level.
    pub level: Option<f64>,
    /// Only rows that start at or after this instant.
    pub since: Option<Instant>,
    /// Only what was known then.
    pub as_of: Option<Instant>,
    /// Option object.
    pub options: Option<JsonB>,
}

impl Outcomes<'_> {
    /// Hands over every outcome that the ledger has a forecast of, in the order of series, target, calibration, cutoff and model.
    ///
    /// # Errors
    /// 42P01 without a ledger; 22023 for an option that does not serve; what `each` returns; what the server raises.
    pub fn run(self, mut each: impl FnMut(Anomaly) -> Result<()>) -> Result<()> {
        let ledger = Relation::named("kronos.forecasts")?;
        let given = Given::options(self.options, KEYS)?;
        let text = |key| Ok::<_, Error>(given.text(key)?.map(str::to_owned));
        let as_of = self.as_of.unwrap_or(Instant::MAX).min(now());
        let asked = EvaluateOptions {
            since: self.since,
            target: self.target,
            contaminated: true,
            calendar: text("calendar")?,
            known_at_col: text("known_at_col")?,
            served: Some(Served {
                step: self.step,
                level: self.level,
                series: self.input.only_series,
                by: as_of,
            }),
            ..EvaluateOptions::default()
        };
        let relation = &self.input.relation;
        let columns = Columns::of(&ledger, &[], &asked, Some(relation.oid()))?;
        let calendars = Calendars::new(asked.calendar.as_deref())?;
        let wanted = Wanted {
            series: self.input.series_col,
            time: self.input.time_col,
            known_at: asked.known_at_col.as_deref(),
        };
        let mut of_target: BTreeMap<String, RelationColumns> = BTreeMap::new();
        let mut current: Option<Series> = None;
        let mut count = 0u64;
        read(&ledger, &columns, &asked, |forecast| {
            count += 1;
            if count.is_multiple_of(4096) {
                check_for_interrupts!();
            }
            if forecast.interval.is_none() {
                return Ok(());
            }
            let series = match current.take().filter(|series| series.is_of(&forecast)) {
                Some(series) => series,
                None => {
                    let columns = match of_target.entry(forecast.target.clone()) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(new) => {
                            new.insert(resolve(relation, &wanted, &[Named::target(&forecast.target)])?)
                        }
                    };
                    let found = history(relation, columns, &forecast.series, as_of, calendars.zone())?;
                    Series::new(&forecast, found, &calendars, as_of)?
                }
            };
            let actual = series.outcome(&forecast, as_of);
            current = Some(series);
            actual.map_or(Ok(()), |actual| each(measured(anomaly(forecast, actual))))
        })
    }
}

/// The rows of a series as they were known, with their ends.
struct Series {
    name: String,
    target: String,
    /// Start, end and value.
    rows: Vec<(Instant, Instant, f64)>,
}

impl Series {
    fn new(
        forecast: &Forecast,
        history: Option<History>,
        calendars: &Calendars,
        as_of: Instant,
    ) -> Result<Self> {
        let (name, target) = (forecast.series.clone(), forecast.target.clone());
        let mut series = Self { name, target, rows: Vec::new() };
        let Some(history) = history else { return Ok(series) };
        let known = history.known_at(as_of, usize::MAX, &[0]);
        let starts: Vec<Instant> = (0..known.len()).map(|row| known.start(row)).collect();
        let calendar = calendars.of(known.key(), None, &starts)?;
        let newest = &starts[starts.len().saturating_sub(SPACINGS + 1)..];
        let Some(width) = infer_width(&calendar, newest) else { return Ok(series) };
        let grid = Grid::fit(&calendar, width, &newest[newest.len().saturating_sub(SPACINGS)..]);
        let row = |(row, &start): (usize, &Instant)| (start, grid.end(start), known.value(row, 0));
        series.rows = starts.iter().enumerate().map(row).collect();
        Ok(series)
    }

    fn is_of(&self, forecast: &Forecast) -> bool {
        self.name == forecast.series && self.target == forecast.target
    }

    /// What came of a forecast that was written before: once the row has ended.
    fn outcome(&self, forecast: &Forecast, as_of: Instant) -> Option<f64> {
        let row = self.rows.binary_search_by_key(&forecast.ts, |(start, ..)| *start).ok()?;
        let (_, end, value) = self.rows[row];
        let in_time = forecast.issued_at.is_some_and(|at| at < end);
        (end <= as_of && in_time && value.is_finite()).then_some(value)
    }
}

fn anomaly(forecast: Forecast, actual: f64) -> Anomaly {
    Anomaly {
        series: forecast.series,
        target: Some(forecast.target),
        ts: Some(forecast.ts),
        actual: Some(actual),
        forecast: Some(forecast.forecast),
        interval: forecast.interval,
        model_version: forecast.model_version,
        calibration: Some(forecast.variant.0).filter(|name| !name.is_empty()),
        cutoff: Some(forecast.cutoff),
        step: Some(forecast.step),
        issued_at: forecast.issued_at,
        contaminated: forecast.contaminated,
        ..Anomaly::default()
    }
}
