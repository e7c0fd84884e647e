//! `kronos.backtest()` and `kronos.evaluate()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument list is that of SQL

use super::forecast::{input, variates, whole};
use crate::backtest::{Arguments, Backtest, Point, Summary};
use crate::call::level;
use crate::error::{Error, Result};
use crate::evaluate::evaluate as score;
use crate::json::JsonB;
use crate::relation::Relation;
use crate::result_set::{ResultSet, RowValues};
use kronos_models::status::Status;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// Columns of `kronos.backtest_point`, in its order.
const COLUMNS: usize = 22;

#[pg_extern(sql = false)]
fn backtest(
    model: Option<&str>,
    relation: Option<Oid>,
    horizon: Option<i64>,
    targets: Option<Vec<Option<CString>>>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    num_windows: Option<i64>,
    window_step: Option<i64>,
    initial_cutoff: Option<TimestampWithTimeZone>,
    embargo: Option<i64>,
    baselines: Option<Vec<Option<String>>>,
    interval_level: Option<f64>,
    only_series: Option<Vec<Option<String>>>,
    as_of: Option<TimestampWithTimeZone>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let input = input(relation, series_col, time_col, only_series)?;
    let backtest = Backtest::new(Arguments {
        model,
        horizon,
        variates: variates(targets, None, None)?,
        num_windows,
        window_step,
        initial_cutoff: initial_cutoff.map(i64::from),
        embargo: embargo.ok_or(Error::NullArgument { name: "embargo" })?,
        baselines: whole("a name in baselines", baselines)?.unwrap_or_default(),
        level: level(interval_level)?,
        as_of: as_of.map(i64::from),
        options,
    })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    let summary = backtest.run(&input, |point| push(&mut rows, &backtest, &point))?;
    tell(&backtest, &summary);
    Ok(())
}

fn push(rows: &mut ResultSet, backtest: &Backtest, point: &Point) -> Result<()> {
    rows.push(|row: &mut RowValues<COLUMNS>| {
        row.set(0, point.series.as_deref());
        row.set(1, point.target.as_deref());
        row.set(2, &*point.model_version);
        row.set(3, point.origin.map(|origin| origin.id));
        row.set_instant(4, point.cutoff);
        row.set_instant(5, point.ts);
        row.set(6, point.step);
        row.set(7, point.actual);
        row.set(8, point.forecast);
        row.set(9, point.interval.map(|(lower, _)| lower));
        row.set(10, point.interval.map(|(_, upper)| upper));
        if !point.quantiles.is_empty() {
            row.set(11, point.quantiles.clone());
            row.set(16, backtest.quantile_levels().to_vec());
        }
        row.set(12, point.contaminated);
        row.set(13, point.status.map(Status::word));
        row.set_instant(14, point.origin.map(|origin| origin.as_of));
        row.set(15, point.interval.map(|_| backtest.level()));
        row.set(17, point.last_value);
        row.set(18, point.scale);
        row.set(19, point.crps);
        row.set(20, point.pit);
        row.set(21, point.prob_up);
    })
}

/// What must not be overlooked when the scores are read.
fn tell(backtest: &Backtest, summary: &Summary) {
    let version = backtest.model_version();
    match backtest.train_cutoff() {
        Some(cutoff) if summary.contaminated > 0 => ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "{} of {} windows of model \"{version}\" are contaminated",
                summary.contaminated, summary.windows
            ),
            format!(
                "It was trained on data up to {cutoff}, and what is scored in these windows begins by then."
            )
        ),
        None if backtest.is_trained() && summary.windows > 0 => pgrx::notice!(
            "the training cutoff of model \"{version}\" is not registered, so nobody knows which windows are contaminated"
        ),
        _ => {}
    }
}

/// Columns of `kronos.score`, in its order.
const SCORE_COLUMNS: usize = 17;

#[pg_extern(sql = false)]
fn evaluate(
    relation: Option<Oid>,
    actuals: Option<Oid>,
    by: Option<Vec<Option<String>>>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let relation = match relation {
        Some(oid) => Some(oid),
        None => Some(Relation::named("kronos.forecasts")?.oid()),
    };
    let by = whole("a name in by", by)?.unwrap_or_default();
    let scores = score(crate::evaluate::Arguments { relation, actuals, by, options })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    for score in scores {
        rows.push(|row: &mut RowValues<SCORE_COLUMNS>| {
            row.set(0, score.series);
            row.set(1, score.target);
            row.set(2, score.step);
            row.set(3, score.model_version);
            row.set(4, i64::try_from(score.n).unwrap_or(i64::MAX));
            let figures = [
                score.mae,
                score.rmse,
                score.mase,
                score.wql,
                score.crps,
                score.coverage,
                score.mean_width,
                score.winkler,
                score.dir_acc,
                score.rank_ic,
                score.skill_vs_naive,
            ];
            for (place, figure) in figures.into_iter().enumerate() {
                row.set(5 + place, figure);
            }
            row.set(16, JsonB(serde_json::Value::Object(score.extra)));
        })?;
    }
    Ok(())
}
