//! `kronos.detect_anomalies()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument list is that of SQL

use super::forecast::input;
use crate::backtest::{Arguments, Backtest, Point};
use crate::call::{Variates, level, positive};
use crate::error::{Error, Result};
use crate::evaluate::{Anomaly, Outcomes, measured};
use crate::json::JsonB;
use crate::result_set::{ResultSet, RowValues};
use kronos_models::status::Status;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;

/// Columns of `kronos.anomaly`, in its order.
const COLUMNS: usize = 18;

/// Level of the intervals of forecasts made for the call.
const LEVEL: f64 = 0.95;

#[pg_extern(sql = false)]
fn detect_anomalies(
    relation: Option<Oid>,
    model: Option<&str>,
    target: Option<&str>,
    step: Option<i64>,
    interval_level: Option<f64>,
    num_windows: Option<i64>,
    since: Option<TimestampWithTimeZone>,
    only_series: Option<Vec<Option<String>>>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    as_of: Option<TimestampWithTimeZone>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let step = step.ok_or(Error::NullArgument { name: "step" })?;
    positive("step", step)?;
    let asked = interval_level.map(|value| level(Some(value))).transpose()?;
    let (since, as_of) = (since.map(i64::from), as_of.map(i64::from));
    let input = input(relation, series_col, time_col, only_series)?;
    let target = target.map(str::to_owned);
    let Some(model) = model else {
        let outcomes = Outcomes { input, target, step, level: asked, since, as_of, options };
        // SAFETY: the call information of this very function.
        let mut rows = unsafe { ResultSet::begin(fcinfo)? };
        outcomes.run(|anomaly| push(&mut rows, anomaly))?;
        return Ok(());
    };
    let backtest = Backtest::new(Arguments {
        model: Some(model),
        horizon: Some(1),
        variates: Variates::of(vec![target.unwrap_or_else(|| "close".to_owned())])?,
        num_windows,
        window_step: Some(1),
        initial_cutoff: None,
        embargo: step - 1,
        baselines: Vec::new(),
        level: asked.unwrap_or(LEVEL),
        as_of,
        options,
    })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    backtest.run(&input, |point| match (point.status, point.ts) {
        (None, Some(ts)) if since.is_some_and(|since| ts < since) => Ok(()),
        (None, _) if point.actual.is_none() => Ok(()),
        _ => push(&mut rows, measured(made(point, backtest.level()))),
    })?;
    Ok(())
}

/// A forecast made for the call beside what came.
fn made(point: Point, level: f64) -> Anomaly {
    Anomaly {
        series: point.series.as_deref().unwrap_or_default().to_owned(),
        target: point.target.as_deref().map(str::to_owned),
        ts: point.ts,
        actual: point.actual,
        forecast: point.forecast,
        interval: point.interval.map(|(lower, upper)| (lower, upper, level)),
        model_version: point.model_version.to_string(),
        cutoff: point.cutoff,
        step: point.step,
        contaminated: point.contaminated,
        status: point.status.map(Status::word),
        ..Anomaly::default()
    }
}

fn push(rows: &mut ResultSet, anomaly: Anomaly) -> Result<()> {
    rows.push(|row: &mut RowValues<COLUMNS>| {
        row.set(0, anomaly.series);
        row.set(1, anomaly.target);
        row.set_instant(2, anomaly.ts);
        row.set(3, anomaly.actual);
        row.set(4, anomaly.forecast);
        row.set(5, anomaly.interval.map(|(lower, ..)| lower));
        row.set(6, anomaly.interval.map(|(_, upper, _)| upper));
        row.set(7, anomaly.interval.map(|(.., level)| level));
        row.set(8, anomaly.is_anomaly);
        row.set(9, anomaly.score);
        row.set(10, anomaly.probability);
        row.set(11, anomaly.model_version);
        row.set(12, anomaly.calibration);
        row.set_instant(13, anomaly.cutoff);
        row.set(14, anomaly.step);
        row.set_instant(15, anomaly.issued_at);
        row.set(16, anomaly.contaminated);
        row.set(17, anomaly.status);
    })
}
