//! `kronos.create_calibration()`, `calibrate()` and what locks a calibration.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument list is that of SQL

use super::forecast::utf8;
use crate::calibration::{self, New};
use crate::call::level;
use crate::error::Error;
use crate::json::JsonB;
use crate::result_set::{ResultSet, RowValues};
use kronos_models::status::Status;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;

/// Columns of `kronos.calibration_row`, in its order.
const COLUMNS: usize = 13;

#[pg_extern(sql = false)]
fn create_calibration(
    name: Option<&str>,
    actuals: Option<Oid>,
    target: Option<&CStr>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    model: Option<&str>,
    interval_level: Option<f64>,
    method: Option<&str>,
    per: Option<Vec<Option<String>>>,
    options: Option<JsonB>,
    if_not_exists: Option<bool>,
) -> Result<(), ErrorReport> {
    let given = |name| Error::NullArgument { name };
    let per: Option<Vec<String>> = per.ok_or(given("per"))?.into_iter().collect();
    calibration::create(New {
        name: name.ok_or(given("name"))?,
        actuals: Some(actuals.ok_or(given("actuals"))?),
        target: utf8(target.ok_or(given("target"))?)?,
        series_col: series_col.map(utf8).transpose()?,
        time_col: time_col.map(utf8).transpose()?,
        model,
        level: level(interval_level)?,
        method: method.ok_or(given("method"))?,
        per: per.ok_or(given("a name in per"))?,
        options,
        if_not_exists: if_not_exists.unwrap_or(false),
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn require_calibration(name: Option<&str>) -> Result<(), ErrorReport> {
    calibration::lock(name.ok_or(Error::NullArgument { name: "name" })?)?;
    Ok(())
}

#[pg_extern(sql = false)]
fn calibrate(
    name: Option<&str>,
    through: Option<TimestampWithTimeZone>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let name = name.ok_or(Error::NullArgument { name: "name" })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    calibration::calibrate(name, through.map(i64::from), |definition, changed| {
        let described = changed.described;
        rows.push(|row: &mut RowValues<COLUMNS>| {
            row.set(0, changed.series);
            row.set(1, changed.step);
            row.set(2, definition.options.settings.level);
            row.set(3, changed.seen.0);
            row.set(4, changed.seen.1);
            row.set(5, described.coverage);
            row.set(6, definition.options.settings.level);
            row.set(7, described.radii.0);
            row.set(8, described.radii.1);
            row.set(9, described.mean_width);
            row.set(10, described.drift());
            row.set_instant(11, Some(changed.known));
            row.set(12, described.status.map(Status::word));
        })
    })?;
    Ok(())
}
