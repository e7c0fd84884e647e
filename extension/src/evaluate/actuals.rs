//! What came, for rows that do not say: read from the relation of the actuals, one series at a time.

use super::forecast::Forecast;
use super::options::EvaluateOptions;
use super::rows::{Columns, distinct};
use crate::calendar;
use crate::calendar::Instant;
use crate::call::now;
use crate::error::{Error, Result};
use crate::guc;
use crate::relation::{
    Columns as RelationColumns, History, Named, Relation, Rows, Scan, ScanLimits, Wanted, resolve,
};
use chrono_tz::Tz;
use kronos_models::baselines::{Outlook, hist_vol};
use kronos_time::Keep;
use pgrx::pg_sys::Oid;

/// A relation with what came.
pub struct Actuals {
    relation: Relation,
    columns: RelationColumns,
    /// The zone that its local times are read in.
    zone: Tz,
    /// Targets of the rows, in the order of the columns; all rows are of the one where the rows do not say.
    targets: Vec<String>,
    /// Returns that the benchmark takes its volatility from, where it is computed.
    pub benchmark: Option<usize>,
    current: Option<(String, Option<History>)>,
}

impl Actuals {
    /// Finds its columns: those that the forecasts are of.
    ///
    /// # Errors
    /// 42703 for a target that is not there, and as for the forecast functions.
    pub fn open(
        oid: Oid,
        forecasts: &Relation,
        columns: &Columns,
        options: &EvaluateOptions,
    ) -> Result<Self> {
        let relation = Relation::open(Some(oid))?;
        let mut targets = match columns.has("target") {
            true => distinct(forecasts, columns, options, "target")?,
            false => options.target.iter().cloned().collect(),
        };
        if targets.is_empty() {
            targets.push(options.target.clone().unwrap_or_else(|| "close".to_owned()));
        }
        let named: Vec<Named<'_>> = targets.iter().map(|name| Named::target(name)).collect();
        let wanted = Wanted {
            series: options.series_col.as_deref(),
            time: options.time_col.as_deref(),
            known_at: options.known_at_col.as_deref(),
        };
        let columns = resolve(&relation, &wanted, &named)?;
        let calendar = options.calendar.clone().unwrap_or_else(guc::default_calendar);
        let zone = calendar::load(&calendar)?.zone();
        Ok(Self { relation, columns, zone, targets, benchmark: None, current: None })
    }

    /// Adds to a forecast what came, and the last value before its cutoff.
    ///
    /// # Errors
    /// What the server raises.
    pub fn complete(&mut self, forecast: &mut Forecast) -> Result<()> {
        if self.current.as_ref().is_none_or(|(series, _)| *series != forecast.series) {
            let history = history(&self.relation, &self.columns, &forecast.series, now(), self.zone)?;
            self.current = Some((forecast.series.clone(), history));
        }
        let column = self.targets.iter().position(|target| *target == forecast.target).or(
            match self.targets.as_slice() {
                [_] if forecast.target.is_empty() => Some(0),
                _ => None,
            },
        );
        let (Some((_, Some(history))), Some(column)) = (&self.current, column) else {
            forecast.actual = None;
            return Ok(());
        };
        let came = history.newest(forecast.ts.saturating_add(1), column);
        let came = came.filter(|(start, value)| *start == forecast.ts && value.is_finite());
        forecast.actual = came.map(|(_, value)| value);
        forecast.last_value = history.newest(forecast.cutoff, column).map(|(_, value)| value);
        forecast.benchmark = self
            .benchmark
            .and_then(|returns| believed(history, forecast.cutoff, forecast.step, column, returns));
        Ok(())
    }
}

/// The rows of a series in every version; `None` where there are none.
///
/// # Errors
/// What the server raises.
pub fn history(
    relation: &Relation,
    columns: &RelationColumns,
    series: &str,
    as_of: Instant,
    zone: Tz,
) -> Result<Option<History>> {
    let only = [series.to_owned()];
    let only_series = columns.series.is_some().then_some(&only[..]);
    let limits = ScanLimits { as_of, only_series, zone, rows: Rows::Versions(Keep::All) };
    let mut found = None;
    Scan::of_relation(relation, columns, limits)?.run(|history| {
        found = Some(history);
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

/// What the volatility of the last returns says, from what was known at the cutoff; `None` where it is too little.
fn believed(history: &History, cutoff: Instant, step: i32, column: usize, returns: usize) -> Option<Outlook> {
    let known = history.known_at(cutoff, returns + 1, &[column]);
    let values: Vec<f64> = (0..known.len()).map(|row| known.value(row, column)).collect();
    hist_vol(&values, returns, usize::try_from(step).ok()?).ok()
}
