//! `kronos.kronos_predict()`, `kronos_predict_bars()` and `kronos_paths()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument lists are those of SQL

use crate::calibration::{Calibrated, Serving};
use crate::error::{Error, Result};
use crate::forecast::{Arguments, Call, Forecast, Outcome, level, quantile_levels};
use crate::json::JsonB;
use crate::options::Source;
use crate::relation::{Columns, Fault, Relation, Scan, ScanLimits, Wanted, resolve};
use crate::result_set::{ResultSet, RowValues};
use kronos_models::bars::Bar;
use kronos_models::forecast::summarise;
use kronos_models::quantile::QuantileLevels;
use kronos_models::status::Status;
use pgrx::AnyElement;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;

#[pg_extern(sql = false)]
fn kronos_predict(
    relation: Option<Oid>,
    horizon: Option<i32>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    only_series: Option<Vec<Option<String>>>,
    as_of: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    interval_level: Option<f64>,
    levels: Option<Vec<Option<f64>>>,
    model: Option<&str>,
    samples: Option<i32>,
    seed: Option<i64>,
    calibration: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (interval_level, levels) = (level(interval_level)?, quantile_levels(levels)?);
    let source = Source::Relation;
    let samples = ("samples", samples);
    let call = Call::new(Arguments { horizon, until, as_of, model, samples, seed, options, source })?;
    let mut serving = serving(calibration, interval_level, as_of, &call)?;
    let input = Input::new(&call, relation, series_col, time_col, only_series)?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    let asked = (interval_level, &levels);
    input.run(&call, |outcome| push_forecast(&mut rows, &call, outcome, asked, serving.as_mut()))?;
    Ok(())
}

#[pg_extern(sql = false)]
fn kronos_predict_bars(
    bars: Option<AnyElement>,
    horizon: Option<i32>,
    interval_level: Option<f64>,
    levels: Option<Vec<Option<f64>>>,
    model: Option<&str>,
    samples: Option<i32>,
    seed: Option<i64>,
    calibration: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (interval_level, levels) = (level(interval_level)?, quantile_levels(levels)?);
    let (until, as_of, source, samples) = (None, None, Source::Array, ("samples", samples));
    let call = Call::new(Arguments { horizon, until, as_of, model, samples, seed, options, source })?;
    let mut serving = serving(calibration, interval_level, as_of, &call)?;
    // SAFETY: the first argument of this very function, and its type.
    let scan = unsafe {
        let array_type = pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 0);
        Scan::of_array(bars.map(|bars| bars.datum()), array_type, call.as_of, call.keep())?
    };
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    let asked = (interval_level, &levels);
    call.run_single(&scan, |outcome| push_forecast(&mut rows, &call, outcome, asked, serving.as_mut()))?;
    Ok(())
}

#[pg_extern(sql = false)]
fn kronos_paths(
    relation: Option<Oid>,
    horizon: Option<i32>,
    paths: Option<i32>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    only_series: Option<Vec<Option<String>>>,
    as_of: Option<TimestampWithTimeZone>,
    model: Option<&str>,
    seed: Option<i64>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (until, source, samples) = (None, Source::Relation, ("paths", paths));
    let call = Call::new(Arguments { horizon, until, as_of, model, samples, seed, options, source })?;
    let input = Input::new(&call, relation, series_col, time_col, only_series)?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    let mut faults = Vec::new();
    input.run(&call, |outcome| match outcome {
        Outcome::Paths(forecast) => push_paths(&mut rows, &call, &forecast),
        Outcome::Fault(fault) => {
            faults.push(fault);
            Ok(())
        }
    })?;
    warn(&faults);
    Ok(())
}

/// The bars of a relation, and which of its series are asked for.
pub(super) struct Input {
    relation: Relation,
    columns: Columns,
    scan: Scan,
    only_series: Option<Vec<String>>,
}

impl Input {
    pub(super) fn new(
        call: &Call,
        relation: Option<Oid>,
        series_col: Option<&CStr>,
        time_col: Option<&CStr>,
        only_series: Option<Vec<Option<String>>>,
    ) -> Result<Self> {
        let relation = Relation::open(relation)?;
        let options = &call.options;
        let columns = resolve(
            &relation,
            &Wanted {
                series: series_col.map(utf8).transpose()?,
                time: time_col.map(utf8).transpose()?,
                names: &options.columns,
                known_at: options.known_at_col.as_deref(),
            },
        )?;
        let only_series: Option<Vec<String>> = only_series
            .map(|names| names.into_iter().collect::<Option<_>>())
            .map(|names| names.ok_or(Error::NullArgument { name: "a name in only_series" }))
            .transpose()?;
        if only_series.is_some() && columns.series.is_none() {
            return Err(Error::NoSeriesColumn { relation: relation.display() });
        }
        let scan = Scan::of_relation(
            &relation,
            &columns,
            ScanLimits {
                as_of: call.as_of,
                only_series: only_series.as_deref(),
                keep: call.keep(),
                zone: call.calendar.zone(),
            },
        )?;
        Ok(Self { relation, columns, scan, only_series })
    }

    pub(super) fn run(&self, call: &Call, emit: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        if self.columns.series.is_none() {
            return call.run_single(&self.scan, emit);
        }
        call.run(&self.relation, &self.scan, self.only_series.as_deref(), emit)
    }
}

pub(super) fn utf8(name: &CStr) -> Result<&str> {
    name.to_str().map_err(|_| Error::Internal { what: "a column name is not valid UTF-8".into() })
}

/// Columns of `kronos.bar_forecast`, in its order.
const FORECAST_COLUMNS: usize = 21;

/// Columns of `kronos.bar_path`, in its order.
const PATH_COLUMNS: usize = 12;

/// The calibration that a call asks for, checked before anything is read.
pub(super) fn serving(
    name: Option<&str>,
    level: f64,
    as_of: Option<TimestampWithTimeZone>,
    call: &Call,
) -> Result<Option<Serving>> {
    let Some(name) = name else { return Ok(None) };
    let serving = Serving::open(name, level, as_of.map(i64::from), call.model_version())?;
    serving.check_targets(["close"].into_iter())?;
    Ok(Some(serving))
}

fn push_forecast(
    rows: &mut ResultSet,
    call: &Call,
    outcome: Outcome,
    (level, levels): (f64, &QuantileLevels),
    mut serving: Option<&mut Serving>,
) -> Result<()> {
    let forecast = match outcome {
        Outcome::Paths(forecast) => forecast,
        Outcome::Fault(fault) => return push_fault(rows, call, &fault),
    };
    let states = match &mut serving {
        Some(serving) => Some(serving.states(forecast.key.as_deref(), forecast.future.len())?),
        None => None,
    };
    let steps = summarise(&forecast.paths, forecast.last_close, level, levels);
    for (step, (start, forecast_step)) in (1i32..).zip(forecast.future.iter().zip(steps)) {
        let calibrated = match (&serving, &states, &forecast_step.spread) {
            (Some(serving), Some(states), Some(spread)) => {
                serving.apply(states, step, [forecast_step.mean[3], spread.lower, spread.upper])
            }
            _ => None,
        };
        rows.push(|row: &mut RowValues<FORECAST_COLUMNS>| {
            row.set(0, forecast.key.as_deref());
            row.set_instant(1, Some(*start));
            row.set(2, step);
            let mean = match &calibrated {
                Some(calibrated) => shifted(calibrated, &forecast_step.mean),
                None => forecast_step.mean,
            };
            set_bar(row, 3, &mean);
            let moved = |value: f64| calibrated.map_or(value, |calibrated| calibrated.moved(value));
            if let Some(spread) = forecast_step.spread {
                row.set(9, calibrated.map_or(spread.lower, |calibrated| calibrated.served[1]));
                row.set(10, calibrated.map_or(spread.upper, |calibrated| calibrated.served[2]));
                if !levels.is_empty() {
                    row.set(11, spread.quantiles.into_iter().map(moved).collect::<Vec<f64>>());
                }
                row.set(
                    12,
                    match calibrated {
                        Some(_) => prob_up(&forecast, step, moved),
                        None => spread.prob_up,
                    },
                );
            }
            row.set_instant(13, Some(forecast.cutoff));
            row.set(14, call.model_version());
            if let (Some(calibrated), Some(serving)) = (&calibrated, &serving) {
                set_calibration(row, 15, calibrated, serving);
            }
        })?;
    }
    Ok(())
}

/// A mean bar whose close is the calibrated one: its prices move together, so that it stays coherent.
fn shifted(calibrated: &Calibrated, mean: &Bar) -> Bar {
    let [open, high, low, close, volume, amount] = *mean;
    let price = |price| calibrated.shifted(price);
    [price(open), price(high), price(low), price(close), volume, amount * calibrated.factor()]
}

/// Share of the paths that close above the last close once each is moved as its distribution is.
fn prob_up(forecast: &Forecast, step: i32, moved: impl Fn(f64) -> f64) -> f64 {
    let paths = &forecast.paths;
    let step = usize::try_from(step - 1).unwrap_or(0);
    let above =
        (0..paths.samples()).filter(|&path| moved(paths.bar(path, step)[3]) > forecast.last_close).count();
    above as f64 / paths.samples() as f64
}

/// The columns from `status` on: what the model itself said, and what changed it.
pub(super) fn set_calibration<const COLUMNS: usize>(
    row: &mut RowValues<COLUMNS>,
    first: usize,
    calibrated: &Calibrated,
    serving: &Serving,
) {
    row.set(first, calibrated.status.map(Status::word));
    for (offset, value) in (first + 1..).zip(calibrated.raw) {
        row.set(offset, value);
    }
    row.set(first + 4, serving.name());
    row.set(first + 5, serving.version());
}

/// One row without numbers: step is NULL, ts is where the series is at fault.
fn push_fault(rows: &mut ResultSet, call: &Call, fault: &Fault) -> Result<()> {
    rows.push(|row: &mut RowValues<FORECAST_COLUMNS>| {
        row.set(0, fault.key.as_deref());
        row.set_instant(1, fault.at);
        row.set_instant(13, fault.cutoff);
        row.set(14, call.model_version());
        row.set(15, fault.status.word());
    })
}

fn push_paths(rows: &mut ResultSet, call: &Call, forecast: &Forecast) -> Result<()> {
    for (number, path) in (1i32..).zip(forecast.paths.bars.chunks(forecast.paths.horizon)) {
        for (step, (start, bar)) in (1i32..).zip(forecast.future.iter().zip(path)) {
            rows.push(|row: &mut RowValues<PATH_COLUMNS>| {
                row.set(0, forecast.key.as_deref());
                row.set(1, number);
                row.set_instant(2, Some(*start));
                row.set(3, step);
                set_bar(row, 4, bar);
                row.set_instant(10, Some(forecast.cutoff));
                row.set(11, call.model_version());
            })?;
        }
    }
    Ok(())
}

fn set_bar<const COLUMNS: usize>(row: &mut RowValues<COLUMNS>, first: usize, bar: &Bar) {
    for (offset, value) in bar.iter().enumerate() {
        row.set(first + offset, *value);
    }
}

/// Paths have no column for a status, so series without paths are named in one warning.
fn warn(faults: &[Fault]) {
    const NAMED: usize = 10;
    if faults.is_empty() {
        return;
    }
    let mut named: Vec<String> = faults
        .iter()
        .take(NAMED)
        .map(|fault| format!("\"{}\" ({})", fault.key.as_deref().unwrap_or(""), fault.status))
        .collect();
    if faults.len() > NAMED {
        named.push(format!("and {} more", faults.len() - NAMED));
    }
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("{} series have no paths", faults.len()),
        format!("Series: {}.", named.join(", "))
    );
}
