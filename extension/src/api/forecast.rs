//! The forecast functions: `kronos.kronos_predict()` and its relatives for bars, `chronos_predict()`, `nbeats_predict()` and
//! `forecast()` for columns.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument lists are those of SQL

use crate::call::{
    Arguments, Call, Emitter, Function, Input, Model, Options, Reader, Variates, level, quantile_levels,
};
use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::relation::Relation;
use crate::result_set::ResultSet;
use pgrx::AnyElement;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

#[pg_extern(sql = false)]
fn kronos_predict(
    relation: Option<Oid>,
    horizon: Option<i64>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    only_series: Option<Vec<Option<String>>>,
    as_of: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    interval_level: Option<f64>,
    levels: Option<Vec<Option<f64>>>,
    model: Option<&str>,
    samples: Option<i64>,
    seed: Option<i64>,
    calibration: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (level, levels) = (level(interval_level)?, quantile_levels(levels)?);
    let (levels, variates, samples) = (levels.as_slice(), Variates::bars(), ("samples", samples));
    let options = Options::parse(options, Reader::Bars)?;
    let arguments = Arguments { horizon, until, as_of, variates, level, levels, samples, seed, options };
    let call = Call::new(Model::at(Function::BARS, model)?, arguments)?;
    let serving = call.serving(calibration, as_of)?;
    let input = input(relation, series_col, time_col, only_series)?;
    // SAFETY: the call information of this very function.
    let mut emitter = Emitter::new(&call, unsafe { ResultSet::begin(fcinfo)? }, serving)?;
    call.run(&input, |outcome| emitter.bars(outcome))?;
    Ok(())
}

#[pg_extern(sql = false)]
fn kronos_predict_bars(
    bars: Option<AnyElement>,
    horizon: Option<i64>,
    interval_level: Option<f64>,
    levels: Option<Vec<Option<f64>>>,
    model: Option<&str>,
    samples: Option<i64>,
    seed: Option<i64>,
    calibration: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (level, levels) = (level(interval_level)?, quantile_levels(levels)?);
    let (levels, variates, samples) = (levels.as_slice(), Variates::bars(), ("samples", samples));
    let (until, as_of, options) = (None, None, Options::parse(options, Reader::Array)?);
    let arguments = Arguments { horizon, until, as_of, variates, level, levels, samples, seed, options };
    let call = Call::new(Model::at(Function::BARS, model)?, arguments)?;
    let serving = call.serving(calibration, as_of)?;
    // SAFETY: the call information of this very function.
    let mut emitter = Emitter::new(&call, unsafe { ResultSet::begin(fcinfo)? }, serving)?;
    // SAFETY: the first argument of this very function, and its type.
    unsafe {
        let array_type = pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 0);
        call.run_array(bars.map(|bars| bars.datum()), array_type, |outcome| emitter.bars(outcome))?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn kronos_paths(
    relation: Option<Oid>,
    horizon: Option<i64>,
    paths: Option<i64>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    only_series: Option<Vec<Option<String>>>,
    as_of: Option<TimestampWithTimeZone>,
    model: Option<&str>,
    seed: Option<i64>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (until, level, levels, variates, samples) =
        (None, LEVEL, &[][..], Variates::bars(), ("paths", paths));
    let options = Options::parse(options, Reader::Bars)?;
    let arguments = Arguments { horizon, until, as_of, variates, level, levels, samples, seed, options };
    let call = Call::new(Model::at(Function::BARS, model)?, arguments)?;
    let input = input(relation, series_col, time_col, only_series)?;
    // SAFETY: the call information of this very function.
    let mut emitter = Emitter::new(&call, unsafe { ResultSet::begin(fcinfo)? }, None)?;
    call.run(&input, |outcome| emitter.paths(outcome))?;
    emitter.warn();
    Ok(())
}

/// An interval's level for rows without an interval.
const LEVEL: f64 = 0.9;

/// A function that forecasts columns with the models that name it as theirs.
macro_rules! forecasts_columns {
    ($function:ident) => {
        #[pg_extern(sql = false)]
        fn $function(
            relation: Option<Oid>,
            targets: Option<Vec<Option<CString>>>,
            horizon: Option<i64>,
            series_col: Option<&CStr>,
            time_col: Option<&CStr>,
            only_series: Option<Vec<Option<String>>>,
            past_covariates: Option<Vec<Option<CString>>>,
            future_covariates: Option<Vec<Option<CString>>>,
            as_of: Option<TimestampWithTimeZone>,
            until: Option<TimestampWithTimeZone>,
            interval_level: Option<f64>,
            levels: Option<Vec<Option<f64>>>,
            model: Option<&str>,
            calibration: Option<&str>,
            options: Option<JsonB>,
            fcinfo: pg_sys::FunctionCallInfo,
        ) -> Result<(), ErrorReport> {
            let variates = variates(targets, past_covariates, future_covariates)?;
            let (level, levels) = (level(interval_level)?, quantile_levels(levels)?);
            let (levels, options) = (levels.as_slice(), Options::parse(options, Reader::Columns)?);
            let (samples, seed) = (("option \"samples\"", options.samples), Some(options.seed.unwrap_or(0)));
            let arguments =
                Arguments { horizon, until, as_of, variates, level, levels, samples, seed, options };
            let call = Call::new(Model::at(Function(stringify!($function)), model)?, arguments)?;
            let input = input(relation, series_col, time_col, only_series)?;
            let serving = call.serving(calibration, as_of)?;
            // SAFETY: the call information of this very function.
            let mut emitter = Emitter::new(&call, unsafe { ResultSet::begin(fcinfo)? }, serving)?;
            call.run(&input, |outcome| emitter.points(outcome))?;
            Ok(())
        }
    };
}

forecasts_columns!(chronos_predict);
forecasts_columns!(nbeats_predict);

#[pg_extern(sql = false)]
fn forecast(
    model: Option<&str>,
    relation: Option<Oid>,
    targets: Option<Vec<Option<CString>>>,
    horizon: Option<i64>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    only_series: Option<Vec<Option<String>>>,
    past_covariates: Option<Vec<Option<CString>>>,
    future_covariates: Option<Vec<Option<CString>>>,
    as_of: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    interval_level: Option<f64>,
    levels: Option<Vec<Option<f64>>>,
    calibration: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let variates = variates(targets, past_covariates, future_covariates)?;
    let (level, levels) = (level(interval_level)?, quantile_levels(levels)?);
    let (levels, options) = (levels.as_slice(), Options::parse(options, Reader::Columns)?);
    let (samples, seed) = (("option \"samples\"", options.samples), Some(options.seed.unwrap_or(0)));
    let model = Model::any(model)?;
    let variates = model.variates(variates)?;
    let arguments = Arguments { horizon, until, as_of, variates, level, levels, samples, seed, options };
    let call = Call::new(model, arguments)?;
    let input = input(relation, series_col, time_col, only_series)?;
    let serving = call.serving(calibration, as_of)?;
    // SAFETY: the call information of this very function.
    let mut emitter = Emitter::new(&call, unsafe { ResultSet::begin(fcinfo)? }, serving)?;
    call.run(&input, |outcome| emitter.points(outcome))?;
    Ok(())
}

/// The relation, and which of its series are asked for.
pub(super) fn input<'a>(
    relation: Option<Oid>,
    series_col: Option<&'a CStr>,
    time_col: Option<&'a CStr>,
    only_series: Option<Vec<Option<String>>>,
) -> Result<Input<'a>> {
    Ok(Input {
        relation: Relation::open(relation)?,
        series_col: series_col.map(utf8).transpose()?,
        time_col: time_col.map(utf8).transpose()?,
        only_series: whole("a name in only_series", only_series)?,
    })
}

/// The columns that a call names.
pub(super) fn variates(
    targets: Option<Vec<Option<CString>>>,
    past: Option<Vec<Option<CString>>>,
    future: Option<Vec<Option<CString>>>,
) -> Result<Variates> {
    let targets = columns("a name in targets", targets)?.ok_or(Error::NullArgument { name: "targets" })?;
    Ok(Variates {
        past: columns("a name in past_covariates", past)?.unwrap_or_default(),
        future: columns("a name in future_covariates", future)?.unwrap_or_default(),
        ..Variates::of(targets)?
    })
}

/// Names of columns, none of them NULL.
fn columns(what: &'static str, names: Option<Vec<Option<CString>>>) -> Result<Option<Vec<String>>> {
    let name = |name: &CString| utf8(name).map(str::to_owned);
    match whole(what, names)? {
        Some(names) => names.iter().map(name).collect::<Result<_>>().map(Some),
        None => Ok(None),
    }
}

/// A list without NULLs.
pub(super) fn whole<T>(what: &'static str, list: Option<Vec<Option<T>>>) -> Result<Option<Vec<T>>> {
    list.map(|list| list.into_iter().collect::<Option<_>>().ok_or(Error::NullArgument { name: what }))
        .transpose()
}

/// A name of a column.
pub(super) fn utf8(name: &CStr) -> Result<&str> {
    name.to_str().map_err(|_| Error::Internal { what: "a column name is not valid UTF-8".into() })
}
