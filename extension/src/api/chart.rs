//! `kronos.chart()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument list is that of SQL

use super::forecast::utf8;
use crate::chart::{self, Arguments};
use crate::json::JsonB;
use pgrx::AnyArray;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::Oid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::ffi::CStr;

#[pg_extern(sql = false)]
fn chart(
    relation: Option<Oid>,
    series: Option<&str>,
    forecast: Option<AnyArray>,
    history: Option<i32>,
    target: Option<&str>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    as_of: Option<TimestampWithTimeZone>,
    model: Option<&str>,
    level: Option<f64>,
    quantile_levels: Option<Vec<Option<f64>>>,
    format: Option<&str>,
    options: Option<JsonB>,
) -> Result<String, ErrorReport> {
    let (series_col, time_col) = (series_col.map(utf8).transpose()?, time_col.map(utf8).transpose()?);
    let rows = forecast;
    Ok(chart::chart(Arguments {
        relation,
        series,
        rows,
        history,
        target,
        series_col,
        time_col,
        as_of,
        model,
        level,
        quantile_levels,
        format,
        options,
    })?)
}
