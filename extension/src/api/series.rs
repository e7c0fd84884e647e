//! `kronos.chronos_predict()`, `kronos.nbeats_predict()` and the front door `kronos.forecast()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument lists are those of SQL

use super::forecast::{Input as BarInput, serving, set_calibration, utf8};
use crate::calibration::Serving;
use crate::catalog;
use crate::error::{Error, Result};
use crate::forecast::{self, Outcome as BarOutcome, level, quantile_levels};
use crate::json::JsonB;
use crate::options::Source;
use crate::relation::{Fault, Relation};
use crate::result_set::{ResultSet, RowValues};
use crate::series::{Arguments, Call, Door, Forecast, Input, Outcome, SeriesModel, SeriesOptions, Variates};
use kronos_models::baselines::Baseline;
use kronos_models::forecast::summarise;
use kronos_models::quantile::QuantileLevels;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// Columns of `kronos.forecast_point`, in its order.
const COLUMNS: usize = 16;

/// What bars are forecast of under the front door.
const CLOSE: &str = "close";

#[pg_extern(sql = false)]
fn chronos_predict(
    relation: Option<Oid>,
    targets: Option<Vec<Option<CString>>>,
    horizon: Option<i32>,
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
    let asked = Asked {
        relation,
        series_col,
        time_col,
        only_series: whole("a name in only_series", only_series)?,
        horizon,
        as_of,
        until,
        level: level(interval_level)?,
        levels: quantile_levels(levels)?,
        calibration,
        fcinfo,
    };
    asked.columns(SeriesModel::at(Door("chronos_predict"), model)?, variates, options)?;
    Ok(())
}

#[pg_extern(sql = false)]
fn nbeats_predict(
    relation: Option<Oid>,
    targets: Option<Vec<Option<CString>>>,
    horizon: Option<i32>,
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
    let asked = Asked {
        relation,
        series_col,
        time_col,
        only_series: whole("a name in only_series", only_series)?,
        horizon,
        as_of,
        until,
        level: level(interval_level)?,
        levels: quantile_levels(levels)?,
        calibration,
        fcinfo,
    };
    asked.columns(SeriesModel::at(Door("nbeats_predict"), model)?, variates, options)?;
    Ok(())
}

#[pg_extern(sql = false)]
fn forecast(
    model: Option<&str>,
    relation: Option<Oid>,
    targets: Option<Vec<Option<CString>>>,
    horizon: Option<i32>,
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
    let asked = Asked {
        relation,
        series_col,
        time_col,
        only_series: whole("a name in only_series", only_series)?,
        horizon,
        as_of,
        until,
        level: level(interval_level)?,
        levels: quantile_levels(levels)?,
        calibration,
        fcinfo,
    };
    if let Some(baseline) = model.and_then(Baseline::from_name) {
        asked.columns(SeriesModel::Baseline(baseline), variates, options)?;
        return Ok(());
    }
    let entry = catalog::resolve(model)?;
    match SeriesModel::of(entry.clone())? {
        Some(columns) => asked.columns(columns, variates, options)?,
        None => asked.bars(&entry.version, &variates, options)?,
    }
    Ok(())
}

/// What both functions are asked, apart from the model.
struct Asked<'a> {
    relation: Option<Oid>,
    series_col: Option<&'a CStr>,
    time_col: Option<&'a CStr>,
    only_series: Option<Vec<String>>,
    horizon: Option<i32>,
    as_of: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    level: f64,
    levels: QuantileLevels,
    calibration: Option<&'a str>,
    fcinfo: pg_sys::FunctionCallInfo,
}

impl Asked<'_> {
    /// Forecasts columns.
    fn columns(self, model: SeriesModel, variates: Variates, options: Option<JsonB>) -> Result<()> {
        let relation = Relation::open(self.relation)?;
        let call = Call::new(
            model,
            Arguments {
                horizon: self.horizon,
                until: self.until,
                as_of: self.as_of,
                variates,
                level: self.level,
                levels: self.levels.as_slice(),
                options: SeriesOptions::parse(options)?,
            },
        )?;
        let input = Input {
            relation: &relation,
            series_col: self.series_col.map(utf8).transpose()?,
            time_col: self.time_col.map(utf8).transpose()?,
            only_series: self.only_series.as_deref(),
        };
        let mut serving = match self.calibration {
            Some(name) => {
                Some(Serving::open(name, self.level, self.as_of.map(i64::from), call.model_version())?)
            }
            None => None,
        };
        if let Some(serving) = &serving {
            serving.check_targets(call.targets().iter().map(String::as_str))?;
        }
        // SAFETY: the call information of the function that was called.
        let mut rows = unsafe { ResultSet::begin(self.fcinfo)? };
        call.run(&input, |outcome| match outcome {
            Outcome::Forecast(forecast) => push_forecast(&mut rows, &call, &forecast, serving.as_mut()),
            Outcome::Fault(fault) => push_fault(&mut rows, call.model_version(), &fault),
        })
    }

    /// Forecasts the close of bars with a model that draws sample paths.
    fn bars(self, version: &str, variates: &Variates, options: Option<JsonB>) -> Result<()> {
        if variates.names().count() > 1 || variates.targets.first().is_some_and(|target| target != CLOSE) {
            return Err(Error::Unsupported {
                what: format!("forecasting these columns with model \"{version}\""),
                hint: "It forecasts bars: pass targets => '{close}' and no covariates, or use kronos.kronos_predict()."
                    .into(),
            });
        }
        let call = forecast::Call::new(forecast::Arguments {
            horizon: self.horizon,
            until: self.until,
            as_of: self.as_of,
            model: Some(version),
            samples: ("samples", None),
            seed: Some(0),
            options,
            source: Source::Relation,
        })?;
        let mut serving = serving(self.calibration, self.level, self.as_of, &call)?;
        let only_series = self.only_series.map(|names| names.into_iter().map(Some).collect());
        let input = BarInput::new(&call, self.relation, self.series_col, self.time_col, only_series)?;
        // SAFETY: the call information of the function that was called.
        let mut rows = unsafe { ResultSet::begin(self.fcinfo)? };
        let middle = QuantileLevels::new(vec![0.5])?;
        input.run(&call, |outcome| {
            let forecast = match outcome {
                BarOutcome::Paths(forecast) => forecast,
                BarOutcome::Fault(fault) => return push_fault(&mut rows, call.model_version(), &fault),
            };
            let states = match &mut serving {
                Some(serving) => Some(serving.states(forecast.key.as_deref(), forecast.future.len())?),
                None => None,
            };
            let steps = summarise(&forecast.paths, forecast.last_close, self.level, &self.levels);
            let medians = summarise(&forecast.paths, forecast.last_close, self.level, &middle);
            for (number, ((start, step), median)) in
                (1i32..).zip(forecast.future.iter().zip(steps).zip(medians))
            {
                // With one path its close is all there is.
                let median = median.spread.and_then(|spread| spread.quantiles.first().copied());
                let point = median.unwrap_or(step.mean[3]);
                let calibrated = match (&serving, &states, &step.spread) {
                    (Some(serving), Some(states), Some(spread)) => {
                        serving.apply(states, number, [point, spread.lower, spread.upper])
                    }
                    _ => None,
                };
                rows.push(|row: &mut RowValues<COLUMNS>| {
                    row.set(0, forecast.key.as_deref());
                    row.set(1, CLOSE);
                    row.set_instant(2, Some(*start));
                    row.set(3, number);
                    row.set(4, calibrated.map_or(point, |calibrated| calibrated.served[0]));
                    if let Some(spread) = step.spread {
                        let ends = [point, spread.lower, spread.upper];
                        let ends = calibrated.map_or(ends, |calibrated| calibrated.served);
                        row.set(5, ends[1]);
                        row.set(6, ends[2]);
                        if !self.levels.is_empty() {
                            let moved =
                                |value| calibrated.map_or(value, |calibrated| calibrated.moved(value));
                            row.set(7, spread.quantiles.into_iter().map(moved).collect::<Vec<f64>>());
                        }
                    }
                    row.set_instant(8, Some(forecast.cutoff));
                    row.set(9, call.model_version());
                    if let (Some(calibrated), Some(serving)) = (&calibrated, &serving) {
                        set_calibration(row, 10, calibrated, serving);
                    }
                })?;
            }
            Ok(())
        })
    }
}

fn variates(
    targets: Option<Vec<Option<CString>>>,
    past: Option<Vec<Option<CString>>>,
    future: Option<Vec<Option<CString>>>,
) -> Result<Variates> {
    let Some(targets) = columns("a name in targets", targets)? else {
        return Err(Error::NullArgument { name: "targets" });
    };
    Ok(Variates {
        targets,
        past: columns("a name in past_covariates", past)?.unwrap_or_default(),
        future: columns("a name in future_covariates", future)?.unwrap_or_default(),
        statics: Vec::new(),
    })
}

/// Names of columns, none of them NULL.
pub(super) fn columns(
    what: &'static str,
    names: Option<Vec<Option<CString>>>,
) -> Result<Option<Vec<String>>> {
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

fn push_forecast(
    rows: &mut ResultSet,
    call: &Call,
    forecast: &Forecast,
    mut serving: Option<&mut Serving>,
) -> Result<()> {
    let states = match &mut serving {
        Some(serving) => Some(serving.states(forecast.key.as_deref(), forecast.future.len())?),
        None => None,
    };
    for (target, levels) in call.targets().iter().zip(&forecast.quantiles.values) {
        let [lower, point, upper, asked @ ..] = levels.as_slice() else {
            return Err(Error::Internal { what: "a forecast came without its interval".into() });
        };
        let serving = serving.as_deref().filter(|serving| serving.is_for(target));
        for (step, start) in forecast.future.iter().enumerate() {
            let number = i32::try_from(step + 1).unwrap_or(i32::MAX);
            let raw = [point[step], lower[step], upper[step]];
            let calibrated = match (serving, &states) {
                (Some(serving), Some(states)) => serving.apply(states, number, raw),
                _ => None,
            };
            rows.push(|row: &mut RowValues<COLUMNS>| {
                row.set(0, forecast.key.as_deref());
                row.set(1, target.as_str());
                row.set_instant(2, Some(*start));
                row.set(3, number);
                for (offset, value) in (4..).zip(calibrated.map_or(raw, |calibrated| calibrated.served)) {
                    row.set(offset, value);
                }
                if !asked.is_empty() {
                    let moved = |value| calibrated.map_or(value, |calibrated| calibrated.moved(value));
                    row.set(7, asked.iter().map(|values| moved(values[step])).collect::<Vec<f64>>());
                }
                row.set_instant(8, Some(forecast.cutoff));
                row.set(9, call.model_version());
                if let (Some(calibrated), Some(serving)) = (&calibrated, serving) {
                    set_calibration(row, 10, calibrated, serving);
                }
            })?;
        }
    }
    Ok(())
}

/// One row without numbers: target and step are NULL, ts is where the series is at fault.
fn push_fault(rows: &mut ResultSet, model_version: &str, fault: &Fault) -> Result<()> {
    rows.push(|row: &mut RowValues<COLUMNS>| {
        row.set(0, fault.key.as_deref());
        row.set_instant(2, fault.at);
        row.set_instant(8, fault.cutoff);
        row.set(9, model_version);
        row.set(10, fault.status.word());
    })
}
